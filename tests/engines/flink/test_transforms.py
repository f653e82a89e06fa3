"""The other transforms in a batch on the cluster: their local results, bit for bit."""

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn import (
    Generate,
    LastRecords,
    Network,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ScoreAnomalies,
    Smooth,
)
from beam_rnn.pairs import Transduce
from tests.helpers.engines import Collect
from tests.helpers.models import COLUMNS, random_model, saved
from tests.transforms.test_generate import model_of as singer
from tests.transforms.test_learn import LEARNING
from tests.transforms.test_transduce import random_model as translator

BOTH = Network("gru", hidden=4, bidirectional=True)
RECORDS = [
    {"id": key, "t": t, "x": (t % 7) / 3, "y": t % 5, "c": "abc"[t % 3], "said": "abcde"[t % 4 :]}
    for t in range(40)
    for key in "abc"
]


@pytest.fixture
def transforms(tmp_path):
    """Each with a model of its own."""

    def path(name, model):
        folder = tmp_path / name
        folder.mkdir()
        return saved(model, folder)

    one, both = path("one", random_model()), path("both", random_model(BOTH))
    return {
        "Predict": Predict(one, with_state=True),
        "Shards": Predict(one, with_state=True, shards=2),
        "Smooth": Smooth(both, lag=2),
        "PredictSequences": PredictSequences(both),
        "LastRecords": LastRecords(COLUMNS, length=3),
        "ScoreAnomalies": ScoreAnomalies(one, LEARNING),
        "PredictAndLearn": PredictAndLearn(one, LEARNING),
        "Generate": Generate(path("letters", singer("letters")), length=5),
        "Transduce": Transduce(path("pairs", translator("attention"))),
    }


def test_each_transform_gives_its_local_results_on_flink(flink, transforms):
    on_flink = [*flink.flags(loopback=True), "--parallelism=1"]
    here, there = (given(transforms, flags) for flags in (["--runner=FnApiRunner"], on_flink))

    for name in transforms:
        assert here[name], name
        assert there[name] == here[name], name


def given(transforms, flags):
    """Name -> all that comes out of it, sorted; the workers are threads of this process."""
    collected = {name: [] for name in transforms}
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        records = pipeline | beam.Create(RECORDS)
        for name, transform in transforms.items():
            # A step between: FnApiRunner makes one stage of all that read the same source.
            own = records | f"For-{name}" >> beam.Reshuffle()
            for output, rows in (own | name >> transform)._asdict().items():
                collect = Collect()
                _ = rows | f"Collect-{name}-{output}" >> collect
                collected[name].append(collect)
    return {
        name: sorted(repr(row) for collect in collects for row in collect.elements)
        for name, collects in collected.items()
    }
