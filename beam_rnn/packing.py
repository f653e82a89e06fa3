"""The records of a bundle, checked and packed by key or shard: a state is touched once for all."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.arrow import BatchReader, check_no_batch, to_bytes
from beam_rnn.blocks import by_shard, encode_block
from beam_rnn.cells import Array
from beam_rnn.reading import ColumnReader
from beam_rnn.records import INVALID, InvalidRecord
from beam_rnn.state import encode_block as encode_key_block

PACKED_AT_MOST = 8192
"""So many records are held before they go on; fewer, if the bundle ends. More are no faster: the
garbage collector looks at all that is held."""


class PackRecords(beam.DoFn):
    """Reads records and checks them before anything else; dead letters go to `INVALID`.

    Gives a key and a block of its records, in the order in which they came. The Beam timestamp of
    a block is that of its first record, and holds the watermark there.

    Args:
        reader: Makes the reader, on the worker.
    """

    def __init__(self, reader: Callable[[], ColumnReader]):
        self._make_reader = reader
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")

    def setup(self) -> None:
        """Makes the reader."""
        self._reader = self._make_reader()

    def start_bundle(self) -> None:
        """Nothing is held from one bundle to the next."""
        self._held: dict[tuple[Any, ...], tuple[list[Any], list[int]]] = {}
        self._windows: Any = None
        self._count = 0

    # The whole windowed value, since Beam 2.77 takes several times as long to give its parts; of
    # which the parts are held, since more objects are more work for the garbage collector.
    def process(
        self, element: Any, windowed: Any = beam.DoFn.WindowedValueParam
    ) -> Iterable[Any] | None:
        """One record in; blocks and dead letters out, now and then."""
        if windowed.windows is not self._windows:
            self._windows = windowed.windows
            self._elements, self._arrived = self._held.setdefault(tuple(self._windows), ([], []))
        self._elements.append(element)
        self._arrived.append(windowed.timestamp_micros)
        self._count += 1
        return self.finish_bundle() if self._count >= PACKED_AT_MOST else None

    def finish_bundle(self) -> Iterator[Any]:
        """All that is held goes on."""
        held = self._held
        self.start_bundle()
        for windows, (elements, arrived) in held.items():
            check_no_batch(elements[0])
            for window in windows:
                yield from self._packed(window, elements, np.array(arrived, np.int64))

    def _packed(self, window: Any, elements: list[Any], arrived: Array) -> Iterator[Any]:
        rows = self._reader.read(elements, arrived)
        for i, letter in rows.invalid:
            self._invalid.inc()
            yield _invalid(letter, arrived[i], window)
        times = arrived.tolist()
        alike = min(times) == max(times)
        blocks: dict[str, tuple[list[bytes], list[int]]] = {}
        for key, data, at in zip(rows.keys, rows.data, times, strict=True):
            if key is None:
                continue
            block = blocks.get(key)
            if block is None:
                block = blocks[key] = [], []
            block[0].append(data)
            block[1].append(at)
        for key, (records, here) in blocks.items():
            packed = encode_key_block(records, None if alike else here)
            yield WindowedValue((key, packed), Timestamp(micros=min(here)), [window])


def _invalid(letter: InvalidRecord, arrived: int, window: Any) -> TaggedOutput:
    return TaggedOutput(INVALID, WindowedValue(letter, Timestamp(micros=int(arrived)), [window]))


class PackShards(PackRecords):
    """As `PackRecords`, a block for each shard.

    Args:
        reader: Makes the reader, on the worker.
        shards: How many shards there are.
    """

    def __init__(self, reader: Callable[[], ColumnReader], shards: int):
        super().__init__(reader)
        self._shards = shards

    def _packed(self, window: Any, elements: list[Any], arrived: Array) -> Iterator[Any]:
        block, invalid = self._reader.read_block(elements, arrived)
        for i, letter in invalid:
            self._invalid.inc()
            yield _invalid(letter, arrived[i], window)
        for shard, part in by_shard(block, self._shards):
            at = Timestamp(micros=int(part.arrived.min()))
            yield WindowedValue((str(shard), encode_block(part)), at, [window])


class PackBatches(beam.DoFn):
    """Reads and checks Arrow batches; gives a block for each shard, with its rows as they came.

    Args:
        reader: Makes the reader, on the worker.
        shards: How many shards there are.
    """

    def __init__(self, reader: Callable[[], BatchReader], shards: int):
        self._make_reader = reader
        self._shards = shards
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")

    def setup(self) -> None:
        """Makes the reader."""
        self._reader = self._make_reader()

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        """A batch in; blocks and dead letters out."""
        arrived = np.full(element.num_rows, int(timestamp.micros))
        block, invalid = self._reader.read(element, arrived)
        for i, letter in invalid:
            self._invalid.inc()
            yield _invalid(letter, arrived[i], window)
        if not block.records:
            return
        parts = by_shard(block, self._shards)
        sorted_by_shard = element.take(np.concatenate([part.row for _, part in parts]))
        start = 0
        for shard, part in parts:
            n = part.records
            payload = to_bytes(sorted_by_shard.slice(start, n))
            start += n
            rows = np.arange(n, dtype=np.int32)
            yield str(shard), encode_block(part._replace(payload=payload, row=rows))
