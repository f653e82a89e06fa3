"""How the errors of many keys are spread: a histogram, and what half of the keys stay below."""

import math
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np

LOG_FROM = 10.0
"""Errors of which the greatest is so many times the least are put into logarithmic bins."""
BINS = 8, 30
"""How many bins there are: at least, and at the most."""


class Spread(NamedTuple):
    """How many keys have an error between one edge and the next.

    Attributes:
        edges: (bins + 1), rising.
        model: (bins), of the model.
        last_value: (bins), of the last value.
        log: Whether the edges are equal factors apart.
        half: Half of the keys have at most this error.
        most: Nine of ten keys have at most this error.
        not_finite: How many keys have an error that is not finite: they are in no bin.
    """

    edges: tuple[float, ...]
    model: tuple[int, ...]
    last_value: tuple[int, ...]
    log: bool
    half: float
    most: float
    not_finite: int


def spread_of(errors: SequenceOf[float], last_values: SequenceOf[float]) -> Spread | None:
    """The spread of errors; None if none is finite.

    >>> spread = spread_of([1.0, 2.0, 3.0, 9.0], [9.0])
    >>> spread.half, sum(spread.model), spread.last_value[-1], spread.log
    (2.0, 4, 1, False)

    Args:
        errors: That of each key.
        last_values: The same of the last value, of the keys for which it is known.
    """
    own, other = (
        np.array([value for value in values if math.isfinite(value)])
        for values in (errors, last_values)
    )
    if not len(own):
        return None
    every = np.concatenate([own, other])
    low, high = float(every.min()), float(every.max())
    log = low > 0 and high / low >= LOG_FROM
    count = min(max(math.ceil(2 * len(own) ** (1 / 3)), BINS[0]), BINS[1])
    if high <= low * (1 + 1e-9):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    edges = np.geomspace(low, high, count + 1) if log else np.linspace(low, high, count + 1)
    edges[0], edges[-1] = low, high  # whatever the rounding, both ends are in a bin
    ranked = np.sort(own)
    return Spread(
        tuple(edges.tolist()),
        tuple(np.histogram(own, edges)[0].tolist()),
        tuple(np.histogram(other, edges)[0].tolist()),
        log,
        float(ranked[(len(ranked) - 1) // 2]),
        float(ranked[math.ceil(0.9 * len(ranked)) - 1]),
        len(errors) - len(own),
    )
