import ast
import itertools
import random
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, Sessions, SlidingWindows, TimestampedValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_rnn import Columns, Network, Predict
from beam_rnn.data.scaling import Scaler
from beam_rnn.errors import ConfigurationError
from beam_rnn.portable.schemas import time_text
from beam_rnn.streaming.packing import PackRecords
from beam_rnn.weights import load
from tests.helpers.engines import ENGINES, Collect, Outputs, predict, run
from tests.helpers.models import COLUMNS, random_model, saved
from tests.helpers.oracle import expected, streamed

START = 1_500_000_000
NETWORKS = [
    Network("rnn", 5),
    Network("rnn", 5, activation="relu"),
    Network("gru", 33, residual=True),
    Network("gru", (9, 5), reset_after=False),
    Network("lstm", 8, layers=2),
    Network("lstm", 6, initial_state="learned"),
]


def row(t, key="a", **more):
    return {"id": key, "t": START + t, "x": np.sin(t), "y": np.cos(3 * t)} | more


@pytest.fixture
def model():
    return random_model()


@pytest.fixture
def weights(model, tmp_path):
    return saved(model, tmp_path)


BAD = [
    {"id": "a"},
    row(2, x="0.5"),
    row(3, x=float("nan")),
    row(4, y=[1.0, 2.0]),
    row(5) | {"id": ["a"]},
    row(6) | {"t": "noon"},
    "a,6,0.5,0.5",
    None,
]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.to_json()))
def test_shuffled_records_give_the_bits_of_the_forward_pass(engine, network, tmp_path):
    model = random_model(network)
    records = [row(t, key) for t in range(40) for key in ("a", "b", "never seen")]
    random.Random(0).shuffle(records)

    outputs = predict(Predict(saved(model, tmp_path), with_state=True), records, engine)

    assert streamed(outputs.predictions) == expected(model, records)
    assert not outputs.late
    assert not outputs.invalid
    assert {p.model for p in outputs.predictions} == {model.digest}


@pytest.mark.usefixtures("each_way")
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(-2, 2)),
        min_size=1,
        max_size=40,
    ),
    bad=st.lists(st.sampled_from(BAD), max_size=5),
    chance=st.randoms(use_true_random=False),
)
def test_any_records_in_any_order_give_the_same_bits(rows, bad, chance, model, weights):
    """Ties in time, duplicates and bad records among them."""
    records = [row(t, key, x=x / 3) for key, t, x in rows] + bad
    chance.shuffle(records)

    outputs = predict(Predict(weights, with_state=True), records)

    assert streamed(outputs.predictions) == expected(model, records)
    assert len(outputs.invalid) == len(bad)
    assert not outputs.late


@pytest.mark.parametrize("order", ["event_time", "sequence", "arrival"])
@pytest.mark.parametrize("packed", [1, 7, 30])
def test_the_packing_size_does_not_affect_predictions(order, packed, monkeypatch, tmp_path):
    model = random_model(columns=replace(COLUMNS, sequence="n"))
    weights = saved(model, tmp_path)
    records = [row(t, key, n=t) for t in range(20) for key in "abc"] + [row(3, n=3), {"id": "a"}]
    if order != "arrival":
        random.Random(1).shuffle(records)
    at_once = predict(Predict(weights, order=order, with_state=True), records)

    monkeypatch.setattr(PackRecords, "read_at_once", packed)
    monkeypatch.setattr(PackRecords, "packed_at_most", 2 * packed)
    in_packs = predict(Predict(weights, order=order, with_state=True), records)

    for name in ("predictions", "ended", "invalid"):
        assert sorted(getattr(in_packs, name)) == sorted(getattr(at_once, name))


@pytest.mark.usefixtures("each_way")
def test_a_prediction_that_arrives_has_the_timestamp_of_its_record(weights):
    """Records are packed, and keep their own."""
    stamps = Collect()

    def stamp(prediction, timestamp=beam.DoFn.TimestampParam):
        return prediction.time, timestamp.micros

    run(
        lambda p: (
            (
                p
                | beam.Create([row(t, key) for t in range(9) for key in "ab"])
                | beam.Map(lambda r: TimestampedValue(r, r["t"] + 60))
                | Predict(weights, order="arrival")
            ).predictions
            | beam.Map(stamp)
            | stamps
        )
    )

    assert len(stamps.elements) == 18
    assert all(stamp == time + 60_000_000 for time, stamp in stamps.elements)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_bad_records_do_not_affect_the_others(engine, order, weights):
    good = [row(t) for t in range(10)]
    mixed = [r for pair in itertools.zip_longest(good, BAD) for r in pair if r is not None]
    transform = Predict(weights, order=order, with_state=True)

    with_bad = predict(transform, [*mixed, None], engine)

    assert streamed(with_bad.predictions) == streamed(predict(transform, good).predictions)
    letters = {(letter.reason, letter.value) for letter in with_bad.invalid}
    assert letters >= {
        ("the record has no field 't'", "{'id': 'a'}"),
        ("x must be a number", "'0.5'"),
        ("x must be finite", "nan"),
        ("y must be one number, not a list of 2", "[1.0, 2.0]"),
        ("id must be text, a whole number or bytes to be a key", "['a']"),
        ("the record has no field 'id'", "None"),
    }
    assert len(with_bad.invalid) == len(BAD)


class Reading(NamedTuple):
    id: str
    t: int
    x: float
    y: float


@pytest.mark.usefixtures("each_way")
def test_every_kind_of_record_gives_the_same(weights):
    records = [row(t) for t in range(5)]
    results = [
        streamed(predict(Predict(weights, with_state=True), kind).predictions)
        for kind in (
            records,
            [beam.Row(**r) for r in records],
            [Reading(**r) for r in records],
        )
    ]

    assert results[0] == results[1] == results[2]


@pytest.mark.usefixtures("each_way")
def test_arrival_order_is_taken_as_it_is_and_counted(model, weights):
    times = [3, 1, 2, 2, 5]
    transform = Predict(weights, order="arrival", with_state=True)
    collect = Collect()

    _, result = run(
        lambda p: (
            (p | beam.Create([row(t) for t in times], reshuffle=False) | transform).predictions
            | collect
        )
    )

    assert [p.time // 1_000_000 - START for p in collect.elements] == times
    assert [p.step for p in collect.elements] == [1, 2, 3, 4, 5]
    x = np.array([[r["x"], r["y"]] for r in map(row, times)])
    y, state = model.run(model.scaler.of("a").scale_inputs(x)[np.newaxis])
    restored = model.scaler.of("a").restore_targets(y[0].astype(float))
    assert [list(p.outputs) for p in collect.elements] == restored.tolist()
    assert collect.elements[-1].state == state.tobytes()
    assert counter(result, "records_out_of_order") == 3  # 1, 2 and 2 came after 3
    assert counter(result, "num_inferences") == 5


def test_quantiles_of_a_record_never_cross(tmp_path):
    model = random_model(Network("gru", 5, output="quantiles", quantiles=(0.1, 0.5, 0.9)))
    records = [row(t) for t in range(40)]
    with beam.Pipeline(runner="FnApiRunner") as p:
        alone = p | beam.Create(records) | Predict(saved(model, tmp_path))
        together = (
            p | "Again" >> beam.Create(records) | "S" >> Predict(saved(model, tmp_path), shards=2)
        )
        for label, outputs in (("1", alone), ("2", together)):
            said = outputs.predictions | f"Said{label}" >> beam.Map(lambda row: list(row.outputs))
            assert_that(said, rises, label=f"Rises{label}")

    raw = model.forward(
        model.scaled("a", np.array([[r["x"], r["y"]] for r in records]))[np.newaxis]
    )
    assert (np.diff(raw[0]) < 0).any(), "as the network has them they do cross"


def rises(outputs):
    assert len(outputs) == 40
    assert all(each == sorted(each) for each in outputs)


@pytest.mark.usefixtures("each_way")
def test_keys_that_training_did_not_see_are_counted(weights):
    records = [row(t, key) for t in range(6) for key in ("a", "never", "seen")]
    _, result = run(lambda p: Outputs(p | beam.Create(records) | Predict(weights)))

    assert counter(result, "keys_unknown") == 2


def test_a_collection_is_not_taken_for_its_outputs(weights):
    with beam.Pipeline(runner="FnApiRunner") as p:
        outputs = p | beam.Create([row(1)]) | Predict(weights)
        with pytest.raises(TypeError, match=r"take one of \.predictions, \.late, \.invalid"):
            outputs | beam.Map(print)


def counter(result, name):
    found = result.metrics().query(MetricsFilter().with_namespace("beam_rnn").with_name(name))
    return sum(metric.result for metric in found["counters"])


def distribution(result, name):
    found = result.metrics().query(MetricsFilter().with_namespace("beam_rnn").with_name(name))
    (metric,) = found["distributions"]
    return metric.result


@pytest.mark.usefixtures("each_way")
def test_counters(weights):
    records = [row(1), row(2), row(2), *BAD]
    _, result = run(lambda p: Outputs(p | beam.Create(records) | Predict(weights)))

    assert counter(result, "num_inferences") == 2
    assert counter(result, "records_duplicate") == 1
    assert counter(result, "records_invalid") == len(BAD)
    assert counter(result, "records_late") == 0
    size = sum(value.nbytes for value in load(weights).parameters.values())
    assert distribution(result, "model_byte_size").sum == size
    assert distribution(result, "load_model_latency_milli_secs").count == 1


def stream(*events):
    """A stream of numbers, which move the watermark, and lists of records."""
    source = test_stream.TestStream(coder=beam.coders.FastPrimitivesCoder())
    for event in events:
        if isinstance(event, list):
            source = source.add_elements([TimestampedValue(r, r["t"]) for r in event])
        else:
            source = source.advance_watermark_to(START + event)
    return source.advance_watermark_to_infinity()


def predict_stream(transform, *events):
    built, _ = run(
        lambda p: Outputs(p | stream(*events) | transform), "bundle_based", "--streaming"
    )
    return built


@pytest.mark.usefixtures("each_way")
def test_a_live_stream_predicts_as_the_watermark_passes(weights):
    """The record at 9 comes before the others are due; the one at 3 comes after."""
    transform = Predict(weights, with_state=True)
    outputs = predict_stream(
        transform, [row(5), row(2)], [row(9)], 6, [row(3), row(7)], [row(5)], 20, [row(30)]
    )

    on_time = [row(t) for t in (2, 5, 7, 9, 30)]
    assert streamed(outputs.predictions) == streamed(predict(transform, on_time).predictions)
    late = sorted(outputs.late)
    assert [(r.time // 1_000_000 - START, r.behind) for r in late] == [(3, 2_000_000), (5, 0)]
    assert late[0].inputs == [row(3)["x"], row(3)["y"]]


@pytest.mark.usefixtures("each_way")
def test_a_record_earlier_than_those_that_wait_does_not_wait_for_them(weights):
    """The one at 2 comes after the one at 9 and is due before it: the one at 1 is then late."""
    outputs = predict_stream(Predict(weights), [row(9)], [row(2)], 5, [row(1)], 20)

    assert [p.time // 1_000_000 - START for p in outputs.predictions] == [2, 9]
    assert [r.behind for r in outputs.late] == [1_000_000]


@pytest.mark.usefixtures("each_way")
def test_a_longer_wait_avoids_late_records(weights):
    events = [row(5)], 6, [row(3)], 20
    waited = predict_stream(Predict(weights, wait=2.0), *events)

    assert [p.time // 1_000_000 - START for p in waited.predictions] == [3, 5]
    assert not waited.late
    assert len(predict_stream(Predict(weights), *events).late) == 1


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize(("wait", "grid", "due"), [(0, 0.5, 7.5), (0, 60, 60), (2.25, 0.5, 9.5)])
def test_a_prediction_has_the_timestamp_at_which_it_became_due(weights, wait, grid, due):
    collect = Collect()
    run(
        lambda p: (
            (p | beam.Create([row(7)]) | Predict(weights, wait=wait, grid=grid)).predictions
            | beam.Map(lambda _, at=beam.DoFn.TimestampParam: float(at) - START)
            | collect
        )
    )

    assert collect.elements == [due]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_record_is_due_when_its_window_is_closed_at_the_latest(engine, weights):
    collect = Collect()
    run(
        lambda p: (
            (
                p
                | beam.Create([row(t) for t in (0, 7, 9, 15)])
                | beam.Map(lambda r: TimestampedValue(r, r["t"]))
                | beam.WindowInto(FixedWindows(10), allowed_lateness=4)
                | Predict(weights, wait=4, grid=10)
            ).predictions
            | beam.Map(lambda row, at=beam.DoFn.TimestampParam: (row.time, float(at) - START))
            | collect
        ),
        engine,
    )

    due = sorted((time // 1_000_000 - START, round(at, 3)) for time, at in collect.elements)
    if engine == "prism":  # which keeps no window beyond its end
        assert due == [(0, 9.999), (7, 9.999), (9, 9.999), (15, 19.999)]
    else:
        assert due == [(0, 10), (7, 13.999), (9, 13.999), (15, 20)]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_each_window_starts_from_the_initial_state(weights, order):
    collect = Collect()
    run(
        lambda p: (
            (
                p
                | beam.Create([row(t) for t in range(20)], reshuffle=False)
                | beam.Map(lambda r: TimestampedValue(r, r["t"]))
                | beam.WindowInto(FixedWindows(10))
                | Predict(weights, order=order, with_state=True)
            ).predictions
            | collect
        )
    )

    for start in (0, 10):
        alone = [row(t) for t in range(start, start + 10)]
        inside = [p for p in collect.elements if start <= p.time / 1e6 - START < start + 10]
        want = streamed(predict(Predict(weights, with_state=True), alone).predictions)
        assert streamed(inside) == want


@pytest.mark.usefixtures("each_way")
def test_sliding_windows_have_a_state_each(weights):
    collect = Collect()
    run(
        lambda p: (
            (
                p
                | beam.Create([row(t) for t in range(20)])
                | beam.Map(lambda r: TimestampedValue(r, r["t"]))
                | beam.WindowInto(SlidingWindows(10, 5))
                | Predict(weights)
            ).predictions
            | collect
        )
    )

    assert len(collect.elements) == 2 * 20
    assert max(p.step for p in collect.elements) == 10


def test_windows_that_merge_are_refused_with_the_remedy(weights):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    records = pipeline | beam.Create([row(1)]) | beam.WindowInto(Sessions(10))
    with pytest.raises(ConfigurationError, match="state does not follow windows that merge"):
        _ = records | Predict(weights)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_a_step_out_of_range_keeps_the_last_good_state(order, tmp_path):
    model = random_model(Network("rnn", 4, activation="relu"))
    model = type(model)(model.network, model.parameters, COLUMNS, Scaler.identity(2, 1))
    weights = saved(model, tmp_path)
    good = [row(t) for t in range(6)]
    poison = [row(2.5, x=1e300), row(3.5, y=3e38)]
    transform = Predict(weights, order=order, with_state=True)

    outputs = predict(transform, sorted(good + poison, key=lambda r: r["t"]))

    assert streamed(outputs.predictions) == streamed(predict(transform, good).predictions)
    assert [letter.key for letter in outputs.invalid] == ["a", "a"]
    assert all("the state before it was kept" in letter.reason for letter in outputs.invalid)
    known = [ast.literal_eval(letter.record) for letter in outputs.invalid]
    assert {record["time"]: record["inputs"] for record in known} == {
        time_text(round(r["t"] * 1e6)): [r["x"], r["y"]] for r in poison
    }


@pytest.mark.usefixtures("each_way")
def test_the_element_s_own_timestamp_orders_records_without_a_time_column(tmp_path):
    columns = Columns(key="id", inputs=["x", "y"], targets=["x"])
    weights = saved(random_model(columns=columns), tmp_path)
    records = [row(t) for t in (3, 1, 2)]
    collect = Collect()
    run(
        lambda p: (
            (
                p
                | beam.Create(records)
                | beam.Map(lambda r: TimestampedValue(r, r["t"]))
                | Predict(weights)
            ).predictions
            | collect
        )
    )

    by_step = sorted(collect.elements, key=lambda p: p.step)
    assert [p.time // 1_000_000 - START for p in by_step] == [1, 2, 3]
    assert by_step[0].event_time == START + 1


@pytest.mark.usefixtures("each_way")
def test_worker_processes_give_the_same(weights, tmp_path):
    """What is pickled to another process is all that a worker needs."""
    records = [row(t, key) for t in range(20) for key in "abc"]
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    run(
        lambda p: (
            (p | beam.Create(records) | Predict(weights)).predictions
            | beam.Map(lambda row: f"{row.key} {row.step} {row.outputs[0].hex()}")
            | beam.io.WriteToText(str(tmp_path / "out"))
        ),
        "fnapi",
        *flags,
    )

    lines = [line for path in tmp_path.glob("out*") for line in path.read_text().splitlines()]
    here = predict(Predict(weights), records).predictions
    assert sorted(lines) == sorted(f"{p.key} {p.step} {p.outputs[0].hex()}" for p in here)


@pytest.mark.parametrize("engine", ["fnapi", "embed"])
def test_a_weights_file_that_cannot_be_used_stops_the_pipeline(engine, tmp_path):
    path = tmp_path / "weights.arrow"
    path.write_bytes(b"not weights")
    with pytest.raises(
        Exception, match=r"weights\.arrow' cannot be used, it is truncated, altered"
    ):
        predict(Predict(path), [row(1)], engine)


def test_a_bidirectional_network_is_refused(tmp_path):
    weights = saved(random_model(Network("gru", 4, bidirectional=True)), tmp_path)
    with pytest.raises(Exception, match="bidirectional network, which needs whole sequences"):
        predict(Predict(weights), [row(1)])


def test_a_model_without_columns_is_refused(tmp_path):
    model = random_model()
    bare = type(model)(model.network, model.parameters)
    with pytest.raises(Exception, match="names no columns, so no record can be read for it"):
        predict(Predict(saved(bare, tmp_path)), [row(1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": ""}, "weights must be the path of a file, got ''"),
        ({"weights": 5}, "got 5"),
        ({"order": "time"}, "order must be one of .* got 'time'"),
        ({"wait": -1}, r"wait, in seconds, must be in \[0, 1000000000.0\), got -1"),
        ({"wait": "60"}, "wait, in seconds, must be .* got '60'"),
        ({"wait": timedelta(seconds=60)}, "wait, in seconds, must be .* got datetime.timedelta"),
        ({"grid": 1e308}, r"grid, in seconds, must be .* got 1e\+308"),
        ({"wait": float("inf")}, "got inf"),
        ({"grid": 0}, "grid, in seconds, must be .* got 0"),
        ({"grid": 0.0015}, r"got 0\.0015"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Predict(**{"weights": "weights.arrow"} | arguments)


def test_a_runner_s_page_shows_the_model(model, weights, tmp_path):
    shown = Predict(weights, wait=2, idle_after=60).display_data()
    assert shown["model"] == model.digest
    assert (shown["cell"], shown["hidden"], shown["wait_seconds"]) == ("gru", "6, 6", 2)
    assert "model" not in Predict(tmp_path / "not-there-yet.arrow").display_data()
    broken = tmp_path / "broken.arrow"
    broken.write_bytes(b"no weights")
    assert "model" not in Predict(broken).display_data()

    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([{}]) | Predict(weights)
    steps = pipeline.to_runner_api().components.transforms.values()
    (annotations,) = (s.annotations for s in steps if s.unique_name == "Predict")
    assert annotations["beam_rnn.model"] == model.digest.encode()
    assert annotations["beam_rnn.cell"] == b"gru"


def test_an_empty_input_gives_empty_outputs(weights):
    outputs = predict(Predict(weights), [])

    assert outputs.predictions == outputs.late == outputs.invalid == []
