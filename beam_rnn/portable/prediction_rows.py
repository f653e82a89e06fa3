"""Predictions as rows with a field for each output."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_rnn.core.errors import BeamRnnError
from beam_rnn.models.keyed_models import Models
from beam_rnn.portable.schemas import field_names, time_text
from beam_rnn.records.field_values import field
from beam_rnn.records.result_columns import prediction_columns, prediction_values
from beam_rnn.records.results import Prediction


class PredictionRows(beam.PTransform):
    """Makes rows of predictions: key, time, sequence if there is one, `prediction_columns`.

    Args:
        model: The model, which names the outputs.
    """

    def __init__(self, model: Models):
        super().__init__()
        assert model.columns is not None, "a model without columns is refused when it is read"
        columns = prediction_columns(model.output_names)
        self._columns = dict(zip(field_names(columns), columns.values(), strict=True))
        self._has_sequence = model.columns.sequence is not None

    def expand(self, pcoll: PCollection[Prediction]) -> PCollection[Any]:
        """Make a row of each."""
        row = beam.Map(self.row_of).with_output_types(RowTypeConstraint.from_fields(self.fields))
        return pcoll | row

    @property
    def fields(self) -> list[tuple[str, Any]]:
        """Return the fields of a row, with their types."""
        sequence: list[tuple[str, Any]] = [("sequence", int)] if self._has_sequence else []
        return [("key", str), ("time", str), *sequence, *self._columns.items()]

    @property
    def row_of(self) -> Callable[[Prediction], beam.Row]:
        """Return the function that makes a row of a prediction."""
        return partial(prediction_row, names=list(self._columns), has_sequence=self._has_sequence)


class KeptRows(beam.PTransform):
    """Makes rows of pairs of a record and its prediction, the fields of the record at the end.

    A field keeps its name, with the prefix `record_` if the row has a field of that name. It is
    null if the record is ambiguous.

    Args:
        rows: Makes rows of predictions.
        kept: The fields of the record, with their types.
    """

    def __init__(self, rows: PredictionRows, kept: Sequence[tuple[str, Any]]):
        super().__init__()
        self._row_of, self._own, self._kept = rows.row_of, rows.fields, kept

    def expand(self, pcoll: PCollection[tuple[Any, Prediction]]) -> PCollection[Any]:
        """Make a row of each."""
        own = {name for name, _ in self._own}
        names = {f"record_{name}" if name in own else name: name for name, _ in self._kept}
        kinds = [Optional[kind] for _, kind in self._kept]
        row_of = self._row_of

        def beside(record: Any, prediction: Prediction) -> beam.Row:
            fields = {
                shown: None if record is None else field(record, name)
                for shown, name in names.items()
            }
            return beam.Row(**row_of(prediction).as_dict(), **fields)

        types = [*self._own, *zip(names, kinds, strict=True)]
        return pcoll | beam.MapTuple(beside).with_output_types(RowTypeConstraint.from_fields(types))


def prediction_row(prediction: Prediction, names: Sequence[str], has_sequence: bool) -> beam.Row:
    """Return a prediction as a row, with the names that `prediction_columns` has here.

    Raises:
        BeamRnnError: A newer model has other outputs than that with which the pipeline was built.
    """
    values = prediction_values(prediction)
    if len(values) != len(names):
        raise BeamRnnError(
            f"the model {prediction.model} has {len(prediction.outputs)} outputs, and the pipeline "
            f"was built for the columns {list(names)}: build it again"
        )
    return beam.Row(
        key=prediction.key,
        time=time_text(prediction.time),
        **({"sequence": prediction.sequence} if has_sequence else {}),
        **dict(zip(names, values, strict=True)),
    )
