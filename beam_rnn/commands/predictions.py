"""Predictions as rows of a file, with a column for each output."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_rnn.files.writing import WriteFile
from beam_rnn.rows import Prediction

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
        self._names = [f"{output}_prediction" for output in outputs]

    def expand(self, pcoll: beam.PCollection[Prediction]) -> Any:
        """Rows, then the file."""
        names = self._names
        schema = pa.schema(
            [("key", pa.string()), ("time", UTC), ("step", pa.int64())]
            + [(name, pa.float64()) for name in names]
            + [("model", pa.string())]
        )

        def row(prediction: Prediction) -> dict[str, Any]:
            return {
                "key": prediction.key,
                "time": utc(prediction.time),
                "step": prediction.step,
                **dict(zip(names, prediction.outputs, strict=True)),
                "model": prediction.model,
            }

        return pcoll | "Rows" >> beam.Map(row) | "Write" >> WriteFile(self._path, schema)


def utc(micros: int) -> datetime:
    """An event time as a datetime."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
