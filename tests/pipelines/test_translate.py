"""The translation pipeline from its command line, and its synthetic tasks."""

import csv
import doctest
import re

import numpy as np
import pytest

from beam_rnn.errors import ConfigurationError
from beam_rnn.weights import load
from pipelines import tasks, translate


def test_the_examples_of_the_tasks_hold():
    assert doctest.testmod(tasks).attempted > 5
    assert doctest.testmod(tasks).failed == 0


def test_no_pair_is_made_twice_and_every_target_is_right():
    sums = list(tasks.additions(5000, 2, seed=3))
    assert len({row["id"] for row in sums}) == 5000
    assert all(sum(map(int, row["source"].split("+"))) == int(row["target"]) for row in sums)
    days = list(tasks.dates(2000, seed=3))
    assert len({row["source"] for row in days}) == 2000
    years = re.compile(r"[12]\d{3}-\d\d-\d\d")
    assert all(years.fullmatch(row["target"]) for row in days)


def rows_of(path):
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_a_task_is_trained_and_its_fresh_sources_are_translated(tmp_path, capsys):
    weights, output = tmp_path / "weights.arrow", tmp_path / "fresh.csv"
    flags = ["--task", "additions", "--digits", "1", "--samples", "70", "--fresh", "20"]
    sizes = ["--hidden", "16", "--embedding", "8", "--epochs", "4", "--batch_size", "8"]
    translate.main([*flags, *sizes, "--weights", str(weights), "--output", str(output)])
    rows = rows_of(output)
    assert len(rows) == 20
    learned = {row["id"] for row in list(tasks.additions(90, 1))[:70]}
    assert not learned & {row["source"] for row in rows}
    right = sum(row["written"] == row["target"] for row in rows)
    assert right == sum(row["right"] == "True" for row in rows)
    assert f"{right} of 20 fresh sources translated correctly" in capsys.readouterr().out
    assert load(weights).columns.fields == ("source", "target")


def test_pairs_of_files_are_split_by_their_keys(tmp_path, capsys):
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(list("ab"), 3)) for _ in range(60)]
    lines = [f"{i},{text},{text.upper()}\n" for i, text in enumerate(texts)]
    (tmp_path / "pairs.csv").write_text("".join(["id,said,meant\n", *lines, ",ab,AB\n"]))
    flags = ["--input", f"{tmp_path}/pairs*.csv", "--source", "said", "--target", "meant"]
    sizes = ["--hidden", "16", "--epochs", "30", "--batch_size", "8", "--train_fraction", "0.7"]
    output = tmp_path / "fresh.csv"
    to = ["--weights", str(tmp_path / "weights.arrow"), "--output", str(output)]
    translate.main([*flags, *sizes, "--learning_rate", "0.01", *to])
    rows = rows_of(output)
    assert 5 < len(rows) < 30
    assert sum(row["right"] == "True" for row in rows) > 0.9 * len(rows)
    letters = [*tmp_path.glob("*.invalid.jsonl")]
    assert len(letters) == 1
    assert "must have 1 to 1024 bytes to be a key" in letters[0].read_text()
    assert "translated correctly" in capsys.readouterr().out


def test_more_sums_than_there_are_is_an_error(tmp_path):
    flags = ["--task", "additions", "--digits", "1", "--samples", "100"]
    with pytest.raises(ConfigurationError, match="there are 100 sums of numbers of 1 digits"):
        translate.main([*flags, "--weights", str(tmp_path / "w.arrow")])
