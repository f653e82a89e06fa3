"""What training makes small: a loss as a function of z, what the head of a network gives."""

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError, TrainingError
from beam_rnn.losses import FROM_LOGITS, LOSSES, Loss, quantile
from beam_rnn.network import Network
from beam_rnn.outputs import OUTPUTS
from beam_rnn.pairs.encoder_decoder import EncoderDecoder

LOSS_NAMES = (*LOSSES, "quantile")


def loss_name(network: Network | EncoderDecoder, name: str | None = None) -> str:
    """The loss by its name, or the usual one of the network's output function.

        >>> loss_name(Network(output="softmax"))
        'cross_entropy'

    Args:
        network: The network.
        name: A name in `beam_rnn.losses.LOSSES`, or "quantile"; None for the usual one.

    Raises:
        ConfigurationError: The output function cannot be judged by that loss.
    """
    fitting = OUTPUTS[network.output].losses
    if name is None:
        return fitting[0]
    if name not in fitting:
        others = [output for output, g in OUTPUTS.items() if name in g.losses]
        raise ConfigurationError(
            f"loss={name!r} does not fit a network with output={network.output!r}: take one of "
            f"{', '.join(fitting)}, or Network(output={' or '.join(map(repr, others))})"
        )
    return name


def objective(network: Network, name: str | None = None) -> Loss:
    """The loss of z (..., outputs), its gradient with respect to z.

    Where a network has several horizons, each counts as a step of its own.

        >>> loss = objective(Network(output="sigmoid"))
        >>> loss(np.array([[0.0]]), np.array([[1.0]]), np.array([[1.0]]))
        (0.6931471805599453, array([[-0.5]]))

    Args:
        network: The network.
        name: The name of the loss; None for the usual one of its output function.

    Returns:
        A loss of z, targets (..., horizons * targets) and weights (..., horizons).

    Raises:
        ConfigurationError: The output function cannot be judged by that loss.
    """
    name = loss_name(network, name)
    of_outputs = quantile(network.quantiles) if name == "quantile" else LOSSES[name]
    g = OUTPUTS[network.output]

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
    """That targets (..., horizons * targets) of a key are what a loss can compare with.

    Raises:
        TrainingError: A cross-entropy of numbers that are no probabilities.
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
