"""Records of one sequence that are kept in a state, as its history."""

from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError


class KeptRecords(NamedTuple):
    """Records of one sequence that are kept in a state: a row each."""

    time: Array
    sequence: Array
    numbers: Array


def encode_kept(kept: KeptRecords) -> Array:
    """Records as the history of a state: time and number bit by bit, then the numbers."""
    places = np.stack([kept.time, kept.sequence], 1).astype(np.int64, copy=False)
    return np.concatenate([places.view(np.float64), kept.numbers], 1).ravel()


def decode_kept(history: Array, numbers: int) -> KeptRecords:
    """The inverse of `encode_kept`, of records with so many numbers.

    Raises:
        StateError: They have another size.
    """
    if history.size % (2 + numbers):
        raise StateError(
            f"stored state keeps {history.size} numbers, which are no records of {numbers} inputs"
        )
    rows = history.reshape(-1, 2 + numbers)
    places = rows[:, :2].copy().view(np.int64)
    return KeptRecords(places[:, 0], places[:, 1], rows[:, 2:])
