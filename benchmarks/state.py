"""Measure the cost of the state of shards, compared with a state cell per key.

    python -m benchmarks.state [--quick] [--json FILE]
    python -m benchmarks.state --memory

The figures are bytes and microseconds per record. The DoFns of `Predict` are called without a
runner, on cells in memory that count the bytes as Beam moves them: a cell is read once in a bundle
and written at its end. A GRU of 64 units steps records of one number in order of arrival. The keys
are random, and each has a state already. 4 shards alternate with one cell per key, in one thread.
The shards step at least as many records as there are keys, so that compactions of their logs are
included; the figures are means, because compactions are rare.

`--memory` measures the memory of a process that caches 1,000,000 keys, compared with the 256 MB of
their hidden states. The log is counted but not kept: the runner stores it.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.engine.order import Order
from beam_rnn.engine.steppers.predict import Policy
from beam_rnn.streaming.emission import EmitRows
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.packing import PackRecords, PackShards
from beam_rnn.streaming.shard_dofn import StepShards
from beam_rnn.streaming.sources import PredictSource
from benchmarks.sources import HIDDEN, START, Reading, write_model
from benchmarks.table import Row, show

SHARDS = 4
FILLED_BY = 100_000
"""Records in a bundle that gives keys their first state."""
ARRIVAL = Order("arrival", 0, 500_000)
WARM = 3
"""Number of bundles of warm-up."""
NOW = Timestamp(START)
WINDOW = GlobalWindow()


class Cell:
    """A state cell per key, in memory, of one value; it counts the bytes that a bundle moves."""

    def __init__(self) -> None:
        self.moved = 0
        self._values: dict[str, bytes] = {}
        self._before: dict[str, bytes | None] = {}  # of the keys that this bundle has read
        self._key = ""

    def of(self, key: str) -> "Cell":
        """Return the cell of a key, valid until the next call."""
        self._key = key
        return self

    def clear(self) -> None:
        """Clear the cell."""
        self._look()
        self._values.pop(self._key, None)

    def commit(self) -> None:
        """End the bundle: count the values that it wrote."""
        for key, before in self._before.items():
            value = self._values.get(key)
            if value is not None and value is not before:
                self.moved += len(value)
        self._before.clear()

    def _look(self) -> bytes | None:
        value = self._values.get(self._key)
        if self._key not in self._before:
            self._before[self._key] = value
            self.moved += len(value or b"")
        return value


class Value(Cell):
    """Like Beam's read-modify-write state."""

    def read(self) -> bytes | None:
        """Return the value."""
        return self._look()

    def write(self, value: bytes) -> None:
        """Set the value."""
        self._before.setdefault(self._key, None)
        self._values[self._key] = value


class Bag(Cell):
    """Like Beam's bag state, with at most one element."""

    def read(self) -> list[bytes]:
        """Return the elements."""
        value = self._look()
        return [] if value is None else [value]

    def add(self, value: bytes) -> None:
        """Add the element."""
        assert self._key not in self._values, "a bag of one"
        self._before.setdefault(self._key, None)
        self._values[self._key] = value

    def spread(self, keys: Iterable[str]) -> None:
        """Give each key its own copy of the only element."""
        (value,) = self._values.values()
        self._values.update((key, bytes(bytearray(value))) for key in keys)


class Log:
    """A bag that is counted but not kept: the log of a cached shard is not read."""

    def __init__(self) -> None:
        self.moved = 0

    def read(self) -> Iterable[bytes]:
        """Raise: there is nothing to return."""
        raise AssertionError("the shard is not in the cache")

    def add(self, piece: bytes) -> None:
        """Count the bytes."""
        self.moved += len(piece)

    def clear(self) -> None:
        """Do nothing."""


class Timer:
    """A timer that never fires."""

    def set(self, timestamp: Any) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing."""


class Job(Protocol):
    """A job of two DoFns on cells in memory."""

    @property
    def moved(self) -> int:
        """The bytes of state moved so far."""

    def fill(self, keys: int) -> None:
        """Give a number of keys a state."""

    def bundle(self, elements: Sequence[WindowedValue]) -> int:
        """Step the records of a bundle; return the number of predictions."""


class _Job:
    """The common part of both jobs."""

    def __init__(self, pack: PackRecords, step: Any):
        self._pack, self._step = pack, step
        pack.setup()
        step.setup()

    def _blocks(self, elements: Sequence[WindowedValue]) -> Iterator[WindowedValue]:
        self._pack.start_bundle()
        self._step.start_bundle()
        for element in elements:
            yield from self._pack.process(element.value, windowed=element) or ()
        yield from self._pack.finish_bundle()


class Shards(_Job):
    """A job with shards of keys."""

    def __init__(self, path: str):
        loader = ModelLoader(path)
        steps = PredictSource(loader, Policy())
        step = StepShards(steps, ARRIVAL, None, SHARDS, EmitRows())
        super().__init__(PackShards(loader.reader, SHARDS), step)
        self._head, self._log, self._timer = Value(), Log(), Timer()

    def fill(self, keys: int) -> None:
        """Step each key once."""
        for start in range(0, keys, FILLED_BY):
            self.bundle(elements_of(range(start, min(start + FILLED_BY, keys)), 0))

    @property
    def moved(self) -> int:
        """Bytes of state."""
        return self._head.moved + self._log.moved

    def bundle(self, elements: Sequence[WindowedValue]) -> int:
        """Steps the records of a bundle."""
        predictions = 0
        for block in self._blocks(elements):
            shard, _ = block.value
            head = self._head.of(shard)
            stepped = self._step.process(
                block.value, WINDOW, head, self._log, self._timer, self._timer
            )
            predictions += len(list(stepped))
        self._head.commit()
        return predictions


class Keys(_Job):
    """A job with a state cell per key."""

    def __init__(self, path: str):
        loader = ModelLoader(path)
        step = StepKeys(PredictSource(loader, Policy()), ARRIVAL, None)
        super().__init__(PackRecords(loader.reader), step)
        self._cells = Bag(), Bag(), Value()
        self._timer = Timer()

    def fill(self, keys: int) -> None:
        """Step one key and copy its state to all: stepping each key would take minutes."""
        self.bundle(elements_of([0], 0))
        self._cells[0].spread([f"key-{key}" for key in range(keys)])

    @property
    def moved(self) -> int:
        """Bytes of state."""
        return sum(cell.moved for cell in self._cells)

    def bundle(self, elements: Sequence[WindowedValue]) -> int:
        """Steps the records of a bundle."""
        predictions = 0
        for block in self._blocks(elements):
            key, _ = block.value
            cells = [cell.of(key) for cell in self._cells]
            stepped = self._step.process(block.value, NOW, WINDOW, *cells, self._timer, self._timer)
            predictions += len(list(stepped))
        for cell in self._cells:
            cell.commit()
        return predictions


def elements_of(keys: Iterable[int], at: int) -> list[WindowedValue]:
    """Return a record of each of these keys."""
    windows = (WINDOW,)
    return [
        WindowedValue(Reading(f"key-{key}", float(START + at), float(key % 7)), NOW, windows)
        for key in keys
    ]


class Cost(NamedTuple):
    """Microseconds and bytes of state per record."""

    us: float
    moved: float


def costs(jobs: Sequence[tuple[Job, int]], keys: int, bundle: int) -> list[Cost]:
    """Return the cost per record of each job; with each job comes its number of records."""
    random = np.random.default_rng(0)
    bundles = [-(-records // bundle) for _, records in jobs]
    seconds, moved = [0.0 for _ in jobs], [0 for _ in jobs]
    for turn in range(-WARM, max(bundles)):
        elements = elements_of(random.integers(keys, size=bundle).tolist(), 1 + WARM + turn)
        for i, (job, _) in enumerate(jobs):
            if turn >= bundles[i]:
                continue
            before, started = job.moved, time.perf_counter()
            predictions = job.bundle(elements)
            taken = time.perf_counter() - started
            assert predictions == bundle, "one prediction per record"
            if turn >= 0:
                seconds[i] += taken
                moved[i] += job.moved - before
    return [
        Cost(1e6 * taken / (n * bundle), total / (n * bundle))
        for taken, total, n in zip(seconds, moved, bundles, strict=True)
    ]


def resident() -> int:
    """Return the resident bytes of the process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def show_memory(path: str, keys: int) -> None:
    """Print the memory that a number of keys takes."""
    job = Shards(path)
    for at in range(3):  # compile, and allocate the memory of a bundle
        job.bundle(elements_of([0] * FILLED_BY, at))
    before = resident()
    job.fill(keys)
    after, states = resident(), 4 * HIDDEN * keys
    print(
        f"resident memory before {before / 1e6:.0f} MB, with {keys} keys {after / 1e6:.0f} MB: "
        f"{(after - before) / states:.2f} of the {states / 1e6:.0f} MB of their states"
    )


def main() -> None:
    """Measure every case and print the table and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer keys, records and bundles")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--memory", action="store_true", help="only the memory of the shards")
    args = parser.parse_args()
    sizes, bundles, least = [100, 10_000, 100_000, 1_000_000], [100, 1_000, 10_000], 50_000
    if args.quick:
        sizes, bundles, least = [100, 10_000], [1_000], 10_000

    rows, us = [], {}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/weights.arrow"
        write_model(path)
        if args.memory:
            show_memory(path, 1_000_000)
            return
        for keys in sizes:
            shards, plain = Shards(path), Keys(path)
            shards.fill(keys)
            plain.fill(keys)
            for bundle in bundles:
                few = max(least, 20 * bundle)
                many = few if args.quick else max(few, keys)
                ours, peer = costs([(shards, many), (plain, few)], keys, bundle)
                moved = ours.moved, peer.moved
                rows.append(
                    Row(
                        f"state/shards/keys={keys}/bundle={bundle}",
                        ours.us,
                        "plain-cell",
                        peer.us,
                        moved,
                    )
                )
                us[keys, bundle] = ours.us
    show(rows, args.json)
    for bundle, (few, many) in product(bundles, [(10_000, 1_000_000)]):
        if (many, bundle) in us:
            ratio = us[many, bundle] / us[few, bundle]
            print(f"{many} keys over {few}, bundles of {bundle}: {ratio:.2f} times the time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak resident memory of this process {peak / 1e6:.0f} MB")
    if not args.quick:
        alone = [sys.executable, "-m", "benchmarks.state", "--memory"]
        print(subprocess.run(alone, check=True, capture_output=True, text=True).stdout, end="")  # noqa: S603


if __name__ == "__main__":
    main()
