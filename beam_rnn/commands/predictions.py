"""Predictions as rows of a file, with a column for each output."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_rnn.files.write import WriteFile
from beam_rnn.records.results import Prediction

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
