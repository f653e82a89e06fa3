"""Missing values: the last one that was there is carried forward, and the network sees that it was.

A field that is missing is NaN in a record. The values that are carried are a part of the hidden
state, behind that of the network, so that a stream has them wherever it has the state.
"""

import numpy as np

from beam_rnn.core.arrays import Array


def carry_forward(before: Array, x: Array, running: Array) -> tuple[Array, Array]:
    """Packed sequences without missing values; see `beam_rnn.core.packed_sequences`.

        >>> x = np.array([[1.0, 0.5], [np.nan, 0.6]], np.float32)
        >>> filled, carried = carry_forward(np.zeros((1, 1), np.float32), x, np.array([1, 1]))
        >>> filled
        array([[1. , 0.5, 1. ],
               [1. , 0.6, 0. ]], dtype=float32)

    Args:
        before: (batch, fields), what is carried into the first step: 0 where nothing was yet.
        x: (rows, numbers), scaled; the first are the fields, NaN where they are missing.
        running: (steps,), how many sequences run at each step; falling.

    Returns:
        x (rows, numbers + fields), each field filled, and behind all whether it was there: 1 or 0.
        And what is carried after each row: (rows, fields).
    """
    fields = x[:, : before.shape[1]]
    there = ~np.isnan(fields)
    carried = fields
    if not there.all():
        carried = np.empty_like(fields)
        start = 0
        for n in running:
            rows = slice(start, start + n)
            carried[rows] = before = np.where(there[rows], fields[rows], before[:n])
            start += n
    return np.concatenate([carried, x[:, before.shape[1] :], there], 1, dtype=x.dtype), carried


def carry_through(x: Array, fields: int) -> Array:
    """`carry_forward` of one sequence from its beginning: (steps, numbers + fields)."""
    there = ~np.isnan(x[:, :fields])
    last = np.maximum.accumulate(np.where(there, np.arange(len(x))[:, np.newaxis], -1))
    filled = np.where(last >= 0, np.take_along_axis(x[:, :fields], last.clip(0), 0), 0.0)
    return np.concatenate([filled, x[:, fields:], there], 1)
