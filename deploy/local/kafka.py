"""A Kafka broker on this machine, and the service that expands Beam's transforms for it.

    python -m deploy.local.kafka FOLDER

starts both, at 127.0.0.1:9092 and 127.0.0.1:8097, and stops them with Ctrl-C.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Self

from deploy.local.jars import BROKER, JOB_SERVER, KAFKA_IO, java
from deploy.local.processes import (
    EngineError,
    Process,
    free_port,
    listens,
    sleep,
    until_stopped,
    wait_for,
)

_LOG = "-Dorg.slf4j.simpleLogger.defaultLogLevel="


class _Service:
    """A program that listens at a port of this machine."""

    def __init__(self, folder: Path, port: int | None):
        self._folder = folder
        self._port = port or free_port()
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """What clients are told."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it; messages that a broker has confirmed stay."""
        if self._process is not None:
            self._process.stop(seconds=20)
            self._process = None

    def _start(self, name: str, command: Sequence[str], log: str) -> None:
        self._process = Process(name, command, self._folder / log)
        wait_for(name, lambda: listens(self._port), 60, self._process)


class Broker(_Service):
    """One broker that is its own controller; its topics stay in the folder when it is stopped.

    Args:
        folder: Its settings, log and topics.
        port: Where it listens; by default one that is free.
    """

    def __init__(self, folder: Path, port: int | None = None):
        super().__init__(folder, port)

    def start(self) -> None:
        """Start it; the first time its storage is formatted."""
        check_fetched(BROKER)
        settings = self._folder / "server.properties"
        if not settings.exists():
            self._format(settings)
        options = [f"{_LOG}info"]
        command = java("kafka.Kafka", f"{BROKER}/*", str(settings), heap=512, options=options)
        self._start("the Kafka broker", command, "broker.log")

    def _format(self, settings: Path) -> None:
        """Write the settings, and what a broker keeps beside its topics."""
        self._folder.mkdir(parents=True, exist_ok=True)
        written = settings.with_suffix(".part")
        written.write_text(self._settings(free_port()))
        tool = java("kafka.tools.StorageTool", f"{BROKER}/*", heap=64, options=[f"{_LOG}warn"])
        run = subprocess.run([*tool, "random-uuid"], capture_output=True, check=True, text=True)
        cluster = run.stdout.split()[-1]
        command = [*tool, "format", "-t", cluster, "-c", str(written)]
        subprocess.run(command, check=True, capture_output=True)
        written.rename(settings)

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
# Records whose own times are years ago are not deleted for their age.
log.retention.ms=-1
"""


class Expansion(_Service):
    """Expands Beam's Kafka transforms for a pipeline in Python.

    Args:
        folder: Its log.
        classpath: Jars of Beam's Java SDK.
        arguments: Its further flags.
        port: Where it listens; by default one that is free.
    """

    def __init__(
        self, folder: Path, classpath: str, arguments: Sequence[str], port: int | None = None
    ):
        super().__init__(folder, port)
        self._classpath = classpath
        self._arguments = arguments

    def start(self) -> None:
        """Start it."""
        check_fetched(KAFKA_IO)
        command = java(
            "org.apache.beam.sdk.expansion.service.ExpansionService",
            self._classpath,
            str(self._port),
            "--javaClassLookupAllowlistFile=*",
            *self._arguments,
            heap=768,
        )
        self._start("the expansion service", command, "expansion.log")


def for_flink(folder: Path, worker: str) -> Expansion:
    """Of the job server's version; its reads are Flink's native ones, its workers processes."""
    return Expansion(
        folder,
        str(JOB_SERVER),
        [
            "--experiments=use_deprecated_read",
            "--defaultEnvironmentType=PROCESS",
            f"--defaultEnvironmentConfig={worker}",
        ],
    )


def for_others(folder: Path, port: int | None = None) -> Expansion:
    """Of a newer version, with a worker of its own in the service."""
    return Expansion(folder, f"{KAFKA_IO}/*", ["--alsoStartLoopbackWorker"], port)


def check_fetched(jars: Path) -> None:
    """That there are jars.

    Raises:
        EngineError: There are none.
    """
    if not jars.is_dir():
        raise EngineError(f"no {jars}: fetch it with `make engines`, which needs Java and mvn")


def main() -> None:
    """Run until Ctrl-C."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1]).absolute()
    with until_stopped(), Broker(folder, 9092) as broker, for_others(folder, 8097) as expansion:
        print(f"Kafka is at {broker.address}; pipelines: --expansion_service {expansion.address}")
        sleep()


if __name__ == "__main__":
    main()
