"""Predicts whole sequences of records, as rows."""

from collections.abc import Mapping
from typing import Any, Optional

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.portable.arguments import by_name
from beam_rnn.portable.error_rows import output_name, with_refused
from beam_rnn.portable.prediction_rows import PredictionRows
from beam_rnn.portable.schemas import check_fields, columns_of, model_of
from beam_rnn.transforms.predict_sequences import PredictSequences


class RnnPredictSequences(beam.PTransform):
    """Predicts each sequence of a key once it is complete; gives a row for each record.

    For bidirectional networks, for one output per sequence, and for windows that merge, such as
    sessions. The records of a key and window are sorted by time, and are one sequence or several. A
    row has the fields of RnnPredict.

    Args:
        weights: The weights file, on any filesystem that Beam knows, or a pattern of files of which
            the last by name counts. It names the fields of a record that are read.
        emit: "every" for a row for each record, "last" for one for each sequence, that of its last
            record.
        idle_after: A sequence ends if the next record is more than this number of seconds later; no
            such limit if left out.
        kernel: The implementation: "numpy", "fused" or "auto".
        error_handling: {output: NAME} gives records that cannot be used as a further output;
            without it they stop the pipeline.

    Raises:
        ConfigurationError: A value outside its range, or no weights file there; at construction
            of the pipeline, a field that is not there.
        WeightsError: The weights file cannot be used.
    """

    @by_name
    def __init__(
        self,
        weights: str,
        emit: str = "every",
        idle_after: Optional[float] = None,
        kernel: str = "auto",
        error_handling: Optional[Mapping[str, Any]] = None,
    ):
        super().__init__()
        self._weights = weights
        self._output = output_name(error_handling)
        self._predict = PredictSequences(weights, emit=emit, idle_after=idle_after, kernel=kernel)
        model = model_of(weights)
        self._columns, self._rows = columns_of(model), PredictionRows(model)

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Predict, and name the outputs."""
        check_fields(pcoll, "RnnPredictSequences", self._columns, f"{self._weights} reads it")
        outputs = pcoll | "Predict" >> self._predict
        rows = outputs.predictions | "Rows" >> self._rows
        return with_refused(rows, self._output, outputs.invalid)
