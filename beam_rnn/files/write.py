"""Rows and lines into files: CSV, Parquet, Arrow or JSON lines, by suffix."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.core.filesystems import created, remove
from beam_rnn.files.formats import whole_suffix


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


class WriteFile(beam.PTransform):
    """Writes rows, as dicts, into one file, on one worker.

    With a schema, rows may come in any order, and that worker holds few of them. Without one, the
    elements are keys, each with its rows in order; the columns are all those that a row has. The
    worker then holds all rows and writes them by key, so the same rows give the same bytes.

    Args:
        path: The file; its suffix says how it is written: CSV, Parquet, Arrow or JSON lines.
        schema: The columns and their types, if they are known.

    Raises:
        ConfigurationError: `path` has another suffix, or is compressed and cannot be.
    """

    def __init__(self, path: str, schema: pa.Schema | None = None):
        super().__init__()
        whole_suffix(path)
        self._path, self._schema = path, schema

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Gather the elements, and write."""
        path, schema = self._path, self._schema
        if schema is None:
            return pcoll | "Write" >> Gathered(lambda groups: write_rows(in_order(groups), path))
        return pcoll | "Write" >> Gathered(lambda rows: write_rows(rows, path, schema))


class WriteLines(beam.PTransform):
    """Writes lines of text into one file, in any order.

    If there are none, there is no file: a file of an earlier run is removed.

    Args:
        path: The file.
    """

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def expand(self, pcoll: beam.PCollection[str]) -> Any:
        """Gather the elements, and write."""
        path = self._path

        def write(lines: Iterator[str]) -> None:
            first = list(itertools.islice(lines, 1))
            if first:
                write_lines(itertools.chain(first, lines), path)
            else:
                remove(path)

        return pcoll | "Write" >> Gathered(write)


class Gathered(beam.PTransform):
    """Calls a function with all elements, as one iterable: once, even if there are none.

    Args:
        function: The function.
    """

    def __init__(self, function: Callable[[Iterator[Any]], Any]):
        super().__init__()
        self._function = function

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Group them with an element that is always there, and is none of them."""
        function = self._function
        pairs = tuple[int, tuple[Any, ...]]
        none = pcoll.pipeline | "None" >> beam.Create([(0, ())]).with_output_types(pairs)
        each = (
            pcoll
            | "Together" >> beam.WindowInto(GlobalWindows())
            | "Pair" >> beam.Map(lambda element: (0, (element,))).with_output_types(pairs)
        )
        return (
            (none, each)
            | "Flatten" >> beam.Flatten()
            | "Gather" >> beam.GroupByKey()
            | "Each" >> beam.MapTuple(lambda _, all_: function(itertools.chain.from_iterable(all_)))
        )


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
    with created(path, CompressionTypes.detect_compression_type(path)) as file:
        for line in lines:
            file.write(f"{line}\n".encode(errors="surrogateescape"))


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
