"""Predictions as rows of a file, with columns of their records beside them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import as_datetime
from beam_rnn.files.row_reader import ALL, AS_WRITTEN
from beam_rnn.files.write import WriteFile
from beam_rnn.records.result_columns import (
    UTC,
    arrow_fields,
    prediction_columns,
    prediction_values,
)
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
        self._write = WriteFile(path)

    def expand(self, pcoll: beam.PCollection[tuple[Any, Prediction]]) -> Any:
        """Rows of each key, sorted, then the file."""
        columns = list(prediction_columns(self._outputs))
        own, keep = (self._columns.key, self._columns.time), self._keep

        def keyed(record: Mapping[str, Any] | None, row: Prediction) -> tuple[str, Any]:
            place = row.time, row.sequence, row.step
            return row.key, (place, beside(record, to_row(row, columns), own, keep))

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
    """Return a row with fields of its record, behind key and time.

    A field keeps its name, with the prefix `record_` if the row has a column of that name. The key
    and the time of the record, as they were, replace those of the row.

        >>> row = {"key": "a", "time": 0, "x_prediction": 2.5}
        >>> list(beside({"time": "1970", "key": "T", "x": 2}, row, ("id", "time"), ALL).items())
        [('key', 'a'), ('time', '1970'), ('record_key', 'T'), ('x', 2), ('x_prediction', 2.5)]

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
    first = {name: row[name] for name in ("key", "time")}
    kept = {}
    for name in names:
        value = written.get(name, fields.get(name))
        if name in first and name in own:
            first[name] = first[name] if record is None else value
        else:
            kept[f"record_{name}" if name in row else name] = value
    rest = {name: value for name, value in row.items() if name not in first}
    return {**first, **kept, **rest}


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
        columns = prediction_columns(self._outputs)
        own = [pa.field("key", pa.string()), pa.field("time", UTC)]
        schema = pa.schema([*own, *arrow_fields(columns, text=pa.string())])
        rows = pcoll | "Rows" >> beam.Map(to_row, list(columns))
        return rows | "Write" >> WriteFile(self._path, schema)


def to_row(prediction: Prediction, columns: Sequence[str]) -> dict[str, Any]:
    """Return a prediction as a row, with the columns that `prediction_columns` names."""
    values = zip(columns, prediction_values(prediction), strict=True)
    return {"key": prediction.key, "time": as_datetime(prediction.time), **dict(values)}
