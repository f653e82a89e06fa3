"""The records of files as blocks, read by the column and without Beam.

What is in a file means what `beam_rnn.files.row_reader` says of it row by row. That also reads what
is not plain: each row that cannot be read by the column, and files of text that cannot.
"""

import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from beam_rnn.core.arrays import Array
from beam_rnn.core.filesystems import matched, with_folder
from beam_rnn.data.columns import Columns
from beam_rnn.files.formats import codec, suffix
from beam_rnn.files.row_reader import (
    ROWS_OF_A_FILE,
    check_names,
    content,
    has_row,
    name_below,
    number_columns,
    records_of,
    root_of,
)
from beam_rnn.records.arrow_columns import as_list
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.block_format import Block, one_after_another
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.field_values import ROW
from beam_rnn.records.results import InvalidRecord

ROWS_AT_ONCE = 1 << 16
"""Number of rows that are held as dicts."""
BYTES_AT_ONCE = 1 << 24
"""Size of the pieces in which a CSV file is parsed."""
TIMES_SEEN = 10_000
"""Number of times of a file that are looked at for their form."""
_NUMBER = r"^-?\d{1,300}(\.\d{1,300})?([eE][-+]?\d{1,2})?$"
_WHOLE = r"^-?\d{1,18}$"
"""Numbers that Arrow and Python read alike; whatever else Python takes is read alone."""
_DAYS = 19_000_101, 20_991_231
"""Whole numbers between these may be days such as 20140701, which are read alone."""
_QUOTED = re.compile(rb'(?:(?<=[,\n])|^)"[^"\n\r]*"(?=[,\r\n]|$)')


class FileRecords(NamedTuple):
    """The records of a file.

    Attributes:
        path: The file.
        block: The records that can be used; `row` is the row of each in the file.
        letters: The dead letters, with the row of each.
        rows: The number of rows.
        times: Some of the times as the file has them, evenly spaced; all if there are few.
        as_dicts: Returns some rows, rising, as dicts of all columns of the file.
    """

    path: str
    block: Block
    letters: list[tuple[int, InvalidRecord]]
    rows: int
    times: list[Any]
    as_dicts: Callable[[Array], Iterator[dict[str, Any]]]


class _NotPlainError(Exception):
    """A file of text that must be read row by row."""


def read_blocks(pattern: str, columns: Columns, *, targets: bool = False) -> Iterator[FileRecords]:
    """Yield the records of the files of a pattern on this machine, in the order of their paths.

    Args:
        pattern: A file, or a pattern of files.
        columns: Which fields mean what; their vocabularies must be known.
        targets: Read the targets too.

    Raises:
        UnreadableFileError: A file is truncated, broken, or has another format than its suffix
            says.
    """
    root = root_of(with_folder(pattern))
    for place, path in enumerate(matched(pattern)):
        yield _File(path, root, columns, place, targets=targets).read()


class _File:
    """A file, and how its records are read."""

    def __init__(self, path: str, root: str, columns: Columns, place: int, *, targets: bool):
        self._path, self._root, self._columns, self._place = path, root, columns, place
        self._targets = targets
        self._needed = {
            name
            for name in (
                *(columns.key, columns.time, columns.sequence, columns.start, columns.end),
                *(*columns.fields, *columns.symbols),
                *((*columns.targets, columns.weight) if targets else ()),
            )
            if name is not None
        }

    def read(self) -> FileRecords:
        """Return its records."""
        ending = suffix(self._path)
        if ending == ".jsonl":
            return self._row_by_row()
        readers = {".csv": self._csv, ".parquet": self._parquet, ".arrow": self._arrow}
        try:
            table, plain = readers[ending]()
            table = self._with_place(table)
        except (_NotPlainError, pa.ArrowException, OSError, UnicodeError):
            return self._row_by_row()  # which says what is wrong with it
        reader = BatchReader(self._columns, targets=self._targets)
        arrived = np.zeros(table.num_rows, np.int64)
        rows = self._lines if ending == ".csv" else self._rows
        block, letters = reader.read(table, arrived, rows, plain)
        times: list[Any] = []
        if self._columns.time in table.column_names:
            few = np.arange(0, table.num_rows, max(1, table.num_rows // TIMES_SEEN))
            times = as_list(table[self._columns.time].take(pa.array(few)))
        return FileRecords(self._path, block, letters, table.num_rows, times, rows)

    def _row_by_row(self) -> FileRecords:
        reader = ColumnReader(self._columns, targets=self._targets)
        blocks, letters, rows = [], [], 0
        times: list[Any] = []
        with Path(self._path).open("rb") as opened:
            records = self._records(opened)
            while part := list(islice(records, ROWS_AT_ONCE)):
                block, invalid = reader.read_block(part, np.zeros(len(part), np.int64))
                blocks.append(block._replace(row=block.row + rows))
                letters += [(rows + row, letter) for row, letter in invalid]
                rows += len(part)
                times += [record.get(self._columns.time or "") for record in part]
        if not blocks:
            block, _ = reader.read_block([], np.zeros(0, np.int64))
            return FileRecords(self._path, block, [], 0, [], self._rows)
        times = times[:: max(1, rows // TIMES_SEEN)]
        return FileRecords(self._path, _joined(blocks), letters, rows, times, self._rows)

    def _records(self, opened: Any) -> Iterator[dict[str, Any]]:
        return records_of(opened, self._path, self._root, self._columns, (), self._place)

    def _rows(self, rows: Array) -> Iterator[dict[str, Any]]:
        """Yield some rows, rising, as dicts of all columns of the file."""
        wanted = set(rows.tolist())
        with Path(self._path).open("rb") as opened:
            for row, record in enumerate(self._records(opened)):
                if row in wanted:
                    yield record

    def _lines(self, rows: Array) -> Iterator[dict[str, Any]]:
        """As `_rows`, of a CSV file of which each row is a line: only these are parsed."""
        wanted = set(rows.tolist())
        with Path(self._path).open("rb") as opened:
            stream = content(opened, self._path)
            header, row, taken = stream.readline(), 0, list[bytes]()
            for line in stream:
                if line.strip(b"\r\n"):
                    if row in wanted:
                        taken.append(line)
                    row += 1
        plain_path = self._path.removesuffix(os.path.splitext(self._path)[1])
        path = self._path if codec(self._path) is None else plain_path
        lines = io.BytesIO(b"".join([header, *taken]))
        records = records_of(lines, path, "", self._columns, (), 0)
        for row, record in zip(rows.tolist(), records, strict=True):
            more: dict[str, Any] = {"filename": name_below(self._path, self._root)}
            if ROW in record and has_row(self._columns):
                more[ROW] = row + self._place * ROWS_OF_A_FILE
            yield record | more

    def _with_place(self, table: pa.Table) -> pa.Table:
        """Return a table with the columns that say where a row comes from, if they are needed."""
        needed = self._needed - set(table.column_names)
        if "filename" in needed:
            name = pa.array([name_below(self._path, self._root)])
            codes = pa.array(np.zeros(table.num_rows, np.int32))
            table = table.append_column("filename", pa.DictionaryArray.from_arrays(codes, name))
        if ROW in needed and has_row(self._columns):
            rows = np.arange(table.num_rows) + self._place * ROWS_OF_A_FILE
            table = table.append_column(ROW, pa.array(rows))
        return table

    def _parquet(self) -> tuple[pa.Table, Array]:
        file = pq.ParquetFile(self._path)
        names = file.schema_arrow.names
        check_names(names, self._path)
        table = file.read(columns=[name for name in names if name in self._needed])
        table.validate(full=True)
        return table, self._no_days(table)

    def _arrow(self) -> tuple[pa.Table, Array]:
        with pa.memory_map(self._path) as source:
            table = pa.ipc.open_file(source).read_all()
        check_names(table.column_names, self._path)
        table = table.select([name for name in table.column_names if name in self._needed])
        table.validate(full=True)
        return table, self._no_days(table)

    def _no_days(self, table: pa.Table) -> Array:
        """Return False for each row whose time is a whole number that may be a day."""
        columns, plain = self._columns, np.ones(table.num_rows, bool)
        if columns.time in table.column_names and columns.time_format is None:
            time = table[columns.time]
            if pa.types.is_integer(time.type):
                low, high = (pa.scalar(day, time.type) for day in _DAYS)
                between = pc.and_(pc.greater_equal(time, low), pc.less_equal(time, high))
                plain = ~between.fill_null(False).to_numpy()
        return plain

    def _csv(self) -> tuple[pa.Table, Array]:
        with Path(self._path).open("rb") as opened:
            names, text = _header(content(opened, self._path))
            check_names(names, self._path)
            kinds = {name: pa.string() for name in names}
            batches = pacsv.open_csv(
                pa.PythonFile(text, "r"),
                pacsv.ReadOptions(use_threads=False, block_size=BYTES_AT_ONCE, column_names=names),
                pacsv.ParseOptions(),
                pacsv.ConvertOptions(
                    check_utf8=True,
                    column_types=kinds,
                    include_columns=[name for name in names if name in self._needed],
                    strings_can_be_null=False,
                ),
            )
            tables, plain = zip(*map(self._cast, batches), strict=True)
        return pa.concat_tables(tables), np.concatenate(plain)

    def _cast(self, batch: pa.RecordBatch) -> tuple[pa.Table, Array]:
        """Return text with its numbers as numbers, and which rows are plain."""
        plain, columns = np.ones(batch.num_rows, bool), {}
        numbers = set(number_columns(self._columns))
        for name, texts in zip(batch.schema.names, batch.columns, strict=True):
            columns[name] = texts
            if name in numbers:
                whole = name == self._columns.sequence
                columns[name], good = _number(texts, whole=whole)
                plain &= good
        return pa.table(columns), plain


class _Checked(io.RawIOBase):
    """The bytes of a CSV file that can be parsed by pyarrow as Python parses them.

    Each field in quotes is on one line and holds no quote; lines end in a newline.
    """

    def __init__(self, stream: io.BufferedReader):
        super().__init__()
        self._stream = stream
        self._lines = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        if not self._lines:
            self._lines = self._stream.read(BYTES_AT_ONCE) + self._stream.readline()
            self._check(self._lines)
        data, self._lines = self._lines[:size], self._lines[size:]
        return data

    def _check(self, lines: bytes) -> None:
        if b'"' in lines and lines.count(b'"') != 2 * len(_QUOTED.findall(lines)):
            raise _NotPlainError
        if b"\r" in lines and lines.count(b"\r") != lines.count(b"\r\n"):
            raise _NotPlainError


def _header(stream: io.BufferedReader) -> tuple[list[str], _Checked]:
    """Return the names of the columns, and the lines behind them.

    Raises:
        _NotPlainError: They must be read by Python.
    """
    line = stream.readline().rstrip(b"\r\n")
    names = line.decode().split(",")
    plain = all(name and name.isprintable() and '"' not in name for name in names)
    if not plain or line.startswith(b"\xef\xbb\xbf") or len(names) == 1:
        raise _NotPlainError
    return names, _Checked(stream)


def _number(texts: pa.Array, *, whole: bool) -> tuple[pa.Array, Array]:
    """Return texts as numbers, null for an empty one; and which are read so by Python, too."""
    number = pc.match_substring_regex(texts, _WHOLE if whole else _NUMBER)
    good = pc.or_(number, pc.equal(texts, "")).to_numpy(zero_copy_only=False)
    numbers = pc.if_else(number, texts, None).cast(pa.int64() if whole else pa.float64())
    return numbers, good


def _joined(blocks: Sequence[Block]) -> Block:
    rows = np.concatenate([block.row for block in blocks])
    return one_after_another(blocks)._replace(row=rows)
