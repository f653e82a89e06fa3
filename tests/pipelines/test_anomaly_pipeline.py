"""`python -m pipelines.anomaly`: the rows of files with their scores."""

import csv
import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_rnn import weights as weights_file
from beam_rnn.cli import train
from beam_rnn.cli.console import run
from beam_rnn.data.event_times import micros_of
from beam_rnn.errors import ConfigurationError
from benchmarks.nab import SHIPPED, WINDOWS, windows_of
from benchmarks.nab_scorer import Series, score
from pipelines import anomaly
from tests.pipelines.test_pipelines import START, rows, write

NAMED = ["--key=city", "--time=at", "--inputs=load"]
SERIES = SHIPPED / "ec2_request_latency_system_failure.csv"
COLUMNS = ["--key=filename", "--time=timestamp", "--inputs=value"]


def read(path):
    """Return the rows of a CSV or JSON lines file, with None for empty fields."""
    with path.open(newline="") as file:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in file]
        return [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]


def as_numbers(path):
    """The rows of a file of any kind, with their numbers as such."""
    if path.suffix == ".parquet":
        found = pq.read_table(path).to_pylist()
    elif path.suffix == ".arrow":
        with pa.memory_map(str(path)) as source:
            found = pa.ipc.open_file(source).read_all().to_pylist()
    else:
        found = read(path)
    numbers = ("load", "heat", "anomaly_score", "load_expected")
    return [
        {k: float(v) if k in numbers and v is not None else v for k, v in row.items()}
        for row in found
    ]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    path = tmp_path_factory.mktemp("anomaly") / "scores.csv"
    anomaly.main([f"--input={SERIES}", f"--output={path}", *COLUMNS])
    return path


def test_every_row_of_a_series_comes_out_in_order_with_its_score(scored):
    given, found = read(SERIES), read(scored)

    placed = [(row["timestamp"], float(row["value"])) for row in found]
    assert sorted(placed) == sorted((row["timestamp"], float(row["value"])) for row in given)
    assert [time for time, _ in placed] == sorted(time for time, _ in placed)
    scores = np.array([float(row["anomaly_score"]) for row in found])
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores[100:] > 0).mean() > 0.9
    assert [i for i, row in enumerate(found) if row["value_expected"] is None] == [0]
    errors = [abs(float(row["value"]) - float(row["value_expected"])) for row in found[1:]]
    values = np.array([float(row["value"]) for row in found])
    assert np.mean(errors) < np.abs(np.diff(values)).mean()


def test_its_anomalies_are_found(scored):
    (windows,) = [w for name, w in windows_of(WINDOWS).items() if name.endswith(SERIES.name)]
    found = read(scored)
    times = [datetime.fromisoformat(row["timestamp"]) for row in found]
    scores = np.array([float(row["anomaly_score"]) for row in found])

    reached = score([Series(times, scores, windows)])

    assert reached.found == reached.windows == 3
    assert reached.false < 10
    assert reached.normalised > 75


def test_scores_are_reproducible_and_do_not_depend_on_later_records(scored, tmp_path):
    lines = SERIES.read_text().splitlines()
    other, output = tmp_path / SERIES.name, tmp_path / "scores.csv"
    changed = [*lines[:3001], *(line.replace(",", ",9") for line in lines[3001:])]
    other.write_text("\n".join(changed) + "\n")

    anomaly.main([f"--input={other}", f"--output={output}", *COLUMNS])

    before, after = scored.read_text().splitlines(), output.read_text().splitlines()
    assert after[:3001] == before[:3001]
    assert not set(after[3001:]) & set(before[3001:])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model of two cities, one for each of them, and one that looks further ahead."""
    folder = tmp_path_factory.mktemp("weights")
    data = write(folder / "data.csv", rows())
    quick = ["--epochs=2", "--hidden=6", "--sequence_length=40"]
    further = ("far", ["--horizon=2"])
    for name, flags in (("one", []), ("each", ["--per_key"]), further):
        output = f"--output={folder / name}.arrow"
        train.main([f"--input={data}", *NAMED, *quick, *flags, output])
    score_quickly(folder, data, folder / "scores.jsonl")
    return folder


def score_quickly(weights, data, output):
    model = f"--weights={weights / 'one.arrow'}"
    anomaly.main([f"--input={data}", f"--output={output}", model, "--no-learn"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".arrow", ".jsonl"])
def test_every_format_gives_the_same_scores(suffix, weights, tmp_path):
    data, output = write(tmp_path / f"data{suffix}", rows()), tmp_path / f"scores{suffix}"

    score_quickly(weights, data, output)

    found = as_numbers(output)
    assert [row["city"] for row in found] == ["Bern"] * 120 + ["Köln"] * 120
    for one, other in zip(found, as_numbers(weights / "scores.jsonl"), strict=True):
        assert {**one, "filename": None} == {**other, "filename": None}


def test_bad_rows_go_to_a_file_beside_and_equal_rows_have_one_score(weights, tmp_path):
    good = rows()
    bad = [{**good[0], "load": "n/a"}, {**good[1], "at": "yesterday"}]
    data = write(tmp_path / "data.jsonl", [*good, good[40], *bad])
    output = tmp_path / "scores.jsonl"

    anomaly.main([f"--input={data}", f"--output={output}", f"--weights={weights / 'one.arrow'}"])

    found = read(output)
    assert len(found) == len(good) + 1
    assert [row for row in found if found.count(row) > 1] == [found[20]] * 2
    letters = read(tmp_path / "scores.jsonl.invalid.jsonl")
    assert sorted(letter["reason"][:20] for letter in letters) == [
        "at must be a time: a",
        "load must be a numbe",
    ]


def test_training_records_are_not_scored_by_the_trained_model(tmp_path):
    data, output = write(tmp_path / "data.csv", rows()), tmp_path / "scores.csv"

    anomaly.main([f"--input={data}", f"--output={output}", *NAMED, "--train_fraction=0.5"])

    scores = np.array([float(row["anomaly_score"]) for row in read(output)]).reshape(2, 120)
    assert not scores[:, :60].any()
    assert (scores[:, 60:] > 0).all()
    assert weights_file.load(f"{output}.weights.arrow").training["until"]["Bern"] > START * 10**6


def test_several_columns_have_a_prediction_each(tmp_path):
    data, output = write(tmp_path / "data.csv", rows()), tmp_path / "scores.csv"
    columns = ["--key=city", "--time=at", "--inputs=load,heat"]

    anomaly.main([f"--input={data}", f"--output={output}", *columns])

    assert list(read(output)[1]) == [
        "filename", "city", "at", "load", "heat",
        "load_expected", "heat_expected", "anomaly_score",
    ]  # fmt: skip
    assert not (tmp_path / "scores.csv.weights.arrow").exists()


def test_models_of_keys_predict_and_do_not_learn(weights, tmp_path):
    output, model = tmp_path / "scores.csv", f"--weights={weights / 'each.arrow'}"

    anomaly.main([f"--input={weights / 'data.csv'}", f"--output={output}", model])

    assert len(read(output)) == len(rows())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--time=at", "--inputs=load"], "--key is needed, or --weights"),
        ([*NAMED, "--no-learn"], "leaves nothing to learn from"),
        (
            ["--weights={}/one.arrow", "--key=id"],
            "--key 'id' is not what .* was trained on, 'city'",
        ),
        (["--weights={}/one.arrow", "--inputs=heat"], r"--inputs \('heat',\) is not what"),
        (
            ["--weights={}/far.arrow"],
            "needs a forecast of the next record, horizon=1; got horizon=2",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message, weights, tmp_path):
    files = [f"--input={weights / 'data.csv'}", f"--output={tmp_path / 's.csv'}"]

    with pytest.raises(ConfigurationError, match=message):
        anomaly.main([*files, *(flag.format(weights) for flag in flags)])


def test_a_compressed_parquet_file_is_refused(weights, tmp_path):
    files = [f"--input={weights / 'data.csv'}", f"--output={tmp_path / 's.parquet.gz'}"]

    with pytest.raises(ConfigurationError, match="files are not compressed as a whole"):
        anomaly.main([*files, f"--weights={weights / 'one.arrow'}"])


def test_a_series_before_1970_is_scored_as_one_of_today(tmp_path):
    def scores(first):
        days = [
            {"city": "a", "at": f"{first + i // 12}-{i % 12 + 1:02}", "load": (i * i) % 23}
            for i in range(40)
        ]
        data, output = write(tmp_path / "data.csv", days), tmp_path / "scores.csv"
        anomaly.main([f"--input={data}", f"--output={output}", *NAMED])
        return [row["anomaly_score"] for row in read(output)]

    old = scores(1944)

    assert old == scores(2004)
    assert any(float(score) > 0 for score in old)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (["--key=city", "--time=at", "--inputs=lode"], "the record has no field 'lode'"),
        (["--key=city", "--time=year", "--inputs=load"], "the times look like years"),
    ],
)
def test_an_error_in_scoring_leaves_no_output(named, said, tmp_path):
    years = [{**row, "year": 1900 + i} for i, row in enumerate(rows(20))]
    data, output = write(tmp_path / "data.csv", years), tmp_path / "scores.csv"

    with pytest.raises(SystemExit, match=said):
        run(lambda: anomaly.main([f"--input={data}", f"--output={output}", *named]))

    assert not output.exists()


def test_times_are_read_as_their_format_says(tmp_path):
    years = [{"city": "a", "at": 1900 + i, "load": (i * i) % 7} for i in range(20)]
    data, output = write(tmp_path / "data.csv", years), tmp_path / "scores.csv"

    more = ["--time_format=%Y", "--train_fraction=0.5"]
    anomaly.main([f"--input={data}", f"--output={output}", *NAMED, *more])

    until = weights_file.load(f"{output}.weights.arrow").training["until"]["a"]
    assert until == micros_of("1909-01-01")
    assert [int(row["at"]) for row in read(output)] == list(range(1900, 1920))
