"""Measure per-key models: their training, storage, loading, speed and accuracy.

    python -m benchmarks.per_key [--quick] [--keys N] [--json FILE]

The series of each key is a sine with its own period and level, and noise. The first 100 records are
for training, the next 100 for the error. One local pipeline trains a GRU of 8 units for each key,
and one for all keys as the fallback. The first 20 of the test records are streamed. The rows have
`ours_us` and `peer_us`, as in the other benchmarks:

- `train`: the time of that pipeline, in microseconds per record and epoch, compared with a pipeline
  that trains only the one model (`one-model`);
- `predict-*`: CPU microseconds per record, in a pipeline that generates, steps and drops the
  records, compared with the fallback alone (`one-model`);
- `error`: not a time, but the mean absolute error of the next value on the test records, in
  thousandths of the noise, compared with that of the fallback (`fallback`).

The size of the file, the time to load it and the growth of the process are printed, and are in the
last row of the JSON file as `facts`.
"""

import argparse
import json
import os
import tempfile
import time

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_rnn import (
    Bptt,
    Columns,
    KeyedModels,
    Network,
    Predict,
    Sequences,
    Train,
    Training,
    WriteModel,
    weights,
)
from beam_rnn.optim import Adam
from benchmarks.table import Row, show

LEARNED, FRESH = 100, 100
"""Number of training records and of test records per key."""
STREAMED = 20
"""Number of test records per key to stream for the time."""
NOISE = 0.05
COLUMNS = Columns(key="id", time="t", inputs=["x"])
NETWORK = Network("gru", hidden=8, residual=True)
TRAINING = Training(epochs=8, optimizer=Adam(3e-2), bptt=Bptt(steps=20))


def series(key: int) -> np.ndarray:
    """Return the whole series of a key."""
    random = np.random.default_rng(key)
    period, level = random.uniform(5, 40), random.uniform(-100, 100)
    t = np.arange(LEARNED + FRESH)
    return level + np.sin(2 * np.pi * t / period) + NOISE * random.standard_normal(len(t))


def records(key: int, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Yield some records of a key."""
    for t, x in enumerate(series(key)[start:stop].tolist(), start):
        yield {"id": f"key-{key}", "t": t, "x": x}


def tables(first: int, keys: int) -> Iterator[pa.Table]:
    """Yield the test records of some keys as one Arrow batch."""
    rows = [
        row
        for key in range(first, first + keys)
        for row in records(key, LEARNED, LEARNED + STREAMED)
    ]
    yield pa.Table.from_pylist(sorted(rows, key=lambda row: row["t"]))


def train(keys: int, path: Path, transform: Train) -> float:
    """Return the seconds of a local training pipeline."""
    started = time.perf_counter()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create(range(keys))
            | "Records" >> beam.FlatMap(records, 0, LEARNED)
            | Sequences(COLUMNS)
            | transform
            | WriteModel(path)
        )
    return time.perf_counter() - started


def predict(keys: int, path: Path, shards: int | None, *, arrow: bool) -> float:
    """Return the CPU seconds of a local prediction pipeline."""
    started = time.process_time()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        source: Any
        if arrow:
            parts = pipeline | beam.Create(range(0, keys, 500))
            make = partial(tables, keys=min(keys, 500))
            source = parts | "Batches" >> beam.FlatMap(make).with_output_types(pa.Table)
        else:
            source = (
                pipeline
                | beam.Create(range(keys))
                | "Records" >> beam.FlatMap(records, LEARNED, LEARNED + STREAMED)
            )
        _ = source | Predict(path, shards=shards)
    return time.process_time() - started


def absolute_error(keys: int, models: KeyedModels, *, shared: bool) -> float:
    """Return the mean absolute error of the next value over the test records of all keys."""
    errors = []
    for key in range(keys):
        name, fresh = f"key-{key}", series(key)[LEARNED:, np.newaxis]
        model = models.fallback if shared else models.of(name)
        assert model is not None, "there is a fallback"
        y = model.forward(model.scaled(name, fresh[:-1])[np.newaxis])
        errors.append(np.abs(model.restored(name, y[0]) - fresh[1:]).mean())
    return float(np.mean(errors))


def resident() -> int:
    """Return the resident bytes of this process, including mapped files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def load_and_touch(keys: int, path: Path) -> dict[str, float]:
    """Measure the loading of the models, and then a step of every key."""
    before, started = resident(), time.perf_counter()
    models = weights.load(path)
    seconds, loaded = time.perf_counter() - started, resident()
    started = time.process_time()
    for key in range(keys):
        model = models.of(f"key-{key}")
        model.step(model.initial_state(), np.zeros((1, 1), np.float32))
    return {
        "file_bytes": path.stat().st_size,
        "load_seconds": seconds,
        "loaded_bytes": loaded - before,
        "all_keys_processor_seconds": time.process_time() - started,
        "all_keys_bytes": resident() - before,
    }


def measured(keys: int, folder: Path) -> tuple[list[Row], dict[str, float]]:
    """Return the rows and the facts."""
    train(2, folder / "warm.arrow", Train(NETWORK, TRAINING, per_key=True))  # compiles
    one = train(keys, folder / "one.arrow", Train(NETWORK, TRAINING))
    own = train(keys, folder / "models.arrow", Train(NETWORK, TRAINING, per_key=True))
    facts = {"keys": keys, "train_seconds": own, "train_seconds_of_fallback_alone": one}
    facts |= load_and_touch(keys, folder / "models.arrow")
    steps = keys * LEARNED * TRAINING.epochs
    rows = [Row(f"per_key/train/keys={keys}", own / steps * 1e6, "one-model", one / steps * 1e6)]
    for name, shards, arrow in (("keys", None, False), ("shards", 8, False), ("arrow", 8, True)):
        ours, peer = (
            predict(keys, folder / file, shards, arrow=arrow) / (keys * STREAMED) * 1e6
            for file in ("models.arrow", "one.arrow")
        )
        rows.append(Row(f"per_key/predict-{name}/keys={keys}", ours, "one-model", peer))
    models = weights.load(folder / "models.arrow")
    errors = [absolute_error(keys, models, shared=shared) for shared in (False, True)]
    facts |= {"error_of_own_models": errors[0], "error_of_fallback": errors[1]}
    thousandths = [error / NOISE * 1e3 for error in errors]
    rows.append(Row(f"per_key/error/keys={keys}", thousandths[0], "fallback", thousandths[1]))
    return rows, facts


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 keys")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    keys = 20 if args.quick else args.keys
    with tempfile.TemporaryDirectory() as folder:
        rows, facts = measured(keys, Path(folder))
    show(rows, args.json)
    print(json.dumps(facts, indent=2))
    if args.json:
        written = json.loads(Path(args.json).read_text())
        written[-1]["facts"] = facts
        Path(args.json).write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
