"""Dataflow without an account: the jobs of every transform and pipeline."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import dataflow_api

import beam_rnn
from beam_rnn import (
    Columns,
    ExportStates,
    Generate,
    ImportStates,
    JoinRecords,
    LastRecords,
    LossCurve,
    Network,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ReadModel,
    ScoreAnomalies,
    Sequences,
    Smooth,
    Train,
    Training,
    WriteModel,
)
from beam_rnn.online import Untrained
from beam_rnn.pairs import EncoderDecoder, PairColumns, Pairs, Transduce
from pipelines import (
    anomaly,
    compose,
    evaluate,
    live,
    predict,
    retrain,
    sentiment,
    train,
    translate,
    write,
)
from pipelines.messages import ReadMessages
from tests.helpers.dataflow import TOPICS, flags, service, translated, written
from tests.helpers.models import COLUMNS, random_model, saved

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "contracts" / "golden"
TEMPLATE = ROOT / "deploy" / "dataflow"
IMAGE = ROOT / "deploy" / "worker" / "Dockerfile"

RECORDS = [{"id": "a", "t": 1, "x": 1.0, "y": 2.0}]
ONE_COLUMN = Columns(key="id", time="t", inputs=["x"])
PAIRS = PairColumns(key="id", source="x", target="y")
STREAMING_ENGINE = {"use_runner_v2", "enable_streaming_engine", "enable_windmill_service"}


def on_dataflow(test):
    """Marks what needs Beam's extra `gcp`."""
    reason = "needs Beam's extra gcp: make test-dataflow, or pip install 'beam-rnn[dataflow]'"
    return pytest.mark.dataflow(pytest.mark.skipif(dataflow_api is None, reason=reason)(test))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(random_model(), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def one_column(tmp_path_factory):
    """Of a model that can be fed its own outputs."""
    model = random_model(Network("gru", hidden=3), ONE_COLUMN)
    return saved(model, tmp_path_factory.mktemp("weights"))


def golden(name):
    """The stateful steps of a golden graph, with what of them a running job depends on."""
    steps = json.loads((GOLDEN / f"{name}.json").read_text())
    return {
        label: {part: step[part] for part in ("state", "timers", "input")}
        for label, step in steps.items()
        if step["state"]
    }


def use(outputs):
    """Consume every output, because an unused one could be removed from a job."""
    named = outputs._asdict() if hasattr(outputs, "_asdict") else {"output": outputs}
    for name, output in named.items():
        _ = output | f"Use-{name}" >> beam.Map(lambda row: row)


def records(pipeline):
    return pipeline | "Records" >> beam.Create(RECORDS)


def trained(pipeline, **settings):
    return records(pipeline) | Sequences(COLUMNS) | Train(Network("gru", hidden=3), **settings)


def joined(given, weights):
    columns = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"])
    return (given | PredictSequences(weights)).predictions | JoinRecords(columns, given)


LEARNS = Untrained(Network("gru"), COLUMNS)
GRAPHS = {
    "Predict": ("graph", lambda p, w: records(p) | Predict(w.two)),
    "Predict in shards": ("graph-shards", lambda p, w: records(p) | Predict(w.two, shards=4)),
    "PredictAndLearn": ("graph-learning", lambda p, w: records(p) | PredictAndLearn(LEARNS)),
    "ScoreAnomalies": ("graph-anomalies", lambda p, w: records(p) | ScoreAnomalies(w.two)),
    "Smooth": ("graph-smooth", lambda p, w: records(p) | Smooth(w.two, lag=4)),
    "PredictSequences": (None, lambda p, w: records(p) | PredictSequences(w.two)),
    "Generate": (None, lambda p, w: records(p) | Generate(w.one, 5)),
    "Transduce": (None, lambda p, w: records(p) | Transduce(w.two)),
    "Sequences": (None, lambda p, w: records(p) | Sequences(COLUMNS).with_exception_handling()),
    "Pairs": (None, lambda p, w: records(p) | Pairs(PAIRS).with_exception_handling()),
    "Train": (None, lambda p, w: trained(p)),
    "Train in shards": (None, lambda p, w: trained(p, training=Training(epochs=2), shards=2)),
    "Train for each key": (None, lambda p, w: trained(p, per_key=True)),
    "Train of pairs": (None, lambda p, w: records(p) | Pairs(PAIRS) | Train(EncoderDecoder("gru"))),
    "WriteModel": (None, lambda p, w: trained(p) | WriteModel("gs://bucket/weights.arrow")),
    "ReadModel": (None, lambda p, w: p | ReadModel(w.two)),
    "LossCurve": (None, lambda p, w: trained(p) | LossCurve()),
    "JoinRecords": (None, lambda p, w: joined(records(p), w.two)),
    "ImportStates": (None, lambda p, w: p | ImportStates(w.two)),
}
"""Case -> the golden graph with its state, if it has any, and the pipeline."""


class Weights(NamedTuple):
    """Of models with one column, and with two."""

    one: str
    two: str


@on_dataflow
@pytest.mark.parametrize("case", GRAPHS)
def test_every_transform_becomes_a_job(case, weights, one_column, tmp_path):
    name, build = GRAPHS[case]
    job = translated(lambda p: use(build(p, Weights(one_column, weights))), tmp_path)

    assert job.stateful() == ({} if name is None else golden(name))
    assert job.description["type"] == "JOB_TYPE_BATCH"
    assert job.workers["workerHarnessContainerImage"].startswith("gcr.io/cloud-dataflow/")


@on_dataflow
def test_last_records_and_exported_states_are_kept_by_named_cells(weights, tmp_path):
    """Those of `Predict`: one DoFn keeps them all."""
    exported = translated(
        lambda p: (records(p) | Predict(weights, with_state=True)).ended | ExportStates(tmp_path),
        tmp_path,
    )
    assert exported.stateful() == golden("graph")

    last = translated(lambda p: use(records(p) | LastRecords(COLUMNS, length=4)), tmp_path)
    assert list(last.stateful().values()) == list(golden("graph").values())


def test_no_public_transform_is_forgotten():
    public = {
        name
        for name in beam_rnn.__all__
        if isinstance(getattr(beam_rnn, name), type)
        and issubclass(getattr(beam_rnn, name), beam.PTransform)
    }
    assert public <= {*GRAPHS, "ExportStates", "LastRecords"}


MAINS = {
    "train": (
        train.main,
        ["--input=gs://bucket/days/*.csv", "--key=id", "--time=t", "--inputs=x", "--shards=2"],
        "weights.arrow",
        None,
    ),
    "predict": (predict.main, ["--input=gs://bucket/days/*.csv"], "out.csv", "graph"),
    "predict in shards": (
        predict.main,
        ["--input=gs://bucket/days/*.csv", "--shards=8"],
        "out.csv",
        "graph-shards",
    ),
    "evaluate": (evaluate.main, ["--input=gs://bucket/days/*.csv"], "metrics.json", "graph"),
    "anomaly": (
        anomaly.main,
        ["--input=gs://bucket/days/*.csv", "--key=id", "--time=t", "--inputs=x"],
        "scores.csv",
        "graph-anomalies",
    ),
}


@on_dataflow
@pytest.mark.parametrize("case", MAINS)
def test_the_pipelines_for_files_become_dataflow_jobs(case, weights, tmp_path):
    main, arguments, output, name = MAINS[case]
    if main in {predict.main, evaluate.main}:
        arguments = [*arguments, f"--weights={weights}"]
    main([*arguments, f"--output=gs://bucket/{output}", *flags(tmp_path)])
    job = written(tmp_path)

    assert job.description["type"] == "JOB_TYPE_BATCH"
    assert list(job.stateful().values()) == ([] if name is None else list(golden(name).values()))


@on_dataflow
def test_retraining_becomes_a_streaming_job(weights, tmp_path):
    arguments = [
        "--input=gs://bucket/days/*.csv",
        f"--models={Path(weights).parent}",
        "--every=3600",
    ]
    retrain.main([*arguments, "--output=gs://bucket/out", *flags(tmp_path)])
    job = written(tmp_path)

    assert job.description["type"] == "JOB_TYPE_STREAMING"
    assert golden("graph").items() <= job.stateful().items()


HERE = PipelineOptions(["--runner=FnApiRunner"])


@on_dataflow
def test_the_text_pipeline_becomes_dataflow_jobs(one_column, tmp_path):
    options = PipelineOptions(flags(tmp_path))
    args, _ = write.parse(["--weights=x"])

    write.train("to be or not to be" * 100, args, options)
    assert has_step(written(tmp_path), "WriteModel")
    write.write(one_column, args, options)
    assert has_step(written(tmp_path), "Generate")


@on_dataflow
def test_composing_becomes_jobs(tmp_path):
    options = PipelineOptions(flags(tmp_path))
    args, _ = compose.parse([f"--output={tmp_path}", "--epochs=1", "--hidden=2", "--layers=1"])
    piece = compose.music.Piece("a", ((60,), (62,)), held_out=False)
    weights = str(tmp_path / "weights.arrow")

    compose.train([piece], weights, args, options)
    assert has_step(written(tmp_path), "WriteModel")
    compose.train([piece], weights, args, HERE)
    compose.generate(weights, args, options)
    assert has_step(written(tmp_path), "Generate")


@on_dataflow
def test_the_sentiment_pipeline_becomes_dataflow_jobs(tmp_path):
    for name in ("positive", "negative"):
        (tmp_path / name).write_text("a good film\na bad film\n" * 3)
    files = [f"--{name}={tmp_path / name}" for name in ("positive", "negative")]
    args, _ = sentiment.parse([*files, "--output=gs://b/o.csv", "--epochs=1", "--hidden=2"])
    weights = str(tmp_path / "weights.arrow")

    job = translated(lambda p: sentiment.train(p, args, weights), tmp_path)
    assert has_step(job, "WriteModel")
    with beam.Pipeline(options=HERE) as pipeline:
        sentiment.train(pipeline, args, weights)
    job = translated(lambda p: sentiment.tell(p, args, weights, all_of_them=False), tmp_path)
    assert has_step(job, "PredictSequences")


@on_dataflow
def test_the_translation_pipeline_becomes_dataflow_jobs(tmp_path):
    args, _ = translate.parse(["--input=gs://b/*.csv", "--weights=gs://b/w.arrow"])
    for build, step in ((translate.learn, "WriteModel"), (translate.write, "Transduce")):
        job = translated(lambda p, build=build: build(p, translate.with_defaults(args)), tmp_path)
        assert has_step(job, step)


def has_step(job, transform):
    return any(f"{transform}/" in f"{label}/" for label in job.steps())


def live_graph(job):
    """What an update of the job depends on: names, kinds of steps, state, coders between them."""
    stateful = job.stateful()
    return {
        label: {
            "kind": step.spec.urn,
            "outputs": {
                tag: job.coder(job.pipeline.components.pcollections[output].coder_id)
                for tag, output in sorted(step.outputs.items())
            },
            **stateful.get(label, {}),
        }
        for label, step in sorted(job.steps().items())
    }


@pytest.fixture
def lived(weights, tmp_path):
    """Runs `pipelines.live` with more flags; gives its job."""

    def job(*more):
        live.main([f"--weights={weights}", *TOPICS, *more, *flags(tmp_path)])
        return written(tmp_path)

    return job


@on_dataflow
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--order=arrival"],
        ["--order=event_time", "--wait=60", "--grid=5", "--idle_after=3600"],
        ["--on_model_change=replay", "--replay=8", "--watch=60"],
    ],
    ids=lambda more: " ".join(more) or "as it is",
)
def test_the_live_job_is_that_of_running_jobs(more, lived):
    """The graph does not depend on the flags, so that a running job can be updated."""
    assert live_graph(lived(*more)) == json.loads((GOLDEN / "graph-dataflow.json").read_text())


@on_dataflow
def test_with_shards_its_state_is_that_of_shards(lived):
    assert list(lived("--shards=8").stateful().values()) == list(golden("graph-shards").values())


@on_dataflow
def test_a_step_that_is_added_leaves_the_others_as_they_were(weights, tmp_path):
    args, _ = live.parser().parse_known_args([f"--weights={weights}", *TOPICS])

    def build(pipeline):
        read = pipeline | "Records" >> ReadMessages(args.input)
        _ = read | "Counted" >> beam.Map(len)
        predictions, rejected = live.build(read, args, live.read_model(weights))
        _ = predictions | "Audit" >> beam.Map(lambda row: row)
        _ = predictions | "Predictions" >> live.WriteMessages(args.output)
        _ = rejected | "Aside" >> live.WriteMessages(args.rejected)

    before = json.loads((GOLDEN / "graph-dataflow.json").read_text())
    after = live_graph(translated(build, tmp_path, "--streaming"))

    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {"Audit", "Counted"}


@on_dataflow
def test_the_live_job_streams_with_streaming_engine(lived):
    job = lived("--max_num_workers=4", "--machine_type=n2-standard-2")

    assert job.description["type"] == "JOB_TYPE_STREAMING"
    assert set(job.description["environment"]["experiments"]) >= STREAMING_ENGINE
    assert job.options["pickle_library"] == "cloudpickle"
    (harness,) = job.workers["sdkHarnessContainerImages"]
    assert harness["useSingleCorePerContainer"]
    assert job.workers["machineType"] == "n2-standard-2"
    assert job.workers["autoscalingSettings"]["maxNumWorkers"] == 4
    kinds = {step.spec.urn for step in job.steps().values()}
    assert kinds >= {"beam:transform:pubsub_read:v1", "beam:transform:pubsub_write:v1"}


@on_dataflow
def test_at_least_once_can_be_requested(lived):
    job = lived("--dataflow_service_options=streaming_mode_at_least_once")

    assert job.description["environment"]["serviceOptions"] == ["streaming_mode_at_least_once"]


@on_dataflow
def test_workers_get_the_packages_that_are_named(lived, tmp_path):
    wheel = tmp_path / "beam_rnn-1-py3-none-any.whl"
    wheel.touch()
    extra = lived(f"--extra_package={wheel}")
    assert {wheel.name, "extra_packages.txt"} <= extra.packages

    setup = lived(f"--setup_file={ROOT / 'pyproject.toml'}")
    assert "workflow.tar.gz" in setup.packages

    image = lived("--sdk_container_image=example.com/worker:1", "--sdk_location=container")
    (harness,) = image.workers["sdkHarnessContainerImages"]
    assert harness["containerImage"] == "example.com/worker:1"
    assert not {"extra_packages.txt", "workflow.tar.gz"} & image.packages


@on_dataflow
def test_an_update_names_the_job_that_it_replaces(weights, tmp_path):
    with service() as dataflow:
        mapping = '--transform_name_mapping={"Old/Step":"Predict/Step"}'
        arguments = [f"--weights={weights}", *TOPICS, "--update", mapping]
        live.main([*arguments, *flags(tmp_path, dataflow.port)])
    (job,) = dataflow.jobs

    assert job["replaceJobId"] == "job-1"
    assert job["transformNameMapping"] == {"Old/Step": "Predict/Step"}


def started(dataflow, weights, folder, *program):
    """Start the live pipeline on the fake service."""
    arguments = [f"--weights={weights}", *TOPICS, *flags(folder, dataflow.port)]
    return subprocess.Popen(  # noqa: S603
        [sys.executable, *program, *arguments, "--save_main_session"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@on_dataflow
def test_the_template_s_launcher_does_not_wait_for_the_job(weights, tmp_path):
    """As a program of its own, by the path that the image names."""
    with service() as dataflow:
        launcher = started(dataflow, weights, tmp_path, str(TEMPLATE / "launcher.py"))
        assert launcher.wait(timeout=120) == 0

        assert len(dataflow.jobs) == 1
        assert not dataflow.asked.is_set()


@on_dataflow
def test_the_command_does(weights, tmp_path):
    with service() as dataflow:
        command_line = started(dataflow, weights, tmp_path, "-m", "pipelines.live")
        try:
            assert dataflow.asked.wait(timeout=120)
            assert command_line.poll() is None
        finally:
            command_line.kill()
            command_line.wait()


@on_dataflow
def test_the_images_are_of_the_versions_that_a_job_asks_for(lived):
    image = lived().workers["workerHarnessContainerImage"].rpartition("/")[2]

    if f"python{sys.version_info.major}.{sys.version_info.minor}_" in IMAGE.read_text():
        assert f"FROM apache/{image}\n" in IMAGE.read_text()
    else:
        assert f"_sdk:{image.rpartition(':')[2]}\n" in IMAGE.read_text()
