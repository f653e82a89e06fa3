"""Exports the hidden states of a job, and imports them into another."""

import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from beam_rnn.engine.exported_states import OPEN, SCHEMA, read_states, to_row
from beam_rnn.records.results import EndedSequence
from beam_rnn.training.model_files import check_prefix, newest
from beam_rnn.transforms.arguments import path_of


class ExportStates(beam.PTransform):
    """Writes the last hidden state of each key to Parquet files; gives the names of the files.

    With the `.ended` of a `Predict(with_state=True)` over a history, a stream can start where the
    history ends: `Predict(states=p | ImportStates(...))`. A key whose last sequence was ended by a
    mark has no state to continue from, and no row.

    Args:
        prefix: The prefix of the file names, on any filesystem that Beam knows. Files that an
            earlier run wrote with the same prefix, and the same number of files, are replaced.

    Raises:
        ConfigurationError: The prefix contains `*`, `?` or `[`, or ends in a slash.
    """

    def __init__(self, prefix: str | os.PathLike[str]):
        super().__init__()
        self._prefix = path_of("prefix", prefix)
        check_prefix(f"prefix {self._prefix!r}", self._prefix)

    def expand(self, pcoll: PCollection[EndedSequence]) -> Any:
        """Write the last sequence of each key as a row."""
        return (
            pcoll
            | "Key" >> beam.Map(lambda ended: (ended.key, ended))
            | "Last" >> beam.CombinePerKey(_LastOfKey())
            | "Open" >> beam.Filter(lambda pair: pair[1].reason in OPEN)
            | "Row" >> beam.Map(lambda pair: to_row(pair[1]))
            | "Write" >> beam.io.WriteToParquet(self._prefix, SCHEMA, file_name_suffix=".parquet")
        )


class ImportStates(beam.PTransform):
    """Reads hidden states that `ExportStates` wrote, for `Predict(states=...)`.

    Each row is verified by its digest: one that was altered stops the pipeline.

    Args:
        pattern: A file or a pattern of files.

    Raises:
        FileNotFoundError: At construction of the pipeline: there is no file.
        StateError: On a worker: a file is truncated, altered, or of another format.
    """

    def __init__(self, pattern: str | os.PathLike[str]):
        super().__init__()
        self._pattern = path_of("pattern", pattern)

    def expand(self, pbegin: Any) -> PCollection[tuple[str, bytes]]:
        """Match the files and read each; a row is a key and its state."""
        newest(self._pattern)
        return (
            pbegin
            | "Match" >> fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.DISALLOW)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(_states_of).with_output_types(tuple[str, bytes])
        )


def _states_of(found: FileMetadata) -> Iterator[tuple[str, bytes]]:
    """Yield the states of a file."""
    with FileSystems.open(found.path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        yield from read_states(file, found.size_in_bytes, found.path)


class _LastOfKey(beam.CombineFn):
    """The sequence of a key that ended last."""

    def create_accumulator(self) -> EndedSequence | None:
        """None so far."""
        return None

    def add_input(
        self, mutable_accumulator: EndedSequence | None, element: EndedSequence
    ) -> EndedSequence:
        """The later of two."""
        if mutable_accumulator is None:
            return element
        return max(mutable_accumulator, element, key=_place)

    def merge_accumulators(self, accumulators: Any) -> EndedSequence | None:
        """The latest of all."""
        return max((a for a in accumulators if a is not None), key=_place, default=None)

    def extract_output(self, accumulator: EndedSequence) -> EndedSequence:
        """The latest of all."""
        return accumulator


def _place(ended: EndedSequence) -> tuple[int, int, bool, int]:
    return ended.last_time, ended.sequence, ended.reason in OPEN, ended.steps
