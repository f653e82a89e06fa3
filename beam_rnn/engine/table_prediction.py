"""Whole tables stepped through a model, without a pipeline."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_choice, micros
from beam_rnn.core.errors import ConfigurationError, StateError
from beam_rnn.data.columns import Columns
from beam_rnn.engine.order import END_OF_TIME, Order
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.engine.outcome import Outcome
from beam_rnn.engine.prediction_columns import prediction_arrays
from beam_rnn.engine.shard import Shard
from beam_rnn.engine.shard_stepper import NO_MAKER, ShardStepper, Stepped
from beam_rnn.engine.steppers.predict import Policy, PredictStepper
from beam_rnn.engine.table import Maker, Table
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import STATE_TYPE
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.block_format import Block, by_shard
from beam_rnn.records.result_columns import prediction_schema
from beam_rnn.records.table_input import as_table, letters_of_rows, raise_first, read_table

RECORDS_AT_ONCE = 1 << 18
"""Number of records that are sorted and stepped at once: the keys of one shard."""


class OneModel:
    """The models of a process that never change: a `Library`."""

    def __init__(self, models: Models):
        self.newest = models

    def made_by(self, digest: str, kernel: str) -> Model:
        """Return the model with that digest.

        Raises:
            StateError: It is another one.
        """
        model = self.newest.with_digest(digest) if kernel == self.newest.kernel else None
        if model is None:
            raise StateError(
                f"the state was made by the model {digest} with the kernel {kernel}, this is "
                f"{self.newest.digest} with the kernel {self.newest.kernel}"
            )
        return model


class Counts(Counter[str]):
    """Counters in memory, by the names of the metrics."""

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter."""
        self[name] += n

    def observe(self, name: str, value: int) -> None:
        """Ignore it: a distribution is for a monitoring page."""


def predict(
    models: Models,
    data: Any,
    *,
    order: str = "event_time",
    idle_after: float | None = None,
    max_jump: int | None = None,
    invalid: str = "error",
) -> pa.Table:
    """Return a table with the prediction of each of its records; see `Model.predict`."""
    columns, table = columns_of(models), as_table(data)
    idle = micros("idle_after", idle_after)
    rules = replace(order_of(order, 0.0, 1e-3, max_jump), idle_after=idle)
    check_choice("invalid", invalid, ("error", "null"))
    block, letters = read_table(BatchReader(columns), table)
    if invalid == "error":
        raise_first(letters_of_rows(letters))
    found = Predictions(table.num_rows, len(models.output_names))
    stepper = PredictStepper(OneModel(models), Policy(idle_after=idle), Counts())
    for outcome, states in step_block(stepper, rules, block, columns.number_size):
        found.add(outcome, states)
        if invalid == "error":
            raise_first(row.result for row in outcome.rows)
    return with_predictions(table, models, found)


def with_predictions(table: pa.Table, models: Models, found: "Predictions") -> pa.Table:
    """Return a table with the columns of its predictions."""
    schema = prediction_schema(table.schema, models.output_names)
    return pa.table([*table.columns, *found.columns()], schema=schema)


def columns_of(models: Models) -> Columns:
    """Return how records are read for a model.

    Raises:
        ConfigurationError: It has no columns, or cannot step record by record.
    """
    if models.columns is None:
        raise ConfigurationError(
            "the model has no columns, so no record can be read for it: make it with "
            "Model(columns=...)"
        )
    if models.network.bidirectional:
        raise ConfigurationError(
            "the network is bidirectional, which needs whole sequences: use PredictSequences"
        )
    return models.columns


def step_block(
    stepper: PredictStepper, order: Order, block: Block, numbers: int
) -> Iterator[tuple[Outcome, Table]]:
    """Step all records of a block, and end their sequences; yield the results, shard by shard.

    The results are those of a batch pipeline: each record has the place that its order gives it,
    wherever it is in the block. `Held.at` is its row.

    Args:
        stepper: What steps them.
        order: The rules of order.
        block: The records.
        numbers: The number of numbers of a record.
    """
    if not block.records:
        return
    shards = -(-block.records // RECORDS_AT_ONCE)
    for _, part in by_shard(block, shards) if shards > 1 else [(0, block)]:
        shard = Shard(ShardStepper(stepper), order, END_OF_TIME, numbers)
        for outcome in [shard.arrive(part), *shard.close()]:
            yield outcome, shard.table


class Predictions:
    """The predictions of a table, by its rows.

    Args:
        rows: The number of rows.
        outputs: The number of outputs of a prediction.
        state_size: The size of the hidden state that is shown; 0 for none.
    """

    def __init__(self, rows: int, outputs: int, state_size: int = 0):
        self._outputs, self._state_size = outputs, state_size
        self._makers: dict[Maker, int] = {}
        self._stepped = Stepped(
            np.full(rows, NO_MAKER, np.int32),
            np.zeros(rows, np.int64),
            np.zeros((rows, outputs)),
            np.zeros((rows if state_size else 0, state_size), STATE_TYPE),
            [],
        )

    def add(self, outcome: Outcome, states: Table) -> None:
        """Take up the predictions of a shard."""
        here = np.flatnonzero(outcome.stepped.maker != NO_MAKER)
        if not len(here):
            return
        numbers = np.array(
            [self._makers.setdefault(maker, len(self._makers)) for maker in states.makers]
        )
        rows, stepped = outcome.records.at[here], outcome.stepped
        self._stepped.maker[rows] = numbers[stepped.maker[here]]
        self._stepped.step[rows] = stepped.step[here]
        self._stepped.outputs[rows] = stepped.outputs[here, : self._outputs]
        if self._state_size:
            self._stepped.values[rows] = stepped.values[here, : self._state_size]

    @property
    def predicted(self) -> Array:
        """(rows,), whether each has a prediction."""
        return np.asarray(self._stepped.maker != NO_MAKER)

    def columns(self, rows: Array | None = None) -> list[pa.Array]:
        """Return the columns of `prediction_fields`, of some rows or of all."""
        places = np.arange(len(self._stepped.maker)) if rows is None else rows
        makers = list(self._makers)
        sizes = self._outputs, self._state_size
        return list(prediction_arrays(self._stepped, makers, places, *sizes))
