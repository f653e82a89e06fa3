"""Measure anomaly scores on the Numenta Anomaly Benchmark, compared with other detectors.

    python -m benchmarks.nab --data FOLDER [--nab CLONE] [--quick] [--json FILE]

FOLDER has series of NAB in the layout of its `data` folder (`realTweets/Twitter_volume_AAPL.csv`
and so on) and `combined_windows.json`, or is the `data` folder of a clone; the default is the eight
series of the demo. One run of `python -m pipelines.anomaly` with its defaults scores all of them:
each series is learned online, from itself alone, in one pass. The peer `last value` replaces the
network by the last value and scores its errors with the same tail. `benchmarks.nab_scorer` rates
all detectors on the same series.

With --nab, a clone of https://github.com/numenta/NAB, the scorer is first checked against the
figures that NAB publishes (`results/final_results.json`), on the result files of its detectors.
These detectors are then peers on the available series.

The settings of the network were chosen by the forecast error, without labels. Those of the tail
were chosen on the series of `artificial*` and `realTweets`. Therefore the other series,
`realAWSCloudwatch` and `realKnownCause`, also have rows of their own.
"""

import argparse
import csv
import json
import math
import os
import tempfile

if __name__ == "__main__":
    for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.models.error_tail import NO_ERRORS, observed, tail_probability
from beam_rnn.online import Surprise
from benchmarks.nab_scorer import PROFILES, Score, Series, score
from pipelines import anomaly

SHIPPED = Path(__file__).parent.parent / "pipelines" / "data" / "nab"
WINDOWS = Path(__file__).parent / "data" / "nab_windows.json"
QUICK = ("ec2_request_latency_system_failure.csv", "rds_cpu_utilization_cc0c53.csv")
PEERS = ("null", "windowedGaussian", "randomCutForest", "numenta")
REPRODUCED = ("null", "windowedGaussian", "randomCutForest")
"""Detectors whose result files give their published figures, at the best threshold."""
CHOSEN_ON = ("artificialNoAnomaly", "artificialWithAnomaly", "realTweets")

Windows = Mapping[str, Sequence[tuple[datetime, datetime]]]


def windows_of(path: Path) -> Windows:
    """Return the windows of each series by its path."""
    return {
        name: [(datetime.fromisoformat(begin), datetime.fromisoformat(end)) for begin, end in each]
        for name, each in json.loads(path.read_text()).items()
    }


def scored_file(path: Path, windows: Sequence[tuple[datetime, datetime]]) -> Series:
    """Read a result file of NAB: the scores of a detector on a series."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
    return Series(times, np.array([float(row["anomaly_score"]) for row in rows]), windows)


def results(nab: Path, detector: str, windows: Windows) -> dict[str, Series]:
    """Read the result files of a detector."""
    found = {}
    for name, each in windows.items():
        folder, file = name.split("/")
        path = nab / "results" / detector / folder / f"{detector}_{file}"
        found[name] = scored_file(path, each)
    return found


def published(nab: Path) -> list[dict[str, Any]]:
    """Compare the scorer with NAB's scoreboard on the same result files."""
    figures = json.loads((nab / "results" / "final_results.json").read_text())
    windows = windows_of(nab / "labels" / "combined_windows.json")
    rows: list[dict[str, Any]] = []
    for detector in REPRODUCED:
        corpus = results(nab, detector, windows).values()
        for name, profile in PROFILES.items():
            reached = score(corpus, profile).normalised
            row = {"case": f"scorer/{name}", "ours": reached, "peer": detector}
            rows.append({**row, "theirs": figures[detector][name]})
    return rows


def windowed_gaussian(values: Array, size: int = 6400, step: int = 100) -> Array:
    """Return the scores of NAB's windowed Gaussian: the tail of a normal distribution.

    The window grows with each value; once it is full it moves by `step` values at a time
    (`nab/detectors/gaussian/windowedGaussian_detector.py`).
    """
    scores = np.zeros(len(values))
    window, waiting, mean, deviation = values[:0], 0, 0.0, 1.0
    for i, value in enumerate(values):
        if i:
            scores[i] = 1 - 0.5 * math.erfc(abs(value - mean) / deviation / math.sqrt(2))
        if len(window) < size:
            window = values[: i + 1]
        else:
            waiting += 1
            if waiting < step:
                continue
            window, waiting = values[i + 1 - size : i + 1], 0
        mean, deviation = window.mean(), window.std() or 1e-6
    return scores


def found_in(data: Path, windows: Windows) -> dict[str, Path]:
    """Return the series of a folder by their names in NAB, with or without subfolders."""
    places = {name: (data / name, data / Path(name).name) for name in windows}
    return {
        name: next(path for path in paths if path.is_file())
        for name, paths in places.items()
        if any(path.is_file() for path in paths)
    }


def last_value(values: Array) -> Array:
    """Return the scores of our detector with the last value instead of a network."""
    surprise, tail, scores = Surprise(), NO_ERRORS, [0.0]
    for error in np.diff(values).tolist():
        scores.append(1 - tail_probability(tail, error))
        tail = observed(tail, error, surprise)
    return np.array(scores)


def labels_of(data: Path) -> Path:
    """Return the file of windows for a folder of series; by default the shipped one."""
    places = [data / "combined_windows.json", data.parent / "labels" / "combined_windows.json"]
    return next((path for path in places if path.is_file()), WINDOWS)


def ours(series: Mapping[str, Path], windows: Windows) -> dict[str, Series]:
    """Score all series in one run of `pipelines.anomaly`."""
    found: dict[str, tuple[list[datetime], list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in series.items():
            link = Path(folder) / "data" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        output = Path(folder) / "scores.csv"
        columns = ["--key=filename", "--time=timestamp", "--inputs=value"]
        anomaly.main([f"--input={folder}/data/*/*.csv", f"--output={output}", *columns])
        with output.open() as file:
            for row in csv.DictReader(file):
                times, scores = found.setdefault(row["filename"], ([], []))
                times.append(datetime.fromisoformat(row["timestamp"]))
                scores.append(float(row["anomaly_score"]))
    return {name: Series(found[name][0], np.array(found[name][1]), windows[name]) for name in found}


def scored_by(
    detector: Callable[[Array], Array], series: Mapping[str, Path], windows: Windows
) -> dict[str, Series]:
    """Score the series with a function of their values."""
    found = {}
    for name, path in series.items():
        with path.open() as file:
            rows = list(csv.DictReader(file))
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        values = np.array([float(row["value"]) for row in rows])
        found[name] = Series(times, detector(values), windows[name])
    return found


def parts_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Return groups of series: all, those used to choose settings, and the others."""
    names = list(names)
    chosen = [name for name in names if name.startswith(CHOSEN_ON)]
    others = [name for name in names if name not in chosen]
    return {"all": names} | ({"chosen on": chosen, "others": others} if chosen and others else {})


def nab(
    data: Path | None = None, clone: Path | None = None, *, quick: bool = False
) -> list[dict[str, Any]]:
    """Return the scores of ours and of each peer, for each group of series and each profile.

    Args:
        data: The folder of the series; None for those that ship with the project.
        clone: A clone of numenta/NAB, for published figures and more peers.
        quick: Use only two of the series.
    """
    data = data or SHIPPED
    windows = windows_of(labels_of(data))
    series = found_in(data, windows)
    if quick:
        series = {name: path for name, path in series.items() if path.name in QUICK}
    rows = [] if clone is None else published(clone)
    scored = ours(series, windows)
    peers = {
        "last value": scored_by(last_value, series, windows),
        "windowedGaussian": scored_by(windowed_gaussian, series, windows),
    }
    if clone is not None:
        here = {name: windows[name] for name in series}
        peers |= {detector: results(clone, detector, here) for detector in PEERS}
    for part, names in parts_of(scored).items():
        for profile in PROFILES:
            own = _score(scored, names, profile)
            for peer, theirs in peers.items():
                other = _score(theirs, names, profile)
                rows.append(
                    {
                        "case": f"nab/{part}, {len(names)} series/{profile}",
                        "ours": own.normalised,
                        "peer": peer,
                        "theirs": other.normalised,
                        "ours_found": own.found,
                        "theirs_found": other.found,
                        "windows": own.windows,
                        "ours_false": own.false,
                        "theirs_false": other.false,
                        "threshold": own.threshold,
                    }
                )
    return rows


def _score(corpus: Mapping[str, Series], names: Iterable[str], profile: str) -> Score:
    return score([corpus[name] for name in names], PROFILES[profile])


def show(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print the table."""
    print(f"{'case':<44}{'ours':>8}  {'peer':<18}{'theirs':>8}{'found':>10}{'false':>12}")
    for row in rows:
        counts = ""
        if "windows" in row:
            counts = f"{row['ours_found']:>4} {row['theirs_found']:>3}/{row['windows']:<3}"
            counts += f"{row['ours_false']:>6} {row['theirs_false']:>6}"
        print(
            f"{row['case']:<44}{row['ours']:>8.2f}  {row['peer']:<18}{row['theirs']:>8.2f}{counts}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the detectors and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder of NAB series and their windows")
    parser.add_argument("--nab", type=Path, help="a clone of numenta/NAB")
    parser.add_argument("--quick", action="store_true", help="two series only")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args(argv)
    rows = nab(args.data, args.nab, quick=args.quick)
    show(rows)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
