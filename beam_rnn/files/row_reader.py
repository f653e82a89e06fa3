"""The rows of a file as dicts, by suffix: CSV, Parquet, Arrow or JSON lines."""

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam_rnn.core.errors import BeamRnnError, shown
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import is_day
from beam_rnn.files.formats import codec, suffix
from beam_rnn.records.arrow_batches import to_dicts
from beam_rnn.records.field_values import ROW, UNREADABLE

ALL = ["all"]
"""The value of `keep` for all columns except `filename`."""
AS_WRITTEN = "\0as written"
"""The field with the original text of numbers that Python writes differently; no column's name."""
ROWS_OF_A_FILE = 1 << 40
"""Maximum number of rows in a file, if the place of a record is its sequence number."""


class UnreadableFileError(BeamRnnError):
    """A file has not the format that its suffix says."""


class Source(NamedTuple):
    """A file, and its columns that are not only text.

    Attributes:
        path: Its path.
        numbers: The columns that hold numbers.
        keep: The columns whose original text is kept.
    """

    path: str
    numbers: frozenset[str]
    keep: Collection[str]


def records_of(
    opened: Any,
    path: str,
    root: str = "",
    columns: Columns | None = None,
    keep: Collection[str] = (),
    place: int = 0,
) -> Iterator[dict[str, Any]]:
    """Yield the records of one file.

    Args:
        opened: The file, as binary.
        path: Its path.
        root: The folder to which `filename` is relative.
        columns: Which fields mean what; without them all text of a CSV file stays text.
        keep: The columns whose original text is kept, in the field `AS_WRITTEN`.
        place: The index of the file among several, in the order of their paths.

    Raises:
        UnreadableFileError: It is truncated, broken, or has another format than its suffix says.
    """
    numbers = frozenset() if columns is None else frozenset(number_columns(columns))
    first: dict[str, Any] = {"filename": name_below(path, root)}
    with_row = has_row(columns)
    time = None if columns is None or columns.time_format is not None else columns.time
    records = rows_of(opened, Source(path, numbers, keep))
    for row, record in enumerate(records, place * ROWS_OF_A_FILE):
        if with_row:
            first[ROW] = row
        if time is not None and type(record.get(time)) is int and is_day(str(record[time])):
            record[time] = str(record[time])  # as it is in a CSV file
        yield first | record


def has_row(columns: Columns | None) -> bool:
    """Return True if the place of a record in its file is its sequence number."""
    return columns is not None and columns.sequence == ROW


def name_below(path: str, root: str) -> str:
    """Return the path of a file, below a folder if one is given."""
    return os.path.relpath(path, root) if root else path


def root_of(pattern: str) -> str:
    """Return the folder of a pattern, up to its first wildcard."""
    return os.path.dirname(re.split(r"[*?\[{]", pattern, maxsplit=1)[0])


def rows_of(opened: Any, source: Source) -> Iterator[dict[str, Any]]:
    """Yield the records of a file; raise an error that names it if its content is broken."""
    path, ending = source.path, suffix(source.path)
    try:
        text = ending in (".csv", ".jsonl")
        yield from _READERS[ending](content(opened, path) if text else opened, source)
    except BeamRnnError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # not of the content
            raise
        raise UnreadableFileError(
            f"{path!r} cannot be read as a {ending} file, it is truncated, broken or of another "
            f"format: {error}"
        ) from error


_LOOKS = (
    (rb"\x1f\x8b", "is compressed by gzip: let its name end in .gz"),
    (rb"BZh[1-9]1AY", "is compressed by bzip2: let its name end in .bz2"),
    (rb"\x28\xb5\x2f\xfd", "is compressed by zstd: let its name end in .zst"),
    (rb"PAR1[^ -~]", "is a Parquet file: let its name end in .parquet"),
    (rb"ARROW1\0", "is an Arrow file: let its name end in .arrow"),
    (rb"PK\x03\x04", "is a zip file, as those of Excel are: save its content as CSV"),
    (rb"\xd0\xcf\x11\xe0", "is a file of Excel: save its content as CSV"),
    (rb"\xff\xfe|\xfe\xff|\0[ -~]|[ -~]\0", "is UTF-16 text: save it as UTF-8"),
)
"""The first bytes of files that are not text, and what the error says about them."""


def content(opened: Any, path: str) -> io.BufferedReader:
    """Return the content of a text file, decompressed.

    Raises:
        UnreadableFileError: It does not contain text.
    """
    packed = codec(path)
    stream: io.BufferedReader = io.BufferedReader(Plain(opened))
    if packed is not None:
        if not stream.peek(1):
            raise UnreadableFileError(f"{path!r} is empty: there is nothing in it to decompress")
        unpacked = pa.CompressedInputStream(pa.PythonFile(stream, "r"), packed)
        stream = io.BufferedReader(Plain(unpacked))
    begins = stream.peek(16)[:16]
    for pattern, looks in _LOOKS:
        if re.match(pattern, begins):
            raise UnreadableFileError(f"{path!r} {looks}")
    return stream


class Plain(io.RawIOBase):
    """A file that Beam opened, as one of Python's own classes.

    Args:
        opened: A file that Beam's filesystems opened.
    """

    def __init__(self, opened: Any):
        super().__init__()
        self._opened = opened

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer."""
        data = self._opened.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _csv(stream: BinaryIO, source: Source) -> Iterator[dict[str, Any]]:
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text)
    rows = lines.rows()
    names = next(rows, [])
    check_header(names, source.path)
    numbers = source.numbers & set(names)
    written = numbers if source.keep == ALL else numbers & set(source.keep)
    for fields in rows:
        if not fields:  # an empty line
            continue
        if len(fields) != len(names):
            yield {
                UNREADABLE: f"a line of {len(fields)} fields, not {len(names)}",
                "line": lines.count,
                "fields": [text_or_bytes(field) for field in fields],
            }
            continue
        row = dict(zip(names, fields, strict=True))
        for name in numbers:
            if "\n" in row[name]:
                raise csv.Error(
                    f"line {lines.count} ends a quoted {name!r} of several lines, "
                    f"{shown(row[name])}: a quote before it was not closed"
                )
        record: dict[str, Any] = {
            k: number(v) if k in numbers else text_or_bytes(v) for k, v in row.items()
        }
        if written:
            texts = {name: row[name] for name in written if str(record[name]) != row[name]}
            yield record | {AS_WRITTEN: {name: text_or_bytes(text) for name, text in texts.items()}}
        else:
            yield record


class _Lines:
    """Counts the lines of a CSV file.

    Args:
        text: The file.
    """

    def __init__(self, text: Iterable[str]):
        self._text = text
        self._of_row: list[str] = []
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.count += 1
            self._of_row.append(line)
            yield line
        self._of_row.append("")  # a quote that is still open takes one more line
        yield ""

    def rows(self) -> Iterator[list[str]]:
        """Yield the fields of each row; an empty line has none.

        Raises:
            csv.Error: A row of several lines is not quoted correctly: they may be other rows.
        """
        for fields in csv.reader(self):
            if len(self._of_row) > 1:
                try:
                    list(csv.reader(self._of_row, strict=True))
                except csv.Error as error:
                    first = self.count + 1 - sum(map(bool, self._of_row))
                    raise csv.Error(
                        f"a quote in line {first}, {shown(self._of_row[0])}, is not closed: {error}"
                    ) from error
            self._of_row.clear()
            yield fields


def check_header(names: Sequence[str], path: str) -> None:
    """Raise if the names of columns are not distinct or not readable.

    Raises:
        UnreadableFileError: They are not.
    """
    check_names([name for name in names if name], path)
    for name in names:
        text = text_or_bytes(name)
        if isinstance(text, bytes):
            raise UnreadableFileError(
                f"{path!r} has a header that is not UTF-8, {shown(text)}: save it as UTF-8, with "
                "`iconv -f latin1 -t utf8` if it is Latin-1"
            )
    if len(names) == 1:
        for mark, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if mark in names[0]:
                raise UnreadableFileError(
                    f"{path!r} has columns separated by {called}, {shown(names[0])}: a CSV file "
                    "needs commas between columns, and points in numbers"
                )


def check_names(names: Sequence[str], path: str) -> None:
    """Raise if two columns of a file have one name.

    Raises:
        UnreadableFileError: They have.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UnreadableFileError(f"{path!r} has two columns named {twice[0]!r}: rename one")


def text_or_bytes(value: str) -> str | bytes:
    """Return text, or bytes that are not UTF-8: only their record then is a dead letter."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="surrogateescape")
    return value


def number(text: str) -> float | str | bytes | None:
    """Return a number, or text that is none: only its record then is a dead letter."""
    if not text:
        return None
    if "_" in text:  # Python's own 1_000
        return text_or_bytes(text)
    try:
        return float(text) if not text.lstrip("-").isdecimal() else int(text)
    except ValueError:
        return text_or_bytes(text)


def _parquet(stream: BinaryIO, source: Source) -> Iterator[dict[str, Any]]:
    file = pq.ParquetFile(stream)
    check_names(file.schema_arrow.names, source.path)
    for batch in file.iter_batches():
        batch.validate(full=True)
        yield from to_dicts(batch)


def _arrow(stream: BinaryIO, source: Source) -> Iterator[dict[str, Any]]:
    reader = pa.ipc.open_file(stream)
    check_names(reader.schema.names, source.path)
    for i in range(reader.num_record_batches):
        batch = reader.get_batch(i)
        batch.validate(full=True)
        yield from to_dicts(batch)


def _json_lines(stream: BinaryIO, _: Source) -> Iterator[dict[str, Any]]:
    for line in stream:
        if line.strip():
            yield json_record(line)


_READERS: dict[str, Callable[[Any, Source], Iterator[dict[str, Any]]]]
_READERS = {".csv": _csv, ".parquet": _parquet, ".arrow": _arrow, ".jsonl": _json_lines}


def json_record(text: bytes) -> dict[str, Any]:
    """Return the record of a JSON object; other bytes give one that becomes a dead letter."""
    try:
        record = json.loads(text, object_pairs_hook=_each_once)
        if b"\\u" in text:  # it may be half of a surrogate pair, which no coder can encode
            json.dumps(record, ensure_ascii=False).encode()
    except _NamedTwiceError as error:
        return {UNREADABLE: str(error), "text": text.strip()}
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict):
        return record
    return {UNREADABLE: "it is no JSON object", "text": text.strip()}


class _NamedTwiceError(ValueError):
    """A JSON object has two fields of one name."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise _NamedTwiceError(f"it has two fields {name!r}")
    return found


def number_columns(columns: Columns) -> list[str]:
    """Return the columns of a text file that are read as numbers if possible.

    Without that of the time: 20140701 is a day, and 1404172800 are seconds since 1970.
    """
    more = [name for name in (columns.sequence, columns.weight) if name is not None]
    return [*columns.fields, *columns.targets, *more]
