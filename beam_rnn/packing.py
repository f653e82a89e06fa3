"""The records of a bundle, checked and packed by key or shard: a state is touched once for all."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.blocks import by_shard, encode_block
from beam_rnn.reading import ColumnReader
from beam_rnn.records import INVALID
from beam_rnn.state import encode_block as encode_key_block

PACKED_AT_MOST = 32_768
"""So many records are held before they go on; fewer, if the bundle ends."""


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
        self._held: dict[Any, tuple[list[Any], list[Timestamp]]] = {}
        self._count = 0

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterable[Any]:
        """One record in; blocks and dead letters out, now and then."""
        if window not in self._held:
            self._held[window] = [], []
        elements, timestamps = self._held[window]
        elements.append(element)
        timestamps.append(timestamp)
        self._count += 1
        return self.finish_bundle() if self._count >= PACKED_AT_MOST else ()

    def finish_bundle(self) -> Iterator[Any]:
        """All that is held goes on."""
        for window, (elements, timestamps) in self._held.items():
            yield from self._packed(window, elements, timestamps)
        self.start_bundle()

    def _packed(
        self, window: Any, elements: list[Any], timestamps: list[Timestamp]
    ) -> Iterator[Any]:
        rows = self._reader.read(elements, timestamps)
        for i, letter in rows.invalid:
            self._invalid.inc()
            yield TaggedOutput(INVALID, WindowedValue(letter, timestamps[i], [window]))
        arrived = [int(time.micros) for time in timestamps]
        alike = min(arrived) == max(arrived)
        blocks: dict[str, tuple[list[bytes], list[int]]] = {}
        for key, data, at in zip(rows.keys, rows.data, arrived, strict=True):
            if key is None:
                continue
            block = blocks.get(key)
            if block is None:
                block = blocks[key] = [], []
            block[0].append(data)
            block[1].append(at)
        for key, (records, times) in blocks.items():
            packed = encode_key_block(records, None if alike else times)
            yield WindowedValue((key, packed), Timestamp(micros=min(times)), [window])


class PackShards(PackRecords):
    """As `PackRecords`, a block for each shard.

    Args:
        reader: Makes the reader, on the worker.
        shards: How many shards there are.
    """

    def __init__(self, reader: Callable[[], ColumnReader], shards: int):
        super().__init__(reader)
        self._shards = shards

    def _packed(
        self, window: Any, elements: list[Any], timestamps: list[Timestamp]
    ) -> Iterator[Any]:
        block, invalid = self._reader.read_block(elements, timestamps)
        for i, letter in invalid:
            self._invalid.inc()
            yield TaggedOutput(INVALID, WindowedValue(letter, timestamps[i], [window]))
        for shard, part in by_shard(block, self._shards):
            at = Timestamp(micros=int(part.arrived.min()))
            yield WindowedValue((str(shard), encode_block(part)), at, [window])
