"""`beam-rnn predict` in this process: the files that the pipeline writes."""

import csv
import json
import logging
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from beam_rnn import Columns, weights
from beam_rnn.cli import predict
from beam_rnn.errors import BeamRnnError
from tests.helpers.models import random_model

COLUMNS = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"])
NUMBERED = Columns(key="id", time="t", sequence="n", inputs=["x", "y"], targets=["x"])
PIPELINE = "--runner=FnApiRunner"


@pytest.fixture
def files(tmp_path):
    """Two files, with a line twice, two of one time, a jump back, and some that are no records."""
    lines = [f"{'ab'[i % 2]},{1_404_000_000 + 60 * i},{i / 7},{-i},{i},s{i}" for i in range(60)]
    more = [lines[7], lines[7].replace("s7", "other"), "a,1404000000,9,9,0,tie", "a,soon,1,1,5,"]
    more += ["a,1404000060,n/a,1,9,", "a,1404000120,1", ",1404000120,1,1,1,s"]
    head = "id,t,x,y,n,site"
    for name, part in (("one", lines[:30]), ("two", [*lines[30:], *more])):
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *part]))
    for name, columns in (("plain", COLUMNS), ("numbered", NUMBERED)):
        weights.save(random_model(columns=columns), tmp_path / f"{name}.arrow")
    return tmp_path


def lines_of(path):
    return sorted(path.read_text().splitlines()) if path.exists() else None


def predicted(files, name, *flags):
    """What a run writes, and what it says."""
    (files / "out").mkdir(exist_ok=True)
    output = files / "out" / name
    said = predict.perform([f"--input={files}/*.csv", f"--output={output}", *flags])
    aside = [lines_of(output.with_name(f"{name}.{what}.jsonl")) for what in ("invalid", "late")]
    for line in aside[0] or ():
        json.loads(line)
    return said, output, aside


PLAIN, IDLE = ["--weights={}/plain.arrow"], ["--weights={}/plain.arrow", "--idle_after=60"]
ARRIVAL = ["--weights={}/plain.arrow", "--order=arrival"]
BY_NUMBER = ["--weights={}/numbered.arrow", "--order=sequence", "--shards=3"]


@pytest.mark.parametrize(
    ("suffix", "flags"),
    [
        *(("csv", PLAIN), ("jsonl", PLAIN), ("csv.gz", PLAIN), ("parquet", PLAIN)),
        *(("arrow", PLAIN), ("csv", IDLE), ("csv", BY_NUMBER), ("csv", ARRIVAL)),
    ],
)
def test_the_files_are_those_of_the_pipeline(files, suffix, flags, caplog):
    flags = [flag.format(files) for flag in flags]
    caplog.set_level(logging.WARNING)
    said, here, aside = predicted(files, f"here.{suffix}", *flags)
    of_files = {text.replace("here.", "there.") for text in caplog.messages}
    caplog.clear()
    also_said, there, also_aside = predicted(files, f"there.{suffix}", *flags, PIPELINE)

    assert [line.replace("here", "there") for line in said] == also_said
    assert aside == also_aside
    assert of_files == set(caplog.messages)
    if "--order=arrival" in flags:  # records of two files, in the order in which they are read
        assert len(here.read_text().splitlines()) == len(there.read_text().splitlines())
    elif suffix in {"csv", "jsonl"}:
        assert lines_of(here) == lines_of(there)
    elif suffix == "parquet":
        ours, theirs = pq.read_table(here), pq.read_table(there)
        assert ours.schema.equals(theirs.schema)
        assert sorted(map(repr, ours.to_pylist())) == sorted(map(repr, theirs.to_pylist()))


def test_rows_are_in_the_order_of_the_files(files):
    _, output, _ = predicted(files, "p.csv", f"--weights={files}/plain.arrow")

    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    times = [row["time"] for row in rows if row["key"] == "b"]
    assert times == sorted(times)
    assert [row["key"] for row in rows[:4]] == ["a", "b", "a", "b"]


def test_no_record_is_an_error_as_in_the_pipeline(files):
    (files / "bad.csv").write_text("id,t,x,y\na,soon,1,1\n")
    (files / "none.csv").write_text("id,t,x,y\n")
    for name in ("bad", "none"):
        flags = [f"--input={files}/{name}.csv", f"--weights={files}/plain.arrow"]
        texts = []
        for more in ([], [PIPELINE]):
            with pytest.raises(BeamRnnError) as refused:
                predict.perform([*flags, f"--output={files}/out.csv", *more])
            texts.append(str(refused.value))
        assert texts[0] in texts[1]
        assert not (files / "out.csv").exists()


FLAGS = {"input": "*.csv", "weights": "plain.arrow", "output": "p.arrow"}


def test_it_imports_no_beam(files):
    flags = [
        f"--input={files}/*.csv",
        f"--weights={files}/plain.arrow",
        f"--output={files}/p.arrow",
    ]
    code = f"""
import sys
from beam_rnn.cli.main import main
main(["predict", *{flags!r}])
assert "apache_beam" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
