"""docs/sources.md: its programs that need an engine or a database.

Those that need neither are run by tests/docs/test_readme.py.
"""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from beam_rnn import Columns, Network, weights
from beam_rnn.testing import oracle
from deploy.local.jars import JDBC_IO, KAFKA_IO
from deploy.local.kafka import Expansion
from deploy.local.processes import Process, free_port, listens, wait_for
from tests.helpers.engines import PRISM, prism
from tests.helpers.models import random_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sources.md").read_text()
COLUMNS = Columns(key="id", time="at", inputs=["flow"])
START = datetime(2024, 5, 1, tzinfo=timezone.utc)


def block(heading, language="py"):
    """The block of the section with that heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.search(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[1]


def replaced(text, old, new):
    assert old in text
    return text.replace(old, new)


def on_prism(test):
    for mark in prism:
        test = mark(test)
    return test


def readings(days, every=10):
    """Two pumps, a reading each so many minutes; what comes on one of the days from the start."""
    for i in range(24 * 60 // every * days.start, 24 * 60 // every * days.stop):
        for key in range(2):
            yield {
                "id": f"pump-{key}",
                "at": START + timedelta(minutes=every * i),
                "flow": 50 + 10 * math.sin(i / 9 + key),
            }


def said(predictions):
    return sorted((row.key, row.time, row.step, row.outputs[0]) for row in predictions)


@on_prism
def test_a_directory_is_watched(tmp_path):
    model = random_model(Network("gru", 8), COLUMNS)
    weights.save(model, tmp_path / "pumps.arrow")
    arriving, forecasts = tmp_path / "arriving", tmp_path / "forecasts"
    arriving.mkdir()
    text = replaced(block("A directory, watched"), ".engines/prism", str(PRISM))
    (tmp_path / "watch.py").write_text(text)
    sent = []

    def arrive(day):
        rows = list(readings(range(day, day + 1), every=60))
        sent.extend(rows)
        with (tmp_path / "part").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"at": row["at"].isoformat()} for row in rows)
        (tmp_path / "part").rename(arriving / f"{day}.csv")

    def written():
        files = [path for path in forecasts.glob("*") if path.is_file()]
        lines = [line for path in files for line in path.read_text().split()]
        fields = [line.split(",") for line in lines]
        return sorted((key, int(t), int(n), float(y)) for key, t, n, y in fields)

    watch = Process(
        "the program",
        [sys.executable, "watch.py"],
        tmp_path / "log",
        {"PYTHONPATH": str(ROOT)},
        folder=tmp_path,
    )
    try:
        for day in range(2):
            arrive(day)
            wait_for("its forecasts", lambda: len(written()) >= len(sent), 90, watch)
    finally:
        watch.stop()

    assert written() == said(oracle(model, sent).predictions)


POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
"""Where Debian has the server's programs."""


class Database:
    """A PostgreSQL server with an empty database."""

    def __init__(self, folder):
        self._folder, self.port = folder, free_port()
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")

    def start(self):
        data = self._folder / "data"
        self._run("initdb", "--auth=trust", "--username=beam", f"--pgdata={data}")
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder)]
        command = self._command("postgres", "-D", str(data), *address)
        self._process = Process("PostgreSQL", command, self._folder / "log")
        wait_for("PostgreSQL", lambda: listens(self.port), 60, self._process)
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "beam", "plant")

    def stop(self):
        self._process.stop()

    def ask(self, text):
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "beam", "plant"]
        return self._run("psql", "-v", "ON_ERROR_STOP=1", "-qAt", "-c", text, *address)

    def _command(self, name, *arguments):
        # PostgreSQL does not run as root.
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return [*(user if os.geteuid() == 0 else []), str(POSTGRES[0] / name), *arguments]

    def _run(self, name, *arguments):
        command = self._command(name, *arguments)
        ran = subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, text=True, cwd=self._folder
        )
        return ran.stdout


@pytest.fixture
def database():
    # Not in pytest's folders: those are for their owner alone, the server may be another user.
    with tempfile.TemporaryDirectory() as folder:
        server = Database(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def services(tmp_path, monkeypatch):
    """What Beam would start from a jar that it fetches, of another version."""
    jars, flags = f"{KAFKA_IO}/*:{JDBC_IO}/*", ["--alsoStartLoopbackWorker"]
    service = Expansion(tmp_path, jars, flags, allowed=["beam:transform:managed:v1"])
    service.start()
    jar = "sdks:java:io:google-cloud-platform:expansion-service:shadowJar"
    monkeypatch.setenv("BEAM_SERVICE_OVERRIDES", json.dumps({jar: service.address}))
    yield
    service.stop()


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="no Java")
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL server in /usr/lib/postgresql")
@pytest.mark.skipif(
    not (KAFKA_IO.is_dir() and JDBC_IO.is_dir()),
    reason=f"no {KAFKA_IO} and {JDBC_IO}: make kafka java fetches them, with mvn",
)
@pytest.mark.usefixtures("services")
def test_from_a_database_and_back(database, tmp_path):
    database.ask(block("SQL", "sql"))
    rows = [f"('{r['id']}', '{r['at']}', {r['flow']!r})" for r in readings(range(3))]
    database.ask(f"insert into readings values {', '.join(rows)}")  # noqa: S608
    place = f"127.0.0.1:{database.port}/plant"
    (tmp_path / "plant.py").write_text(replaced(block("SQL"), "127.0.0.1:5432/plant", place))

    for _ in range(2):  # what was written before stays as it is
        subprocess.run(
            [sys.executable, "plant.py"],
            cwd=tmp_path,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    model = weights.load(tmp_path / "pumps.arrow")
    assert model.columns == COLUMNS
    assert model.training["records"] == 2 * (2 * 144 - 1)
    micros = "(extract(epoch from at) * 1000000)::bigint"
    row = f"json_build_array(id, {micros}, step, flow)"
    written = database.ask(f"select {row} from forecasts")  # noqa: S608
    expected = said(oracle(model, list(readings(range(2, 3)))).predictions)
    assert sorted(tuple(json.loads(line)) for line in written.splitlines()) == expected
