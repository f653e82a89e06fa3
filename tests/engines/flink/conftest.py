"""A real cluster and a real broker for all tests of this folder, started once."""

import shutil

import pytest

from deploy.local import ENGINES, worker
from deploy.local.flink import Flink
from deploy.local.jars import BROKER, FLINK, JOB_SERVER, KAFKA_IO
from deploy.local.kafka import Broker, for_flink
from tests.engines.flink.stream import Stream


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "flink":
            item.add_marker(pytest.mark.flink)


@pytest.fixture(scope="session")
def flink(tmp_path_factory):
    """A JobManager and two TaskManagers, with their state in RocksDB."""
    if shutil.which("java") is None:
        pytest.skip("Flink needs Java, and there is no java here")
    missing = [str(part) for part in (JOB_SERVER, FLINK, BROKER, KAFKA_IO) if not part.exists()]
    if missing:
        pytest.skip(f"make engines fetches what is not in {ENGINES}: {', '.join(missing)}")
    with Flink(tmp_path_factory.mktemp("flink")) as flink:
        yield flink


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """A broker, and the service that expands its transforms."""
    folder = tmp_path_factory.mktemp("kafka")
    java = worker.command(folder, "java")
    with Broker(folder) as broker, for_flink(folder, java) as expansion:
        yield broker, expansion


@pytest.fixture
def stream(flink, kafka, tmp_path, request):
    """A topic of its own, and jobs that read it."""
    with Stream(flink, *kafka, tmp_path, request.node.name) as stream:
        yield stream
