"""Where in the hour, the day, the week or the year a time lies: points on circles.

Each is a sine and a cosine, so that the end of a day lies beside the beginning of the next. Times
are in UTC. The numbers come out of a table: their bits do not depend on how many times are asked
for at once.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

from beam_rnn.core.arrays import Array

_HOUR = 3_600_000_000
_PERIODS = {"hour": (_HOUR, 0), "day": (24 * _HOUR, 0), "week": (7 * 24 * _HOUR, 3 * 24 * _HOUR)}
"""Each with where its first lies in 1970, which began on a Thursday; in microseconds."""

CYCLES = (*_PERIODS, "year")
"""The names of the cycles; a week begins on Monday."""

PLACES = 65_536
"""So many places on a circle are told apart: one is 1.3 seconds of a day, 8 minutes of a year."""


def cycle_names(cycles: Sequence[str]) -> tuple[str, ...]:
    """What the numbers of cycles are called.

    >>> cycle_names(["day"])
    ('day sine', 'day cosine')
    """
    return tuple(f"{cycle} {part}" for cycle in cycles for part in ("sine", "cosine"))


def cycle_numbers(cycles: Sequence[str], times: Array) -> Array:
    """The numbers of times.

        >>> noon, six_in_the_evening = 12 * 3_600_000_000, 18 * 3_600_000_000
        >>> cycle_numbers(["day"], np.array([0, noon, six_in_the_evening])).round(6)
        array([[ 0.,  1.],
               [ 0., -1.],
               [-1., -0.]])

    Args:
        cycles: Names in `CYCLES`.
        times: (n,) int64, microseconds since 1970.

    Returns:
        (n, 2 * cycles), each cycle's sine and cosine.
    """
    numbers = np.empty((len(times), 2 * len(cycles)))
    for i, cycle in enumerate(cycles):
        numbers[:, 2 * i : 2 * i + 2] = _circle()[_place(cycle, times)]
    return numbers


def _place(cycle: str, times: Array) -> Array:
    """The place of each time on the circle."""
    if cycle == "year":
        years = times.astype("datetime64[us]").astype("datetime64[Y]")
        begins, ends = (y.astype("datetime64[us]").astype(np.int64) for y in (years, years + 1))
        return (times - begins) * PLACES // (ends - begins)
    period, offset = _PERIODS[cycle]
    return (times + offset) % period * PLACES // period


@functools.cache
def _circle() -> Array:
    """(places, 2), the sine and the cosine of each."""
    angles = [2 * math.pi * place / PLACES for place in range(PLACES)]
    return np.array([(math.sin(angle), math.cos(angle)) for angle in angles])
