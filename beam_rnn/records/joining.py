"""Predictions beside the records that they are of."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_rnn.core.errors import RecordError
from beam_rnn.data.columns import Columns
from beam_rnn.records.record_format import record_marks, record_sequence, record_time
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import Prediction

Place = tuple[str, int, int]
"""Key, event time in microseconds, sequence number."""


class ReadPlaces(beam.DoFn):
    """Records by their place; those that cannot be read have none."""

    def __init__(self, columns: Columns):
        self._columns = columns

    def setup(self) -> None:
        """Makes the reader."""
        self._reader = RecordReader(self._columns)

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam
    ) -> Iterator[tuple[Place, tuple[bytes, Any]]]:
        """A record in; its place, its bytes and itself out."""
        try:
            key, data = self._reader.read(element, timestamp)
        except RecordError:
            return
        yield (key, record_time(data), record_sequence(data)), (data, element)


def place_of(row: Prediction) -> tuple[Place, Prediction]:
    """A prediction by the place of its record."""
    return (row.key, row.time, row.sequence), row


class JoinPlace(beam.DoFn):
    """Pairs of a record and its prediction; counts predictions whose record cannot be told."""

    def __init__(self) -> None:
        self._not_joined = Metrics.counter("beam_rnn", "predictions_not_joined")

    def process(
        self, element: tuple[Place, Mapping[str, Iterable[Any]]]
    ) -> Iterator[tuple[Any, Prediction]]:
        """A place with its records and predictions in; the pairs out."""
        found = element[1]
        for record, row in joined(found["records"], found["predictions"]):
            if record is None:
                self._not_joined.inc()
            yield record, row


def joined(
    records: Iterable[tuple[bytes, Any]], predictions: Iterable[Prediction]
) -> Iterator[tuple[Any, Prediction]]:
    """Each prediction of a place, with its record.

    Several records of one place are stepped in the order of their bytes, so the i-th belongs to the
    i-th step. Where there are not as many predictions, or a sequence begins or ends between them,
    that cannot be told.

        >>> reader = RecordReader(Columns(key="id", inputs=["x"], time="t"))
        >>> records = [{"id": "a", "t": 0, "x": x} for x in (2.0, 1.0)]
        >>> read = [(reader.read(record).data, record) for record in records]
        >>> row = Prediction("a", 0, 5, [1.5], "", b"", 0, "numpy")
        >>> [(pair[0]["x"], pair[1].step) for pair in joined(read, [row._replace(step=6), row])]
        [(2.0, 5), (1.0, 6)]
        >>> list(joined(read, [row]))[0][0] is None
        True

    Args:
        records: The records of a key, a time and a sequence number, encoded and as they came, in
            any order. Of those whose bytes are equal one counts: the least as Python writes them.
        predictions: Those of that place, in any order.

    Returns:
        Pairs; the record is None where it cannot be told which it was.
    """
    distinct: dict[bytes, Any] = {}
    for data, record in records:
        if data not in distinct or repr(record) < repr(distinct[data]):
            distinct[data] = record
    ordered, rows = sorted(distinct), sorted(predictions, key=lambda row: row.step)
    if len(ordered) == 1:
        found = [distinct[ordered[0]]] * len(rows)
    elif len(ordered) == len(rows) and not _restarts(ordered):
        found = [distinct[data] for data in ordered]
    else:
        found = [None] * len(rows)
    yield from zip(found, rows, strict=True)


def _restarts(ordered: list[bytes]) -> bool:
    """Whether a sequence begins after the first of these records: steps are counted anew."""
    marks = [record_marks(data) for data in ordered]
    return any(ends for _, ends in marks[:-1]) or any(starts for starts, _ in marks[1:])
