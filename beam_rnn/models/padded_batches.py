"""A padded batch (batch, time, inputs), run as packed sequences."""

from collections.abc import Callable

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.packed_sequences import last_rows, rows_of, running_at

PackedRun = Callable[[Array, Array, Array], tuple[Array, Array]]
"""`Model.advance`, which here returns the state after each sequence's last step."""


def run_equal_lengths(
    advance: PackedRun, x: Array, state: Array, *, last_only: bool
) -> tuple[Array, Array]:
    """Run sequences that all fill `time`.

        >>> def running_sum(state, rows, running):
        ...     sums = state + rows.reshape(len(running), *state.shape).cumsum(0)
        ...     return sums.reshape(rows.shape), sums[-1]
        >>> y, state = run_equal_lengths(
        ...     running_sum, np.ones((1, 3, 1)), np.zeros((1, 1)), last_only=False)
        >>> y.ravel(), state
        (array([1., 2., 3.]), array([[3.]]))

    Args:
        advance: Steps packed sequences.
        x: (batch, time, inputs), with at least one step.
        state: (batch, state_size), the state before the first step.
        last_only: Return the outputs of the last step only.

    Returns:
        y (batch, time, outputs) or (batch, outputs), and the state after the last step.
    """
    batch, time, inputs = x.shape
    rows = x.swapaxes(0, 1).reshape(-1, inputs)
    y, after = advance(state, rows, np.full(time, batch))
    outputs = y.reshape(time, batch, -1).swapaxes(0, 1)
    return (outputs[:, -1] if last_only else outputs), after


def run_lengths(
    advance: PackedRun, x: Array, lengths: Array, state: Array, *, last_only: bool
) -> tuple[Array, Array]:
    """Run sequences of different lengths, at least one of which is not empty.

    Args:
        advance: Steps packed sequences.
        x: (batch, time, inputs).
        lengths: (batch,), the length of each sequence.
        state: (batch, state_size), the state before the first step.
        last_only: Return the outputs of each sequence's last step only.

    Returns:
        y (batch, time, outputs) or (batch, outputs), zero after a sequence's end, and the state
        after each sequence's last step.
    """
    batch, time, _ = x.shape
    order = np.argsort(-lengths, kind="stable")[: np.count_nonzero(lengths)]
    running = running_at(lengths[order], int(lengths.max()))
    steps, sequences = rows_of(running)
    at = order[sequences], steps
    after = state.copy()
    y, after[order] = advance(state[order], x[at], running)
    if last_only:
        outputs = np.zeros((batch, y.shape[1]), y.dtype)
        outputs[order] = y[last_rows(lengths[order], running)]
    else:
        outputs = np.zeros((batch, time, y.shape[1]), y.dtype)
        outputs[at] = y
    return outputs, after
