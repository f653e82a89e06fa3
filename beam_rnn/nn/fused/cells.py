"""The cells of `beam_rnn.nn.cells` over whole sequences, compiled: the same equations as loops.

Sequences are packed: `x` holds the rows of all first steps, then those of all second steps, and
so on, longest sequence first. Step t has `running[t]` rows, from row `offsets[t]` on; the row of
the same sequence has the same place in the step before. So no row is ever copied:
each step reads h where the step before wrote it.

Every cell has one forward and one backward function with the same arguments:

- x (rows, inputs), offsets and running (steps,);
- h_0 and c_0 (batch, hidden); only the LSTM reads c_0;
- W_x, W_h, W_n: weights in panels (`beam_rnn.nn.fused.matmul.in_panels`); W_n is the part of W_h
  of the candidate where the reset gate comes before the product;
- b_x, b_h: biases, as wide as the panels;
- h (rows, hidden): written; c (rows, hidden) too, or (batch, hidden), which is c_0 and becomes
  the c of each sequence's last step;
- gates (n, columns) and kept (n, hidden): for the backward pass, of all rows; without a backward
  pass, of at least BLOCK rows or all, which are overwritten.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import float32

from beam_rnn.nn.fused.activations import sigmoid, tanh
from beam_rnn.nn.fused.compile import compiled, inlined
from beam_rnn.nn.fused.matmul import PANEL, ROWS, add_product, padded
from beam_rnn.nn.fused.simd import FLOAT, Vector, address_of, rowwise

Function = Callable[..., Vector]
Vectors = tuple[Vector, ...]

ELMAN_SIGMOID, ELMAN_TANH, ELMAN_RELU, GRU, GRU_RESET_BEFORE, LSTM = range(6)
BLOCK = 8 * ROWS
_ZERO = float32(0)


def _relu(x: Vector) -> Vector:
    return (0.0 - x).where_above(0.0, 0.0, x)


def _elman(f: Function, derivative: Function) -> tuple[Any, Any]:
    """Forward, h = f(a), and backward, where the derivative is a function of h."""
    forwards = rowwise(lambda a: (f(a),), inputs=1, outputs=1)
    backwards = rowwise(lambda h, d_h: (derivative(h, d_h),), inputs=2, outputs=1)
    return forwards, backwards


_sigmoid_row, _sigmoid_row_back = _elman(sigmoid, lambda h, d_h: d_h * (h * (1.0 - h)))
_tanh_row, _tanh_row_back = _elman(tanh, lambda h, d_h: d_h * (1.0 - h * h))
_relu_row, _relu_row_back = _elman(_relu, lambda h, d_h: h.where_above(0.0, d_h, 0.0))


def _gru(a_r: Vector, a_z: Vector, a_n: Vector, u_r: Vector, u_z: Vector, u_n: Vector,
         h_prev: Vector) -> Vectors:  # fmt: skip
    r, z = sigmoid(a_r + u_r), sigmoid(a_z + u_z)
    n = tanh(a_n + r * u_n)
    return r, z, n, u_n, (1.0 - z) * n + z * h_prev


def _gru_back(r: Vector, z: Vector, n: Vector, u_n: Vector, h_prev: Vector,
              d_h: Vector) -> Vectors:  # fmt: skip
    d_n = d_h * (1.0 - z) * (1.0 - n * n)
    d_r = d_n * u_n * r * (1.0 - r)
    d_z = d_h * (h_prev - n) * z * (1.0 - z)
    return d_r, d_z, d_n, d_r, d_z, d_n * r, d_h * z


def _reset(a_r: Vector, a_z: Vector, h_prev: Vector) -> Vectors:
    r, z = sigmoid(a_r), sigmoid(a_z)
    return r, z, r * h_prev


def _reset_back(r: Vector, h_prev: Vector, d_reset: Vector, d_h: Vector) -> Vectors:
    return d_reset * h_prev * r * (1.0 - r), d_h + d_reset * r


def _candidate(z: Vector, a_n: Vector, u_n: Vector, h_prev: Vector) -> Vectors:
    n = tanh(a_n + u_n)
    return n, (1.0 - z) * n + z * h_prev


def _candidate_back(z: Vector, n: Vector, h_prev: Vector, d_h: Vector) -> Vectors:
    d_n = d_h * (1.0 - z) * (1.0 - n * n)
    d_z = d_h * (h_prev - n) * z * (1.0 - z)
    return d_z, d_n, d_n, d_h * z


def _lstm(a_i: Vector, a_f: Vector, a_g: Vector, a_o: Vector, c_prev: Vector) -> Vectors:
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
    c = f * c_prev + i * g
    tanh_c = tanh(c)
    return i, f, g, o, tanh_c, c, o * tanh_c


def _lstm_back(i: Vector, f: Vector, g: Vector, o: Vector, c_prev: Vector, tanh_c: Vector,
               d_h: Vector, d_c: Vector) -> Vectors:  # fmt: skip
    d_c = d_c + d_h * o * (1.0 - tanh_c * tanh_c)
    d_i = d_c * g * i * (1.0 - i)
    d_f = d_c * c_prev * f * (1.0 - f)
    d_g = d_c * i * (1.0 - g * g)
    d_o = d_h * tanh_c * o * (1.0 - o)
    return d_i, d_f, d_g, d_o, d_c * f


_gru_row, _gru_row_back = rowwise(_gru, 7, 5), rowwise(_gru_back, 6, 7)
_reset_row, _reset_row_back = rowwise(_reset, 3, 3), rowwise(_reset_back, 4, 2)
_candidate_row, _candidate_row_back = rowwise(_candidate, 4, 2), rowwise(_candidate_back, 4, 4)
_lstm_row, _lstm_row_back = rowwise(_lstm, 5, 7), rowwise(_lstm_back, 8, 5)


@inlined
def _at(x, i, column):
    """Return the address of a number."""
    return address_of(x) + i * x.strides[0] + column * FLOAT


@inlined
def _elman_row(kind, rows, m):
    if kind == ELMAN_SIGMOID:
        _sigmoid_row(rows, m)
    elif kind == ELMAN_TANH:
        _tanh_row(rows, m)
    else:
        _relu_row(rows, m)


@inlined
def _elman_row_back(kind, rows, m):
    if kind == ELMAN_SIGMOID:
        _sigmoid_row_back(rows, m)
    elif kind == ELMAN_TANH:
        _tanh_row_back(rows, m)
    else:
        _relu_row_back(rows, m)


@compiled
def _step(kind, a, h_prev, c_prev, W_h, W_n, b_h, h, c, kept, u, n):
    """Run one step of n rows; a = x W_x + b_x is given."""
    m = h.shape[1]
    if kind == GRU:
        for i in range(n):
            u[i] = b_h
        add_product(h_prev, W_h, u, n)
        for i in range(n):
            r, z, n_i = _at(a, i, 0), _at(a, i, m), _at(a, i, 2 * m)
            u_r, u_z, u_n = _at(u, i, 0), _at(u, i, m), _at(u, i, 2 * m)
            old, new, k = _at(h_prev, i, 0), _at(h, i, 0), _at(kept, i, 0)
            _gru_row((r, z, n_i, u_r, u_z, u_n, old, r, z, n_i, k, new), m)
    elif kind == GRU_RESET_BEFORE:
        add_product(h_prev, W_h, a, n)
        for i in range(n):
            u[i] = _ZERO
            r, z, old, k = _at(a, i, 0), _at(a, i, m), _at(h_prev, i, 0), _at(kept, i, 0)
            _reset_row((r, z, old, r, z, k), m)
        add_product(kept, W_n, u, n)
        for i in range(n):
            z, n_i, u_n = _at(a, i, m), _at(a, i, 2 * m), _at(u, i, 0)
            _candidate_row((z, n_i, u_n, _at(h_prev, i, 0), n_i, _at(h, i, 0)), m)
    elif kind == LSTM:
        add_product(h_prev, W_h, a, n)
        for i in range(n):
            i_i, f, g, o = _at(a, i, 0), _at(a, i, m), _at(a, i, 2 * m), _at(a, i, 3 * m)
            k, new_c, new_h = _at(kept, i, 0), _at(c, i, 0), _at(h, i, 0)
            _lstm_row((i_i, f, g, o, _at(c_prev, i, 0), i_i, f, g, o, k, new_c, new_h), m)
    else:
        add_product(h_prev, W_h, a, n)
        for i in range(n):
            _elman_row(kind, (_at(a, i, 0), _at(h, i, 0)), m)


@compiled
def forward(kind, x, offsets, running, h_0, c_0, W_x, W_h, W_n, b_x, b_h, h, c, gates, kept):
    """Run all steps of a layer in blocks of at most BLOCK rows, which fit in the caches."""
    keeps = len(gates) == len(h)
    overwrites = len(c) < len(h)
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
                c_prev = c_0[at:] if s == 0 or overwrites else c[before:]
                c_next = c_0[at:] if overwrites else c[start:]
                a = gates[base + start - first :]
                k = kept[base + start - first :]
                _step(kind, a, h_prev, c_prev, W_h, W_n, b_h, h[start:], c_next, k, u, n)
        t = stop


@compiled
def advance(layers, flat, state, x, running, every):
    """Run all steps of all layers and the head in one call.

    Args:
        layers: (layers + 1, 3) int64: kind, inputs and hidden of each; then of the head: whether
            there is one, its inputs and its outputs.
        flat: Their parameters, one after another: see `beam_rnn.nn.fused.layers.flattened`.
        state: (batch, state_size), the state before the first step.
        x: (rows, inputs).
        running: (steps,).
        every: Return the state after each step; if False, only after the last of each sequence.

    Returns:
        z (rows, padded outputs), or h of the last layer if there is no head; the states (rows,
        state_size), or (batch, state_size).
    """
    rows, size = len(x), state.shape[1]
    offsets = np.empty_like(running)
    total = 0
    for t in range(len(running)):
        offsets[t] = total
        total += running[t]
    batch = running[0]
    every = every or rows == batch
    states = np.empty((rows if every else batch, size), np.float32)
    none = np.empty((0, 0), np.float32)
    at = place = 0
    for layer in range(len(layers) - 1):
        kind, inputs, m = layers[layer]
        columns = padded(_gates_of(kind) * m)
        split = padded(2 * m) if kind == GRU_RESET_BEFORE else columns
        W_x, at = _panels(flat, at, inputs, columns)
        W_h, at = _panels(flat, at, m, split)
        W_n, at = _panels(flat, at, m, padded(m) if kind == GRU_RESET_BEFORE else 0)
        b_x, b_h = flat[at : at + columns], flat[at + columns : at + 2 * columns]
        at += 2 * columns
        lstm = kind == LSTM
        parts = 2 * m if lstm else m
        alone = parts == size and not lstm
        h = states if alone and every else np.empty((rows, m), np.float32)
        h_0 = state if alone else state[:, place : place + m].copy()
        c_0 = state[:, place + m : place + 2 * m].copy() if lstm else none
        c = np.empty((rows, m), np.float32) if lstm and every else c_0
        block = min(rows, BLOCK)
        gates, kept = np.empty((block, columns), np.float32), np.empty((block, m), np.float32)
        forward(kind, x, offsets, running, h_0, c_0, W_x, W_h, W_n, b_x, b_h, h, c, gates, kept)
        if not every:
            _copy_last(h, offsets, running, states[:, place : place + m])
        elif not alone:
            states[:, place : place + m] = h
        if lstm:
            states[:, place + m : place + 2 * m] = c
        x = h
        place += parts
    head, inputs, outputs = layers[-1]
    if not head:
        return x, states
    W_y, at = _panels(flat, at, inputs, padded(outputs))
    z = np.empty((rows, padded(outputs)), np.float32)
    linear(x, W_y, flat[at:], z)
    return z, states


@compiled
def _copy_last(h, offsets, running, last):
    """Copy the rows of the last step of each sequence."""
    for t in range(len(running)):
        still = running[t + 1] if t + 1 < len(running) else 0
        for i in range(still, running[t]):
            last[i] = h[offsets[t] + i]


@inlined
def _gates_of(kind):
    return 1 if kind < GRU else (4 if kind == LSTM else 3)


@inlined
def _panels(flat, at, k, columns):
    end = at + k * columns
    return flat[at:end].reshape(columns // PANEL, k, PANEL), end


@compiled
def linear(x, W, b, z):
    """Write z = x W + b, for W in panels."""
    for i in range(len(x)):
        z[i] = b[: z.shape[1]]
    add_product(x, W, z, len(x))


@compiled
def _step_back(kind, a, h_prev, c_prev, W_hT, W_nT, h, kept, d_h, d_c, d_u, d_z, d_n, n):
    """Compute the gradient of a step of n rows; d_h becomes that of the step before."""
    m = h.shape[1]
    if kind == GRU:
        for i in range(n):
            r, z, n_i = _at(a, i, 0), _at(a, i, m), _at(a, i, 2 * m)
            u_r, u_z, u_n = _at(d_u, i, 0), _at(d_u, i, m), _at(d_u, i, 2 * m)
            d = _at(d_h, i, 0)
            read = r, z, n_i, _at(kept, i, 0), _at(h_prev, i, 0), d
            _gru_row_back((*read, r, z, n_i, u_r, u_z, u_n, d), m)
        add_product(d_u, W_hT, d_h, n)
    elif kind == GRU_RESET_BEFORE:
        for i in range(n):
            z, n_i, d = _at(a, i, m), _at(a, i, 2 * m), _at(d_h, i, 0)
            made = _at(d_z, i, 0), _at(d_n, i, 0), n_i, d
            _candidate_row_back((z, n_i, _at(h_prev, i, 0), d, *made), m)
            d_u[i] = _ZERO  # of r h_prev
        add_product(d_n, W_nT, d_u, n)
        for i in range(n):
            r, d = _at(a, i, 0), _at(d_h, i, 0)
            _reset_row_back((r, _at(h_prev, i, 0), _at(d_u, i, 0), d, r, d), m)
            a[i, m : 2 * m] = d_z[i]
        add_product(a, W_hT, d_h, n)
    else:
        for i in range(n):
            d = _at(d_h, i, 0)
            if kind == LSTM:
                i_i, f, g, o = _at(a, i, 0), _at(a, i, m), _at(a, i, 2 * m), _at(a, i, 3 * m)
                d_c_i = _at(d_c, i, 0)
                gates = i_i, f, g, o
                before = _at(c_prev, i, 0), _at(kept, i, 0)
                _lstm_row_back((*gates, *before, d, d_c_i, *gates, d_c_i), m)
            else:
                _elman_row_back(kind, (_at(h, i, 0), d, _at(a, i, 0)), m)
            d_h[i] = _ZERO
        add_product(a, W_hT, d_h, n)


@compiled
def backward(
    kind, offsets, running, h_0, c_0, W_hT, W_nT, h, c, gates, kept, d_h, d_last, d_c, d_u, h_prev
):
    """Compute the gradient of `forward`, whose arguments have the same names.

    The gates become d_a, the gradient with respect to a = x W_x + b_x. If the reset gate comes
    before the product, `kept` is r h_prev, the input of the candidate's weights.

    Args:
        W_hT, W_nT: The transposed weights in panels.
        d_h: (rows, hidden), the gradient with respect to h.
        d_last, d_c: (batch, padded hidden), the gradient with respect to the last state; they
            become that with respect to the first.
        d_u: (rows, columns), written: of the GRU, the gradient with respect to h W_h + b_h; of
            other cells, scratch space.
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
