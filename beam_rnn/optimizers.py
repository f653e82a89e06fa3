"""Optimisers: how a gradient changes the parameters.

An optimiser is a pair of pure functions over dicts of arrays: `init` makes its state,
`update` maps gradients, state and parameters to the next parameters and the next state.

    >>> optimizer = Sgd(learning_rate=0.5)
    >>> w = {"w": np.array([1.0])}
    >>> w, _ = optimizer.update({"w": np.array([2.0])}, optimizer.init(w), w)
    >>> w
    {'w': array([0.])}
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.errors import ConfigurationError
from beam_rnn.network import Parameters

OptimizerState = dict[str, Any]


class Optimizer(Protocol):
    """What a training loop asks of an optimiser."""

    def init(self, parameters: Parameters) -> OptimizerState:
        """The state before the first update."""

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """The parameters and the state after one update; changes none of its arguments."""


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value < high:
        raise ConfigurationError(f"{name} must be in [{low}, {high}), got {value!r}")


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum mu: v = mu v + g, w = w - eta v.

    Args:
        learning_rate: eta.
        momentum: mu; 0 is plain gradient descent.
    """

    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        _check("learning_rate", self.learning_rate, 0, float("inf"))
        _check("momentum", self.momentum, 0, 1)

    def init(self, parameters: Parameters) -> OptimizerState:
        """V = 0."""
        return {"velocity": {k: np.zeros_like(w) for k, w in parameters.items()}}

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """One step against the gradient."""
        velocity = {k: self.momentum * state["velocity"][k] + g for k, g in gradients.items()}
        stepped = {k: w - self.learning_rate * velocity[k] for k, w in parameters.items()}
        return stepped, {"velocity": velocity}


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2014): the gradient's mean over the root of its mean square.

    m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
    w = w - eta (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).

    Args:
        learning_rate: eta.
        beta1: The decay of the mean m.
        beta2: The decay of the mean square v.
        epsilon: Keeps the quotient finite.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check("learning_rate", self.learning_rate, 0, float("inf"))
        _check("beta1", self.beta1, 0, 1)
        _check("beta2", self.beta2, 0, 1)
        _check("epsilon", self.epsilon, 0, float("inf"))

    def init(self, parameters: Parameters) -> OptimizerState:
        """M = v = 0 at t = 0."""
        zeros = {k: np.zeros_like(w) for k, w in parameters.items()}
        return {"step": 0, "mean": zeros, "square": zeros}

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """One step of size about eta in every parameter."""
        t = state["step"] + 1
        mean, square, stepped = {}, {}, {}
        for k, g in gradients.items():
            mean[k] = self.beta1 * state["mean"][k] + (1 - self.beta1) * g
            square[k] = self.beta2 * state["square"][k] + (1 - self.beta2) * g * g
            unbiased_mean = mean[k] / (1 - self.beta1**t)
            unbiased_square = square[k] / (1 - self.beta2**t)
            change = unbiased_mean / (np.sqrt(unbiased_square) + self.epsilon)
            stepped[k] = parameters[k] - self.learning_rate * change
        return stepped, {"step": t, "mean": mean, "square": square}


def global_norm(gradients: Parameters) -> float:
    """The Euclidean norm of all gradients together."""
    return float(
        np.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients.values()))
    )


def clip_by_global_norm(gradients: Parameters, max_norm: float) -> dict[str, Array]:
    """Gradients scaled so that their global norm is at most max_norm (Pascanu 2013).

    The 1e-6 in the quotient is PyTorch's, so that both clip to the same numbers.
    """
    scale = min(1.0, max_norm / (global_norm(gradients) + 1e-6))
    return {k: g * scale for k, g in gradients.items()}
