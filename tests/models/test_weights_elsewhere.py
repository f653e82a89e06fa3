"""docs/weights-file.md: its statements about the file, and its programs."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_rnn import weights
from deploy.local import ENGINES
from tests.helpers.models import keyed_models, random_model, saved

PAGE = Path(__file__).parents[2] / "docs" / "weights-file.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
ARROW = ENGINES / "arrow"


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


def block(language):
    (text,) = blocks(language)
    return text


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder with the file, and the names that the page's blocks of Python end with."""
    folder, names = tmp_path_factory.mktemp("page"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for text in blocks("python"):
            exec(compile(text, PAGE.name, "exec"), names)  # noqa: S102
    return folder, names


def test_a_step_in_polars_is_the_model_s_step(ran):
    folder, names = ran
    model = weights.load(folder / "pump.arrow")
    state, h = model.initial_state(), np.zeros(8, np.float32)

    for x in np.linspace(-2, 2, 9, dtype=np.float32)[:, np.newaxis]:
        state, y = model.step(state, x[np.newaxis])
        h, said = names["step"](x, h)
        np.testing.assert_allclose(h, state[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(said, y[0], rtol=0, atol=1e-6)


def test_a_forecast_in_polars_is_the_model_s_forecast(ran):
    folder, names = ran
    model = weights.load(folder / "pump.arrow")
    flow = np.array([[record["flow"]] for record in names["readings"]])

    y, _ = model.run(model.scaled("pump", flow)[np.newaxis])

    np.testing.assert_allclose(names["forecast"], model.restored("pump", y[0, -1]), rtol=1e-5)


def said_of(path):
    """Return the expected output of the programs: the network and each parameter's first value."""
    model = weights.load(path)
    values = [(name, value.shape, value.flat[0]) for name, value in model.parameters.items()]
    return json.dumps(model.network.to_json()), values


def check_printed(lines, path):
    network, values = said_of(path)
    assert lines[0].strip() == network
    rows = [line.split() for line in lines[1:]]
    assert [row[0] for row in rows] == [name for name, *_ in values]
    assert [np.float32(row[-1]) for row in rows] == [first for *_, first in values]


@pytest.mark.java
@pytest.mark.skipif(not shutil.which("java"), reason="no Java")
@pytest.mark.skipif(not ARROW.is_dir(), reason=f"no {ARROW}: make java fetches it, with mvn")
def test_the_program_in_java_reads_the_file(ran):
    folder, _ = ran
    (folder / "ReadWeights.java").write_text(block("java"))
    command = shlex.split(block("sh").replace(".engines", str(ENGINES)))

    result = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: S603

    check_printed(result.stdout.splitlines(), folder / "pump.arrow")
    shapes = re.findall(r"\[(.*?)\]", result.stdout)
    _, values = said_of(folder / "pump.arrow")
    assert shapes == [",".join(map(str, shape)) for _, shape, _ in values]


def has_r():
    """Return True if R and its package arrow are installed."""
    if not shutil.which("Rscript"):
        return False
    command = ["Rscript", "-e", "library(arrow)"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


@pytest.mark.java
def test_the_program_in_r_reads_the_file(ran):
    if not has_r():
        pytest.skip("no Rscript with the package arrow")
    folder, _ = ran
    (folder / "read.R").write_text(block("r"))

    result = subprocess.run(
        ["Rscript", "read.R"],  # noqa: S607
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )

    check_printed(result.stdout.splitlines(), folder / "pump.arrow")


def column_of(title, row=r"^\| (`.*?) \|"):
    """The code in the first column of the table that follows a line."""
    table = PAGE.read_text().split(title, 1)[1].strip().split("\n\n")[0]
    return [name for cell in re.findall(row, table, re.MULTILINE) for name in cell.split(", ")]


def test_the_page_names_what_is_in_a_file(tmp_path):
    schema = pa.ipc.open_file(saved(random_model(), tmp_path)).schema

    assert column_of("One row per parameter:") == [f"`{name}`" for name in schema.names]
    metadata = [f"`{key.decode()}`" for key in schema.metadata]
    assert sorted(column_of("The metadata of the schema:")) == sorted(metadata)


def test_the_page_names_what_is_in_a_file_of_many_models(tmp_path):
    schema = pa.ipc.open_file(saved(keyed_models(), tmp_path)).schema
    section = PAGE.read_text().split("### Versions")[1].split("###")[0]

    assert schema.metadata[b"beam_rnn.format_version"] == b"2"
    assert all(f"`{name}`" in section for name in schema.names)
    assert b"beam_rnn.shapes" in schema.metadata
