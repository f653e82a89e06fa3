r"""Run the same records in different forms on an engine, and print the seconds of the job.

    python -m benchmarks.engine --case shards --records 2000000 --keys 10000 \
        --weights /tmp/w.arrow --runner=FlinkRunner --parallelism=2

Compare jobs of different sizes, or compare with `keyed`: all times include the start of the job.
Workers must be able to import this package and to read the weights file, which is written first.
The cases: `keyed` groups the records by key and does nothing else; `noop` reads and writes 256
bytes of state for each record; `keys`, `shards` and `arrow` are `Predict` with a GRU of 64 units
and `order="arrival"`.
"""

import argparse
import random
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn import Predict
from benchmarks.sources import START, NoOpState, Reading, write_model

CASES = ("keyed", "noop", "keys", "shards", "arrow")
PARTS = 16
"""Number of parts that are generated in parallel."""


def readings(part: int, records: int, keys: int) -> Iterator[Reading]:
    """Yield a part of the records, with random keys."""
    chance = random.Random(part)
    for i in range(part * records // PARTS, (part + 1) * records // PARTS):
        yield Reading(f"key-{chance.randrange(keys)}", float(START + i), float(i % 7))


def tables(part: int, records: int, keys: int) -> Iterator[pa.Table]:
    """Yield the same part as an Arrow batch."""
    rows = records // PARTS
    of_key = np.random.default_rng(part).integers(0, keys, rows)
    i = part * rows + np.arange(rows)
    names = pa.array([f"key-{key}" for key in of_key])
    yield pa.table({"id": names, "t": (START + i).astype(float), "x": (i % 7).astype(float)})


def build(pipeline: beam.Pipeline, case: str, records: int, keys: int, path: str) -> None:
    """Build the records and the steps of a case."""
    parts = pipeline | beam.Create(range(PARTS), reshuffle=True)
    if case == "arrow":
        source: Any = parts | "Batches" >> beam.FlatMap(tables, records, keys).with_output_types(
            pa.Table
        )
    else:
        source = parts | "Rows" >> beam.FlatMap(readings, records, keys).with_output_types(Reading)
    if case in ("keyed", "noop"):
        keyed = source | "Key" >> beam.Map(lambda row: (row.id, row.x)).with_output_types(
            tuple[str, float]
        )
        _ = keyed | (beam.Reshuffle() if case == "keyed" else beam.ParDo(NoOpState()))
    else:
        _ = source | Predict(path, order="arrival", shards=None if case == "keys" else 8)


def main() -> None:
    """Run one job and print its seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", required=True, choices=CASES)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument(
        "--weights", required=True, help="the weights file to write, for the workers"
    )
    args, beam_flags = parser.parse_known_args()
    write_model(args.weights)
    started = time.perf_counter()
    with beam.Pipeline(options=PipelineOptions(beam_flags)) as pipeline:
        build(pipeline, args.case, args.records, args.keys, args.weights)
    seconds = time.perf_counter() - started
    print(f"{args.case}: {args.records} records of {args.keys} keys in {seconds:.1f} s")


if __name__ == "__main__":
    main()
