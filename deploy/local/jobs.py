"""The jobs of a Flink cluster, by its REST interface."""

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from deploy.local.processes import EngineError, wait_for


class Jobs:
    """What runs on a cluster.

    Args:
        address: Of the JobManager's REST interface.
    """

    def __init__(self, address: str):
        self._address = address
        # A job that is being set up, or that starts again, is answered for by an error.
        retries = Retry(total=8, connect=0, backoff_factor=0.1, status_forcelist=[500, 503])
        self._session = requests.Session()
        self._session.mount("http://", HTTPAdapter(max_retries=retries))

    def get(self, path: str) -> Any:
        """What the REST interface says."""
        return self._ask("get", path)

    def find(self, name: str) -> str | None:
        """The id of a job that has not ended."""
        for job in self.get("/jobs/overview")["jobs"]:
            if job["name"].startswith(name) and job["state"] not in {
                "FINISHED",
                "FAILED",
                "CANCELED",
            }:
                return str(job["jid"])
        return None

    def state(self, job: str) -> str:
        """RUNNING, FINISHED, FAILED, CANCELED, ..."""
        return str(self.get(f"/jobs/{job}")["state"])

    def checkpoints(self, job: str) -> dict[str, int]:
        """How many were completed, failed, restored, ..."""
        return dict(self.get(f"/jobs/{job}/checkpoints")["counts"])

    def errors(self, job: str) -> list[str]:
        """What has made the job fail or restart, the last first."""
        history = self.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        return [str(entry["stacktrace"]) for entry in history]

    def save(self, job: str) -> str:
        """End a job with a savepoint, and give that savepoint's path.

        Not by Flink's `stop`: Beam's native reads then say that time is at its end, before the
        savepoint is taken, and every sequence ends.
        """
        asked = self._ask("post", f"/jobs/{job}/savepoints", json={"cancel-job": True})
        done = wait_for("savepoint", lambda: self._savepoint(job, asked["request-id"]))
        if "location" not in done:
            raise EngineError(f"no savepoint: {done}")
        wait_for("end of the job", lambda: self.state(job) == "CANCELED")
        return str(done["location"])

    def cancel(self, job: str) -> None:
        """End a job; `cancel()` of the pipeline's result does not reach the cluster."""
        self._ask("patch", f"/jobs/{job}?mode=cancel")
        wait_for("end of the job", lambda: self.state(job) in {"CANCELED", "FINISHED", "FAILED"})

    def _savepoint(self, job: str, asked: str) -> Any:
        answer = self.get(f"/jobs/{job}/savepoints/{asked}")
        return answer["operation"] if answer["status"]["id"] == "COMPLETED" else None

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._session.request(method, f"http://{self._address}{path}", timeout=30, **more)
        answer.raise_for_status()
        return answer.json()
