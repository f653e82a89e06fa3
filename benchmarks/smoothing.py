"""Measure the accuracy of a bidirectional network in a stream by the lag of its outputs.

    python -m benchmarks.smoothing [--quick] [--json FILE] [--plot FILE]

A signal s(t) = 0.95 s(t-1) + noise of variance 0.1 is observed with noise of variance 1 and must be
estimated: `Columns(horizon=0)`, where the target is the clean value of the same record. The optimal
estimators of such a signal are known: the Kalman filter from the past, the fixed-lag smoother from
L further records, and the Rauch-Tung-Striebel smoother from the whole sequence (Anderson and Moore
1979, "Optimal filtering"). Their errors are lower bounds.

A bidirectional GRU is trained once, on whole sequences, and streamed by `Smooth` with several lags
and by `PredictSequences`; a unidirectional GRU with about as many parameters is streamed by
`Predict`. Errors are root mean squares over test records, without those near the ends of a
sequence. The table also has the CPU microseconds per record, in a pipeline that generates and
predicts the records and writes the predictions.
"""

import argparse
import json
import os
import tempfile
import time

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from beam_rnn import (
    Bptt,
    Columns,
    Network,
    Predict,
    PredictSequences,
    Sequences,
    Smooth,
    Train,
    Training,
    WriteModel,
)
from beam_rnn.optim import Adam, Cosine
from beam_rnn.weights import load

KEEPS, DRIVEN, SEEN = 0.95, 0.1, 1.0
"""The coefficient of the signal, the variance of its innovations, and that of the observation
noise."""
STEPS, EDGE = 400, 50
"""Steps per sequence, and the number at each end that are not counted."""
UPDATES = 3000  # of training: 60 epochs of 50 batches
FRESH_FROM = 1_000_000
"""The number of the first test sequence; that of the first training sequence is 0."""
LAGS = (0, 1, 2, 4, 8, 16)
COLUMNS = Columns(key="id", time="t", inputs=["seen"], targets=["signal"], horizon=0)
NETWORKS = {
    "both": Network("gru", hidden=16, bidirectional=True),
    "one": Network("gru", hidden=23),
}


class Size(NamedTuple):
    """The number of sequences for training and for testing, the epochs, and the lags."""

    learned: int  # sequences
    fresh: int
    epochs: int
    lags: Sequence[int]


def records(key: int) -> Iterator[dict[str, Any]]:
    """Yield the records of a sequence."""
    random = np.random.default_rng(key)
    signal = random.normal(0, np.sqrt(DRIVEN / (1 - KEEPS**2)))
    for t in range(STEPS):
        seen = signal + random.normal(0, np.sqrt(SEEN))
        yield {"id": f"{key:05}", "t": t, "seen": seen, "signal": signal}
        signal = KEEPS * signal + random.normal(0, np.sqrt(DRIVEN))


def bound(lag: float) -> float:
    """Return the optimal root mean square error with a lag, far from the ends of a sequence."""
    filtered = predicted = 1.0
    for _ in range(10_000):  # until they converge
        predicted = KEEPS**2 * filtered + DRIVEN
        filtered = predicted * SEEN / (predicted + SEEN)
    gain, smoothed = KEEPS * filtered / predicted, filtered
    for _ in range(int(min(lag, 10_000))):
        smoothed = filtered + gain**2 * (smoothed - predicted)
    return float(np.sqrt(smoothed))


def train(name: str, size: Size, path: Path) -> None:
    """Train the network of a name, and write it."""
    rate = Cosine(1e-2, steps=UPDATES)
    training = Training(Bptt(), optimizer=Adam(rate), epochs=size.epochs, scaler="global")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create(range(size.learned))
            | beam.FlatMap(records)
            | Sequences(COLUMNS, length=50)
            | Train(NETWORKS[name], training)
            | WriteModel(path)
        )


def error_and_time(size: Size, transform: beam.PTransform, folder: Path) -> tuple[float, float]:
    """Return the root mean square error on test records, and the CPU microseconds per record."""
    keys = range(FRESH_FROM, FRESH_FROM + size.fresh)
    path, started = folder / transform.label, time.process_time()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        fresh = pipeline | beam.Create(keys) | "Records" >> beam.FlatMap(records)
        _ = (
            (fresh | transform).predictions
            | "Line" >> beam.Map(lambda row: f"{row.key} {row.step} {row.outputs[0]}")
            | "Write" >> beam.io.WriteToText(str(path))
        )
    seconds = time.process_time() - started
    estimates = {}
    for file in folder.glob(f"{path.name}-*"):
        for line in file.read_text().splitlines():
            key, step, value = line.split()
            estimates[key, int(step) - 1] = float(value)
    assert len(estimates) == size.fresh * STEPS, "a prediction for each record"
    errors = [
        estimates[row["id"], row["t"]] - row["signal"]
        for key in keys
        for row in records(key)
        if EDGE <= row["t"] < STEPS - EDGE
    ]
    return float(np.sqrt(np.mean(np.square(errors)))), seconds / len(estimates) * 1e6


def measured(size: Size, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each estimator of the signal."""
    paths = {name: folder / f"{name}.arrow" for name in NETWORKS}
    for name, path in paths.items():
        train(name, size, path)
        count = sum(value.size for value in load(path).parameters.values())
        print(f"{name}: {count} parameters", flush=True)
    transforms: list[tuple[str, float, beam.PTransform]] = [
        ("one direction", 0, Predict(paths["one"])),
        *((f"lag {lag}", lag, Smooth(paths["both"], lag=lag)) for lag in size.lags),
        ("whole", np.inf, PredictSequences(paths["both"])),
    ]
    rows = []
    for case, lag, transform in transforms:
        named = case.replace(" ", "-") >> transform
        error, microseconds = error_and_time(size, named, folder)
        rows.append({"case": case, "error": error, "bound": bound(lag), "us": microseconds})
        print(f"{case:<16}{error:>8.4f}{bound(lag):>10.4f}{microseconds:>10.1f}", flush=True)
    return rows


def plot(rows: Sequence[dict[str, Any]], lags: Sequence[int], path: str) -> None:
    """Plot the errors and their bounds by lag."""
    import matplotlib as mpl  # from the extra `plot`

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    one, *smoothed, whole = rows
    figure, axis = plt.subplots(figsize=(7, 4))
    places = np.arange(len(lags) + 1)
    by_lag = [*smoothed, whole]
    axis.plot(places, [r["error"] for r in by_lag], "C0o-", label="GRU, bidirectional, by lag")
    axis.plot(places, [r["bound"] for r in by_lag], "k:", label="bound: Kalman smoother, by lag")
    axis.axhline(one["error"], color="C1", label="GRU, one direction, as many parameters")
    axis.axhline(one["bound"], color="0.6", ls="--", lw=1, label="bound: Kalman filter")
    axis.set_xticks(places, [*map(str, lags), "whole\nsequence"])
    axis.set(xlabel="lag L, records that an output waits for", ylabel="root mean square error")
    axis.set_ylim(bottom=0.9 * whole["bound"])
    axis.legend(framealpha=1, edgecolor="none", loc="upper right")
    axis.set_ylim(top=1.15 * by_lag[0]["error"])
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Measure every case, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few sequences, two lags")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--plot", help="a file for the plot: needs the extra `plot`")
    args = parser.parse_args()
    size = Size(4, 2, 1, (0, 2)) if args.quick else Size(200, 100, 60, LAGS)
    print(f"{'case':<16}{'error':>8}{'bound':>10}{'us':>10}")
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(size, Path(folder))
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")
    if args.plot:
        plot(rows, size.lags, args.plot)


if __name__ == "__main__":
    main()
