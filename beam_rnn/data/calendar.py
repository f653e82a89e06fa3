"""Cyclical encoding of event times: the position in the hour, day, week or year.

Each cycle is a sine and a cosine, so that the end of a day is next to the beginning of the next
day. Times are in UTC. The numbers come from a table, so their bits do not depend on the batch size.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from beam_rnn.core.arrays import Array

_HOUR = 3_600_000_000
_PERIODS = {"hour": (_HOUR, 0), "day": (24 * _HOUR, 0), "week": (7 * 24 * _HOUR, 3 * 24 * _HOUR)}
"""Period and offset of each cycle, in microseconds. 1970 began on a Thursday."""

CYCLES = (*_PERIODS, "year")
"""Names of the cycles. A week begins on Monday."""

PLACES = 65_536
"""Number of positions in a cycle: one is 1.3 seconds of a day, 8 minutes of a year."""


def cycle_names(cycles: Sequence[str]) -> tuple[str, ...]:
    """Return the name of each number of `cycle_numbers`.

    >>> cycle_names(["day"])
    ('day sine', 'day cosine')
    """
    return tuple(f"{cycle} {part}" for cycle in cycles for part in ("sine", "cosine"))


def cycle_numbers(cycles: Sequence[str], times: Array) -> Array:
    """Return the cyclical encoding of times.

        >>> noon, six_in_the_evening = 12 * 3_600_000_000, 18 * 3_600_000_000
        >>> cycle_numbers(["day"], np.array([0, noon, six_in_the_evening])).round(6)
        array([[ 0.,  1.],
               [ 0., -1.],
               [-1., -0.]])

    Args:
        cycles: Names in `CYCLES`.
        times: (n,) int64, microseconds since 1970.

    Returns:
        (n, 2 * cycles), the sine and cosine of each cycle.
    """
    numbers = np.empty((len(times), 2 * len(cycles)))
    for i, cycle in enumerate(cycles):
        numbers[:, 2 * i : 2 * i + 2] = _circle()[_place(cycle, times)]
    return numbers


def _place(cycle: str, times: Array) -> Array:
    """Return the position of each time in the cycle."""
    if cycle == "year":
        years = times.astype("datetime64[us]").astype("datetime64[Y]")
        begins, ends = (y.astype("datetime64[us]").astype(np.int64) for y in (years, years + 1))
        return (times - begins) * PLACES // (ends - begins)
    period, offset = _PERIODS[cycle]
    return (times + offset) % period * PLACES // period


@functools.cache
def _circle() -> Array:
    """Return the sine and cosine of each position: (places, 2)."""
    angles = [2 * math.pi * place / PLACES for place in range(PLACES)]
    return np.array([(math.sin(angle), math.cos(angle)) for angle in angles])
