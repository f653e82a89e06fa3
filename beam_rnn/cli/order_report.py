"""The log of a command about its records: their times, equal records, and ties in time."""

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton

from beam_rnn.cli.order_text import EXAMPLES, Orders, Tie, say, together
from beam_rnn.core.errors import RecordError, record_text
from beam_rnn.core.external_sort import sorted_on_disk
from beam_rnn.data.columns import Columns
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_format import decode_block, record_place, record_time
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import INVALID, InvalidRecord
from beam_rnn.streaming.packing import PackRecords
from beam_rnn.streaming.read_records import ReadRecords

logger = logging.getLogger(__name__)

REMEMBERED = 100_000
"""The number of records of a key among which examples are found."""


class SayOrder(beam.PTransform):
    """Log the first and the last time of the records, and how many are equal or share a time.

    Args:
        columns: Which fields of a record mean what.
        targets: True if records differ that differ in their targets alone.
        trained: True if there is a model already, whose columns these are.
    """

    def __init__(self, columns: Columns, *, targets: bool, trained: bool):
        super().__init__()
        self._columns, self._targets, self._trained = columns, targets, trained

    def expand(self, pcoll: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Look at each key, combine, log."""
        columns, targets = self._columns, self._targets
        reader = partial(RecordReader, columns, targets)
        if columns.has_vocabularies:
            columnar = partial(ColumnReader, columns, targets)
            read: beam.DoFn = PackRecords(columnar, counts=False)
        else:
            read = ReadRecords(reader, counts=False)
        blocks = pcoll | "Read" >> beam.ParDo(read).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="read")
        orders = (
            blocks.read
            | "ByKey" >> beam.GroupByKey()
            | "OfKey" >> beam.ParDo(LookAtKey())
            | "Together" >> beam.CombineGlobally(PutTogether())
        )
        pair = (
            pcoll
            | "Equal" >> beam.ParDo(TakeEqual(reader), AsSingleton(orders))
            | "Pair" >> beam.CombineGlobally(TwoThatDiffer())
        )
        return orders | "Say" >> beam.Map(say, AsSingleton(pair), columns, self._trained)


class LookAtKey(beam.DoFn):
    """Find the order of each key's records; count those that are equal or share a time."""

    def __init__(self) -> None:
        self._equal = Metrics.counter("beam_rnn", "records_equal")
        self._tied = Metrics.counter("beam_rnn", "records_tied")

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[Orders]:
        """A key and its blocks in."""
        key, blocks = element
        found = order_of_key(key, (data for block in blocks for data in decode_block(block, 0)[0]))
        self._equal.inc(found.equal)
        self._tied.inc(found.tied)
        yield found


def order_of_key(key: str, records: Iterable[bytes]) -> Orders:
    """Return the order of a key's records.

    Args:
        key: The key.
        records: Its records, encoded, in any order; at least one.
    """
    total = 0
    seen: set[bytes] = set()
    examples: set[bytes] = set()

    def counting() -> Iterator[bytes]:
        nonlocal total
        for data in records:
            total += 1
            if data in seen and len(examples) < EXAMPLES:
                examples.add(data)
            elif len(seen) < REMEMBERED:
                seen.add(data)
            yield data

    times = array("q")
    tied, tie, before, is_tied = 0, None, b"", False
    with sorted_on_disk(counting()) as (ordered, distinct):
        for data in ordered:
            same = record_place(data) == record_place(before)
            if same:
                tied += 1 if is_tied else 2
                tie = tie or Tie(key, record_time(data), before, data)
            times.append(record_time(data))
            before, is_tied = data, same
    steps = np.sort(np.diff(np.unique(np.array(times))))
    usual = {int(steps[(len(steps) - 1) // 2]): 1} if len(steps) else {}
    equal = tuple((key, data) for data in sorted(examples))
    return Orders(1, distinct, total - distinct, tied, tie, times[0], times[-1], usual, equal)


class PutTogether(beam.CombineFn):
    """Combine the orders of keys."""

    def create_accumulator(self) -> list[Orders]:
        """Begin with no key."""
        return []

    def add_input(self, mutable_accumulator: list[Orders], element: Orders) -> list[Orders]:
        """One more key."""
        return self.merge_accumulators([mutable_accumulator, [element]])

    def merge_accumulators(self, accumulators: Iterable[list[Orders]]) -> list[Orders]:
        """Combine those of all workers."""
        total = together(each for some in accumulators for each in some)
        return [] if total is None else [total]

    def extract_output(self, accumulator: list[Orders]) -> Orders | None:
        """Return the order of all keys; None if there are none."""
        return accumulator[0] if accumulator else None


class TakeEqual(beam.DoFn):
    """Records that are equal to another one, as text, with the place of what was read of them.

    Args:
        reader: Makes the reader, on the worker.
    """

    def __init__(self, reader: Callable[[], RecordReader]):
        self._make_reader = reader

    def setup(self) -> None:
        """Make the reader."""
        self._reader = self._make_reader()

    def process(
        self, element: Mapping[str, Any], orders: Orders | None
    ) -> Iterator[tuple[int, str]]:
        """A record in; the place of its example, and its text without `filename`, out."""
        if orders is None or not orders.examples:
            return
        try:
            read = tuple(self._reader.read(element))
        except RecordError:
            return
        if read in orders.examples:
            shown = {name: value for name, value in element.items() if name != "filename"}
            yield orders.examples.index(read), record_text(shown)


class TwoThatDiffer(beam.CombineFn):
    """Two different texts of one place; None if there are none."""

    def create_accumulator(self) -> dict[int, list[str]]:
        """No text yet."""
        return {}

    def add_input(
        self, mutable_accumulator: dict[int, list[str]], element: tuple[int, str]
    ) -> dict[int, list[str]]:
        """One more."""
        place, text = element
        return self.merge_accumulators([mutable_accumulator, {place: [text]}])

    def merge_accumulators(
        self, accumulators: Iterable[dict[int, list[str]]]
    ) -> dict[int, list[str]]:
        """Of each place the two that are first in order."""
        total: dict[int, list[str]] = {}
        for each in accumulators:
            for place, texts in each.items():
                total[place] = sorted({*total.get(place, ()), *texts})[:2]
        return total

    def extract_output(self, accumulator: dict[int, list[str]]) -> tuple[str, ...] | None:
        """Those of the first place that has two."""
        pairs = (tuple(accumulator[place]) for place in sorted(accumulator))
        return next((pair for pair in pairs if len(pair) > 1), None)
