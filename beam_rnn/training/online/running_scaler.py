"""Running statistics: the numbers of a stream are scaled by those before them.

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
    """Scaling of a stream by its running mean and deviation, key by key.

    An input is scaled by the statistics that include it, a target by those at its prediction.

        >>> Running(log=True, difference=12).steps_back(horizon=3)
        12
        >>> Running(difference=1).steps_back(horizon=3)
        3

    Args:
        decay: The factor of earlier values at each step: 1 for equal weights; 0.99 forgets half in
            69 steps.
        log: Take the logarithm of the targets first, for targets that grow by factors; they must
            be above 0.
        difference: Subtract the value of this number of steps before, the length of a season:
            targets are then changes from the last known value of the same place in the season
            (Box and Jenkins 1970). None for the values themselves.

    Inputs that are not targets are only scaled, without logarithm or difference.

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
        """Return True if it is mean and deviation alone, as in `beam_rnn.data.scaling.Scaler`."""
        return not self.log and self.difference is None

    def check_can_be_stored(self) -> None:
        """Check that a weights file can hold the scaling.

        Raises:
            ConfigurationError: It takes logarithms or differences.
        """
        if not self.plain:
            raise ConfigurationError(
                f"checkpoint_every needs a scaling that a weights file can hold, got {self}: "
                "leave out log and difference, or checkpoint_every"
            )

    def steps_back(self, horizon: int) -> int:
        """Return the number of steps from a target back to the value that is subtracted."""
        assert self.difference is not None, "only for differences"
        return -(-horizon // self.difference) * self.difference


FEW = 10
"""The number of values after which a value is limited by `FAR`."""
FAR = 10.0
"""The greatest distance from the mean at which a value counts, in deviations."""


class Statistics(NamedTuple):
    """The running statistics of columns: (columns,) float64 each.

    Attributes:
        weight: The sum of the weights of the values.
        mean: Their weighted mean.
        squares: The weighted sum of squared deviations from it.
    """

    weight: Array
    mean: Array
    squares: Array


def no_statistics(columns: int) -> Statistics:
    """Return the statistics of no values."""
    return Statistics(np.zeros(columns), np.zeros(columns), np.zeros(columns))


def observed(statistics: Statistics, values: Array, decay: float = 1.0) -> Statistics:
    """Return the statistics with one more value of each column; NaN is left out.

    One value that is not a measurement, such as 999999, must not decide the scale of all that
    follow. So after `FEW` values one counts as at most `FAR` deviations from the mean, or as the
    number that doubles the variance: a lasting change of level is learned within tens of records.
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
    """Return mean and standard deviation of each column, and True if there is a deviation.

    A column that never changed has the scale 1.
    """
    deviation = np.sqrt(statistics.squares / np.maximum(statistics.weight, 1.0))
    varies = deviation > 1e-12 * np.abs(statistics.mean)
    return statistics.mean, np.where(varies, deviation, 1.0), varies
