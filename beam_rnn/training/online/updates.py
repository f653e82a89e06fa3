"""One update from one window of one sequence."""

from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.nn.backprop import States
from beam_rnn.nn.bptt import Learner
from beam_rnn.nn.kernels import Kernel
from beam_rnn.nn.layers import LayerTrace
from beam_rnn.nn.losses import Loss
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.nn.products import matmul
from beam_rnn.training.online.flat_parameters import Layout
from beam_rnn.training.online.settings import Learning

ALL = "all"
"""The name of the vector of all parameters, as the optimiser sees it."""


class Window(NamedTuple):
    """A window to learn from.

    Attributes:
        x: (steps, inputs) float32.
        targets: (steps, horizons * targets), scaled.
        weights: (steps, horizons).
        begins: True if it is the first of its sequence.
    """

    x: Array
    targets: Array
    weights: Array
    begins: bool


class Updates:
    """Updates a learner.

    Args:
        network: The network.
        like: Parameters, for their names and shapes.
        learning: The settings.
        loss: The loss to minimise.
        kernel: The kernel.
    """

    def __init__(
        self, network: Network, like: Parameters, learning: Learning, loss: Loss, kernel: Kernel
    ):
        self.layout = Layout(like)
        self._network = network
        self._learning = learning
        self._loss = loss
        self._kernel = kernel

    def learner(self, parameters: Parameters) -> Learner:
        """Return a new learner; its parameters are one vector."""
        vector = {ALL: self.layout.joined(parameters)}
        return Learner(vector, self._learning.optimizer.init(vector))

    def parameters(self, learner: Learner) -> dict[str, Array]:
        """Return the parameters by name."""
        return self.layout.parts(learner.parameters[ALL])

    def after(
        self, learner: Learner, parameters: Parameters, window: Window, states: States
    ) -> tuple[Learner | None, States]:
        """Return the learner after an update, the same as `beam_rnn.nn.bptt.learn` gives.

        Args:
            learner: The learner before it.
            parameters: Its parameters, by name.
            window: The window to learn from.
            states: The hidden state before the window.

        Returns:
            The learner, the same one if every weight in the window is 0, or None if the update
            would overflow; and the hidden state after the window.
        """
        network, learning, kernel = self._network, self._learning, self._kernel
        x = window.x[:, np.newaxis]
        z, last, traces = _forward(network, parameters, x, states, kernel)
        if not window.weights.any():
            return learner, last
        targets = window.targets[:, np.newaxis].astype(np.float32)
        value, d_z = self._loss(z, targets, window.weights[:, np.newaxis])
        gradients = _backward(network, parameters, traces, d_z, kernel)
        gradient = self.layout.joined(gradients)
        if not window.begins:
            gradient = self.layout.of_carried_state(gradient)
        gradient = self.layout.clipped(gradient, learning.clip_value, learning.clip_norm)
        vector, state = learning.optimizer.update(
            {ALL: gradient}, learner.optimizer_state, learner.parameters
        )
        following = Learner(vector, state)
        if not np.isfinite(value) or not all_finite(*_numbers(following)):
            return None, last
        return _as_stored(following, learner), last


def _forward(
    network: Network, parameters: Parameters, x: Array, states: States, kernel: Kernel
) -> tuple[Array, States, list[LayerTrace]]:
    """Compute `beam_rnn.nn.backprop.forward` for one sequence (steps, 1, inputs), one direction."""
    running = np.ones(len(x), np.int64)
    traces, last = [], []
    h = x
    for i, begin in enumerate(states):
        (p,) = network.layer(parameters, i)
        h, end, trace = kernel.layer_forward(network.step_cell, p, h, begin, running)
        traces.append(trace)
        last.append(end)
    z = network.read_out(parameters, h[:, 0], x[:, 0], linear=kernel.linear)
    return z[:, np.newaxis], tuple(last), traces


def _backward(
    network: Network,
    parameters: Parameters,
    traces: list[LayerTrace],
    d_z: Array,
    kernel: Kernel,
) -> dict[str, Array]:
    """Return the gradient of `_forward`, as `beam_rnn.nn.backprop.backward`."""
    running = np.ones(len(d_z), np.int64)
    gradients: dict[str, Array] = {}
    d_h = d_z
    if network.head == "linear":
        rows = d_z[:, 0]
        gradients["head.W_y"] = matmul(traces[-1].h[:, 0].T, rows)
        gradients["head.b_y"] = rows.sum(0)
        d_h = matmul(rows, parameters["head.W_y"].T)[:, np.newaxis]
    for i in reversed(range(network.layers)):
        (p,) = network.layer(parameters, i)
        d_last = network.step_cell.initial_state(1, network.sizes[i], d_h.dtype)
        of_layer, d_h, d_begin = kernel.layer_backward(
            network.step_cell, p, traces[i], d_h, d_last, running
        )
        gradients |= network.named(i, [of_layer]) | network.initial_gradient(i, d_begin)
    return gradients


def all_finite(*rows: Array) -> bool:
    """Return True if every number is finite."""
    return bool(np.isfinite(np.concatenate(rows)).all())


def _numbers(tree: Any) -> list[Array]:
    """Return every number of a tree of tuples and dicts, in rows."""
    if isinstance(tree, np.ndarray):
        return [tree.ravel()]
    if isinstance(tree, dict):
        tree = tree.values()
    if isinstance(tree, (int, float)):
        return [np.array([tree])]
    return [numbers for part in tree for numbers in _numbers(part)]


def _as_stored(tree: Any, like: Any) -> Any:
    """Return a tree with the types and the memory order that it has when read from its bytes."""
    if isinstance(like, np.ndarray):
        return np.ascontiguousarray(tree, like.dtype)
    if isinstance(like, dict):
        return {name: _as_stored(tree[name], value) for name, value in like.items()}
    if isinstance(like, tuple):
        return type(like)(*map(_as_stored, tree, like))
    return type(like)(tree)
