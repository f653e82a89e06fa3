"""Compare the cost of a record in `Predict` with Beam's own state and hand-written DoFns.

    python -m benchmarks.online [--quick] [--json FILE] [--state-cache]

One bundle on FnApiRunner, a GRU of 64 units, records of one number, one thread. `rows-by-key` steps
each key separately, `rows` uses 4 shards; `arrow` steps batches of 65,536 rows in 8 shards. The
peers: `beam-noop` reads and writes 256 bytes of state for each record, the size of the hidden
state, and computes nothing; `torch-dofn` also steps a `torch.nn.GRUCell`; `runinference-32` is
stateless and runs a `torch.nn.GRU` over the last 32 records for each record, in batches of up to 64
by Beam's RunInference. The peers with PyTorch are skipped if it is not installed.

The number of records is large enough to make the fixed costs of a pipeline small: 20,000 for the
peers and `rows-by-key`. With 1,000,000 keys these 20,000 records all have different keys, because
two records of a key are rare in such a bundle. The time of the same pipeline without the step is
subtracted.

Beam's state cache is off, which is the default of a worker of Beam 2.77. The local runner has it
on; to measure the size of a value it walks all imported modules, which takes a millisecond per key,
and more if PyTorch is imported. With `--state-cache` it is on, and the cases with a state per key
get 2,000 records.
"""

import argparse
import importlib.util
import os
import tempfile

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_rnn import Predict
from benchmarks.sources import (
    HIDDEN,
    NoOpState,
    Reading,
    make_tables,
    pairs,
    readings,
    tables,
    windows,
    write_model,
)
from benchmarks.table import Row, medians, show


class TorchCell(beam.DoFn):
    """Steps PyTorch's cell in a hand-written DoFn."""

    STATE = ReadModifyWriteStateSpec("state", BytesCoder())

    def setup(self) -> None:
        """Create the cell and a head."""
        import torch

        torch.set_num_threads(1)
        self._torch = torch
        self._cell, self._head = torch.nn.GRUCell(1, HIDDEN), torch.nn.Linear(HIDDEN, 1)

    def process(
        self, element: tuple[str, float], state: Any = beam.DoFn.StateParam(STATE)
    ) -> Iterator[tuple[str, float]]:
        """Yield the key and the output."""
        torch, (key, x) = self._torch, element
        before = bytearray(state.read() or bytes(4 * HIDDEN))
        with torch.inference_mode():
            h = torch.frombuffer(before, dtype=torch.float32).reshape(1, HIDDEN)
            h = self._cell(torch.tensor([[x]]), h)
            y = float(self._head(h))
        state.write(h.numpy().tobytes())
        yield key, y


class TorchWindows(ModelHandler):
    """Runs PyTorch's layer over whole windows."""

    def __init__(self) -> None:
        super().__init__(min_batch_size=1, max_batch_size=64)

    def load_model(self) -> Any:
        """Return a layer and a head."""
        import torch

        torch.set_num_threads(1)
        layer, head = torch.nn.GRU(1, HIDDEN, batch_first=True), torch.nn.Linear(HIDDEN, 1)
        return torch.nn.ModuleList([layer, head])  # Beam refers to it weakly

    def run_inference(
        self,
        batch: Sequence[Any],
        model: Any,
        inference_args: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> Iterable[list[float]]:
        """Return the output after each window."""
        import torch

        layer, head = model
        with torch.inference_mode():
            outputs = head(layer(torch.from_numpy(np.stack(batch)))[0][:, -1])
        return outputs.tolist()


class Source(NamedTuple):
    """Elements, their type, and the number of records."""

    elements: Callable[[Any], Iterable[Any]]
    kind: Any
    records: int


def run(source: Source, step: beam.PTransform | None) -> None:
    """Run a pipeline of the records and a step."""
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        records = (
            pipeline
            | beam.Create([None], reshuffle=False)
            | "Records" >> beam.FlatMap(source.elements).with_output_types(source.kind)
        )
        _ = records if step is None else records | step


class Sizes(NamedTuple):
    """The sizes of a case.

    Attributes:
        keys: The number of keys.
        few: Records of the cases with a state per key.
        many: Records of the cases with shards.
        rows: Records of the cases with Arrow batches.
    """

    keys: int
    few: int
    many: int
    rows: int


def microseconds(
    steps: dict[str, tuple[Source, beam.PTransform]], repeat: int, warm: int
) -> dict[str, float]:
    """Return the microseconds per record of each step, without those of its source."""
    sources = list(dict.fromkeys(source for source, _ in steps.values()))
    runs = [partial(run, source, None) for source in sources]
    runs += [partial(run, source, step) for source, step in steps.values()]
    seconds = medians(runs, repeat, warm)
    without = dict(zip(sources, seconds, strict=False))
    return {
        name: (taken - without[source]) / source.records * 1e6
        for (name, (source, _)), taken in zip(steps.items(), seconds[len(sources) :], strict=True)
    }


def measured(path: Path, sizes: Sizes, repeat: int, warm: int) -> list[Row]:
    """Measure every case with some number of keys."""
    keys, few, many, rows = sizes
    make_tables(rows, keys)
    by_key = Source(partial(readings, count=few, keys=keys), Reading, few)
    in_shards = Source(partial(readings, count=many, keys=keys), Reading, many)
    arrow = Source(tables, pa.Table, rows)
    keyed = Source(partial(pairs, count=few, keys=keys), tuple[str, float], few)
    ours = {
        "rows-by-key": (by_key, Predict(path, order="arrival")),
        "rows": (in_shards, Predict(path, order="arrival", shards=4)),
        "rows-by-event-time": (in_shards, Predict(path, shards=4)),
        "arrow": (arrow, Predict(path, order="arrival", shards=8)),
        "arrow-by-event-time": (arrow, Predict(path, shards=8)),
    }
    peers = {"beam-noop": (keyed, beam.ParDo(NoOpState()))}
    if importlib.util.find_spec("torch"):
        stateless = Source(partial(windows, count=few), Any, few)
        peers["torch-dofn"] = (keyed, beam.ParDo(TorchCell()))
        peers["runinference-32"] = (stateless, RunInference(TorchWindows()))
    us = microseconds({**ours, **peers}, repeat, warm)
    return [
        Row(f"online/{name}/keys={keys}", us[name], peer, us[peer])
        for name in ours
        for peer in peers
    ]


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer keys, records and repeats")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--state-cache", action="store_true", help="with Beam's cache of state")
    args = parser.parse_args()
    pa.set_cpu_count(1)
    if not args.state_cache:
        worker_handlers.STATE_CACHE_SIZE_MB = 0
    few = 2_000 if args.state_cache else 20_000
    cases = [
        Sizes(100, 20_000, 500_000, 4_000_000),
        Sizes(10_000, few, 200_000, 4_000_000),
        Sizes(1_000_000, few, 200_000, 4_000_000),
    ]
    repeat = 5
    if args.quick:
        cases, repeat = [Sizes(100, 3_000, 20_000, 200_000)], 3

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.arrow"
        write_model(path)
        for warm, sizes in zip(
            (1, 0, 0), cases, strict=False
        ):  # only the first case has to compile
            rows += measured(path, sizes, repeat, warm)
    show(rows, args.json)


if __name__ == "__main__":
    main()
