"""Reads many records at once, by column, with the results of `RecordReader.read`.

A column whose values all have a plain type is checked as one array. Any other record is read alone,
so that one place decides what a record may hold.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import RecordError
from beam_rnn.data.calendar import cycle_numbers
from beam_rnn.data.columns import Columns
from beam_rnn.data.vocabulary import places_of
from beam_rnn.records.block_format import Block, empty_block, encoded, joined, marks_of
from beam_rnn.records.field_values import key_text
from beam_rnn.records.python_columns import (
    read_marks,
    read_numbers,
    read_numbers_or_missing,
    read_symbols,
    read_times,
    read_vectors,
    read_wholes,
)
from beam_rnn.records.record_format import decode_records
from beam_rnn.records.record_reader import Record, RecordReader
from beam_rnn.records.results import InvalidRecord

ALONE_BELOW = 8
"""Fewer records are read one by one."""
KNOWN_KEYS = 100_000
"""Maximum number of keys in the cache of checked keys."""

_PLAIN_KEYS = {str, int, bytes}  # equal values of two of these are never equal keys


class ReadRows(NamedTuple):
    """Records that were read.

    Attributes:
        keys: The key of each; None for one that cannot be used.
        data: Each encoded by `beam_rnn.records.record_format.encode_record`; b"" if it cannot be
            used.
        invalid: The dead letters, with the place of each.
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
        targets: Whether records must have the targets too; then they are read one by one.
    """

    def __init__(self, columns: Columns, targets: bool = False):
        self._columns = columns
        self._reader = RecordReader(columns, targets)
        self._alone = targets or columns.time is None or not columns.has_vocabularies
        self._vocabularies = [places_of(columns.vocabulary(name)) for name in columns.symbols]
        self._keys: dict[Any, str | None] = {}
        names = [columns.key, columns.time, columns.sequence, columns.start, columns.end]
        self._names = list(
            dict.fromkeys(n for n in (*names, *columns.fields, *columns.symbols) if n is not None)
        )
        # operator.attrgetter takes a dot for a path, and gives a single field bare.
        self._alone |= len(self._names) < 2 or any("." in name for name in self._names)

    def read(self, records: Sequence[Any], arrived: Array | None = None) -> ReadRows:
        """Return the records, checked, each encoded.

        Args:
            records: As for `RecordReader.read`.
            arrived: Their Beam timestamps in microseconds, used if the columns name no time.
        """
        keys: list[str | None] = [None] * len(records)
        data = [b""] * len(records)
        rest: Sequence[int] = range(len(records))
        plain = self._plain(records)
        if plain is not None:
            places, names, encoded_rows = plain.row.tolist(), plain.keys, encoded(plain)
            of_key = plain.of_key.tolist()
            if len(places) == len(records):
                return ReadRows([names[i] for i in of_key], encoded_rows, [])
            for i, key, record in zip(places, of_key, encoded_rows, strict=True):
                keys[i], data[i] = names[key], record
            rest = [i for i, key in enumerate(keys) if key is None]
        invalid = []
        for i, read in self._read_alone(records, arrived, rest):
            if isinstance(read, InvalidRecord):
                invalid.append((i, read))
            else:
                keys[i], data[i] = read
        return ReadRows(keys, data, invalid)

    def read_block(
        self, records: Sequence[Any], arrived: Array
    ) -> tuple[Block, list[tuple[int, InvalidRecord]]]:
        """Return the records, checked, as columns; and the dead letters, with the place of each.

        Args:
            records: As for `RecordReader.read`.
            arrived: Their Beam timestamps, in microseconds.
        """
        plain = self._plain(records)
        if plain is not None and plain.records == len(records):
            return plain._replace(arrived=arrived), []
        rest: Any = range(len(records))
        if plain is not None:
            rest = np.setdiff1d(np.arange(len(records)), plain.row, assume_unique=True).tolist()
        return with_the_rest(
            plain,
            self._read_alone(records, arrived, rest),
            arrived,
            self._columns.number_size,
        )

    def _read_alone(
        self, records: Sequence[Any], arrived: Array | None, places: Iterable[int]
    ) -> Iterator[tuple[int, Record | InvalidRecord]]:
        """Yield each record as it was read alone, or its dead letter."""
        for i in places:
            at = None if arrived is None else int(arrived[i])
            yield i, read_or_refused(self._reader, records[i], at)

    def _plain(self, records: Sequence[Any]) -> Block | None:
        """Return the records that are plain, `row` being the place of each; None for none."""
        if len(records) < ALONE_BELOW or self._alone:
            return None
        places, fields = self._fields(records)
        if not places:
            return None
        columns = self._columns
        assert columns.time is not None, "without a time column records are read alone"
        names, of_key, good = self._key_texts(fields[columns.key])
        time, of_time = read_times(columns.time, fields[columns.time], columns.time_format)
        good &= of_time & (time <= columns.latest_micros)
        sequence = np.zeros(len(places), np.int64)
        if columns.sequence is not None:
            sequence, of_sequence = read_wholes(fields[columns.sequence])
            good &= of_sequence
        marks = []
        for name in (columns.start, columns.end):
            if name is None:
                marks.append(np.zeros(len(places), bool))
                continue
            marked, of_marks = read_marks(name, fields[name])
            marks.append(marked)
            good &= of_marks
        numbers, of_numbers = self._numbers_of(fields, time)
        good &= of_numbers
        row = np.array(places, np.int32)
        arrived = np.zeros(len(places), np.int64)
        block = Block(names, of_key, arrived, time, sequence, marks_of(*marks), numbers, b"", row)
        return block if good.all() else _usable(block, good)

    def _numbers_of(self, fields: Mapping[str, Sequence[Any]], time: Array) -> tuple[Array, Array]:
        """Return the numbers of each record (records, numbers), and which are plain."""
        columns = self._columns
        sizes, n = dict(columns.vectors), len(time)
        numbers, good = np.empty((n, columns.number_size)), np.ones(n, bool)
        read = read_numbers_or_missing if columns.carried_size else read_numbers
        at = 0
        for name in columns.fields:
            size = sizes.get(name, 1)
            of_field = numbers[:, at : at + size]
            if name in sizes:
                of_field[:], usable = read_vectors(fields[name], size, read)
            else:
                of_field[:, 0], usable = read(fields[name])
            good &= usable
            at += size
        if columns.calendar:
            cycles = cycle_numbers(columns.calendar, np.where(good, time, 0))
            numbers[:, at : at + cycles.shape[1]] = cycles
            at += cycles.shape[1]
        for name, places in zip(columns.symbols, self._vocabularies, strict=True):
            numbers[:, at], usable = read_symbols(name, fields[name], places)
            good &= usable
            at += 1
        return numbers, good

    def _fields(self, records: Sequence[Any]) -> tuple[Sequence[int], dict[str, Sequence[Any]]]:
        """Return the places and the fields of all records of the most common type."""
        kind: Any
        ((kind, count),) = Counter(map(type, records)).most_common(1)
        whole = count == len(records)
        if whole and issubclass(kind, tuple) and self._are_items_of(kind):
            return range(count), dict(zip(kind._fields, zip(*records, strict=True), strict=True))
        get: Any = (itemgetter if issubclass(kind, Mapping) else attrgetter)(*self._names)
        places: Sequence[int] = range(count)
        values: list[tuple[Any, ...]] = []
        with contextlib.suppress(Exception):  # a property may raise anything
            if whole:
                values = list(map(get, records))
        if not values:
            places = []
            for i, record in enumerate(records):
                if type(record) is kind:
                    with contextlib.suppress(Exception):
                        values.append(get(record))
                        places.append(i)
        return places, dict(zip(self._names, zip(*values, strict=True), strict=False))

    def _are_items_of(self, kind: Any) -> bool:
        """Return True if the fields are items of a NamedTuple, not properties."""
        return all(type(getattr(kind, name, None)) is _ITEM for name in self._names)

    def _key_texts(self, column: Sequence[Any]) -> tuple[list[str], Array, Array]:
        """Return the different keys as text, the key of each record, and which are plain."""
        if len(self._keys) > KNOWN_KEYS:
            self._keys.clear()
        known = self._keys
        if not set(map(type, column)) <= _PLAIN_KEYS:
            column = [value if type(value) in _PLAIN_KEYS else None for value in column]
        values, of_value = coded(column)
        for value in values:
            if value not in known:
                try:
                    known[value] = key_text("", value)
                except RecordError:
                    known[value] = None
        texts = [known[value] for value in values]
        usable = np.array([text is not None for text in texts])
        names, of_key = coded(texts)  # 7 and "7" are one key
        of_key = of_value if len(names) == len(texts) else of_key[of_value]
        return ["" if name is None else name for name in names], of_key, usable[of_value]


def _usable(block: Block, good: Array) -> Block | None:
    """Return the records that are plain, and their keys; None for none."""
    if not good.any():
        return None
    return joined([block.pick(good)])


def with_the_rest(
    plain: Block | None,
    rest: Iterable[tuple[int, Record | InvalidRecord]],
    arrived: Array,
    numbers: int,
) -> tuple[Block, list[tuple[int, InvalidRecord]]]:
    """Return plain records and those that were read alone, in order; and the dead letters.

    Args:
        plain: The plain records; None for none.
        rest: The others, or their dead letters, each with its place.
        arrived: When each record arrived.
        numbers: The number of numbers of a record.
    """
    places, keys, data, invalid = [], [], [], []
    for i, read in rest:
        if isinstance(read, InvalidRecord):
            invalid.append((i, read))
        else:
            places.append(i)
            keys.append(read.key)
            data.append(read.data)
    parts = [] if plain is None else [plain]
    if data:
        parts.append(one_by_one(keys, data, places))
    if not parts:
        return empty_block(numbers), invalid
    block = joined(parts)
    return block._replace(arrived=arrived[block.row]), invalid


def read_or_refused(reader: RecordReader, record: Any, at: int | None) -> Record | InvalidRecord:
    """Return a record, or its dead letter."""
    try:
        return reader.read(record, at)
    except RecordError as error:
        return reader.invalid(record, error)


def one_by_one(keys: Sequence[str], data: Sequence[bytes], places: Sequence[int]) -> Block:
    """Return records that were read alone, `places` being their rows; `arrived` is not set."""
    records = decode_records(data)
    names, of_key = coded(keys)
    return Block(
        names,
        of_key,
        np.zeros(len(places), np.int64),
        records.time,
        records.sequence,
        marks_of(records.starts, records.ends),
        records.numbers,
        b"",
        np.array(places, np.int32),
    )


def coded(values: Iterable[Any]) -> tuple[list[Any], Array]:
    """Return the different values, and the index of each value among them.

    >>> coded("abca")
    (['a', 'b', 'c'], array([0, 1, 2, 0], dtype=int32))
    """
    places = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(places), np.fromiter(map(places.__getitem__, values), np.int32)


_ITEM = type(InvalidRecord.key)
"""The type of the descriptor of a NamedTuple field."""
