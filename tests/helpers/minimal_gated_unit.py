"""A cell that is not the library's, as a user would write it."""

import numpy as np

from beam_rnn.cells import Cell, StepGradient, sigmoid
from beam_rnn.nn.products import matmul, product


def forward(p, state, a):
    """The minimal gated unit: a GRU with one gate (Zhou 2016); gates f, n."""
    (h_prev,) = state
    m = h_prev.shape[1]
    f = sigmoid(a[:, :m] + product(h_prev, p.W_h[:, :m]) + p.b_h[:m])
    n = np.tanh(a[:, m:] + product(f * h_prev, p.W_h[:, m:]) + p.b_h[m:])
    h = (1 - f) * h_prev + f * n
    return (h,), (h_prev, f, n)


def backward(p, cache, d_state):
    """The gradient of `forward`."""
    h_prev, f, n = cache
    (d_h,) = d_state
    m = h_prev.shape[1]
    d_n = d_h * f * (1 - n * n)
    d_fh = matmul(d_n, p.W_h[:, m:].T)
    d_f = (d_h * (n - h_prev) + d_fh * h_prev) * f * (1 - f)
    d_a = np.concatenate([d_f, d_n], 1)
    d_h_prev = d_h * (1 - f) + d_fh * f + matmul(d_f, p.W_h[:, :m].T)
    d_W_h = np.concatenate([matmul(h_prev.T, d_f), matmul((f * h_prev).T, d_n)], 1)
    return StepGradient((d_h_prev,), d_a, d_W_h, d_a.sum(0))


MINIMAL_GATED_UNIT = Cell(gates=2, states=1, forward=forward, backward=backward)
