"""Rows, lines and tables into files: CSV, Parquet, Arrow or JSON lines, by suffix."""

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
    """Write a table of keys, times, numbers and texts, as `write_rows` writes its rows."""
    ending = whole_suffix(path)
    if ending in (".parquet", ".arrow"):
        writer = pq.ParquetWriter if ending == ".parquet" else pa.ipc.new_file
        with created(path) as file, writer(file, table.schema) as opened:
            opened.write_table(table)
        return
    names = table.column_names
    with _packed(path) as file:
        if ending == ".csv":
            file.write(f"{csv_line(names)}\n".encode())
        for batch in table.to_batches(max_chunksize=ROWS_IN_A_BATCH):
            rows = zip(*map(_as_texts, batch.columns), strict=True)
            if ending == ".csv":
                lines = _csv_lines(rows)
            else:
                lines = "".join(
                    f"{json_line(dict(zip(names, row, strict=True)))}\n" for row in rows
                )
            file.write(lines.encode(errors="surrogateescape"))


def _csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as lines, as `csv_line` has them."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    text = lines.getvalue()
    if text.count("\r") == text.count("\r\n") == text.count("\n"):  # no field has one of its own
        return text.replace("\r\n", "\n")
    fields = csv.reader(io.StringIO(text, newline=""))
    return "".join(f"{csv_line(row)}\n" for row in fields)


def _as_texts(column: pa.Array) -> list[Any]:
    """Return the values of a column as a text file has them: times as ISO 8601."""
    if not pa.types.is_timestamp(column.type):
        return column.to_pylist()
    micros = column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
    zone = "+00:00" if column.type.tz else ""
    whole = (micros.astype(np.int64) % 1_000_000 == 0).all()
    if not whole:
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
