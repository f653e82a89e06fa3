"""The parts of a network's output: the numbers that describe one target."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array


class Part(NamedTuple):
    """One of the numbers that describe a target: its value, its mean, a quantile.

    Attributes:
        name: The name, as in `Model.output_names`.
        scaled: Whether it has the target's unit, and is multiplied by the target's scale.
        centered: Whether the target's center is added too. A standard deviation is scaled and
            not centered; the weight of a mixture is neither.
        positive: Whether it is above 0: it is log(1 + exp(z)) of the raw number z.
        level: The level of a quantile; the quantiles of a target are sorted.
    """

    name: str
    scaled: bool = True
    centered: bool = True
    positive: bool = False
    level: float | None = None


VALUE = (Part("value"),)
"""Parts of an output with one number per target."""


def restored(y: Array, center: Array, scale: Array, parts: Sequence[Part]) -> Array:
    """Return outputs in the units of the targets.

        >>> parts = Part("mean"), Part("deviation", centered=False)
        >>> restored(np.array([[0.5, 2.0]]), np.array([[10.0]]), np.array([[3.0]]), parts)
        array([[11.5,  6. ]])

    Args:
        y: (..., targets, parts).
        center: (..., targets, 1).
        scale: (..., targets, 1).
        parts: The parts.
    """
    centered = np.array([part.centered for part in parts])
    if not all(part.scaled for part in parts):
        scale = np.where([part.scaled for part in parts], scale, 1.0)
    return y * scale + center * centered


def in_order(y: Array, parts: Sequence[Part]) -> Array:
    """Return outputs (..., targets * parts) with the quantiles of each target sorted.

    Training does not keep a low quantile below a high one. Sorting crossed quantiles never
    moves them further from the truth (Chernozhukov, Fernandez-Val and Galichon 2010).

        >>> parts = [Part(f"q{level}", level=level) for level in (0.1, 0.5, 0.9)]
        >>> in_order(np.array([[1.0, 3.0, 2.0]]), parts)
        array([[1., 2., 3.]])

    Args:
        y: The outputs, in any unit.
        parts: The parts of one target.
    """
    if len(parts) == 1 or parts[0].level is None:
        return y
    return np.sort(y.reshape(*y.shape[:-1], -1, len(parts)), -1, kind="stable").reshape(y.shape)
