"""Predictions of a shard as rows, or as the Arrow batches in which the records came."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import RecordError
from beam_rnn.engine.held import grouped
from beam_rnn.engine.outcome import Outcome
from beam_rnn.engine.payloads import rows_by_schema
from beam_rnn.engine.prediction_columns import prediction_arrays
from beam_rnn.engine.shard_stepper import NO_MAKER
from beam_rnn.engine.stepper import Row
from beam_rnn.engine.table import Table
from beam_rnn.records.arrow_batches import Batch
from beam_rnn.records.arrow_reader import refused_rows
from beam_rnn.records.result_columns import prediction_fields, with_columns
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
            due = records.due[places]
            try:
                schema = with_columns(rows.schema, added)
            except RecordError as error:  # a newer model than the reader's adds a column
                assert model.columns is not None, "such a model is refused when it is loaded"
                letters = refused_rows(model.columns.key, rows.take(pa.array(at)), error)
                outcome.rows.extend(map(Row, letters, due.tolist(), records.time[places].tolist()))
                continue
            came, here = self._in_order(rows, at, predicted[places])
            outputs = len(model.output_names)
            columns = prediction_arrays(outcome.stepped, table.makers, here, outputs, state_size)
            batch = pa.table([*came.columns, *columns], schema=schema)
            yield [_as(self._kind, batch)], due.max(keepdims=True)

    def _in_order(self, rows: pa.Table, at: Array, predicted: Array) -> tuple[pa.Table, Array]:
        """The rows of a batch as they go out, and where the prediction of each is."""
        if not self._in_turn:
            order = np.argsort(at)
            predicted, at = predicted[order], at[order]
        if len(at) < rows.num_rows or (np.diff(at) != 1).any():
            rows = rows.take(pa.array(at))
        return rows, predicted


def _as(kind: type, table: pa.Table) -> Batch:
    """A table as the kind of batch that came in."""
    if kind is pa.Table:
        return table
    (batch,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    return batch
