"""What a chart shows: lines of no more points than can be seen, bands, bars, rules and dots."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array

POINTS = 500
"""How many points a line has at the most."""

GREATEST = 1e300
"""What is greater is drawn as if it were this."""


class Trace(NamedTuple):
    """The points of a line."""

    x: Array  # (points,) float64, rising
    y: Array  # (points,) float64; NaN between two stretches of the line


class Line(NamedTuple):
    """A line through points."""

    trace: Trace
    name: str
    style: str = "first"


class Band(NamedTuple):
    """What lies between two lines."""

    low: Trace
    high: Trace
    name: str


class Rule(NamedTuple):
    """A straight line across the chart: upright at x, or level at y."""

    name: str
    style: str
    x: float | None = None
    y: float | None = None


class Shade(NamedTuple):
    """A part of the x axis that is marked."""

    low: float
    high: float
    name: str


class Dot(NamedTuple):
    """A point that is marked."""

    x: float
    y: float
    name: str
    style: str = "first"


class Bars(NamedTuple):
    """Bars side by side, from 0 to their heights."""

    edges: Array  # (bars + 1,), rising: each bar stands between two of them
    heights: Array  # (bars,)
    name: str


Mark = Line | Band | Rule | Shade | Dot | Bars


def thinned(x: Array, y: Array, points: int = POINTS, gap: float = math.inf) -> Trace:
    """The points of a line, at the most so many; of each stretch the least and the greatest stay.

        >>> y = np.zeros(10_000)
        >>> y[1234] = 9
        >>> trace = thinned(np.arange(10_000.0), y, points=100)
        >>> len(trace.y) <= 100, float(trace.y.max())
        (True, 9.0)
        >>> thinned(np.array([1, 2, 90]), np.ones(3), gap=10).y
        array([ 1.,  1., nan,  1.])

    Args:
        x: (n,), rising.
        y: (n,); values that are not finite are left out.
        points: How many points stay, at the most; at least 4.
        gap: Where x rises by more, the line is broken.
    """
    finite = np.flatnonzero(np.isfinite(y))
    x, y = x[finite].astype(float), y[finite].clip(-GREATEST, GREATEST).astype(float)
    stretch = np.concatenate([[0], np.cumsum(np.diff(x) > gap)])[: len(x)]
    if len(y) > points:
        kept = _extremes(y, points)
        x, y, stretch = x[kept], y[kept], stretch[kept]
    breaks = np.flatnonzero(np.diff(stretch)) + 1
    return Trace(np.insert(x, breaks, x[breaks]), np.insert(y, breaks, np.nan))


def _extremes(y: Array, points: int) -> list[int]:
    """The places of the first and the last value, and of the extremes of each stretch."""
    edges = np.linspace(0, len(y), points // 2).astype(int)  # one stretch fewer than points / 2
    kept = {0, len(y) - 1}
    for start, stop in pairwise(edges):
        kept |= {start + int(y[start:stop].argmin()), start + int(y[start:stop].argmax())}
    return sorted(kept)
