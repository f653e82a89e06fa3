"""The Java programs of the engines, and what they need on their command lines."""

import os
from collections.abc import Sequence
from pathlib import Path

from deploy.local import ENGINES
from deploy.local.processes import EngineError

JOB_SERVER = Path(os.environ.get("FLINK_JOB_SERVER_JAR", ENGINES / "job-server.jar"))
"""Beam's job server for Flink, with Kafka's transforms; another one by FLINK_JOB_SERVER_JAR."""
FLINK_VERSION = os.environ.get("FLINK_VERSION", "1.19")
"""The version of Flink that the job server and the cluster are of."""
FLINK = Path(os.environ.get("FLINK_LIB", ENGINES / "flink"))
"""The jars of the cluster, of the patch release that the Makefile names."""
BROKER = ENGINES / "broker"
KAFKA_IO = ENGINES / "kafka-io"
JDBC_IO = ENGINES / "jdbc-io"
"""Beam's transforms for databases; the service that expands them is in `KAFKA_IO`."""
EXPANSION = str(Path(__file__).with_name("Expansion.java"))
"""The program that expands Beam's transforms; Java compiles it when it is started."""
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
"""What Flink's own start scripts ask of Java 17."""

QUICK_START = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
"""For programs that run for minutes: less compiling, later speed."""


def java(
    main: str, classpath: str, *arguments: str, heap: int, options: Sequence[str] = ()
) -> list[str]:
    """A command: the class or source to run, its jars, and the size of its heap in MiB."""
    measured = main == EXPANSION or main.startswith("org.apache.beam.fn.")
    agent = [f"-javaagent:{_MEMORY_METER}"] if measured else []
    return ["java", f"-Xmx{heap}m", *agent, *options, "-cp", classpath, main, *arguments]


def check_fetched(jars: Path) -> None:
    """That there are jars.

    Raises:
        EngineError: There are none.
    """
    if not jars.exists():
        raise EngineError(f"no {jars}: fetch it with `make engines`, which needs Java and mvn")
