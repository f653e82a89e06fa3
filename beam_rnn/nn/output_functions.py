"""The output function g: what the numbers of the head, z = W_y h + b_y, are made to mean.

Each is a pair, y = g(z) and the gradient with respect to z from y and the gradient with respect
to y, with how many numbers of z belong to one target and the losses that y can be judged by.

    >>> OUTPUTS["softmax"].forward(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.nn.cells import relu, sigmoid

LEAST_DEVIATION = 1e-3
"""The least standard deviation of `gaussian`, so that a constant target has a likelihood."""


class Output(NamedTuple):
    """An output function.

    Attributes:
        forward: z -> y, both (..., outputs).
        backward: (y, d_y) -> d_z.
        losses: The names of the losses that fit; the first is the usual one.
        scaled: Whether y is in the unit of the targets, so that targets can be scaled.
        parts: What stands for one target, side by side: its value, or its mean and its
            standard deviation.
    """

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]
    losses: tuple[str, ...]
    scaled: bool = False
    parts: tuple[str, ...] = ("value",)


def _identity(z: Array) -> Array:
    return z


def softmax(z: Array) -> Array:
    """exp(z_i) / sum_j exp(z_j) over the last axis."""
    e = np.exp(z - z.max(-1, keepdims=True), order="C")  # in another order sums have other bits
    return e / e.sum(-1, keepdims=True)


def softmax_backward(y: Array, d_y: Array) -> Array:
    """The gradient of `softmax`."""
    return y * (d_y - (y * d_y).sum(-1, keepdims=True))


def gaussian(z: Array) -> Array:
    """Mean and standard deviation of each target: of z = (m, s), m and log(1 + exp(s))."""
    y = z.copy()
    s = z[..., 1::2]
    y[..., 1::2] = np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s))) + LEAST_DEVIATION
    return y


def gaussian_backward(y: Array, d_y: Array) -> Array:
    """The gradient of `gaussian`; the derivative of log(1 + exp(s)) is 1 - exp(-of itself)."""
    d_z = d_y.copy()
    d_z[..., 1::2] *= -np.expm1(LEAST_DEVIATION - y[..., 1::2])
    return d_z


_ERRORS = ("mse", "mae", "huber")

OUTPUTS: dict[str, Output] = {
    "identity": Output(_identity, lambda _, d_y: d_y, ("mae", "mse", "huber"), scaled=True),
    "sigmoid": Output(
        sigmoid, lambda y, d_y: d_y * y * (1 - y), ("binary_cross_entropy", *_ERRORS)
    ),
    "tanh": Output(np.tanh, lambda y, d_y: d_y * (1 - y * y), _ERRORS),
    "relu": Output(relu, lambda y, d_y: d_y * (y > 0), _ERRORS),
    "softmax": Output(softmax, softmax_backward, ("cross_entropy", *_ERRORS)),
    "quantiles": Output(_identity, lambda _, d_y: d_y, ("quantile",), scaled=True),
    "gaussian": Output(
        gaussian, gaussian_backward, ("gaussian_nll",), scaled=True, parts=("mean", "deviation")
    ),
}
"""The output functions by their name. The parts of `quantiles` are the network's quantiles."""
