"""What the state of shards costs beside a cell for each key: bytes and microseconds a record.

    python -m benchmarks.state [--quick] [--json FILE]
    python -m benchmarks.state --memory

The DoFns of `Predict` are called here without a runner, on cells in memory that count what goes
through them as Beam moves it: a cell is read once in a bundle and written at its end. A GRU of 64
units, records of one number by arrival, the keys at random, each of which has a state already; 4
shards beside one cell for each key, in turn, one thread. The shards step as many records as there
are keys, so that their logs are written anew as often as they would be; means, since it is seldom.

`--memory`: how much more memory a process has that remembers 1,000,000 keys, beside the 256 MB of
their hidden states. The log is counted and not kept: it lies with the runner.
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
"""So many records are in a bundle that gives keys their first state."""
ARRIVAL = Order("arrival", 0, 500_000)
WARM = 3
"""So many bundles are not counted."""
NOW = Timestamp(START)
WINDOW = GlobalWindow()


class Cell:
    """A cell of each key, in memory, which counts what a bundle moves; it holds one value."""

    def __init__(self) -> None:
        self.moved = 0
        self._values: dict[str, bytes] = {}
        self._before: dict[str, bytes | None] = {}  # of the keys that this bundle has looked at
        self._key = ""

    def of(self, key: str) -> "Cell":
        """The cell of a key, until the next call."""
        self._key = key
        return self

    def clear(self) -> None:
        """Empty it."""
        self._look()
        self._values.pop(self._key, None)

    def commit(self) -> None:
        """The bundle ends: what it wrote is moved."""
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
    """As Beam's read-modify-write state."""

    def read(self) -> bytes | None:
        """What was written last."""
        return self._look()

    def write(self, value: bytes) -> None:
        """Let this be the value."""
        self._before.setdefault(self._key, None)
        self._values[self._key] = value


class Bag(Cell):
    """As Beam's bag state, of one element at the most."""

    def read(self) -> list[bytes]:
        """The elements."""
        value = self._look()
        return [] if value is None else [value]

    def add(self, value: bytes) -> None:
        """Put in the element."""
        assert self._key not in self._values, "a bag of one"
        self._before.setdefault(self._key, None)
        self._values[self._key] = value

    def spread(self, keys: Iterable[str]) -> None:
        """Give each key its own copy of the one element there is."""
        (value,) = self._values.values()
        self._values.update((key, bytes(bytearray(value))) for key in keys)


class Log:
    """A bag that is counted, not kept: a shard that is remembered is not read."""

    def __init__(self) -> None:
        self.moved = 0

    def read(self) -> Iterable[bytes]:
        """Nothing that could be given."""
        raise AssertionError("the shard was not remembered")

    def add(self, piece: bytes) -> None:
        """Count it."""
        self.moved += len(piece)

    def clear(self) -> None:
        """Nothing is kept."""


class Timer:
    """It never fires."""

    def set(self, timestamp: Any) -> None:
        """Forget it."""

    def clear(self) -> None:
        """The same."""


class Job(Protocol):
    """A job of two DoFns on cells in memory."""

    @property
    def moved(self) -> int:
        """Bytes of state, so far."""

    def fill(self, keys: int) -> None:
        """Give so many keys a state."""

    def bundle(self, elements: Sequence[WindowedValue]) -> int:
        """Steps the records of a bundle; gives how many predictions there were."""


class _Job:
    """What both jobs share."""

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
    """The keys of a shard together."""

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
    """Each key alone."""

    def __init__(self, path: str):
        loader = ModelLoader(path)
        step = StepKeys(PredictSource(loader, Policy()), ARRIVAL, None)
        super().__init__(PackRecords(loader.reader), step)
        self._cells = Bag(), Bag(), Value()
        self._timer = Timer()

    def fill(self, keys: int) -> None:
        """Step one key, and give each a copy of its state: to step them all takes minutes."""
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
    """A record of each of these keys."""
    windows = (WINDOW,)
    return [
        WindowedValue(Reading(f"key-{key}", float(START + at), float(key % 7)), NOW, windows)
        for key in keys
    ]


class Cost(NamedTuple):
    """Of a record."""

    us: float
    moved: float


def costs(jobs: Sequence[tuple[Job, int]], keys: int, bundle: int) -> list[Cost]:
    """What a record of a random key costs each job, of as many as are beside it."""
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
            assert predictions == bundle, "a record, a prediction"
            if turn >= 0:
                seconds[i] += taken
                moved[i] += job.moved - before
    return [
        Cost(1e6 * taken / (n * bundle), total / (n * bundle))
        for taken, total, n in zip(seconds, moved, bundles, strict=True)
    ]


def resident() -> int:
    """Bytes that the process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def show_memory(path: str, keys: int) -> None:
    """Print how much memory so many keys take."""
    job = Shards(path)
    for at in range(3):  # what is compiled, and what a bundle takes, is there before
        job.bundle(elements_of([0] * FILLED_BY, at))
    before = resident()
    job.fill(keys)
    after, states = resident(), 4 * HIDDEN * keys
    print(
        f"resident memory before {before / 1e6:.0f} MB, with {keys} keys {after / 1e6:.0f} MB: "
        f"{(after - before) / states:.2f} of the {states / 1e6:.0f} MB of their states"
    )


def main() -> None:
    """Measure every case and show the table, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer keys, records and bundles")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--memory", action="store_true", help="the memory of the shards alone")
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
