"""`JoinRecords`: predictions joined with their records."""

import random

import apache_beam as beam
import pytest

from beam_rnn import Columns, JoinRecords, Network, Predict
from beam_rnn.errors import ConfigurationError
from beam_rnn.records.joining import joined
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import Prediction
from beam_rnn.testing import oracle
from tests.helpers.engines import Collect, run
from tests.helpers.models import random_model, saved

COLUMNS = Columns(key="id", time="t", inputs=["x"])
READER = RecordReader(COLUMNS)
MARKED = Columns(key="id", time="t", inputs=["x"], start="start", end="end")
BAD = [{"id": "a", "t": 1, "x": "n/a", "site": 7}, {"t": 1, "x": 2.0}, {"id": "b", "t": 1}]


def record(key, t, x, site=0):
    return {"id": key, "t": t, "x": x, "site": site}


def read(*records, reader=READER):
    return [(reader.read(each).data, each) for each in records]


def rows(*steps):
    return [Prediction("a", 0, step, [float(step)], "", b"", 0, "numpy") for step in steps]


def pairs(model_path, columns, records):
    collect = Collect()

    def build(pipeline):
        given = pipeline | beam.Create(records)
        predictions = (given | Predict(model_path)).predictions
        return predictions | JoinRecords(columns, given) | collect

    run(build)
    return collect.elements


def test_each_prediction_is_joined_with_its_record(tmp_path):
    """With equal records, several of one time, and records that cannot be used."""
    model, chance = random_model(columns=COLUMNS), random.Random(3)
    good = [record(k, t, float(chance.randrange(3)), t) for t in range(12) for k in "ab"]
    ties = [record("a", t, 10.0 + i, site=i) for t in (2, 2, 5) for i in range(3)]
    records = [*good, *ties, *good[:7], *BAD]
    chance.shuffle(records)

    found = pairs(saved(model, tmp_path), COLUMNS, records)

    expected = {}
    for key in "ab":
        mine = sorted({READER.read(each).data for each in [*good, *ties] if each["id"] == key})
        outputs = [row for row in oracle(model, [*good, *ties]).predictions if row.key == key]
        steps = sorted(outputs, key=lambda row: row.step)
        expected |= {(key, data): row for data, row in zip(mine, steps, strict=True)}
    assert {(row.key, READER.read(each).data): row for each, row in found} == expected
    assert len(found) == len(expected) == 24 + 6
    assert all("site" in each for each, _ in found)


def test_equal_records_count_once():
    twice = read(record("a", 1, 2.0, site=2), record("a", 1, 2.0, site=1))

    assert list(joined(twice, rows(4))) == [(record("a", 1, 2.0, site=1), rows(4)[0])]


def test_a_record_without_a_prediction_is_in_no_pair():
    assert list(joined(read(record("a", 1, 2.0)), [])) == []


def test_the_joined_record_is_none_if_records_cannot_be_distinguished():
    two = read(record("a", 1, 2.0), record("a", 1, 3.0))

    assert [each for each, _ in joined(two, rows(7))] == [None]
    assert [each["x"] for each, _ in joined(two, rows(8, 7))] == [2.0, 3.0]


def test_a_sequence_that_ends_between_records_of_one_time_is_not_guessed():
    reader = RecordReader(MARKED)
    each = [{"id": "a", "t": 1, "x": x, "start": False, "end": True} for x in (1.0, 2.0)]

    assert [found for found, _ in joined(read(*each, reader=reader), rows(9, 1))] == [None, None]
    one_ends = [each[0], each[1] | {"end": False}]
    found = joined(read(*one_ends, reader=reader), rows(9, 8))
    assert [(pair["x"], row.step) for pair, row in found] == [(2.0, 8), (1.0, 9)]


def test_a_sequence_number_distinguishes_records_of_one_time(tmp_path):
    columns = Columns(key="id", time="t", inputs=["x"], sequence="n")
    records = [record("a", 1, x) | {"n": n} for n, x in ((2, 1.0), (1, 9.0), (3, 5.0))]
    model = random_model(Network("gru", hidden=3), columns)

    found = pairs(saved(model, tmp_path), columns, records)

    assert {each["n"]: row.step for each, row in found} == {1: 1, 2: 2, 3: 3}


def test_invalid_joins_are_refused_before_the_pipeline_runs():
    with pytest.raises(ConfigurationError, match="records must be a PCollection"):
        JoinRecords(COLUMNS, [])
    symbols = Columns(key="id", time="t", symbols=["word"], targets=["x"])
    pipeline = beam.Pipeline(runner="FnApiRunner")
    with pytest.raises(ConfigurationError, match="vocabularies of symbols"):
        JoinRecords(symbols, pipeline | beam.Create([1]))
