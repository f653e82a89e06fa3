"""Rows whose columns are known into one file, by its suffix."""

from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filebasedsink import FileBasedSink
from apache_beam.io.filesystem import CompressionTypes

from beam_rnn.files.lines import csv_line, json_line
from beam_rnn.files.suffixes import whole_suffix


class WriteFile(beam.PTransform):
    """Rows, as dicts, into one file.

    Args:
        path: The file.
        schema: The columns and their types.
    """

    def __init__(self, path: str, schema: pa.Schema):
        super().__init__()
        self._suffix = whole_suffix(path)
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
