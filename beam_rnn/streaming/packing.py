"""Reads, checks and packs the records of a bundle by key or shard: one block for each."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam import PCollection
from apache_beam.io.parquetio import ReadAllFromParquetBatched, ReadFromParquetBatched
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.core.arrays import Array
from beam_rnn.records.arrow_batches import alike_joined, check_no_batch, to_bytes
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.block_format import Block, by_shard, encode_block, one_after_another
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_format import encode_block as encode_key_block
from beam_rnn.records.results import INVALID, InvalidRecord

READ_AT_ONCE = 512
"""Number of records that are held as objects; then they become columns. The garbage collector costs
more than all else if thousands of objects are held."""
PACKED_AT_MOST = 16_384
"""Maximum number of records that are held before they are sent on."""
ROWS_PACKED_AT_MOST = 65_536
"""The same for Arrow batches."""


def batch_type(records: PCollection[Any]) -> type | None:
    """Return `pa.Table` or `pa.RecordBatch`, if a collection is known to have such elements.

    Beam's own `ReadFromParquetBatched` gives tables, but does not say so.
    """
    kind = records.element_type
    if kind in (pa.Table, pa.RecordBatch):
        return kind
    producer = records.producer
    while kind is beam.typehints.Any and producer is not None:
        if isinstance(producer.transform, (ReadFromParquetBatched, ReadAllFromParquetBatched)):
            return pa.Table
        producer = producer.parent
    return None


class _Held:
    """What is held for some windows: records as they came, and records that were read."""

    def __init__(self) -> None:
        self.elements: list[Any] = []
        self.arrived: list[int] = []
        self.read: list[Any] = []
        self.letters: list[tuple[InvalidRecord, int]] = []


class PackRecords(beam.DoFn):
    """Reads and checks records; dead letters go to `INVALID`.

    Gives a key and a block of its records, in the order in which they arrived. The Beam timestamp
    of a block is that of its first record, and holds the watermark there.

    Args:
        reader: Makes the reader, on the worker.
        counts: Count dead letters in `records_invalid`: not where another step reads them too.
    """

    read_at_once = READ_AT_ONCE
    packed_at_most = PACKED_AT_MOST

    def __init__(self, reader: Callable[[], Any], *, counts: bool = True):
        self._make_reader, self._counts = reader, counts
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")

    def setup(self) -> None:
        """Make the reader."""
        self._reader = self._make_reader()

    def start_bundle(self) -> None:
        """Hold nothing from one bundle to the next."""
        self._held: dict[tuple[Any, ...], _Held] = {}
        self._windows: Any = None
        self._count = self._unread = 0

    # The whole windowed value: in Beam 2.77 its parts take several times as long.
    def process(self, element: Any, windowed: Any = beam.DoFn.WindowedValueParam) -> Iterable[Any]:
        """Hold a record; return blocks and dead letters once there are many."""
        if windowed.windows is not self._windows:
            self._windows = windowed.windows
            self._here = self._held.setdefault(tuple(self._windows), _Held())
        self._here.elements.append(element)
        self._here.arrived.append(windowed.timestamp_micros)
        self._unread += self._size(element)
        if self._unread < self.read_at_once:
            return ()
        self._read_all()
        return self.finish_bundle() if self._count >= self.packed_at_most else ()

    def finish_bundle(self) -> Iterator[Any]:
        """Yield the blocks and dead letters of all held records."""
        self._read_all()
        held_by_windows = self._held
        self.start_bundle()
        for windows, held in held_by_windows.items():
            for window in windows:
                for letter, arrived in held.letters:
                    self._invalid.inc(int(self._counts))
                    at = Timestamp(micros=arrived)
                    yield TaggedOutput(INVALID, WindowedValue(letter, at, [window]))
                yield from self._packed(held.read, window)

    def _read_all(self) -> None:
        """Read the records that are held as objects."""
        for held in self._held.values():
            if held.elements:
                arrived = np.array(held.arrived, np.int64)
                for part, invalid, times in self._read(held.elements, arrived):
                    held.read.append(part)
                    held.letters += [(letter, int(times[i])) for i, letter in invalid]
                held.elements, held.arrived = [], []
        self._count += self._unread
        self._unread = 0

    def _size(self, element: Any) -> int:  # noqa: ARG002  # more for a batch
        return 1

    def _read(
        self, elements: list[Any], arrived: Array
    ) -> Iterator[tuple[Any, list[tuple[int, InvalidRecord]], Array]]:
        """Yield what was read, the dead letters by place, and when records arrived."""
        check_no_batch(elements[0])
        rows = self._reader.read(elements, arrived)
        yield (rows.keys, rows.data, arrived.tolist()), rows.invalid, arrived

    def _packed(self, parts: list[Any], window: Any) -> Iterator[Any]:
        """Yield the blocks of what was read."""
        first = last = parts[0][2][0]
        blocks: dict[str, tuple[list[bytes], list[int]]] = {}
        for keys, records, times in parts:
            first, last = min(first, *times), max(last, *times)
            for key, data, at in zip(keys, records, times, strict=True):
                if key is None:
                    continue
                block = blocks.get(key)
                if block is None:
                    block = blocks[key] = [], []
                block[0].append(data)
                block[1].append(at)
        for key, (records, here) in blocks.items():
            packed = encode_key_block(records, None if first == last else here)
            yield WindowedValue((key, packed), Timestamp(micros=min(here)), [window])


class PackShards(PackRecords):
    """As `PackRecords`, with a block for each shard.

    Args:
        reader: Makes the reader, on the worker.
        shards: The number of shards.
    """

    def __init__(self, reader: Callable[[], ColumnReader], shards: int):
        super().__init__(reader)
        self._shards = shards

    def _read(
        self, elements: list[Any], arrived: Array
    ) -> Iterator[tuple[Any, list[tuple[int, InvalidRecord]], Array]]:
        check_no_batch(elements[0])
        block, invalid = self._reader.read_block(elements, arrived)
        yield block, invalid, arrived

    def _packed(self, parts: list[Any], window: Any) -> Iterator[Any]:
        for shard, part in by_shard(one_after_another(parts), self._shards):
            yield _block(shard, part, window)


class PackBatches(PackRecords):
    """As `PackShards`, for Arrow batches: the payload of a block is its rows as they came.

    Args:
        reader: Makes the reader, on the worker.
        shards: The number of shards.
    """

    read_at_once = packed_at_most = ROWS_PACKED_AT_MOST

    def __init__(self, reader: Callable[[], BatchReader], shards: int):
        super().__init__(reader)
        self._shards = shards

    def _size(self, element: Any) -> int:
        return element.num_rows

    def _read(
        self, elements: list[Any], arrived: Array
    ) -> Iterator[tuple[Any, list[tuple[int, InvalidRecord]], Array]]:
        for batch, times in alike_joined(elements, arrived):
            block, invalid = self._reader.read(batch, times)
            yield (batch, block), invalid, times

    def _packed(self, parts: list[Any], window: Any) -> Iterator[Any]:
        for batch, block in parts:
            if not block.records:
                continue
            shards = by_shard(block, self._shards)
            sorted_by_shard = batch.take(np.concatenate([part.row for _, part in shards]))
            start = 0
            for shard, part in shards:
                n = part.records
                payload = to_bytes(sorted_by_shard.slice(start, n))
                start += n
                rows = np.arange(n, dtype=np.int32)
                yield _block(shard, part._replace(payload=payload, row=rows), window)


def _block(shard: int, block: Block, window: Any) -> WindowedValue:
    """Return a block for its shard, at the timestamp of its first record."""
    at = Timestamp(micros=int(block.arrived.min()))
    return WindowedValue((str(shard), encode_block(block)), at, [window])
