"""The Java programs of the engines and their command lines."""

import os
from collections.abc import Sequence
from pathlib import Path

from deploy.local import ENGINES
from deploy.local.processes import EngineError

JOB_SERVER = Path(os.environ.get("FLINK_JOB_SERVER_JAR", ENGINES / "job-server.jar"))
"""Beam's job server for Flink, with Kafka's transforms; FLINK_JOB_SERVER_JAR overrides it."""
FLINK_VERSION = os.environ.get("FLINK_VERSION", "1.19")
"""The Flink version of the job server and the cluster."""
FLINK = Path(os.environ.get("FLINK_LIB", ENGINES / "flink"))
"""The jars of the cluster, in the patch release that the Makefile names."""
BROKER = ENGINES / "broker"
KAFKA_IO = ENGINES / "kafka-io"
JDBC_IO = ENGINES / "jdbc-io"
"""Beam's transforms for databases; the service that expands them is in `KAFKA_IO`."""
EXPANSION = str(Path(__file__).with_name("Expansion.java"))
"""The expansion service; Java compiles it at the start."""
_MEMORY_METER = KAFKA_IO / "jamm-0.4.0.jar"

_PACKAGES = {
    "exports": [
        "sun.net.util",
        "java.rmi/sun.rmi.registry",
        "java.security.jgss/sun.security.krb5",
    ],
    "opens": [
        "java.lang",
        "java.net",
        "java.io",
        "java.nio",
        "sun.nio.ch",
        "java.lang.reflect",
        "java.text",
        "java.time",
        "java.util",
        "java.util.concurrent",
        "java.util.concurrent.atomic",
        "java.util.concurrent.locks",
    ],
}
OPEN_PACKAGES = [
    f"--add-{how}={name if '/' in name else f'java.base/{name}'}=ALL-UNNAMED"
    for how, names in _PACKAGES.items()
    for name in names
]
"""The Java 17 options of Flink's own start scripts."""

QUICK_START = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
"""For programs that run for minutes: a faster start, less optimisation."""


def java(
    main: str, classpath: str, *arguments: str, heap: int, options: Sequence[str] = ()
) -> list[str]:
    """Return a command from the class or source to run, its jars, and its heap in MiB."""
    measured = main == EXPANSION or main.startswith("org.apache.beam.fn.")
    agent = [f"-javaagent:{_MEMORY_METER}"] if measured else []
    return ["java", f"-Xmx{heap}m", *agent, *options, "-cp", classpath, main, *arguments]


def check_fetched(jars: Path) -> None:
    """Check that jars have been downloaded.

    Raises:
        EngineError: They are missing.
    """
    if not jars.exists():
        raise EngineError(f"{jars} is missing: run `make engines`, which needs Java and mvn")
