"""One direction of a layer over a batch of sequences: the forward pass and its gradient.

Time comes first, (time, batch, features), so that a step is one block of memory. The sequences of
a batch are sorted, longest first, so that the sequences that run at a step are the first rows:
padding is never computed.
"""

from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.nn.cells import Cache, Cell, CellParameters, State, project
from beam_rnn.nn.products import matmul


class LayerTrace(NamedTuple):
    """The arrays that one direction of a layer keeps for the backward pass."""

    x: Array  # (time, batch, inputs)
    caches: list[Cache]  # one per step, of the rows that run there; empty if not kept
    h: Array  # (time, batch, hidden)


def layer_forward(
    cell: Cell, p: CellParameters, x: Array, state: State, running: Array, *, keep: bool = True
) -> tuple[Array, State, LayerTrace]:
    """Run one layer over a batch of sequences, longest first.

    Args:
        cell: The cell.
        p: Its parameters.
        x: (time, batch, inputs).
        state: The state before the first step.
        running: (time,), the number of rows that run at each step, the first ones.
        keep: Keep what the backward pass needs.

    Returns:
        h of every step (time, batch, hidden), zero where a sequence has ended; the state
        after each sequence's last step; the trace for `layer_backward`.
    """
    steps, batch, inputs = x.shape
    a = project(p, x.reshape(steps * batch, inputs)).reshape(steps, batch, p.W_x.shape[1])
    h = np.zeros((steps, batch, p.W_h.shape[0]), x.dtype)
    last = tuple(s.copy() for s in state)
    caches = []
    for t, n in enumerate(running):
        following, cache = cell.forward(p, tuple(s[:n] for s in state), a[t, :n])
        if keep:
            caches.append(cache)
        h[t, :n] = following[0]
        for kept, s in zip(last, following, strict=True):
            kept[:n] = s
        state = following
    return h, last, LayerTrace(x, caches, h)


def layer_backward(
    cell: Cell,
    p: CellParameters,
    trace: LayerTrace,
    d_h: Array,
    d_last: State,
    running: Array,
) -> tuple[CellParameters, Array, State]:
    """Return the gradient of `layer_forward`.

    Args:
        cell: The cell.
        p: Its parameters.
        trace: From `layer_forward`.
        d_h: (time, batch, hidden), the gradient with respect to h.
        d_last: The gradient with respect to the last state.
        running: (time,), the number of rows that run at each step, the first ones.

    Returns:
        The gradients with respect to the parameters, to x and to the first state.
    """
    steps, batch, inputs = trace.x.shape
    d_a = np.zeros((steps, batch, p.W_x.shape[1]), trace.x.dtype)
    d_W_h, d_b_h = np.zeros_like(p.W_h), np.zeros_like(p.b_h)
    d_state = tuple(d.copy() for d in d_last)
    for t in reversed(range(steps)):
        n = running[t]
        d_state[0][:n] += d_h[t, :n]
        step = cell.backward(p, trace.caches[t], tuple(d[:n] for d in d_state))
        for d, before in zip(d_state, step.state, strict=True):
            d[:n] = before
        d_a[t, :n] = step.a
        d_W_h += step.W_h
        d_b_h += step.b_h
    x = trace.x.reshape(steps * batch, inputs)
    rows = d_a.reshape(steps * batch, p.W_x.shape[1])
    gradient = CellParameters(matmul(x.T, rows), d_W_h, rows.sum(0), d_b_h)
    return gradient, matmul(rows, p.W_x.T).reshape(trace.x.shape), d_state
