"""Turns records into sequences, as rows."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Optional

import apache_beam as beam
import numpy as np
from apache_beam import PCollection
from apache_beam.coders import registry

from beam_rnn.core.arrays import Array
from beam_rnn.data import sequences as batches
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Part
from beam_rnn.portable.arguments import by_name, made
from beam_rnn.portable.error_rows import output_name, with_refused
from beam_rnn.portable.schemas import check_fields
from beam_rnn.transforms.sequences import Sequences


class SequenceRow(NamedTuple):
    """A `beam_rnn.Sequence` as a row.

    Attributes:
        key: The key.
        times: The event time of each step, in microseconds since 1970.
        inputs: For each step the numbers that the network sees, as recorded.
        targets: For each step what the output after it should be.
        weights: For each step the weights of its targets; empty if all count alike.
        symbols: For each field of symbols the text of each step; empty if they are inputs.
        until: The event time of the last record that is part of it.
        whole: The longer sequence of which it is a part; empty if it is a whole one.
        part: The number of the part: 0 for the first.
        columns: The columns as JSON.
    """

    key: str
    times: Sequence[int]
    inputs: Sequence[Sequence[float]]
    targets: Sequence[Sequence[float]]
    weights: Sequence[Sequence[float]]
    symbols: Sequence[Sequence[str]]
    until: int
    whole: str
    part: int
    columns: str


registry.register_row(SequenceRow)


def row_of(sequence: batches.Sequence) -> SequenceRow:
    """Return a sequence as a row."""
    weights, part = sequence.weights, sequence.part
    return SequenceRow(
        sequence.key,
        sequence.times.tolist(),
        sequence.inputs.tolist(),
        sequence.targets.tolist(),
        [] if weights is None else weights.tolist(),
        [list(texts) for texts in sequence.symbols],
        sequence.until,
        "" if part is None else f"{part.sequence:016x}",
        0 if part is None else part.number,
        json.dumps(sequence.columns.to_json()),
    )


def sequence_of(row: SequenceRow) -> batches.Sequence:
    """Return the sequence of a row, bit for bit."""
    return batches.Sequence(
        _columns(row.columns),
        row.key,
        np.array(row.times, np.int64),
        _matrix(row.inputs),
        _matrix(row.targets),
        row.until,
        _matrix(row.weights) if len(row.weights) else None,
        Part(int(row.whole, 16), row.part) if row.whole else None,
        tuple(tuple(texts) for texts in row.symbols),
    )


def _matrix(steps: Sequence[Sequence[float]]) -> Array:
    return np.array([list(step) for step in steps], np.float64).reshape(len(steps), -1)


@lru_cache
def _columns(text: str) -> Columns:
    return Columns(**json.loads(text))


class RnnSequences(beam.PTransform):
    """Turns records, in any order and in any windows, into sequences for training.

    Each becomes a row, which `RnnTrain` takes.

        >>> sequences = RnnSequences(columns={"key": "city", "inputs": ["load"]}, length=100)
        >>> sequences.label
        'RnnSequences'

    Args:
        columns: Which fields of a record mean what: a mapping with the names of
            `beam_rnn.Columns`, such as {key: city, time: at, inputs: [load], horizon: 1}.
        length: Steps in a sequence; all of a key's records in one if left out.
        stride: Steps from the start of one sequence to the start of the next; `length` if left
            out.
        fraction: Take this first part of each key's records, in time: 0.6 leaves the last 40 %
            for evaluation.
        idle_after: A sequence ends if the next record is more than this number of seconds later.
        parts_of: Give each whole sequence in parts of this number of steps, for sequences longer
            than memory.
        error_handling: {output: NAME} gives records that cannot be used as a further output;
            without it they stop the pipeline.

    Raises:
        ConfigurationError: A name that does not exist, or a value outside its range; at
            construction of the pipeline, a field that is not there.
    """

    @by_name
    def __init__(
        self,
        columns: Mapping[str, Any],
        length: Optional[int] = None,
        stride: Optional[int] = None,
        fraction: float = 1.0,
        idle_after: Optional[float] = None,
        parts_of: Optional[int] = None,
        error_handling: Optional[Mapping[str, Any]] = None,
    ):
        super().__init__()
        self._output = output_name(error_handling)
        self._columns = made(Columns, "columns", columns)
        self._sequences = Sequences(
            self._columns,
            length,
            stride,
            fraction,
            idle_after=idle_after,
            parts_of=parts_of,
        ).with_exception_handling()

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Cut, and make rows."""
        check_fields(pcoll, "RnnSequences", self._columns, targets=True, weight=True)
        sequences, invalid = pcoll | "Sequences" >> self._sequences
        rows = sequences | "Rows" >> beam.Map(row_of).with_output_types(SequenceRow)
        return with_refused(rows, self._output, invalid, drops=self._columns.missing == "drop")
