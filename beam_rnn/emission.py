"""Predictions of a shard as rows."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.pending import different
from beam_rnn.records import Prediction
from beam_rnn.shard import Outcome
from beam_rnn.shard_stepping import NOBODY
from beam_rnn.table import Table


class EmitRows:
    """One `Prediction` for each record."""

    def __call__(self, outcome: Outcome, table: Table) -> Iterable[tuple[Iterable[Any], Array]]:
        """The rows of each model, and when each was due."""
        makers = different(outcome.stepped.maker)
        return [self._of(number, outcome, table) for number in makers[makers != NOBODY].tolist()]

    def _of(self, number: int, outcome: Outcome, table: Table) -> tuple[Iterable[Any], Array]:
        """The predictions of one model."""
        maker, stepped, records = table.makers[number], outcome.stepped, outcome.records
        here: slice | Array = slice(None)
        if not (stepped.maker == number).all():
            here = stepped.maker == number
        states: Iterable[bytes] = repeat(b"")
        if len(stepped.values):
            states = map(np.ndarray.tobytes, stepped.values[here, : maker.values])
        of_key = np.zeros(len(records.row), np.int64)
        of_key[1:] = np.cumsum(records.row[1:] != records.row[:-1])
        fields = zip(
            outcome.keys[of_key[here]].tolist(),
            records.time[here].tolist(),
            stepped.step[here].tolist(),
            map(list, zip(*stepped.outputs[here, : maker.outputs].T.tolist(), strict=True)),
            repeat(maker.digest),
            states,
            records.sequence[here].tolist(),
            repeat(maker.kernel),
        )
        return map(Prediction._make, fields), records.due[here]
