import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.table import Row, medians

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.pages  # their figures are on a page


@pytest.mark.parametrize(
    "name", ["kernels", "online", "per_key", "prequential", "state", "training"]
)
def test_a_benchmark_runs_and_writes_its_rows(name, tmp_path):
    output = tmp_path / "rows.json"
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    rows = json.loads(output.read_text())
    assert rows
    for row in rows:
        assert list(row)[:5] == ["case", "ours_us", "peer", "peer_us", "ratio"]
        assert row["ratio"] == pytest.approx(row["peer_us"] / row["ours_us"])
        assert row["case"] in result.stdout


def test_the_gate_is_measured_on_every_series(tmp_path):
    output = tmp_path / "rows.json"
    command = [sys.executable, "-m", "benchmarks.gate", "--quick", "--json", str(output)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)  # noqa: S603

    rows = json.loads(output.read_text())
    assert len(rows) == 2 * len(list((ROOT / "pipelines" / "data" / "nab").glob("*.csv")))
    assert all(row["gated"] > 0 and row["learned"] > 0 for row in rows)


def test_the_smoothing_benchmark_compares_errors_with_their_bounds(tmp_path):
    output, picture = tmp_path / "rows.json", tmp_path / "lags.png"
    command = [sys.executable, "-m", "benchmarks.smoothing", "--quick", "--json", str(output)]
    subprocess.run([*command, "--plot", str(picture)], cwd=ROOT, capture_output=True, check=True)  # noqa: S603

    rows = json.loads(output.read_text())
    assert [row["case"] for row in rows] == ["one direction", "lag 0", "lag 2", "whole"]
    bounds = [row["bound"] for row in rows]
    assert bounds[0] == bounds[1] > bounds[2] > bounds[3]
    assert all(row["error"] > row["bound"] for row in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("case", ["keyed", "noop", "keys", "shards", "arrow"])
def test_each_form_runs_on_an_engine(case, tmp_path):
    command = [sys.executable, "-m", "benchmarks.engine", "--case", case, "--records", "320"]
    flags = ["--keys", "7", "--weights", str(tmp_path / "w.arrow"), "--runner=FnApiRunner"]

    result = subprocess.run(  # noqa: S603
        [*command, *flags], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith(f"{case}: 320 records of 7 keys in ")


def test_runs_alternate_and_the_warm_up_is_not_counted():
    turns = []
    seconds = medians([lambda: turns.append("a"), lambda: turns.append("b")], repeat=2)

    assert turns == ["a", "b"] * 3
    assert len(seconds) == 2


def test_a_ratio_above_one_is_faster_than_the_peer():
    assert Row("case", ours_us=2.0, peer="peer", peer_us=5.0).ratio == 2.5


def test_the_protocol_of_learning_in_the_stream_gives_the_known_errors():
    """Of forecasts that need no model, as others computed them."""
    program = (
        "from benchmarks.prequential import both_series, smape\n"
        "airline, approval = (series.values for series in both_series())\n"
        "print(smape(airline, lambda t, h: airline[t - 1]))\n"
        "print(smape(airline, lambda t, h: airline[t + h - 12]))\n"
        "print(smape(approval, lambda t, h: approval[t - 1]))\n"
    )
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    errors = [float(line) for line in result.stdout.split()]
    assert errors == pytest.approx([17.02, 12.24, 0.749], abs=6e-3)
