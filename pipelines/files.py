"""Records from files and rows to files, by suffix: CSV, Parquet, Arrow or JSON lines."""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io import fileio
from apache_beam.io.filebasedsink import FileBasedSink
from apache_beam.io.filesystem import CompressionTypes

from beam_rnn.errors import BeamRnnError, ConfigurationError, shown

logger = logging.getLogger("beam_rnn.pipelines")

SUFFIXES = (".csv", ".parquet", ".arrow", ".jsonl")


class UnreadableFileError(BeamRnnError):
    """A file is not what its suffix says."""


def suffix(path: str) -> str:
    """The suffix that says how a file is written, without that of its compression.

    Raises:
        ConfigurationError: It is none of `SUFFIXES`.
    """
    ending = os.path.splitext(re.sub(r"\.(gz|bz2|zst)$", "", path))[1].lower()
    if ending not in SUFFIXES:
        raise ConfigurationError(f"a file must end in one of {', '.join(SUFFIXES)}, got {path!r}")
    return ending


def written_suffix(path: str) -> str:
    """The suffix that says how a file is to be written.

    Raises:
        ConfigurationError: It is none of `SUFFIXES`, or such a file is not compressed as a whole.
    """
    ending = suffix(path)
    if ending in (".arrow", ".parquet") and not path.lower().endswith(ending):
        raise ConfigurationError(f"{ending} files are not compressed as a whole, got {path!r}")
    return ending


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
        suffix(pattern)
        self._pattern = pattern
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
        with file.open() as stream:
            for record in readers[suffix(path)](stream, numbers):
                yield {"filename": name, **record}
    except (csv.Error, pa.ArrowException) as error:
        raise UnreadableFileError(
            f"{path!r} cannot be read as a {suffix(path)} file, it is cut, broken or of another "
            f"format: {error}"
        ) from error


def _csv(stream: BinaryIO, numbers: Collection[str]) -> Iterator[dict[str, Any]]:
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="")
    lines = csv.reader(text)
    names = next(lines, [])
    for fields in lines:
        if not fields:  # an empty line
            continue
        if len(fields) != len(names):
            what = f"a line of {len(fields)} fields, not {len(names)}"
            yield {what: [_text(field) for field in fields]}
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
    return record if isinstance(record, dict) else {"not a JSON object": text.strip()}


class WriteFile(beam.PTransform):
    """Rows, as dicts, into one file.

    Args:
        path: The file.
        schema: The columns and their types.
    """

    def __init__(self, path: str, schema: pa.Schema):
        super().__init__()
        self._suffix = written_suffix(path)
        self._path = path
        self._schema = schema

    def expand(self, pcoll: beam.PCollection[Mapping[str, Any]]) -> Any:
        """Format the rows where the file is text, and write."""
        one_file: dict[str, Any] = {"num_shards": 1, "shard_name_template": ""}
        names: Sequence[str] = self._schema.names
        if self._suffix == ".parquet":
            return pcoll | beam.io.WriteToParquet(self._path, self._schema, **one_file)
        if self._suffix == ".arrow":
            return pcoll | beam.io.Write(ArrowSink(self._path, self._schema))
        if self._suffix == ".csv":
            lines = pcoll | "Format" >> beam.Map(lambda row: csv_line([row[n] for n in names]))
            header: str | None = csv_line(names)
        else:
            lines = pcoll | "Format" >> beam.Map(json_line)
            header = None
        return lines | beam.io.WriteToText(self._path, header=header, **one_file)


class FormatAside(beam.DoFn):
    """Rows as JSON lines; the log shows the first of each bundle."""

    def start_bundle(self) -> None:
        """Nothing has been shown yet."""
        self._shown = False

    def process(self, element: Any) -> Iterator[str]:
        """A NamedTuple in, its line out."""
        line = json_line(element._asdict())
        if not self._shown:
            logger.warning("cannot use: %s", line)
            self._shown = True
        yield line


class WriteAside(beam.PTransform):
    """Records that could not be used, as NamedTuples, into a file of JSON lines.

    The log shows one of them and says how many there were; if there is none, there is no file.
    """

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Count and say, format and write."""
        path = self._path

        def say(count: int) -> None:
            if count:
                logger.warning("%d records could not be used: see %s", count, path)

        _ = pcoll | "Count" >> beam.combiners.Count.Globally() | "Say" >> beam.Map(say)
        lines = pcoll | "Format" >> beam.ParDo(FormatAside())
        return lines | "Write" >> beam.io.WriteToText(
            path, num_shards=1, shard_name_template="", skip_if_empty=True
        )


def json_line(row: Mapping[str, Any]) -> str:
    """One line of a file of JSON lines, without its end."""
    return json.dumps(row, default=str)


def csv_line(values: Sequence[Any]) -> str:
    """One line of a CSV file, without its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


class ArrowSink(FileBasedSink):
    """Rows into one Arrow IPC file."""

    ROWS_IN_A_BATCH = 10_000

    def __init__(self, path: str, schema: pa.Schema):
        super().__init__(
            path,
            coder=beam.coders.BytesCoder(),  # unused: rows never become bytes one by one
            num_shards=1,
            shard_name_template="",
            mime_type="application/vnd.apache.arrow.file",
            compression_type=CompressionTypes.UNCOMPRESSED,
        )
        self._schema = schema

    def open(self, temp_path: str) -> Any:
        """A writer and the rows of its next batch."""
        file = super().open(temp_path)
        return file, pa.ipc.new_file(file, self._schema), []

    def write_record(self, file_handle: Any, value: Mapping[str, Any]) -> None:
        """Add a row."""
        _, writer, rows = file_handle
        rows.append(value)
        if len(rows) == self.ROWS_IN_A_BATCH:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, self._schema))
            rows.clear()

    def close(self, file_handle: Any) -> None:
        """Write what is left and the footer."""
        file, writer, rows = file_handle
        if rows:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, self._schema))
        writer.close()
        super().close(file)
