"""Records as Arrow batches: read and checked by the column.

No Python object is made for a record, but for those that cannot be used. A record that is not
plain is read alone, as a dict, so that there is one place that says what one may hold.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, repeat
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam import PCollection
from apache_beam.io.parquetio import ReadAllFromParquetBatched, ReadFromParquetBatched
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.data.calendar import cycle_numbers
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import DAY, MAX_MICROS, MAX_SECONDS, MIN_MICROS, SECOND
from beam_rnn.data.vocabulary import UNKNOWN, places_of
from beam_rnn.records.block_format import Block, empty_block, marks_of
from beam_rnn.records.column_reader import coded, read_or_refused, with_the_rest
from beam_rnn.records.record_reader import (
    MAX_KEY_BYTES,
    UNREADABLE,
    RecordReader,
    dead_letter,
    key_text,
    micros,
    symbol,
)
from beam_rnn.records.results import InvalidRecord

Batch: TypeAlias = pa.Table | pa.RecordBatch

_Column = tuple[Array, Array]
"""The values of a column, and which of them can be used as they are here."""

_WHOLE = pa.types.is_integer
_MICROS = {"s": SECOND, "ms": 1000, "us": 1, "ns": 0, "date32[day]": DAY, "date64[ms]": 1000}
"""Microseconds in a unit of time."""


def batch_type(records: PCollection[Any]) -> type | None:
    """`pa.Table` or `pa.RecordBatch`, if a collection is known to have such elements.

    Beam's own `ReadFromParquetBatched` gives tables, but does not say so.
    """
    kind = records.element_type
    if kind in (pa.Table, pa.RecordBatch):
        return kind
    producer = records.producer
    while kind is beam.typehints.Any and producer is not None:
        if isinstance(producer.transform, (ReadFromParquetBatched, ReadAllFromParquetBatched)):
            return pa.Table
        producer = producer.parent
    return None


def check_no_batch(record: Any) -> None:
    """That it is no batch, where the elements are taken for records.

    Raises:
        ConfigurationError: It is one.
    """
    if isinstance(record, Batch):
        name = type(record).__name__
        raise ConfigurationError(
            f"the elements are Arrow batches (pa.{name}), but nothing said so when the pipeline "
            f"was made: give the transform before Predict .with_output_types(pa.{name})"
        )


def prediction_fields(output_names: Sequence[str], state_size: int = 0) -> list[pa.Field]:
    """The columns that `Predict` adds: see `prediction_schema`."""
    added = [pa.field(f"{name}_prediction", pa.float64()) for name in output_names]
    added.append(pa.field("prediction_step", pa.int64()))
    added += [pa.field(f"prediction_{name}", _NAME) for name in ("model", "kernel")]
    if state_size:
        added.append(pa.field("prediction_state", pa.list_(pa.float32(), state_size)))
    return added


_NAME = pa.dictionary(pa.int32(), pa.string())


def taken_name(schema: pa.Schema, added: Iterable[pa.Field]) -> str | None:
    """A column of a batch that has the name of one that `Predict` adds."""
    return min({field.name for field in added} & set(schema.names), default=None)


class BatchReader:
    """Reads the records of a batch by its columns.

        >>> reader = BatchReader(Columns(key="id", time="at", inputs=["x"]))
        >>> batch = pa.table({"id": ["a", "b", "a"], "at": [1, 2, 3], "x": [0.5, None, 1.5]})
        >>> block, invalid = reader.read(batch, np.zeros(3, np.int64))
        >>> block.keys, block.row.tolist(), invalid[0][1].reason
        (['a'], [0, 2], 'x is missing')

    Args:
        columns: Which fields mean what.
        added: Gives the columns that will be added; the rows of a batch that has one of them
            already cannot be used.
    """

    def __init__(self, columns: Columns, added: Callable[[], Iterable[pa.Field]] = tuple):
        self._columns = columns
        self._added = added
        self._reader = RecordReader(columns)
        self._sizes = dict(columns.vectors)
        self._vocabularies = [places_of(columns.vocabulary(name)) for name in columns.symbols]

    def read(self, batch: Batch, arrived: Array) -> tuple[Block, list[tuple[int, InvalidRecord]]]:
        """The records, checked, `row` being the row of each; and the dead letters.

        Args:
            batch: The records.
            arrived: (rows,), the Beam timestamp of each in microseconds.
        """
        if not batch.num_rows:
            return empty_block(self._columns.number_size), []
        taken = taken_name(batch.schema, self._added())
        if taken is not None:
            letters = added_already(self._columns.key, taken, batch)
            return empty_block(self._columns.number_size), list(enumerate(letters))
        plain, good = self._plain(batch, arrived)
        if good.all():
            return plain._replace(keys=plain.keys[: int(plain.of_key.max()) + 1]), []
        bad = np.flatnonzero(~good)
        rows = to_dicts(batch.take(pa.array(bad)))
        rest = (
            (i, read_or_refused(self._reader, row, Timestamp(micros=int(arrived[i]))))
            for i, row in zip(bad.tolist(), rows, strict=True)
        )
        return with_the_rest(plain.pick(good) if good.any() else None, rest, arrived, self._columns)

    def _plain(self, batch: Batch, arrived: Array) -> tuple[Block, Array]:
        """All rows as a block, and which of them hold in it: those that are plain."""
        columns, n = self._columns, batch.num_rows
        good = np.ones(n, bool)

        def column(name: str, read: Callable[[Any], _Column], dtype: Any) -> Array:
            nonlocal good
            place = batch.schema.get_all_field_indices(name)
            values, usable = None, None
            if len(place) == 1:
                with contextlib.suppress(pa.ArrowException):  # a type that Arrow cannot tell apart
                    values, usable = read(_flat(batch.column(place[0])))
            if values is None or usable is None:
                good = np.zeros(n, bool)
                return np.zeros(n, dtype)
            good &= usable
            return values

        names: list[str] = [""]

        def keys(array: pa.Array) -> _Column:
            nonlocal names
            names, of_key, usable = self._key_texts(array)
            return of_key, usable

        of_key = column(columns.key, keys, np.int32)
        time = arrived
        if columns.time is None:
            good &= (time >= MIN_MICROS) & (time <= MAX_MICROS)
        else:
            read_times = partial(_times, columns.time, time_format=columns.time_format)
            time = column(columns.time, read_times, np.int64)
        good &= time <= columns.latest_micros
        sequence = np.zeros(n, np.int64)
        if columns.sequence is not None:
            sequence = column(columns.sequence, _wholes, np.int64)
        marks = [
            np.zeros(n, bool) if name is None else column(name, _marks, bool)
            for name in (columns.start, columns.end)
        ]
        numbers = np.empty((n, columns.number_size))
        read = _numbers_or_missing if columns.carried_size else _numbers
        at = 0
        for name in columns.fields:
            size = self._sizes.get(name)
            of_field = read if size is None else partial(_vectors, size=size, read=read)
            values = column(name, of_field, np.float64)
            end = at + (size or 1)
            numbers[:, at:end] = values if values.ndim == 2 else values[:, np.newaxis]
            at = end
        if columns.calendar:
            cycles = cycle_numbers(columns.calendar, np.where(good, time, 0))
            numbers[:, at : at + cycles.shape[1]] = cycles
            at += cycles.shape[1]
        for name, places in zip(columns.symbols, self._vocabularies, strict=True):
            numbers[:, at] = column(name, partial(_symbols, name=name, places=places), np.float64)
            at += 1
        row = np.arange(n, dtype=np.int32)
        return Block(
            names, of_key, arrived, time, sequence, marks_of(*marks), numbers, b"", row
        ), good

    def _key_texts(self, array: pa.Array) -> tuple[list[str], Array, Array]:
        """The keys as text, each once; which is whose; and whose can be used."""
        coded_here = not pa.types.is_dictionary(array.type)
        codes = array.dictionary_encode() if coded_here else array
        of_value = codes.indices.fill_null(len(codes.dictionary)).to_numpy(zero_copy_only=False)
        values = codes.dictionary
        if coded_here and _is_text(values.type):
            sizes = pc.binary_length(values).to_numpy(zero_copy_only=False)
            usable = np.append((sizes > 0) & (sizes <= MAX_KEY_BYTES), False)
            names = [*values.to_pylist(), ""]
            return names, of_value.astype(np.int32, copy=False), usable[of_value]
        texts = [_key_text(value) for value in _as_python(values)]
        texts.append(None)
        usable = np.array([text is not None for text in texts])
        names, of_text = coded(texts)
        named = ["" if name is None else name for name in names]
        return named, of_text[of_value], usable[of_value]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _key_text(value: Any) -> str | None:
    try:
        return key_text("", value)
    except RecordError:
        return None


def added_already(key: str, name: str, batch: Batch) -> list[InvalidRecord]:
    """The dead letters for the rows of a batch that has a column which `Predict` adds."""
    reason = f"the batch has a column {name!r} already, which Predict adds: rename it"
    return [dead_letter(key, row, RecordError(reason, row.get(name))) for row in to_dicts(batch)]


def _flat(column: Any) -> pa.Array:
    """A column as one array."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    return column


def to_dicts(batch: Batch) -> list[dict[str, Any]]:
    """Rows as dicts; times in UTC if they have a zone, and nanoseconds cut to microseconds.

    Of several columns of one name none is a field: the rows say so in `UNREADABLE`.
    """
    names = Counter(batch.schema.names)
    columns: dict[str, Iterable[Any]] = {
        name: _as_python(column)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if names[name] == 1
    }
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        columns[UNREADABLE] = repeat(f"there are several columns {twice[0]!r}", batch.num_rows)
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _as_python(column: Any) -> list[Any]:
    """Values as Python has them; a text that is no time where Python has no such time."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = _flat(column).dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind):  # Python knows neither every zone nor nanoseconds
        zone = "UTC" if kind.tz else None
        if kind.unit == "ns":
            whole = _flat(column).cast(pa.timestamp("ns")).view(pa.int64())
            column = pa.array(_floored(whole), pa.timestamp("us", zone))
        else:
            column = column.cast(pa.timestamp(kind.unit, zone))
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, ImportError):
        return [as_python(value) for value in column]


def _floored(nanoseconds: pa.Array) -> pa.Array:
    """Nanoseconds as whole microseconds, rounded down: those before 1970, too."""
    values, there = _values(nanoseconds)
    return pa.array(values // 1000, pa.int64(), mask=~there)


def as_python(value: pa.Scalar) -> Any:
    """A value as Python has it; a text that is no time if Python has no such time."""
    try:
        return value.as_py()
    except (ValueError, OverflowError, ImportError):
        return f"{getattr(value, 'value', '?')} of {value.type}"


def _values(array: pa.Array) -> _Column:
    """Numbers as numpy has them, and which are there."""
    there = np.ones(len(array), bool)
    if array.null_count:
        there = array.is_valid().to_numpy(zero_copy_only=False)
        array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    return array.to_numpy(zero_copy_only=False), there


def _none(array: pa.Array, dtype: Any) -> _Column:
    """No value that can be used as it is."""
    return np.zeros(len(array), dtype), np.zeros(len(array), bool)


def _numbers(array: pa.Array) -> _Column:
    """As `beam_rnn.records.record_reader.number` reads each."""
    if not (
        pa.types.is_floating(array.type) or _WHOLE(array.type) or pa.types.is_boolean(array.type)
    ):
        return _none(array, np.float64)
    values, there = _values(array)
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        there, values = there & finite, np.where(finite, values, 0.0)
    return values + 0.0, there  # -0 is 0


def _numbers_or_missing(array: pa.Array) -> _Column:
    """As `beam_rnn.records.record_reader.number_or_missing` reads each."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan), np.ones(len(array), bool)
    values, usable = _numbers(array)
    missing = array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    return np.where(missing, np.nan, values), usable | missing


def _vectors(array: pa.Array, size: int, read: Callable[[pa.Array], _Column]) -> _Column:
    """As `beam_rnn.records.record_reader.vector` reads each: (rows, size)."""
    kind, n = array.type, len(array)
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    good = np.zeros(n, bool)
    if lists or pa.types.is_fixed_size_list(kind):
        sizes = pc.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
        good = sizes == size
    if not good.any():
        return np.zeros((n, size)), good
    numbers, usable = np.zeros((n, size)), good.copy()
    of_lists = array.filter(pa.array(good)).flatten()
    values, there = read(of_lists)
    numbers[good] = values.reshape(-1, size)
    usable[good] = there.reshape(-1, size).all(1)
    return numbers, usable


def _symbols(array: pa.Array, name: str, places: Mapping[str, int]) -> _Column:
    """As `beam_rnn.records.record_reader.symbol` reads each: its index."""
    codes = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    index = np.zeros(len(codes.dictionary) + 1)
    there = np.zeros(len(index), bool)
    for i, value in enumerate(_as_python(codes.dictionary)):
        with contextlib.suppress(RecordError):
            index[i], there[i] = places.get(symbol(name, value), UNKNOWN), True
    at = codes.indices.fill_null(len(index) - 1).to_numpy(zero_copy_only=False)
    return index[at], there[at]


def _times(name: str, array: pa.Array, time_format: str | None = None) -> _Column:
    """As `beam_rnn.records.record_reader.micros` reads each."""
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        whole = pa.int32() if kind == pa.date32() else pa.int64()
        counted, there = _values(array.view(whole))
        unit = _MICROS[kind.unit if pa.types.is_timestamp(kind) else str(kind)]
        if unit == 0:  # nanoseconds
            counted, unit = counted // 1000, 1
        there &= (counted >= -(-MIN_MICROS // unit)) & (counted <= MAX_MICROS // unit)
        return np.where(there, counted, 0).astype(np.int64) * unit, there
    number = _WHOLE(kind) or pa.types.is_floating(kind)
    if number and time_format is None:
        seconds, there = _values(array)
        there &= (seconds >= -MAX_SECONDS) & (seconds <= MAX_SECONDS)
        seconds = np.where(there, seconds, 0)
        if _WHOLE(kind):
            return seconds.astype(np.int64) * SECOND, there
        return np.rint(seconds.astype(np.float64) * 1e6).astype(np.int64), there
    if pa.types.is_dictionary(kind) and not _is_text(kind.value_type):
        return _times(name, array.dictionary_decode(), time_format)
    if number or _is_text(kind) or pa.types.is_dictionary(kind):
        codes = array if pa.types.is_dictionary(kind) else array.dictionary_encode()
        times = np.zeros(len(codes.dictionary) + 1, np.int64)
        there = np.zeros(len(times), bool)
        for i, text in enumerate(codes.dictionary.to_pylist()):
            try:
                times[i], there[i] = micros(name, text, time_format), True
            except RecordError:
                continue
        at = codes.indices.fill_null(len(times) - 1).to_numpy(zero_copy_only=False)
        return times[at], there[at]
    return _none(array, np.int64)


def _wholes(array: pa.Array) -> _Column:
    """As `beam_rnn.records.record_reader.whole` reads each."""
    if not _WHOLE(array.type):
        return _none(array, np.int64)
    values, there = _values(array)
    if values.dtype == np.uint64:
        there &= values < 2**63
    numbers = values.astype(np.int64)
    return numbers, there & (numbers > -(2**63))


def _marks(array: pa.Array) -> _Column:
    """As `beam_rnn.records.record_reader.mark` reads each: None is false."""
    if pa.types.is_boolean(array.type):
        values, _ = _values(array)
        return values.astype(bool), np.ones(len(array), bool)
    if _WHOLE(array.type) or pa.types.is_floating(array.type):
        values, there = _values(array)
        return (values == 1) & there, ~there | (values == 0) | (values == 1)
    return _none(array, bool)


def alike_joined(batches: Sequence[Batch], arrived: Array) -> Iterator[tuple[pa.Table, Array]]:
    """Batches that follow one another and have the same columns, together.

    >>> batches = [pa.table({"x": [i]}) for i in range(3)]
    >>> [(t.num_rows, at.tolist()) for t, at in alike_joined(batches, np.array([5, 6, 7]))]
    [(3, [5, 6, 7])]

    Args:
        batches: The batches.
        arrived: The Beam timestamp of each.

    Returns:
        Tables, and the timestamp of each of their rows.
    """
    start = 0
    for _, alike in groupby(batches, key=lambda batch: batch.schema):
        tables = [
            pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
            for batch in alike
        ]
        rows = [table.num_rows for table in tables]
        times = np.repeat(arrived[start : start + len(tables)], rows)
        start += len(tables)
        at = 0
        for table in together(tables):
            yield table, times[at : at + table.num_rows]
            at += table.num_rows


def together(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Tables of one schema as one, or as several if their dictionaries do not fit into one."""
    try:
        return [pa.concat_tables(tables).unify_dictionaries()]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        batches = [batch for table in tables for batch in table.to_batches()]
        return [pa.Table.from_batches([batch]) for batch in batches]


def picked(table: pa.Table, rows: Array) -> pa.Table:
    """Some rows of a table; of dictionaries only the values that these use.

    >>> table = pa.table({"x": pa.array(["a", "b", "c"]).dictionary_encode()})
    >>> picked(table, np.array([1])).column("x").chunk(0).dictionary.to_pylist()
    ['b']
    """
    table = table.take(pa.array(rows))
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field, _used(_flat(table.column(i))))
    return table


def _used(array: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same values, with a dictionary of those alone."""
    codes, there = _values(array.indices)
    used, place = np.unique(codes[there], return_inverse=True)
    codes = np.zeros_like(codes)
    codes[there] = place
    indices = pa.array(codes, array.type.index_type, mask=~there)
    values = array.dictionary.take(pa.array(used))
    return pa.DictionaryArray.from_arrays(indices, values, ordered=array.type.ordered)


def to_bytes(batch: pa.Table) -> bytes:
    """A batch as it is carried to a shard."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.Table:
    """The inverse of `to_bytes`, without a copy."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()
