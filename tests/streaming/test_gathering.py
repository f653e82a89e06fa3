"""The last records of a key, at every record."""

import random

import numpy as np
import pytest

from beam_rnn import Columns, LastRecords
from beam_rnn.errors import ConfigurationError
from tests.helpers.engines import ENGINES, predict
from tests.helpers.streams import ENGINES as STREAM_ENGINES
from tests.helpers.streams import START, predict_stream

COLUMNS = Columns(key="id", time="t", inputs=["x"], targets=["y"], horizon=0)


def row(t, key="a", **more):
    return {"id": key, "t": START + t, "at": START + t, "x": float(t), "y": 100.0 + t} | more


def shown(sequence):
    return [int(x) for x in sequence.inputs[:, 0]]


def in_order(sequences, key="a"):
    found = [s for s in sequences if s.key == key]
    return [shown(s) for s in sorted(found, key=lambda s: (s.until, len(s.times)))]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sequence_of_the_last_records_at_every_record(engine):
    records = [row(t, key) for t in range(6) for key in "ab"] + [row(3), row(9, x="no")]
    random.Random(0).shuffle(records)

    outputs = predict(LastRecords(COLUMNS, length=3), records, engine)

    for key in "ab":
        assert in_order(outputs.sequences, key) == [
            [0],
            [0, 1],
            [0, 1, 2],
            [1, 2, 3],
            [2, 3, 4],
            [3, 4, 5],
        ]
    sequence = max((s for s in outputs.sequences if s.key == "a"), key=lambda s: s.until)
    assert sequence.targets[:, 0].tolist() == [103, 104, 105]
    assert (sequence.times / 1e6 - START).tolist() == [3, 4, 5]
    assert sequence.columns == COLUMNS
    assert [letter.reason for letter in outputs.invalid] == ["x must be a number"]


def test_a_step_is_complete_when_its_target_is_there():
    columns = Columns(key="id", time="t", inputs=["x"], horizon=2, sequence="n", weight="w")
    records = [row(50 - t, n=t, x=t, w=t / 10) for t in range(6)]

    outputs = predict(LastRecords(columns, length=2, order="sequence"), records)

    assert sorted(map(shown, outputs.sequences)) == [[0], [0, 1], [1, 2], [2, 3]]
    last = min(outputs.sequences, key=lambda s: s.until)
    assert last.targets[:, 0].tolist() == [4, 5]
    np.testing.assert_allclose(last.weights[:, 0], [0.4, 0.5])


def test_the_end_of_a_sequence_empties_the_window():
    columns = Columns(
        key="id", time="t", inputs=["x"], targets=["y"], horizon=0, start="first", end="last"
    )
    records = [row(t, first=t == 4, last=t == 1) for t in (0, 1, 2, 3, 4, 5, 60, 61)]

    outputs = predict(LastRecords(columns, length=9, idle_after=20), records)

    assert in_order(outputs.sequences) == [[0], [0, 1], [2], [2, 3], [4], [4, 5], [60], [60, 61]]


@pytest.mark.parametrize("engine", STREAM_ENGINES)
def test_in_a_live_stream(engine):
    events = [row(2), row(0)], 3, [row(1), row(5)], 9

    outputs = predict_stream(LastRecords(COLUMNS, length=2), *events, engine=engine)

    assert in_order(outputs.sequences) == [[0], [0, 2], [2, 5]]
    assert [r.inputs for r in outputs.late] == [[1.0, 101.0]]


def test_invalid_arguments_are_refused():
    with pytest.raises(ConfigurationError, match=r"length must be .* got 0"):
        LastRecords(COLUMNS, length=0)
    with pytest.raises(ConfigurationError, match="columns must be a Columns, got 'x'"):
        LastRecords("x", length=3)
