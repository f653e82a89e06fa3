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
        columns: Which fields mean what.
        added: Returns the columns that will be added. The rows of a batch that already has one of
            them are dead letters.
    """

    def __init__(self, columns: Columns, added: Callable[[], Iterable[pa.Field]] = tuple):
        self._columns = columns
        self._added = added
        self._reader = RecordReader(columns)
        self._sizes = dict(columns.vectors)
        self._vocabularies = [places_of(columns.vocabulary(name)) for name in columns.symbols]

    def read(self, batch: Batch, arrived: Array) -> tuple[Block, list[tuple[int, InvalidRecord]]]:
        """Return the records, checked, `row` being the row of each; and the dead letters.

        Args:
            batch: The records.
            arrived: (rows,), the Beam timestamp of each in microseconds.
        """
        if not batch.num_rows:
            return empty_block(self._columns.number_size), []
        try:
            with_columns(batch.schema, self._added())
        except RecordError as error:
            letters = refused_rows(self._columns.key, batch, error)
            return empty_block(self._columns.number_size), list(enumerate(letters))
        plain, good = self._plain(batch, arrived)
        if good.all():
            return plain._replace(keys=plain.keys[: int(plain.of_key.max()) + 1]), []
        bad = np.flatnonzero(~good)
        rows = to_dicts(batch.take(pa.array(bad)))
        rest = (
            (i, read_or_refused(self._reader, row, int(arrived[i])))
            for i, row in zip(bad.tolist(), rows, strict=True)
        )
        return with_the_rest(plain.pick(good) if good.any() else None, rest, arrived, self._columns)

    def _plain(self, batch: Batch, arrived: Array) -> tuple[Block, Array]:
        """Return all rows as a block, and which of them are plain: the others do not count."""
        columns, n = self._columns, batch.num_rows
        good = np.ones(n, bool)

        def column(name: str, read: Callable[[Any], Column], dtype: Any) -> Array:
            nonlocal good
            place = batch.schema.get_all_field_indices(name)
            values, usable = None, None
            if len(place) == 1:
                with contextlib.suppress(pa.ArrowException):  # a type that Arrow cannot encode
                    values, usable = read(flat(batch.column(place[0])))
            if values is None or usable is None:
                good = np.zeros(n, bool)
                return np.zeros(n, dtype)
            good &= usable
            return values

        names: list[str] = [""]

        def keys(array: pa.Array) -> Column:
            nonlocal names
            names, of_key, usable = self._key_texts(array)
            return of_key, usable

        of_key = column(columns.key, keys, np.int32)
        time = arrived
        if columns.time is None:
            good &= (time >= MIN_MICROS) & (time <= MAX_MICROS)
        else:
            read_time = partial(read_times, columns.time, time_format=columns.time_format)
            time = column(columns.time, read_time, np.int64)
        good &= time <= columns.latest_micros
        sequence = np.zeros(n, np.int64)
        if columns.sequence is not None:
            sequence = column(columns.sequence, read_wholes, np.int64)
        marks = [
            np.zeros(n, bool) if name is None else column(name, read_marks, bool)
            for name in (columns.start, columns.end)
        ]
        numbers = np.empty((n, columns.number_size))
        read = read_numbers_or_missing if columns.carried_size else read_numbers
        at = 0
        for name in columns.fields:
            size = self._sizes.get(name)
            of_field = read if size is None else partial(read_vectors, size=size, read=read)
            values = column(name, of_field, np.float64)
            end = at + (size or 1)
            numbers[:, at:end] = values if values.ndim == 2 else values[:, np.newaxis]
            at = end
        if columns.calendar:
            cycles = cycle_numbers(columns.calendar, np.where(good, time, 0))
            numbers[:, at : at + cycles.shape[1]] = cycles
            at += cycles.shape[1]
        for name, places in zip(columns.symbols, self._vocabularies, strict=True):
            numbers[:, at] = column(
                name, partial(read_symbols, name=name, places=places), np.float64
            )
            at += 1
        row = np.arange(n, dtype=np.int32)
        return Block(
            names, of_key, arrived, time, sequence, marks_of(*marks), numbers, b"", row
        ), good

    def _key_texts(self, array: pa.Array) -> tuple[list[str], Array, Array]:
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
