"""A bidirectional network in a stream: fixed-lag windows, ends, order, state."""

import random
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_rnn import Columns, Model, Network, Predict, Smooth
from beam_rnn.core.packed_sequences import rows_of, running_at
from beam_rnn.data.scaling import Scaler
from beam_rnn.engine.steppers import smooth as smoothing
from beam_rnn.errors import ConfigurationError, StateError
from beam_rnn.models.bidirectional import BothDirections
from beam_rnn.models.model_checks import check_smooths
from beam_rnn.models.state_format import decode_state
from beam_rnn.nn.kernels import fused_is_installed
from beam_rnn.records.record_format import encode_record
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.sources import SmoothSource
from tests.helpers.engines import ENGINES, ON_PRISM, Collect, predict, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.helpers.smoothing import by_definition, expected
from tests.helpers.streams import ENGINES as STREAM_ENGINES
from tests.helpers.streams import START, predict_stream
from tests.streaming.test_streaming import Simulated, by_window
from tests.transforms.test_predict import BAD, row

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden"
SECOND = 1_000_000
MARKED = replace(COLUMNS, start="first", end="last")
NETWORKS = [
    Network("gru", 33, bidirectional=True, residual=True),
    Network("lstm", (9, 5), bidirectional=True, initial_state="learned"),
    Network("rnn", 5, layers=3, bidirectional=True, merge="sum"),
    Network("gru", 7, layers=2, bidirectional=True, merge="mul", reset_after=False),
    Network("lstm", 6, bidirectional=True, merge="ave", activation="tanh"),
]
ONE_LAYER, STACK = NETWORKS[0], NETWORKS[1]
QUIET = [HealthCheck.function_scoped_fixture]
KERNELS = ["numpy", *(["fused"] if fused_is_installed() else [])]


def model_of(network, columns=COLUMNS, kernel="numpy", seed=0):
    return random_model(network, columns, seed).with_kernel(kernel)


@pytest.fixture(scope="module")
def model():
    return model_of(STACK)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("weights"))


def smoother(path, lag, idle_after=None, kernel="numpy"):
    loader = ModelLoader(str(path), kernel=kernel, check=check_smooths)
    return SmoothSource(loader, lag, idle_after).stepper()


def random_x(steps, inputs=2):
    return np.random.default_rng(0).standard_normal((steps, inputs)).astype(np.float32)


def outputs_of(model, x, lag, pieces):
    """The outputs of a sequence that comes in pieces."""
    both = BothDirections(model)
    state, kept, outputs = both.initial_state, x[:0], []
    for piece in pieces:
        here = np.concatenate([kept, piece])
        windows = both.windows(state, here, len(kept), lag)
        assert windows.finite
        outputs.append(windows.y[: windows.given])
        state, kept = windows.state, here[windows.given :]
    if len(kept):
        outputs.append(both.run(kept, np.ones(len(kept), int), state[np.newaxis])[0])
    return np.concatenate(outputs)


@pytest.mark.parametrize("lag", [0, 1, 4, 30])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.to_json()))
def test_each_output_is_that_of_a_pass_over_its_window(network, lag):
    model, x = model_of(network), random_x(20)

    actual = outputs_of(model, x, lag, [x])

    np.testing.assert_array_equal(actual, by_definition(model, x, lag))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lag", [0, 1, 4, 30])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.to_json()))
def test_the_bits_do_not_depend_on_the_bundles(network, lag, kernel):
    model, x = model_of(network, kernel=kernel), random_x(20)
    at_once = outputs_of(model, x, lag, [x])

    for pieces in (np.split(x, 20), np.split(x, [1, 9, 10, 16])):
        np.testing.assert_array_equal(outputs_of(model, x, lag, pieces), at_once)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("lag", [0, 3, 19])
def test_smoothing_with_one_layer_equals_the_pass_up_to_the_lag(lag, kernel):
    model, x = model_of(ONE_LAYER, kernel=kernel), random_x(20)

    actual = outputs_of(model, x, lag, np.split(x, 20))

    for t in range(20):
        seen = x[np.newaxis, : t + lag + 1]
        np.testing.assert_array_equal(actual[t], model.forward(seen)[0, t])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.to_json()))
def test_with_a_lag_as_long_as_the_sequence_it_is_the_whole_pass(network, kernel):
    model, x = model_of(network, kernel=kernel), random_x(20)

    actual = outputs_of(model, x, 19, np.split(x, 20))

    np.testing.assert_array_equal(actual, model.forward(x[np.newaxis])[0])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("output_steps", ["every", "last"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.to_json()))
def test_packed_sequences_are_those_of_the_forward_pass(network, output_steps, kernel):
    model = model_of(replace(network, output_steps=output_steps), kernel=kernel)
    lengths = np.array([9, 7, 7, 1])
    x = random_x(36).reshape(4, 9, 2)
    running = running_at(lengths, 9)
    steps, sequences = rows_of(running)

    y, finite = BothDirections(model).run(x[sequences, steps], running)

    wanted = model.forward(x, lengths)
    np.testing.assert_array_equal(y, wanted if output_steps == "last" else wanted[sequences, steps])
    assert finite.all()


CARRY = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"], missing="carry", horizon=0)


def carrying(network):
    parameters = network.initialize(CARRY.input_size, 1, seed=0)
    return Model(network, parameters, CARRY, kernel="numpy")


def test_missing_values_are_carried_forward():
    x = random_x(12)
    x[[2, 3, 7], 0] = np.nan
    x[[0, 7, 8], 1] = np.nan
    model = carrying(STACK)

    actual = outputs_of(model, x, 2, np.split(x, 12))

    np.testing.assert_array_equal(actual, by_definition(model, x, 2))
    whole = outputs_of(model, x, 12, [x])
    np.testing.assert_array_equal(whole, model.forward(x[np.newaxis])[0])


def encoded(model, records):
    reader = RecordReader(model.columns)
    return sorted({reader.read(record).data for record in records})


HUGE = Network("rnn", 4, activation="relu", bidirectional=True)


def poisoned_model(columns=MARKED):
    """Twice a great number is beyond float32: its step is not."""
    parameters = {
        name: np.full_like(value, 2) if name.endswith("W_x") else value
        for name, value in model_of(HUGE, columns).parameters.items()
    }
    return Model(HUGE, parameters, columns, Scaler.identity(2, 1), kernel="numpy")


@settings(deadline=None, max_examples=40, suppress_health_check=QUIET)
@given(data=st.data())
def test_restarts_at_any_point_have_no_effect(data, tmp_path):
    """Each part of the records meets a new process, and the bytes that the one before left.

    Sequences end by marks and by being idle; some records overflow.
    """
    lag = data.draw(st.sampled_from([0, 1, 3, 40]))
    kinds = st.sampled_from(["", "", "", "", "first", "last", "huge", "infinite", "pause"])
    time, records = 0, []
    for kind in data.draw(st.lists(kinds, min_size=1, max_size=25)):
        time += 40 if kind == "pause" else 1
        x = {"huge": 3e38, "infinite": 1e300}.get(kind, np.sin(time))
        records.append(row(time, x=x, first=kind == "first", last=kind == "last"))
    model = poisoned_model()
    path, rows = saved(model, tmp_path), encoded(model, records)
    at_once = smoother(path, lag, 20 * SECOND)
    state, steps = at_once.step("a", None, rows)
    steps = [step.result for step in steps] + [
        step.result for step in at_once.end("a", state, "window")
    ]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows)), max_size=9)))

    stored, found = None, []
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        stored, came = smoother(path, lag, 20 * SECOND).step("a", stored, rows[start:stop])
        found += [step.result for step in came]
    found += [step.result for step in smoother(path, lag).end("a", stored, "window")]

    assert found == steps
    assert stored == state
    good = [r for r in records if r["x"] < 1e30]
    assert sum(hasattr(result, "step") for result in found) == len(good)
    assert sum(hasattr(result, "value") for result in found) == len(records) - len(good)


def test_a_record_out_of_range_changes_nothing_for_the_others(tmp_path):
    model = poisoned_model(COLUMNS)
    good = [row(t) for t in range(12)]
    poison = [row(3.5, x=3e38), row(3.6, x=1e300), row(11.5, y=2e38)]

    outputs = predict(Smooth(saved(model, tmp_path), lag=3, kernel="numpy"), good + poison)

    assert sorted(outputs.predictions) == sorted(expected(model, good, 3)[0])
    assert [letter.key for letter in outputs.invalid] == ["a"] * 3
    assert all("the state before it was kept" in letter.reason for letter in outputs.invalid)


@pytest.mark.parametrize("engine", ENGINES)
def test_shuffled_records_on_every_engine(engine, model, weights):
    records = [row(t, key) for t in range(20) for key in ("a", "b", "never seen")]
    shuffled = [*records, *BAD]
    random.Random(0).shuffle(shuffled)

    outputs = predict(Smooth(weights, lag=4, kernel="numpy"), shuffled, engine)

    predictions, ended = expected(model, records, 4)
    assert sorted(outputs.predictions) == sorted(predictions)
    assert sorted(outputs.ended) == sorted(ended)
    assert len(outputs.invalid) == len(BAD)
    assert not outputs.late


@settings(deadline=None, max_examples=12, suppress_health_check=QUIET)
@given(data=st.data())
def test_the_same_records_give_the_same_bits_however_they_arrive(data, model, weights):
    check_bits(data, model, weights)


@pytest.mark.slow
@settings(deadline=None, max_examples=500, suppress_health_check=QUIET)
@given(data=st.data())
def test_500_times_the_same_bits_however_they_arrive(data, model, weights):
    check_bits(data, model, weights)


def check_bits(data, model, weights):
    """Some later than is waited for; in as many bundles as the watermark makes of them."""
    lag, wait = data.draw(st.sampled_from([0, 2, 50])), data.draw(st.sampled_from([0, 4]))
    places = st.tuples(st.sampled_from("ab"), st.integers(0, 20))
    delays = st.sampled_from([0, 1, 2, 3, wait, wait + 9, wait + 30])
    rows = data.draw(st.dictionaries(places, delays, min_size=1, max_size=30))
    arrivals = sorted((t + delay, key, t) for (key, t), delay in rows.items())
    cuts = data.draw(st.sets(st.integers(1, 40), max_size=4))
    simulated, events, bundle, clock = Simulated(wait, 1), [], [], -1
    for at, key, t in arrivals:
        if at != clock and any(clock < cut <= at for cut in cuts):
            events += [bundle, at] if bundle else [at]
            bundle = []
            simulated.watermark(START + at)
        clock = at
        bundle.append(row(t, key) | {"at": START + at})
        simulated.arrive(bundle[-1])
    simulated.watermark(float("inf"))

    transform = Smooth(weights, lag=lag, wait=wait, grid=1, kernel="numpy")
    outputs = predict_stream(transform, *events, bundle, time="at")

    on_time = [r for rows in simulated.stepped.values() for r in rows]
    predictions, ended = expected(model, on_time, lag)
    assert sorted(outputs.predictions) == sorted(predictions)
    assert sorted(outputs.ended) == sorted(ended)
    assert len(outputs.late) == len(simulated.late)


@pytest.mark.parametrize("engine", STREAM_ENGINES)
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_an_output_is_emitted_once_its_lag_has_arrived(engine, order, weights):
    """And the rest when no record has come for as long as is waited for."""
    said = Collect()
    ticks = [row(t) | {"at": START + t} for t in range(6)]
    events = [e for t, tick in enumerate(ticks) for e in ([tick], t + 1)]
    transform = Smooth(weights, lag=2, order=order, grid=1, idle_after=10, kernel="numpy")
    stamp = beam.Map(lambda r, at=beam.DoFn.TimestampParam: (r.step, float(at) - START))

    predict_stream(transform, *events, 40, engine=engine, then=stamp | said)

    due = 3 if order == "event_time" else 2
    wanted = [(step, step - 1 + due) for step in (1, 2, 3, 4)] + [(5, 16), (6, 16)]
    assert sorted(said.elements) == wanted


@pytest.mark.parametrize("idle_after", [None, 20])
def test_sequences_end_by_marks_and_by_being_idle(idle_after, tmp_path):
    model = model_of(STACK, MARKED)
    marks = {3: {"last": True}, 6: {"first": True}, 61: {"first": True, "last": True}}
    records = [
        {"first": False, "last": None} | row(t) | marks.get(t, {})
        for t in (0, 1, 2, 3, 4, 5, 6, 7, 60, 61, 62)
    ]
    transform = Smooth(saved(model, tmp_path), lag=2, idle_after=idle_after, kernel="numpy")

    outputs = predict(transform, records)

    predictions, ended = expected(model, records, 2, idle_after)
    assert sorted(outputs.predictions) == sorted(predictions)
    assert sorted(outputs.ended) == sorted(ended)
    reasons = [r.reason for r in sorted(outputs.ended, key=lambda r: r.last_time)]
    assert reasons == (
        ["end", "start", "start", "end", "window"]
        if idle_after is None
        else ["end", "start", "idle", "start", "end", "idle"]
    )


def test_records_are_taken_by_their_number(tmp_path):
    model = model_of(STACK, replace(COLUMNS, sequence="n"))
    records = [row(50 - n, n=n) for n in range(20) if n not in (5, 6, 12)]
    shuffled = random.Random(1).sample(records, len(records))
    transform = Smooth(saved(model, tmp_path), lag=3, order="sequence", kernel="numpy")

    outputs = predict(transform, shuffled)

    assert sorted(outputs.predictions) == sorted(expected(model, records, 3, order="sequence")[0])
    assert sorted((gap.first, gap.last) for gap in outputs.gaps) == [(5, 6), (12, 12)]


@pytest.mark.parametrize("engine", ["fnapi", "embed"])
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_a_window_after_smooth_loses_no_record(engine, order, weights):
    counts = Collect()
    records = [row(t, key) for t in range(60) for key in "ab"]

    run(
        lambda p: (
            (p | beam.Create(records) | Smooth(weights, lag=5, order=order, wait=60)).predictions
            | by_window()
            | counts
        ),
        engine,
    )

    assert sum(counts.elements) == 120


@pytest.mark.parametrize("engine", [ON_PRISM])
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_a_window_after_a_jump_of_the_watermark_loses_nothing(engine, order, weights):
    """Not on BundleBasedDirectRunner, which holds no watermark for timers."""
    counts = Collect()
    ticks = [row(t, key) | {"at": START + t} for t in range(60) for key in "ab"]

    predict_stream(
        Smooth(weights, lag=7, order=order, wait=30),
        *(ticks[:40], 5, ticks[40:], 500),
        engine=engine,
        then=by_window() | counts,
    )

    assert sum(counts.elements) == 120


def test_two_lags_side_by_side_lose_nothing(weights):
    """On FnApiRunner, behind a `Reshuffle` each."""
    records, counts = [row(t, key) for t in range(30) for key in "ab"], [Collect(), Collect()]

    def build(p):
        source = p | beam.Create(records)
        for lag, count in zip((0, 8), counts, strict=True):
            smoothed = (
                source | f"Part{lag}" >> beam.Reshuffle() | f"Lag{lag}" >> Smooth(weights, lag)
            )
            _ = smoothed.predictions | f"ByWindow{lag}" >> by_window() | f"Count{lag}" >> count

    run(build)

    assert [sum(count.elements) for count in counts] == [60, 60]


def test_each_window_has_sequences_of_its_own(model, weights):
    said = Collect()
    records = [row(t) for t in range(20)]
    windowed = beam.Map(lambda r: TimestampedValue(r, r["t"])) | beam.WindowInto(FixedWindows(10))

    run(
        lambda p: (
            (
                p | beam.Create(records) | windowed | Smooth(weights, lag=3, kernel="numpy")
            ).predictions
            | said
        )
    )

    wanted = [r for part in (records[:10], records[10:]) for r in expected(model, part, 3)[0]]
    assert sorted(said.elements) == sorted(wanted)


def test_each_key_has_its_model(tmp_path):
    models = keyed_models("ab", fallback=False)
    both_ways = {key: model_of(STACK, seed=i) for i, key in enumerate("ab")}
    models = type(models).gathered(both_ways)
    records = [row(t, key) for t in range(9) for key in "abc"]

    outputs = predict(Smooth(saved(models, tmp_path), lag=2, kernel="numpy"), records)

    for key in "ab":
        own = [r for r in records if r["id"] == key]
        said = [r for r in outputs.predictions if r.key == key]
        assert sorted(said) == sorted(expected(both_ways[key], own, 2)[0])
    assert [(r.key, r.reason) for r in outputs.invalid] == [
        ("c", "the key has no model, and there is no fallback")
    ] * 9


def test_the_state_is_bounded_by_the_lag(model, weights):
    rows = encoded(model, [row(t) for t in range(200)])
    sizes, state = [], None
    steps = smoother(weights, 5)
    for data in rows:
        state, _ = steps.step("a", state, [data])
        sizes.append(len(state))

    assert sizes[4:] == [sizes[4]] * 196
    assert max(sizes) == 74 + 4 * 2 * (9 + 5) + 5 * 8 * (2 + 2)


def still():
    """A model whose hidden state is zero on every machine."""
    columns = Columns(key="id", time="t", inputs=["x"], horizon=0)
    network = Network("gru", 2, bidirectional=True)
    zero = {k: np.zeros_like(v) for k, v in network.initialize(1, 1, seed=0).items()}
    return Model(network, zero, columns, kernel="numpy")


def test_stored_bytes_stay_readable(tmp_path):
    """What a running job has stored: a change here loses it."""
    data = bytes.fromhex((GOLDEN / "smoothed-v1.hex").read_text())
    path = saved(still(), tmp_path)
    rows = [encode_record(t * SECOND, -t, np.array([t / 4])) for t in range(1, 7)]
    steps = smoother(path, 2)

    assert steps.step("a", None, rows[:5])[0] == data
    _, came = steps.step("a", data, rows[5:])
    assert [(s.result.step, s.result.time, s.result.sequence) for s in came] == [
        (4, 4 * SECOND, -4)
    ]


@pytest.mark.parametrize("lag", [2, 8])
def test_the_lag_may_change_from_job_to_job(lag, tmp_path):
    model = model_of(ONE_LAYER)
    path, rows = saved(model, tmp_path), encoded(model, [row(t) for t in range(20)])
    state, before = smoother(path, 6).step("a", None, rows[:10])

    changed = smoother(path, lag)
    after, here = changed.step("a", state, rows[10:12])
    after, there = changed.step("a", after, rows[12:])
    found = [*before, *here, *there, *changed.end("a", after, "window")[:-1]]

    numbers = np.array([[row(t)[name] for name in "xy"] for t in range(20)])
    x = model.scaled("a", numbers).astype(np.float32)[np.newaxis]
    for t, step in enumerate(found):
        y = model.forward(x[:, : t + (6 if t < 4 else lag) + 1])[0, t]
        assert (step.result.step, step.result.outputs) == (t + 1, model.restored("a", y).tolist())
    assert [step.record for step in here] == ([0, 0, 0, 0, 0, 1] if lag == 2 else [])


@pytest.mark.parametrize("rows_at_once", [1, 7, 50])
def test_the_number_of_windows_per_batch_does_not_affect_smoothing(
    rows_at_once, model, weights, monkeypatch
):
    rows = encoded(model, [row(t) for t in range(40)])
    at_once = smoother(weights, 3).step("a", None, rows)

    monkeypatch.setattr(smoothing, "ROWS_AT_ONCE", rows_at_once)

    assert smoother(weights, 3).step("a", None, rows) == at_once


def test_state_of_another_model_is_refused(weights, model, tmp_path):
    rows = encoded(model, [row(t) for t in range(3)])
    state, _ = smoother(weights, 1).step("a", None, rows[:2])
    other = smoother(saved(model_of(STACK, seed=1), tmp_path), 1)

    with pytest.raises(StateError, match=rf"made by the model {model.digest}.*old weights"):
        other.step("a", state, rows[2:])
    with pytest.raises(StateError, match="start the job without its old state"):
        other.end("a", state, "window")
    with pytest.raises(StateError, match="not a whole number of records of 2 inputs"):
        smoother(weights, 1).step("a", state[:-8], rows[2:])


@pytest.mark.skipif(not fused_is_installed(), reason="there is one kernel")
def test_state_of_another_kernel_is_refused(weights, model):
    rows = encoded(model, [row(t) for t in range(3)])
    state, _ = smoother(weights, 1).step("a", None, rows[:2])

    with pytest.raises(StateError, match=r"with the kernel numpy.*Smooth\(kernel=...\)"):
        smoother(weights, 1, kernel="fused").step("a", state, rows[2:])


def test_the_next_sequence_starts_with_the_new_model(tmp_path):
    model, other = model_of(STACK, MARKED), model_of(STACK, MARKED, seed=1)
    records = [row(t, first=False, last=t == 3) for t in range(9)]
    rows = encoded(model, records)
    state, _ = smoother(saved(model, tmp_path), 1).step("a", None, rows[:4])
    assert decode_state(state).steps == 0

    _, came = smoother(saved(other, tmp_path), 1).step("a", state, rows[4:])

    assert {s.result.model for s in came} == {other.digest}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network("gru", 4), "bidirectional=False, which does not use future steps: Predict"),
        (
            Network("gru", 4, bidirectional=True, output_steps="last"),
            "one output for a whole sequence: use PredictSequences",
        ),
    ],
)
def test_a_network_that_has_no_use_for_it_is_refused(network, message, tmp_path):
    with pytest.raises(Exception, match=message):
        predict(Smooth(saved(random_model(network), tmp_path), lag=2), [row(1)])


def test_predict_names_the_transforms_for_bidirectional_networks(weights):
    with pytest.raises(Exception, match="use PredictSequences, which has them, or Smooth"):
        predict(Predict(weights), [row(1)])


def test_a_model_without_columns_is_refused(model, tmp_path):
    bare = Model(model.network, model.parameters)
    with pytest.raises(Exception, match="names no columns, so no record can be read for it"):
        predict(Smooth(saved(bare, tmp_path), lag=1), [row(1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lag": -1}, "lag must be a whole number of at least 0, got -1"),
        ({"lag": 2.5}, r"lag must be .* got 2\.5"),
        ({"weights": ""}, "weights must be the path of a file, got ''"),
        ({"order": "time"}, "order must be one of .* got 'time'"),
        ({"wait": -1}, r"wait, in seconds, must be in .* got -1"),
        ({"idle_after": "1"}, "idle_after, in seconds, must be .* got '1'"),
        ({"kernel": "fast"}, "kernel must be one of .* got 'fast'"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Smooth(**{"weights": "weights.arrow", "lag": 1} | arguments)


def test_windows_that_merge_are_refused_with_the_remedy(weights):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    records = pipeline | beam.Create([row(1)]) | beam.WindowInto(Sessions(10))
    with pytest.raises(ConfigurationError, match="Smooth cannot carry a state across"):
        _ = records | Smooth(weights, lag=1)


def test_an_empty_input_gives_empty_outputs(weights):
    outputs = predict(Smooth(weights, lag=1), [])

    assert outputs.predictions == outputs.late == outputs.invalid == outputs.ended == []
