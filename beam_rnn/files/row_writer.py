"""Rows, lines and tables into files: CSV, Parquet, Arrow or JSON lines, by suffix."""

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from beam_rnn.core.filesystems import created
from beam_rnn.files.formats import codec, whole_suffix


def json_line(row: Mapping[str, Any]) -> str:
    r"""Return a line of a file of JSON lines, without its end; bytes are text that is not UTF-8.

    >>> json_line({"at": 1.5, "name": b"caf\xe9"})
    '{"at": 1.5, "name": "caf\\ufffd"}'
    """
    return json.dumps(row, default=as_text)


def as_text(value: Any) -> str:
    """Return a value as text that every file can hold.

    Bytes that are not UTF-8 become U+FFFD. A time is ISO 8601 with its offset.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def csv_line(values: Sequence[Any]) -> str:
    r"""Return a line of a CSV file, without its end; bytes are text that is not UTF-8.

    >>> csv_line(["pump\n7", "a,b", None, 1.5])
    '"pump\n7","a,b",,1.5'
    """
    texts = [v.decode(errors="surrogateescape") if isinstance(v, bytes) else v for v in values]
    texts = [v.isoformat() if isinstance(v, datetime) else v for v in texts]
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(texts)  # before 3.13 it quotes no other
    return line.getvalue().removesuffix("\r\n")


Row = Mapping[str, Any]

ROWS_IN_A_BATCH = 10_000
"""Number of rows that are held at a time, where the columns are known."""


def write_rows(rows: Iterable[Row], path: str, schema: pa.Schema | None = None) -> None:
    """Write a file of rows; without a schema its columns are all those that a row has."""
    _WRITERS[whole_suffix(path)](list(rows) if schema is None else iter(rows), path, schema)


def _csv(rows: Any, path: str, schema: pa.Schema | None) -> None:
    names = columns_of(rows) if schema is None else schema.names
    header = [csv_line(names)] if names else []
    lines = (csv_line([row.get(name) for name in names]) for row in rows)
    write_lines(itertools.chain(header, lines), path)


def _json_lines(rows: Any, path: str, _: pa.Schema | None) -> None:
    write_lines(map(json_line, rows), path)


def _tables(writer: Any, rows: Any, path: str, schema: pa.Schema | None) -> None:
    if schema is None:
        table = to_table(rows)
        tables, schema = iter([table]), table.schema
    else:
        batches = iter(lambda: list(itertools.islice(rows, ROWS_IN_A_BATCH)), [])
        tables = (pa.Table.from_pylist(batch, schema) for batch in batches)
    with created(path) as file, writer(file, schema) as opened:
        for each in tables:
            opened.write_table(each)


_WRITERS: dict[str, Callable[[Any, str, pa.Schema | None], None]] = {
    ".csv": _csv,
    ".parquet": partial(_tables, pq.ParquetWriter),
    ".arrow": partial(_tables, pa.ipc.new_file),
    ".jsonl": _json_lines,
}


def write_lines(lines: Iterable[str], path: str) -> None:
    """Write a file of text, compressed if its suffix says so."""
    with _packed(path) as file:
        for line in lines:
            file.write(f"{line}\n".encode(errors="surrogateescape"))


@contextmanager
def _packed(path: str) -> Iterator[Any]:
    """Yield a file of text to write to, compressed if its suffix says so."""
    with created(path) as file:
        packed = codec(path)
        if packed is None:
            yield file
            return
        with pa.CompressedOutputStream(pa.PythonFile(file, "w"), packed) as stream:
            yield stream


def write_table(table: pa.Table, path: str) -> None:
    """Write a table of keys, times, numbers and texts, as `write_rows` writes its rows.

    Texts may be dictionaries; in a file they are texts.
    """
    ending = whole_suffix(path)
    if ending == ".parquet":  # without the schema of Arrow, which would say that they are
        with created(path) as file:
            pq.write_table(table, file, store_schema=False)
        return
    if ending == ".arrow":
        fields = [
            field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
            for field in table.schema
        ]
        table = table.cast(pa.schema(fields))
        with created(path) as file, pa.ipc.new_file(file, table.schema) as opened:
            opened.write_table(table)
        return
    names = table.column_names
    with _packed(path) as file:
        if ending == ".csv":
            file.write(f"{csv_line(names)}\n".encode())
        for batch in table.to_batches(max_chunksize=ROWS_IN_A_BATCH):
            if ending == ".csv":
                _write_csv(batch, file)
            else:
                rows = zip(*map(_as_texts, batch.columns), strict=True)
                as_dicts = (dict(zip(names, row, strict=True)) for row in rows)
                lines = "".join(f"{json_line(row)}\n" for row in as_dicts)
                file.write(lines.encode(errors="surrogateescape"))


def _write_csv(batch: pa.RecordBatch, file: Any) -> None:
    """Write rows as lines, as `csv_line` has them."""
    if batch.num_columns > 1:  # else an empty text would be an empty line
        columns = [_as_strings(column) for column in batch.columns]
        plain = pacsv.WriteOptions(include_header=False, quoting_style="none")
        lines = pa.BufferOutputStream()
        with contextlib.suppress(pa.ArrowInvalid):  # a text must be quoted
            pacsv.write_csv(pa.table(columns, names=batch.schema.names), lines, plain)
            file.write(lines.getvalue())
            return
    rows = zip(*map(_as_texts, batch.columns), strict=True)
    file.write("".join(f"{csv_line(row)}\n" for row in rows).encode(errors="surrogateescape"))


def _as_strings(column: pa.Array) -> pa.Array:
    """Return the values of a column as text, as `_as_texts` has them."""
    if pa.types.is_timestamp(column.type):
        return pa.array(_as_texts(column), pa.string())
    texts = column.cast(pa.string())
    if not pa.types.is_floating(column.type):
        return texts
    values = column.fill_null(0.5).to_numpy(zero_copy_only=False)
    size = np.abs(values)  # Arrow and Python write other numbers alike
    odd = (values == np.trunc(values)) | (size < 1e-3) | ~(size < 1e9)
    if not odd.any():
        return texts
    again = pa.array(map(repr, values[odd].tolist()), pa.string())
    return pc.replace_with_mask(texts, pa.array(odd), again)


def _as_texts(column: pa.Array) -> list[Any]:
    """Return the values of a column as a text file has them: times as ISO 8601."""
    if pa.types.is_dictionary(column.type):
        texts = [*column.dictionary.to_pylist(), None]
        return [texts[i] for i in column.indices.fill_null(-1).to_pylist()]
    if not pa.types.is_timestamp(column.type):
        return column.to_pylist()
    micros = column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    zone = "+00:00" if column.type.tz else ""
    whole = (micros.astype(np.int64) % 1_000_000 == 0).all()
    if column.null_count or not whole:
        return [None if t is None else t.isoformat() for t in column.to_pylist()]
    return [f"{text}{zone}" for text in np.datetime_as_string(micros, unit="s").tolist()]


def in_order(groups: Iterable[tuple[str, Sequence[Row]]]) -> list[Row]:
    """Return the rows of all keys, sorted by key.

    >>> in_order([("b", [{"n": 3}]), ("a", [{"n": 1}, {"n": 2}])])
    [{'n': 1}, {'n': 2}, {'n': 3}]
    """
    return [row for _, rows in sorted(groups, key=lambda group: group[0]) for row in rows]


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Return all columns that a row has, in the order in which they occur."""
    return list(dict.fromkeys(name for row in rows for name in row))


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table; a column of several types becomes text."""
    return pa.table({name: _column([row.get(name) for row in rows]) for name in columns_of(rows)})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # of several types, or beyond 64 bits
        return pa.array([None if value is None else as_text(value) for value in values])
