"""A record through Beam: `Predict` beside Beam's own state and a DoFn around PyTorch's cell.

    python -m benchmarks.online [--quick] [--json FILE]

One bundle on FnApiRunner, a GRU of 64 units, records of one number, one thread. `beam-noop` reads
and writes 256 bytes of state for each record, as large as the hidden state, and computes nothing;
`torch-dofn` steps a `torch.nn.GRUCell` in between, and is left out where PyTorch is not installed.
The time of the same pipeline without the step, source and keys alone, is taken off all.
"""

import argparse
import importlib.util
import os
import tempfile

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

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


class TorchCell(beam.DoFn):
    """Steps PyTorch's cell, as one would by hand."""

    STATE = ReadModifyWriteStateSpec("state", BytesCoder())

    def setup(self) -> None:
        """Makes the cell and a head."""
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        self._cell, self._head = torch.nn.GRUCell(1, HIDDEN), torch.nn.Linear(HIDDEN, 1)

    def process(
        self, element: tuple[str, float], state: Any = beam.DoFn.StateParam(STATE)
    ) -> Iterator[tuple[str, float]]:
        """The key, and what the network says."""
        torch, (key, x) = self._torch, element
        before = bytearray(state.read() or bytes(4 * HIDDEN))
        with torch.inference_mode():
            h = torch.frombuffer(before, dtype=torch.float32).reshape(1, HIDDEN)
            h = self._cell(torch.tensor([[x]]), h)
            y = float(self._head(h))
        state.write(h.numpy().tobytes())
        yield key, y


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
            peers = {"beam-noop": beam.ParDo(NoOpState())}
            if importlib.util.find_spec("torch"):
                peers["torch-dofn"] = beam.ParDo(TorchCell())
            ours = {"rows": Predict(path, order="arrival"), "rows-by-event-time": Predict(path)}
            steps = [None, *peers.values(), *ours.values()]
            base, *seconds = medians([partial(run, count, keys, step) for step in steps], repeat)
            names = [*peers, *ours]
            us = {
                name: (taken - base) / count * 1e6
                for name, taken in zip(names, seconds, strict=True)
            }
            rows += [
                Row(f"online/{name}/keys={keys}", us[name], peer, us[peer])
                for name in ours
                for peer in peers
            ]
    show(rows, args.json)


if __name__ == "__main__":
    main()
