"""Joins predictions with their records."""

from collections.abc import Iterable, Iterator
from typing import Any

from beam_rnn.records.record_format import record_marks
from beam_rnn.records.results import Prediction

Place = tuple[str, int, int]
"""Key, event time in microseconds, sequence number."""


def place_of(row: Prediction) -> tuple[Place, Prediction]:
    """Return a prediction with the place of its record."""
    return (row.key, row.time, row.sequence), row


def joined(
    records: Iterable[tuple[bytes, Any]], predictions: Iterable[Prediction]
) -> Iterator[tuple[Any, Prediction]]:
    """Yield each prediction of a place with its record.

    Several records of one place are stepped in the order of their bytes, so the i-th record belongs
    to the i-th step. If the numbers differ, or a sequence begins or ends between them, the record
    is ambiguous.

        >>> from beam_rnn import Columns
        >>> from beam_rnn.records.record_reader import RecordReader
        >>> reader = RecordReader(Columns(key="id", inputs=["x"], time="t"))
        >>> records = [{"id": "a", "t": 0, "x": x} for x in (2.0, 1.0)]
        >>> read = [(reader.read(record).data, record) for record in records]
        >>> row = Prediction("a", 0, 5, [1.5], "", b"", 0, "numpy")
        >>> [(pair[0]["x"], pair[1].step) for pair in joined(read, [row._replace(step=6), row])]
        [(2.0, 5), (1.0, 6)]
        >>> list(joined(read, [row]))[0][0] is None
        True

    Args:
        records: The records of a key, a time and a sequence number, each encoded and as it came,
            in any order. Of records with equal bytes one counts: that with the least repr.
        predictions: The predictions of that place, in any order.

    Returns:
        Pairs; the record is None where it is ambiguous.
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
    """Return True if a sequence begins after the first of these records."""
    marks = [record_marks(data) for data in ordered]
    return any(ends for _, ends in marks[:-1]) or any(starts for starts, _ in marks[1:])
