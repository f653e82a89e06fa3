"""The cells of `beam_rnn.cells` over whole sequences, compiled: the same equations, loop by loop.

Sequences are packed: `x` holds the rows of all first steps, then those of all second steps, and
so on, longest sequence first. Step t has `running[t]` rows, from row `offsets[t]` on; the row of
the same sequence a step before stands at the same place in that step. So no row is ever copied:
h of a step is read where the step before wrote it.

Every cell has one forward and one backward function with the same arguments:

- x (rows, inputs), offsets and running (steps,);
- h_0 and c_0 (batch, hidden); c_0 is not read but by the LSTM;
- W_x, W_h, W_n: weights in panels (`beam_rnn.fused.product.in_panels`); W_n is the part of W_h
  of the candidate where the reset gate comes before the product;
- b_x, b_h: biases, as wide as the panels;
- h, c (rows, hidden): written;
- gates (n, columns) and kept (n, hidden): what the backward pass needs, of all rows; or, where
  none follows, of at least BLOCK rows or all, to be overwritten.
"""

import numpy as np
from numba import float32

from beam_rnn.fused.activations import sigmoid, tanh
from beam_rnn.fused.compiling import compiled, inlined
from beam_rnn.fused.product import PANEL, ROWS, add_product

ELMAN_SIGMOID, ELMAN_TANH, ELMAN_RELU, GRU, GRU_RESET_BEFORE, LSTM = range(6)
BLOCK = 8 * ROWS
_ONE = float32(1)
_ZERO = float32(0)


@inlined
def _sigmoid_rows(a, u, start, stop):
    for j in range(start, stop):
        a[j] = sigmoid(a[j] + u[j])


@compiled
def _elman_row(kind, a, h):
    if kind == ELMAN_SIGMOID:
        for j in range(len(h)):
            h[j] = sigmoid(a[j])
    elif kind == ELMAN_TANH:
        for j in range(len(h)):
            h[j] = tanh(a[j])
    else:
        for j in range(len(h)):
            h[j] = max(a[j], _ZERO)


@compiled
def _gru_row(a, u, h_prev, h, kept):
    m = len(h)
    r, z, n = a[:m], a[m : 2 * m], a[2 * m : 3 * m]
    u_n = u[2 * m : 3 * m]
    for j in range(2 * m):
        a[j] = sigmoid(a[j] + u[j])
    for j in range(m):
        n[j] = tanh(n[j] + r[j] * u_n[j])
        kept[j] = u_n[j]
    for j in range(m):
        h[j] = (_ONE - z[j]) * n[j] + z[j] * h_prev[j]


@compiled
def _reset_row(a, h_prev, reset):
    m = len(h_prev)
    for j in range(2 * m):
        a[j] = sigmoid(a[j])
    for j in range(m):
        reset[j] = a[j] * h_prev[j]


@compiled
def _candidate_row(a, u_n, h_prev, h):
    m = len(h)
    z, n = a[m : 2 * m], a[2 * m : 3 * m]
    for j in range(m):
        n[j] = tanh(n[j] + u_n[j])
    for j in range(m):
        h[j] = (_ONE - z[j]) * n[j] + z[j] * h_prev[j]


@compiled
def _lstm_row(a, c_prev, h, c, kept):
    m = len(h)
    i, f, g, o = a[:m], a[m : 2 * m], a[2 * m : 3 * m], a[3 * m : 4 * m]
    for j in range(2 * m):
        a[j] = sigmoid(a[j])
    for j in range(m):
        g[j] = tanh(g[j])
    for j in range(m):
        o[j] = sigmoid(o[j])
    for j in range(m):
        c[j] = f[j] * c_prev[j] + i[j] * g[j]
    for j in range(m):
        kept[j] = tanh(c[j])
    for j in range(m):
        h[j] = o[j] * kept[j]


@compiled
def _step(kind, a, h_prev, c_prev, W_h, W_n, b_h, h, c, kept, u, n):
    """One step of n rows, of which a = x W_x + b_x is there."""
    if kind == GRU:
        for i in range(n):
            u[i] = b_h
        add_product(h_prev, W_h, u, n)
        for i in range(n):
            _gru_row(a[i], u[i], h_prev[i], h[i], kept[i])
    elif kind == GRU_RESET_BEFORE:
        add_product(h_prev, W_h, a, n)
        for i in range(n):
            u[i] = _ZERO
            _reset_row(a[i], h_prev[i], kept[i])
        add_product(kept, W_n, u, n)
        for i in range(n):
            _candidate_row(a[i], u[i], h_prev[i], h[i])
    elif kind == LSTM:
        add_product(h_prev, W_h, a, n)
        for i in range(n):
            _lstm_row(a[i], c_prev[i], h[i], c[i], kept[i])
    else:
        add_product(h_prev, W_h, a, n)
        for i in range(n):
            _elman_row(kind, a[i], h[i])


@compiled
def forward(kind, x, offsets, running, h_0, c_0, W_x, W_h, W_n, b_x, b_h, h, c, gates, kept):
    """All steps of a layer, a block of at most BLOCK rows at a time, all of it in the caches."""
    keeps = len(gates) == len(h)
    u = np.empty((min(BLOCK, running[0]), b_h.shape[0]), np.float32)
    t = 0
    while t < len(running):
        stop = t + 1
        while stop < len(running) and offsets[stop] + running[stop] - offsets[t] <= BLOCK:
            stop += 1
        end = offsets[stop - 1] + running[stop - 1]
        for first in range(offsets[t], end, BLOCK):  # one block, unless a step has more rows
            rows = min(BLOCK, end - first)
            base = first if keeps else 0
            for i in range(rows):
                gates[base + i] = b_x
            add_product(x[first:], W_x, gates[base:], rows)
            for s in range(t, stop):
                start = max(first, offsets[s])
                n = min(offsets[s] + running[s], first + rows) - start
                at = start - offsets[s]
                before = offsets[s - 1] + at
                h_prev = h_0[at:] if s == 0 else h[before:]
                c_prev = c_0[at:] if s == 0 else c[before:]
                a = gates[base + start - first :]
                k = kept[base + start - first :]
                _step(kind, a, h_prev, c_prev, W_h, W_n, b_h, h[start:], c[start:], k, u, n)
        t = stop


@compiled
def advance(layers, flat, state, x, running):
    """All steps of all layers and the head, in one call.

    Args:
        layers: (layers + 1, 3) int64: kind, inputs and hidden of each; then of the head: whether
            there is one, its inputs and its outputs.
        flat: Their parameters, one after another: see `beam_rnn.fused.layers.flattened`.
        state: (batch, state_size), the state before the first step.
        x: (rows, inputs).
        running: (steps,).

    Returns:
        z (rows, padded outputs), or h of the last layer if there is no head; the state after
        each step (rows, state_size).
    """
    rows, size = len(x), state.shape[1]
    offsets = np.empty_like(running)
    total = 0
    for t in range(len(running)):
        offsets[t] = total
        total += running[t]
    states = np.empty((rows, size), np.float32)
    none = np.empty((0, 0), np.float32)
    at = place = 0
    for layer in range(len(layers) - 1):
        kind, inputs, m = layers[layer]
        columns = _padded(_gates_of(kind) * m)
        split = _padded(2 * m) if kind == GRU_RESET_BEFORE else columns
        W_x, at = _panels(flat, at, inputs, columns)
        W_h, at = _panels(flat, at, m, split)
        W_n, at = _panels(flat, at, m, _padded(m) if kind == GRU_RESET_BEFORE else 0)
        b_x, b_h = flat[at : at + columns], flat[at + columns : at + 2 * columns]
        at += 2 * columns
        lstm = kind == LSTM
        parts = 2 * m if lstm else m
        alone = parts == size and not lstm
        h = states if alone else np.empty((rows, m), np.float32)
        c = np.empty((rows, m), np.float32) if lstm else none
        h_0 = state if alone else state[:, place : place + m].copy()
        c_0 = state[:, place + m : place + 2 * m].copy() if lstm else none
        block = min(rows, BLOCK)
        gates, kept = np.empty((block, columns), np.float32), np.empty((block, m), np.float32)
        forward(kind, x, offsets, running, h_0, c_0, W_x, W_h, W_n, b_x, b_h, h, c, gates, kept)
        if not alone:
            for i in range(rows):
                states[i, place : place + m] = h[i]
                if lstm:
                    states[i, place + m : place + 2 * m] = c[i]
        x = h
        place += parts
    head, inputs, outputs = layers[-1]
    if not head:
        return x, states
    W_y, at = _panels(flat, at, inputs, _padded(outputs))
    z = np.empty((rows, _padded(outputs)), np.float32)
    linear(x, W_y, flat[at:], z)
    return z, states


@inlined
def _padded(columns):
    return (columns + PANEL - 1) // PANEL * PANEL


@inlined
def _gates_of(kind):
    return 1 if kind < GRU else (4 if kind == LSTM else 3)


@inlined
def _panels(flat, at, k, columns):
    end = at + k * columns
    return flat[at:end].reshape(columns // PANEL, k, PANEL), end


@compiled
def linear(x, W, b, z):
    """z = x W + b, for W in panels."""
    for i in range(len(x)):
        z[i] = b[: z.shape[1]]
    add_product(x, W, z, len(x))


@compiled
def _elman_row_back(kind, h, d_h, d_a):
    if kind == ELMAN_SIGMOID:
        for j in range(len(h)):
            d_a[j] = d_h[j] * (h[j] * (_ONE - h[j]))
    elif kind == ELMAN_TANH:
        for j in range(len(h)):
            d_a[j] = d_h[j] * (_ONE - h[j] * h[j])
    else:
        for j in range(len(h)):
            d_a[j] = d_h[j] if h[j] > _ZERO else _ZERO


@compiled
def _gru_row_back(a, u_n, h_prev, d_h, d_u):
    """The gates become d_a; d_h becomes its part that passes by the gates."""
    m = len(h_prev)
    r, z, n = a[:m], a[m : 2 * m], a[2 * m : 3 * m]
    d_r, d_z, d_rn = d_u[:m], d_u[m : 2 * m], d_u[2 * m : 3 * m]
    for j in range(m):
        d_z[j] = d_h[j] * (h_prev[j] - n[j]) * z[j] * (_ONE - z[j])
    for j in range(m):
        n[j] = d_h[j] * (_ONE - z[j]) * (_ONE - n[j] * n[j])
    for j in range(m):
        d_r[j] = n[j] * u_n[j] * r[j] * (_ONE - r[j])
    for j in range(m):
        d_rn[j] = n[j] * r[j]
    for j in range(m):
        d_h[j] = d_h[j] * z[j]
    for j in range(2 * m):
        a[j] = d_u[j]


@compiled
def _candidate_row_back(a, h_prev, d_h, d_z, d_n):
    """The candidate's part of the gates becomes d_a; d_h becomes its part that passes by."""
    m = len(h_prev)
    z, n = a[m : 2 * m], a[2 * m : 3 * m]
    for j in range(m):
        d_z[j] = d_h[j] * (h_prev[j] - n[j]) * z[j] * (_ONE - z[j])
    for j in range(m):
        d_n[j] = d_h[j] * (_ONE - z[j]) * (_ONE - n[j] * n[j])
    for j in range(m):
        d_h[j] = d_h[j] * z[j]
    for j in range(m):
        n[j] = d_n[j]


@compiled
def _reset_row_back(a, h_prev, d_reset, d_h, d_z):
    """The gates' part becomes d_a, once the gradient of r h_prev is known."""
    m = len(h_prev)
    r, z = a[:m], a[m : 2 * m]
    for j in range(m):
        d_h[j] += d_reset[j] * r[j]
    for j in range(m):
        r[j] = d_reset[j] * h_prev[j] * r[j] * (_ONE - r[j])
    for j in range(m):
        z[j] = d_z[j]


@compiled
def _lstm_row_back(a, c_prev, tanh_c, d_h, d_c):
    """The gates become d_a; d_c becomes that of the step before."""
    m = len(tanh_c)
    i, f, g, o = a[:m], a[m : 2 * m], a[2 * m : 3 * m], a[3 * m : 4 * m]
    for j in range(m):
        d_c[j] += d_h[j] * o[j] * (_ONE - tanh_c[j] * tanh_c[j])
    for j in range(m):
        o[j] = d_h[j] * tanh_c[j] * o[j] * (_ONE - o[j])
    for j in range(m):
        d_g = d_c[j] * i[j] * (_ONE - g[j] * g[j])
        i[j] = d_c[j] * g[j] * i[j] * (_ONE - i[j])
        g[j] = d_g
    for j in range(m):
        d_f = d_c[j] * c_prev[j] * f[j] * (_ONE - f[j])
        d_c[j] = d_c[j] * f[j]
        f[j] = d_f


@compiled
def _step_back(kind, a, h_prev, c_prev, W_hT, W_nT, h, kept, d_h, d_c, d_u, d_z, d_n, n):
    """The gradient of a step of n rows; d_h becomes that of the step before."""
    m = h.shape[1]
    if kind == GRU:
        for i in range(n):
            _gru_row_back(a[i], kept[i], h_prev[i], d_h[i, :m], d_u[i])
        add_product(d_u, W_hT, d_h, n)
    elif kind == GRU_RESET_BEFORE:
        for i in range(n):
            _candidate_row_back(a[i], h_prev[i], d_h[i, :m], d_z[i, :m], d_n[i])
            d_u[i] = _ZERO  # of r h_prev
        add_product(d_n, W_nT, d_u, n)
        for i in range(n):
            _reset_row_back(a[i], h_prev[i], d_u[i, :m], d_h[i, :m], d_z[i, :m])
        add_product(a, W_hT, d_h, n)
    else:
        for i in range(n):
            if kind == LSTM:
                _lstm_row_back(a[i], c_prev[i], kept[i], d_h[i, :m], d_c[i, :m])
            else:
                _elman_row_back(kind, h[i], d_h[i, :m], a[i, :m])
            d_h[i] = _ZERO
        add_product(a, W_hT, d_h, n)


@compiled
def backward(
    kind, offsets, running, h_0, c_0, W_hT, W_nT, h, c, gates, kept, d_h, d_last, d_c, d_u, h_prev
):
    """The gradient of `forward`, whose arguments have the same names.

    The gates become d_a, the gradient with respect to a = x W_x + b_x. Where the reset gate comes
    first, `kept` is r h_prev, which the candidate's weights see.

    Args:
        W_hT, W_nT: The transposed weights in panels.
        d_h: (rows, hidden), the gradient with respect to h.
        d_last, d_c: (batch, padded hidden), the gradient with respect to the last state; they
            become that with respect to the first.
        d_u: (rows, columns), written: of the GRU, the gradient with respect to h W_h + b_h; of
            other cells, nothing that lasts.
        h_prev: (rows, hidden), written: h of the step before.
    """
    m, batch = h.shape[1], running[0]
    alone = kind == GRU_RESET_BEFORE
    d_z = np.empty((batch if alone else 0, m), np.float32)
    d_n = np.empty((batch if alone else 0, m), np.float32)
    for t in range(len(running) - 1, -1, -1):
        n, start = running[t], offsets[t]
        before = offsets[t - 1]
        of_h = h_0 if t == 0 else h[before:]
        of_c = c_0 if t == 0 else c[before:]
        for i in range(n):
            h_prev[start + i] = of_h[i]
            for j in range(m):
                d_last[i, j] += d_h[start + i, j]
        of_u = d_u[start if kind == GRU else 0 :]
        _step_back(
            kind, gates[start:], h_prev[start:], of_c, W_hT, W_nT, h[start:], kept[start:], d_last,
            d_c, of_u, d_z, d_n, n,
        )  # fmt: skip
