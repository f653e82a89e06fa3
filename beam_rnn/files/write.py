"""One row as one line of text."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.files.formats import whole_suffix
from beam_rnn.streaming.model_files import created, remove


def json_line(row: Mapping[str, Any]) -> str:
    r"""One line of a file of JSON lines, without its end; bytes are text that is not UTF-8.

    >>> json_line({"at": 1.5, "name": b"caf\xe9"})
    '{"at": 1.5, "name": "caf\\ufffd"}'
    """
    return json.dumps(row, default=as_text)


def as_text(value: Any) -> str:
    """A value as text that every file can hold; bytes that are not UTF-8 become U+FFFD.

    A time is written as ISO 8601 has it, with its offset.
    """
    if isinstance(value, datetime):
        return value.isoformat()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def csv_line(values: Sequence[Any]) -> str:
    r"""One line of a CSV file, without its end; bytes are text that is not UTF-8.

    >>> csv_line(["pump\n7", "a,b", None, 1.5])
    '"pump\n7","a,b",,1.5'
    """
    texts = [v.decode(errors="surrogateescape") if isinstance(v, bytes) else v for v in values]
    texts = [v.isoformat() if isinstance(v, datetime) else v for v in texts]
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(texts)  # before 3.13 it quotes no other
    return line.getvalue().removesuffix("\r\n")


Row = Mapping[str, Any]

TEXT = (".csv", ".jsonl")
ROWS_IN_A_BATCH = 10_000


class WriteFile(beam.PTransform):
    """Rows whose columns are known, as dicts, into one file, in any order.

    One worker writes all of them.

    Args:
        path: The file; its suffix says how it is written: CSV, Parquet, Arrow or JSON lines.
        schema: The columns and their types.

    Raises:
        ConfigurationError: `path` has another suffix, or is compressed and cannot be.
    """

    def __init__(self, path: str, schema: pa.Schema):
        super().__init__()
        self._is_text = whole_suffix(path) in TEXT
        self._path, self._schema = path, schema

    def expand(self, pcoll: beam.PCollection[Row]) -> Any:
        """Format the rows where the file is text, and write."""
        path, schema = self._path, self._schema
        if not self._is_text:
            return pcoll | "Write" >> Gathered(lambda rows: write_batches(rows, schema, path))
        header, line = lines_of(schema.names, path)
        lines = pcoll | "Format" >> beam.Map(line).with_output_types(str)
        return lines | "Write" >> Gathered(lambda lines: write_lines(header, lines, path))


class WriteTable(beam.PTransform):
    """The rows of all keys into one file: those of the first key, then those of the second, ...

    Its columns are all those that a row has. The same rows give the same bytes. One worker holds
    all of them when it writes.

    Args:
        path: The file; its suffix says how it is written: CSV, Parquet, Arrow or JSON lines.

    Raises:
        ConfigurationError: `path` has another suffix, or is compressed and cannot be.
    """

    def __init__(self, path: str):
        super().__init__()
        whole_suffix(path)
        self._path = path

    def expand(self, pcoll: beam.PCollection[tuple[str, list[Row]]]) -> Any:
        """Keys, each with its rows in order, in; gather, and write."""
        path = self._path
        return pcoll | "Write" >> Gathered(lambda groups: write_table(in_order(groups), path))


class WriteLines(beam.PTransform):
    """Lines of text into one file, in any order.

    If there are none, there is no file: one that an earlier run left is removed.

    Args:
        path: The file.
    """

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def expand(self, pcoll: beam.PCollection[str]) -> Any:
        """Gather, and write."""
        path = self._path

        def write(lines: Iterator[str]) -> None:
            first = list(itertools.islice(lines, 1))
            if first:
                write_lines(first, lines, path)
            else:
                remove(path)

        return pcoll | "Write" >> Gathered(write)


class Gathered(beam.PTransform):
    """All elements, as one iterable, through a function: once, even if there are none.

    Args:
        function: What to do with them.
    """

    def __init__(self, function: Callable[[Iterator[Any]], Any]):
        super().__init__()
        self._function = function

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Bring them together beside an element that is always there, and is none of them."""
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


def lines_of(names: Sequence[str], path: str) -> tuple[list[str], Callable[[Row], str]]:
    """The lines above those of the rows, and what makes a line of a row."""
    if whole_suffix(path) == ".csv":
        return [csv_line(names)], lambda row: csv_line([row.get(name) for name in names])
    return [], json_line


def write_lines(header: Iterable[str], lines: Iterable[str], path: str) -> None:
    """Write a file of text, compressed if its suffix says so."""
    with created(path, CompressionTypes.detect_compression_type(path)) as file:
        for line in itertools.chain(header, lines):
            file.write(f"{line}\n".encode(errors="surrogateescape"))


def write_batches(rows: Iterator[Row], schema: pa.Schema, path: str) -> None:
    """Write a Parquet or Arrow file of rows, of which a few are held at a time."""
    batches = iter(lambda: list(itertools.islice(rows, ROWS_IN_A_BATCH)), [])
    write_tables((pa.Table.from_pylist(batch, schema) for batch in batches), schema, path)


def write_table(rows: Sequence[Row], path: str) -> None:
    """Write a file of rows whose columns are all those that one has."""
    if whole_suffix(path) in TEXT:
        header, line = lines_of(columns_of(rows), path)
        write_lines(header if rows else [], map(line, rows), path)
    else:
        table = to_table(rows)
        write_tables([table], table.schema, path)


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: str) -> None:
    """Write a Parquet or Arrow file."""
    of_kind = pq.ParquetWriter if whole_suffix(path) == ".parquet" else pa.ipc.new_file
    with created(path) as file, of_kind(file, schema) as writer:
        for table in tables:
            writer.write_table(table)


def in_order(groups: Iterable[tuple[str, Sequence[Row]]]) -> list[Row]:
    """The rows of all keys, by key.

    >>> in_order([("b", [{"n": 3}]), ("a", [{"n": 1}, {"n": 2}])])
    [{'n': 1}, {'n': 2}, {'n': 3}]
    """
    return [row for _, rows in sorted(groups, key=lambda group: group[0]) for row in rows]


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Every column that a row has, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Rows as an Arrow table; a column of several types becomes text."""
    return pa.table({name: _column([row.get(name) for row in rows]) for name in columns_of(rows)})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # of several types, or beyond 64 bits
        return pa.array([None if value is None else as_text(value) for value in values])
