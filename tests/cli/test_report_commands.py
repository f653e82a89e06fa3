"""`beam-rnn report`, and the outcomes of records on the page."""

import datetime as dt
import json
import re
import shlex
from pathlib import Path

import apache_beam as beam
import pytest

from beam_rnn import Columns, Model, Predict, weights
from beam_rnn.cli import evaluate, report, train
from beam_rnn.cli.record_counts import CountRecords
from beam_rnn.cli.replay import ReplayReport, arrive
from beam_rnn.errors import ConfigurationError
from beam_rnn.nn.network import Network
from beam_rnn.records.cutting import cut
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.report import report as page_of
from beam_rnn.report.sections.record_counts import Counts
from tests.helpers.engines import Collect, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.helpers.streams import START, predict_stream

BAD = [
    {"id": "a", "t": 5, "x": "n/a", "y": 1.0},
    {"id": "a", "t": 5, "y": 1.0},
    {"id": "b", "t": 6, "x": "", "y": 1.0},
]
REASONS = (("the record has no field 'x'", 1), ("x must be a number", 2))


def good(steps=40):
    each = [(key, t) for t in range(steps) for key in "ab"]
    return [{"id": key, "t": 60 * t, "x": t % 7 / 7, "y": t % 5} for key, t in each]


def counts_of(records, build, engine="fnapi"):
    collect = Collect()
    run(lambda p: build(p | beam.Create(records)) | collect, engine)
    (counts,) = collect.elements
    return counts


def test_the_outcomes_of_records_are_counted(tmp_path):
    path = saved(random_model(), tmp_path)
    repeated = [*good(), *good(3), *good(1), *BAD]

    def build(records):
        outputs = records | Predict(path)
        return records | CountRecords(
            COLUMNS, outputs.invalid, outputs.predictions, outputs.late, 60.0
        )

    assert counts_of(repeated, build) == Counts(91, 8, REASONS, 80, 0, 60.0)


def test_no_records_are_counted_as_none(tmp_path):
    path = saved(random_model(), tmp_path)

    def build(records):
        outputs = records | Predict(path)
        return records | CountRecords(COLUMNS, outputs.invalid, outputs.predictions, outputs.late)

    assert counts_of([], build) == Counts(0, 0, (), 0, 0)


def test_late_records_of_a_stream_are_counted(tmp_path):
    def record(t):
        return {"id": "a", "t": START + t, "x": 0.5, "y": 1.0}

    first, then = [record(1), record(1), record(4)], [record(2), record(20)]
    came = predict_stream(Predict(saved(random_model(), tmp_path)), first, 10, then)

    def build(records):
        rows = [came.invalid, came.predictions, came.late]
        given = [records.pipeline | f"{i}" >> beam.Create(each) for i, each in enumerate(rows)]
        return records | CountRecords(COLUMNS, *given)

    assert counts_of([*first, *then], build) == Counts(5, 1, (), 3, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records in a file, and a model of 40 of 60 steps of them."""
    folder = tmp_path_factory.mktemp("report")
    columns = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"], horizon=(1, 3))
    network = Network("gru", hidden=4, output="quantiles", horizons=2)
    parameters = network.initialize(2, 6, seed=0)
    until = dict.fromkeys("ab", 60 * 40 * 1000000)
    model = Model(network, parameters, columns, training={"until": until})
    weights.save(model, folder / "weights.arrow")
    lines = [json.dumps(record) for record in [*good(60), *good(2), *BAD]]
    (folder / "data.jsonl").write_text("\n".join(lines))
    return folder


def expected(folder, command, shuffled=0.0):
    """The page, made without a pipeline."""
    model = weights.load(folder / "weights.arrow")
    reader = RecordReader(model.columns, targets=True)
    by_key = {}
    for record in good(60):
        key, data = reader.read(record)
        by_key.setdefault(key, []).append(data)
    sequences = [each for key, data in by_key.items() for each in cut(key, data, model.columns)]
    return page_of(model, sequences, command, Counts(127, 4, REASONS, 120, 0, shuffled))


@pytest.mark.parametrize("within", [0.0, 600.0])
def test_the_command_writes_the_page(within, folder, tmp_path):
    path = tmp_path / "report.html"
    flags = [
        f"--input={folder}/data.jsonl",
        f"--weights={folder}/weights.arrow",
        f"--output={path}",
        f"--shuffle_within={within}",
    ]
    report.main(flags)

    command = shlex.join(["beam-rnn", "report", *flags])
    assert path.read_text() == expected(folder, command, within)
    aside = tmp_path / "report.html.invalid.jsonl"
    assert [json.loads(line)["reason"] for line in aside.read_text().splitlines()].count(
        "x must be a number"
    ) == 2


@pytest.mark.parametrize("command", [evaluate, report])
def test_replaying_a_model_without_keys_prints_no_warning(command, tmp_path, caplog, capsys):
    """All records, from 1944, are after those of the training, which are none."""
    weights_file = saved(random_model(), tmp_path)
    first = dt.datetime(1944, 1, 1)  # noqa: DTZ001
    rows = [row | {"t": str(first + dt.timedelta(hours=row["t"]))} for row in good()]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / ("m.json" if command is evaluate else "r.html")

    command.main(
        [
            f"--input={tmp_path}/data.jsonl",
            f"--weights={weights_file}",
            f"--output={output}",
            "--shuffle_within=600",
        ]
    )

    assert not [each for each in caplog.records if each.levelname == "WARNING"]
    if command is evaluate:
        assert json.loads(output.read_text())["records"] == 2 * 40
        assert "nothing was measured" not in capsys.readouterr().out


def test_evaluate_writes_the_same_page(folder, tmp_path):
    path = tmp_path / "report.html"
    flags = [
        f"--input={folder}/data.jsonl",
        f"--weights={folder}/weights.arrow",
        f"--output={tmp_path}/metrics.json",
        f"--report={path}",
    ]
    evaluate.main(flags)

    assert path.read_text() == expected(folder, shlex.join(["beam-rnn", "evaluate", *flags]))
    assert json.loads((tmp_path / "metrics.json").read_text())["bit_equal"] is True
    asides = [each.name for each in tmp_path.glob("*.invalid.jsonl")]
    assert asides == ["metrics.json.invalid.jsonl"]


def test_a_network_of_both_directions_is_not_replayed(folder, tmp_path):
    columns = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"])
    model = random_model(Network("gru", hidden=4, bidirectional=True), columns)
    weights.save(model, tmp_path / "weights.arrow")
    report.main(
        [
            f"--input={folder}/data.jsonl",
            f"--weights={tmp_path}/weights.arrow",
            f"--output={tmp_path}/report.html",
        ]
    )

    html = (tmp_path / "report.html").read_text()
    assert "There were 127 records" in html
    assert "through Predict" not in html


def test_models_of_keys_are_refused(tmp_path):
    weights.save(keyed_models("ab"), tmp_path / "weights.arrow")
    (tmp_path / "a.csv").touch()
    flags = [f"--input={tmp_path}/a.csv", f"--weights={tmp_path}/weights.arrow"]
    page, figures = tmp_path / "report.html", tmp_path / "metrics.json"
    with pytest.raises(ConfigurationError, match=r"one model, .* holds 2 models of keys"):
        report.main([*flags, f"--output={page}"])
    with pytest.raises(ConfigurationError, match=r"one model, .* holds 2 models of keys"):
        evaluate.main([*flags, f"--output={figures}", f"--report={page}"])


def test_an_invalid_report_is_refused_before_the_pipeline_runs(tmp_path):
    model = random_model()
    with pytest.raises(ConfigurationError, match=r"shuffle_within.* got -5"):
        ReplayReport("report.html", "weights.arrow", model, shuffle_within=-5)
    weights.save(Model(model.network, model.parameters), tmp_path / "weights.arrow")
    (tmp_path / "a.csv").touch()
    with pytest.raises(ConfigurationError, match="a model without columns"):
        report.main(
            [
                f"--input={tmp_path}/a.csv",
                f"--weights={tmp_path}/weights.arrow",
                f"--output={tmp_path}/o.html",
            ]
        )


def test_the_commands_of_the_page_parse():
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    (shell,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for line in shell.replace("\\\n", " ").splitlines()]
    modules = {"report": report, "evaluate": evaluate, "train": train}
    assert [words[1] for words in commands] == list(modules)
    assert all(modules[words[1]].parse(words[2:])[1] == [] for words in commands)


def test_the_delay_of_shuffled_records_is_bounded():
    records = [(60_000_000 * i, i) for i in range(200)]
    stamped = list(arrive(("key", records), 600))
    assert all(each.timestamp == 60 * each.value for each in stamped)
    arrived = [each.value for each in stamped]
    assert sorted(arrived) == list(range(200))
    assert arrived != list(range(200))
    assert max(max(arrived[:i], default=0) - each for i, each in enumerate(arrived)) <= 10
