"""Compare `PredictAndLearn` in one pass with other online forecasters.

    python -m benchmarks.prequential [--quick] [--json FILE]

The protocol is that of the forecasting track of deep-river (`benchmarks/tracks.py`, August 2026),
which is river's with a grace period of 12 steps. Only the series y itself is used. From the 13th
value on, y_{t+1}, y_{t+2} and y_{t+3} are forecast before y_t is known, that is, 2, 3 and 4 steps
ahead of the last known value. SMAPE is averaged over the forecasts of each horizon, and then over
the three horizons.

The settings are the same for both series except the season: 12 months for the passengers, none for
the daily approval. They were fixed before the first run and not tuned. `untrained` is the same
without updates.

The peers' errors are those that deep-river published (`benchmarks/forecasting.csv`). Its column
"Time in s" accumulates times that are each measured from the start, so the increment of the last
row is the time of a run; here it is divided by the number of forecasts. Our time is that of a whole
pipeline on FnApiRunner in one thread, with many copies of the series, each a key with its own
model. The time of the same pipeline without the step is not subtracted.
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
NEVER = 1_000_000  # a window of this length is never complete


class Series(NamedTuple):
    """A series, and the published figures.

    Attributes:
        name: The name of the series.
        values: The values.
        season: The length of a season in steps; None for none.
        peers: The SMAPE of each published forecaster, and the seconds of its run.
    """

    name: str
    values: list[float]
    season: int | None
    peers: dict[str, tuple[float, float]]


def both_series() -> list[Series]:
    """Return the two series of the track."""
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
    """Return the SMAPE of forecast(t, h), the forecast of y_{t+h} made before y_t is known."""
    errors: list[list[float]] = [[] for _ in range(AHEAD)]
    for t in range(GRACE, len(values) - AHEAD):
        for h in range(1, AHEAD + 1):
            y, true = forecast(t, h), values[t + h]
            errors[h - 1].append(200 * abs(y - true) / (abs(y) + abs(true)))
    return statistics.mean(map(statistics.mean, errors))


def learner(season: int | None, steps: int) -> PredictAndLearn:
    """Return the transform: a small network, updated at each record; otherwise defaults."""
    columns = Columns(key="series", time="t", inputs=["y"], horizon=(2, 3, 4))
    return PredictAndLearn(
        Untrained(Network("gru", hidden=16, residual=True), columns),
        Learning(Bptt(steps, stride=1), scaler=Running(log=True, difference=season)),
    )


def records(_: Any, values: Sequence[float], copies: int) -> Iterator[dict[str, Any]]:
    """Yield the records of some copies of the series, each with its own key."""
    for t, y in enumerate(values):
        for copy in range(copies):
            yield {"series": copy, "t": 86_400 * t, "y": y}


def run(series: Series, copies: int, steps: int = 12, output: str | None = None) -> None:
    """Run a pipeline of the learner; write the predictions as JSON lines to `output`."""
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
    """Return the time, outputs and model of each prediction of one copy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        run(series, 1, steps, str(path))
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()]


def error_of(series: Series, predictions: list[tuple[int, list[float], str]]) -> float:
    """Return the SMAPE of predictions; y_{t+h} is predicted from y_{t-1}."""
    outputs_at = {t: outputs for t, outputs, _ in predictions}
    return smape(series.values, lambda t, h: outputs_at[t - 1][h - 1])


def measured(series: Series, copies: int, repeat: int) -> list[dict[str, Any]]:
    """Return a row for each peer and each naive forecast."""
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
    print(f"{learned:.0%} were predicted by the learned model, the others by the untrained one")
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
        print(f"{peer:<20}{error:>10.3f}{peer_us or float('nan'):>12.1f} us/record")
    return rows


def main() -> None:
    """Measure both series and print the tables."""
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
