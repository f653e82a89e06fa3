"""Scores the records of a stream by how surprising they are, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_rnn.models.error_tail import Surprise
from beam_rnn.portable.arguments import by_name, made
from beam_rnn.portable.error_rows import output_name, with_refused
from beam_rnn.portable.schemas import check_fields, columns_of, field_names, model_of, time_text
from beam_rnn.records.result_columns import score_columns, score_values
from beam_rnn.records.results import AnomalyScore
from beam_rnn.transforms.score_anomalies import ScoreAnomalies


class RnnAnomalies(beam.PTransform):
    """Scores each record by how surprising it is; gives a row for each record.

    A row has the fields key, time (of the record, as ISO 8601 text), for each target
    <target>_value and <target>_expected (the prediction made for it one record before; null for the
    first record of a sequence), anomaly_step (1, 2, ...), anomaly_score (in [0, 1]),
    anomaly_probability, anomaly_model (the digest) and anomaly_kernel.

    Args:
        weights: The weights file, on any filesystem that Beam knows, whose horizons include 1.
        surprise: How errors are scored: a mapping with the names of
            `beam_rnn.online.Surprise`, such as {memory: 2000, peaks: 0.01}.
        order: "event_time", "sequence" or "arrival", as in RnnPredict.
        wait: Seconds to wait for a record beyond the watermark.
        grid: Records become due at multiples of this number of seconds.
        idle_after: A sequence ends when no record has followed its last one for this number of
            seconds of event time; never if left out.
        max_jump: With order "sequence": a record whose number is more than this above the last one
            of its key cannot be used; no limit if left out. It needs idle_after, or a model whose
            columns have a start.
        kernel: The implementation: "numpy", "fused" or "auto".
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
        surprise: Optional[Mapping[str, Any]] = None,
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        idle_after: Optional[float] = None,
        max_jump: Optional[int] = None,
        kernel: str = "auto",
        error_handling: Optional[Mapping[str, Any]] = None,
    ):
        super().__init__()
        self._weights = weights
        self._output = output_name(error_handling)
        self._score = ScoreAnomalies(
            weights,
            surprise=made(Surprise, "surprise", surprise),
            order=order,
            wait=wait,
            grid=grid,
            idle_after=idle_after,
            max_jump=max_jump,
            kernel=kernel,
        )
        self._columns = columns_of(model_of(weights))

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Score, and name the values."""
        why = f"{self._weights} reads it"
        check_fields(pcoll, "RnnAnomalies", self._columns, why, targets=True)
        outputs = pcoll | "Score" >> self._score
        columns = score_columns(self._columns.target_names)
        names = field_names(columns)
        fields: list[tuple[str, Any]] = [("key", str), ("time", str)]
        fields += zip(names, columns.values(), strict=True)
        rows = outputs.scores | "Rows" >> beam.Map(score_row, names).with_output_types(
            RowTypeConstraint.from_fields(fields)
        )
        return with_refused(rows, self._output, outputs.invalid, outputs.late)


def score_row(score: AnomalyScore, names: Sequence[str]) -> beam.Row:
    """Return an anomaly score as a row, with the names that `score_columns` has here."""
    values = dict(zip(names, score_values(score), strict=True))
    return beam.Row(key=score.key, time=time_text(score.time), **values)
