"""The flex template, the images, and the page that documents them."""

import json
import re
import shlex
from pathlib import Path

import pytest

import beam_rnn
from beam_rnn import Columns, Network, Predict
from beam_rnn.cli import flags, predict, train
from beam_rnn.errors import ConfigurationError
from deploy.dataflow.metadata import metadata
from pipelines import live
from tests.helpers.dataflow import TOPICS
from tests.helpers.models import random_model, saved
from tests.helpers.streams import START, predict_stream

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "dataflow.md"
TEMPLATE = ROOT / "deploy" / "dataflow"
IMAGE = ROOT / "deploy" / "worker" / "Dockerfile"


def numbered(count):
    return [{"id": "a", "t": START + i, "n": i, "x": float(i)} for i in range(count)]


@pytest.fixture
def numbered_weights(tmp_path):
    columns = Columns(key="id", time="t", inputs=["x"], sequence="n")
    return saved(random_model(Network("gru", hidden=3), columns), tmp_path)


@pytest.mark.parametrize("order", ["event_time", "sequence"])
def test_a_duplicate_record_is_predicted_once(order, numbered_weights):
    """At-least-once delivery changes no prediction, before or after the record is due."""
    rows = numbered(6)
    transform = Predict(numbered_weights, order=order)
    once = predict_stream(transform, rows[:3], 4, rows[3:])
    twice = predict_stream(transform, [*rows[:3], *rows[1:3]], 4, [*rows[1:], *rows[3:]])

    assert sorted(twice.predictions) == sorted(once.predictions)
    assert len(once.predictions) == 6
    assert {row.time // 10**6 - START for row in twice.late} <= set(range(6))


def test_a_duplicate_record_is_predicted_twice_in_order_of_arrival(numbered_weights):
    """So at-least-once delivery cannot be used with this order."""
    rows = numbered(3)
    twice = predict_stream(Predict(numbered_weights, order="arrival"), [*rows, *rows])

    assert len(twice.predictions) == 6


def test_the_pipeline_refuses_order_by_arrival_with_at_least_once(numbered_weights):
    with pytest.raises(ConfigurationError, match="--order arrival processes a duplicate again"):
        live.main(
            [
                f"--weights={numbered_weights}",
                *TOPICS,
                "--order=arrival",
                "--runner=FnApiRunner",
                "--dataflow_service_options=streaming_mode_at_least_once",
            ]
        )


def test_the_stored_metadata_match_the_flags():
    assert json.loads((TEMPLATE / "metadata.json").read_text()) == metadata(), (
        "python -m deploy.dataflow.metadata > deploy/dataflow/metadata.json"
    )


def parameters():
    stored = json.loads((TEMPLATE / "metadata.json").read_text())["parameters"]
    return {parameter["name"]: parameter for parameter in stored}


def test_the_required_parameters_are_the_required_flags(capsys):
    needed = {name for name, parameter in parameters().items() if not parameter["isOptional"]}
    with pytest.raises(SystemExit):
        live.parser().parse_args([])
    said = capsys.readouterr().err

    assert needed == set(re.findall(r"--(\w+)", said.rpartition("required:")[2]))
    assert all(parameter["helpText"] for parameter in parameters().values())


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("input", TOPICS[0].partition("=")[2], "readings"),
        ("input", "kafka://one:9092,two:9092/readings?group.id=a", "kafka://one:9092"),
        ("output", TOPICS[1].partition("=")[2], TOPICS[0].partition("=")[2]),
        ("order", "sequence", "time"),
        ("wait", "0.5", "-1"),
        ("shards", "16", "1.5"),
        ("on_model_change", "replay", "replays"),
    ],
)
def test_the_patterns_accept_only_valid_values(name, good, bad):
    (pattern,) = parameters()[name]["regexes"]

    assert re.match(pattern, good)
    assert not re.match(pattern, bad)


def test_the_template_is_a_streaming_template():
    stored = json.loads((TEMPLATE / "metadata.json").read_text())
    keys = ("streaming", "supportsExactlyOnce", "supportsAtLeastOnce", "defaultStreamingMode")

    assert [stored[key] for key in keys] == [True, True, True, "EXACTLY_ONCE"]


def test_the_files_and_versions_of_the_dockerfiles_exist():
    """The Dockerfiles are read: Docker does not run here."""
    project = (ROOT / "pyproject.toml").read_text()
    python, beam_version = re.search(
        r"^FROM apache/beam_python(\d+\.\d+)_sdk:([\d.]+)$", IMAGE.read_text(), re.MULTILINE
    ).groups()
    assert f'Python :: {python}"' in project
    assert beam_version.startswith(re.search(r'"apache-beam>=([\d.]+)"', project).group(1))

    template = (TEMPLATE / "Dockerfile").read_text()
    assert f"python{python.replace('.', '')}-template-launcher-base" in template
    copied = re.findall(r"^COPY (?!--from)(\S+) (\S+)$", template, re.MULTILINE)
    assert [(ROOT / source).exists() for source, _ in copied] == [True]
    assert f"FLEX_TEMPLATE_PYTHON_PY_FILE={copied[0][1]}" in template


def test_the_packages_have_one_version():
    pipelines = (ROOT / "deploy" / "worker" / "pyproject.toml").read_text()

    assert f'version = "{beam_rnn.__version__}"' in pipelines


def documented():
    """Return the commands of the page."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


@pytest.mark.parametrize(
    "line",
    [line for line in documented() if line.startswith(("beam-rnn ", "python -m pipelines."))],
)
def test_the_commands_of_the_page_parse(line):
    words = shlex.split(line)
    parse = {
        ("beam-rnn", "train"): train.parse,
        ("beam-rnn", "predict"): predict.parse,
        ("-m", "pipelines.live"): live.parser().parse_known_args,
    }
    known, at = next(
        (parse[tuple(words[i : i + 2])], i) for i in (0, 1) if tuple(words[i : i + 2]) in parse
    )
    _, beam_flags = known(words[at + 2 :])

    assert "--runner=DataflowRunner" in beam_flags
    flags.beam_options([flag for flag in beam_flags if not flag.startswith("--runner")])


@pytest.mark.parametrize(
    "line", [line for line in documented() if "flex-template run" in line]
)  # fmt: skip
def test_the_parameters_on_the_page_exist_in_the_template(line):
    words = shlex.split(line)
    named = [words[i + 1] for i, word in enumerate(words) if word == "--parameters"]
    given = dict(pair.split("=", 1) for text in named for pair in text.split(","))
    beam_s = {"sdk_container_image", "sdk_location"}

    assert given.keys() - beam_s <= parameters().keys()
    assert {n for n, each in parameters().items() if not each["isOptional"]} <= given.keys()
