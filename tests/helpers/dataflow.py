"""The jobs that pipelines would submit to Dataflow, without an account and a network."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2

TOPICS = [
    "--input=pubsub://projects/my-project/subscriptions/readings",
    "--output=pubsub://projects/my-project/topics/forecasts",
    "--rejected=pubsub://projects/my-project/topics/rejected",
]
"""What `pipelines.live` is told of Pub/Sub."""


class Job(NamedTuple):
    """The job as submitted to the service.

    Attributes:
        description: The job: its type, flags, workers and their packages.
        pipeline: The graph, as Beam's proto.
    """

    description: Mapping[str, Any]
    pipeline: Any

    @property
    def options(self) -> Mapping[str, Any]:
        """Return the options of the workers."""
        return self.description["environment"]["sdkPipelineOptions"]["options"]

    @property
    def workers(self) -> Mapping[str, Any]:
        (pool,) = self.description["environment"]["workerPools"]
        return pool

    @property
    def packages(self) -> set[str]:
        """Return the names of the staged files."""
        return {package["name"] for package in self.workers["packages"]}

    def coder(self, name: str) -> list[Any]:
        """A coder's URN, and those of what it is made of."""
        coder = self.pipeline.components.coders[name]
        return [coder.spec.urn, *map(self.coder, coder.component_coder_ids)]

    def steps(self) -> dict[str, Any]:
        """Label -> the step, for all that do something themselves."""
        return {
            step.unique_name: step
            for step in self.pipeline.components.transforms.values()
            if not step.subtransforms
        }

    def stateful(self) -> dict[str, Any]:
        """Label -> state cells and timers with their kinds and coders, and the coder of the key."""
        found = {}
        for label, step in self.steps().items():
            if step.spec.urn != "beam:transform:pardo:v1":
                continue
            payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
            if payload.state_specs or payload.timer_family_specs:
                (main,) = step.inputs.keys() - payload.side_inputs.keys()
                collection = self.pipeline.components.pcollections[step.inputs[main]]
                found[label] = {
                    "state": {n: self._cell(s) for n, s in sorted(payload.state_specs.items())},
                    "timers": {
                        name: [spec.time_domain, self.coder(spec.timer_family_coder_id)]
                        for name, spec in sorted(payload.timer_family_specs.items())
                    },
                    "input": self.coder(collection.coder_id),
                }
        return found

    def _cell(self, spec: Any) -> list[Any]:
        kind = spec.WhichOneof("spec")
        detail = getattr(spec, kind)
        coder = detail.element_coder_id if kind == "bag_spec" else detail.coder_id
        return [kind, self.coder(coder)]


def flags(folder: Path, port: int | None = None) -> list[str]:
    """Have the runner write the job into a folder, or send it to a port of this machine.

    For an endpoint here nothing is asked of Google: no credentials, no buckets.
    """
    return [
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=us-central1",
        "--job_name=forecasts",
        "--no_auth",
        f"--dataflow_endpoint=http://localhost:{port or 1}",
        "--temp_location=/dev/null",
        f"--staging_location={folder}",
        *([] if port else [f"--template_location={folder / 'job.json'}"]),
    ]


def written(folder: Path) -> Job:
    """The job that was written into a folder."""
    return Job(
        json.loads((folder / "job.json").read_text()),
        beam_runner_api_pb2.Pipeline.FromString((folder / "pipeline.pb").read_bytes()),
    )


def translated(build: Callable[[beam.Pipeline], Any], folder: Path, *more: str) -> Job:
    """The job of a pipeline."""
    pipeline = beam.Pipeline(options=PipelineOptions([*flags(folder), *more]))
    build(pipeline)
    pipeline.run()
    return written(folder)


class Service(NamedTuple):
    """A fake service, which accepts every job and reports it as running.

    Attributes:
        port: Where it listens.
        jobs: What it was given.
        asked: Set when somebody asks how a job is.
    """

    port: int
    jobs: list[Mapping[str, Any]]
    asked: threading.Event


@contextlib.contextmanager
def service() -> Iterator[Service]:
    """One on this machine."""
    jobs: list[Mapping[str, Any]] = []
    asked = threading.Event()
    runs = {"id": "job-1", "name": "forecasts", "currentState": "JOB_STATE_RUNNING"}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            jobs.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._say(runs)

        def do_GET(self):
            path = self.path.partition("?")[0]
            if path.endswith("/jobs"):
                self._say({"jobs": [runs]})
            elif path.endswith("/messages"):
                self._say({})
                asked.set()
            else:
                self._say(runs)

        def _say(self, what):
            data = json.dumps(what).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            """Nothing."""

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Service(server.server_port, jobs, asked)
    finally:
        server.shutdown()
        server.server_close()
