"""Optimizers: how a gradient changes the parameters.

An optimizer is a pair of pure functions over dicts of arrays: `init` returns its state, and
`update` maps gradients, state and parameters to the next parameters and the next state.

    >>> optimizer = Sgd(learning_rate=0.5)
    >>> w = {"w": np.array([1.0])}
    >>> w, _ = optimizer.update({"w": np.array([2.0])}, optimizer.init(w), w)
    >>> w
    {'w': array([0.])}
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_number
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.nn.network import Parameters
from beam_rnn.nn.schedules import Scaled, Schedule, check_rate, rate_at

OptimizerState = dict[str, Any]


class Optimizer(Protocol):
    """The interface of an optimizer."""

    def init(self, parameters: Parameters) -> OptimizerState:
        """Return the state before the first update."""

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """Return the parameters and the state after one update; arguments are not modified."""


def _zeros(parameters: Parameters) -> dict[str, Array]:
    return {name: np.zeros_like(w) for name, w in parameters.items()}


def _decayed(gradients: Parameters, parameters: Parameters, weight_decay: float) -> Parameters:
    """Return the gradient of the loss plus weight_decay / 2 times the squared parameters."""
    if weight_decay == 0:
        return gradients
    return {name: g + weight_decay * parameters[name] for name, g in gradients.items()}


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum mu: v = mu v + g, w = w - eta v.

    With Nesterov's momentum, w = w - eta (g + mu v) (Sutskever 2013, as in PyTorch).

    Args:
        learning_rate: eta, a number or a schedule.
        momentum: mu; 0 is plain gradient descent.
        nesterov: Look ahead along the momentum.
        weight_decay: lambda; lambda w is added to each gradient.
    """

    learning_rate: float | Schedule
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_rate("learning_rate", self.learning_rate)
        check_number("momentum", self.momentum, below=1)
        check_number("weight_decay", self.weight_decay)
        if self.nesterov and self.momentum == 0:
            raise ConfigurationError("nesterov=True needs a momentum above 0, got 0")

    def init(self, parameters: Parameters) -> OptimizerState:
        """Return the state before the first update: v = 0."""
        return {"updates": 0, "velocity": _zeros(parameters)}

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """Return parameters and state after a step against the gradient."""
        eta, mu = rate_at(self.learning_rate, state["updates"]), self.momentum
        velocity, stepped = {}, {}
        for name, g in _decayed(gradients, parameters, self.weight_decay).items():
            v = velocity[name] = mu * state["velocity"][name] + g
            stepped[name] = parameters[name] - eta * (g + mu * v if self.nesterov else v)
        return stepped, {"updates": state["updates"] + 1, "velocity": velocity}


@dataclass(frozen=True)
class RmsProp:
    """RMSprop (Hinton 2012): the gradient over the root of its mean square.

    s = rho s + (1 - rho) g^2, v = mu v + g / (sqrt(s) + epsilon), w = w - eta v.

    Args:
        learning_rate: eta, a number or a schedule.
        decay: rho, the decay of the mean square s.
        momentum: mu.
        epsilon: Keeps the quotient finite.
        weight_decay: lambda; lambda w is added to each gradient.
    """

    learning_rate: float | Schedule = 1e-2
    decay: float = 0.99
    momentum: float = 0.0
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_rate("learning_rate", self.learning_rate)
        check_number("decay", self.decay, below=1)
        check_number("momentum", self.momentum, below=1)
        check_number("epsilon", self.epsilon)
        check_number("weight_decay", self.weight_decay)

    def init(self, parameters: Parameters) -> OptimizerState:
        """Return the state before the first update: s = v = 0."""
        return {"updates": 0, "square": _zeros(parameters), "velocity": _zeros(parameters)}

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """Return parameters and state after a step of about eta in every parameter."""
        eta, rho = rate_at(self.learning_rate, state["updates"]), self.decay
        square, velocity, stepped = {}, {}, {}
        for name, g in _decayed(gradients, parameters, self.weight_decay).items():
            s = square[name] = rho * state["square"][name] + (1 - rho) * g * g
            change = g / (np.sqrt(s) + self.epsilon)
            v = velocity[name] = self.momentum * state["velocity"][name] + change
            stepped[name] = parameters[name] - eta * v
        updates = state["updates"] + 1
        return stepped, {"updates": updates, "square": square, "velocity": velocity}


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2014): the gradient's mean over the root of its mean square.

    m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
    w = w - eta (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).

    Args:
        learning_rate: eta, a number or a schedule.
        beta1: The decay of the mean m.
        beta2: The decay of the mean square v.
        epsilon: Keeps the quotient finite.
        weight_decay: lambda; lambda w is added to each gradient.
    """

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_rate("learning_rate", self.learning_rate)
        check_number("beta1", self.beta1, below=1)
        check_number("beta2", self.beta2, below=1)
        check_number("epsilon", self.epsilon)
        check_number("weight_decay", self.weight_decay)

    def init(self, parameters: Parameters) -> OptimizerState:
        """Return the state before the first update: m = v = 0, t = 0."""
        return {"updates": 0, "mean": _zeros(parameters), "square": _zeros(parameters)}

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """Return parameters and state after a step of about eta in every parameter."""
        eta = rate_at(self.learning_rate, state["updates"])
        t = state["updates"] + 1
        mean, square, stepped = {}, {}, {}
        for name, g in _decayed(gradients, parameters, self.weight_decay).items():
            m = mean[name] = self.beta1 * state["mean"][name] + (1 - self.beta1) * g
            v = square[name] = self.beta2 * state["square"][name] + (1 - self.beta2) * g * g
            unbiased_m, unbiased_v = m / (1 - self.beta1**t), v / (1 - self.beta2**t)
            stepped[name] = parameters[name] - eta * unbiased_m / (
                np.sqrt(unbiased_v) + self.epsilon
            )
        return stepped, {"updates": t, "mean": mean, "square": square}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    w = (1 - eta lambda) w, then Adam's step.

    Args:
        learning_rate: eta, a number or a schedule.
        beta1: The decay of the mean m.
        beta2: The decay of the mean square v.
        epsilon: Keeps the quotient finite.
        weight_decay: lambda.
    """

    weight_decay: float = 1e-2

    def update(
        self, gradients: Parameters, state: OptimizerState, parameters: Parameters
    ) -> tuple[dict[str, Array], OptimizerState]:
        """Shrink every parameter, then take one step of size about eta."""
        shrink = 1 - rate_at(self.learning_rate, state["updates"]) * self.weight_decay
        shrunk = {name: shrink * w for name, w in parameters.items()}
        return self._without_decay().update(gradients, state, shrunk)

    def _without_decay(self) -> Adam:
        return Adam(self.learning_rate, self.beta1, self.beta2, self.epsilon)


def lowered(optimizer: Optimizer, factor: float) -> Optimizer:
    """Return an optimizer with its learning rate multiplied by a factor.

    Args:
        optimizer: A dataclass with a field `learning_rate`.
        factor: The factor.
    """
    return replace(optimizer, learning_rate=Scaled(optimizer.learning_rate, factor))  # type: ignore[type-var, attr-defined]


def global_norm(gradients: Parameters) -> float:
    """Return the Euclidean norm of all gradients together."""
    return float(
        np.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients.values()))
    )


def clip_by_global_norm(gradients: Parameters, max_norm: float) -> dict[str, Array]:
    """Return gradients scaled so that their global norm is at most max_norm (Pascanu 2013).

    The 1e-6 in the quotient is PyTorch's, so that both clip to the same numbers.
    """
    scale = min(1.0, max_norm / (global_norm(gradients) + 1e-6))
    return {k: g * scale for k, g in gradients.items()}


def clip_by_value(gradients: Parameters, limit: float) -> dict[str, Array]:
    """Return gradients with every number clipped to [-limit, limit]."""
    return {k: g.clip(-limit, limit) for k, g in gradients.items()}


def clipped(gradients: Parameters, limit: float | None, max_norm: float | None) -> Parameters:
    """Return gradients clipped by both limits; None for no limit."""
    if limit is not None:
        gradients = clip_by_value(gradients, limit)
    return gradients if max_norm is None else clip_by_global_norm(gradients, max_norm)
