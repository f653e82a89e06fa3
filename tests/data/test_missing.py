"""Missing values: they are carried forward and marked for the network."""

import math
import random
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from beam_rnn import (
    Bptt,
    Columns,
    ExportStates,
    ImportStates,
    Model,
    Network,
    Predict,
    Sequences,
    Train,
    Training,
    WriteModel,
)
from beam_rnn import weights as weights_file
from beam_rnn.data.missing_values import carry_forward, carry_through
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.records.cutting import cut
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.testing import oracle
from beam_rnn.training.fit import fit_sequences
from tests.helpers.batches import batch_of, predictions_in
from tests.helpers.engines import Collect, predict, run

COLUMNS = Columns(
    key="id", time="t", inputs=["x", "y"], targets=["x"], calendar=["day"], missing="carry"
)
GONE = (None, math.nan, float("nan"), np.float32("nan"))


def records(keys=3, length=40, seed=0):
    chance = random.Random(seed)
    rows = []
    for i in range(keys):
        for t in range(length):
            row = {
                "id": f"k{i}",
                "t": 1_500_000_000 + 3600 * t,
                "x": math.sin(t / (3 + i)),
                "y": 5.0 + i,
            }
            for name in ("x", "y"):
                if chance.random() < 0.3:
                    row[name] = chance.choice(GONE)
            rows.append(row)
    return rows


def filled(rows):
    """Return the inputs of the network, computed by a plain loop."""
    seen = []
    last = [0.0] * rows.shape[1]
    for row in rows:
        last = [old if math.isnan(new) else new for old, new in zip(last, row, strict=True)]
        seen.append([*last, *(0.0 if math.isnan(new) else 1.0 for new in row)])
    return np.array(seen)


def test_carried_values_match_those_of_a_plain_loop():
    chance = np.random.default_rng(0)
    lengths = [9, 9, 6, 1]
    sequences = [
        np.where(chance.random((n, 3)) < 0.4, np.nan, chance.random((n, 3))) for n in lengths
    ]
    for sequence in sequences:
        extra = np.ones((len(sequence), 1))
        found = carry_through(np.concatenate([sequence, extra], 1), 3)
        expected = filled(sequence)
        np.testing.assert_array_equal(
            found, np.concatenate([expected[:, :3], extra, expected[:, 3:]], 1)
        )
    running = np.array([sum(n > step for n in lengths) for step in range(9)])
    packed = np.concatenate([[s[t] for s in sequences if t < len(s)] for t in range(9)])
    found, carried = carry_forward(np.zeros((4, 3)), packed, running)
    expected = np.concatenate([[filled(s)[t] for s in sequences if t < len(s)] for t in range(9)])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(carried, expected[:, :3])


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("missing") / "weights.arrow"
    training = Training(epochs=3, bptt=Bptt(steps=10), validation=0.2)
    run(
        lambda p: (
            p
            | beam.Create(records())
            | Sequences(COLUMNS)
            | Train(Network("lstm", (5, 4), residual=True), training)
            | WriteModel(path)
        )
    )
    return path


@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_a_stream_gives_the_predictions_of_the_plain_loop(path, shards, order):
    """Rows and Arrow batches, with None and NaN; the state with what is carried in it."""
    model = weights_file.load(path)
    rows = records(seed=1)
    expected = oracle(model, rows, with_state=True)

    transform = Predict(path, order=order, shards=shards, with_state=True)
    arriving = random.Random(2).sample(rows, len(rows)) if order == "event_time" else rows
    outputs = predict(transform, arriving)

    assert not outputs.invalid
    assert sorted(outputs.predictions) == sorted(expected.predictions)
    assert {len(row.state) for row in outputs.predictions} == {4 * (2 * (5 + 4) + 2)}
    as_batch = predict(Predict(path, order=order, shards=shards, with_state=True), [batch_of(rows)])
    found = predictions_in(as_batch.predictions, COLUMNS, model.output_names)
    assert {(r.key, r.step, tuple(r.outputs), r.state) for r in found} == {
        (r.key, r.step, tuple(r.outputs), r.state) for r in expected.predictions
    }


def test_a_forward_pass_carries_too(path):
    model = weights_file.load(path)
    expected = oracle(model, records(keys=1)).predictions
    reader = RecordReader(COLUMNS)
    from beam_rnn.records.record_format import decode_record

    numbers = np.array([decode_record(reader.read(row).data).numbers for row in records(keys=1)])
    y = model.restored("k0", model.forward(model.scaled("k0", numbers)[np.newaxis])[0])

    np.testing.assert_array_equal(y, [row.outputs for row in expected])


def test_a_stream_continues_with_the_carried_values(path, tmp_path):
    rows = records()
    history = [r for r in rows if r["t"] < 1_500_000_000 + 3600 * 20]
    later = [r for r in rows if r["t"] >= 1_500_000_000 + 3600 * 20]
    model = weights_file.load(path)
    whole = {(r.key, r.time): r.outputs for r in oracle(model, rows).predictions}

    run(
        lambda p: (
            (p | beam.Create(history) | Predict(path, with_state=True)).ended
            | ExportStates(tmp_path / "states")
        )
    )
    collect = Collect()
    run(
        lambda p: (
            (
                p
                | beam.Create(later)
                | Predict(path, states=p | ImportStates(tmp_path / "states*"))
            ).predictions
            | collect
        )
    )

    assert len(collect.elements) == len(later)
    for row in collect.elements:
        assert row.outputs == whole[row.key, row.time]


def test_a_missing_target_has_no_effect_on_training():
    """Two series that differ only where the target is missing give the same model."""
    columns = Columns(
        key="id", time="t", inputs=["x"], targets=["y"], horizon=(0, 1), missing="carry"
    )
    reader = RecordReader(columns, targets=True)
    rows = [
        {"id": "a", "t": t, "x": math.sin(t), "y": None if t % 4 == 0 else math.cos(t)}
        for t in range(40)
    ]
    (sequence,) = cut("a", [reader.read(row).data for row in rows], columns)
    gone = np.isnan(sequence.targets)

    np.testing.assert_array_equal(sequence.weights, ~gone)
    other = sequence._replace(targets=np.where(gone, 7.0, sequence.targets))
    network, training = Network("gru", 4), Training(epochs=2, bptt=Bptt(steps=10), scaler="none")
    model, same = (fit_sequences(network, [each], training) for each in (sequence, other))
    for name, value in same.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    scaler = fit_sequences(network, [sequence], Training(epochs=1)).scaler
    present = [math.cos(t) for t in range(39) if t % 4]
    assert scaler.of("a").targets_center[0] == pytest.approx(np.mean(present))


def test_scaling_is_by_the_values_that_there_are():
    nothing = [{"id": "none", "t": t, "x": float(t), "y": None} for t in range(9)]
    reader = RecordReader(COLUMNS, targets=True)

    def sequences(rows):
        by_key = {}
        for row in rows:
            by_key.setdefault(row["id"], []).append(reader.read(row).data)
        return [s for key, data in by_key.items() for s in cut(key, data, COLUMNS)]

    for scaling in ("standard", "min_max", "robust"):
        training = Training(epochs=1, bptt=Bptt(steps=10), scaling=scaling)
        model = fit_sequences(Network("gru", 4), sequences([*records(), *nothing]), training)
        scaler = model.scaler
        assert scaler.of("none").inputs_center[1] == scaler.default.inputs_center[1]
        assert scaler.of("none").inputs_scale[1] == scaler.default.inputs_scale[1]
        assert scaler.of("k1").inputs_center[1] == 6.0
        assert all(np.isfinite(part).all() for part in scaler.of("k0"))
    with pytest.raises(TrainingError, match="every value of 'y' is missing: there is nothing to"):
        fit_sequences(Network("gru", 4), sequences(nothing), Training(epochs=1))


def test_missing_values_are_refused_by_default():
    reader = RecordReader(Columns(key="id", time="t", inputs=["x"]))
    for value in (None, math.nan):
        with pytest.raises(ValueError, match=r"x (is missing|must be finite)"):
            reader.read({"id": "a", "t": 1, "x": value})
    with pytest.raises(
        ConfigurationError, match="missing must be one of refuse, drop, carry, got 'skip'"
    ):
        Columns(key="id", inputs=["x"], missing="skip")


def test_a_column_of_nulls_alone_is_missing(path):
    table = pa.table({"id": ["k0", "k0"], "t": [1.0, 2.0], "x": [1.0, 2.0], "y": pa.nulls(2)})
    rows = [{"id": "k0", "t": t, "x": t, "y": None} for t in (1.0, 2.0)]

    outputs = predict(Predict(path), [table])

    assert not outputs.invalid
    model = weights_file.load(path)
    found = predictions_in(outputs.predictions, COLUMNS, model.output_names)
    assert [r.outputs for r in found] == [list(r.outputs) for r in oracle(model, rows).predictions]


def test_online_learning_refuses_missing_values(path):
    from beam_rnn import PredictAndLearn
    from beam_rnn.online import Untrained

    refused = "missing='carry' is for Train and Predict: what is learned in the stream needs"
    with pytest.raises(ConfigurationError, match=refused):
        Untrained(Network("gru", 3), COLUMNS)
    with pytest.raises(Exception, match=refused):
        run(lambda p: p | beam.Create(records(1, 9)) | PredictAndLearn(path))


def test_records_with_a_missing_value_can_be_dropped():
    """`Sequences` goes on without them, and with nothing else that cannot be used."""
    columns = Columns(key="id", time="t", inputs=["x"], missing="drop")
    rows = [{"id": "a", "t": t, "x": None if t in (2, 5) else float(t)} for t in range(9)]
    collect, dead = Collect(), Collect()

    def build(p):
        sequences = p | beam.Create(rows) | Sequences(columns)
        _ = sequences | collect
        good, bad = (
            p
            | "Again" >> beam.Create(rows)
            | "Other" >> (Sequences(columns).with_exception_handling())
        )
        _ = bad | "Dead" >> dead
        _ = good | "Good" >> Collect()

    run(build)
    (sequence,) = collect.elements
    assert sequence.inputs[:, 0].tolist() == [0, 1, 3, 4, 6, 7]
    assert [letter.value for letter in dead.elements] == ["None", "None"]
    with pytest.raises(Exception, match="x must be a number, got 'n/a'"):
        run(
            lambda p: (
                p | beam.Create([*rows, {"id": "a", "t": 99, "x": "n/a"}]) | Sequences(columns)
            )
        )


def test_the_report_and_the_figures_leave_out_what_is_missing(path):
    from beam_rnn.cli.baselines import score
    from beam_rnn.report import report

    model = weights_file.load(path)
    reader = RecordReader(COLUMNS, targets=True)
    by_key = {}
    for row in records():
        by_key.setdefault(row["id"], []).append(reader.read(row).data)
    sequences = [s for key, data in by_key.items() for s in cut(key, data, COLUMNS)]

    page = report(model, sequences)
    assert page.count("<svg") > 2
    assert "nan" not in page.lower()
    own = [row for row in records() if row["id"] == "k0"]
    unseen = replace(model, training={})  # as if training had seen none of these records
    found = score(unseen, "k0", by_key["k0"], oracle(model, own, with_state=True).predictions)
    assert found.bit_equal
    assert 0 < found.model_mae < 10
    assert 0 < found.last_value_mae < 10


@pytest.mark.parametrize("kernel", ["numpy", "auto"])
def test_a_bidirectional_pass_carries_forward_too(kernel):
    """Each sequence from its own beginning; the state says what is carried last."""
    network = Network("lstm", (5, 4), bidirectional=True)
    parameters = network.initialize(COLUMNS.input_size, 1, seed=0)
    model = Model(network, parameters, COLUMNS, kernel=kernel)
    sees_all = Model(network, parameters, kernel=kernel)
    chance, lengths = np.random.default_rng(0), [4, 9, 0]
    x = chance.standard_normal((3, 9, COLUMNS.number_size)).astype(np.float32)
    x[:, :, :2][chance.random((3, 9, 2)) < 0.3] = np.nan

    y, states = model.run(x, lengths)

    for i, length in enumerate(lengths[:2]):
        seen = carry_through(x[i, :length], 2).astype(np.float32)
        np.testing.assert_array_equal(y[i, :length], sees_all.forward(seen[np.newaxis])[0])
        np.testing.assert_array_equal(states[i, -2:], seen[-1, :2])
    np.testing.assert_array_equal(states[2, -2:], [0, 0])
