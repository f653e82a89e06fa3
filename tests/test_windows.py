"""Windows that overlap: what comes of a window stays in it, once."""

from collections import Counter

import apache_beam as beam
import pytest
from apache_beam.transforms.window import SlidingWindows, TimestampedValue

from beam_rnn import (
    Columns,
    LastRecords,
    Network,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ScoreAnomalies,
    Smooth,
    Untrained,
)
from tests.engines import Collect, run
from tests.models import COLUMNS, random_model, saved

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


class InWindow(beam.DoFn):
    def process(self, element, window=beam.DoFn.WindowParam):
        yield int(window.start), element.key, element


def windows_of(t):
    """The starts of the windows that hold a time."""
    return [start for start in range(-SIZE, COUNT, PERIOD) if start <= t < start + SIZE]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_record_of_a_window_comes_out_once_in_it(name, tmp_path):
    network = Network("gru", hidden=3, bidirectional=name == "smooth")
    path = saved(random_model(network, COLUMNS), tmp_path)
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
