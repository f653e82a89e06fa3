"""Predictions of a shard as rows."""

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np

from beam_rnn.pending import NOW
from beam_rnn.records import Prediction
from beam_rnn.shard import Outcome
from beam_rnn.shard_stepping import NOBODY
from beam_rnn.table import Table


class EmitRows:
    """One `Prediction` for each record."""

    def __call__(self, outcome: Outcome, table: Table) -> Iterable[tuple[Prediction, int]]:
        """The rows, and when each was due."""
        makers = np.unique(outcome.stepped.maker)
        for number in makers[makers != NOBODY].tolist():
            yield from self._made_by(number, outcome, table)

    def _made_by(
        self, number: int, outcome: Outcome, table: Table
    ) -> Iterator[tuple[Prediction, int]]:
        """The predictions of one model."""
        maker, stepped, records = table.makers[number], outcome.stepped, outcome.records
        here: slice | np.ndarray = slice(None)
        if not (stepped.maker == number).all():
            here = stepped.maker == number
        states: Iterable[bytes] = repeat(b"")
        if len(stepped.values):
            states = map(np.ndarray.tobytes, stepped.values[here, : maker.values])
        names = outcome.keys
        rows = zip(
            [names[i] for i in outcome.of_key[here].tolist()],
            records.time[here].tolist(),
            stepped.step[here].tolist(),
            stepped.outputs[here, : maker.outputs].tolist(),
            repeat(maker.digest),
            states,
            records.sequence[here].tolist(),
            repeat(maker.kernel),
        )
        due = records.due[here]
        every = repeat(NOW) if len(due) and (due == NOW).all() else due.tolist()
        yield from zip(map(Prediction._make, rows), every, strict=False)
