"""Counts of records by their outcome, for the page of a report."""

from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam

from beam_rnn.core.errors import RecordError
from beam_rnn.data.columns import Columns
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import InvalidRecord, LateRecord, Prediction
from beam_rnn.report.sections.record_counts import Counts

Counted = tuple[tuple[str, str], int]
"""The outcome of records and its reason, and how many there are."""


class CountRecords(beam.PTransform):
    """Count records by their outcome, into one `Counts`.

    Duplicates are counted here as `Predict` counts them: by key, time, sequence number and inputs.
    The other outcomes are those of the given outputs.

    Args:
        columns: Which fields of a record mean what.
        invalid: The dead letters.
        predictions: The predictions; None if there was no replay: then records that differ in
            their targets alone are two, as they are in training.
        late: The late records.
        shuffled: By at most how many seconds each record was delayed.
    """

    def __init__(
        self,
        columns: Columns,
        invalid: beam.PCollection[InvalidRecord],
        predictions: beam.PCollection[Prediction] | None = None,
        late: beam.PCollection[LateRecord] | None = None,
        shuffled: float = 0.0,
    ):
        super().__init__()
        self._columns, self._invalid = columns, invalid
        self._predictions, self._late = predictions, late
        self._shuffled = shuffled

    def expand(self, pcoll: beam.PCollection[Any]) -> beam.PCollection[Counts]:
        """Count each outcome, and combine the counts."""
        replayed = self._predictions is not None
        equal = (
            pcoll
            | "Read" >> beam.ParDo(ReadKeyed(self._columns, targets=not replayed))
            | "Equal" >> beam.combiners.Count.PerElement()
        )
        counted = [
            pcoll | "Records" >> _each("records"),
            equal | "Again" >> beam.Map(_again).with_output_types(Counted),
            self._invalid | "Invalid" >> beam.Map(_reason).with_output_types(Counted),
        ]
        if self._predictions is not None:
            counted.append(self._predictions | "Predicted" >> _each("predicted"))
        if self._late is not None:
            counted.append(self._late | "Late" >> _each("late"))
        return (
            counted
            | beam.Flatten()
            | "Sum" >> beam.CombinePerKey(sum)
            | "Together" >> beam.combiners.ToDict()
            | "Counts" >> beam.Map(counts_from, replayed, self._shuffled).with_output_types(Counts)
        )


class ReadKeyed(beam.DoFn):
    """Records by key, as bytes that are equal if they are; others are skipped."""

    def __init__(self, columns: Columns, *, targets: bool):
        self._reader = RecordReader(columns, targets=targets)

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam
    ) -> Iterator[tuple[str, bytes]]:
        """A record in, its key and its bytes out."""
        try:
            key, data = self._reader.read(element, int(timestamp.micros))
        except RecordError:
            return
        yield key, data


def _each(what: str) -> Any:
    """Return a transform that counts each element as one."""
    return beam.Map(lambda _: ((what, ""), 1)).with_output_types(Counted)


def _again(element: tuple[tuple[str, bytes], int]) -> Counted:
    """Return the number of duplicates of a record."""
    return ("duplicate", ""), element[1] - 1


def _reason(row: InvalidRecord) -> Counted:
    return ("invalid", row.reason), 1


def counts_from(
    counted: Mapping[tuple[str, str], int], replayed: bool, shuffled: float = 0.0
) -> Counts:
    """Return the counts from those of each outcome.

    >>> counts_from(
    ...     {("records", ""): 5, ("invalid", "x must be finite"): 2}, replayed=False
    ... )  # doctest: +ELLIPSIS
    Counts(records=5, duplicate=0, invalid=(('x must be finite', 2),), predicted=None, ...)
    """

    def of(what: str) -> int:
        return counted.get((what, ""), 0)

    return Counts(
        of("records"),
        of("duplicate"),
        tuple(sorted((why, count) for (what, why), count in counted.items() if what == "invalid")),
        of("predicted") if replayed else None,
        of("late") if replayed else None,
        shuffled,
    )
