import math
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from beam_rnn import Bptt, Columns, Network, Predict, Sequences, Train, Training, WriteModel
from beam_rnn import weights as weights_file
from beam_rnn.data.calendar import CYCLES, PLACES, cycle_numbers
from beam_rnn.errors import ConfigurationError
from tests.helpers.batches import batch_of, predictions_in
from tests.helpers.engines import predict, run

COLUMNS = Columns(
    key="id", time="t", inputs=["x"], static=["size"], calendar=["day", "week", "year", "hour"]
)
START = 1_500_000_000
RECORDS = [
    {"id": f"k{i}", "t": START + 5000 * t, "x": float(i + np.sin(t)), "size": 10.0 * i}
    for i in range(3)
    for t in range(30)
]


def test_a_time_is_a_point_on_each_circle():
    """As the datetime of Python has it: a week from Monday on, a leap year longer."""
    random = np.random.default_rng(0)
    ranges = [(0, 2_000_000_000), (-2_000_000_000, 0), (-62_135_596_800, 253_370_764_800)]
    times = np.concatenate([random.integers(*ends, 300) for ends in ranges]) * 1_000_000
    found = cycle_numbers(CYCLES, times)

    for micros, numbers in zip(times.tolist(), found, strict=True):
        at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
        year = datetime(at.year, 1, 1, tzinfo=timezone.utc)
        days = (at - year.replace(month=at.month, day=at.day)) / timedelta(days=1)
        length = year.replace(year=at.year + 1) - year
        parts = days * 24 % 1, days, (at.weekday() + days) / 7, (at - year) / length
        for i, part in enumerate(parts):
            angle = 2 * math.pi * part
            near = 2 * math.pi / PLACES
            assert numbers[2 * i : 2 * i + 2] == pytest.approx(
                [math.sin(angle), math.cos(angle)], abs=near
            )


def test_one_time_or_many_have_the_same_bits():
    times = np.arange(1000) * 7_777_777_777
    for i in (0, 7, 999):
        np.testing.assert_array_equal(
            cycle_numbers(CYCLES, times[i : i + 1])[0], cycle_numbers(CYCLES, times)[i]
        )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    import apache_beam as beam

    path = tmp_path_factory.mktemp("cycles") / "weights.arrow"
    training = Training(epochs=2, bptt=Bptt(steps=10))
    run(
        lambda p: (
            p
            | beam.Create(RECORDS)
            | Sequences(COLUMNS)
            | Train(Network("gru", 6), training)
            | WriteModel(path)
        )
    )
    return path


def test_static_inputs_are_scaled_over_all_keys_and_calendar_inputs_are_not(path):
    model = weights_file.load(path)

    assert model.columns == COLUMNS
    assert model.inputs == COLUMNS.input_size == 2 + 8
    of_keys = [model.scaler.of(f"k{i}") for i in range(3)]
    assert len({float(scaling.inputs_center[0]) for scaling in of_keys}) == 3
    for scaling in of_keys:
        assert scaling.inputs_center[1] == pytest.approx(10.0)
        assert scaling.inputs_scale[1] == pytest.approx(np.std([0, 10, 20]))
        np.testing.assert_array_equal(scaling.inputs_center[2:], 0)
        np.testing.assert_array_equal(scaling.inputs_scale[2:], 1)


@pytest.mark.parametrize("shards", [None, 2])
def test_a_stream_has_the_inputs_of_training(path, shards):
    """By rows and by Arrow batches, a bad time among them: the bits of one forward pass."""
    model = weights_file.load(path)
    bad = {**RECORDS[0], "t": 10**11}
    records = [*RECORDS, bad]

    by_rows = predict(Predict(path, shards=shards), records)
    by_batch = predict(Predict(path, shards=shards), [batch_of(records)])

    assert [letter.reason for letter in by_rows.invalid] == [
        letter.reason for letter in by_batch.invalid
    ]
    assert len(by_rows.invalid) == 1
    for i in range(3):
        times = np.array([r["t"] for r in RECORDS if r["id"] == f"k{i}"]) * 1_000_000
        x = np.array([[r["x"], r["size"]] for r in RECORDS if r["id"] == f"k{i}"])
        inputs = np.concatenate([x, cycle_numbers(COLUMNS.calendar, times)], 1)
        y = model.restored(f"k{i}", model.forward(model.scaled(f"k{i}", inputs)[np.newaxis])[0])
        rows = sorted((r for r in by_rows.predictions if r.key == f"k{i}"), key=lambda r: r.step)
        np.testing.assert_array_equal([r.outputs for r in rows], y)
    found = {(r.key, r.step): tuple(r.outputs) for r in by_rows.predictions}
    rows = predictions_in(by_batch.predictions, COLUMNS, model.output_names)
    assert {(r.key, r.step): tuple(r.outputs) for r in rows} == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"calendar": ["month"]}, "calendar must be one of hour, day, week, year, got 'month'"),
        ({"calendar": "day"}, "calendar must be a list of names, got 'day'"),
        ({"static": ["x"]}, "inputs and static both name x"),
        ({"static": [3]}, r"static must be a list of names, got \[3\]"),
    ],
)
def test_invalid_columns_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Columns(key="id", inputs=["x"], **arguments)
