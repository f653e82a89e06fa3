"""Steps records through a model in a process of one's own: a service without a pipeline."""

import os
import time as clock
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_rnn.core.arrays import Array
from beam_rnn.core.atomic_files import replacing
from beam_rnn.core.checks import check_choice, micros
from beam_rnn.engine.exported_states import SCHEMA, read_states, to_row
from beam_rnn.engine.order import END_OF_TIME
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.engine.order_format import imported, order_header_of
from beam_rnn.engine.shard import Shard
from beam_rnn.engine.shard_stepper import ShardStepper
from beam_rnn.engine.steppers.predict import Policy, PredictStepper
from beam_rnn.engine.table_prediction import (
    Counts,
    OneModel,
    Predictions,
    columns_of,
    with_predictions,
)
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.state_format import decode_state
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.results import EndedSequence
from beam_rnn.records.table_input import as_table, letters_of_rows, raise_first


class Session:
    """The hidden states of keys in memory, which records step; `Model.session` makes it.

        >>> from beam_rnn import Columns, Model, Network
        >>> network = Network("gru", hidden=4)
        >>> columns = Columns(key="pump", time="at", inputs=["load"], targets=["load"])
        >>> model = Model(network, network.initialize(1, 1, seed=0), columns)
        >>> session = model.session()
        >>> for at in (0, 60):
        ...     stepped = session.step([{"pump": "a", "at": at, "load": 0.5}])
        ...     print(stepped["prediction_step"].to_pylist())
        [1]
        [2]

    A record is stepped when it comes, as with `Predict(order="arrival")`, and with the same bits. A
    session is not for several threads at once.

    Args:
        models: The model, or the models of keys.
        idle_after: A sequence ends if the next record of its key is more than this number of
            seconds later; None for never.
        states: A file of hidden states to start from, written by `save` or by `ExportStates`.

    Raises:
        ConfigurationError: The model cannot step record by record.
        StateError: The file of states is altered, or of another model.
    """

    def __init__(
        self,
        models: Models,
        *,
        idle_after: float | None = None,
        states: str | os.PathLike[str] | None = None,
    ):
        self._models, self._columns = models, columns_of(models)
        self._reader = BatchReader(self._columns)
        self._idle_after = micros("idle_after", idle_after)
        order = order_of("arrival", 0.0, 1e-3)
        numbers = self._columns.number_size
        self._shard = Shard(ShardStepper(self._stepper()), order, END_OF_TIME, numbers)
        if states is not None:
            self._load(os.fspath(states))

    def _stepper(self, *, with_state: bool = False) -> PredictStepper:
        policy = Policy(idle_after=self._idle_after, with_state=with_state)
        return PredictStepper(OneModel(self._models), policy, Counts())

    @property
    def keys(self) -> list[str]:
        """The keys that have a state."""
        table = self._shard.table
        return sorted(table.names(table.with_state()))

    def step(self, data: Any, *, invalid: str = "error") -> pa.Table:
        """Step records, and return them with their predictions, in their order.

        Args:
            data: As for `Model.predict`; the records of a key in the order in which they came.
            invalid: As for `Model.predict`. With "error" no state changes if a record cannot be
                read.

        Raises:
            RecordError: A record cannot be used.
        """
        check_choice("invalid", invalid, ("error", "null"))
        table = as_table(data)
        block, letters = self._reader.read(table, self._arrived(table.num_rows))
        if invalid == "error":
            raise_first(letters_of_rows(letters))
        found = Predictions(table.num_rows, len(self._models.output_names))
        if block.records:
            outcome = self._shard.arrive(block)
            found.add(outcome, self._shard.table)
            self._shard.changes()
            if invalid == "error":
                raise_first(row.result for row in outcome.rows)
        return with_predictions(table, self._models, found)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the hidden states to a Parquet file, atomically.

        Another session goes on from it with `states=path`, and a pipeline with
        `Predict(states=p | ImportStates(path))`.
        """
        table = self._shard.table
        rows = table.with_state()
        ended = ShardStepper(self._stepper(with_state=True)).end(table, rows, "window")
        written = [to_row(result) for _, result in ended if isinstance(result, EndedSequence)]
        with replacing(path) as temporary:
            pq.write_table(pa.Table.from_pylist(written, SCHEMA), temporary)

    def _load(self, path: str) -> None:
        """Start from the states of a file."""
        with Path(path).open("rb") as file:
            for key, data in read_states(file, Path(path).stat().st_size, path):
                state = imported(data)
                assert state is not None, "read_states gives states"
                _, begun, values = order_header_of(state)
                found = decode_state(values)
                OneModel(self._models).made_by(found.digest, found.kernel)
                self._shard.start_from(key, found, begun)

    def _arrived(self, rows: int) -> Array:
        """Return when records came: now, which is their event time if the columns name none."""
        return np.full(rows, clock.time_ns() // 1000)
