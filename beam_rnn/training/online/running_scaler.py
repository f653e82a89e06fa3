"""Running statistics: numbers of a stream, scaled by what is known of them so far.

Weighted mean and variance, one value at a time (Welford 1962; with weights, West 1979):

>>> statistics = no_statistics(1)
>>> for value in (1.0, 3.0, 5.0):
...     statistics = observed(statistics, np.array([value]))
>>> center_and_scale(statistics)[0]
array([3.])
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_number, check_true_or_false, check_whole
from beam_rnn.core.errors import ConfigurationError


@dataclass(frozen=True)
class Running:
    """Scaling of a stream by the mean and the deviation that it has had so far, key by key.

    An input is scaled by what is known with it, a target by what was known when it was predicted.

        >>> Running(log=True, difference=12).steps_back(horizon=3)
        12
        >>> Running(difference=1).steps_back(horizon=3)
        3

    Args:
        decay: How much what is known counts when the next value comes: 1 for all values alike;
            0.99 forgets half in 69 steps.
        log: Take the logarithm of the targets first, for what grows by factors; they must be
            above 0 then.
        difference: Take the difference from the value so many steps before, the length of a
            season: targets then change from the last known value of the same place in the season
            (Box and Jenkins 1970). None for the values themselves.

    Inputs that are no targets are scaled, neither logarithm nor difference is taken of them.

    Raises:
        ConfigurationError: A value outside its range.
    """

    decay: float = 1.0
    log: bool = False
    difference: int | None = None

    def __post_init__(self) -> None:
        check_number("decay", self.decay)
        if not 0 < self.decay <= 1:
            raise ConfigurationError(f"decay must be in (0, 1], got {self.decay!r}")
        check_true_or_false("log", self.log)
        if self.difference is not None:
            check_whole("difference", self.difference)

    @property
    def plain(self) -> bool:
        """Whether mean and deviation say all, as in a `beam_rnn.data.scaling.Scaler`."""
        return not self.log and self.difference is None

    def check_can_be_stored(self) -> None:
        """That a weights file can hold the scaling.

        Raises:
            ConfigurationError: It is one of logarithms or differences.
        """
        if not self.plain:
            raise ConfigurationError(
                f"checkpoint_every needs a scaling that a weights file can hold, got {self}: "
                "leave out log and difference, or checkpoint_every"
            )

    def steps_back(self, horizon: int) -> int:
        """How many steps before a target the value is from which it is taken as a change."""
        assert self.difference is not None, "asked of differences alone"
        return -(-horizon // self.difference) * self.difference


FEW = 10
"""After fewer values nothing is known of how far they may be from each other."""
FAR = 10.0
"""How many deviations from the mean a value may count."""


class Statistics(NamedTuple):
    """What is known of some columns: (columns,) float64 each.

    Attributes:
        weight: The sum of the weights of the values.
        mean: Their weighted mean.
        squares: The weighted sum of squared deviations from it.
    """

    weight: Array
    mean: Array
    squares: Array


def no_statistics(columns: int) -> Statistics:
    """Nothing is known."""
    return Statistics(np.zeros(columns), np.zeros(columns), np.zeros(columns))


def observed(statistics: Statistics, values: Array, decay: float = 1.0) -> Statistics:
    """The statistics with one more value of each column; of those that are NaN, without.

    One value that is no measurement, such as 999999, must not be the scale of all that follow. So
    after `FEW` values one counts as at most `FAR` deviations from the mean, or as so many as make
    the variance grow twofold: a change of level that stays is learned within tens of records.
    """
    weight = decay * statistics.weight + 1
    delta = values - statistics.mean
    _, deviation, varies = center_and_scale(statistics)
    most = deviation * np.maximum(FAR, np.sqrt(weight))
    delta = np.where(varies & (weight > FEW), np.clip(delta, -most, most), delta)
    mean = statistics.mean + delta / weight
    squares = decay * statistics.squares + delta * (delta - delta / weight)
    there = ~np.isnan(values)
    return Statistics(
        np.where(there, weight, statistics.weight),
        np.where(there, mean, statistics.mean),
        np.where(there, squares, statistics.squares),
    )


def center_and_scale(statistics: Statistics) -> tuple[Array, Array, Array]:
    """Mean and standard deviation of each column, and whether there is a deviation yet.

    A column that never changed has the scale 1.
    """
    deviation = np.sqrt(statistics.squares / np.maximum(statistics.weight, 1.0))
    varies = deviation > 1e-12 * np.abs(statistics.mean)
    return statistics.mean, np.where(varies, deviation, 1.0), varies
