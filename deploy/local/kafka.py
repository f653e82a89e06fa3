"""A Kafka broker on this machine, and the expansion service for Beam's Kafka transforms.

    python -m deploy.local.kafka FOLDER
    python -m deploy.local.kafka FOLDER --for flink

starts both; Ctrl-C stops them. The topics stay in the folder. Flink needs a different expansion
service.
"""

import argparse
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.local import worker
from deploy.local.jars import BROKER, EXPANSION, JOB_SERVER, KAFKA_IO, check_fetched, java
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

KAFKA = (
    "beam:transform:org.apache.beam:kafka_read_with_metadata:v1",
    "beam:transform:org.apache.beam:kafka_read_without_metadata:v1",
    "beam:transform:org.apache.beam:kafka_write:v1",
    "beam:transform:org.apache.beam:kafka_write:v2",
    "beam:schematransform:org.apache.beam:kafka_read:v1",
    "beam:schematransform:org.apache.beam:kafka_write:v1",
)
"""The URNs of Beam's Kafka transforms."""
_LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel="


class _Service(Started):
    """A program that listens on a port of this machine."""

    flag: str
    """The command-line flag of the port."""

    def __init__(self, folder: Path, port: int | None):
        self._folder = folder
        self._port = port or free_port()
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def processes(self) -> list[Process]:
        """The process, if it should be running."""
        return [] if self._process is None else [self._process]

    def stop(self) -> None:
        """Stop the program; messages that a broker has confirmed are kept."""
        if self._process is not None:
            self._process.stop(seconds=20)
            self._process = None

    def _start(self, name: str, command: Sequence[str], log: str) -> None:
        check_free(self._port, self.flag)
        self._process = Process(name, command, self._folder / log)
        wait_for(name, lambda: listens(self._port), 60, self._process)


class Broker(_Service):
    """A single broker that is its own controller; its topics stay in the folder.

    Args:
        folder: The folder for settings, log and topics.
        port: The port; by default a free one.
    """

    flag = "--port"

    def __init__(self, folder: Path, port: int | None = None):
        super().__init__(folder, port)

    def start(self) -> None:
        """Start the broker; the first time its storage is formatted."""
        check_fetched(BROKER)
        settings = self._folder / "server.properties"
        formatted = settings.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        written = settings.with_suffix(".part")
        written.write_text(self._settings(free_port()))  # written again: the port may have changed
        if not formatted:
            self._format(written)
        written.rename(settings)
        options = [f"{_LOG}info"]
        command = java("kafka.Kafka", f"{BROKER}/*", str(settings), heap=512, options=options)
        self._start("the Kafka broker", command, "broker.log")

    def _format(self, settings: Path) -> None:
        """Format the storage."""
        tool = java("kafka.tools.StorageTool", f"{BROKER}/*", heap=64, options=[f"{_LOG}warn"])
        run = subprocess.run([*tool, "random-uuid"], capture_output=True, check=True, text=True)
        cluster = run.stdout.split()[-1]
        command = [*tool, "format", "-t", cluster, "-c", str(settings)]
        subprocess.run(command, check=True, capture_output=True)

    def _settings(self, controller: int) -> str:
        return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{self.address}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={self._folder}/topics
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# A misspelled name is an error, not an empty topic.
auto.create.topics.enable=false
# Records with old timestamps are not deleted.
log.retention.ms=-1
"""


class Expansion(_Service):
    """Expands Beam's Kafka transforms for a pipeline in Python.

    It listens on 127.0.0.1 only, and expands only allowed transforms.

    Args:
        folder: The folder for the log.
        classpath: Jars of Beam's Java SDK.
        arguments: Further flags of Beam.
        port: The port; by default a free one.
        allowed: The URNs of the allowed transforms.
    """

    flag = "--expansion_port"

    def __init__(
        self,
        folder: Path,
        classpath: str,
        arguments: Sequence[str],
        port: int | None = None,
        *,
        allowed: Sequence[str] = KAFKA,
    ):
        super().__init__(folder, port)
        self._classpath = classpath
        self._arguments = [",".join(allowed), *arguments]

    def start(self) -> None:
        """Start the service."""
        check_fetched(KAFKA_IO)
        command = java(
            EXPANSION,
            self._classpath,
            str(self._port),
            *self._arguments,
            heap=768,
        )
        self._start("the expansion service", command, "expansion.log")


def for_flink(folder: Path, worker: str, port: int | None = None) -> Expansion:
    """Return the service for Flink: the job server's version, native reads, process workers."""
    return Expansion(
        folder,
        str(JOB_SERVER),
        [
            "--experiments=use_deprecated_read",
            "--defaultEnvironmentType=PROCESS",
            f"--defaultEnvironmentConfig={worker}",
        ],
        port,
    )


def for_others(folder: Path, port: int | None = None) -> Expansion:
    """Return the service for other runners: a newer version with its own worker."""
    return Expansion(folder, f"{KAFKA_IO}/*", ["--alsoStartLoopbackWorker"], port)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the folder for settings, logs and topics")
    parser.add_argument(
        "--for",
        dest="runner",
        choices=("prism", "flink"),
        default="prism",
        help="the runner of the pipelines; default: prism",
    )
    parser.add_argument("--port", type=port, default=9092, help="port of the broker; default: 9092")
    parser.add_argument(
        "--expansion_port", type=port, default=8097, help="port of the service; default: 8097"
    )
    return parser


def main() -> None:
    """Run until Ctrl-C."""
    args = parser().parse_args()
    with until_stopped(), alone_in(args.folder.absolute()) as folder:
        if args.runner == "flink":
            check_fetched(JOB_SERVER)
            expansion = for_flink(folder, worker.command(folder, "java"), args.expansion_port)
        else:
            expansion = for_others(folder, args.expansion_port)
        with Broker(folder, args.port) as broker, expansion:
            runner = args.runner.capitalize()
            flag = f"--expansion_service {expansion.address}"
            print(
                f"Kafka is at {broker.address}; flag of pipelines on {runner}: {flag}", flush=True
            )
            watch(lambda: [*broker.processes, *expansion.processes])


if __name__ == "__main__":
    main()
