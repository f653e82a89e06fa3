"""Predictions as rows with a field for each output."""

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_rnn.errors import BeamRnnError
from beam_rnn.keyed import Models
from beam_rnn.portable.names import field_names, time_text
from beam_rnn.rows import Prediction


class PredictionRows(beam.PTransform):
    """Predictions of a model as rows: key, time, step, sequence if there is one, outputs, model.

    Args:
        model: The model, which names the outputs.
    """

    def __init__(self, model: Models):
        super().__init__()
        assert model.columns is not None, "a model without columns is refused when it is read"
        self._names = field_names(model.output_names, "_prediction")
        self._has_sequence = model.columns.sequence is not None

    def expand(self, pcoll: PCollection[Prediction]) -> PCollection[Any]:
        """A row for each."""
        fields: list[tuple[str, Any]] = [("key", str), ("time", str), ("step", int)]
        fields += [("sequence", int)] if self._has_sequence else []
        fields += [(name, float) for name in self._names]
        return pcoll | beam.Map(prediction_row, self._names, self._has_sequence).with_output_types(
            RowTypeConstraint.from_fields([*fields, ("model", str)])
        )


def prediction_row(prediction: Prediction, names: Sequence[str], has_sequence: bool) -> beam.Row:
    """A prediction with a field for each output.

    Raises:
        BeamRnnError: A newer model has other outputs than that with which the pipeline was built.
    """
    if len(prediction.outputs) != len(names):
        raise BeamRnnError(
            f"the model {prediction.model} has {len(prediction.outputs)} outputs, and the pipeline "
            f"was built for {list(names)}: build it anew"
        )
    return beam.Row(
        key=prediction.key,
        time=time_text(prediction.time),
        step=prediction.step,
        **({"sequence": prediction.sequence} if has_sequence else {}),
        **dict(zip(names, prediction.outputs, strict=True)),
        model=prediction.model,
    )
