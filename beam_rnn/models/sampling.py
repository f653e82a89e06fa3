"""What comes next, drawn from what a network says of it.

Each function takes what is said of rows and numbers u between 0 and 1, one for each value that is
drawn, and gives the values by the inverse of their distribution. A row of the result depends on
its own row alone. With the temperature T, values are drawn with probabilities in proportion to
p^(1/T): 1 for p itself, 0 for the most likely value.

    >>> p = np.array([[0.2, 0.5, 0.3]])
    >>> [int(draw_class(p, np.array([u]))[0][0]) for u in (0.1, 0.6, 0.9)]
    [0, 1, 2]
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.floating_point import default_arithmetic

_NORMAL = NormalDist()


def draw_class(
    p: Array, u: Array, temperature: float = 1.0, top_k: int | None = None
) -> tuple[Array, Array]:
    """One class of each row.

    Args:
        p: (rows, classes), the probability of each.
        u: (rows,).
        temperature: T.
        top_k: Only so many classes, the most likely ones, can be drawn; None for all.

    Returns:
        The class (rows,), and log p of it.
    """
    if temperature == 0:
        drawn = p.argmax(1)
    else:
        cumulated = np.cumsum(_tempered(_likeliest(p, top_k), temperature), 1)
        total = cumulated[:, -1]
        below = np.minimum(u * total, np.nextafter(total, 0))  # rounding may have reached total
        drawn = (cumulated > below[:, np.newaxis]).argmax(1)
    return drawn, _log(p[np.arange(len(p)), drawn])


def _likeliest(p: Array, top_k: int | None) -> Array:
    """The probabilities, 0 for all but the top k; of equal ones the first counts more."""
    if top_k is None or top_k >= p.shape[1]:
        return p
    rest = np.argsort(-p, 1, kind="stable")[:, top_k:]
    kept = p.copy()
    np.put_along_axis(kept, rest, 0.0, 1)
    return kept


def _tempered(p: Array, temperature: float) -> Array:
    """p^(1/T), times what makes the greatest of a row 1."""
    return p if temperature == 1 else (p / p.max(1, keepdims=True)) ** (1 / temperature)


def draw_each(p: Array, u: Array, temperature: float = 1.0) -> tuple[Array, Array]:
    """0 or 1 for each number by itself.

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
    """A number from each normal distribution.

    Args:
        mean: (rows, n).
        deviation: (rows, n).
        u: (rows, n).
        temperature: T: p^(1/T) is normal too, with sqrt(T) times the deviation.

    Returns:
        (rows, n), and the sum over n of the log of the density.
    """
    drawn = mean
    if temperature > 0:
        score = _each(_NORMAL.inv_cdf, u)
        drawn = mean + math.sqrt(temperature) * deviation * score
    e = (drawn - mean) / deviation
    density = -_log(deviation) - e * e / 2 - math.log(2 * math.pi) / 2
    return drawn, density.sum(1)


def draw_between(
    quantiles: Array, levels: Sequence[float], u: Array, temperature: float = 1.0
) -> Array:
    """A number from each distribution of which some quantiles are known.

    Between two levels the quantile function is a straight line; beyond the outermost ones the
    line of the two nearest goes on. One level alone says one number.

        >>> said = np.array([[[10.0, 20.0, 40.0]]])
        >>> [float(draw_between(said, (0.1, 0.5, 0.9), np.array([[u]]))[0, 0])
        ...  for u in (0.3, 0.5, 0.95)]
        [15.0, 20.0, 42.5]

    Args:
        quantiles: (rows, n, levels); those that cross are put in order.
        levels: The level of each, rising.
        u: (rows, n).
        temperature: T: the normal score of u is multiplied by sqrt(T), so that normal quantiles
            give what `draw_gaussian` gives; 0 for the median.

    Returns:
        (rows, n).
    """
    if len(levels) == 1:
        return quantiles[..., 0]
    if temperature != 1:
        u = _each(_NORMAL.cdf, math.sqrt(temperature) * _each(_NORMAL.inv_cdf, u))
    q, of_levels = np.sort(quantiles, -1), np.asarray(levels)
    right = np.searchsorted(of_levels, u).clip(1, len(levels) - 1)[..., np.newaxis]
    low, high = (np.take_along_axis(q, right - i, -1)[..., 0] for i in (1, 0))
    begins, ends = of_levels[right[..., 0] - 1], of_levels[right[..., 0]]
    return low + (high - low) * ((u - begins) / (ends - begins))


def _log(p: Array) -> Array:
    """The natural logarithm, minus infinity for 0."""
    with default_arithmetic():
        return np.log(p)


def _each(function: Callable[[float], float], values: Array) -> Array:
    """A function of every number by itself, since it has the same bits wherever it stands."""
    return np.array([function(value) for value in values.flat]).reshape(values.shape)
