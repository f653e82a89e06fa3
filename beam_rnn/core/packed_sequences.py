"""Packed sequences: sequences of different lengths without padding.

The rows of all first steps, then those of all second steps, and so on, longest sequence first:
what PyTorch calls a packed sequence. The sequences that still run at a step are the first ones.
`Model.advance` takes them.
"""

import numpy as np

from beam_rnn.core.arrays import Array


def running_at(lengths: Array, steps: int) -> Array:
    """Return the number of sequences that run at each step: (steps,)."""
    ended = np.cumsum(np.bincount(np.minimum(lengths, steps), minlength=steps + 1))
    return len(lengths) - ended[:steps]


def offsets_of(running: Array) -> Array:
    """Return the first row of each step: (steps,)."""
    return np.cumsum(running) - running


def rows_of(running: Array) -> tuple[Array, Array]:
    """Return the step and the sequence of each row.

    >>> rows_of(np.array([2, 1]))
    (array([0, 0, 1]), array([0, 1, 0]))
    """
    steps = np.repeat(np.arange(len(running)), running)
    return steps, np.arange(len(steps)) - offsets_of(running)[steps]


def last_rows(lengths: Array, running: Array) -> Array:
    """Return the row of each sequence's last step. Every sequence has at least one step.

    Args:
        lengths: (batch,), decreasing.
        running: (steps,), from `running_at`.
    """
    return offsets_of(running)[lengths - 1] + np.arange(len(lengths))
