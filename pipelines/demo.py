"""Train on real series, stream the records that follow, and show the results.

    python -m pipelines.demo

Eight series of the Numenta Anomaly Benchmark (servers, taxis, temperatures; one record every
5 minutes to every hour): one GRU learns from the first 60 % of each, and the rest streams
through it, each record up to an hour late.
"""

import argparse
import csv
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from beam_rnn.cli import evaluate, flags, folder_of, run, train
from beam_rnn.files import replacing

DATA = Path(__file__).parent / "data" / "nab"
SHUFFLE_SECONDS = 3600
PLOTTED = 300
"""The number of records to plot of each series: its last ones."""

MEASURED = ("model_mae", "last_value_mae", "yesterday_mae")
"""The errors that `beam-rnn evaluate` writes for each key."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of this pipeline, and the remaining ones, which are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--output", default="demo_output", help="the folder to write to")
    return parser.parse_known_args(argv)


def table(metrics: Mapping[str, Any], series: Mapping[str, list[tuple[datetime, float]]]) -> str:
    """Return the errors as a text table."""
    head = "mean absolute error of the next value"
    lines = [f"{head:<40}{'every':>8}{'GRU':>9}{'last value':>13}{'yesterday':>12}"]
    for key, errors in metrics["series"].items():
        times = [at for at, _ in series[key]]
        gaps = [(b - a).total_seconds() / 60 for a, b in itertools.pairwise(times)]
        lines.append(_row(key.removesuffix(".csv"), f"{median(gaps):.0f} min", errors))
    lines.append(_row("mean", "", metrics["mean"]))
    return "\n".join(lines)


def _row(name: str, every: str, errors: Mapping[str, float]) -> str:
    figures = [errors[kind] for kind in MEASURED]
    best = min(figures)
    cells = [f"{figure:.3f}{'*' if figure == best else ' '}" for figure in figures]
    return f"{name:<40}{every:>8}{cells[0]:>10}{cells[1]:>13}{cells[2]:>12}"


def read_series() -> dict[str, list[tuple[datetime, float]]]:
    """Return the shipped series by file name."""
    series = {}
    for path in sorted(DATA.glob("*.csv")):
        with path.open() as file:
            series[path.name] = [
                (datetime.fromisoformat(row["timestamp"]), float(row["value"]))
                for row in csv.DictReader(file)
            ]
    return series


def plot(
    series: Mapping[str, list[tuple[datetime, float]]], predictions: Path, output: Path
) -> None:
    """Plot forecast and truth of the last records of each series."""
    import matplotlib as mpl  # from the extra `plot`: the table is printed without it too

    mpl.use("Agg")
    from matplotlib import dates
    from matplotlib import pyplot as plt

    forecasts: dict[str, dict[datetime, float]] = {}
    with predictions.open() as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["time"]).replace(tzinfo=None)
            forecasts.setdefault(row["key"], {})[at] = float(row["value_prediction"])
    figure, axes = plt.subplots(len(series), 1, figsize=(11, 2 * len(series)))
    for axis, (key, rows) in zip(axes, series.items(), strict=True):
        shown = rows[-PLOTTED:]
        # The prediction made at one record is the forecast for the next.
        ahead = [forecasts[key].get(at) for at, _ in rows[-PLOTTED - 1 : -1]]
        axis.plot([at for at, _ in shown], [v for _, v in shown], "0.55", lw=1, label="truth")
        axis.plot([at for at, _ in shown], ahead, "C0", lw=1, label="one-step forecast")
        axis.set_title(key.removesuffix(".csv"), loc="left", fontsize=9)
        axis.xaxis.set_major_formatter(dates.ConciseDateFormatter(axis.xaxis.get_major_locator()))
        axis.tick_params(labelsize=8)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].legend(fontsize=8, ncols=2, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    with replacing(output) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, print, plot."""
    args, beam_flags = parse(argv)
    folder = folder_of("--output", args.output)
    weights, metrics_file = folder / "weights.arrow", folder / "metrics.json"
    predictions, picture = folder / "predictions.csv", folder / "forecast.png"
    pattern = str(DATA / "*.csv")
    started = time.perf_counter()

    series = read_series()
    print(f"Training one GRU on the first 60 % of {len(series)} series", flush=True)
    columns = ["--key=filename", "--time=timestamp", "--inputs=value", "--targets=value"]
    train.perform([f"--input={pattern}", *columns, f"--output={weights}", *beam_flags])
    trained = time.perf_counter() - started

    print("Streaming the rest, each record up to an hour late", flush=True)
    evaluate.perform(
        [
            f"--input={pattern}",
            f"--weights={weights}",
            f"--output={metrics_file}",
            f"--predictions={predictions}",
            f"--shuffle_within={SHUFFLE_SECONDS}",
            *beam_flags,
        ]
    )
    metrics = json.loads(metrics_file.read_text())
    print(f"\n{table(metrics, series)}\n* smallest error; unit: the series' standard deviation\n")
    equal = "equal" if metrics["bit_equal"] else "DIFFER from"
    print(
        f"{metrics['records']:,} records streamed, {metrics['records_per_second']:,.0f} per second"
        f"\nPredictions and final hidden states {equal} those of one forward pass over the sorted "
        "records, bit for bit"
    )
    written = [weights, metrics_file, predictions]
    try:
        plot(series, predictions, picture)
        written.append(picture)
    except ModuleNotFoundError as error:
        print(f"No picture: {error}. It needs `pip install 'beam-rnn[plot]'`")
    print(f"Wrote {', '.join(map(str, written))}")
    print(f"Trained in {trained:.0f} s, total {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    run(main)
