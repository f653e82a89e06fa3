"""Predicts the records of a stream, as rows with a field for each output."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.portable.arguments import by_name, names_in
from beam_rnn.portable.error_rows import output_name, with_refused
from beam_rnn.portable.prediction_rows import KeptRows, PredictionRows
from beam_rnn.portable.schemas import check_fields, columns_of, model_of, types_of
from beam_rnn.transforms.join_records import JoinRecords
from beam_rnn.transforms.predict import Predict


class RnnPredict(beam.PTransform):
    """Carries each key's hidden state across its records; gives a row for each record.

    A row has the fields key, time (of the record, as ISO 8601 text), one for each output, named
    <output>_prediction, which is for the record `horizon` records later, prediction_step (1, 2,
    ...), prediction_model (the digest) and prediction_kernel. If the records have a sequence
    number, so has the row. The weights file names the outputs, so it must exist when the pipeline
    is built.

    Args:
        weights: The weights file, on any filesystem that Beam knows, or a pattern of files of which
            the last by name counts. It names the fields of a record that are read.
        order: "event_time" (records are buffered until the watermark has passed them), "sequence"
            (by the columns' sequence number) or "arrival" (each is stepped when it arrives).
        wait: Seconds to wait for a record beyond the watermark.
        grid: Records become due at multiples of this number of seconds.
        emit: "every" for a row for each record, "last" for one for each sequence that ended.
        idle_after: A sequence ends when no record has followed its last one for this number of
            seconds of event time; never if left out.
        timestamps: The timestamp of a row: "due" for the time at which its record became due, or
            "event" for that of the record, which may be late.
        on_model_change: What happens to a sequence that another model began: "error", "keep",
            "reset" or "replay".
        replay: How many of the last inputs are kept for "replay".
        watch: Look for a newer weights file at intervals of this number of seconds; never if left
            out.
        kernel: The implementation: "numpy", "fused" or "auto".
        shards: The number of shards into which keys are hashed; the keys of a shard are stepped
            together. Each key alone if left out.
        max_jump: With order "sequence": a record whose number is more than this above the last one
            of its key cannot be used; no limit if left out. It needs idle_after, or a model whose
            columns have a start.
        keep: Fields of a record to add to its prediction, such as [site, price]: in batch, or in
            windows. A field whose name the row has already gets the prefix record_. It is null if
            several records of a key have the same time and sequence number, and it is ambiguous
            which of them was predicted.
        error_handling: {output: NAME} gives records that cannot be used, and late ones, as a
            further output. Without it the former stop the pipeline, and the latter are counted.

    Raises:
        ConfigurationError: A value outside its range, or no weights file there; at construction
            of the pipeline, a merging window, or a field that is not there.
        WeightsError: The weights file cannot be used.
    """

    @by_name
    def __init__(
        self,
        weights: str,
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        emit: str = "every",
        idle_after: Optional[float] = None,
        timestamps: str = "due",
        on_model_change: str = "error",
        replay: int = 0,
        watch: Optional[float] = None,
        kernel: str = "auto",
        shards: Optional[int] = None,
        max_jump: Optional[int] = None,
        keep: Optional[Sequence[str]] = None,
        error_handling: Optional[Mapping[str, Any]] = None,
    ):
        super().__init__()
        self._weights = weights
        self._output = output_name(error_handling)
        self._predict = Predict(
            weights,
            order,
            wait,
            grid,
            emit=emit,
            idle_after=idle_after,
            timestamps=timestamps,
            on_model_change=on_model_change,
            replay=replay,
            watch=watch,
            kernel=kernel,
            shards=shards,
            max_jump=max_jump,
        )
        model = model_of(weights)
        self._columns, self._rows = columns_of(model), PredictionRows(model)
        self._keep = names_in("keep", keep)

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Predict, and name the outputs."""
        check_fields(pcoll, "RnnPredict", self._columns, f"{self._weights} reads it")
        outputs = pcoll | "Predict" >> self._predict
        if self._keep:
            kept = types_of(pcoll, "RnnPredict", self._keep)
            pairs = outputs.predictions | "Join" >> JoinRecords(self._columns, pcoll)
            rows = pairs | "Rows" >> KeptRows(self._rows, kept)
        else:
            rows = outputs.predictions | "Rows" >> self._rows
        return with_refused(rows, self._output, outputs.invalid, outputs.late)
