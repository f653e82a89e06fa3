"""Live streams on Prism: records come while the pipeline runs, and the clock moves the watermark.

Whatever is waited for is waited for by name, so that a slow machine changes nothing.
"""

import json
import random
import time

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_rnn import (
    Generate,
    LastRecords,
    Network,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ScoreAnomalies,
    Smooth,
    Training,
)
from beam_rnn import weights as weights_file
from beam_rnn.pairs import Transduce
from beam_rnn.testing import oracle
from beam_rnn.training.fit import fit_sequences
from pipelines import retrain
from tests.helpers.engines import Collect, Outputs, predict, prism, run
from tests.helpers.feed import Feed, cancelled, running
from tests.helpers.models import COLUMNS, random_model, saved
from tests.helpers.sequences import wave
from tests.transforms.test_generate import model_of as singer
from tests.transforms.test_learn import LEARNING
from tests.transforms.test_retrain import COLUMNS as LEARNED
from tests.transforms.test_transduce import random_model as translator

pytestmark = [*prism, cancelled]
SECOND = 1_000_000


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("weights"))


def fed(transform, then=None):
    """Builds a live stream through a transform: its feed, and what comes out."""

    def build(p):
        feed = Feed(dict)
        outputs = p | feed | transform
        built = Outputs(outputs)
        if then is not None:
            _ = outputs[0] | then
        return feed, built

    return build


def first_of(outputs):
    """The elements of the first output."""
    return next(iter(outputs._collects.values())).elements


def row(t, key="a", x=0.5):
    return {"id": key, "t": t, "x": x, "y": 1 - x}


def readings(times, keys="abc"):
    return [row(t, key, x=(i % 7) / 3) for i, t in enumerate(times) for key in keys]


@pytest.mark.usefixtures("each_way")
def test_records_out_of_order_are_stepped_in_order_as_the_clock_moves_on(model, weights):
    """Before the next records arrive, after the last one, and for all orders of arrival."""
    now = time.time()
    first = readings([now + i / 4 for i in range(8)])
    random.Random(0).shuffle(first)

    with running(fed(Predict(weights, wait=3.0, with_state=True))) as (stream, (feed, outputs)):
        for i in range(0, len(first), 6):
            feed.put(*first[i : i + 6], first[0])
        stream.until(lambda: len(outputs.predictions) >= len(first))
        assert sorted(outputs.predictions) == sorted(
            oracle(model, first, with_state=True).predictions
        )
        second = readings([time.time() + i / 4 for i in range(4)])
        feed.put(*reversed(second))
        stream.until(lambda: len(outputs.predictions) >= len(first + second))

    expected = oracle(model, first + second, with_state=True)
    assert sorted(outputs.predictions) == sorted(expected.predictions)
    assert not outputs.late
    assert not outputs.invalid


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_a_record_before_the_last_step_is_late(order, model, weights):
    """In order of arrival it is processed."""
    now = int(time.time())

    with running(fed(Predict(weights, order=order))) as (stream, (feed, outputs)):
        feed.put(row(now))
        stream.until(lambda: outputs.predictions)
        feed.put(row(now - 5), row(now + 1), {"id": "a"})
        stream.until(lambda: len(outputs.predictions) >= (3 if order == "arrival" else 2))
        stream.until(lambda: outputs.invalid)

    if order == "event_time":
        on_time = oracle(model, [row(now), row(now + 1)])
        assert sorted(outputs.predictions) == sorted(on_time.predictions)
        assert [(r.time, r.behind) for r in outputs.late] == [((now - 5) * SECOND, 5 * SECOND)]
    else:
        assert [p.step for p in sorted(outputs.predictions, key=lambda p: p.step)] == [1, 2, 3]
        assert not outputs.late
    assert [letter.reason for letter in outputs.invalid] == ["the record has no field 't'"]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_a_key_that_falls_silent_ends_while_others_go_on(order, model, weights):
    now = time.time()
    records = [row(now, "a"), row(now + 0.1, "a")]
    transform = Predict(weights, order=order, idle_after=2, with_state=True)

    with running(fed(transform)) as (stream, (feed, outputs)):
        feed.put(*records)
        stream.until(lambda: len(outputs.predictions) >= 2)
        while not (ended := [e for e in outputs.ended if e.key == "a"]):
            feed.put(row(time.time(), "b"))
            stream.goes_on()
        feed.put(row(time.time(), "a"))
        stream.until(lambda: len([p for p in outputs.predictions if p.key == "a"]) >= 3)

    assert ended == oracle(model, records, idle_after=2, with_state=True).ended
    assert sorted(p.step for p in outputs.predictions if p.key == "a") == [1, 1, 2]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("order", ["event_time", "arrival"])
@pytest.mark.parametrize("wait", [0, 1])
def test_a_window_after_predict_loses_nothing(order, wait, weights):
    """Also of records whose own times are long before their timestamps."""
    counts = Collect()
    by_window = (
        beam.WindowInto(FixedWindows(1))
        | beam.Map(lambda p: (p.key, 1)).with_output_types(tuple[str, int])
        | beam.CombinePerKey(sum)
        | beam.Map(lambda pair: pair[1])
        | counts
    )
    build = fed(Predict(weights, order=order, wait=wait), then=by_window)

    with running(build) as (stream, (feed, outputs)):
        for i in range(3):
            now = time.time()
            feed.put(*readings([now - 100 + 10 * i + j for j in range(4)]))
            feed.put(*readings([now + j / 4 for j in range(4)], keys="xyz"))
            stream.until(lambda i=i: len(outputs.predictions) >= 24 * (i + 1))
        stream.until(lambda: sum(counts.elements) >= 72)

    assert sum(counts.elements) == len(outputs.predictions) == 72


def test_two_flattened_predicts_before_a_grouping_lose_no_record(weights):
    counts = Collect()

    def build(p):
        records = p | beam.Create(readings(range(20)), reshuffle=False)
        both = [records | f"{wait}" >> Predict(weights, wait=wait) for wait in (0, 3)]
        predictions = [outputs.predictions for outputs in both] | beam.Flatten()
        pairs = predictions | beam.Map(lambda p: (p.key, 1)).with_output_types(tuple[str, int])
        _ = pairs | beam.CombinePerKey(sum) | counts

    run(build, "prism")

    assert sorted(counts.elements) == [("a", 40), ("b", 40), ("c", 40)]


@pytest.fixture
def two_models(tmp_path):
    old, new = random_model(seed=0), random_model(seed=1)
    weights_file.save(old, tmp_path / "w-1.arrow")
    return old, new


def forward(model, records):
    return [p.outputs for p in oracle(model, records).predictions]


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("policy", ["keep", "reset", "replay"])
def test_a_newer_file_is_loaded_while_the_stream_runs(policy, two_models, tmp_path):
    old, new = two_models
    arguments = {"on_model_change": policy, "replay": 2 if policy == "replay" else 0}
    transform = Predict(tmp_path / "w-*.arrow", watch=0.2, **arguments)

    def outputs_of(outputs, key):
        return sorted((p for p in outputs.predictions if p.key == key), key=lambda p: p.time)

    with running(fed(transform)) as (stream, (feed, outputs)):
        before = [row(time.time() + i / 100, "a") for i in range(3)]
        feed.put(*before)
        stream.until(lambda: len(outputs_of(outputs, "a")) >= 3)
        weights_file.save(new, tmp_path / "w-2.arrow")
        fresh = 0
        while not any(p.model == new.digest for p in outputs.predictions):
            feed.put(row(time.time(), f"fresh {fresh}"))
            fresh += 1
            stream.goes_on()
        after = [row(time.time() + i / 100, "a") for i in range(2)]
        feed.put(*after)
        stream.until(lambda: len(outputs_of(outputs, "a")) >= 5)

    rows = outputs_of(outputs, "a")
    said, digests = [p.outputs for p in rows], [p.model for p in rows]
    if policy == "keep":
        assert said == forward(old, before + after)
        assert digests == [old.digest] * 5
        return
    assert digests == [old.digest] * 3 + [new.digest] * 2
    if policy == "reset":
        assert said == forward(old, before) + forward(new, after)
        assert [(e.key, e.steps, e.reason) for e in outputs.ended] == [("a", 3, "model")]
    else:
        assert said == forward(old, before) + forward(new, before[1:] + after)[2:]
        assert [p.step for p in rows] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("each_way")
def test_truncating_and_removing_a_watched_file_has_no_effect(two_models, tmp_path):
    old, _ = two_models
    path = tmp_path / "w-1.arrow"
    damages = [lambda: path.write_bytes(path.read_bytes()[:1000]), path.unlink]
    start, sent = time.time(), []

    with running(fed(Predict(tmp_path / "w-*.arrow", watch=0.1))) as (stream, (feed, outputs)):
        for damage in (*damages, lambda: None):
            records = [row(start + (len(sent) + i) / 100, "a") for i in range(3)]
            sent += records
            feed.put(*records)
            expected = len(sent)
            stream.until(lambda n=expected: len(outputs.predictions) >= n)
            damage()

    assert [p.outputs for p in sorted(outputs.predictions)] == forward(old, sent)
    assert {p.model for p in outputs.predictions} == {old.digest}


def windowed(transform, seconds=2):
    """The transform in windows of the records' own time."""

    class Windowed(beam.PTransform):
        def expand(self, pcoll):
            stamped = pcoll | beam.Map(lambda r: TimestampedValue(r, r["t"]))
            return stamped | beam.WindowInto(FixedWindows(seconds)) | transform

    return Windowed()


BOTH = Network("gru", hidden=4, bidirectional=True)
TRANSFORMS = {
    "Smooth": lambda path: Smooth(saved(random_model(BOTH), path), lag=2, idle_after=1),
    "PredictSequences": lambda path: windowed(PredictSequences(saved(random_model(BOTH), path))),
    "LastRecords": lambda _: LastRecords(COLUMNS, length=3),
    "ScoreAnomalies": lambda path: ScoreAnomalies(saved(random_model(), path), LEARNING),
    "PredictAndLearn": lambda path: PredictAndLearn(saved(random_model(), path), LEARNING),
    "Generate": lambda path: windowed(Generate(saved(singer("letters"), path), length=5)),
    "Transduce": lambda path: Transduce(saved(translator("attention"), path)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_live_stream_gives_the_same_results_as_a_batch(name, tmp_path):
    transform = TRANSFORMS[name](tmp_path)
    start = time.time() + 1
    records = [
        {**record, "c": "abc"[i % 3], "said": "abcde"[i % 4 :]}
        for i, record in enumerate(readings([start + j / 4 for j in range(12)]))
    ]
    expected = sorted(map(repr, first_of(predict(transform, records))))

    with running(fed(transform)) as (stream, (feed, outputs)):
        for i in range(0, len(records), 12):
            feed.put(*reversed(records[i : i + 12]))
        stream.until(lambda: len(first_of(outputs)) >= len(expected))

    assert sorted(map(repr, first_of(outputs))) == expected
    assert expected


def test_files_that_arrive_are_predicted_and_trained_on(tmp_path):
    """`pipelines.retrain`: the model of one window predicts the next."""
    models, arriving = tmp_path / "models", tmp_path / "arriving"
    models.mkdir()
    arriving.mkdir()
    first = fit_sequences(Network("gru", 4), [wave(columns=LEARNED)], Training(epochs=1))
    weights_file.save(first, models / "00000000T000000Z.arrow")
    flags = [f"--input={arriving}/*.jsonl", f"--models={models}", "--output=none"]
    args, _ = retrain.parse([*flags, "--every=4", "--watch=0.2", "--replay=8"])

    def build(p):
        predictions = Collect()
        outputs, _ = retrain.build(retrain.arriving(p, args.input, LEARNED), args, first)
        _ = outputs.predictions | predictions
        return predictions

    def arrive(times):
        lines = [json.dumps({"id": key, "t": t, "x": t % 3}) for t in times for key in "ab"]
        (tmp_path / "part").write_text("\n".join(lines))
        (tmp_path / "part").rename(arriving / f"{len(list(arriving.iterdir()))}.jsonl")

    with running(build) as (stream, predictions):
        window = (time.time() + 12) // 4 * 4  # it begins when the file has surely been found
        arrive([window + i / 10 for i in range(40)])
        stream.until(lambda: len(predictions.elements) >= 80)
        stream.until(lambda: len(list(models.iterdir())) > 1)
        sent = 40
        while all(row.model == first.digest for row in predictions.elements):
            arrive([time.time() + 1])
            sent += 1
            stream.goes_on(2)
        stream.until(lambda: len(predictions.elements) >= 2 * sent)

    learned = weights_file.load(min(models.glob("2*.arrow")))
    assert learned.training["records"] == 78
    assert {row.model for row in predictions.elements} >= {first.digest, learned.digest}
    for key in "ab":
        steps = sorted(row.step for row in predictions.elements if row.key == key)
        assert steps == list(range(1, sent + 1))
