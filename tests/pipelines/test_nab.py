"""The score of the Numenta Anomaly Benchmark, by hand and against published rows."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import nab
from benchmarks.nab_scorer import NOWHERE, PROFILES, Series, probation, scaled_sigmoid, score, worth

CLONE = Path(os.environ.get("NAB", "no such folder"))
STANDARD = PROFILES["standard"]


def series(detections, windows, rows=100):
    """Return 100 rows with the given detections; the first 15 rows are not scored."""
    scores = np.zeros(rows)
    scores[list(detections)] = 1.0
    return Series(range(rows), scores, windows)


def sigmoid(position):
    return 2 / (1 + math.exp(5 * position)) - 1


def test_the_value_of_a_detection_depends_on_its_position():
    added, window = worth(series([], [(40, 49), (90, 99)]), STANDARD)

    assert window.tolist() == [NOWHERE] * 40 + [0] * 10 + [NOWHERE] * 40 + [1] * 10
    assert added[40] == added[90] == pytest.approx(1.0)  # the begin of a window
    assert added[49] == pytest.approx(sigmoid(-0.1) / sigmoid(-1))  # its last row
    assert added[39] == -0.11  # before the first window
    assert added[50] == pytest.approx(0.11 * sigmoid(1 / 9))  # just after it
    assert added[49 + 27] == pytest.approx(0.11 * sigmoid(3))
    assert added[49 + 28] == -0.11  # far from it


@pytest.mark.parametrize(
    ("detections", "normalised", "found", "false"),
    [
        ([], 0, 0, 0),
        ([40], 100, 1, 0),
        ([40, 43, 49], 100, 1, 0),  # the earliest counts
        ([49], 100 * (1 + sigmoid(-0.1) / sigmoid(-1)) / 2, 1, 0),
        ([40, 20], 100 * (2 - 0.11) / 2, 1, 1),
        ([20], 0, 0, 0),  # better none at all
        ([40, 3, 14], 100, 1, 0),  # the first 15 do not count
    ],
)
def test_scores_worked_out_by_hand(detections, normalised, found, false):
    reached = score([series(detections, [(40, 49)])])

    assert reached.normalised == pytest.approx(normalised)
    assert (reached.found, reached.windows, reached.false) == (found, 1, false)


def test_one_threshold_for_all_series():
    """0.6 finds one window and is false twice, 0.4 would find both and be false 20 times."""
    one, other = np.zeros(100), np.zeros(100)
    one[40], one[60:62] = 0.6, 0.7
    other[40], other[60:80] = 0.4, 0.5

    reached = score([Series(range(100), scores, [(40, 49)]) for scores in (one, other)])

    cost = 0.11 * (sigmoid(11 / 9) + sigmoid(12 / 9))
    assert reached.threshold == 0.6
    assert reached.normalised == pytest.approx(100 * (2 + cost) / 4)
    assert (reached.found, reached.false) == (1, 2)


def test_the_score_uses_the_weights_of_the_profile():
    corpus = [series([40, 20], [(40, 49), (70, 79)])]

    figures = [score(corpus, profile).normalised for profile in PROFILES.values()]

    assert figures == pytest.approx([100 * w for w in (1.89 / 4, 1.78 / 4, 2.89 / 6)])


def test_a_window_in_the_part_that_does_not_count_can_not_be_found():
    reached = score([series([5, 40], [(3, 9), (40, 49)])])

    assert (reached.found, reached.windows) == (1, 2)
    assert reached.normalised == pytest.approx(100 * 2 / 3)
    assert probation(22_695) == 750


def test_a_false_detection_costs_less_shortly_after_a_window():
    assert (np.diff(scaled_sigmoid(np.linspace(-1, 4, 50))) <= 0).all()


def test_the_windowed_gaussian_moves_on():
    """As in NAB, a value is scored by the window before it."""
    values = np.array([1.0, 3.0, 2.0, 2.0, 9.0, 2.0])

    scores = nab.windowed_gaussian(values, size=3, step=2)

    def tail(value, window):
        deviation = np.std(window) or 1e-6
        return 1 - 0.5 * math.erfc(abs(value - np.mean(window)) / deviation / math.sqrt(2))

    # Full with 1, 3, 2; then two values wait, and the window moves on by both.
    windows = [values[:1], values[:2], values[:3], values[:3], values[2:5]]
    expected = [tail(*pair) for pair in zip(values[1:], windows, strict=True)]
    assert scores.tolist() == pytest.approx([0.0, *expected])


@pytest.mark.skipif(not (CLONE / "results").is_dir(), reason="NAB names no clone of numenta/NAB")
def test_the_published_rows_of_nab():
    for row in nab.published(CLONE):
        assert row["ours"] == pytest.approx(row["theirs"], abs=1e-6), row


@pytest.mark.skipif(not (CLONE / "results").is_dir(), reason="NAB names no clone of numenta/NAB")
def test_the_windowed_gaussian_is_that_of_nab():
    name = "realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv"
    (theirs,) = nab.results(CLONE, "windowedGaussian", {name: []}).values()
    with (CLONE / "data" / name).open() as file:
        values = np.array([float(row["value"]) for row in csv.DictReader(file)])

    np.testing.assert_allclose(nab.windowed_gaussian(values), theirs.scores, atol=1e-9)


def test_the_benchmark_runs_and_writes_its_rows(tmp_path, capsys):
    output = tmp_path / "rows.json"

    nab.main(["--quick", "--json", str(output)])

    rows = json.loads(output.read_text())
    assert [row["peer"] for row in rows] == ["last value", "windowedGaussian"] * 3
    assert all(row["ours"] > row["theirs"] > 0 for row in rows[1::2])
    shown = capsys.readouterr().out
    assert all(row["case"] in shown for row in rows)
