"""`PredictAndLearn`: the same bits for all orders of arrival; ends, models, metrics."""

import random
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.transforms.window import Sessions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_rnn import (
    Bptt,
    Columns,
    EndedSequence,
    Network,
    Predict,
    PredictAndLearn,
    Prediction,
    WriteModel,
    weights,
)
from beam_rnn.errors import ConfigurationError
from beam_rnn.models.state_format import last_step
from beam_rnn.nn.bptt import Learner
from beam_rnn.online import Learning, Running, Untrained
from beam_rnn.optim import Adam, Sgd
from beam_rnn.records.record_format import decode_record, encode_record
from beam_rnn.streaming.sources import Base, LearnSource
from beam_rnn.training.online.gate import Evidence, Mean
from beam_rnn.training.online.learned_format import (
    Learned,
    Place,
    Recent,
    decode_learned,
    encode_learned,
    name_of,
)
from beam_rnn.training.online.prequential import Prequential
from beam_rnn.training.online.running_scaler import Statistics
from tests.helpers.engines import ENGINES as BATCH_ENGINES
from tests.helpers.engines import Outputs, predict, run
from tests.helpers.models import COLUMNS, random_model, saved
from tests.helpers.streams import ENGINES, START, predict_stream
from tests.transforms.test_predict import row

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden" / "learned-v82.hex"
SECOND = 1_000_000
LEARNING = Learning(Bptt(steps=3, stride=2), loss="mse", optimizer=Adam(0.05))
BASE = Untrained(Network("gru", hidden=3, residual=True), COLUMNS, seed=4)


def expected(base, learning, rows, idle_after=None):
    """Return the expected results of sorted records, key by key, computed without Beam."""
    prequential = Prequential(base, learning)
    predictions = []
    for key in sorted({r["id"] for r in rows}):
        state, before = prequential.begin(), None
        for t, _, _, _, numbers in map(decode_record, sorted(set(encoded(rows, key)))):
            if idle_after is not None and before is not None and t - before > idle_after * SECOND:
                state = prequential.begin()
            state, before = prequential.take(state, key, numbers), t
            name = name_of(base.digest, state.made_by)
            made = state.steps, state.outputs.tolist(), name, b"", 0, base.kernel
            predictions.append(Prediction(key, t, *made))
    return predictions


@pytest.mark.parametrize("engine", BATCH_ENGINES)
@pytest.mark.parametrize("of_file", [True, False], ids=["file", "untrained"])
def test_shuffled_records_are_trained_on_in_order(engine, of_file, tmp_path):
    base = random_model() if of_file else BASE.model()
    records = [row(t, key) for t in range(30) for key in ("a", "b", "never seen")]
    shuffled = random.Random(0).sample(records, len(records))
    transform = PredictAndLearn(saved(base, tmp_path) if of_file else BASE, LEARNING)

    outputs = predict(transform, shuffled, engine)

    assert sorted(outputs.predictions) == sorted(expected(base, LEARNING, records))
    assert len({p.model for p in outputs.predictions}) > 1
    assert {e.reason for e in outputs.ended} == {"window"}
    assert not outputs.models


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 25), st.integers(-2, 2)),
        min_size=1,
        max_size=40,
    ),
    cuts=st.sets(st.integers(1, 39), max_size=5),
    chance=st.randoms(use_true_random=False),
    idle=st.sampled_from([None, 4]),
)
def test_the_same_records_give_the_same_bits_however_they_arrive(rows, cuts, chance, idle):
    """Late by up to the wait, in bundles of any size, with duplicates and ties."""
    records = [row(t, key, x=x / 3) for key, t, x in rows]
    arrivals = [(r["t"] - START + chance.choice([0, 0, 3, 7]), r) for r in records]
    arrivals.sort(key=lambda pair: pair[0])
    events, bundle = [], []
    for clock, record in arrivals:
        if bundle and any(bundle[-1]["at"] - START < cut <= clock for cut in cuts):
            events += [bundle, clock]  # all that comes from here on is at or after the watermark
            bundle = []
        bundle.append(record | {"at": START + clock})
    events.append(bundle)
    transform = PredictAndLearn(BASE, LEARNING, wait=8, idle_after=idle)

    outputs = predict_stream(transform, *events, time="at")

    assert not outputs.late
    wanted = expected(BASE.model(), LEARNING, records, idle)
    assert sorted(outputs.predictions) == sorted(wanted)


def stepper(learning=LEARNING, base=BASE, **settings):
    steps = {"idle_after": None, "checkpoint_every": None} | settings
    return LearnSource(Base(base, "auto"), learning, **steps).stepper()


def encoded(records, key="a"):
    return [
        encode_record(r["t"] * SECOND, 0, np.array([r["x"], r["y"], r["x"]]))
        for r in records
        if r["id"] == key
    ]


def test_a_bundle_that_is_tried_again_gives_the_same():
    here = stepper()
    records = encoded([row(t) for t in range(40)])
    before, _ = here.step("a", None, records[:20])
    kept = bytes(before)

    once, again = here.step("a", before, records[20:]), stepper().step("a", before, records[20:])

    assert before == kept
    assert once == again
    assert last_step(once[0]) == ((START + 39) * SECOND, 0)


def test_stored_bytes_stay_readable():
    """What a running job has learned: a change here loses it."""
    place = Place("ab" * 32, "fused", b"settings", 1_404_172_800_000_000, 1_404_172_800_000_001, -3)
    single, double = np.array([[1.5, -2.0]], np.float32), np.array([0.25])
    learner = Learner({"w": single}, {"updates": 3, "mean": {"w": single / 2}})
    recent = Recent(
        single, double[None], double[None] / 2, double, single, single, double, double[None]
    )
    evidence = Evidence(Mean(9.5, -0.75, 4.25), Mean(2.5, 0.75, 0.25), 4, 1)
    learned = Learned(learner, 3, 1, 2, Statistics(double, double, double), evidence,
                      9, 8, single[0], single[0], single[0], recent, double, 2)  # fmt: skip
    data = bytes.fromhex(GOLDEN.read_text())

    assert encode_learned(place, learned) == data
    read = decode_learned(data, learned, place)
    assert encode_learned(*read) == data


def test_a_job_does_not_go_on_with_other_settings():
    state, _ = stepper().step("a", None, encoded([row(t) for t in range(5)]))
    slower = replace(LEARNING, optimizer=Adam(1e-4))

    assert stepper(slower).step("a", state, encoded([row(5)]))[1]
    for other in (
        stepper(replace(LEARNING, bptt=Bptt(steps=4))),
        stepper(replace(LEARNING, scaler=Running(0.9))),
        stepper(replace(LEARNING, optimizer=Sgd(0.1))),
        stepper(base=replace(BASE, seed=5)),
    ):
        with pytest.raises(Exception, match="go on with the old weights, kernel and settings"):
            other.step("a", state, encoded([row(5)]))


def test_models_come_out_and_predict(tmp_path):
    records = [row(t, key) for t in range(40) for key in "ab"]
    transform = PredictAndLearn(BASE, LEARNING, checkpoint_every=7)
    path = tmp_path / "learned.arrow"

    def build(p):
        outputs = p | beam.Create(records, reshuffle=False) | transform
        last = outputs.models | beam.Filter(
            lambda pair: pair[0] == "a" and pair[1].training["updates"] == 19
        )
        _ = last | beam.Map(lambda pair: pair[1]) | WriteModel(path)
        return Outputs(outputs)

    outputs, _ = run(build)

    counts = sorted((key, model.training["updates"]) for key, model in outputs.models)
    assert counts == [(key, n) for key in "ab" for n in (7, 14, 19)]
    for key, model in outputs.models:
        assert model.training["learned_from"] == BASE.model().digest
        if (key, model.training["updates"]) == ("a", 19):
            assert model == weights.load(path)
    again = predict(Predict(path), records)
    assert len(again.predictions) == 80
    assert np.isfinite([p.outputs for p in again.predictions]).all()


def test_marks_end_a_sequence_and_idleness_forgets_its_key():
    columns = replace(COLUMNS, start="first", end="last")
    base = replace(BASE, columns=columns)
    records = [row(t, first=t == 10, last=t == 19) for t in range(30)]
    records += [row(t + 100, first=False, last=False) for t in range(30)]

    outputs = predict(PredictAndLearn(base, LEARNING, idle_after=50, checkpoint_every=99), records)

    ended = sorted(outputs.ended, key=lambda e: e.first_time)
    assert [(e.steps, e.reason) for e in ended] == [
        (10, "start"), (10, "end"), (10, "idle"), (30, "idle"),
    ]  # fmt: skip
    assert all(type(e) is EndedSequence for e in ended)
    # Windows of each sequence: of steps 0-2, 2-4, 4-6, 6-8 of 9 that are complete.
    assert sorted(model.training["updates"] for _, model in outputs.models) == [4, 8, 12, 14]


def test_invalid_records_are_dead_letters_and_do_not_affect_learning():
    learning = replace(LEARNING, scaler=Running(log=True))
    good = [row(t, x=2 + np.sin(t)) for t in range(20)]
    bad = [row(3.5, x=-1.0), row(4.5, x=None), {"id": "a"}]

    outputs = predict(PredictAndLearn(BASE, learning), [*good, *bad])

    assert sorted(outputs.predictions) == sorted(expected(BASE.model(), learning, good))
    assert sorted(letter.reason for letter in outputs.invalid) == [
        "targets must be above 0 for Running(log=True)",
        "the record has no field 't'",
        "x is missing",
    ]


def test_the_metrics_of_online_learning():
    records = [row(t) for t in range(20)]
    wild = Learning(Bptt(steps=2), clip_norm=None, optimizer=Sgd(1e38))

    def counted(learning):
        _, result = run(
            lambda p: Outputs(p | beam.Create(records) | PredictAndLearn(BASE, learning))
        )
        found = result.metrics().query(MetricsFilter().with_namespace("beam_rnn"))["counters"]
        return {c.key.metric.name: c.committed for c in found}

    calm, out_of_range = counted(LEARNING), counted(wild)

    assert calm["num_inferences"] == out_of_range["num_inferences"] == 20
    assert calm["updates"] == 9
    assert calm["sequences_ended"] == 1
    assert "updates_refused" not in calm
    assert out_of_range["updates_refused"] > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_late_record_of_a_live_stream_is_not_trained_on(engine):
    events = [row(t) | {"at": START + t} for t in (2, 0, 1)], 3, [row(1) | {"at": START + 3}], 9

    outputs = predict_stream(PredictAndLearn(BASE, LEARNING), *events, engine=engine)

    assert sorted(p.step for p in outputs.predictions) == [1, 2, 3]
    assert len(outputs.late) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PredictAndLearn(7), "base must be the path of a file, got 7"),
        (lambda: PredictAndLearn(BASE, "fast"), "learning must be a Learning, got 'fast'"),
        (lambda: PredictAndLearn(BASE, checkpoint_every=0), "checkpoint_every must be a whole"),
        (
            lambda: PredictAndLearn("w", Learning(scaler=Running(log=True)), checkpoint_every=1),
            "needs a scaling that a weights file can hold",
        ),
        (lambda: PredictAndLearn(BASE, order="time"), "order must be one of"),
        (
            lambda: PredictAndLearn(BASE, Learning(loss="cross_entropy")),
            "loss='cross_entropy' does not fit a network",
        ),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_windows_that_merge_are_refused():
    columns = Columns(key="id", inputs=["x"])
    pipeline = beam.Pipeline()
    records = pipeline | beam.Create([{}]) | beam.WindowInto(Sessions(10))
    with pytest.raises(ConfigurationError, match="PredictAndLearn cannot carry a state across"):
        _ = records | PredictAndLearn(Untrained(Network("gru"), columns))


def test_online_learning_uses_static_and_calendar_inputs():
    columns = Columns(
        key="id", time="t", inputs=["x"], static=["size"], calendar=["day"], horizon=1
    )
    rows = [
        {"id": key, "t": 3600 * t, "x": size * (t % 4), "size": size}
        for t in range(60)
        for key, size in (("a", 1.0), ("b", 10.0))
    ]
    base = Untrained(Network("gru", hidden=4, residual=True), columns)
    learning = Learning(Bptt(steps=4), optimizer=Adam(0.01), gate=None)

    outputs = predict(PredictAndLearn(base, learning), rows)

    assert not outputs.invalid
    assert len(outputs.predictions) == len(rows)
    assert all(np.isfinite(row.outputs).all() for row in outputs.predictions)
    assert any("+" in row.model for row in outputs.predictions)
