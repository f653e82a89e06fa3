"""A record through Beam: `Predict` beside Beam's own state, which does nothing.

    python -m benchmarks.online [--quick] [--json FILE]

One bundle on FnApiRunner, a GRU of 64 units, records of one number. The peer reads and writes
256 bytes of state for each record, as large as the hidden state, and computes nothing. The time
of the same pipeline without the step, source and keys alone, is taken off both.
"""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_rnn import Columns, Model, Network, Predict, weights
from beam_rnn.scaler import Scaler
from benchmarks.table import Row, medians, show

HIDDEN = 64
START = 1_500_000_000


class NoOpState(beam.DoFn):
    """Reads and writes as many bytes as the hidden state has."""

    STATE = ReadModifyWriteStateSpec("state", BytesCoder())

    def process(
        self, element: tuple[str, float], state: Any = beam.DoFn.StateParam(STATE)
    ) -> Iterator[tuple[str, float]]:
        """The element as it came."""
        state.write(state.read() or bytes(4 * HIDDEN))
        yield element


def records(_: Any, count: int, keys: int) -> Iterator[dict[str, Any]]:
    """`count` records, one key after the other."""
    for i in range(count):
        yield {"id": f"key-{i % keys}", "t": START + i // keys, "x": float(i % 7)}


def keyed(record: dict[str, Any]) -> tuple[str, float]:
    """What the peer's state is for."""
    return record["id"], record["x"]


def run(count: int, keys: int, step: beam.PTransform | None) -> None:
    """One pipeline from the records through a step."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        source = (
            pipeline
            | beam.Create([None], reshuffle=False)
            | "Records" >> beam.FlatMap(records, count, keys)
        )
        if isinstance(step, Predict):
            _ = source | step
        else:
            pairs = source | "Key" >> beam.Map(keyed).with_output_types(tuple[str, float])
            _ = pairs if step is None else pairs | step


def main() -> None:
    """Measure every case and show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer records and turns")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    count, repeat = (5_000, 3) if args.quick else (20_000, 5)

    network = Network("gru", HIDDEN)
    columns = Columns(key="id", time="t", inputs=["x"])
    parameters = network.initialize(1, 1, seed=0, dtype=np.float32)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.arrow"
        weights.save(Model(network, parameters, columns, Scaler.identity(1, 1)), path)
        for keys in (100,) if args.quick else (100, 10_000):
            base, noop, arrival, event_time = medians(
                [
                    partial(run, count, keys, step)
                    for step in (
                        None,
                        beam.ParDo(NoOpState()),
                        Predict(path, order="arrival"),
                        Predict(path),
                    )
                ],
                repeat,
            )
            peer = (noop - base) / count * 1e6
            for order, seconds in (("arrival", arrival), ("event_time", event_time)):
                ours = (seconds - base) / count * 1e6
                rows.append(Row(f"online/{order}/keys={keys}", ours, "beam-noop", peer))
    show(rows, args.json)


if __name__ == "__main__":
    main()
