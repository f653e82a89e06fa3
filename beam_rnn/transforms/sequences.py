"""Turns records into sequences."""

from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_number, check_whole, micros
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import INVALID, InvalidRecord, LateRecord, SequenceGap
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.packing import PackRecords, batch_type
from beam_rnn.streaming.read_records import ReadRecords
from beam_rnn.streaming.sources import LastRecordsSource
from beam_rnn.transforms.arguments import check_type, closing_of, take_one
from beam_rnn.transforms.cut_sequences import CutSequences
from beam_rnn.transforms.stream_outputs import check_records, step_keys


class SequencesOutputs(NamedTuple):
    """The outputs of `Sequences(...).with_exception_handling()`."""

    sequences: PCollection[Sequence]
    invalid: PCollection[InvalidRecord]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class Sequences(beam.PTransform):
    """Turns records, in any order and in any Beam windows, into sequences for training.

    The records of each key and window are sorted by event time, equal ones count once, and
    each step gets as its target the record `columns.horizon` later.

    A record that cannot be used stops the pipeline with an error that names the value. To continue
    without it, take it as a dead letter:

        sequences, invalid = records | Sequences(columns).with_exception_handling()

    Args:
        columns: Which fields of a record mean what.
        length: Steps in a sequence; all of a key's records in one if left out. The last sequence of
            a key may be shorter.
        stride: Steps from the start of one sequence to the start of the next; `length` if left out.
        fraction: Take this first part of each key's records, in time: 0.6 leaves the last 40 % for
            evaluation.
        idle_after: A sequence ends if the next record is more than this number of seconds later, as
            in `Predict`; None for no such limit. It ends at the start and end marks of the columns
            too.
        parts_of: Give each whole sequence in parts of this number of steps, between which training
            carries the hidden state: for sequences longer than memory. Best a multiple of k, since
            no gradient passes from part to part.

    Raises:
        ConfigurationError: A number outside its range.
    """

    def __init__(
        self,
        columns: Columns,
        length: int | None = None,
        stride: int | None = None,
        fraction: float = 1.0,
        *,
        idle_after: float | None = None,
        parts_of: int | None = None,
    ):
        super().__init__()
        check_type("columns", columns, Columns)
        for name, value in (("length", length), ("stride", stride), ("parts_of", parts_of)):
            if value is not None:
                check_whole(name, value)
        if stride is not None and length is None:
            raise ConfigurationError(f"stride={stride!r} needs a length")
        if parts_of is not None and length is not None:
            raise ConfigurationError(
                f"parts_of={parts_of!r} is for whole sequences, got length={length!r}"
            )
        check_number("fraction", fraction)
        if not 0 < fraction <= 1:
            raise ConfigurationError(f"fraction must be in (0, 1], got {fraction!r}")
        self._columns = columns
        self._length = length
        self._stride = stride
        self._fraction = fraction
        self._idle_after = micros("idle_after", idle_after)
        self._parts_of = parts_of
        self._dead_letters = False

    def with_exception_handling(self) -> "Sequences":
        """Make dead letters instead of an error: the result is `SequencesOutputs`."""
        self._dead_letters = True
        return self

    def expand(self, pcoll: PCollection[Any]) -> Any:
        """Read and check, group by key, sort and cut."""
        kind = batch_type(pcoll)
        if kind is not None:
            raise ConfigurationError(
                f"Sequences takes rows, and the records come as Arrow batches ({kind.__name__}): "
                "read them with ReadFromParquet, or make rows with "
                "beam.FlatMap(lambda batch: batch.to_pylist())"
            )
        reader = partial(RecordReader, self._columns, targets=True)
        read = ReadRecords(reader, strict=not self._dead_letters)
        checked = pcoll | "Read" >> beam.ParDo(read).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="checked")
        cut = CutSequences(
            self._columns,
            self._length,
            self._stride,
            self._fraction,
            self._idle_after,
            self._parts_of,
        )
        sequences = (
            checked.checked
            | "ByKey" >> beam.GroupByKey()
            | "Cut" >> beam.ParDo(cut).with_output_types(Sequence)
        )
        return SequencesOutputs(sequences, checked.invalid) if self._dead_letters else sequences


class LastRecordsOutputs(NamedTuple):
    """The outputs of `LastRecords`.

    Attributes:
        sequences: One for each record that completes a step.
        late: Records that came after later ones of their key had been taken.
        invalid: Dead letters: records that cannot be used, with the reason.
        gaps: Sequence numbers that did not arrive in time, with order="sequence".
    """

    sequences: PCollection[Sequence]
    late: PCollection[LateRecord]
    invalid: PCollection[InvalidRecord]
    gaps: PCollection[SequenceGap]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class LastRecords(beam.PTransform):
    """Gives the last `length` steps of a key as a sequence, at every record, in a stream too.

    For models that see a window of records at once, such as a bidirectional network. Records are
    checked and ordered, and late ones are found, as in `Predict`.

    Args:
        columns: Which fields of a record mean what. A step has a target: with horizon=0 that of
            its own record, else it is complete once that many more records have arrived.
        length: Steps in a sequence; fewer until the key has had that many.
        order: As for `Predict`.
        wait: As for `Predict`.
        grid: As for `Predict`.
        max_jump: As for `Predict`.
        idle_after: As for `Predict`.

    Raises:
        ConfigurationError: A value outside its range; at construction of the pipeline, a
            merging window.
    """

    def __init__(
        self,
        columns: Columns,
        length: int,
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        *,
        idle_after: float | None = None,
        max_jump: int | None = None,
    ):
        super().__init__()
        check_type("columns", columns, Columns)
        check_whole("length", length)
        if not columns.has_vocabularies:
            raise ConfigurationError(
                f"LastRecords needs the vocabularies of symbols={list(columns.symbols)}: name them "
                "in Columns(vocabularies=...), or take the columns of a model"
            )
        self._columns = columns
        self._order = order_of(order, wait, grid, max_jump)
        self._idle_after = micros("idle_after", idle_after)
        self._length = length

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, then gather those of its key."""
        closing = closing_of(pcoll, "LastRecords", self._order)
        reader = partial(ColumnReader, self._columns, targets=True)
        checked = check_records(pcoll, PackRecords(reader))
        source = LastRecordsSource(self._columns, self._length, self._idle_after)
        step = beam.ParDo(StepKeys(source, self._order, self._idle_after, closing=closing))
        return step_keys(checked, step, "Gather", LastRecordsOutputs, Sequence, refuses=False)
