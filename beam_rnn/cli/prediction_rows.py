"""Predictions as rows of a file, with columns of their records beside them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_rnn.data.columns import Columns
from beam_rnn.files.read import ALL, AS_WRITTEN
from beam_rnn.files.write import WriteFile, WriteTable
from beam_rnn.records.results import Prediction


class WriteKept(beam.PTransform):
    """Pairs of a record and its prediction into one file, by key and in order.

    Args:
        path: The file; its suffix says how it is written.
        outputs: The names of the outputs.
        columns: Which fields of a record are its key and its time.
        keep: The fields of the record to write; or `ALL`.
    """

    def __init__(self, path: str, outputs: Sequence[str], columns: Columns, keep: Sequence[str]):
        super().__init__()
        self._outputs, self._columns, self._keep = outputs, columns, keep
        self._write = WriteTable(path)

    def expand(self, pcoll: beam.PCollection[tuple[Any, Prediction]]) -> Any:
        """Rows of each key, sorted, then the file."""
        outputs, own, keep = self._outputs, (self._columns.key, self._columns.time), self._keep

        def keyed(record: Mapping[str, Any] | None, row: Prediction) -> tuple[str, Any]:
            place = row.time, row.sequence, row.step
            return row.key, (place, beside(record, to_row(row, outputs), own, keep))

        return (
            pcoll
            | "Rows" >> beam.MapTuple(keyed)
            | "ByKey" >> beam.GroupByKey()
            | "InOrder" >> beam.MapTuple(lambda key, rows: (key, _in_order(rows)))
            | "Write" >> self._write
        )


def _in_order(rows: Any) -> list[Mapping[str, Any]]:
    return [row for _, row in sorted(rows, key=lambda each: each[0])]


def beside(
    record: Mapping[str, Any] | None,
    row: Mapping[str, Any],
    own: Collection[str | None],
    keep: Sequence[str],
) -> dict[str, Any]:
    """A row with fields of its record, behind key, time and step.

    A field has its own name, and `record_` before it where the row has one of that name: but the
    key and the time of the record stand in the place of those of the row, as they were.

        >>> row = {"key": "a", "time": 0, "step": 1, "x_prediction": 2.5, "model": "3f"}
        >>> list(beside({"time": "1970", "model": "T"}, row, ("id", "time"), ALL).items())[1:4]
        [('time', '1970'), ('step', 1), ('record_model', 'T')]

    Args:
        record: The record; None where it cannot be told which it was.
        row: The row of its prediction.
        own: The names of its key and its time.
        keep: The names of the fields; or `ALL`.
    """
    fields = record or {}
    written = fields.get(AS_WRITTEN, {})
    own_names = [name for name in fields if name not in ("filename", AS_WRITTEN)]
    names = own_names if keep == ALL else keep
    first = {name: row[name] for name in ("key", "time", "step")}
    kept = {}
    for name in names:
        value = written.get(name, fields.get(name))
        if name in first and name in own:
            first[name] = first[name] if record is None else value
        else:
            kept[f"record_{name}" if name in row else name] = value
    rest = {name: value for name, value in row.items() if name not in first}
    return {**first, **kept, **rest}


UTC = pa.timestamp("us", "UTC")


class WritePredictions(beam.PTransform):
    """Predictions into one file, a column for each output.

    Args:
        path: The file; its suffix says how it is written.
        outputs: The names of the outputs.
    """

    def __init__(self, path: str, outputs: Sequence[str]):
        super().__init__()
        self._path = path
        self._outputs = outputs

    def expand(self, pcoll: beam.PCollection[Prediction]) -> Any:
        """Rows, then the file."""
        outputs = self._outputs
        schema = pa.schema(
            [("key", pa.string()), ("time", UTC), ("step", pa.int64())]
            + [(column_of(output), pa.float64()) for output in outputs]
            + [("model", pa.string())]
        )
        rows = pcoll | "Rows" >> beam.Map(to_row, outputs)
        return rows | "Write" >> WriteFile(self._path, schema)


def to_row(prediction: Prediction, outputs: Sequence[str]) -> dict[str, Any]:
    """A prediction as a row, with a column for each of the outputs that are named."""
    return {
        "key": prediction.key,
        "time": utc(prediction.time),
        "step": prediction.step,
        **dict(zip(map(column_of, outputs), prediction.outputs, strict=True)),
        "model": prediction.model,
    }


def column_of(output: str) -> str:
    """The column of an output."""
    return f"{output}_prediction"


def utc(micros: int) -> datetime:
    """An event time as a datetime."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
