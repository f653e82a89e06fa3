"""Messages about the order of records: their times, duplicates, and records of one time."""

import csv
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn import Columns, Predict, weights
from beam_rnn.cli import evaluate, predict, train
from beam_rnn.cli.block_orders import orders_of
from beam_rnn.cli.console import run
from beam_rnn.cli.order_report import PutTogether, order_of_key
from beam_rnn.cli.order_text import said, together
from beam_rnn.data.event_times import SECOND
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_reader import RecordReader
from tests.helpers import engines

FLAGS = ["--key=k", "--time=t", "--inputs=x", "--epochs=1", "--hidden=4", "--train_fraction=0.5"]
COLUMNS = Columns(key="k", time="t", inputs=["x"])
QUARTERS = [(1959 + i // 4, i % 4 + 1, "us", float((7 * i) % 10)) for i in range(80)]


def write(path, header, rows):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


@pytest.fixture
def quarters(tmp_path):
    return write(tmp_path / "gdp.csv", "t,quarter,k,x", QUARTERS)


def trained(source, tmp_path, *more):
    output = tmp_path / "w.arrow"
    train.main([f"--input={source}", *FLAGS, *more, f"--output={output}"])
    return output


def predicted(source, model, tmp_path):
    output = tmp_path / "p.csv"
    predict.main(
        [f"--input={source}", f"--weights={model}", "--keep=t,quarter", f"--output={output}"]
    )
    with output.open() as file:
        return [(int(row["t"]), int(row["quarter"])) for row in csv.DictReader(file)]


def test_records_of_one_time_are_counted_and_one_pair_is_shown(quarters, tmp_path, caplog):
    caplog.set_level("INFO", "beam_rnn")
    model = trained(quarters, tmp_path, "--time_format=%Y")

    assert "read 80 records of 1 key, from 1959-01-01 to 1978-01-01, mostly 365 days" in caplog.text
    assert (
        "80 records have the key and the time of another one, such as those of key 'us' at 19"
        in (caplog.text)
    )
    assert "{'x': 0.0} and {'x': 4.0}: they are taken in the order of their bytes" in caplog.text
    for command in (predict, evaluate):
        caplog.clear()
        output = tmp_path / f"{command.__name__}.json"
        output = output.with_suffix(".csv") if command is predict else output
        command.main([f"--input={quarters}", f"--weights={model}", f"--output={output}"])
        assert "80 records have the key and the time of another one" in caplog.text
        assert "a model trained with --sequence row takes them in the order of the" in caplog.text


@pytest.mark.parametrize("sequence", ["row", "quarter"])
def test_a_number_keeps_records_of_one_time_in_their_order(sequence, quarters, tmp_path, caplog):
    model = trained(quarters, tmp_path, "--time_format=%Y", f"--sequence={sequence}")

    assert predicted(quarters, model, tmp_path) == [row[:2] for row in QUARTERS]
    assert "of another one" not in caplog.text


@pytest.mark.parametrize("shards", [None, 2])
def test_a_replay_by_row_and_a_stream_that_has_the_row_agree(shards, quarters, tmp_path):
    model = trained(quarters, tmp_path, "--time_format=%Y", "--sequence=row")
    metrics = tmp_path / "m.json"
    evaluate.main([f"--input={quarters}", f"--weights={model}", f"--output={metrics}"])
    stream = [{"t": t, "k": k, "x": x, "row": i} for i, (t, _, k, x) in enumerate(QUARTERS)]

    outputs = engines.predict(Predict(str(model), shards=shards), stream[::-1])

    assert json.loads(metrics.read_text())["bit_equal"] is True
    assert [row.sequence for row in sorted(outputs.predictions, key=lambda r: r.step)] == list(
        range(80)
    )


def test_equal_records_count_once_and_are_reported(tmp_path, caplog):
    rows = [(1_704_067_200 + i // 4, "a", (i % 4) // 2) for i in range(40)]
    source = write(tmp_path / "s.csv", "t,k,x", rows)
    model, output = trained(source, tmp_path), tmp_path / "p.csv"
    assert "20 records are equal to another one of the key, and left out: --seq" in caplog.text

    caplog.clear()
    predict.main([f"--input={source}", f"--weights={model}", f"--output={output}"])
    assert "20 records are equal to another one of the key, and left out: a mod" in caplog.text
    assert len(output.read_text().splitlines()) == 1 + 20


def test_equal_records_with_different_unread_fields_are_reported(tmp_path, caplog):
    rows = [(1_704_067_200 + i // 2, "a", i // 2, f"probe {i % 2}") for i in range(20)]
    source = write(tmp_path / "s.csv", "t,k,x,probe", rows)
    trained(source, tmp_path)

    assert "They differ in what is not read: {" in caplog.text
    assert '"probe": "probe 0"} and {' in caplog.text
    caplog.clear()
    source = write(tmp_path / "s.csv", "t,k,x,probe", [(*row[:3], "same") for row in rows])
    trained(source, tmp_path)
    assert "10 records are equal to another one" in caplog.text
    assert "They differ" not in caplog.text


def test_the_order_of_a_key():
    def record(t, x, k="a"):
        return RecordReader(COLUMNS).read({"k": k, "t": t, "x": x}).data

    records = [record(t, x) for t, x in ((60, 1), (0, 1), (0, 3), (0, 2), (0, 2), (120, 5))]
    found = order_of_key("a", records)

    assert found[:5] == (1, 5, 1, 3, ("a", 0, record(0, 2), record(0, 3)))
    assert found[5:] == (0, 120 * SECOND, {60 * SECOND: 1}, (("a", record(0, 2)),))
    assert order_of_key("a", records[:1]).steps == {}


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.sampled_from([0.0, -0.0, 1.0])),
        min_size=1,
        max_size=40,
    )
)
def test_the_order_of_a_block_is_that_of_its_keys(rows):
    records = [{"k": key, "t": 60 * t, "x": x} for key, t, x in rows]
    block, _ = ColumnReader(COLUMNS).read_block(records, np.zeros(len(records), np.int64))
    of_keys = {}
    for record in records:
        key, data = RecordReader(COLUMNS).read(record)
        of_keys.setdefault(key, []).append(data)

    found, expected = orders_of(block), together(order_of_key(*each) for each in of_keys.items())

    assert found == expected
    assert list(said(found, COLUMNS, trained=True)) == list(said(expected, COLUMNS, trained=True))


def test_the_message_does_not_depend_on_the_order_of_keys():
    combine = PutTogether()
    times = {"a": [0, 60], "b": [-3600, 0], "c": [0, 60, 120]}
    of_keys = [
        order_of_key(key, [RecordReader(COLUMNS).read({"k": key, "t": t, "x": 1}).data for t in ts])
        for key, ts in times.items()
    ]

    def put(orders):
        total = combine.create_accumulator()
        for each in orders:
            total = combine.add_input(total, each)
        return total

    both = [put(of_keys), combine.merge_accumulators([put(of_keys[2:]), put(of_keys[1::-1])])]
    lines = [list(said(combine.extract_output(each), COLUMNS, trained=True)) for each in both]
    assert lines[0] == lines[1]
    assert lines[0] == [
        "read 7 records of 3 keys, from 1969-12-31 23:00 to 1970-01-01 00:02, mostly 1 minute apart"
    ]
    assert combine.extract_output(combine.create_accumulator()) is None


@pytest.mark.parametrize(
    ("time_format", "times", "like"),
    [
        ("%Y%m%d%H", [f"20240101{hour:02}" for hour in range(24)], "hours of a day"),
        ("%Y%m", [f"{2022 + i // 12}{i % 12 + 1:02}" for i in range(24)], "months"),
        ("%Y", range(1700, 1724), "years"),
        ("excel", [45292 + i / 24 for i in range(24)], "days as Excel counts them"),
    ],
)
def test_numbers_that_look_like_dates_are_refused_until_something_says_what_they_are(
    time_format, times, like, tmp_path
):
    source = write(tmp_path / "a.csv", "t,k,x", [(t, "a", i % 3) for i, t in enumerate(times)])
    flags = [f"--input={source}", *FLAGS, f"--output={tmp_path}/w.arrow"]
    with pytest.raises(SystemExit) as refused:
        run(lambda: train.main(flags))

    assert f"error: the times look like {like}, such as t=" in refused.value.code
    assert f"--time_format {time_format!r} or --time_format seconds" in refused.value.code
    assert not (tmp_path / "w.arrow").exists()
    said_format = time_format if time_format != "%Y" else "seconds"
    model = trained(source, tmp_path, f"--time_format={said_format}")
    assert weights.load(model).columns.time_format == said_format


def test_days_and_seconds_in_one_column_are_refused(tmp_path):
    source = write(tmp_path / "a.csv", "t,k,x", [(20240101 + i, "a", i) for i in range(60)])
    with pytest.raises(SystemExit, match=r"31 of 60 numbers look like days, such as t='20240101'"):
        run(lambda: trained(source, tmp_path))


def test_a_model_that_reads_seconds_warns_of_years(tmp_path, caplog):
    counters = write(tmp_path / "a.csv", "t,k,x", [(i, "a", i % 5) for i in range(40)])
    years = write(tmp_path / "b.csv", "t,k,x", [(1950 + i, "a", i % 5) for i in range(40)])
    model = trained(counters, tmp_path)
    predict.main([f"--input={years}", f"--weights={model}", f"--output={tmp_path}/p.csv"])

    assert "the times look like years, such as t='1950'" in caplog.text


def test_records_after_the_latest_time_are_dead_letters(tmp_path):
    rows = [(f"2024-01-{day:02}", "a", day) for day in range(1, 31)] + [("2240-01-01", "a", 1)]
    source, output = write(tmp_path / "a.csv", "t,k,x", rows), tmp_path / "p.csv"
    model = trained(source, tmp_path, "--latest=2030-01-01")
    predict.main([f"--input={source}", f"--weights={model}", f"--output={output}"])

    for letters in (f"{model}.invalid.jsonl", f"{output}.invalid.jsonl"):
        (letter,) = map(json.loads, Path(letters).read_text().splitlines())
        assert letter["reason"] == "t must be at most 2030-01-01"
    assert len(output.read_text().splitlines()) == 1 + 30


MONTHS = [f"{1949 + i // 12}-{i % 12 + 1:02}" for i in range(144)]


@pytest.mark.parametrize(
    ("times", "season"),
    [
        (MONTHS, 12),
        ([f"{1959 + i // 4}Q{i % 4 + 1}" for i in range(80)], 4),
        ([str(datetime.fromordinal(700_000 + i).date()) for i in range(70)], 7),
        ([f"{1800 + i}-01-01" for i in range(70)], None),
    ],
    ids=["months", "quarters", "days", "years"],
)
def test_a_forecast_is_compared_with_the_value_of_the_previous_season(
    times, season, tmp_path, capsys
):
    values = [float((i * i) % 23) for i in range(len(times))]
    rows = [(t, "a", x) for t, x in zip(times, values, strict=True)]
    source, output = write(tmp_path / "a.csv", "t,k,x", rows), tmp_path / "m.json"
    model = trained(source, tmp_path)
    evaluate.main([f"--input={source}", f"--weights={model}", f"--output={output}"])

    errors = json.loads(output.read_text())["series"]["a"]
    assert errors["yesterday_mae"] is None
    table = capsys.readouterr().out
    if season is None:
        assert "season_mae" not in errors
        assert "yesterday" in table
        return
    first = len(times) // 2
    deviation = (sum((x - sum(values[:first]) / first) ** 2 for x in values[:first]) / first) ** 0.5
    apart = [abs(values[i] - values[i - season]) for i in range(first + 1, len(times))]
    expected = sum(apart) / len(apart) / deviation
    assert errors["season"] == season
    assert errors["season_mae"] == pytest.approx(expected, rel=1e-9)
    assert f"{season} records ago" in table
    assert "yesterday" not in table
