"""Rows whose columns are known when they are there, into one file, in order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from beam_rnn.files.lines import csv_line, json_line
from beam_rnn.files.suffixes import whole_suffix
from beam_rnn.storage import write_bytes
from beam_rnn.transforms.together import gathered

Row = Mapping[str, Any]


class WriteTable(beam.PTransform):
    """The rows of all keys into one file: those of the first key, then those of the second, ...

    The same rows give the same bytes. One worker holds all of them when it writes.

    Args:
        path: The file; its suffix says how it is written: CSV, Parquet, Arrow or JSON lines.

    Raises:
        ConfigurationError: It has another suffix, or is compressed and cannot be.
    """

    def __init__(self, path: str):
        super().__init__()
        self._suffix = whole_suffix(path)
        self._path = path

    def expand(self, pcoll: beam.PCollection[tuple[str, list[Row]]]) -> Any:
        """Keys, each with its rows in order, in; gather, and write."""
        rows = pcoll | "Gather" >> gathered(pcoll) | "InOrder" >> beam.Map(in_order)
        if self._suffix in (".csv", ".jsonl"):
            lines = csv_lines if self._suffix == ".csv" else json_lines
            texts = rows | "Lines" >> beam.FlatMap(lines).with_output_types(str)
            return texts | beam.io.WriteToText(self._path, num_shards=1, shard_name_template="")
        path, write = self._path, to_parquet if self._suffix == ".parquet" else to_arrow
        return rows | "Write" >> beam.Map(lambda rows: write_bytes(write(rows), path))


def in_order(groups: Iterable[tuple[str, Sequence[Row]]]) -> list[Row]:
    """The rows of all keys, by key.

    >>> in_order([("b", [{"n": 3}]), ("a", [{"n": 1}, {"n": 2}])])
    [{'n': 1}, {'n': 2}, {'n': 3}]
    """
    return [row for _, rows in sorted(groups, key=lambda group: group[0]) for row in rows]


def columns_of(rows: Iterable[Row]) -> list[str]:
    """Every column that a row has, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def csv_lines(rows: Sequence[Row]) -> Iterator[str]:
    """One piece of text, so that no runner puts its lines in another order; none of no rows."""
    names = columns_of(rows)
    if rows:
        lines = [csv_line([row.get(name) for name in names]) for row in rows]
        yield "\n".join([csv_line(names), *lines])


def json_lines(rows: Sequence[Row]) -> Iterator[str]:
    """The same as JSON lines."""
    if rows:
        yield "\n".join(map(json_line, rows))


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Rows as an Arrow table; a column of several types becomes text."""
    return pa.table({name: _column([row.get(name) for row in rows]) for name in columns_of(rows)})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array([None if value is None else str(value) for value in values])


def to_parquet(rows: Sequence[Row]) -> bytes:
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(rows), sink)
    return sink.getvalue().to_pybytes()


def to_arrow(rows: Sequence[Row]) -> bytes:
    """The bytes of an Arrow file."""
    sink, table = pa.BufferOutputStream(), to_table(rows)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
