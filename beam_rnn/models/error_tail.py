"""The probability of a forecast error, from the tail of the errors before it.

The method is peaks over threshold (Pickands 1975; in streams Siffer et al. 2017). Whatever the
distribution of errors, the amounts y by which they exceed a high threshold u follow a generalised
Pareto distribution:

    P(|e| > u + y) = r (1 + xi y / sigma)^(-1 / xi)

where r is the share of errors above u, and xi and sigma follow from the mean m and the variance s^2
of the amounts (Hosking and Wallis 1987):

    xi = (1 - m^2 / s^2) / 2        sigma = m (1 - xi)

Mean and variance are decayed, and u follows the quantile 1 - r (Robbins and Monro 1951). So a
probability means the same for every key, although errors of real series have heavier tails than a
normal distribution.

>>> surprise, tail = Surprise(), NO_ERRORS
>>> for error in (0.3, 0.1, 0.4, 0.2, 0.3, 0.1, 2.5):
...     probability = tail_probability(tail, error)
...     tail = observed(tail, error, surprise)
>>> round(probability, 3)
0.007
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from beam_rnn.core.checks import check_number
from beam_rnn.core.errors import ConfigurationError

HEAVIEST = 0.45
"""Maximum xi that moments can estimate: the variance is infinite from 0.5 on."""
GREATEST_ERROR = 1e150
"""Maximum size of an error, whose square is still finite; larger ones count as this."""
FAR = 10.0
"""Maximum size of an error as a multiple of the mean size of the peaks before it."""


@dataclass(frozen=True)
class Surprise:
    """How the errors of a key are judged.

        >>> Surprise(memory=500).decay
        0.998

    Args:
        memory: The number of errors after which the statistics have decayed to 1 / e. 2000 records
            are a week of one every five minutes.
        peaks: The share of errors above the threshold, from which the tail is estimated.

    Raises:
        ConfigurationError: A number is outside its range.
    """

    memory: float = 2000.0
    peaks: float = 0.01

    def __post_init__(self) -> None:
        check_number("memory", self.memory, least=1)
        check_number("peaks", self.peaks, below=1)
        if not self.peaks:
            raise ConfigurationError(f"peaks must be in (0, 1), got {self.peaks!r}")

    @property
    def decay(self) -> float:
        """The factor by which each new error reduces the weight of the errors before it."""
        return 1 - 1 / self.memory


class Tail(NamedTuple):
    """The statistics of the errors of one target; counts and sums are decayed.

    Attributes:
        weight: The number of errors.
        total: The sum of their sizes.
        threshold: The size u above which an error is a peak.
        peaks: The number of peaks.
        excess: The sum of the amounts by which peaks exceeded the threshold.
        squares: The sum of the squares of these amounts.
        last: The size of the last error.
    """

    weight: float
    total: float
    threshold: float
    peaks: float
    excess: float
    squares: float
    last: float


NO_ERRORS = Tail(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Statistics before the first error."""


def tail_probability(tail: Tail, error: float) -> float:
    """Return the probability of an error of at least this size, from the errors before it.

    It is in [0, 1]. Up to the threshold its logarithm falls in proportion to the size. The
    threshold is at least the last error, because a spike gives two errors of about one size, and
    is one event.
    With few peaks the estimate of xi is uncertain, so 1 / peaks is added to it.

    Args:
        tail: The statistics of the errors before.
        error: The error.
    """
    size = min(abs(error), GREATEST_ERROR)
    if not tail.weight or not size:
        return 1.0
    share = (tail.peaks + 1) / (tail.weight + 1)
    threshold = max(tail.threshold, tail.last)
    if size <= threshold:
        return share ** (size / threshold)
    mean, square, peaks = _amounts(tail)
    if not mean:  # all errors were 0
        return share
    variance = square - mean * mean
    xi = min((1 - mean * mean / variance) / 2, HEAVIEST) if variance > mean * mean else 0.0
    sigma = mean * (1 - xi)
    xi += 1 / peaks
    return share * math.exp(-math.log1p(xi * (size - tail.threshold) / sigma) / xi)


def _amounts(tail: Tail) -> tuple[float, float, float]:
    """Return mean and mean square of the amounts above the threshold, and their number.

    One prior peak is included, of an exponential distribution with the mean of all errors.
    """
    mean = tail.total / tail.weight
    peaks = tail.peaks + 1
    return (tail.excess + mean) / peaks, (tail.squares + 2 * mean * mean) / peaks, peaks


def observed(tail: Tail, error: float, surprise: Surprise) -> Tail:
    """Return the statistics updated with one more error.

    A value that is not a measurement, such as 999999, must not mask the errors after it. So an
    error counts as at most `FAR` times the mean size of the peaks before it, if there were errors.
    The bound grows with the peaks: it adapts to a lasting rise within tens of records.

    Args:
        tail: The statistics before.
        error: The error.
        surprise: The memory and the share of peaks.
    """
    last, decay = min(abs(error), GREATEST_ERROR), surprise.decay
    usual = tail.threshold + _amounts(tail)[0] if tail.total else math.inf
    size = min(last, FAR * usual)
    amount = max(size - tail.threshold, 0.0)
    after = Tail(
        weight=decay * tail.weight + 1,
        total=decay * tail.total + size,
        threshold=tail.threshold,
        peaks=decay * tail.peaks + (amount > 0),
        excess=decay * tail.excess + amount,
        squares=decay * tail.squares + amount * amount,
        last=last,
    )
    return after._replace(threshold=_following(after, surprise.peaks, is_peak=amount > 0))


def _following(tail: Tail, share: float, *, is_peak: bool) -> float:
    """Return the threshold after an error, moved so that a `share` of errors is above it.

    A step of Robbins and Monro, u + (peak - share) / (n f(u)): the density f(u) of the errors at
    the threshold is the share over the mean amount above it.
    """
    mean, _, _ = _amounts(tail)
    if is_peak:
        return tail.threshold + mean * min((1 - share) / (share * tail.weight), 1.0)
    return max(tail.threshold - mean / tail.weight, 0.0)
