"""Predictions of a shard as the columns that Arrow batches get."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.engine.shard_stepper import NO_MAKER, Stepped
from beam_rnn.engine.table import Maker
from beam_rnn.records.result_columns import PREDICTION_FIELDS


def prediction_arrays(
    stepped: Stepped, makers: list[Maker], places: Array, outputs: int, state_size: int
) -> Iterator[pa.Array]:
    """Yield the values of `beam_rnn.records.result_columns.prediction_fields`.

    A value is null where a model has no such number, or there is no prediction.

    Args:
        stepped: The predictions.
        makers: The models that made them, as in `Table.makers`.
        places: Which of the predictions, in the order of the rows.
        outputs: The number of outputs.
        state_size: The size of a hidden state; 0 without states.
    """
    used, maker = np.unique(stepped.maker[places], return_inverse=True)
    made = [None if number == NO_MAKER else makers[number] for number in used.tolist()]
    has = np.array([0 if each is None else each.outputs for each in made])[maker]
    missing = has == 0
    for j in range(outputs):
        values = np.ascontiguousarray(stepped.outputs[places, j])
        yield pa.array(values, mask=None if (has > j).all() else has <= j)
    mask = missing if missing.any() else None
    fields = {"step": pa.array(stepped.step[places], mask=mask)}
    codes = pa.array((maker - missing.any()).astype(np.int32), mask=mask)
    known = [each for each in made if each is not None]
    for name, texts in (
        ("model", [each.digest for each in known]),
        ("kernel", [each.kernel for each in known]),
    ):
        fields[name] = pa.DictionaryArray.from_arrays(codes, pa.array(texts, pa.string()))
    yield from (fields[name] for name in PREDICTION_FIELDS)
    if state_size:
        other = np.array([each is None or each.values != state_size for each in made])[maker]
        shown = stepped.values[places, :state_size].astype(np.float32, copy=False)
        values = pa.array(shown.ravel())
        mask = pa.array(other) if other.any() else None
        yield pa.FixedSizeListArray.from_arrays(values, state_size, mask=mask)
