"""The results of many records that a shard stepped together, as columns."""

from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.held import Held
from beam_rnn.engine.payloads import Payload
from beam_rnn.engine.shard_stepper import Stepped
from beam_rnn.engine.stepper import Row
from beam_rnn.models.state_format import STATE_TYPE


class Outcome(NamedTuple):
    """The results of records.

    Attributes:
        records: The records that were stepped, those of a key one after another.
        keys: (keys,), their keys, in that order; the table may have forgotten them since.
        stepped: Their predictions.
        rows: All other results.
        counts: Numbers of records, by the names of the metrics.
        payloads: The Arrow rows in which they came, by `Held.piece`, if these are given back.
    """

    records: Held
    keys: Array
    stepped: Stepped
    rows: list[Row]
    counts: dict[str, int]
    payloads: dict[int, Payload]


def nothing_stepped(rows: list[Row], counts: dict[str, int]) -> Outcome:
    """Return the outcome of records none of which was stepped."""
    return Outcome(_NONE, NO_ROWS, _NOT_STEPPED, rows, counts, {})


NO_ROWS = np.zeros(0, np.int64)
_NONE = Held(
    number=NO_ROWS,
    row=NO_ROWS,
    due=NO_ROWS,
    time=NO_ROWS,
    sequence=NO_ROWS,
    marks=NO_ROWS,
    numbers=np.zeros((0, 1)),
    piece=NO_ROWS,
    at=NO_ROWS,
)
_NOT_STEPPED = Stepped(
    np.zeros(0, np.int32), NO_ROWS, np.zeros((0, 1)), np.zeros((0, 0), STATE_TYPE), []
)
