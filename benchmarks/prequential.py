"""Learning in the stream: `PredictAndLearn` in one pass beside online forecasters.

    python -m benchmarks.prequential [--quick] [--json FILE]

The protocol is that of the forecasting track of deep-river (`benchmarks/tracks.py`, August 2026),
which is river's with 12 steps of grace: of a series y alone, before y_t is known, y_{t+1}, y_{t+2}
and y_{t+3} are forecast, from the 13th value on; so they lie 2, 3 and 4 steps ahead of the last
value that is known. SMAPE is the mean over the forecasts of each of the three, then over the three.

The settings are the same for both series, but for the season: 12 months of the passengers, none of
the daily approval. They were stated before the first run, and not searched. `untrained` is the same
without an update.

The peers' errors are those that deep-river published (`benchmarks/forecasting.csv`). Its column
"Time in s" adds up times that are each since the start, so a run took what its last row adds:
that is divided by the forecasts here. Ours is the time of a whole pipeline on FnApiRunner with
many copies of the series, each a key that learns a model of its own, one thread; the time of the
same pipeline without the step is not taken off.
"""

import argparse
import csv
import gzip
import json
import os
import statistics
import tempfile

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from beam_rnn import Bptt, Columns, Network, PredictAndLearn
from beam_rnn.online import Learning, Running, Untrained
from benchmarks.table import medians

DATA = Path(__file__).parent / "data"
GRACE, AHEAD = 12, 3
NEVER = 1_000_000  # so long a window is never complete


class Series(NamedTuple):
    """A series, and what others made of it.

    Attributes:
        name: Its name.
        values: Its values.
        season: How many steps a season has; None for none.
        peers: Of each published forecaster the SMAPE, and the seconds of the run.
    """

    name: str
    values: list[float]
    season: int | None
    peers: dict[str, tuple[float, float]]


def both_series() -> list[Series]:
    """The two series of the track."""
    with open(DATA / "airline-passengers.csv") as file:
        airline = [float(row["passengers"]) for row in csv.DictReader(file)]
    with gzip.open(DATA / "trump_approval.csv.gz", "rt") as file:
        approval = [float(row["five_thirty_eight"]) for row in csv.DictReader(file)]
    return [
        Series(
            "AirlinePassengers",
            airline,
            12,
            {
                "snarimax": (11.378, 0.030094),
                "holt-winters": (13.205, 0.016764),
                "n-beats": (21.050, 0.355657),
                "deep-river-lstm": (198.842, 0.420546),
                "deep-river-gru": (197.554, 0.571340),
            },
        ),
        Series(
            "TrumpApproval",
            approval,
            None,
            {
                "snarimax": (0.766, 0.105255),
                "holt-winters": (0.970, 0.027420),
                "n-beats": (2.809, 2.436400),
                "deep-river-lstm": (84.935, 2.769830),
                "deep-river-gru": (81.967, 4.137450),
            },
        ),
    ]


def smape(values: Sequence[float], forecast: Callable[[int, int], float]) -> float:
    """The error of forecast(t, h), of y_{t+h}, made before y_t is known."""
    errors: list[list[float]] = [[] for _ in range(AHEAD)]
    for t in range(GRACE, len(values) - AHEAD):
        for h in range(1, AHEAD + 1):
            said, true = forecast(t, h), values[t + h]
            errors[h - 1].append(200 * abs(said - true) / (abs(said) + abs(true)))
    return statistics.mean(map(statistics.mean, errors))


def learner(season: int | None, steps: int) -> PredictAndLearn:
    """The settings: of the library, but for a small network and an update at each record."""
    columns = Columns(key="series", time="t", inputs=["y"], horizon=(2, 3, 4))
    return PredictAndLearn(
        Untrained(Network("gru", hidden=16, residual=True), columns),
        Learning(Bptt(steps, stride=1), scaler=Running(log=True, difference=season)),
    )


def records(_: Any, values: Sequence[float], copies: int) -> Iterator[dict[str, Any]]:
    """The series, as often as that, each copy with a key."""
    for t, y in enumerate(values):
        for copy in range(copies):
            yield {"series": copy, "t": 86_400 * t, "y": y}


def run(series: Series, copies: int, steps: int = 12, output: str | None = None) -> None:
    """One pipeline through the learner; the predictions as JSON lines, if a file is named."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        outputs = (
            pipeline
            | beam.Create([None], reshuffle=False)
            | beam.FlatMap(records, series.values, copies).with_output_types(dict[str, Any])
            | learner(series.season, steps)
        )
        if output is not None:
            rows = outputs.predictions | beam.Map(
                lambda row: json.dumps([row.time // 86_400_000_000, list(row.outputs), row.model])
            )
            _ = rows | beam.io.WriteToText(output, shard_name_template="")


def predicted(series: Series, steps: int) -> list[tuple[int, list[float], str]]:
    """The time, the outputs and the model of each prediction of one copy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        run(series, 1, steps, str(path))
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def error_of(series: Series, predictions: list[tuple[int, list[float], str]]) -> float:
    """The error of predictions; that of y_{t+h} was made when y_{t-1} was the last value."""
    said = {t: outputs for t, outputs, _ in predictions}
    return smape(series.values, lambda t, h: said[t - 1][h - 1])


def measured(series: Series, copies: int, repeat: int) -> list[dict[str, Any]]:
    """A row for each peer, and for the forecasts that need no model."""
    (seconds,) = medians([partial(run, series, copies)], repeat)
    ours_us = seconds / copies / len(series.values) * 1e6
    predictions = predicted(series, steps=12)
    ours = error_of(series, predictions)
    learned = sum("+" in model for *_, model in predictions) / len(predictions)
    values, season = series.values, series.season or 1
    print(
        f"\nprequential/{series.name}: {ours:.3f}, {1e6 / ours_us:,.0f} records/s, of which",
        end=" ",
    )
    print(f"{learned:.0%} were predicted by what was learned, the others by the untrained model")
    naive = {"last-value": smape(values, lambda t, _: values[t - 1])}
    naive["untrained"] = error_of(series, predicted(series, steps=NEVER))
    if series.season:
        naive["a-season-before"] = smape(values, lambda t, h: values[t + h - season])
    rows = []
    forecasts = len(values) - GRACE - AHEAD
    peers = {name: (error, 0.0) for name, error in naive.items()} | series.peers
    for peer, (error, run_seconds) in peers.items():
        peer_us = run_seconds / forecasts * 1e6
        row = {"case": f"prequential/{series.name}", "ours_us": ours_us, "peer": peer}
        row |= {"peer_us": peer_us, "ratio": peer_us / ours_us}
        rows.append(row | {"ours_smape": ours, "peer_smape": error})
        print(f"{peer:<20}{error:>10.3f}{peer_us or float('nan'):>12.1f} us a record")
    return rows


def main() -> None:
    """Measure both series and show the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few copies of each series, once")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    copies, repeat = ((2, 2), 1) if args.quick else ((60, 10), 3)
    rows = []
    for series, n in zip(both_series(), copies, strict=True):
        rows += measured(series, n, repeat)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
