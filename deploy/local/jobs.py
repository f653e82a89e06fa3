"""The jobs of a Flink cluster, through its REST interface."""

from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from deploy.local.processes import EngineError, wait_for


class Jobs:
    """The jobs of a cluster.

    Args:
        address: The address of the JobManager's REST interface.
    """

    def __init__(self, address: str):
        self._address = address
        # The interface answers with an error while a job starts or restarts.
        retries = Retry(total=8, connect=0, backoff_factor=0.1, status_forcelist=[500, 503])
        self._session = requests.Session()
        self._session.mount("http://", HTTPAdapter(max_retries=retries))

    def get(self, path: str) -> Any:
        """Return the answer of the REST interface."""
        return self._ask("get", path)

    def find(self, name: str) -> str | None:
        """Return the id of a job that has not ended."""
        for job in self.get("/jobs/overview")["jobs"]:
            if job["name"].startswith(name) and job["state"] not in {
                "FINISHED",
                "FAILED",
                "CANCELED",
            }:
                return str(job["jid"])
        return None

    def state(self, job: str) -> str:
        """Return the state of a job: RUNNING, FINISHED, FAILED, CANCELED, ..."""
        return str(self.get(f"/jobs/{job}")["state"])

    def checkpoints(self, job: str) -> dict[str, int]:
        """Return the number of completed, failed, restored, ... checkpoints."""
        return dict(self.get(f"/jobs/{job}/checkpoints")["counts"])

    def errors(self, job: str) -> list[str]:
        """Return the errors that made the job fail or restart, newest first."""
        history = self.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        return [str(entry["stacktrace"]) for entry in history]

    def save(self, job: str) -> str:
        """End a job with a savepoint, and return the path of the savepoint.

        Flink's `stop` is not used: Beam's native reads would advance the watermark to the end of
        time before the savepoint, which ends every sequence.
        """
        asked = self._ask("post", f"/jobs/{job}/savepoints", json={"cancel-job": True})
        done = wait_for("savepoint", lambda: self._savepoint(job, asked["request-id"]))
        if "location" not in done:
            raise EngineError(f"no savepoint: {done}")
        wait_for("end of the job", lambda: self.state(job) == "CANCELED")
        return str(done["location"])

    def cancel(self, job: str) -> None:
        """Cancel a job; `cancel()` of the pipeline's result does not reach the cluster."""
        self._ask("patch", f"/jobs/{job}?mode=cancel")
        wait_for("end of the job", lambda: self.state(job) in {"CANCELED", "FINISHED", "FAILED"})

    def _savepoint(self, job: str, asked: str) -> Any:
        answer = self.get(f"/jobs/{job}/savepoints/{asked}")
        return answer["operation"] if answer["status"]["id"] == "COMPLETED" else None

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._session.request(method, f"http://{self._address}{path}", timeout=30, **more)
        answer.raise_for_status()
        return answer.json()
