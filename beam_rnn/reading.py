"""Many records at once, column by column: the same as `RecordReader.read`, one by one.

A column whose values all have a plain type is checked as one array. Every record with anything
else in it is read alone, so that there is one place that says what a record may hold.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.cells import Array
from beam_rnn.columns import Columns
from beam_rnn.errors import RecordError
from beam_rnn.records import (
    MAX_MICROS,
    InvalidRecord,
    RecordReader,
    key_text,
    mark,
    micros,
)
from beam_rnn.state import encode_records

ALONE_BELOW = 8
"""Fewer records are read one by one."""
KNOWN_KEYS = 100_000
"""So many keys are remembered as good ones."""

_PLAIN_NUMBERS = {float, int, np.float64, np.float32}
_PLAIN_KEYS = {str, int, bytes}  # equal values of two of these are never equal keys


class ReadRows(NamedTuple):
    """Records that were read.

    Attributes:
        keys: The key of each; None for one that cannot be used.
        data: Each encoded, as `beam_rnn.state.encode_record` has it; b"" where it cannot be used.
        invalid: The dead letters, and the place of each.
    """

    keys: list[str | None]
    data: list[bytes]
    invalid: list[tuple[int, InvalidRecord]]


class ColumnReader:
    """Reads many records by their columns.

        >>> reader = ColumnReader(Columns(key="id", time="at", inputs=["x"]))
        >>> rows = reader.read([{"id": i % 2, "at": i, "x": i / 2} for i in range(9)] + ["no"])
        >>> rows.keys[:3], len(rows.invalid)
        (['0', '1', '0'], 1)

    Args:
        columns: Which fields mean what.
        targets: Whether records must have the targets too; they are read one by one then.
    """

    def __init__(self, columns: Columns, targets: bool = False):
        self._columns = columns
        self._reader = RecordReader(columns, targets)
        self._alone = targets or columns.time is None
        self._keys: dict[Any, str | None] = {}
        names = [columns.key, columns.time, columns.sequence, columns.start, columns.end]
        self._names = list(dict.fromkeys(n for n in (*names, *columns.inputs) if n is not None))
        # operator.attrgetter takes a dot for a path, and gives a single field bare.
        self._alone |= len(self._names) < 2 or any("." in name for name in self._names)

    def read(self, records: Sequence[Any], times: Sequence[Timestamp] = ()) -> ReadRows:
        """The records, checked.

        Args:
            records: As for `RecordReader.read`.
            times: Their Beam timestamps, used where no column is named for the time.
        """
        keys: list[str | None] = [None] * len(records)
        data = [b""] * len(records)
        rest: Sequence[int] = range(len(records))
        if len(records) >= ALONE_BELOW and not self._alone:
            rest = self._read_columns(records, keys, data)
        invalid = []
        for i in rest:
            try:
                keys[i], data[i] = self._reader.read(records[i], times[i] if times else None)
            except RecordError as error:
                invalid.append((i, self._reader.invalid(records[i], error)))
        return ReadRows(keys, data, invalid)

    def _read_columns(
        self, records: Sequence[Any], keys: list[str | None], data: list[bytes]
    ) -> list[int]:
        """Read what is plain into `keys` and `data`; gives the places of the rest."""
        places, values = self._fields(records)
        if not places:
            return list(range(len(records)))
        fields = dict(zip(self._names, zip(*values, strict=True), strict=True))
        columns = self._columns
        assert columns.time is not None, "without a time column records are read alone"
        texts, good = self._key_texts(fields[columns.key])
        time, of_time = _times(columns.time, fields[columns.time])
        good &= of_time
        sequence = np.zeros(len(places), np.int64)
        if columns.sequence is not None:
            sequence, of_sequence = _wholes(fields[columns.sequence])
            good &= of_sequence
        marks = []
        for name in (columns.start, columns.end):
            if name is None:
                marks.append(np.zeros(len(places), bool))
                continue
            marked, of_marks = _marks(name, fields[name])
            marks.append(marked)
            good &= of_marks
        numbers = np.empty((len(places), len(columns.inputs)))
        for j, name in enumerate(columns.inputs):
            numbers[:, j], of_numbers = _numbers(fields[name])
            good &= of_numbers
        time[~good] = 0
        encoded = encode_records(time, sequence, numbers, starts=marks[0], ends=marks[1])
        if len(places) == len(records) and good.all():
            keys[:], data[:] = texts, encoded
            return []
        rest = set(range(len(records))).difference(places)
        for i, text, record, usable in zip(places, texts, encoded, good.tolist(), strict=True):
            if usable:
                keys[i], data[i] = text, record
            else:
                rest.add(i)
        return sorted(rest)

    def _fields(self, records: Sequence[Any]) -> tuple[Sequence[int], list[tuple[Any, ...]]]:
        """The fields of all records of the commonest type, and the places of those."""
        ((kind, count),) = Counter(map(type, records)).most_common(1)
        get: Any = (itemgetter if issubclass(kind, Mapping) else attrgetter)(*self._names)
        with contextlib.suppress(Exception):  # a property may raise anything
            if count == len(records):
                return range(len(records)), list(map(get, records))
        places, values = [], []
        for i, record in enumerate(records):
            if type(record) is kind:
                with contextlib.suppress(Exception):
                    values.append(get(record))
                    places.append(i)
        return places, values

    def _key_texts(self, column: Sequence[Any]) -> tuple[list[str | None], Array]:
        """Each key as text, None where it is not plain or cannot be used."""
        if len(self._keys) > KNOWN_KEYS:
            self._keys.clear()
        kinds = set(map(type, column))
        known = self._keys
        if not kinds <= _PLAIN_KEYS:
            column = [value if type(value) in _PLAIN_KEYS else None for value in column]
        for value in set(column).difference(known):
            try:
                known[value] = key_text("", value)
            except RecordError:
                known[value] = None
        texts = [known[value] for value in column]
        return texts, np.array([text is not None for text in texts])


Column = tuple[Array, Array]
"""The values of a column, and which of them can be used as they are here."""


def _numbers(column: Sequence[Any]) -> Column:
    """As `beam_rnn.records.number` reads each."""
    kinds = set(map(type, column))
    try:
        if kinds <= _PLAIN_NUMBERS:
            values = np.array(column, np.float64)
        else:
            plain = [value if type(value) in _PLAIN_NUMBERS else np.nan for value in column]
            values = np.array(plain, np.float64)
    except OverflowError:  # a whole number beyond 64 bits
        return np.zeros(len(column)), np.zeros(len(column), bool)
    good = np.isfinite(values)
    return np.where(good, values, 0.0) + 0.0, good  # -0 is 0


def _times(name: str, column: Sequence[Any]) -> Column:
    """As `beam_rnn.records.micros` reads each."""
    kinds = set(map(type, column))
    if kinds == {float}:
        values = np.array(column)
        good = (values >= 0) & (values <= MAX_MICROS // 1_000_000)
        return np.rint(np.where(good, values, 0) * 1e6).astype(np.int64), good
    if kinds == {int} and min(column) >= 0 and max(column) <= MAX_MICROS // 1_000_000:
        return np.array(column, np.int64) * 1_000_000, np.ones(len(column), bool)
    if kinds == {Timestamp}:
        column = [time.micros for time in column]
        if min(column) >= 0 and max(column) <= MAX_MICROS:
            return np.array(column, np.int64), np.ones(len(column), bool)
    return _each(column, lambda value: micros(name, value), np.int64)


def _wholes(column: Sequence[Any]) -> Column:
    """As `beam_rnn.records.whole` reads each."""
    good = np.ones(len(column), bool)
    if set(map(type, column)) == {int}:
        try:
            return np.array(column, np.int64), good
        except OverflowError:
            pass
    return np.zeros(len(column), np.int64), ~good


def _marks(name: str, column: Sequence[Any]) -> Column:
    """As `beam_rnn.records.mark` reads each."""
    if set(map(type, column)) <= {bool, type(None)}:
        return np.array(column, bool), np.ones(len(column), bool)
    return _each(column, lambda value: mark(name, value), bool)


def _each(column: Sequence[Any], read: Callable[[Any], Any], dtype: type) -> Column:
    """Values that are read one by one."""
    values: Array = np.zeros(len(column), dtype)
    good = np.ones(len(column), bool)
    for i, value in enumerate(column):
        try:
            values[i] = read(value)
        except RecordError:
            good[i] = False
    return values, good
