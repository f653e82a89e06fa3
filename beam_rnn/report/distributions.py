"""What a model's outputs say of a target: one number, quantiles, and a band."""

from statistics import NormalDist

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.models.model import Model

LEVELS = tuple(round(i / 20, 2) for i in range(1, 20))
"""The quantiles by which a normal distribution is judged: 5 %, 10 %, ..., 95 %."""
DEVIATIONS = NormalDist().inv_cdf(0.9)
"""So many standard deviations on each side of the mean hold 80 % of a normal distribution."""


def point_forecast(model: Model, outputs: Array) -> Array:
    """One number a target: of a distribution its mean, or the middle quantile.

    Args:
        model: The model.
        outputs: (..., targets, parts).
    """
    parts = model.network.parts
    return outputs[..., 0 if "mean" in parts else len(parts) // 2]


def levels(model: Model) -> tuple[float, ...]:
    """The quantiles that the outputs give; none if they are no distribution."""
    network = model.network
    if network.output == "gaussian":
        return LEVELS
    return tuple(network.quantiles) if network.output == "quantiles" else ()


def quantiles(model: Model, outputs: Array) -> Array:
    """The value of each of `levels`: (..., targets, levels).

    Args:
        model: The model, of quantiles or a normal distribution.
        outputs: (..., targets, parts).
    """
    if model.network.output == "gaussian":
        deviations = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
        return outputs[..., :1] + outputs[..., 1:] * deviations
    return outputs


def nominal(model: Model) -> float:
    """The share of targets that should lie within the band: 0 if the outputs have none.

    That of quantiles is from the lowest to the highest; that of a normal distribution holds 80 %.
    """
    network = model.network
    if network.output == "gaussian":
        return 0.8
    if network.output == "quantiles" and len(network.quantiles) > 1:
        return network.quantiles[-1] - network.quantiles[0]
    return 0.0


def band(model: Model, outputs: Array) -> tuple[Array, Array]:
    """The lower and the upper end of the band, each (..., targets)."""
    if model.network.output == "gaussian":
        mean, deviation = outputs[..., 0], outputs[..., 1]
        return mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation
    return outputs[..., 0], outputs[..., -1]
