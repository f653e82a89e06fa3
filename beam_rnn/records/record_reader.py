"""Records are read by their columns, and checked.

A record is a dict, a `beam.Row`, a NamedTuple, or any object with attributes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.errors import RecordError, record_text, shown
from beam_rnn.data.calendar import cycle_numbers
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import (
    utc_text,
)
from beam_rnn.data.vocabulary import UNKNOWN, places_of
from beam_rnn.records.field_values import (
    element_micros,
    field,
    is_missing,
    key_text,
    mark,
    micros,
    number,
    number_or_missing,
    one_of,
    symbol,
    vector,
    whole,
)
from beam_rnn.records.record_format import encode_record, with_texts
from beam_rnn.records.results import InvalidRecord


class Record(NamedTuple):
    """A record that was read and checked.

    Attributes:
        key: Its key, as text.
        data: Time, sequence number and numbers, as `beam_rnn.records.record_format.encode_record`
            has them.
    """

    key: str
    data: bytes


class RecordReader:
    """Reads records by their columns.

        >>> reader = RecordReader(Columns(key="id", time="at", inputs=["x"]))
        >>> reader.read({"id": 7, "at": "2014-07-01 00:00:00", "x": 1.5}).key
        '7'
        >>> reader.read({"id": 7, "at": "2014-07-01 00:00:00", "x": "1.5"})
        Traceback (most recent call last):
        ...
        beam_rnn.errors.RecordError: x must be a number, got '1.5'

    Args:
        columns: Which fields mean what.
        targets: Whether records must have the targets and their weight too, as training needs.
    """

    def __init__(self, columns: Columns, targets: bool = False):
        self._columns = columns
        self._targets = targets
        self._classes = {str(label): i for i, label in enumerate(columns.classes)}
        self._read_number = number_or_missing if columns.carried_size else number
        self._sizes = dict(columns.vectors)
        self._vocabularies = [places_of(columns.vocabulary(name)) for name in columns.symbols]
        self._has_vocabularies = columns.has_vocabularies

    def read(self, record: Any, arrived: int | None = None) -> Record:
        """Return a record, checked.

        Args:
            record: A dict, a `beam.Row`, a NamedTuple, or any object with attributes.
            arrived: Its Beam timestamp in microseconds, used if the columns name no time.

        Raises:
            RecordError: A field is missing or cannot be used.
        """
        columns = self._columns
        key = key_text(columns.key, field(record, columns.key))
        time = self._time(record, arrived)
        sequence = 0
        if columns.sequence is not None:
            sequence = whole(columns.sequence, field(record, columns.sequence))
        values = self._numbers(record, columns.fields)
        if columns.calendar:
            values += cycle_numbers(columns.calendar, np.array([time]))[0].tolist()
        symbols = [symbol(name, field(record, name)) for name in columns.symbols]
        if self._has_vocabularies:
            for text, places in zip(symbols, self._vocabularies, strict=True):
                values.append(places.get(text, UNKNOWN))
        if self._targets:
            values += self._read_targets(record)
        starts, ends = (
            name is not None and mark(name, field(record, name))
            for name in (columns.start, columns.end)
        )
        numbers = np.array(values, np.float64)
        data = encode_record(time, sequence, numbers, starts=starts, ends=ends)
        return Record(key, data if self._has_vocabularies else with_texts(data, symbols))

    def _time(self, record: Any, arrived: int | None) -> int:
        name, latest = self._columns.time, self._columns.latest_micros
        if name is None:
            time, value = element_micros(arrived), arrived
        else:
            value = field(record, name)
            time = micros(name, value, self._columns.time_format)
        if time > latest:
            called = name or "the element's timestamp"
            raise RecordError(f"{called} must be at most {utc_text(latest)}", value)
        return time

    def _numbers(self, record: Any, names: Sequence[str]) -> list[float]:
        """Return the numbers of these fields."""
        read, sizes = self._read_number, self._sizes
        if not sizes:
            return [read(name, field(record, name)) for name in names]
        values: list[float] = []
        for name in names:
            value = field(record, name)
            if name in sizes:
                values += vector(name, value, sizes[name], read)
            else:
                values.append(read(name, value))
        return values

    def _read_targets(self, record: Any) -> list[float]:
        """Return the numbers of the targets, and the weight if there is one."""
        columns = self._columns
        if self._classes:
            (name,) = columns.targets
            values = one_of(name, field(record, name), self._classes)
        else:
            values = self._numbers(record, columns.targets)
        if columns.weight is not None:
            weight = number(columns.weight, field(record, columns.weight))
            if weight < 0:
                raise RecordError(f"{columns.weight} must be at least 0 to be a weight", weight)
            values.append(weight)
        return values

    def drops(self, error: RecordError) -> bool:
        """Return True if a record that `read` refused is dropped, and is no error."""
        return self._columns.missing == "drop" and is_missing(error.value)

    def invalid(self, record: Any, error: RecordError) -> InvalidRecord:
        """Return the dead letter of a record that `read` refused."""
        return dead_letter(self._columns.key, record, error)


def dead_letter(key_column: str, record: Any, error: RecordError) -> InvalidRecord:
    """Return the dead letter of a record that cannot be used."""
    try:
        key = key_text(key_column, field(record, key_column))
    except RecordError:
        key = ""
    return InvalidRecord(key, error.reason, shown(error.value), record_text(record))
