"""Predictions of a shard as rows, or as the Arrow batches in which the records came."""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.engine.held import grouped
from beam_rnn.engine.outcome import Outcome
from beam_rnn.engine.payloads import rows_by_schema
from beam_rnn.engine.shard_stepper import NO_MAKER
from beam_rnn.engine.stepper import Row
from beam_rnn.engine.table import Table
from beam_rnn.models.keyed_models import Models
from beam_rnn.records.arrow_reader import Batch, added_already, prediction_fields, taken_name
from beam_rnn.records.results import Prediction
from beam_rnn.streaming.model_loader import ModelLoader


class EmitRows:
    """One `Prediction` for each record."""

    def __call__(self, outcome: Outcome, table: Table) -> Iterable[tuple[Iterable[Any], Array]]:
        """The rows of each model, and when each was due."""
        records = outcome.records
        of_key = np.zeros(len(records.row), np.int64)
        of_key[1:] = np.cumsum(records.row[1:] != records.row[:-1])
        return [
            self._of(number, here, of_key, outcome, table)
            for number, here in grouped(outcome.stepped.maker)
            if number != NO_MAKER
        ]

    def _of(
        self, number: int, places: Array, of_key: Array, outcome: Outcome, table: Table
    ) -> tuple[Iterable[Any], Array]:
        """The predictions of one model, whose records are at these places."""
        maker, stepped, records = table.makers[number], outcome.stepped, outcome.records
        here = slice(None) if len(places) == len(of_key) else places
        states: Iterable[bytes] = repeat(b"")
        if len(stepped.values):
            states = map(np.ndarray.tobytes, stepped.values[here, : maker.values])
        predictions = Prediction.many(
            key=outcome.keys[of_key[here]].tolist(),
            time=records.time[here].tolist(),
            step=stepped.step[here].tolist(),
            outputs=map(list, zip(*stepped.outputs[here, : maker.outputs].T.tolist(), strict=True)),
            model=repeat(maker.digest),
            state=states,
            sequence=records.sequence[here].tolist(),
            kernel=repeat(maker.kernel),
        )
        return predictions, records.due[here]


def prediction_schema(
    schema: pa.Schema, output_names: Sequence[str], state_size: int = 0
) -> pa.Schema:
    """The schema of batches after `Predict`.

        >>> schema = pa.schema([("id", pa.string()), ("x", pa.float64())])
        >>> prediction_schema(schema, ["x"]).names
        ['id', 'x', 'x_prediction', 'prediction_step', 'prediction_model', 'prediction_kernel']

    Args:
        schema: That of the batches before.
        output_names: `Model.output_names`.
        state_size: `Model.state_size`, with `Predict(with_state=True)`; else 0.

    Raises:
        ConfigurationError: The batches have a column of such a name already.
    """
    added = prediction_fields(output_names, state_size)
    taken = taken_name(schema, added)
    if taken is not None:
        raise ConfigurationError(
            f"the batches have a column {taken!r} already, which Predict adds: rename it"
        )
    return pa.schema([*schema, *added], schema.metadata)


class EmitBatches:
    """The rows as they came, with predictions: one batch for all that were stepped together.

    Rows whose batches had other columns, or columns of other types, come out in a batch of their
    own: each row as it came, whatever it was stepped with.

    Args:
        kind: `pa.Table` or `pa.RecordBatch`.
        in_turn: In the order in which they were stepped; else in that in which they came.
        loader: Gives the model, whose outputs have names, on the worker.
    """

    def __init__(self, kind: type, loader: ModelLoader, *, in_turn: bool):
        self._kind = kind
        self._loader = loader
        self._in_turn = in_turn

    def __call__(self, outcome: Outcome, table: Table) -> Iterable[tuple[Iterable[Any], Array]]:
        """Batches, and when the last of the records of each was due."""
        predicted = np.flatnonzero(outcome.stepped.maker != NO_MAKER)
        if not len(predicted):
            return
        model = self._loader.library().newest
        state_size = model.state_size if len(outcome.stepped.values) else 0
        added = prediction_fields(model.output_names, state_size)
        records = outcome.records.pick(predicted)
        for rows, places, at in rows_by_schema(outcome.payloads, records):
            due, name = records.due[places], taken_name(rows.schema, added)
            if name is None:
                batch = self._batch(rows, at, outcome, table, predicted[places], model)
                yield [_as(self._kind, batch)], due.max(keepdims=True)
            else:  # a newer model than the one by which these were read adds a column
                assert model.columns is not None, "such a model is refused when it is loaded"
                letters = added_already(model.columns.key, name, rows.take(pa.array(at)))
                outcome.rows.extend(map(Row, letters, due.tolist(), records.time[places].tolist()))

    def _batch(
        self,
        rows: pa.Table,
        at: Array,
        outcome: Outcome,
        table: Table,
        predicted: Array,
        model: Models,
    ) -> pa.Table:
        """A batch of records, by their places and their rows."""
        if not self._in_turn:
            order = np.argsort(at)
            predicted, at = predicted[order], at[order]
        if len(at) < rows.num_rows or (np.diff(at) != 1).any():
            rows = rows.take(pa.array(at))
        return _with_predictions(rows, outcome, table, predicted, model)


def _with_predictions(
    rows: pa.Table, outcome: Outcome, table: Table, predicted: Array, model: Models
) -> pa.Table:
    """Return the rows and their predictions; null where a model has no such number."""
    stepped = outcome.stepped
    names = model.output_names
    state_size = model.state_size if len(stepped.values) else 0
    schema = prediction_schema(rows.schema, names, state_size)
    used, maker = np.unique(stepped.maker[predicted], return_inverse=True)
    makers, maker = [table.makers[number] for number in used.tolist()], maker.astype(np.int32)
    outputs = stepped.outputs[predicted]
    has = np.array([made.outputs for made in makers])[maker]
    columns = [
        pa.array(np.ascontiguousarray(outputs[:, j]), mask=None if (has > j).all() else has <= j)
        for j in range(len(names))
    ]
    columns.append(pa.array(stepped.step[predicted]))
    columns += [
        pa.DictionaryArray.from_arrays(pa.array(maker), pa.array(texts))
        for texts in zip(*(made[:2] for made in makers), strict=True)
    ]
    if state_size:
        other = np.array([made.values != state_size for made in makers])[maker]
        shown = stepped.values[predicted, :state_size].astype(np.float32, copy=False)
        values = pa.array(shown.ravel())
        mask = pa.array(other) if other.any() else None
        columns.append(pa.FixedSizeListArray.from_arrays(values, state_size, mask=mask))
    return pa.table([*rows.columns, *columns], schema=schema)


def _as(kind: type, table: pa.Table) -> Batch:
    """A table as the kind of batch that came in."""
    if kind is pa.Table:
        return table
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    return batch
