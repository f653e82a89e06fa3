"""Beam windows: results stay in their window; closing; late records."""

from collections import Counter

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.transforms.external import ExternalTransform
from apache_beam.transforms.window import (
    FixedWindows,
    IntervalWindow,
    SlidingWindows,
    TimestampedValue,
)

from beam_rnn import (
    Columns,
    LastRecords,
    Network,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ScoreAnomalies,
    Smooth,
)
from beam_rnn.errors import ConfigurationError
from beam_rnn.online import Untrained
from beam_rnn.streaming.closed_windows import Closing, closing_on
from tests.helpers.engines import ON_PRISM, Collect, run
from tests.helpers.models import COLUMNS, random_model, saved
from tests.helpers.streams import START, predict_stream

SIZE, PERIOD, COUNT = 12, 4, 30
RECORDS = [{"id": key, "t": t, "x": t % 5, "y": t % 3} for t in range(COUNT) for key in "ab"]
LEARN = Columns(key="id", time="t", inputs=["x"])

TRANSFORMS = {
    "predict": Predict,
    "predict by arrival": lambda path: Predict(path, order="arrival"),
    "predict in shards": lambda path: Predict(path, shards=2),
    "predict at event times": lambda path: Predict(path, timestamps="event"),
    "anomalies": ScoreAnomalies,
    "sequences": PredictSequences,
    "smooth": lambda path: Smooth(path, lag=2),
    "learn": lambda _: PredictAndLearn(Untrained(Network("gru", hidden=2), LEARN)),
    "last records": lambda _: LastRecords(LEARN, length=1),
}


def weights_for(name, tmp_path):
    network = Network("gru", hidden=3, bidirectional=name == "smooth")
    return saved(random_model(network, COLUMNS), tmp_path)


class InWindow(beam.DoFn):
    def process(self, element, window=beam.DoFn.WindowParam):
        yield int(window.start), element.key, element


def windows_of(t):
    """The starts of the windows that hold a time."""
    return [start for start in range(-SIZE, COUNT, PERIOD) if start <= t < start + SIZE]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_record_of_a_window_is_predicted_once_in_that_window(name, tmp_path):
    path = weights_for(name, tmp_path)
    collect = Collect()

    def build(p):
        records = (
            p
            | beam.Create(RECORDS)
            | beam.Map(lambda record: TimestampedValue(record, record["t"]))
            | beam.WindowInto(SlidingWindows(SIZE, PERIOD))
        )
        outputs = records | TRANSFORMS[name](path)
        return outputs[0] | beam.ParDo(InWindow()) | collect

    run(build)

    came = Counter((start, key) for start, key, _ in collect.elements)
    want = Counter((start, r["id"]) for r in RECORDS for start in windows_of(r["t"]))
    if name == "last records":  # a record is the target of the one before
        want = Counter({at: n - 1 for at, n in want.items() if n > 1})
    assert came == want


def row(t, key="a"):
    return {"id": key, "t": START + t, "x": t % 5, "y": t % 3}


class Windowed(beam.PTransform):
    """A transform on records in windows of 10 seconds."""

    def __init__(self, transform, lateness=0):
        super().__init__()
        self.transform, self.lateness = transform, lateness

    def expand(self, pcoll):
        windows = beam.WindowInto(FixedWindows(10), allowed_lateness=self.lateness)
        return pcoll | windows | self.transform


@pytest.mark.parametrize(
    "name", sorted(TRANSFORMS.keys() - {"sequences", "predict at event times"})
)
def test_a_record_within_the_allowed_lateness_continues_its_window(name, tmp_path):
    """As in a batch: the state of a window is kept for so long after its end."""
    transform, records = TRANSFORMS[name], [row(t) for t in (1, 2, 3, 5)]
    path, batch = weights_for(name, tmp_path), Collect()

    late = predict_stream(Windowed(transform(path), 60), 0, records[:3], 12, records[3:], 40)
    run(
        lambda p: (
            (
                p
                | beam.Create(records, reshuffle=False)
                | beam.Map(lambda r: TimestampedValue(r, r["t"]))
                | Windowed(transform(path))
            )[0]
            | batch
        )
    )

    assert not late.late
    main = next(iter(late._collects.values())).elements
    assert sorted(map(repr, main)) == sorted(map(repr, batch.elements))


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("lateness", [0, 60])
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_a_record_of_a_window_that_was_closed_is_late(order, lateness, tmp_path):
    """It begins no state; a record of another window, or key, does."""
    transform = Windowed(Predict(weights_for("predict", tmp_path), order=order), lateness)

    outputs = predict_stream(
        transform, 0, [row(1), row(2)], 80, [row(5), row(85), row(6, "b")], 200
    )

    said = sorted(
        (r.key, (r.event_time.micros // 10**6) - START, r.step) for r in outputs.predictions
    )
    assert said == [("a", 1, 1), ("a", 2, 2), ("a", 85, 1), ("b", 6, 1)]
    (late,) = outputs.late
    assert late.time == (START + 5) * 10**6
    assert late.behind == (10 + lateness - 5) * 10**6 - 1  # a window ends before its last moment
    assert sorted((r.key, r.steps, r.reason) for r in outputs.ended) == [
        ("a", 1, "window"),
        ("a", 2, "window"),
        ("b", 1, "window"),
    ]


@pytest.mark.usefixtures("each_way")
def test_a_key_that_was_idle_in_a_window_that_was_closed_is_late(tmp_path):
    """While the window goes on, a record of it begins a sequence."""
    transform = Windowed(Predict(weights_for("predict", tmp_path), idle_after=2))

    outputs = predict_stream(transform, 0, [row(1)], 5, [row(7)], 80, [row(8)], 200)

    assert [r.step for r in outputs.predictions] == [1, 1]
    assert [r.reason for r in outputs.ended] == ["idle", "idle"]
    assert [r.time for r in outputs.late] == [(START + 8) * 10**6]


def test_rows_of_a_partly_late_batch_keep_their_columns(tmp_path):
    def batch(*rows):
        return pa.Table.from_pylist([{**r, "note": f"{r['id']}{r['t'] - START}"} for r in rows])

    late = batch(row(5), row(6, "b"), row(7), row(8, "c"))
    outputs = predict_stream(
        Windowed(Predict(weights_for("predict", tmp_path), shards=1)),
        0, [batch(row(1))], 80, [late], 200,
        kind=pa.Table,
        time=lambda table: table["t"][0].as_py(),
    )  # fmt: skip

    rows = [each for table in outputs.predictions for each in table.to_pylist()]
    assert sorted((each["id"], each["t"] - START, each["note"]) for each in rows) == [
        ("a", 1, "a1"),
        ("b", 6, "b6"),
        ("c", 8, "c8"),
    ]
    assert sorted(each.time // 10**6 - START for each in outputs.late) == [5, 7]


def test_a_window_before_1970_is_closed_by_no_window_before_it():
    closing = Closing(0, "before 1970")
    first, second = IntervalWindow(-100, -90), IntervalWindow(-90, -80)

    closing.leave("a", first)
    closing.close(first)

    assert closing.is_closed("a", first)
    assert not closing.is_closed("a", second)


def test_an_expansion_service_keeps_windows_for_the_allowed_lateness():
    """There the pipeline has a direct runner, on whatever the job will run."""
    runner = beam.Pipeline(runner="DirectRunner").runner
    with ExternalTransform.outer_namespace("namespace of the caller"):
        closing = closing_on(runner, 60, 30, "Predict", "step")

    assert closing == Closing(60)
    assert closing_on(runner, 60, 30, "Predict", "step") == Closing(0, "step")


def test_an_interactive_runner_counts_as_its_underlying_runner():
    class InteractiveRunner:
        def __init__(self, underlying):
            self._underlying_runner = underlying

    direct = beam.Pipeline(runner="DirectRunner").runner
    direct.is_interactive()
    flink = beam.Pipeline(runner="FlinkRunner").runner

    on_direct, on_flink = (
        closing_on(InteractiveRunner(runner), 60, 30, "Predict", "step")
        for runner in (direct, flink)
    )

    assert (on_direct, on_flink) == (Closing(60, "step"), Closing(60))


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", [ON_PRISM])
def test_prism_keeps_no_window_beyond_its_end_and_says_so(engine, tmp_path, caplog):
    transform = Windowed(Predict(weights_for("predict", tmp_path), wait=30), 60)

    outputs = predict_stream(transform, 0, [row(1), row(2)], 12, [row(5)], 40, engine=engine)

    assert sorted(r.step for r in outputs.predictions) == [1, 2]
    assert [r.time for r in outputs.late] == [(START + 5) * 10**6]
    assert "PrismRunner removes the state of a window at its end" in caplog.text


def test_records_in_order_of_arrival_do_not_wait(tmp_path):
    predict = Predict(weights_for("predict", tmp_path), order="arrival", wait=30)

    outputs = predict_stream(Windowed(predict), 0, [row(1)], 40)

    assert [r.step for r in outputs.predictions] == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: Predict(path, wait=30),
        lambda path: Predict(path, wait=30, shards=2),
        lambda path: ScoreAnomalies(path, wait=30),
        lambda path: Smooth(path, lag=2, wait=30),
        lambda _: PredictAndLearn(Untrained(Network("gru", hidden=2), LEARN), wait=30),
        lambda _: LastRecords(LEARN, length=1, wait=30),
    ],
    ids=["predict", "in shards", "anomalies", "smooth", "learn", "last records"],
)
def test_waiting_longer_than_a_window_is_kept_is_refused(make):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    records = pipeline | beam.Create([row(1)])

    with pytest.raises(
        ConfigurationError,
        match=r"\(wait=30\) waits longer .* FixedWindows\(size=10 s\) with allowed_lateness=20\. "
        r"Use beam\.WindowInto\(\.\.\., allowed_lateness=30\)",
    ):
        _ = records | Windowed(make("weights.arrow"), lateness=20)
