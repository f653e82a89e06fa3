"""Each loss beside its gradient.

A loss takes outputs and targets of shape (..., outputs) and weights of shape (...), one a
step: zero where there is nothing to learn from, as after the end of a sequence. It returns
the weighted mean over steps of the mean over outputs, and its gradient with respect to the
outputs. Where the weight is zero the gradient is zero, whatever stands in the targets.

    >>> mse(np.array([[1.0], [4.0]]), np.array([[0.0], [np.nan]]), np.array([1.0, 0.0]))
    (1.0, array([[2.],
           [0.]]))
"""

from collections.abc import Callable

import numpy as np

from beam_rnn.cells import Array

Loss = Callable[[Array, Array, Array], tuple[float, Array]]
"""(outputs, targets, weights) -> (loss, gradient)."""


def _errors(outputs: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
    """The errors, zero where the weight is; each one's share in the mean, broadcastable."""
    share = (weights / (weights.sum() * outputs.shape[-1]))[..., np.newaxis]
    return np.where(share > 0, outputs - targets, 0), share.astype(outputs.dtype)


def mse(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """The mean squared error, (y - p)^2."""
    errors, share = _errors(outputs, targets, weights)
    return float((share * errors * errors).sum()), 2 * share * errors


def mae(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """The mean absolute error, |y - p|; its gradient at 0 is 0."""
    errors, share = _errors(outputs, targets, weights)
    return float((share * np.abs(errors)).sum()), share * np.sign(errors)


def huber(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """The Huber loss with delta = 1: e^2 / 2 for |e| <= 1, else |e| - 1/2 (Huber 1964)."""
    errors, share = _errors(outputs, targets, weights)
    size = np.abs(errors)
    losses = np.where(size <= 1, errors * errors / 2, size - 0.5)
    return float((share * losses).sum()), share * errors.clip(-1, 1)


LOSSES: dict[str, Loss] = {"mse": mse, "mae": mae, "huber": huber}
"""The losses by their name."""
