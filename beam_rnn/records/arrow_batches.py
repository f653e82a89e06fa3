"""Arrow batches as the elements of a pipeline: their type, their rows, joining, and their bytes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, repeat
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.records.arrow_columns import as_list, flat, values_of
from beam_rnn.records.field_values import UNREADABLE

Batch: TypeAlias = pa.Table | pa.RecordBatch


def check_no_batch(record: Any) -> None:
    """Raise if an element that is read as a record is a batch.

    Raises:
        ConfigurationError: It is a batch.
    """
    if isinstance(record, Batch):
        name = type(record).__name__
        raise ConfigurationError(
            f"the elements are Arrow batches (pa.{name}), but no type hint said so when the "
            f"pipeline was built: give the transform before Predict .with_output_types(pa.{name})"
        )


def to_dicts(batch: Batch) -> list[dict[str, Any]]:
    """Return rows as dicts; times in UTC if they have a zone, nanoseconds cut to microseconds.

    Of several columns of one name none is a field: the rows name it in `UNREADABLE`.
    """
    names = Counter(batch.schema.names)
    columns: dict[str, Iterable[Any]] = {
        name: as_list(column)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
        if names[name] == 1
    }
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        columns[UNREADABLE] = repeat(f"there are several columns {twice[0]!r}", batch.num_rows)
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def alike_joined(batches: Sequence[Batch], arrived: Array) -> Iterator[tuple[pa.Table, Array]]:
    """Join consecutive batches that have the same columns.

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
    """Join tables of one schema, into several if their dictionaries do not fit into one."""
    try:
        return [pa.concat_tables(tables).unify_dictionaries()]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        batches = [batch for table in tables for batch in table.to_batches()]
        return [pa.Table.from_batches([batch]) for batch in batches]


def picked(table: pa.Table, rows: Array) -> pa.Table:
    """Return some rows of a table, and of its dictionaries only the values that these use.

    >>> table = pa.table({"x": pa.array(["a", "b", "c"]).dictionary_encode()})
    >>> picked(table, np.array([1])).column("x").chunk(0).dictionary.to_pylist()
    ['b']
    """
    table = table.take(pa.array(rows))
    for i, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(i, field, _used(flat(table.column(i))))
    return table


def _used(array: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return the same values, with a dictionary of no others."""
    codes, there = values_of(array.indices)
    used, place = np.unique(codes[there], return_inverse=True)
    codes = np.zeros_like(codes)
    codes[there] = place
    indices = pa.array(codes, array.type.index_type, mask=~there)
    values = array.dictionary.take(pa.array(used))
    return pa.DictionaryArray.from_arrays(indices, values, ordered=array.type.ordered)


def to_bytes(batch: pa.Table) -> bytes:
    """Return the bytes of a batch, as it is sent to its shard."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_table(batch)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.Table:
    """Return the batch of `to_bytes`, without a copy."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()
