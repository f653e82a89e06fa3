"""The graphs of running jobs: labels, state cells, timers and coders.

A streaming job that is updated, or restored from a savepoint, finds its state by these names.
A change here breaks running jobs: it is a new major version, not a new golden file.
"""

import json
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_rnn import (
    Columns,
    Generate,
    Network,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ScoreAnomalies,
    Smooth,
)
from beam_rnn.online import Untrained
from beam_rnn.pairs import Transduce
from tests.helpers.models import COLUMNS, random_model, saved

GOLDEN = Path(__file__).parent / "golden" / "graph.json"
LEARNING = GOLDEN.with_name("graph-learning.json")
SCORING = GOLDEN.with_name("graph-anomalies.json")
IN_SHARDS = GOLDEN.with_name("graph-shards.json")
SMOOTHED = GOLDEN.with_name("graph-smooth.json")
WHOLE = GOLDEN.with_name("graph-whole.json")
TRANSDUCED = GOLDEN.with_name("graph-transduce.json")
GENERATING = GOLDEN.with_name("graph-generating.json")


def coder_urns(proto, coder_id):
    coder = proto.components.coders[coder_id]
    return [coder.spec.urn, *(coder_urns(proto, i) for i in coder.component_coder_ids)]


def graph(transform, records=({},)):
    """Label -> state cells and timers with their coders, and the coder of the input."""
    pipeline = beam.Pipeline(runner="FnApiRunner")
    outputs = pipeline | "Records" >> beam.Create(list(records)) | transform
    for name, output in outputs._asdict().items():
        _ = output | f"Use-{name}" >> beam.Map(lambda row: row)
    proto = pipeline.to_runner_api()
    root = f"{type(transform).__name__}/"
    found = {}
    for step in proto.components.transforms.values():
        label = step.unique_name
        if step.spec.urn != "beam:transform:pardo:v1" or not label.startswith(root):
            continue
        payload = beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(
            step.spec.payload
        )
        cells = {}
        for name, spec in payload.state_specs.items():
            kind = spec.WhichOneof("spec")
            detail = getattr(spec, kind)
            coder = detail.element_coder_id if kind == "bag_spec" else detail.coder_id
            cells[name] = [kind, coder_urns(proto, coder)]
        timers = {
            name: [spec.time_domain, coder_urns(proto, spec.timer_family_coder_id)]
            for name, spec in payload.timer_family_specs.items()
        }
        (input_id,) = step.inputs.values()
        input_coder = coder_urns(proto, proto.components.pcollections[input_id].coder_id)
        outputs_of = {
            tag: coder_urns(proto, proto.components.pcollections[output].coder_id)
            for tag, output in step.outputs.items()
        }
        found[label] = {"state": cells, "timers": timers, "outputs": outputs_of}
        if cells:
            found[label]["input"] = input_coder
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": "arrival"},
        {"order": "sequence", "wait": 60},
        {"emit": "last", "idle_after": 60},
        {"on_model_change": "replay", "replay": 8, "watch": 60},
    ],
    ids=str,
)
def test_labels_state_cells_timers_and_coders_are_those_of_running_jobs(settings, tmp_path):
    """The graph does not depend on the settings, so that a running job can be updated."""
    weights = saved(random_model(), tmp_path)

    assert graph(Predict(weights, **settings)) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("settings", [{}, {"order": "arrival", "idle_after": 60}], ids=str)
@pytest.mark.parametrize("shards", [1, 64])
def test_the_graph_of_predict_with_shards(settings, shards, tmp_path):
    weights = saved(random_model(), tmp_path)

    assert graph(Predict(weights, shards=shards, **settings)) == json.loads(IN_SHARDS.read_text())


def test_the_graph_of_predict_with_arrow_batches(tmp_path):
    """State, timers and blocks are those of any shards."""
    weights = saved(random_model(), tmp_path)
    found = graph(Predict(weights, shards=4), [pa.table({"id": ["a"]})])

    (label,) = [label for label, step in found.items() if step["state"]]
    expected = json.loads(IN_SHARDS.read_text())[label]
    for part in ("state", "timers", "input"):
        assert found[label][part] == expected[part]


@pytest.mark.parametrize(
    "settings", [{}, {"order": "sequence", "wait": 60, "idle_after": 60, "checkpoint_every": 9}],
    ids=str,
)  # fmt: skip
def test_the_graph_of_predict_and_learn(settings):
    transform = PredictAndLearn(Untrained(Network("gru", hidden=3), COLUMNS), **settings)

    assert graph(transform) == json.loads(LEARNING.read_text())


@pytest.mark.parametrize(
    "settings", [{"lag": 4}, {"lag": 0, "order": "sequence", "wait": 60, "idle_after": 60}], ids=str
)
def test_the_graph_of_smooth(settings):
    """The lag may change from job to job."""
    assert graph(Smooth("weights.arrow", **settings)) == json.loads(SMOOTHED.read_text())


@pytest.mark.parametrize("settings", [{}, {"emit": "last", "idle_after": 60}], ids=str)
def test_the_graph_of_predict_sequences(settings):
    assert graph(PredictSequences("weights.arrow", **settings)) == json.loads(WHOLE.read_text())


@pytest.mark.parametrize("settings", [{}, {"beam": 4, "limit": 9}], ids=str)
def test_the_graph_of_transduce(settings):
    assert graph(Transduce("weights.arrow", **settings)) == json.loads(TRANSDUCED.read_text())


@pytest.mark.parametrize("settings", [{}, {"order": "sequence", "idle_after": 60}], ids=str)
def test_the_graph_of_score_anomalies(settings, tmp_path):
    """With a weights file and with online learning."""
    weights, untrained = saved(random_model(), tmp_path), Untrained(Network("gru"), COLUMNS)

    for base in (weights, untrained):
        assert graph(ScoreAnomalies(base, **settings)) == json.loads(SCORING.read_text())


@pytest.mark.parametrize("settings", [{}, {"temperature": 0, "seed": 7}], ids=str)
def test_the_graph_of_generate(settings, tmp_path):
    columns = Columns(key="id", time="t", inputs=["x"])
    weights = saved(random_model(Network("gru", hidden=3), columns), tmp_path)

    assert graph(Generate(weights, 5, **settings)) == json.loads(GENERATING.read_text())
