"""Forward filling of missing values, with a mask of the present ones as further inputs.

A missing field is NaN in a record. The carried values are part of the hidden state, after the state
of the network, so that a stream keeps them with the state.
"""

import numpy as np

from beam_rnn.core.arrays import Array


def carry_forward(before: Array, x: Array, running: Array) -> tuple[Array, Array]:
    """Fill the missing values of packed sequences: see `beam_rnn.core.packed_sequences`.

        >>> x = np.array([[1.0, 0.5], [np.nan, 0.6]], np.float32)
        >>> filled, carried = carry_forward(np.zeros((1, 1), np.float32), x, np.array([1, 1]))
        >>> filled
        array([[1. , 0.5, 1. ],
               [1. , 0.6, 0. ]], dtype=float32)

    Args:
        before: (batch, fields), the values carried into the first step; 0 where there is none yet.
        x: (rows, numbers), scaled; the fields come first, NaN where they are missing.
        running: (steps,), the number of sequences that run at each step; decreasing.

    Returns:
        x (rows, numbers + fields), with the fields filled, and a mask at the end: 1 where a field
        was present, 0 where it was missing. And the carried values after each row: (rows, fields).
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
    """Apply `carry_forward` to one whole sequence: (steps, numbers + fields)."""
    there = ~np.isnan(x[:, :fields])
    last = np.maximum.accumulate(np.where(there, np.arange(len(x))[:, np.newaxis], -1))
    filled = np.where(last >= 0, np.take_along_axis(x[:, :fields], last.clip(0), 0), 0.0)
    return np.concatenate([filled, x[:, fields:], there], 1)
