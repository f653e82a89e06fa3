import bz2
import csv
import gzip
import json
import math
import re
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_rnn import Columns
from beam_rnn import weights as weights_file
from beam_rnn.cli import baselines as measuring
from beam_rnn.cli import evaluate, predict, train
from beam_rnn.cli import report as report_command
from beam_rnn.cli.console import run
from beam_rnn.cli.flags import beam_options
from beam_rnn.cli.launch import launch
from beam_rnn.cli.replay import arrive
from beam_rnn.errors import ConfigurationError
from beam_rnn.files import set_aside as aside
from beam_rnn.files.refused import Refused
from beam_rnn.records.cutting import cut
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.report import report
from beam_rnn.report.sections.record_counts import Counts
from pipelines import demo

ROOT = Path(__file__).parents[2]
START = 1_400_000_000
EVERY = 3600
COLUMNS = ["--key=city", "--time=at", "--inputs=load,heat", "--targets=load"]
QUICK = ["--epochs=2", "--hidden=6", "--sequence_length=40"]
ABOUT = ["prediction_step", "prediction_model", "prediction_kernel"]
NUMBERS = {"prediction_step": int, "load_prediction": float}


def rows(length=120):
    """Two cities, hourly, with a day's cycle; the text of their times is what a CSV has."""
    random = np.random.default_rng(0)
    return [
        {
            "city": city,
            "at": str(datetime.fromtimestamp(START + EVERY * i, timezone.utc)),
            "load": level + float(np.sin(2 * np.pi * i / 24) + 0.1 * random.standard_normal()),
            "heat": float(np.cos(2 * np.pi * i / 24)),
        }
        for i in range(length)
        for city, level in (("Bern", 5.0), ("Köln", -200.0))
    ]


def write(path, records):
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".arrow":
        table = pa.Table.from_pylist(records)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def read(path):
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [
                {**r, **{name: kind(r[name]) for name, kind in NUMBERS.items()}}
                for r in csv.DictReader(file)
            ]
    if path.suffix == ".parquet":
        table = pq.read_table(path).to_pylist()
    elif path.suffix == ".arrow":
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all().to_pylist()
    else:
        table = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        {**r, "time": r["time"] if isinstance(r["time"], str) else r["time"].isoformat()}
        for r in table
    ]


def in_order(records):
    return sorted(records, key=lambda r: (r["key"], r["prediction_step"]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pipelines")


@pytest.fixture(scope="module")
def data(folder):
    return write(folder / "data.csv", rows())


@pytest.fixture(scope="module")
def weights(folder, data):
    path = folder / "weights.arrow"
    train.main([f"--input={data}", *COLUMNS, *QUICK, f"--output={path}"])
    return path


def test_a_model_for_each_key_is_trained_streamed_and_measured(weights, data, tmp_path):
    models, figures, predictions = (tmp_path / name for name in ("m.arrow", "m.json", "p.jsonl"))

    train.main([f"--input={data}", *COLUMNS, *QUICK, "--per_key", f"--output={models}"])
    predict.main([f"--input={data}", f"--weights={models}", f"--output={predictions}"])
    evaluate.main([f"--input={data}", f"--weights={models}", f"--output={figures}"])

    trained = weights_file.load(models)
    assert list(trained.models) == ["Bern", "Köln"]
    assert trained.fallback == weights_file.load(weights)
    assert {r["key"]: r["prediction_model"] for r in in_order(read(predictions))} == dict(
        trained.digests
    )
    said = json.loads(figures.read_text())
    assert said["bit_equal"] is True
    assert said["records"] == 2 * 48
    assert all(errors["model_mae"] > 0 for errors in said["series"].values())


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".jsonl"])
def test_every_format_gives_the_same_weights_and_the_same_predictions(
    suffix, weights, data, tmp_path
):
    source = write(tmp_path / f"data{suffix}", rows())
    again, output = tmp_path / "again.arrow", tmp_path / f"predictions{suffix}"

    train.main([f"--input={source}", *COLUMNS, *QUICK, f"--output={again}"])
    predict.main([f"--input={source}", f"--weights={again}", f"--output={output}"])

    assert weights_file.load(again).digest == weights_file.load(weights).digest
    reference = tmp_path / "reference.csv"
    predict.main([f"--input={data}", f"--weights={weights}", f"--output={reference}"])
    assert in_order(read(output)) == in_order(read(reference))
    first = in_order(read(output))[0]
    assert list(first) == ["key", "time", "load_prediction", *ABOUT]
    assert first["key"] == "Bern"
    assert first["time"] == "2014-05-13T16:53:20+00:00"
    assert not list(tmp_path.glob("*.jsonl.*"))
    assert not list(tmp_path.glob("*.invalid.jsonl"))


def test_training_sees_the_first_part_of_each_key_alone(weights, data, tmp_path):
    changed = rows()
    for record in changed[int(0.6 * len(changed)) :]:
        record["load"] = 1e6
    other = tmp_path / "other.arrow"
    source = write(tmp_path / "data.csv", changed)
    train.main([f"--input={source}", *COLUMNS, *QUICK, f"--output={other}"])

    assert weights_file.load(other).digest == weights_file.load(weights).digest
    until = weights_file.load(weights).training["until"]
    assert until == dict.fromkeys(("Bern", "Köln"), (START + 71 * EVERY) * 1_000_000)


def whole(records):
    """All records of each key as the sequence that `Sequences` makes of them."""
    columns = Columns(key="city", time="at", inputs=["load", "heat"], targets=["load"])
    reader = RecordReader(columns, targets=True)
    by_key = {}
    for record in records:
        key, data = reader.read(record)
        by_key.setdefault(key, []).append(data)
    return [sequence for key, data in by_key.items() for sequence in cut(key, data, columns)]


@pytest.mark.parametrize("fraction", [0.6, 1.0])
def test_a_report_of_the_training_is_written(fraction, tmp_path):
    records = [{**row, "city": {"Bern": "<b>ern"}.get(row["city"], "Köln")} for row in rows()]
    source = write(tmp_path / "data.jsonl", [*records, {"city": "Bern", "load": "no number"}])
    path, output = tmp_path / "sub" / "report.html", tmp_path / "weights.arrow"
    path.parent.mkdir()
    flags = [f"--train_fraction={fraction}", f"--output={output}", f"--report={path}"]
    train.main([f"--input={source}", *COLUMNS, *QUICK, *flags])

    html = path.read_text()
    model = weights_file.load(output)
    given = [f"--input={source}", *COLUMNS, *QUICK, *flags]
    command_line = shlex.join(["beam-rnn", "train", *given])
    counts = Counts(241, 0, (("the record has no field 'at'", 1),))
    assert html == report(model, whole(records), command_line, counts)
    assert model.digest in html
    assert ("was trained on these records" in html) == (fraction == 1.0)
    assert "<b>ern" not in html
    assert sorted(each.name for each in path.parent.iterdir()) == ["report.html"]
    if fraction == 0.6:
        figures = tmp_path / "metrics.json"
        evaluate.main([f"--input={source}", f"--weights={output}", f"--output={figures}"])
        mean = json.loads(figures.read_text())["mean"]
        shown = re.search(r"Mean absolute error (\S+) .* That of the last value is (\S+);", html)
        assert float(shown[1]) == pytest.approx(mean["model_mae"], rel=0.02)
        assert float(shown[2]) == pytest.approx(mean["last_value_mae"], rel=0.02)


def test_evaluate_writes_the_figures(weights, data, tmp_path):
    output = tmp_path / "metrics.json"
    evaluate.main([f"--input={data}", f"--weights={weights}", f"--output={output}"])
    metrics = json.loads(output.read_text())

    assert list(metrics) == [
        "series", "mean", "bit_equal", "records", "records_per_second", "unscaled"
    ]  # fmt: skip
    assert metrics["unscaled"] == []
    assert metrics["bit_equal"] is True
    assert metrics["records"] == 2 * 48
    assert metrics["records_per_second"] > 0
    assert list(metrics["series"]) == ["Bern", "Köln"]
    for key, errors in metrics["series"].items():
        load = np.array([r["load"] for r in rows() if r["city"] == key])
        deviation = load[:72].std()
        last_value = np.abs(np.diff(load[72:])).mean() / deviation
        yesterday = np.abs(load[73:] - load[73 - 24 : -24]).mean() / deviation
        assert errors["last_value_mae"] == pytest.approx(last_value, rel=1e-12)
        assert errors["yesterday_mae"] == pytest.approx(yesterday, rel=1e-12)
    for name in ("model_mae", "last_value_mae", "yesterday_mae"):
        of_series = [errors[name] for errors in metrics["series"].values()]
        assert metrics["mean"][name] == pytest.approx(np.mean(of_series))


def test_the_model_s_error_is_that_of_its_predictions(weights, data, tmp_path):
    output, predictions = tmp_path / "metrics.json", tmp_path / "predictions.csv"
    evaluate.main(
        [
            f"--input={data}",
            f"--weights={weights}",
            f"--output={output}",
            f"--predictions={predictions}",
        ]
    )
    errors = json.loads(output.read_text())["series"]

    for key in ("Bern", "Köln"):
        load = np.array([r["load"] for r in rows() if r["city"] == key])
        said = [r["load_prediction"] for r in in_order(read(predictions)) if r["key"] == key]
        model_mae = np.abs(np.array(said)[:-1] - load[73:]).mean() / load[:72].std()
        assert errors[key]["model_mae"] == pytest.approx(model_mae, rel=1e-12)


def test_the_order_of_arrival_changes_no_figure(weights, data, tmp_path):
    figures = []
    for within in (0, 100_000):
        output = tmp_path / f"{within}.json"
        evaluate.main(
            [
                f"--input={data}",
                f"--weights={weights}",
                f"--output={output}",
                f"--shuffle_within={within}",
            ]
        )
        figures.append(json.loads(output.read_text()) | {"records_per_second": None})

    assert figures[0] == figures[1]
    records = [(r, i) for r, i in enumerate("abcdef")]
    stamped = arrive(("key", [(t * 1_000_000, x) for t, x in records]), 3)
    arrived = [each.value for each in stamped]
    assert sorted(arrived) == list("abcdef")
    assert arrived != list("abcdef")


def test_means_are_over_the_series_that_have_every_figure():
    def score(key, *errors):
        return measuring.Score(key, *errors, bit_equal=True, records=1)

    short, long = score("a", 1.0, 2.0, None), score("b", 3.0, 4.0, 5.0)

    assert list(measuring.report([short, long], 1)["mean"].values()) == [3.0, 4.0, 5.0]
    assert list(measuring.report([short], 1)["mean"].values()) == [1.0, 2.0, None]
    assert list(measuring.report([], 1)["mean"].values()) == [None, None, None]
    assert measuring.report([], 1)["bit_equal"] is None


def test_a_key_that_never_changed_in_training_is_left_out_of_the_mean(tmp_path):
    def score(key, error, *, scaled):
        return measuring.Score(key, error, error, error, bit_equal=True, records=1, scaled=scaled)

    moves, off = score("moves", 1.0, scaled=True), score("off", 5000.0, scaled=False)
    figures = tmp_path / "m.json"
    figures.write_text(json.dumps(measuring.report([moves, off], 1)))

    assert json.loads(figures.read_text())["mean"]["model_mae"] == 1.0
    assert json.loads(figures.read_text())["unscaled"] == ["off"]
    assert measuring.report([off], 1)["mean"]["model_mae"] is None
    assert "1 key without a change in training" in list(evaluate.figures(str(figures)))[-1]
    figures.write_text(json.dumps(measuring.report([moves], 1)))
    assert "without a change" not in "".join(evaluate.figures(str(figures)))


def test_a_key_that_never_changed_in_training_is_forecast_at_its_level(tmp_path):
    data, model, figures = tmp_path / "x.csv", tmp_path / "w.arrow", tmp_path / "m.json"
    rows = [
        f"{key},{3600 * hour},{x:.9f}\n"
        for hour in range(100)
        for key, x in (("flat", 1e-5), ("wave", 2e-5 + 1e-5 * math.sin(hour)))
    ]
    data.write_text("id,t,x\n" + "".join(rows))
    flags = [f"--input={data}", "--key=id", "--time=t", "--inputs=x", "--hidden=4", "--epochs=5"]
    train.main([*flags, f"--output={model}"])
    evaluate.main([f"--input={data}", f"--weights={model}", f"--output={figures}"])

    found = json.loads(figures.read_text())
    assert found["unscaled"] == ["flat"]
    assert found["series"]["flat"]["model_mae"] < 2
    assert found["mean"] == found["series"]["wave"]


def test_means_leave_out_keys_that_training_did_not_see():
    def score(key, error, *, known):
        return measuring.Score(key, error, error, error, bit_equal=True, records=1, known=known)

    learned, strange = score("a", 1.0, known=True), score("b", 3.0, known=False)

    assert measuring.report([learned, strange], 1)["mean"]["model_mae"] == 1.0
    assert measuring.report([strange], 1)["mean"]["model_mae"] == 3.0


def test_a_difference_of_one_bit_is_seen(weights):
    model = weights_file.load(weights)
    records = [r for r in rows() if r["city"] == "Bern"]
    reader = measuring.RecordReader(model.columns, targets=True)
    encoded = [reader.read({**r, "at": r["at"]}).data for r in records]
    inputs = np.array([[r["load"], r["heat"]] for r in records[72:]])
    outputs, state = measuring.forward_pass(model, "Bern", inputs)
    rows_out = [
        measuring.Prediction(
            "Bern", (START + (72 + i) * EVERY) * 1_000_000, i + 1, y, "", b"", 0, ""
        )
        for i, y in enumerate(outputs.tolist())
    ]
    rows_out[-1] = rows_out[-1]._replace(state=state.tobytes())
    assert measuring.score(model, "Bern", encoded, rows_out).bit_equal

    off = list(rows_out)
    off[3] = off[3]._replace(outputs=[np.nextafter(off[3].outputs[0], np.inf)])
    assert not measuring.score(model, "Bern", encoded, off).bit_equal
    other_state = bytes([state.tobytes()[0] ^ 1]) + state.tobytes()[1:]
    off = [*rows_out[:-1], rows_out[-1]._replace(state=other_state)]
    assert not measuring.score(model, "Bern", encoded, off).bit_equal
    assert not measuring.score(model, "Bern", encoded, rows_out[:-1]).bit_equal


def test_bad_lines_are_written_aside_and_the_others_are_used(weights, data, tmp_path):
    lines = data.read_text().splitlines()
    bad = ["Bern,2014-05-20 01:00:00,n/a,0.5", "Bern,2014-05-20 02:00:00", "Bern,never,1,1"]
    source = tmp_path / "data.csv"
    source.write_bytes(
        "\n".join([*lines[:50], *bad, *lines[50:]]).encode() + b"\nB\xffrn,2014-05-20,1,1\n"
    )
    output, reference = tmp_path / "predictions.csv", tmp_path / "reference.csv"

    predict.main([f"--input={source}", f"--weights={weights}", f"--output={output}"])
    predict.main([f"--input={data}", f"--weights={weights}", f"--output={reference}"])

    assert in_order(read(output)) == in_order(read(reference))
    letters = Path(f"{output}.invalid.jsonl").read_text().splitlines()
    reasons = {(json.loads(line)["reason"], json.loads(line)["value"]) for line in letters}
    assert ("load must be a number", "'n/a'") in reasons
    assert any(reason == "a line of 2 fields, not 4" for reason, _ in reasons)
    assert ("city must be UTF-8", r"b'B\xffrn'") in reasons
    assert any(value == "'never'" for _, value in reasons)
    assert len(letters) == 4


def test_bad_json_lines_are_set_aside(weights, data, tmp_path):
    good = [json.dumps(record) for record in rows()]
    bad = ['{"city": "Bern"', "[1, 2]", '{"city": "\\ud800", "at": 1, "load": 1, "heat": 1}', "7"]
    source = tmp_path / "data.jsonl"
    source.write_bytes("\n".join([*good[:9], *bad, "", *good[9:]]).encode() + b'\n{"city": "\xff"}')
    output, reference = tmp_path / "predictions.csv", tmp_path / "reference.csv"

    predict.main([f"--input={source}", f"--weights={weights}", f"--output={output}"])
    predict.main([f"--input={data}", f"--weights={weights}", f"--output={reference}"])

    assert in_order(read(output)) == in_order(read(reference))
    assert len(Path(f"{output}.invalid.jsonl").read_text().splitlines()) == 5


def test_a_line_with_a_decimal_comma_is_no_record_of_another_number(weights, data, tmp_path):
    source, output = tmp_path / "data.csv", tmp_path / "predictions.csv"
    lines = ["Bern,1500000000,1,5,0.5", "Bern,1500000001,1_5,0.5", "Bern,20140701,1,0.5"]
    source.write_text("\n".join([data.read_text().splitlines()[0], *lines]))

    predict.main([f"--input={source}", f"--weights={weights}", f"--output={output}"])

    (prediction,) = read(output)
    assert prediction["time"].startswith("2014-07-01T00:00:00")
    letters = Path(f"{output}.invalid.jsonl").read_text()
    assert "a line of 5 fields, not 4" in letters
    assert "'1_5'" in letters


def test_several_horizons_are_trained_predicted_and_measured(data, tmp_path):
    output, metrics = tmp_path / "weights.arrow", tmp_path / "metrics.json"
    train.main([f"--input={data}", *COLUMNS, *QUICK, "--horizon=1-2,5", f"--output={output}"])
    predictions = tmp_path / "p.csv"
    flags = [f"--input={data}", f"--weights={output}"]
    evaluate.main([*flags, f"--output={metrics}", f"--predictions={predictions}"])

    said = json.loads(metrics.read_text())
    assert said["bit_equal"]
    with predictions.open() as file:
        said_rows = sorted(
            csv.DictReader(file), key=lambda r: (r["key"], int(r["prediction_step"]))
        )
    values = {key: [r["load"] for r in rows() if r["city"] == key] for key in said["series"]}
    for key, errors in said["series"].items():
        x = np.array(values[key])
        first = sum(1 for r in said_rows if r["key"] == key)
        start, seen = len(x) - first, x[: len(x) - first]
        ahead = [np.abs(x[start + h : len(x) - 5 + h] - x[start : len(x) - 5]) for h in (1, 2, 5)]
        assert errors["last_value_mae"] == pytest.approx(np.mean(ahead) / seen.std(), rel=1e-6)
        for h, at in zip((1, 2, 5), ahead, strict=True):
            of_it = errors["horizons"][str(h)]["last_value_mae"]
            assert of_it == pytest.approx(at.mean() / seen.std(), rel=1e-6)
        mine = np.array(
            [
                [float(r[f"load+{h}_prediction"]) for h in (1, 2, 5)]
                for r in said_rows
                if r["key"] == key
            ]
        )[: len(x) - 5 - start]
        truth = np.stack([x[start + h : len(x) - 5 + h] for h in (1, 2, 5)], 1)
        error = np.abs(mine - truth).mean() / seen.std()
        assert errors["model_mae"] == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("text", ["", "a", "1-", "2-1x"])
def test_an_invalid_horizon_is_refused(text, data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main(
            [f"--input={data}", *COLUMNS, f"--horizon={text}", f"--output={tmp_path}/w.arrow"]
        )
    assert (
        "--horizon: must be a whole number, or several such as 1,6,24 or 1-24"
        in capsys.readouterr().err
    )


def test_a_second_run_continues_from_the_states_of_the_first(weights, data, tmp_path):
    header, *lines = data.read_text().splitlines()
    lines.sort(key=lambda line: line.split(",")[1])
    parts = {"first.csv": lines[: len(lines) // 2], "second.csv": lines[len(lines) // 2 :]}
    for name, part in parts.items():
        (tmp_path / name).write_text("\n".join([header, *part]))
    whole, said = tmp_path / "whole.csv", []
    predict.main([f"--input={data}", f"--weights={weights}", f"--output={whole}"])
    for name, flag in (("first.csv", "--export_states"), ("second.csv", "--states")):
        states = tmp_path / ("states" if flag == "--export_states" else "states*")
        output = tmp_path / f"out-{name}"
        flags = [f"--input={tmp_path / name}", f"--weights={weights}", f"--output={output}"]
        predict.main([*flags, f"{flag}={states}"])
        said += read(output)

    assert in_order(said) == in_order(read(whole))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", 'city,at,load,heat\nBern,1,"2,3\nBern,2,2,3\nOslo,3,1",1\n', "not closed"),
        ("data.csv", 'city,at,load,heat\nBern,1,"' + "x" * 200_000, "field larger than"),
        ("data.parquet", "PAR1 no more", r"cannot be read as a \.parquet file"),
        ("data.arrow", "ARROW1 no more", r"cannot be read as a \.arrow file"),
    ],
    ids=["quote", "endless quote", "parquet", "arrow"],
)
def test_a_broken_file_is_named(name, content, message, weights, tmp_path):
    (tmp_path / name).write_text(content)
    flags = [f"--input={tmp_path / name}", f"--weights={weights}", f"--output={tmp_path}/o.csv"]
    with pytest.raises(Exception, match=message) as error:
        predict.main(flags)
    assert str(tmp_path / name) in str(error.value)
    assert type(error.value).__name__ == "UnreadableFileError"


def test_a_deeply_nested_line_is_set_aside(weights, tmp_path):
    source, output = tmp_path / "data.jsonl", tmp_path / "o.csv"
    good = {"city": "Bern", "at": 1, "load": 1, "heat": 2}
    source.write_text("[" * 100_000 + "\n" + json.dumps(good))

    predict.main([f"--input={source}", f"--weights={weights}", f"--output={output}"])

    assert len(read(output)) == 1
    assert len(Path(f"{output}.invalid.jsonl").read_text().splitlines()) == 1


def test_an_arrow_file_is_not_compressed_as_a_whole(weights, data, tmp_path):
    flags = [f"--input={data}", f"--weights={weights}", f"--output={tmp_path}/o.arrow.gz"]
    with pytest.raises(ConfigurationError, match=r"not compressed as a whole, got .*o\.arrow\.gz"):
        predict.main(flags)


def test_training_sets_bad_lines_aside_and_says_so(data, weights, tmp_path, caplog):
    source = tmp_path / "data.csv"
    source.write_text(data.read_text() + "Bern,2014-05-20 01:00:00,n/a,0.5\n")
    output = tmp_path / "weights.arrow"
    train.main([f"--input={source}", *COLUMNS, *QUICK, f"--output={output}"])

    assert f"1 record could not be used: see {output}.invalid.jsonl" in caplog.text
    letter = json.loads(Path(f"{output}.invalid.jsonl").read_text())
    assert (letter["reason"], letter["value"]) == ("load must be a number", "'n/a'")
    assert weights_file.load(output).digest == weights_file.load(weights).digest


def test_a_file_s_name_can_be_the_key(tmp_path):
    for name, level in (("north/a.csv", 0.0), ("north/b.csv", 1.0), ("south/a.csv", 2.0)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write(path, [{"at": i, "x": level + i % 5} for i in range(30)])
    output = tmp_path / "weights.arrow"
    columns = ["--key=filename", "--time=at", "--inputs=x"]

    train.main([f"--input={tmp_path}/*/*.csv", *columns, *QUICK, f"--output={output}"])
    assert set(weights_file.load(output).training["until"]) == {
        "north/a.csv",
        "north/b.csv",
        "south/a.csv",
    }
    train.main([f"--input={tmp_path}/north/*.csv", *columns, *QUICK, f"--output={output}"])
    assert set(weights_file.load(output).training["until"]) == {"a.csv", "b.csv"}


def test_flags_reach_the_network_the_training_and_beam(tmp_path):
    data = write(tmp_path / "data.jsonl", [row | {"much": 1.0} for row in rows()])
    output = tmp_path / "weights.arrow"
    flags = "--cell=lstm --hidden=5,3 --bptt_steps=7 --epochs=1 --seed=9 --horizon=2 --dropout=0.1"
    more = "--weight=much --missing=carry"
    more += " --no-residual --loss=mse --train_fraction=0.5 --scaler=global --batch_size=3"
    runner = "--runner=BundleBasedDirectRunner"
    train.main(
        [f"--input={data}", *COLUMNS, *flags.split(), *more.split(), runner, f"--output={output}"]
    )
    model = weights_file.load(output)

    assert model.network.to_json() == {
        "cell": "lstm",
        "hidden": [5, 3],
    }
    assert model.columns.horizon == 2
    assert (model.columns.weight, model.columns.missing) == ("much", "carry")
    settings = model.training["settings"]
    assert settings["bptt"]["steps"] == 7
    assert (settings["dropout"]["layers"], settings["dropout"]["recurrent"]) == (0.1, 0.1)
    assert (settings["seed"], settings["loss"], settings["batch_size"]) == (9, "mse", 3)
    assert not model.scaler.keys
    assert model.training["until"]["Bern"] == (START + 59 * EVERY) * 1_000_000


def test_a_training_in_shards_is_resumed(data, tmp_path):
    """With the calendar, and a validation, from the command line: the same file."""
    flags = "--shards=3 --calendar=day,week --scaling=robust --validation=0.2 --sequence_length=20"
    common = [f"--input={data}", *COLUMNS, *flags.split(), f"--checkpoints={tmp_path / 'c'}"]
    train.main([*common, "--epochs=4", f"--output={tmp_path / 'whole.arrow'}"])
    train.main(
        [
            *common,
            "--epochs=4",
            f"--resume={tmp_path / 'c-00002.arrow'}",
            f"--output={tmp_path / 'resumed.arrow'}",
        ]
    )

    model = weights_file.load(tmp_path / "whole.arrow")
    assert (tmp_path / "resumed.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()
    assert model.columns.calendar == ("day", "week")
    assert model.training["rounds"]["shards"] == 3
    assert model.training["settings"]["scaling"] == "robust"
    assert len(model.training["validation_curve"]) == 4


@pytest.mark.parametrize(
    ("main", "flags", "message"),
    [
        (
            train.main,
            ["--input=/nowhere/*.csv", *COLUMNS, "--output=w.arrow"],
            "there is no file '/nowhere/*.csv'",
        ),
        (
            predict.main,
            [
                f"--input={Path(__file__).parent}/*.csv",
                "--weights=/nowhere.arrow",
                "--output=o.csv",
            ],
            "there is no file '/nowhere.arrow'",
        ),
        (
            evaluate.main,
            [f"--input={__file__}", f"--weights={__file__}", "--output=o.json"],
            "altered",
        ),
    ],
)
def test_an_error_is_one_line_that_names_the_cause(main, flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(lambda: main(flags))

    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert message in text
    assert text.count("\n") == 1


def test_an_input_of_no_known_format_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.xls").touch()
    with pytest.raises(SystemExit) as caught:
        run(lambda: train.main(["--input=data.xls", *COLUMNS, "--output=w.arrow"]))

    assert caught.value.code == 2
    assert "got 'data.xls'" in capsys.readouterr().err


COMMANDS = {
    "train": (train.main, "w.arrow"),
    "predict": (predict.main, "p.csv"),
    "evaluate": (evaluate.main, "m.json"),
    "report": (report_command.main, "r.html"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_none_of_the_records_could_be_used(name, weights, data, tmp_path, capsys):
    """The error has the most frequent reason, what is needed and what is there."""
    main, output = COMMANDS[name]
    source, output = tmp_path / "data.csv", tmp_path / output
    source.write_text(re.sub("^(Bern|Köln),", ",", data.read_text(), flags=re.MULTILINE))
    flags = COLUMNS if name == "train" else [f"--weights={weights}"]
    with pytest.raises(SystemExit) as caught:
        run(lambda: main([f"--input={source}", *flags, f"--output={output}"]))

    reason = "city must have 1 to 1024 bytes to be a key"
    letters = Path(f"{output}.invalid.jsonl")
    assert caught.value.code == f"error: none of 240 records could be used: {reason}; see {letters}"
    said = capsys.readouterr().err
    assert f"240 records could not be used: see {letters}" in said
    assert f"  240: {reason}, such as ''" in said
    assert "Traceback" not in said
    assert len(letters.read_text().splitlines()) == 240
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([source.name, letters.name])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_missing_column_is_an_error_before_the_pipeline_runs(
    name, weights, data, tmp_path, capsys
):
    main, output = COMMANDS[name]
    source, output = tmp_path / "data.csv", tmp_path / output
    source.write_text(data.read_text().replace("city", "citty", 1))
    flags = COLUMNS if name == "train" else [f"--weights={weights}"]
    with pytest.raises(SystemExit) as caught:
        run(lambda: main([f"--input={source}", *flags, f"--output={output}"]))

    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"there is no column 'city' in '{source}'; did you mean citty? it has citty, at" in said
    assert list(tmp_path.iterdir()) == [source]


def test_a_first_record_that_lacks_a_field_is_no_reason_to_refuse_the_file(tmp_path):
    """A record may lack a field that others have: it alone is a dead letter."""
    source = write(tmp_path / "data.jsonl", [{"city": "Bern", "at": 0}, *rows(40)])

    train.main([f"--input={source}", *COLUMNS, *QUICK, f"--output={tmp_path}/w.arrow"])

    (letter,) = (tmp_path / "w.arrow.invalid.jsonl").read_text().splitlines()
    assert json.loads(letter)["reason"] == "the record has no field 'load'"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_dead_letter_is_counted_once_and_holds_its_record_as_json(name, weights, data, tmp_path):
    source, output = tmp_path / "data.csv", tmp_path / COMMANDS[name][1]
    source.write_text(data.read_text() + "Bern,2014-05-20 01:00:00,n/a,0.5\n")
    module = {"train": train, "predict": predict, "evaluate": evaluate}.get(name, report_command)
    given = [*COLUMNS, *QUICK] if name == "train" else [f"--weights={weights}"]
    page = [f"--report={tmp_path}/page.html"] if name in ("train", "evaluate") else []
    args, _ = module.parse([f"--input={source}", f"--output={output}", *given, *page])
    model = [] if name == "train" else [weights_file.load(weights)]

    counts = launch(lambda p: module.build(p, args, *model), beam_options([]))

    assert counts["records_invalid"] == 1
    (letter,) = Path(f"{output}.invalid.jsonl").read_text().splitlines()
    assert json.loads(letter)["record"] == {
        "filename": "data.csv",
        "city": "Bern",
        "at": "2014-05-20 01:00:00",
        "load": "n/a",
        "heat": 0.5,
    }


@pytest.mark.parametrize("per_key", [[], ["--per_key"]])
def test_a_refit_is_evaluated_before_training_on_all_records(
    per_key, weights, data, tmp_path, capsys
):
    output = tmp_path / "final.arrow"
    train.main([f"--input={data}", *COLUMNS, *QUICK, *per_key, "--refit", f"--output={output}"])

    said = capsys.readouterr().out.splitlines()
    assert [line.split("/")[-1] for line in said if line.startswith("wrote")] == [
        "final.judged.arrow",
        "final.judged.json",
        "final.arrow",
    ]
    judged = weights_file.load(tmp_path / "final.judged.arrow")
    if not per_key:
        assert judged.digest == weights_file.load(weights).digest
    until = {
        key: weights_file.load(output).of(key).training["until"][key] for key in ("Bern", "Köln")
    }
    assert until == dict.fromkeys(("Bern", "Köln"), (START + 119 * EVERY) * 1_000_000)
    figures = json.loads((tmp_path / "final.judged.json").read_text())
    assert figures["records"] == 2 * 48
    with pytest.raises(SystemExit) as refused:
        run(
            lambda: evaluate.main(
                [f"--input={data}", f"--weights={output}", f"--output={tmp_path}/m.json"]
            )
        )
    assert "the model learned from all records" in refused.value.code
    assert "until 2014-05-18 15:53:20, and the last of them is of 2014-05-18" in refused.value.code
    assert "--refit" in refused.value.code
    assert not (tmp_path / "m.json").exists()


def test_a_refit_takes_the_best_number_of_epochs(data, tmp_path):
    output = tmp_path / "final.arrow"
    flags = ["--epochs=4", "--hidden=6", "--validation=0.3", "--patience=2", "--refit"]

    train.main([f"--input={data}", *COLUMNS, *flags, f"--output={output}"])

    judged = weights_file.load(tmp_path / "final.judged.arrow").training
    final = weights_file.load(output).training
    curve = judged["validation_curve"]
    assert len(final["loss_curve"]) == curve.index(min(curve)) + 1
    assert "validation_curve" not in final


@pytest.mark.parametrize("name", ["train", "predict"])
def test_a_file_without_records_is_named(name, weights, data, tmp_path):
    main, output = COMMANDS[name]
    source = tmp_path / "data.csv"
    source.write_text(data.read_text().splitlines()[0])
    flags = COLUMNS if name == "train" else [f"--weights={weights}"]
    with pytest.raises(SystemExit, match=f"error: there is no record in '{source}'"):
        run(lambda: main([f"--input={source}", *flags, f"--output={tmp_path / output}"]))

    assert list(tmp_path.iterdir()) == [source]


def test_reasons_are_counted():
    rows = [Refused(1000, "x must be finite", "inf"), Refused(1, "x must be a number", "'?'")]
    lines = aside.said(rows, "could not be used", "p.jsonl")

    assert lines == [
        "1,001 records could not be used: see p.jsonl",
        "  1,000: x must be finite, such as inf",
        "  1: x must be a number, such as '?'",
    ]
    assert aside.said(rows[1:], "were late", "p")[0] == "1 record was late: see p"
    many = [Refused(2, f"reason {i}", "") for i in range(9)]
    assert aside.said(many, "were late", "p")[-1] == "  8: for other reasons"


def test_commands_print_their_results(weights, data, tmp_path, capsys):
    flags = [f"--input={data}", f"--weights={weights}"]
    predictions, figures = tmp_path / "p.csv", tmp_path / "m.json"
    predict.main([*flags, f"--output={predictions}"])
    assert capsys.readouterr().out == f"wrote {predictions}: 240 predictions\n"

    evaluate.main([*flags, f"--output={figures}"])
    head, names, *lines, last = capsys.readouterr().out.splitlines()
    assert "mean absolute error" in head
    assert names.split() == ["key", "model", "last", "value", "yesterday"]
    said = json.loads(figures.read_text())
    shown = {line.split()[0]: line.replace("*", "").split()[1:] for line in lines}
    assert list(shown) == ["Bern", "Köln", "mean"]
    for name, errors in (said["series"] | {"mean": said["mean"]}).items():
        assert [float(cell) for cell in shown[name]] == pytest.approx(
            [errors[kind] for kind in measuring.ERRORS], abs=6e-4
        )
    assert last == f"wrote {figures}"


def test_the_list_of_keys_with_errors_is_shortened_or_said_to_be_empty(tmp_path):
    path, errors = tmp_path / "m.json", dict.fromkeys(measuring.ERRORS, 0.5)
    many = {f"key {i:02}": errors for i in range(20)}
    mean = errors | {measuring.ERRORS[2]: None}
    found = {"records": 9, "series": many, "mean": mean, "unscaled": []}
    path.write_text(json.dumps(found))
    _, _, *lines = evaluate.figures(str(path))
    assert len(lines) == 12 + 2
    assert lines[-2].startswith("and 8 more keys")
    assert lines[-1].split() == ["mean", "0.500*", "0.500*", "-"]

    path.write_text(json.dumps({"records": 0, "series": {}, "mean": errors}))
    assert "nothing was measured" in "".join(evaluate.figures(str(path)))
    assert list(evaluate.figures(str(tmp_path / "elsewhere"))) == []


def test_records_in_another_order_than_their_time_are_counted(weights, data, tmp_path, caplog):
    head, *lines = data.read_text().splitlines()
    source = tmp_path / "data.csv"
    source.write_text("\n".join([head, *lines[2:], *lines[:2]]))
    output = f"--output={tmp_path}/p.csv"
    predict.main([f"--input={source}", f"--weights={weights}", output, "--order=arrival"])

    assert "2 records were out of the order of their time" in caplog.text


def test_a_key_with_too_few_records_is_named(data, tmp_path, caplog):
    source = tmp_path / "data.csv"
    source.write_text(data.read_text() + "Tiny,2014-05-20 01:00:00,1,0.5\n")
    with caplog.at_level("INFO", logger="beam_rnn"):
        train.main([f"--input={source}", *COLUMNS, *QUICK, f"--output={tmp_path}/w.arrow"])

    assert "1 key has too few records: 'Tiny'" in caplog.text


def test_predictions_keep_the_columns_of_their_records(weights, data, tmp_path, capsys):
    """With a line twice, two of one time, and one that cannot be used."""
    head, *lines = data.read_text().splitlines()
    with_site = [f"{line},site {i}" for i, line in enumerate(lines)]
    tie = lines[3].split(",")
    more = [with_site[5], f"{tie[0]},{tie[1]},-1e3,0.5,tie", f"{tie[0]},{tie[1]},n/a,0.5,bad"]
    source, output = tmp_path / "data.csv", tmp_path / "p.csv"
    source.write_text("\n".join([f"{head},site", *with_site, *more]))
    flags = [f"--input={source}", f"--weights={weights}", f"--output={output}"]

    predict.main([*flags, "--keep=all"])
    kept = read(output)
    predict.main([*flags, "--keep=at,site"])
    some = read(output)
    predict.main(flags)
    plain = read(output)

    assert list(kept[0])[:6] == ["key", "time", "city", "at", "load", "heat"]
    assert [(row["prediction_step"], row["load_prediction"]) for row in kept] == [
        (row["prediction_step"], row["load_prediction"]) for row in in_order(plain)
    ]
    written = {line.rsplit(",", 1)[1]: line.split(",") for line in [*with_site, more[1]]}
    assert sorted(row["site"] for row in kept) == sorted(written)
    for row in kept:
        city, at, load, heat, _ = written[row["site"]]
        assert (row["city"], row["at"]) == (city, at)
        assert (float(row["load"]), float(row["heat"])) == (float(load), float(heat))
    assert [(row["at"], row["site"]) for row in some] == [(r["at"], r["site"]) for r in kept]
    assert list(some[0])[2:4] == ["at", "site"]
    with pytest.raises(ConfigurationError, match="--keep: there is no column 'nope' in"):
        predict.main([*flags, "--keep=nope"])
    with pytest.raises(ConfigurationError, match="--keep goes with an order"):
        predict.main([*flags, "--keep=all", "--order=arrival"])


def test_numbers_are_kept_as_written_in_the_file(weights, tmp_path):
    source, output = tmp_path / "data.csv", tmp_path / "p.csv"
    source.write_text("city,at,load,heat\nBern,1,5.250,1E-01\nBern,2,5.5,0.2\n")

    predict.main(
        [f"--input={source}", f"--weights={weights}", f"--output={output}", "--keep=load,heat"]
    )

    kept = [(row["load"], row["heat"]) for row in in_order(read(output))]
    assert kept == [("5.250", "1E-01"), ("5.5", "0.2")]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_column_may_have_any_name_and_a_number_any_size(ending, weights, tmp_path):
    source, output = tmp_path / "data.jsonl", tmp_path / f"p{ending}"
    more = {"as written": "mine", "big": 2**70}
    write(source, [{"city": "Bern", "at": i, "load": 5.5, "heat": 0.1, **more} for i in (1, 2)])

    predict.main([f"--input={source}", f"--weights={weights}", f"--output={output}", "--keep=all"])

    assert {(row["as written"], int(row["big"])) for row in read(output)} == {("mine", 2**70)}


def test_flags_that_are_no_numbers_are_refused(data):
    with pytest.raises(SystemExit):
        train.main([f"--input={data}", *COLUMNS, "--output=w.arrow", "--hidden=many"])


@pytest.mark.parametrize("module", ["train", "predict", "evaluate", "demo"])
def test_the_help_shows_the_exact_command(module):
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-m", f"pipelines.{module}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"python -m pipelines.{module}" in result.stdout
    assert not result.stderr


@pytest.mark.pages
def test_the_demo(tmp_path, capsys):
    demo.main([f"--output={tmp_path}"])

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["series"]) == 8
    assert metrics["bit_equal"] is True
    assert metrics["mean"]["model_mae"] < metrics["mean"]["last_value_mae"]
    assert metrics["mean"]["model_mae"] < metrics["mean"]["yesterday_mae"]
    printed = capsys.readouterr().out
    assert f"{metrics['records']:,} records streamed" in printed
    assert "hidden states equal those of one forward pass" in printed
    for key in metrics["series"]:
        assert key.removesuffix(".csv") in printed
    assert weights_file.load(tmp_path / "weights.arrow").network.cell == "gru"
    assert (tmp_path / "forecast.png").stat().st_size > 10_000


def test_the_shipped_series_are_small_and_carry_their_licence():
    files = list((ROOT / "pipelines" / "data" / "nab").iterdir())

    assert sum(file.stat().st_size for file in files) < 2_000_000
    assert "Copyright 2014-2024 Numenta Inc." in (demo.DATA / "LICENSE.txt").read_text()


def test_patterns_find_the_files_of_this_folder(weights, data, tmp_path, monkeypatch):
    (tmp_path / f"day-1{data.suffix}").write_bytes(data.read_bytes())
    (tmp_path / "model-1.arrow").write_bytes(Path(weights).read_bytes())
    monkeypatch.chdir(tmp_path)

    pattern = f"day-*{data.suffix}"
    predict.main([f"--input={pattern}", "--weights=model-*.arrow", "--output=found.csv"])
    predict.main([f"--input={data}", f"--weights={weights}", "--output=named.csv"])

    assert Path("found.csv").read_text() == Path("named.csv").read_text()


@pytest.mark.parametrize("suffix", [".csv.gz", ".jsonl.bz2"])
def test_compressed_text_is_read(suffix, weights, data, tmp_path):
    source = tmp_path / f"data{suffix}"
    text = data.read_bytes()
    if "jsonl" in suffix:
        text = "\n".join(map(json.dumps, rows())).encode()
    source.write_bytes({"gz": gzip, "bz2": bz2}[suffix.rpartition(".")[2]].compress(text))
    output, reference = tmp_path / "predictions.csv", tmp_path / "reference.csv"

    predict.main([f"--input={source}", f"--weights={weights}", f"--output={output}"])
    predict.main([f"--input={data}", f"--weights={weights}", f"--output={reference}"])

    assert in_order(read(output)) == in_order(read(reference))


def test_a_value_that_dominates_the_scale_is_warned_of(data, tmp_path, capsys):
    lines = data.read_text().splitlines()
    lines[5] = re.sub(r",[^,]*,([^,]*)$", r",1e30,\1", lines[5])
    source = tmp_path / "data.csv"
    source.write_text("\n".join(lines))

    run(lambda: train.main([f"--input={source}", *COLUMNS, *QUICK, f"--output={tmp_path}/w.arrow"]))

    assert (
        "one value of 'load' of key 'Bern', 1e+30, makes up 98.6 % of its variance"
        in capsys.readouterr().err
    )
