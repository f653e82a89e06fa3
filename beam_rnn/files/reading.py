"""Records from files, by suffix: CSV, Parquet, Arrow or JSON lines."""

import csv
import io
import json
import os
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io import fileio

from beam_rnn.columns import Columns
from beam_rnn.errors import BeamRnnError, shown
from beam_rnn.files.suffixes import suffix, whole_suffix
from beam_rnn.records import UNREADABLE
from beam_rnn.storage import with_folder


class UnreadableFileError(BeamRnnError):
    """A file is not what its suffix says."""


class ReadFiles(beam.PTransform):
    """The records of all files of a pattern, as dicts.

    Each record has the field `filename` unless the file has such a column: the file's path
    below the part of the pattern that has no wildcard.

    Args:
        pattern: A file, or a pattern such as "data/*.csv".
        numbers: The columns that hold numbers. A CSV file holds text: in these columns, text
            that reads as a number becomes one, and other text stays what it is.
    """

    def __init__(self, pattern: str, numbers: Collection[str]):
        super().__init__()
        whole_suffix(pattern)
        self._pattern = with_folder(pattern)
        self._numbers = frozenset(numbers)

    def expand(self, pbegin: Any) -> beam.PCollection[dict[str, Any]]:
        """Match, spread the files over the workers, read each."""
        root = os.path.dirname(re.split(r"[*?\[{]", self._pattern, maxsplit=1)[0])
        numbers = self._numbers
        return (
            pbegin
            | "Match" >> fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.DISALLOW)
            | "Open" >> fileio.ReadMatches()
            | "Spread" >> beam.Reshuffle()
            | "Read"
            >> beam.FlatMap(lambda file: read_file(file, root, numbers)).with_output_types(
                dict[str, Any]
            )
        )


def read_file(
    file: fileio.ReadableFile, root: str, numbers: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The records of one file."""
    path = file.metadata.path
    name = os.path.relpath(path, root) if root else path
    readers = {".csv": _csv, ".parquet": _parquet, ".arrow": _arrow, ".jsonl": _json_lines}
    try:
        with file.open() as opened:
            text = suffix(path) in (".csv", ".jsonl")
            stream = io.BufferedReader(Plain(opened)) if text else opened
            for record in readers[suffix(path)](stream, numbers):
                yield {"filename": name, **record}
    except (csv.Error, pa.ArrowException) as error:
        raise UnreadableFileError(
            f"{path!r} cannot be read as a {suffix(path)} file, it is cut, broken or of another "
            f"format: {error}"
        ) from error


class Plain(io.RawIOBase):
    """What Beam opened, compressed or not, as a file of Python's own classes.

    Args:
        opened: A file that Beam's filesystems opened.
    """

    def __init__(self, opened: Any):
        super().__init__()
        self._opened = opened

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        data = self._opened.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _csv(stream: BinaryIO, numbers: Collection[str]) -> Iterator[dict[str, Any]]:
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    lines = csv.reader(text)
    names = next(lines, [])
    for fields in lines:
        if not fields:  # an empty line
            continue
        if len(fields) != len(names):
            yield {
                UNREADABLE: f"a line of {len(fields)} fields, not {len(names)}",
                "line": lines.line_num,
                "fields": [_text(field) for field in fields],
            }
            continue
        row = dict(zip(names, fields, strict=True))
        for name in numbers & row.keys():
            if "\n" in row[name]:
                raise csv.Error(
                    f"line {lines.line_num} ends a quoted {name!r} of several lines, "
                    f"{shown(row[name])}: a quote before it was not closed"
                )
        yield {k: _number(v) if k in numbers else _text(v) for k, v in row.items()}


def _text(value: str) -> str | bytes:
    """Text, or the bytes that are no UTF-8: they make that record alone a dead letter."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="surrogateescape")
    return value


def _number(text: str) -> float | str | bytes:
    """A number, or the text that is none: it makes that record alone a dead letter."""
    if "_" in text:  # Python's own 1_000
        return _text(text)
    try:
        return float(text) if not text.lstrip("-").isdecimal() else int(text)
    except ValueError:
        return _text(text)


def _parquet(stream: BinaryIO, _: Collection[str]) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(stream).iter_batches():
        yield from batch.to_pylist()


def _arrow(stream: BinaryIO, _: Collection[str]) -> Iterator[dict[str, Any]]:
    reader = pa.ipc.open_file(stream)
    for i in range(reader.num_record_batches):
        yield from reader.get_batch(i).to_pylist()


def _json_lines(stream: BinaryIO, _: Collection[str]) -> Iterator[dict[str, Any]]:
    for line in stream:
        if line.strip():
            yield json_record(line)


def json_record(text: bytes) -> dict[str, Any]:
    """A record from a JSON object; of other bytes one that says so, and becomes a dead letter."""
    try:
        record = json.loads(text)
        if b"\\u" in text:  # it may be half of a surrogate pair, which no coder can encode
            json.dumps(record, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict):
        return record
    return {UNREADABLE: "it is no JSON object", "text": text.strip()}


def number_columns(columns: Columns) -> list[str]:
    """The columns of a text file that are read as numbers where they can be.

    Not that of the time: 20140701 is a day, and 1404172800 are seconds since 1970.
    """
    more = [name for name in (columns.sequence, columns.weight) if name is not None]
    return [*columns.fields, *columns.targets, *more]
