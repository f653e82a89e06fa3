"""The losses, each with its gradient.

A loss takes outputs (..., outputs), targets (..., targets) and weights of shape (...), one per
step: zero for steps to ignore, such as those after the end of a sequence. It returns the weighted
mean over steps, and its gradient with respect to the outputs. If the weight of a step is zero its
gradient is zero, whatever its targets; if all weights are zero, the loss is zero.

    >>> mse(np.array([[1.0], [4.0]]), np.array([[0.0], [np.nan]]), np.array([1.0, 0.0]))
    (1.0, array([[2.],
           [0.]]))
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError, TrainingError
from beam_rnn.nn.cells import sigmoid
from beam_rnn.nn.encoder_decoder import AnyNetwork
from beam_rnn.nn.network import Network
from beam_rnn.nn.output_functions import OUTPUTS

Loss = Callable[[Array, Array, Array], tuple[float, Array]]
"""(outputs, targets, weights) -> (loss, gradient)."""


def _shares(weights: Array, each: int, like: Array) -> Array:
    """Return the weight of each number in the mean, (..., 1), with `each` numbers per step."""
    total = weights.sum() * each
    share = weights / total if total > 0 else np.zeros_like(weights)
    return share[..., np.newaxis].astype(like.dtype)


def _errors(outputs: Array, targets: Array, weights: Array) -> tuple[Array, Array]:
    """Return the errors, zero if the weight is zero, and their weights in the mean."""
    share = _shares(weights, outputs.shape[-1], outputs)
    return np.where(share > 0, outputs - targets, 0), share


def mse(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Return the mean squared error, (y - p)^2."""
    errors, share = _errors(outputs, targets, weights)
    return float((share * errors * errors).sum()), 2 * share * errors


def mae(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Return the mean absolute error, |y - p|; its gradient at 0 is 0."""
    errors, share = _errors(outputs, targets, weights)
    return float((share * np.abs(errors)).sum()), share * np.sign(errors)


def huber(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Return the Huber loss, delta = 1: e^2 / 2 for |e| <= 1, else |e| - 1/2 (Huber 1964)."""
    errors, share = _errors(outputs, targets, weights)
    size = np.abs(errors)
    losses = np.where(size <= 1, errors * errors / 2, size - 0.5)
    return float((share * losses).sum()), share * errors.clip(-1, 1)


def quantile(levels: Sequence[float]) -> Loss:
    """Return the pinball loss: max(q e, (q - 1) e), e = target - output.

    The mean over targets and levels (Koenker and Bassett 1978). Its gradient at e = 0 is 0.

    Args:
        levels: The levels q; the outputs hold one number per level, target by target.
    """

    def loss(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
        q = np.asarray(levels, outputs.dtype)
        y = outputs.reshape(*targets.shape, len(q))
        share = _shares(weights, outputs.shape[-1], outputs)[..., np.newaxis]
        e = np.where(share > 0, targets[..., np.newaxis] - y, 0)
        d_y = share * np.where(e > 0, -q, np.where(e < 0, 1 - q, 0))
        return float((share * np.maximum(q * e, (q - 1) * e)).sum()), d_y.reshape(outputs.shape)

    return loss


def gaussian_nll(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Return the negative log-likelihood of a normal distribution, the mean over targets.

    log(s) + ((y - m) / s)^2 / 2 + log(2 pi) / 2 for the target y.

    Args:
        outputs: The mean m and the standard deviation s of each target, side by side.
        targets: y.
        weights: One per step.
    """
    m, s = outputs[..., 0::2], outputs[..., 1::2]
    share = _shares(weights, targets.shape[-1], outputs)
    e = np.where(share > 0, m - targets, 0) / s
    d_outputs = np.empty_like(outputs)
    d_outputs[..., 0::2] = share * e / s
    d_outputs[..., 1::2] = share * (1 - e * e) / s
    nll = np.log(s) + e * e / 2 + math.log(2 * math.pi) / 2
    return float((share * nll).sum()), d_outputs


def binary_cross_entropy(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Return -y log(p) - (1 - y) log(1 - p), p = sigmoid(z), the mean over outputs.

    Args:
        outputs: The logits z.
        targets: y in [0, 1].
        weights: One per step.
    """
    share = _shares(weights, outputs.shape[-1], outputs)
    z, y = outputs, np.where(share > 0, targets, 0)
    # log(1 + exp(z)) - y z, in a form that cannot overflow
    losses = np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z)))
    return float((share * losses).sum()), share * (sigmoid(z) - y)


def cross_entropy(outputs: Array, targets: Array, weights: Array) -> tuple[float, Array]:
    """Return -sum_i y_i log(p_i), p = softmax(z).

    Args:
        outputs: The logits z, one per class.
        targets: y, the probability of each class: 1 for the true class, 0 for the others.
        weights: One per step.
    """
    share = _shares(weights, 1, outputs)
    z, y = outputs - outputs.max(-1, keepdims=True), np.where(share > 0, targets, 0)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    d_z = share * (np.exp(log_p) * y.sum(-1, keepdims=True) - y)
    return -float((share * y * log_p).sum()), d_z


LOSSES: dict[str, Loss] = {
    "mse": mse,
    "mae": mae,
    "huber": huber,
    "gaussian_nll": gaussian_nll,
    "binary_cross_entropy": binary_cross_entropy,
    "cross_entropy": cross_entropy,
}
"""The losses by name; `quantile` makes the pinball loss for its levels."""

LOSS_TITLES = {
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "huber": "Huber loss",
    "quantile": "pinball loss",
    "gaussian_nll": "negative log-likelihood",
    "binary_cross_entropy": "binary cross-entropy",
    "cross_entropy": "cross-entropy",
}
"""The names of the losses in reports."""

FROM_LOGITS = ("binary_cross_entropy", "cross_entropy")
"""The losses of the raw outputs z, before the output function."""

LOSS_NAMES = (*LOSSES, "quantile")
"""The names of all losses."""


def loss_name(network: AnyNetwork, name: str | None = None) -> str:
    """Return the name of the loss, by default that of the network's output.

        >>> loss_name(Network(output="softmax"))
        'cross_entropy'

    Args:
        network: The network.
        name: A name in `LOSS_NAMES`; None for the default of the output.

    Raises:
        ConfigurationError: The loss does not fit the output.
    """
    fitting = OUTPUTS[network.output].losses
    if name is None:
        return fitting[0]
    if name not in fitting:
        others = [output for output, g in OUTPUTS.items() if name in g.losses]
        raise ConfigurationError(
            f"loss={name!r} does not fit a network with output={network.output!r}: use one of "
            f"{', '.join(fitting)}, or Network(output={' or '.join(map(repr, others))})"
        )
    return name


def objective(network: Network, name: str | None = None) -> Loss:
    """Return the loss as a function of the raw outputs z, with its gradient.

    Each horizon of a network counts as a separate step.

        >>> loss = objective(Network(output="sigmoid"))
        >>> loss(np.array([[0.0]]), np.array([[1.0]]), np.array([[1.0]]))
        (0.6931471805599453, array([[-0.5]]))

    Args:
        network: The network.
        name: The name of the loss; None for the default of the output.

    Returns:
        A loss of z, targets (..., horizons * targets) and weights (..., horizons).

    Raises:
        ConfigurationError: The loss does not fit the output.
    """
    name = loss_name(network, name)
    of_outputs = quantile(network.quantiles) if name == "quantile" else LOSSES[name]
    g = network.distribution

    def by_horizon(values: Array) -> Array:
        return values.reshape(*values.shape[:-1], network.horizons, -1)

    def of_logits(z: Array, targets: Array, weights: Array) -> tuple[float, Array]:
        value, d_z = of_outputs(by_horizon(z), by_horizon(targets), weights)
        return value, d_z.reshape(z.shape)

    def of_z(z: Array, targets: Array, weights: Array) -> tuple[float, Array]:
        y = g.forward(by_horizon(z))
        value, d_y = of_outputs(y, by_horizon(targets), weights)
        return value, g.backward(y, d_y).reshape(z.shape)

    return of_logits if name in FROM_LOGITS else of_z


def check_targets(name: str, network: Network, key: str, targets: Array) -> None:
    """Raise if targets (..., horizons * targets) of a key do not fit a loss.

    Raises:
        TrainingError: A cross-entropy with targets that are not probabilities.
    """
    if name not in FROM_LOGITS:
        return
    by_horizon = targets.reshape(*targets.shape[:-1], network.horizons, -1)
    wrong = (targets < 0) | (targets > 1)
    if wrong.any():
        raise TrainingError(
            f"loss={name!r} compares with probabilities, key {key!r} has the target "
            f"{targets[wrong][0]:g}: give targets of 0 and 1, or Columns(classes=...)"
        )
    sums = by_horizon.sum(-1)
    if name == "cross_entropy" and np.abs(sums - 1).max(initial=0) > 1e-6:
        raise TrainingError(
            f"loss='cross_entropy' needs one class a step, key {key!r} has targets with the sum "
            f"{sums[np.abs(sums - 1) > 1e-6][0]:g}: give one 1 among 0, or Columns(classes=...)"
        )
