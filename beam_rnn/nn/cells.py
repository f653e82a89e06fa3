"""The recurrent cells as pure functions, written as in their equations.

Symbols: x input, h hidden state, c cell state of the LSTM, W_x and W_h weights, b_x and
b_h biases. Row vectors throughout: a batch is (batch, features) and multiplies from the
left. Two biases, one on each product, as in PyTorch and cuDNN: their sum is the one bias
of the textbook, and training takes the same steps as it does there.

A cell is one record, a `Cell`: a forward and a backward function for one step, and what other
modules need to know of it. The product of the input, a = x W_x + b_x, is not recurrent: it is
computed for all steps of a sequence at once (`project`), and the cell starts from a.

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
"""The state between two steps: (h,), or (h, c) for the LSTM."""
Cache = tuple[Array, ...]
"""The arrays that a forward step keeps for its backward step."""


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
        gates: The number of gates: blocks of `hidden` columns of the weights.
        states: The number of arrays in the state; the first is h, the output of the cell.
        forward: (parameters, state, a) -> (next state, cache); a is (batch, gates * hidden).
        backward: (parameters, cache, d_state) -> `StepGradient`, where d_state is the
            gradient with respect to the state that forward returned.
        title: The name in reports.
        order: The order of the gates in the columns of the weights, a letter each.
        keep_gate: The index of the gate that keeps the state; None if there is none.
        keep_bias: The bias of that gate before training.
        add_gate: The index of the gate that adds to the state what is new; None if there is none.
        activation: The `Network.activation` that it has; "" for a cell with fixed activations.
        reset_after: The `Network.reset_after` that it has; None for a cell without a reset gate.
        fused: The name of its fused kernel in `beam_rnn.nn.fused.cells`; "" if it has none.
    """

    gates: int
    states: int
    forward: Callable[[CellParameters, State, Array], tuple[State, Cache]]
    backward: Callable[[CellParameters, Cache, State], StepGradient]
    title: str = ""
    order: str = ""
    keep_gate: int | None = None
    keep_bias: float = 0.0
    add_gate: int | None = None
    activation: str = ""
    reset_after: bool | None = None
    fused: str = ""

    def shapes(self, inputs: int, hidden: int) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of W_x, W_h, b_x and b_h."""
        columns = self.gates * hidden
        return (inputs, columns), (hidden, columns), (columns,), (columns,)

    def initial_state(self, batch: int, hidden: int, dtype: DTypeLike) -> State:
        """Return h_0 = 0, and c_0 = 0 if the cell has one: arrays of (batch, hidden)."""
        return tuple(np.zeros((batch, hidden), dtype) for _ in range(self.states))


def linear(x: Array, weights: Array, bias: Array) -> Array:
    """Return x @ weights + bias; x is (batch, inputs)."""
    return product(x, weights) + bias


def project(p: CellParameters, x: Array) -> Array:
    """Return the input's part of every gate: a = x W_x + b_x; x is (batch, inputs)."""
    return linear(x, p.W_x, p.b_x)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), computed by tanh, which cannot overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def relu(x: Array) -> Array:
    """Return max(x, 0); NaN stays NaN."""
    return np.maximum(x, 0)


def _gates(x: Array, gates: int) -> list[Array]:
    hidden = x.shape[1] // gates
    return [x[:, i * hidden : (i + 1) * hidden] for i in range(gates)]


def elman(name: str, f: Callable[[Array], Array], derivative: Callable[[Array], Array]) -> Cell:
    """Return the cell of the Elman network with the activation f (Elman 1990).

    Args:
        name: The name of the activation.
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

    return Cell(
        1,
        1,
        forward,
        backward,
        title="Elman network",
        order="h",
        activation=name,
        fused=f"ELMAN_{name.upper()}",
    )


def gru_forward(p: CellParameters, state: State, a: Array) -> tuple[State, Cache]:
    """Step the GRU with the reset gate after the recurrent product; gates r, z, n (PyTorch)."""
    (h_prev,) = state
    a_r, a_z, a_n = _gates(a, 3)
    u_r, u_z, u_n = _gates(product(h_prev, p.W_h) + p.b_h, 3)
    r = sigmoid(a_r + u_r)
    z = sigmoid(a_z + u_z)
    n = np.tanh(a_n + r * u_n)
    h = (1 - z) * n + z * h_prev
    return (h,), (h_prev, r, z, n, u_n)


def gru_backward(p: CellParameters, cache: Cache, d_state: State) -> StepGradient:
    """Return the gradient of `gru_forward`."""
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
    """Step the GRU with the reset gate before the recurrent product; gates r, z, n (Cho 2014)."""
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
    """Return the gradient of `gru_reset_before_forward`."""
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
    """Step the LSTM with a forget gate; gates i, f, g, o (Gers 2000, PyTorch)."""
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
    """Return the gradient of `lstm_forward`."""
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
    "sigmoid": elman("sigmoid", sigmoid, lambda h: h * (1 - h)),
    "tanh": elman("tanh", np.tanh, lambda h: 1 - h * h),
    "relu": elman("relu", relu, lambda h: (h > 0).astype(h.dtype)),
}
"""The cell of the Elman network by activation."""

GRU = Cell(
    3,
    1,
    gru_forward,
    gru_backward,
    title="GRU",
    order="rzn",
    keep_gate=1,
    reset_after=True,
    fused="GRU",
)
GRU_RESET_BEFORE = GRU._replace(
    forward=gru_reset_before_forward,
    backward=gru_reset_before_backward,
    reset_after=False,
    fused="GRU_RESET_BEFORE",
)
LSTM = Cell(
    4,
    2,
    lstm_forward,
    lstm_backward,
    title="LSTM",
    order="ifgo",
    keep_gate=1,
    keep_bias=1.0,  # Gers 2000
    add_gate=0,
    fused="LSTM",
)

CELLS: dict[str, Cell] = {"rnn": ELMAN["tanh"], "gru": GRU, "lstm": LSTM}
"""The cells by name."""

FUSED_CELLS = frozenset({*ELMAN.values(), GRU, GRU_RESET_BEFORE, LSTM})
"""The cells that have a fused kernel."""


def cell_of(name: str, activation: str, *, reset_after: bool) -> Cell:
    """Return the cell of that name, with an activation or the place of its reset gate.

        >>> cell_of("rnn", "relu", reset_after=True).fused
        'ELMAN_RELU'

    Args:
        name: A name in `CELLS`.
        activation: The activation of a cell that has a choice.
        reset_after: Whether the reset gate comes after the recurrent product.
    """
    cell = CELLS[name]
    if cell.activation:
        return ELMAN[activation]
    return cell if cell.reset_after is None or reset_after else GRU_RESET_BEFORE
