"""A pipeline in Java that predicts: rows in and out by schema, with the commands of the docs."""

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from beam_rnn.data.columns import Columns
from beam_rnn.portable.schemas import time_text
from beam_rnn.testing import oracle
from deploy.local.processes import Process, free_port, listens, wait_for
from tests.helpers.engines import PRISM, prism
from tests.helpers.models import random_model, saved

ROOT = Path(__file__).parents[2]
pytestmark = [
    *prism,
    *(
        pytest.mark.skipif(not shutil.which(program), reason=f"no {program}, which Java needs")
        for program in ("java", "mvn")
    ),
]


COLUMNS = Columns(
    key="id", time="at", inputs=["pressure", "rpm", "cycles", "load"], targets=["pressure"]
)


class Page:
    """The commands of docs/other-languages.md, with the ports and folders of a test."""

    def __init__(self, folder):
        self.ports = {8073: free_port(), 8098: free_port()}
        self._folder = folder
        text = (ROOT / "docs" / "other-languages.md").read_text()
        shell = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        self._lines = [line for line in shell.replace("\\\n", " ").splitlines() if line]

    def command(self, begin):
        """The one that begins so."""
        (line,) = (line for line in self._lines if line.startswith(begin))
        places = {
            "pipelines/java/target": f"{self._folder}",
            "pipelines/java/pom": f"{ROOT}/pipelines/java/pom",
            ".engines/prism": f"{PRISM}",
            "$PWD": f"{self._folder}",
            **{str(port): str(other) for port, other in self.ports.items()},
        }
        for shown, here in places.items():
            line = line.replace(shown, here)
        words = shlex.split(line)
        return [sys.executable, *words[1:]] if words[0] == "python" else words


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path)


@pytest.fixture
def services(page, tmp_path):
    """Prism, and Python's expansion service."""
    started = []
    try:
        for begin, port in ((".engines/prism", 8073), ("python -m apache_beam.runners", 8098)):
            log = tmp_path / f"{port}.log"
            started.append(Process(begin, page.command(begin), log, {"PYTHONPATH": str(ROOT)}))
            here = page.ports[port]
            wait_for(begin, lambda here=here: listens(here), 60, started[-1])
        yield
    finally:
        for process in started:
            process.stop()


def readings():
    """What `Predict.java` reads, without the one that has a null."""
    for i in range(40):
        at = 1000 + i // 2
        yield {
            "id": "fan" if i % 2 else "pump",
            "at": at,
            "pressure": math.sin(i),
            "rpm": at % 7,
            "cycles": 10**9 * at,
            "load": float(np.float32(i) / np.float32(3)),
        }


@pytest.mark.usefixtures("services")
def test_java_gets_the_bits_of_python(page, tmp_path):
    model = random_model(columns=COLUMNS)
    Path(saved(model, tmp_path)).rename(tmp_path / "readings.arrow")
    build = [*page.command("mvn"), "--batch-mode", "--quiet", f"-Dto={tmp_path}"]
    subprocess.run(build, check=True)  # noqa: S603
    java = Process("Java", page.command("java"), tmp_path / "java.log")
    try:
        assert java.wait(120) == 0, java.last_lines()
    finally:
        java.stop()

    def lines(name):
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    rows = lines("said-predictions.jsonl")
    assert sorted(tuple(row.items()) for row in rows) == sorted(
        (
            ("key", p.key),
            ("time", time_text(p.time)),
            ("pressure_prediction", p.outputs[0]),
            ("prediction_step", p.step),
            ("prediction_model", p.model),
            ("prediction_kernel", p.kernel),
        )
        for p in oracle(model, readings()).predictions
    )
    (refused,) = lines("said-refused.jsonl")
    assert (refused["msg"], refused["key"]) == ("pressure is missing, got None", "fan")
    assert refused["late"] is False
