"""Whole sequences through a model: grouped by key and window, cut, run in batches."""

import random
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn import Model, Network, Predict, PredictSequences, Smooth
from beam_rnn.errors import ConfigurationError
from beam_rnn.nn.kernels import fused_is_installed
from beam_rnn.streaming import whole_sequences as whole
from beam_rnn.streaming.whole_sequences import outputs_of, usable_steps
from tests.helpers.engines import ENGINES, Outputs, predict, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.helpers.streams import ENGINES as STREAM_ENGINES
from tests.helpers.streams import START, predict_stream
from tests.streaming.test_smoothing import (
    CARRY,
    MARKED,
    NETWORKS,
    ONE_LAYER,
    carrying,
    model_of,
    poisoned_model,
)
from tests.transforms.test_predict import BAD, row

SECOND = 1_000_000
KERNELS = ["numpy", *(["fused"] if fused_is_installed() else [])]
ONE_WAY = Network("lstm", (9, 5), residual=True)


def pass_over(model, records, key="a"):
    """The outputs of records in one sequence, by `Model.forward`."""
    numbers = np.array([[r[name] for name in model.columns.fields] for r in records], float)
    x = model.scaled(key, numbers).astype(np.float32)
    return model.restored(key, model.forward(x[np.newaxis])[0])


def said(predictions, key="a"):
    return [p.outputs for p in sorted(predictions, key=lambda p: p.time) if p.key == key]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("output_steps", ["every", "last"])
@pytest.mark.parametrize("network", [*NETWORKS, ONE_WAY], ids=lambda n: str(n.to_json()))
def test_a_sequence_has_the_same_bits_in_every_batch(network, output_steps, kernel):
    model = model_of(replace(network, output_steps=output_steps), kernel=kernel)
    chance = np.random.default_rng(0)
    sequences = [chance.standard_normal((n, 2)).astype(np.float32) for n in (3, 20, 1, 7, 7)]

    together = outputs_of(model, sequences)

    for x, y in zip(sequences, together, strict=True):
        np.testing.assert_array_equal(y, outputs_of(model, [x])[0])
        forward = model.forward(x[np.newaxis])
        np.testing.assert_array_equal(y, forward if output_steps == "last" else forward[0])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", [ONE_LAYER, ONE_WAY], ids=["both ways", "one way"])
def test_shuffled_records_give_the_bits_of_the_forward_pass(engine, network, tmp_path):
    model = model_of(network)
    records = {key: [row(t, key) for t in range(n)] for key, n in (("a", 20), ("b", 3), ("c", 9))}
    shuffled = [*(r for rows in records.values() for r in rows), row(3), *BAD]
    random.Random(0).shuffle(shuffled)

    outputs = predict(PredictSequences(saved(model, tmp_path), kernel="numpy"), shuffled, engine)

    for key, rows in records.items():
        assert said(outputs.predictions, key) == pass_over(model, rows, key).tolist()
    assert [p.step for p in sorted(outputs.predictions) if p.key == "b"] == [1, 2, 3]
    assert {(p.model, p.kernel, p.state) for p in outputs.predictions} == {
        (model.digest, "numpy", b"")
    }
    assert len(outputs.invalid) == len(BAD)


MARKS = [
    {"first": False, "last": None} | row(t, key) | more
    for key in "ab"
    for t, more in [
        (0, {}), (1, {}), (2, {"last": True}), (3, {}), (4, {"first": True}), (5, {}),
        (60, {}), (61, {"first": True, "last": True}), (62, {}),
    ]
]  # fmt: skip


@pytest.mark.parametrize("emit", ["every", "last"])
@pytest.mark.parametrize("idle_after", [None, 20])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_unidirectional_network_gives_the_results_of_predict(kernel, emit, idle_after, tmp_path):
    """Predictions and ends of sequences, to the bit."""
    weights = saved(random_model(ONE_WAY, MARKED), tmp_path)
    arguments = {"emit": emit, "idle_after": idle_after, "kernel": kernel}

    whole_ones = predict(PredictSequences(weights, **arguments), MARKS)

    stepped = predict(Predict(weights, **arguments), MARKS)
    assert sorted(whole_ones.predictions) == sorted(stepped.predictions)
    assert sorted(whole_ones.ended) == sorted(stepped.ended)
    assert len(whole_ones.ended) == 2 * (5 if idle_after is None else 6)


def test_each_sequence_is_a_separate_pass(tmp_path):
    """Each is a pass of its own."""
    model = model_of(ONE_LAYER, MARKED)
    transform = PredictSequences(saved(model, tmp_path), idle_after=20, kernel="numpy")

    outputs = predict(transform, MARKS)

    rows = [r for r in MARKS if r["id"] == "a"]
    cut = [slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7), slice(7, 8), slice(8, 9)]
    wanted = [y for part in cut for y in pass_over(model, rows[part]).tolist()]
    assert said(outputs.predictions) == wanted
    ends = sorted((r for r in outputs.ended if r.key == "a"), key=lambda r: r.first_time)
    assert [r.reason for r in ends] == ["end", "start", "idle", "start", "end", "idle"]
    assert [r.outputs for r in ends] == [wanted[part.stop - 1] for part in cut]


def test_one_output_a_sequence(tmp_path):
    model = model_of(replace(ONE_LAYER, output_steps="last"))
    records = [row(t, key) for key, n in (("a", 7), ("b", 1)) for t in range(n)]

    outputs = predict(PredictSequences(saved(model, tmp_path), kernel="numpy"), records)

    assert sorted((p.key, p.step, p.time) for p in outputs.predictions) == [
        ("a", 7, (START + 6) * SECOND),
        ("b", 1, START * SECOND),
    ]
    for key, n in (("a", 7), ("b", 1)):
        rows = [row(t, key) for t in range(n)]
        assert said(outputs.predictions, key) == [pass_over(model, rows, key).tolist()]


def in_windows(windowfn, transform):
    """The transform behind a window, its predictions with their Beam timestamps."""
    stamp = beam.Map(lambda r, at=beam.DoFn.TimestampParam: (r, at.micros // 1000 - START * 1000))

    class Windowed(beam.PTransform):
        def expand(self, pcoll):
            stamped = pcoll | beam.Map(lambda r: TimestampedValue(r, r["t"]))
            outputs = stamped | beam.WindowInto(windowfn) | transform
            return type(outputs)(outputs.predictions | stamp, *outputs[1:])

    return Windowed()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_is_a_sequence(engine, tmp_path):
    """Windows that merge: its predictions have the timestamp of its end."""
    model = model_of(ONE_LAYER)
    times = [0, 1, 2, 30, 31, 32, 33, 90]
    shuffled = random.Random(0).sample([row(t) for t in times], len(times))
    transform = PredictSequences(saved(model, tmp_path), kernel="numpy")

    outputs = predict(in_windows(Sessions(10), transform), shuffled, engine)

    found = sorted(outputs.predictions)
    wanted = [
        y
        for part in (times[:3], times[3:7], times[7:])
        for y in pass_over(model, [row(t) for t in part]).tolist()
    ]
    assert [p.outputs for p, _ in found] == wanted
    assert [at for _, at in found] == [11_999] * 3 + [42_999] * 4 + [99_999]
    assert [r.reason for r in outputs.ended] == ["window"] * 3


@pytest.mark.parametrize("engine", STREAM_ENGINES)
@pytest.mark.parametrize("windowfn", [FixedWindows(10), Sessions(7)], ids=["fixed", "sessions"])
def test_in_a_live_stream_when_the_watermark_has_passed_the_window(windowfn, engine, tmp_path):
    model = model_of(ONE_LAYER)
    transform = PredictSequences(saved(model, tmp_path), kernel="numpy")
    events = [row(3), row(1)], 5, [row(2), row(12)], 25, [row(31)]

    outputs = predict_stream(in_windows(windowfn, transform), *events, engine=engine)

    assert [p.outputs for p, _ in sorted(outputs.predictions)] == [
        y
        for part in ([1, 2, 3], [12], [31])
        for y in pass_over(model, [row(t) for t in part]).tolist()
    ]


@pytest.mark.parametrize("at_once", [1, 10, 10_000])
def test_the_batch_size_does_not_affect_predictions(at_once, monkeypatch, tmp_path):
    model = model_of(NETWORKS[1])
    records = [row(t, f"key {i}") for i in range(9) for t in range(2 * i + 1)]
    transform = PredictSequences(saved(model, tmp_path), kernel="numpy")
    batches = []
    run_batch = whole.outputs_of
    monkeypatch.setattr(whole, "STEPS_AT_ONCE", at_once)
    monkeypatch.setattr(
        whole, "outputs_of", lambda m, xs: batches.append(sum(map(len, xs))) or run_batch(m, xs)
    )

    outputs = predict(transform, records)

    for i in range(9):
        rows = [row(t, f"key {i}") for t in range(2 * i + 1)]
        wanted = pass_over(model, rows, f"key {i}").tolist()
        assert said(outputs.predictions, f"key {i}") == wanted
    assert max(batches) < at_once + 17  # the last to come in is whole


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0.5, -0.5, 2e38, 3e38, 1e300]), min_size=1, max_size=12))
def test_usable_steps_are_those_that_do_not_overflow(values):
    model = poisoned_model()
    x = np.array([[value, 0.0] for value in values])

    kept = usable_steps(model, x)

    assert kept.tolist() == [i for i, value in enumerate(values) if abs(value) < 1]


@pytest.mark.parametrize("both_ways", [True, False])
def test_a_record_out_of_range_changes_nothing_for_the_others(both_ways, tmp_path):
    model = poisoned_model(COLUMNS)
    if not both_ways:
        network = replace(model.network, bidirectional=False)
        forward = {k: v for k, v in model.parameters.items() if "reverse" not in k}
        forward["head.W_y"] = forward["head.W_y"][:4]
        model = type(model)(network, forward, COLUMNS, model.scaler, kernel="numpy")
    good = [row(t) for t in range(12)]
    poison = [row(3.5, x=3e38), row(3.6, x=1e300), row(11.5, y=2e38), row(1, "b", x=1e300)]
    transform = PredictSequences(saved(model, tmp_path), kernel="numpy")

    outputs = predict(transform, good + poison)

    assert said(outputs.predictions) == pass_over(model, good).tolist()
    assert sorted(letter.key for letter in outputs.invalid) == ["a"] * 3 + ["b"]
    assert {letter.reason for letter in outputs.invalid} == {
        "the step overflowed; the state before it was kept"
    }
    assert [r.steps for r in outputs.ended] == [12]


def test_missing_values_are_carried_forward(tmp_path):
    model = carrying(NETWORKS[1])
    records = [row(t, x=None if t in (0, 3, 4) else t / 3) for t in range(8)]

    outputs = predict(PredictSequences(saved(model, tmp_path), kernel="numpy"), records)

    filled = [r | {"x": np.nan if r["x"] is None else r["x"]} for r in records]
    assert model.columns == CARRY
    assert said(outputs.predictions) == pass_over(model, filled).tolist()


def test_symbols_are_vectors_in_both_transforms(tmp_path):
    words = ["up", "down", "still"]
    columns = replace(COLUMNS, symbols=["word"], vocabularies={"word": words}, targets=["x"])
    network = replace(NETWORKS[1], embedding=3)
    parameters = network.initialize(3, 1, seed=0, symbols=columns.vocabulary_sizes)
    model = Model(network, parameters, columns, kernel="numpy")
    weights = saved(model, tmp_path)
    records = [row(t, word=[*words, "never seen"][t % 4]) for t in range(20)]

    whole_ones = predict(PredictSequences(weights, kernel="numpy"), records)
    smoothed = predict(Smooth(weights, lag=20, kernel="numpy"), records)

    numbers = [[r["x"], r["y"], (t % 4 + 1) % 4] for t, r in enumerate(records)]
    wanted = model.forward(np.array([numbers], np.float32))[0].tolist()
    assert said(whole_ones.predictions) == said(smoothed.predictions) == wanted


def test_each_key_has_its_model(tmp_path):
    models = keyed_models("ab", fallback=False)
    records = [row(t, key) for t in range(9) for key in "abc"]

    outputs = predict(PredictSequences(saved(models, tmp_path), kernel="numpy"), records)

    for key in "ab":
        own = models.of(key).with_kernel("numpy")
        assert said(outputs.predictions, key) == pass_over(own, records[:27:3], key).tolist()
    assert [(r.key, r.reason) for r in outputs.invalid] == [
        ("c", "the key has no model, and there is no fallback")
    ] * 9


def test_the_metrics_of_predict_sequences(tmp_path):
    weights = saved(model_of(ONE_LAYER), tmp_path)
    records = [*(row(t, key) for t in range(3) for key in "ab"), *BAD]
    _, result = run(lambda p: Outputs(p | beam.Create(records) | PredictSequences(weights)))

    found = result.metrics().query(MetricsFilter().with_namespace("beam_rnn"))["counters"]
    counted = {metric.key.metric.name: metric.committed for metric in found}
    wanted = {"num_inferences": 6, "sequences_ended": 2, "records_invalid": len(BAD)}
    assert counted.items() >= wanted.items()


def test_a_model_without_columns_is_refused(tmp_path):
    model = model_of(ONE_LAYER)
    bare = type(model)(model.network, model.parameters)
    with pytest.raises(Exception, match="names no columns, so no record can be read for it"):
        predict(PredictSequences(saved(bare, tmp_path)), [row(1)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"emit": "first"}, "emit must be one of every, last, got 'first'"),
        ({"weights": 5}, "weights must be the path of a file, got 5"),
        ({"idle_after": -1}, r"idle_after, in seconds, must be in .* got -1"),
        ({"kernel": "fast"}, "kernel must be one of .* got 'fast'"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        PredictSequences(**{"weights": "weights.arrow"} | arguments)


def test_an_empty_input_gives_empty_outputs(tmp_path):
    outputs = predict(PredictSequences(saved(model_of(ONE_LAYER), tmp_path)), [])

    assert outputs.predictions == outputs.invalid == outputs.ended == []
