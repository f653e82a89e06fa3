"""Key by key, in shards and as Arrow batches of one row: the same timestamps and duplicates."""

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_rnn import Columns, Model, Network, Predict
from tests.helpers.batches import batch_of
from tests.helpers.engines import Collect
from tests.helpers.models import saved
from tests.helpers.streams import START, predict_stream

COLUMNS = Columns(
    key="id", time="t", inputs=["x", "y"], targets=["x"], sequence="n", start="first",
    end="last", missing="carry",
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    network = Network("gru", hidden=4)
    parameters = network.initialize(COLUMNS.input_size, COLUMNS.target_size, seed=0)
    return saved(Model(network, parameters, COLUMNS), tmp_path_factory.mktemp("weights"))


def record(t, key="a", at=None, **more):
    """A record that arrives with the Beam timestamp `at`, after its time where none is said."""
    values = {"x": t / 4, "y": 1.0, "n": t, "first": False, "last": False}
    at = t if at is None else at
    return {"id": key, "t": START + t, "at": START + at, **values, **more}


def came_out(weights, shards, *events, **arguments):
    """Return the predictions with their Beam timestamps, and the late records."""
    batches = shards == "batches"
    stamped, late = Collect(), Collect()

    def stamp(rows, at=beam.DoFn.TimestampParam):
        if batches:
            names = "id", "t", "prediction_step", "x_prediction"
            rows = zip(*(rows[name].to_pylist() for name in names), strict=True)
            rows = [(key, t * 10**6, *row) for key, t, *row in rows]
        else:
            rows = [(*rows[:3], rows.outputs[0])]
        return rows, float(at) - START

    class Stamped(beam.PTransform):
        def expand(self, records):
            outputs = records | Predict(weights, shards=2 if batches else shards, **arguments)
            _ = outputs.predictions | "Stamp" >> beam.Map(stamp) | stamped
            _ = (
                outputs.late
                | beam.Map(lambda row, at=beam.DoFn.TimestampParam: (row.key, row.time, float(at)))
                | "Late" >> late
            )
            return outputs

    at = (lambda batch: batch["at"][0].as_py()) if batches else "at"
    if batches:
        events = [[batch_of([r]) for r in e] if isinstance(e, list) else e for e in events]
    predict_stream(Stamped(), *events, time=at, kind=pa.Table if batches else None)
    return stamped.elements, sorted(late.elements)


def by_row(came):
    return {row: at for rows, at in came for row in rows}


STREAMS = {
    "each in its turn": ({}, [record(t, key) for t in range(3) for key in "ab"], 5),
    "one takes another along that is due later": (
        {},
        [record(5), record(3, at=9), record(1, "b"), record(4, "b", at=9)],
        7,
        20,
    ),
    "the watermark jumps": (
        {},
        [record(5), record(3, at=9), record(1, "b"), record(4, at=30)],
    ),
    "twice, the second with a later timestamp": (
        {},
        [record(1, x=None), record(1, at=3, x=None), record(2, at=2), record(2, at=7)],
        20,
    ),
    "one time, other numbers": ({}, [record(1, at=6), record(1, at=2, x=0.5), record(3)], 20),
    "late": ({}, [record(5), record(5, "b")], 7, [record(3, at=8), record(3, "b", at=7)], 20),
    "numbers that follow": (
        {"order": "sequence"},
        [record(1), record(1, "b", at=0)],
        3,
        [record(2, at=6), record(3, at=5), record(4, at=8), record(2, "b", at=4)],
        [record(6, at=9), record(5, at=10), record(6, at=9), record(2, at=11)],
        30,
    ),
    "numbers with a gap": (
        {"order": "sequence"},
        [record(1), record(3, at=4), record(4, at=9), record(5, at=5), record(2, "b")],
        30,
    ),
    "at once": (
        {"order": "arrival"},
        [record(3, at=4), record(1, at=2), record(2, "b", at=9)],
        10,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_predictions_have_the_same_timestamps(name, weights):
    arguments, *events = STREAMS[name]

    alone, late = came_out(weights, None, *events, **arguments)

    expected = by_row(alone)
    assert expected
    for shards in (1, 3, "batches"):
        found, found_late = came_out(weights, shards, *events, **arguments)
        assert sorted(row for rows, _ in found for row in rows) == sorted(expected), shards
        assert found_late == late, shards
        for rows, at in found:  # a batch is due when the last of its rows is
            assert at == max(expected[row] for row in rows), (shards, rows)


@pytest.mark.parametrize("shards", [None, 1, "batches"])
def test_a_record_is_due_with_an_earlier_due_record_behind_it(shards, weights):
    """The one at 3 arrives with the timestamp 9, and the one at 5 does not wait for it."""
    found, _ = came_out(weights, shards, [record(5), record(3, at=9)], 20)

    assert {(row[1] / 10**6 - START, row[2], at) for row, at in by_row(found).items()} == {
        (3, 1, 5.5),
        (5, 2, 5.5),
    }


@pytest.mark.parametrize("shards", [None, 1, "batches"])
@pytest.mark.parametrize(
    ("other", "steps"),
    [
        ({}, 1),
        ({"x": float("nan")}, 1),
        ({"at": 4}, 1),
        ({"y": 2.0}, 2),
        ({"n": 3}, 2),
        ({"first": True}, 2),
        ({"last": True}, 2),
    ],
    ids=str,
)
def test_a_duplicate_is_a_record_with_equal_time_number_marks_and_inputs(
    shards, other, steps, weights
):
    """Equal time, number, marks and inputs, missing ones too; when it arrived does not count."""
    one = record(2, x=None)
    again = {**one, **other}
    again["at"] = START + other.get("at", 2)

    found, _ = came_out(weights, shards, [one, again, record(3)], 20)

    times = [time for rows, _ in found for _, time, *_ in rows]
    assert times.count((START + 2) * 10**6) == steps
