"""The recurrent cells as pure functions, written like their equations.

Symbols: x input, h hidden state, c cell state of the LSTM, W_x and W_h weights, b_x and
b_h biases. Row vectors throughout: a batch is (batch, features) and multiplies from the
left. Two biases, one on each product, as in PyTorch and cuDNN: their sum is the one bias
of the textbook, and training takes the same steps as it does there.

A cell is a `Cell`: a forward and a backward function for one step. The product of the
input, a = x W_x + b_x, has no recurrence in it and so is not the cell's business: it is
made for all steps of a sequence at once (`project`). The cell starts from a.

    >>> p = CellParameters(*(np.zeros(s) for s in CELLS["gru"].shapes(inputs=2, hidden=3)))
    >>> state = CELLS["gru"].initial_state(batch=1, hidden=3, dtype=np.float64)
    >>> (h,), _ = CELLS["gru"].forward(p, state, project(p, np.ones((1, 2))))
    >>> h
    array([[0., 0., 0.]])
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.nn.products import matmul, product

State = tuple[Array, ...]
"""What a cell carries from step to step: (h,), or (h, c) for the LSTM."""
Cache = tuple[Array, ...]
"""What a forward step keeps for its backward step."""


class CellParameters(NamedTuple):
    """The parameters of one layer, the gates side by side in the columns."""

    W_x: Array  # (inputs, gates * hidden)
    W_h: Array  # (hidden, gates * hidden)
    b_x: Array  # (gates * hidden,)
    b_h: Array  # (gates * hidden,)


class StepGradient(NamedTuple):
    """The gradient of the loss through one step."""

    state: State  # with respect to the state before the step
    a: Array  # with respect to a = x W_x + b_x
    W_h: Array
    b_h: Array


class Cell(NamedTuple):
    """A recurrent cell.

    Attributes:
        gates: How many blocks of `hidden` columns the weights have.
        states: How many arrays the cell carries; the first is h, its output.
        forward: (parameters, state, a) -> (next state, cache); a is (batch, gates * hidden).
        backward: (parameters, cache, d_state) -> `StepGradient`, where d_state is the
            gradient with respect to the state that forward returned.
    """

    gates: int
    states: int
    forward: Callable[[CellParameters, State, Array], tuple[State, Cache]]
    backward: Callable[[CellParameters, Cache, State], StepGradient]

    def shapes(self, inputs: int, hidden: int) -> tuple[tuple[int, ...], ...]:
        """The shapes of W_x, W_h, b_x and b_h."""
        columns = self.gates * hidden
        return (inputs, columns), (hidden, columns), (columns,), (columns,)

    def initial_state(self, batch: int, hidden: int, dtype: DTypeLike) -> State:
        """h_0 = 0, and c_0 = 0 where there is one: arrays of (batch, hidden)."""
        return tuple(np.zeros((batch, hidden), dtype) for _ in range(self.states))


def linear(x: Array, weights: Array, bias: Array) -> Array:
    """X @ weights + bias; x is (batch, inputs)."""
    return product(x, weights) + bias


def project(p: CellParameters, x: Array) -> Array:
    """The input's part of every gate: a = x W_x + b_x; x is (batch, inputs)."""
    return linear(x, p.W_x, p.b_x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by way of tanh, which cannot overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.maximum(x, 0)


def _gates(x: Array, gates: int) -> list[Array]:
    hidden = x.shape[1] // gates
    return [x[:, i * hidden : (i + 1) * hidden] for i in range(gates)]


def elman(f: Callable[[Array], Array], derivative: Callable[[Array], Array]) -> Cell:
    """The Elman network with the activation f (Elman 1990).

    Args:
        f: The activation.
        derivative: f' as a function of h = f(.).
    """

    def forward(p: CellParameters, state: State, a: Array) -> tuple[State, Cache]:
        (h_prev,) = state
        h = f(a + product(h_prev, p.W_h) + p.b_h)
        return (h,), (h_prev, h)

    def backward(p: CellParameters, cache: Cache, d_state: State) -> StepGradient:
        h_prev, h = cache
        (d_h,) = d_state
        d_a = d_h * derivative(h)
        return StepGradient((matmul(d_a, p.W_h.T),), d_a, matmul(h_prev.T, d_a), d_a.sum(0))

    return Cell(1, 1, forward, backward)


def gru_forward(p: CellParameters, state: State, a: Array) -> tuple[State, Cache]:
    """The GRU with the reset gate after the recurrent product; gates r, z, n (PyTorch)."""
    (h_prev,) = state
    a_r, a_z, a_n = _gates(a, 3)
    u_r, u_z, u_n = _gates(product(h_prev, p.W_h) + p.b_h, 3)
    r = sigmoid(a_r + u_r)
    z = sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    h = (1 - z) * n + z * h_prev
    return (h,), (h_prev, r, z, n, u_n)


def gru_backward(p: CellParameters, cache: Cache, d_state: State) -> StepGradient:
    """The gradient of `gru_forward`."""
    h_prev, r, z, n, u_n = cache
    (d_h,) = d_state
    d_n = d_h * (1 - z) * (1 - n * n)
    d_r = d_n * u_n * r * (1 - r)
    d_z = d_h * (h_prev - n) * z * (1 - z)
    d_a = np.concatenate([d_r, d_z, d_n], 1)
    d_u = np.concatenate([d_r, d_z, d_n * r], 1)
    d_h_prev = d_h * z + matmul(d_u, p.W_h.T)
    return StepGradient((d_h_prev,), d_a, matmul(h_prev.T, d_u), d_u.sum(0))


def gru_reset_before_forward(p: CellParameters, state: State, a: Array) -> tuple[State, Cache]:
    """The GRU with the reset gate before the recurrent product; gates r, z, n (Cho 2014)."""
    (h_prev,) = state
    m = h_prev.shape[1]
    a_r, a_z, a_n = _gates(a, 3)
    u_r, u_z = _gates(product(h_prev, p.W_h[:, : 2 * m]) + p.b_h[: 2 * m], 2)
    r = sigmoid(a_r + u_r)
    z = sigmoid(a_z + u_z)
    n = np.tanh(a_n + product(r * h_prev, p.W_h[:, 2 * m :]) + p.b_h[2 * m :])
    h = (1 - z) * n + z * h_prev
    return (h,), (h_prev, r, z, n)


def gru_reset_before_backward(p: CellParameters, cache: Cache, d_state: State) -> StepGradient:
    """The gradient of `gru_reset_before_forward`."""
    h_prev, r, z, n = cache
    (d_h,) = d_state
    m = h_prev.shape[1]
    d_n = d_h * (1 - z) * (1 - n * n)
    d_rh = matmul(d_n, p.W_h[:, 2 * m :].T)
    d_r = d_rh * h_prev * r * (1 - r)
    d_z = d_h * (h_prev - n) * z * (1 - z)
    d_rz = np.concatenate([d_r, d_z], 1)
    d_a = np.concatenate([d_rz, d_n], 1)
    d_h_prev = d_h * z + d_rh * r + matmul(d_rz, p.W_h[:, : 2 * m].T)
    d_W_h = np.concatenate([matmul(h_prev.T, d_rz), matmul((r * h_prev).T, d_n)], 1)
    return StepGradient((d_h_prev,), d_a, d_W_h, d_a.sum(0))


def lstm_forward(p: CellParameters, state: State, a: Array) -> tuple[State, Cache]:
    """The LSTM with a forget gate; gates i, f, g, o (Gers 2000, PyTorch)."""
    h_prev, c_prev = state
    a_i, a_f, a_g, a_o = _gates(a + product(h_prev, p.W_h) + p.b_h, 4)
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = np.tanh(a_g)
    o = sigmoid(a_o)
    c = f * c_prev + i * g
    tanh_c = np.tanh(c)
    h = o * tanh_c
    return (h, c), (h_prev, c_prev, i, f, g, o, tanh_c)


def lstm_backward(p: CellParameters, cache: Cache, d_state: State) -> StepGradient:
    """The gradient of `lstm_forward`."""
    h_prev, c_prev, i, f, g, o, tanh_c = cache
    d_h, d_c = d_state
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
    d_i = d_c * g * i * (1 - i)
    d_f = d_c * c_prev * f * (1 - f)
    d_g = d_c * i * (1 - g * g)
    d_o = d_h * tanh_c * o * (1 - o)
    d_a = np.concatenate([d_i, d_f, d_g, d_o], 1)
    return StepGradient((matmul(d_a, p.W_h.T), d_c * f), d_a, matmul(h_prev.T, d_a), d_a.sum(0))


ELMAN: dict[str, Cell] = {
    "sigmoid": elman(sigmoid, lambda h: h * (1 - h)),
    "tanh": elman(np.tanh, lambda h: 1 - h * h),
    "relu": elman(relu, lambda h: (h > 0).astype(h.dtype)),
}
"""The Elman network by its activation."""

GRU_RESET_BEFORE = Cell(3, 1, gru_reset_before_forward, gru_reset_before_backward)

CELLS: dict[str, Cell] = {
    "rnn": ELMAN["tanh"],
    "gru": Cell(3, 1, gru_forward, gru_backward),
    "lstm": Cell(4, 2, lstm_forward, lstm_backward),
}
"""The cells by their name."""
