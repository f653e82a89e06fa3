"""Beam YAML: the shipped pipelines, and that other forms give the results of Python."""

import csv
import json
import math
import re
import shlex
from collections import defaultdict
from pathlib import Path

import apache_beam as beam
import pytest

from beam_rnn import Bptt, Columns, Network, ScoreAnomalies, Sequences, Train, Training, WriteModel
from beam_rnn import weights as weights_file
from beam_rnn.optim import Adam
from beam_rnn.portable import PROVIDERS
from beam_rnn.portable.schemas import time_text
from beam_rnn.testing import oracle
from tests.helpers.engines import predict
from tests.helpers.models import random_model, saved

main = pytest.importorskip("apache_beam.yaml.main", reason="no apache-beam[yaml]")
import yaml  # noqa: E402
from apache_beam.yaml.yaml_provider import load_providers  # noqa: E402
from apache_beam.yaml.yaml_transform import YamlTransform  # noqa: E402

from deploy.yaml_reference import TRANSFORMS, page  # noqa: E402

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "pipelines" / "yaml"


def shown(kind):
    """The blocks of docs/yaml.md of that kind."""
    page = (ROOT / "docs" / "yaml.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def run(name, **variables):
    """`python -m apache_beam.yaml.main` on a shipped pipeline."""
    flags = [f"--{variable}={value}" for variable, value in variables.items()]
    main.run(
        [
            f"--yaml_pipeline_file={SHIPPED / name}",
            f"--jinja_variable_flags={','.join(variables)}",
            "--runner=FnApiRunner",
            *flags,
        ]
    )


def providers():
    """Those of the file that the package has."""
    return {p: [each] for each in load_providers(PROVIDERS) for p in each.provided_transforms()}


def header(name):
    """The fields of the row of a shipped pipeline that the docs show."""
    return shown("csv")[("predict.yaml", "anomalies.yaml").index(name)].splitlines()[0].split(",")


def one(folder, pattern):
    (path,) = folder.glob(f"{pattern}-00000-of-00001")
    return path


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """Two files, two days of hours each, with a value that is missing; and the good records.

    Of few digits: pandas reads those of long numbers not to the last bit.
    """
    folder, records = tmp_path_factory.mktemp("series"), []
    for i, name in enumerate(("a.csv", "b.csv")):
        lines = ["timestamp,value"]
        for hour in range(48):
            time = time_text(hour * 3600 * 10**6)
            value = round(100 * i + 10 * math.sin(hour * math.pi / 12), 2)
            missing = (i, hour) == (1, 7)
            lines.append(f"{time},{'' if missing else value}")
            if not missing:
                records.append({"series": name, "timestamp": time, "value": value})
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder, records


@pytest.fixture(scope="module")
def trained(series, tmp_path_factory):
    weights = tmp_path_factory.mktemp("trained") / "weights.arrow"
    run("train.yaml", input=series[0] / "*.csv", weights=weights, epochs=2)
    return weights


def test_training_gives_the_weights_that_python_gives(series, trained, tmp_path):
    columns = Columns(key="series", time="timestamp", inputs=["value"])
    training = Training(
        loss="mae", epochs=2, bptt=Bptt(steps=32), optimizer=Adam(learning_rate=0.003)
    )
    with beam.Pipeline(runner="FnApiRunner") as p:
        sequences = p | beam.Create(series[1]) | Sequences(columns, length=256, fraction=0.6)
        models = sequences | Train(Network("gru", hidden=32, residual=True), training)
        _ = models | WriteModel(tmp_path / "weights.arrow")

    assert weights_file.load(trained) == weights_file.load(tmp_path / "weights.arrow")
    (refused,) = one(trained.parent, "weights.arrow.refused.json").read_text().splitlines()
    assert json.loads(refused)["msg"] == "value is missing, got None"
    assert json.loads(refused)["key"] == "b.csv"
    element = json.loads(json.loads(refused)["element"])
    assert element == {"series": "b.csv", "timestamp": "1970-01-01T07:00:00Z", "value": None}


def test_predictions_and_their_daily_means_are_those_of_python(series, trained, tmp_path):
    run("predict.yaml", input=series[0] / "*.csv", weights=trained, predictions=tmp_path / "said")

    model = weights_file.load(trained)
    expected = oracle(model, series[1]).predictions
    rows = rows_of(one(tmp_path, "said.csv"))
    assert list(rows[0]) == header("predict.yaml")
    assert sorted(
        (row["key"], row["time"], float(row["value_prediction"]), int(row["prediction_step"]))
        for row in rows
    ) == sorted((p.key, time_text(p.time), *p.outputs, p.step) for p in expected)
    assert {row["prediction_model"] for row in rows} == {model.digest}
    assert {row["prediction_kernel"] for row in rows} == {p.kernel for p in expected}

    of_day = defaultdict(list)
    for p in expected:
        of_day[p.key, time_text(p.time)[:10]].append(p.outputs[0])
    means = {
        (row["key"], row["day"]): float(row["mean"])
        for row in rows_of(one(tmp_path, "said.daily.csv"))
    }
    assert means == {of: pytest.approx(sum(said) / len(said)) for of, said in of_day.items()}
    assert len(means) == 4
    (refused,) = one(tmp_path, "said.refused.json").read_text().splitlines()
    assert json.loads(refused)["late"] is False


def test_scores_and_their_daily_maxima_are_those_of_python(series, trained, tmp_path):
    source, threshold = series[0] / "*.csv", 0.5
    run("anomalies.yaml", input=source, weights=trained, scores=tmp_path / "s", threshold=threshold)

    expected = predict(ScoreAnomalies(str(trained)), series[1]).scores
    rows = rows_of(one(tmp_path, "s.csv"))
    assert list(rows[0]) == header("anomalies.yaml")
    assert sorted((row["key"], row["time"], float(row["anomaly_score"])) for row in rows) == sorted(
        (s.key, time_text(s.time), s.score) for s in expected if s.score >= threshold
    )
    of_day = defaultdict(list)
    for s in expected:
        of_day[s.key, time_text(s.time)[:10]].append(s.score)
    assert {
        (row["key"], row["day"]): float(row["score"])
        for row in rows_of(one(tmp_path, "s.daily.csv"))
    } == {of: max(scores) for of, scores in of_day.items()}


def written(steps, *names):
    """What a pipeline of YAML writes into the folder of these outputs."""
    steps = list(steps.values())
    for name in names:
        step = {"type": "WriteToJson", "name": f"Write-{name}", "input": name}
        steps.append(step | {"config": {"path": name}, "windowing": {"type": "global"}})
    spec = yaml.safe_dump({"type": "composite", "transforms": steps})
    with beam.Pipeline(runner="FnApiRunner") as p:
        _ = p | YamlTransform(spec, providers())
    return {
        name: [json.loads(line) for line in one(Path(), name).read_text().splitlines()]
        for name in names
    }


def test_the_other_blocks_of_the_docs(series, trained, tmp_path, monkeypatch):
    """Windows, and numbers that are read as text."""
    monkeypatch.chdir(tmp_path)
    Path("readings.csv").write_text("id,at,temperature\na,1,59.36\na,2,broken\n")
    Path("commas.csv").write_text("id;temperature\na;59,36\n")
    keyed = [{**r, "timestamp": r["timestamp"].removesuffix("Z")} for r in series[1]]
    steps = {"Keyed": {"type": "Create", "name": "Keyed", "config": {"elements": keyed}}}
    for block in shown("yaml"):
        if block.startswith("- "):
            for step in yaml.safe_load(block.replace("{{ weights }}", str(trained))):
                steps[step.get("name", step["type"])] = step
    anew = {name: steps[name] for name in ("Keyed", "AssignTimestamps", "Anew")}
    del steps["Anew"]  # the FnApiRunner mixes up the timers of transforms in different windows
    found = written(anew, "Anew") | written(
        steps, "Means", "Numbers", "Numbers.not_numbers", "Missing", "Commas"
    )

    model = weights_file.load(trained)
    anew = [
        p
        for day in ("1970-01-01", "1970-01-02")
        for p in oracle(model, [r for r in keyed if r["timestamp"][:10] == day]).predictions
    ]
    assert sorted(tuple(row.values()) for row in found["Anew"]) == sorted(
        (p.key, time_text(p.time), round(p.outputs[0], 10), p.step, p.model, p.kernel) for p in anew
    )
    carried = oracle(model, keyed).predictions
    means = defaultdict(list)
    for p in carried:
        means[p.key, time_text(p.time)[:10]].append(p.outputs[0])
    assert sorted(r["value_prediction"] for r in found["Means"]) == [
        pytest.approx(mean) for mean in sorted(sum(said) / len(said) for said in means.values())
    ]
    assert [r["temperature"] for r in found["Numbers"]] == [59.36]
    assert "broken" in found["Numbers.not_numbers"][0]["element"]
    assert [r["temperature"] for r in found["Missing"]] == [59.36, None]
    assert [r["temperature"] for r in found["Commas"]] == [59.36]
    ends = {path.name for path in (tmp_path / "models").iterdir()}
    assert ends == {"19700101T235959Z.arrow", "19700102T235959Z.arrow"}


def test_a_transform_in_a_pipeline_of_python(tmp_path):
    """`include` by the path that the package says, and what is wrong with a parameter."""
    spec = """
      type: RnnPredict
      config: {weights: "%s", %s}
    """
    model = random_model()
    records = [{"id": "a", "t": t, "x": t / 7, "y": 0.5} for t in range(3)]
    weights = saved(model, tmp_path)
    with beam.Pipeline(runner="FnApiRunner") as p:
        rows = p | beam.Create([beam.Row(**record) for record in records])
        said = rows | YamlTransform(spec % (weights, "wait: 0"), providers())
        _ = said | beam.Map(lambda row: row.x_prediction) | beam.io.WriteToText(f"{tmp_path}/said")
    found = "".join(path.read_text() for path in tmp_path.glob("said*"))
    expected = [p.outputs[0] for p in oracle(model, records).predictions]
    assert sorted(map(float, found.split())) == sorted(expected)

    pipeline = beam.Pipeline(runner="FnApiRunner")
    rows = pipeline | beam.Create([beam.Row(**record) for record in records])
    with pytest.raises(ValueError, match="wait, in seconds, must be in"):
        _ = rows | YamlTransform(spec % (weights, "wait: -1"), providers())
    with pytest.raises(ValueError, match="RnnPredict has no 'epochs': it takes weights, order"):
        _ = rows | "Typo" >> YamlTransform(spec % (weights, "epochs: 3"), providers())


def test_every_parameter_has_a_type_and_is_documented():
    """What Beam YAML reads of the classes."""
    (provider,) = load_providers(PROVIDERS)
    assert len(provider.provided_transforms()) == 6
    for name in provider.provided_transforms():
        assert provider.description(name)
        for field in provider.config_schema(name).fields:
            assert field.description, f"{name}.{field.name}"
            assert field.type.WhichOneof("type_info") != "logical_type", f"{name}.{field.name}"


def test_the_docs_show_the_shipped_pipelines():
    """The commands, too, which stand in the head of each."""
    heads, bodies = [], []
    for name in ("train.yaml", "predict.yaml", "anomalies.yaml"):
        text = (SHIPPED / name).read_text()
        head, body = text.split("pipeline:\n", 1)
        bodies.append(f"pipeline:\n{body}")
        heads.append(" ".join(re.findall(r"^#     (.*)$", head, re.MULTILINE)))

    assert [block for block in shown("yaml") if block.startswith("pipeline:")] == bodies[:2]
    shell = "".join(shown("sh")).replace("\\\n", " ")
    for head in heads:
        assert shlex.split(head.replace("\\", " ")) in [shlex.split(x) for x in shell.splitlines()]


def test_the_reference_is_that_of_the_docstrings():
    """Else: python -m deploy.yaml_reference > docs/yaml-reference.md."""
    assert (ROOT / "docs" / "yaml-reference.md").read_text() == page()
    (provider,) = load_providers(PROVIDERS)
    assert {each.__name__ for each in TRANSFORMS} == set(provider.provided_transforms())
