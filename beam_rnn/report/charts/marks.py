"""The marks of a chart: lines thinned to visible points, bands, bars, rules, shades and dots."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array

POINTS = 500
"""The maximum number of points of a line."""

GREATEST = 1e300
"""The largest absolute value that is drawn; larger values are clipped."""


class Trace(NamedTuple):
    """The points of a line."""

    x: Array  # (points,) float64, increasing
    y: Array  # (points,) float64; NaN between two stretches of the line


class Line(NamedTuple):
    """A line through points."""

    trace: Trace
    name: str
    style: str = "first"


class Band(NamedTuple):
    """The area between two lines."""

    low: Trace
    high: Trace
    name: str


class Rule(NamedTuple):
    """A straight line across the chart: vertical at x, or horizontal at y."""

    name: str
    style: str
    x: float | None = None
    y: float | None = None


class Shade(NamedTuple):
    """A marked interval of the x axis."""

    low: float
    high: float
    name: str


class Dot(NamedTuple):
    """A marked point."""

    x: float
    y: float
    name: str
    style: str = "first"


class Bars(NamedTuple):
    """Bars side by side, from 0 to their heights."""

    edges: Array  # (bars + 1,), increasing: each bar is between two of them
    heights: Array  # (bars,)
    name: str


Mark = Line | Band | Rule | Shade | Dot | Bars


def thinned(x: Array, y: Array, points: int = POINTS, gap: float = math.inf) -> Trace:
    """Return at most `points` points of a line: the minimum and the maximum of each stretch.

        >>> y = np.zeros(10_000)
        >>> y[1234] = 9
        >>> trace = thinned(np.arange(10_000.0), y, points=100)
        >>> len(trace.y) <= 100, float(trace.y.max())
        (True, 9.0)
        >>> thinned(np.array([1, 2, 90]), np.ones(3), gap=10).y
        array([ 1.,  1., nan,  1.])

    Args:
        x: (n,), increasing.
        y: (n,); non-finite values are left out.
        points: The maximum number of points; at least 4.
        gap: The line is interrupted where x increases by more than this.
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
    """Return the indices of the first and the last value, and of the extremes of each stretch."""
    edges = np.linspace(0, len(y), points // 2).astype(int)  # one stretch fewer than points / 2
    kept = {0, len(y) - 1}
    for start, stop in pairwise(edges):
        kept |= {start + int(y[start:stop].argmin()), start + int(y[start:stop].argmax())}
    return sorted(kept)
