"""Records as Arrow batches: read and checked by the column.

No Python object is made for a record, except for those that cannot be used. A record that is not
plain is read alone, as a dict, so that one place decides what a record may hold.
"""

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import RecordError
from beam_rnn.data.calendar import cycle_numbers
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import MAX_MICROS, MIN_MICROS
from beam_rnn.data.vocabulary import places_of
from beam_rnn.records.arrow_batches import Batch, to_dicts
from beam_rnn.records.arrow_columns import (
    Column,
    as_list,
    flat,
    is_text,
    read_classes,
    read_marks,
    read_numbers,
    read_numbers_or_missing,
    read_symbols,
    read_times,
    read_vectors,
    read_wholes,
)
from beam_rnn.records.block_format import Block, empty_block, marks_of
from beam_rnn.records.column_reader import coded, read_or_refused, with_the_rest
from beam_rnn.records.field_values import MAX_KEY_BYTES, key_text
from beam_rnn.records.record_reader import RecordReader, dead_letter
from beam_rnn.records.result_columns import with_columns
from beam_rnn.records.results import InvalidRecord


class BatchReader:
    """Reads the records of a batch by its columns.

        >>> reader = BatchReader(Columns(key="id", time="at", inputs=["x"]))
        >>> batch = pa.table({"id": ["a", "b", "a"], "at": [1, 2, 3], "x": [0.5, None, 1.5]})
        >>> block, invalid = reader.read(batch, np.zeros(3, np.int64))
        >>> block.keys, block.row.tolist(), invalid[0][1].reason
        (['a'], [0, 2], 'x is missing')

    Args:
        columns: Which fields mean what; their vocabularies must be known.
        added: Returns the columns that will be added. The rows of a batch that already has one of
            them are dead letters.
        targets: Read the targets and their weight too, as training needs.
    """

    def __init__(
        self,
        columns: Columns,
        added: Callable[[], Iterable[pa.Field]] = tuple,
        *,
        targets: bool = False,
    ):
        self._columns = columns
        self._added = added
        self._targets = targets
        self._reader = RecordReader(columns, targets)
        self._vocabularies = [places_of(columns.vocabulary(name)) for name in columns.symbols]
        self._size = columns.number_size
        if targets:
            self._size += columns.target_size + (columns.weight is not None)

    def read(
        self,
        batch: Batch,
        arrived: Array,
        rows_as_dicts: Callable[[Array], Iterable[Any]] | None = None,
        plain_rows: Array | None = None,
    ) -> tuple[Block, list[tuple[int, InvalidRecord]]]:
        """Return the records, checked, `row` being the row of each; and the dead letters.

        Args:
            batch: The records.
            arrived: (rows,), the Beam timestamp of each in microseconds.
            rows_as_dicts: Returns some rows as dicts, where these hold more than the batch; each
                is read alone if it is not plain.
            plain_rows: (rows,), False for each row to read alone in any case.
        """
        if not batch.num_rows:
            return empty_block(self._size), []
        try:
            with_columns(batch.schema, self._added())
        except RecordError as error:
            letters = refused_rows(self._columns.key, batch, error)
            return empty_block(self._size), list(enumerate(letters))
        plain, good = self._plain(batch, arrived)
        if plain_rows is not None:
            good &= plain_rows
        if good.all():
            return plain._replace(keys=plain.keys[: int(plain.of_key.max()) + 1]), []
        bad = np.flatnonzero(~good)
        rows = rows_as_dicts(bad) if rows_as_dicts else to_dicts(batch.take(pa.array(bad)))
        rest = (
            (i, read_or_refused(self._reader, row, int(arrived[i])))
            for i, row in zip(bad.tolist(), rows, strict=True)
        )
        return with_the_rest(plain.pick(good) if good.any() else None, rest, arrived, self._size)

    def _plain(self, batch: Batch, arrived: Array) -> tuple[Block, Array]:
        """Return all rows as a block, and which of them are plain: the others do not count."""
        columns, n = self._columns, batch.num_rows
        read = _PlainColumns(batch)
        names: list[str] = [""]

        def keys(array: pa.Array) -> Column:
            nonlocal names
            names, of_key, usable = _key_texts(array)
            return of_key, usable

        of_key = read.column(columns.key, keys, np.int32)
        time = arrived
        if columns.time is None:
            read.good &= (time >= MIN_MICROS) & (time <= MAX_MICROS)
        else:
            read_time = partial(read_times, columns.time, time_format=columns.time_format)
            time = read.column(columns.time, read_time, np.int64)
        read.good &= time <= columns.latest_micros
        sequence = np.zeros(n, np.int64)
        if columns.sequence is not None:
            sequence = read.column(columns.sequence, read_wholes, np.int64)
        marks = [
            np.zeros(n, bool) if name is None else read.column(name, read_marks, bool)
            for name in (columns.start, columns.end)
        ]
        numbers = self._numbers(read, time)
        row = np.arange(n, dtype=np.int32)
        block = Block(names, of_key, arrived, time, sequence, marks_of(*marks), numbers, b"", row)
        return block, read.good

    def _numbers(self, read: "_PlainColumns", time: Array) -> Array:
        """Return the numbers of each record: (rows, numbers)."""
        columns = self._columns
        parts = self._of_fields(read, columns.fields)
        if columns.calendar:
            parts.append(cycle_numbers(columns.calendar, np.where(read.good, time, 0)))
        for name, places in zip(columns.symbols, self._vocabularies, strict=True):
            read_indices = partial(read_symbols, name=name, places=places)
            parts.append(read.column(name, read_indices, np.float64))
        if self._targets:
            parts += self._of_targets(read)
        numbers, at = np.empty((len(time), self._size)), 0
        for values in parts:
            wide = values if values.ndim == 2 else values[:, np.newaxis]
            numbers[:, at : at + wide.shape[1]] = wide
            at += wide.shape[1]
        return numbers

    def _of_fields(self, read: "_PlainColumns", names: Iterable[str]) -> list[Array]:
        sizes = dict(self._columns.vectors)
        each = read_numbers_or_missing if self._columns.carried_size else read_numbers
        return [
            read.column(name, each, np.float64)
            if name not in sizes
            else read.column(
                name, partial(read_vectors, size=sizes[name], read=each), np.float64, sizes[name]
            )
            for name in names
        ]

    def _of_targets(self, read: "_PlainColumns") -> list[Array]:
        """Return the targets, and the weight if there is one."""
        columns = self._columns
        if columns.classes:
            (name,), size = columns.targets, columns.target_size
            places = {str(label): i for i, label in enumerate(columns.classes)}
            read_one = partial(read_classes, name=name, classes=places)
            parts = [read.column(name, read_one, np.float64, size)]
        else:
            parts = self._of_fields(read, columns.targets)
        if columns.weight is not None:
            weight = read.column(columns.weight, read_numbers, np.float64)
            read.good &= weight >= 0
            parts.append(weight)
        return parts


class _PlainColumns:
    """Reads columns of a batch; `good` says which rows are plain in all of them."""

    def __init__(self, batch: Batch):
        self._batch = batch
        self.good = np.ones(batch.num_rows, bool)

    def column(
        self, name: str, read: Callable[[Any], Column], dtype: Any, size: int | None = None
    ) -> Array:
        """Return the values of a column: (rows,), or (rows, size)."""
        batch = self._batch
        place = batch.schema.get_all_field_indices(name)
        values, usable = None, None
        if len(place) == 1:
            with contextlib.suppress(pa.ArrowException):  # a type that Arrow cannot encode
                values, usable = read(flat(batch.column(place[0])))
        if values is None or usable is None:
            self.good = np.zeros(batch.num_rows, bool)
            return np.zeros((batch.num_rows, *([] if size is None else [size])), dtype)
        self.good &= usable
        return values


def _key_texts(array: pa.Array) -> tuple[list[str], Array, Array]:
    """Return the different keys as text, the key of each row, and which can be used."""
    coded_here = not pa.types.is_dictionary(array.type)
    codes = array.dictionary_encode() if coded_here else array
    of_value = codes.indices.fill_null(len(codes.dictionary)).to_numpy(zero_copy_only=False)
    values = codes.dictionary
    if coded_here and is_text(values.type):
        sizes = pc.binary_length(values).to_numpy(zero_copy_only=False)
        usable = np.append((sizes > 0) & (sizes <= MAX_KEY_BYTES), False)
        names = [*values.to_pylist(), ""]
        return names, of_value.astype(np.int32, copy=False), usable[of_value]
    texts = [_key_text(value) for value in as_list(values)]
    texts.append(None)
    usable = np.array([text is not None for text in texts])
    names, of_text = coded(texts)
    named = ["" if name is None else name for name in names]
    return named, of_text[of_value], usable[of_value]


def _key_text(value: Any) -> str | None:
    try:
        return key_text("", value)
    except RecordError:
        return None


def refused_rows(key: str, batch: Batch, error: RecordError) -> list[InvalidRecord]:
    """Return the dead letters of a batch none of whose rows can be used."""
    return [dead_letter(key, row, error) for row in to_dicts(batch)]
