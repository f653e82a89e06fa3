"""Draws samples from the distributions that a network predicts.

Each function takes the parameters of a distribution and uniform random numbers u, one for each
value to draw, and returns the values by the inverse of the distribution function. A row of the
result depends only on its own row of the arguments. With the temperature T, values are drawn with
probabilities proportional to p^(1/T): 1 for p itself, 0 for the most likely value.

    >>> p = np.array([[0.2, 0.5, 0.3]])
    >>> [int(draw_class(p, np.array([u]))[0][0]) for u in (0.1, 0.6, 0.9)]
    [0, 1, 2]
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.floating_point import default_arithmetic

NORMAL = NormalDist()
"""The standard normal distribution."""


class Sampling(NamedTuple):
    """How values are drawn.

    Attributes:
        temperature: Values are drawn with probabilities proportional to p^(1/temperature).
        top_k: Draw only from the k most likely classes; None for all.
    """

    temperature: float = 1.0
    top_k: int | None = None


def draw_class(
    p: Array, u: Array, temperature: float = 1.0, top_k: int | None = None
) -> tuple[Array, Array]:
    """Draw one class per row.

    Args:
        p: (rows, classes), the probability of each class.
        u: (rows,).
        temperature: T.
        top_k: Draw only from the k most likely classes; None for all.

    Returns:
        The class (rows,), and log p of it.
    """
    if temperature == 0:
        drawn = p.argmax(1)
    else:
        cumulated = np.cumsum(_tempered(_most_likely(p, top_k), temperature), 1)
        total = cumulated[:, -1]
        below = np.minimum(u * total, np.nextafter(total, 0))  # rounding may have reached total
        drawn = (cumulated > below[:, np.newaxis]).argmax(1)
    return drawn, _log(p[np.arange(len(p)), drawn])


def _most_likely(p: Array, top_k: int | None) -> Array:
    """Return the probabilities, 0 for all but the top k; the first of equal ones wins."""
    if top_k is None or top_k >= p.shape[1]:
        return p
    rest = np.argsort(-p, 1, kind="stable")[:, top_k:]
    kept = p.copy()
    np.put_along_axis(kept, rest, 0.0, 1)
    return kept


def _tempered(p: Array, temperature: float) -> Array:
    """Return p^(1/T), scaled so that the largest value of each row is 1."""
    return p if temperature == 1 else (p / p.max(1, keepdims=True)) ** (1 / temperature)


def draw_each(p: Array, u: Array, temperature: float = 1.0) -> tuple[Array, Array]:
    """Draw 0 or 1 for each number independently.

    Args:
        p: (rows, n), the probability of 1.
        u: (rows, n).
        temperature: T.

    Returns:
        (rows, n), and the sum over n of log p.
    """
    if temperature == 0:
        drawn = p > 0.5
    else:
        either = np.stack([1 - p, p], -1).reshape(-1, 2)
        tempered = _tempered(either, temperature).reshape(*p.shape, 2)
        drawn = u * tempered.sum(-1) < tempered[..., 1]
    return drawn.astype(float), _log(np.where(drawn, p, 1 - p)).sum(1)


def draw_gaussian(
    mean: Array, deviation: Array, u: Array, temperature: float = 1.0
) -> tuple[Array, Array]:
    """Draw a number from each normal distribution.

    Args:
        mean: (rows, n).
        deviation: (rows, n), the standard deviation.
        u: (rows, n).
        temperature: T: p^(1/T) is normal too, with sqrt(T) times the standard deviation.

    Returns:
        (rows, n), and the sum over n of the log of the density.
    """
    drawn = mean
    if temperature > 0:
        score = of_each(NORMAL.inv_cdf, u)
        drawn = mean + math.sqrt(temperature) * deviation * score
    e = (drawn - mean) / deviation
    density = -_log(deviation) - e * e / 2 - math.log(2 * math.pi) / 2
    return drawn, density.sum(1)


def draw_between(
    quantiles: Array, levels: Sequence[float], u: Array, temperature: float = 1.0
) -> Array:
    """Draw a number from each distribution of which some quantiles are known.

    The quantile function is interpolated linearly between two levels; beyond the outermost levels
    the line through the nearest two is extended. With a single level, that quantile is returned.

        >>> known = np.array([[[10.0, 20.0, 40.0]]])
        >>> [float(draw_between(known, (0.1, 0.5, 0.9), np.array([[u]]))[0, 0])
        ...  for u in (0.3, 0.5, 0.95)]
        [15.0, 20.0, 42.5]

    Args:
        quantiles: (rows, n, levels); they are sorted first.
        levels: The level of each, increasing.
        u: (rows, n).
        temperature: T: the normal score of u is multiplied by sqrt(T), so that normal quantiles
            give what `draw_gaussian` gives; 0 for the median.

    Returns:
        (rows, n).
    """
    if len(levels) == 1:
        return quantiles[..., 0]
    if temperature != 1:
        u = of_each(NORMAL.cdf, math.sqrt(temperature) * of_each(NORMAL.inv_cdf, u))
    q, of_levels = np.sort(quantiles, -1), np.asarray(levels)
    right = np.searchsorted(of_levels, u).clip(1, len(levels) - 1)[..., np.newaxis]
    low, high = (np.take_along_axis(q, right - i, -1)[..., 0] for i in (1, 0))
    begins, ends = of_levels[right[..., 0] - 1], of_levels[right[..., 0]]
    return low + (high - low) * ((u - begins) / (ends - begins))


def _log(p: Array) -> Array:
    """Return the natural logarithm, minus infinity for 0."""
    with default_arithmetic():
        return np.log(p)


def of_each(function: Callable[[float], float], values: Array) -> Array:
    """Apply a function to every number alone, so that its bits do not depend on its place."""
    return np.array([function(value) for value in values.flat]).reshape(values.shape)
