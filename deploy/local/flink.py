"""A Flink cluster on this machine, and Beam's job server; each is a process.

    python -m deploy.local.flink FOLDER

starts them and prints the flags that a pipeline needs. Ctrl-C stops them.
"""

import argparse
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from deploy.local import worker
from deploy.local.jars import (
    FLINK,
    FLINK_VERSION,
    JOB_SERVER,
    OPEN_PACKAGES,
    QUICK_START,
    check_fetched,
    java,
)
from deploy.local.jobs import Jobs
from deploy.local.processes import (
    Process,
    Started,
    alone_in,
    check_free,
    free_port,
    listens,
    port,
    until_stopped,
    wait_for,
    watch,
)

SETTINGS: Mapping[str, Any] = {
    # Flink's start scripts would derive these from a total.
    "taskmanager.cpu.cores": 2.0,
    "taskmanager.memory.task.heap.size": "512m",
    "taskmanager.memory.task.off-heap.size": "256m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.managed.size": "256m",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
    "taskmanager.numberOfTaskSlots": 2,
    "taskmanager.network.sort-shuffle.min-buffers": 8,  # training rounds have many shuffles at once
    "cluster.evenly-spread-out-slots": True,  # otherwise one TaskManager provides both slots
    "state.backend.type": "rocksdb",
    "state.backend.incremental": True,
    "state.checkpoints.num-retained": 3,
    "blob.service.cleanup.interval": 120,  # seconds: each job uploads a jar of 200 MB
    "restart-strategy.type": "fixed-delay",
    # Enough attempts to recover from crashes; an error of the pipeline recurs and ends the job.
    "restart-strategy.fixed-delay.attempts": 60,
    "restart-strategy.fixed-delay.delay": "500 ms",
    # Detect a dead process within seconds, not a minute.
    "heartbeat.interval": 1000,
    "heartbeat.timeout": 6000,
    "cluster.registration.initial-timeout": 100,
    "cluster.registration.error-delay": 500,
    "slot.request.timeout": 120_000,
    "classloader.check-leaked-classloader": False,
}
STREAMING = [
    "--streaming",
    "--experiments=use_deprecated_read",
    "--max_parallelism=32",
    "--checkpointing_interval=1000",
    "--externalized_checkpoints_enabled",
    "--finish_bundle_before_checkpointing",
    "--max_bundle_size=200",
    "--max_bundle_time_mills=100",
]
"""Additional flags of a stream from Kafka; docs/engines.md explains them."""
LOG = """\
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = File
appender.file.name = File
appender.file.type = FILE
appender.file.fileName = ${sys:log.file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1} - %m%n
"""


class Flink(Started):
    """A cluster; use it in a `with` block, or `start` and `stop` it.

    Args:
        folder: The folder for settings, logs, checkpoints and savepoints.
        taskmanagers: The number of TaskManagers.
        settings: Settings of Flink that extend or override `SETTINGS`.
        rest: The port of the REST interface and the web page; by default a free one.
        job: The port of the job server; by default a free one.
    """

    def __init__(
        self,
        folder: Path,
        taskmanagers: int = 2,
        settings: Mapping[str, Any] | None = None,
        rest: int | None = None,
        job: int | None = None,
    ):
        self.folder = folder
        self._rest = rest or free_port()
        self._settings = {**SETTINGS, **(settings or {})}
        self.jobs = Jobs(self.address)
        self._jobmanager: Process | None = None
        self._job_server: Process | None = None
        self._job_port = job or free_port()
        self._taskmanagers: list[Process | None] = [None] * taskmanagers
        self._killed: list[Process] = []  # their workers may still run

    @property
    def slots(self) -> int:
        """The number of slots of all TaskManagers."""
        return len(self._taskmanagers) * int(self._settings["taskmanager.numberOfTaskSlots"])

    @property
    def address(self) -> str:
        """The address for --flink_master."""
        return f"127.0.0.1:{self._rest}"

    @property
    def processes(self) -> list[Process]:
        """The processes that should be running."""
        found = (self._jobmanager, self._job_server, *self._taskmanagers)
        return [process for process in found if process is not None]

    def start(self) -> None:
        """Start all processes, and wait until they have found each other.

        Raises:
            EngineError: A port is in use, a jar is missing, or a process ended.
        """
        for jars in (FLINK, JOB_SERVER):
            check_fetched(jars)
        check_free(self._rest, "--rest")
        check_free(self._job_port, "--job")
        for name in ("conf", "log", "work", "checkpoints", "savepoints"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        own = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.rpc.port": free_port(),
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self._rest,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "state.checkpoints.dir": f"file://{self.folder}/checkpoints",
            "state.savepoints.dir": f"file://{self.folder}/savepoints",
            "io.tmp.dirs": f"{self.folder}/work",
        }
        settings = {**own, **self._settings}
        lines = [f"{name}: {_yaml(value)}\n" for name, value in settings.items()]
        (self.folder / "conf" / "flink-conf.yaml").write_text("".join(lines))
        (self.folder / "conf" / "log4j.properties").write_text(LOG)
        self._jobmanager = self._process(
            "jobmanager",
            "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
            "--executionMode",
            "cluster",
        )
        for number in range(len(self._taskmanagers)):
            self.start_taskmanager(number)
        self._job_server = self._start_job_server()
        self.wait_for_slots()
        wait_for("job server", lambda: listens(self._job_port), 60, self._job_server)

    def start_taskmanager(self, number: int) -> None:
        """Start a TaskManager, also to replace a killed one."""
        name = f"taskmanager-{number}"
        self._taskmanagers[number] = self._process(
            name,
            "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
            "-D",
            f"taskmanager.resource-id={name}-{time.time_ns()}",
        )

    def kill_taskmanager(self, number: int) -> None:
        """Kill a TaskManager with SIGKILL."""
        process = self._taskmanagers[number]
        assert process is not None, f"there is no TaskManager {number}"
        process.kill()
        self._killed.append(process)
        self._taskmanagers[number] = None

    def wait_for_slots(self) -> None:
        """Wait until all TaskManagers have registered with the JobManager."""
        wait_for("all slots", self._has_slots, 60, self._jobmanager)

    def stop(self) -> None:
        """Stop all processes and the workers that they started."""
        for process in (self._job_server, *self._killed, *self._taskmanagers, self._jobmanager):
            if process is not None:
                process.stop()

    def memory(self) -> list[int]:
        """Return the resident bytes of each TaskManager with its workers."""
        return [0 if process is None else process.memory for process in self._taskmanagers]

    def flags(self, *, loopback: bool = False) -> list[str]:
        """Return the flags of a pipeline that runs on this cluster.

        Args:
            loopback: True if the workers are threads of the submitting process, not processes of
                this Python environment.
        """
        if loopback:
            workers = ["--environment_type=LOOPBACK"]
        else:
            command = worker.command(self.folder, "python")
            workers = ["--environment_type=PROCESS", f"--environment_config={command}"]
        return [
            "--runner=FlinkRunner",
            f"--job_endpoint=127.0.0.1:{self._job_port}",
            f"--flink_version={FLINK_VERSION}",
            f"--flink_master={self.address}",
            *workers,
        ]

    def _has_slots(self) -> bool:
        try:
            return bool(self.jobs.get("/overview")["slots-total"] == self.slots)
        except requests.RequestException:
            return False

    def _start_job_server(self) -> Process:
        """Start the job server; without it each pipeline would start its own."""
        command = java(
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            str(JOB_SERVER),
            f"--flink-master={self.address}",
            *("--artifacts-dir", f"{self.folder}/artifacts"),  # separate: a path may contain spaces
            f"--job-port={self._job_port}",
            "--artifact-port=0",
            "--expansion-port=-1",  # none: `deploy.local.kafka` starts one
            heap=768,
            options=QUICK_START,
        )
        return Process("the job server", command, self.folder / "log" / "job-server.log")

    def _process(self, name: str, main: str, *arguments: str) -> Process:
        conf, log = self.folder / "conf", self.folder / "log"
        options = [
            *OPEN_PACKAGES,
            "-XX:MaxDirectMemorySize=512m",
            f"-Dlog.file={log / name}.log",
            f"-Dlog4j.configurationFile={(conf / 'log4j.properties').as_uri()}",
        ]
        arguments = ("--configDir", str(conf), *arguments)
        command = java(main, f"{FLINK}/*", *arguments, heap=768, options=options)
        return Process(name, command, log / f"{name}.out")


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder for settings, logs and checkpoints")
    parser.add_argument(
        "--rest", type=port, default=8081, help="the port of the web page; default: 8081"
    )
    parser.add_argument(
        "--job", type=port, default=8099, help="the port of the job server; default: 8099"
    )
    return parser


def main() -> None:
    """Run until Ctrl-C."""
    args = parser().parse_args()
    with (
        until_stopped(),
        alone_in(args.folder.absolute()) as folder,
        Flink(folder, rest=args.rest, job=args.job) as flink,
    ):
        print(f"Flink runs at http://{flink.address}. Flags of a pipeline:")
        print(shlex.join(flink.flags()))
        print("Additional flags of a stream from Kafka:")
        print(shlex.join(STREAMING), flush=True)
        watch(lambda: flink.processes)


if __name__ == "__main__":
    main()
