"""Hidden states from one job to another."""

import os
from typing import Any

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.moving import OPEN, SCHEMA, LastOfKey, from_row, to_row
from beam_rnn.rows import EndedSequence
from beam_rnn.transforms.arguments import path_of


class ExportStates(beam.PTransform):
    """Writes the hidden states that keys ended with to Parquet files; gives their names.

    From the `.ended` of a `Predict(with_state=True)` over a history, a stream can start where the
    history ends: `Predict(states=p | ImportStates(...))`. A key whose last sequence was ended by a
    mark has no state to go on from, and no row.

    Args:
        prefix: What the names of the files begin with, on any filesystem that Beam knows.
    """

    def __init__(self, prefix: str | os.PathLike[str]):
        super().__init__()
        self._prefix = path_of("prefix", prefix)

    def expand(self, pcoll: PCollection[EndedSequence]) -> Any:
        """The last sequence of each key, as rows."""
        return (
            pcoll
            | "Key" >> beam.Map(lambda ended: (ended.key, ended))
            | "Last" >> beam.CombinePerKey(LastOfKey())
            | "Open" >> beam.Filter(lambda pair: pair[1].reason in OPEN)
            | "Row" >> beam.Map(lambda pair: to_row(pair[1]))
            | "Write" >> beam.io.WriteToParquet(self._prefix, SCHEMA, file_name_suffix=".parquet")
        )


class ImportStates(beam.PTransform):
    """Reads hidden states that `ExportStates` wrote, for `Predict(states=...)`.

    Args:
        pattern: A file or a pattern of files.
    """

    def __init__(self, pattern: str | os.PathLike[str]):
        super().__init__()
        self._pattern = path_of("pattern", pattern)

    def expand(self, pbegin: Any) -> PCollection[tuple[str, bytes]]:
        """Read rows; each is a key and its state."""
        rows = pbegin | "Read" >> beam.io.ReadFromParquet(self._pattern)
        return rows | "State" >> beam.Map(from_row).with_output_types(tuple[str, bytes])
