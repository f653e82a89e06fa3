"""How surprising an error is: the tail of the errors of a forecast, followed as they come.

Peaks over a threshold (Pickands 1975; in streams Siffer et al. 2017). Whatever the errors are,
those above a high threshold u exceed it by amounts y of a generalised Pareto distribution:

    P(|e| > u + y) = r (1 + xi y / sigma)^(-1 / xi)

where r is the share of errors above u, and xi and sigma follow from the mean m and the variance s^2
of the amounts (Hosking and Wallis 1987):

    xi = (1 - m^2 / s^2) / 2        sigma = m (1 - xi)

Mean and variance are decayed, and u follows the quantile 1 - r (Robbins and Monro 1951). So large
errors are judged by large ones, and a probability means the same for every key: errors of real
series have tails that a normal distribution takes for impossible.

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
"""The greatest xi of those that moments can tell: the variance is infinite from 0.5 on."""
GREATEST_ERROR = 1e150
"""A greater one counts as this: its square is still a number."""
FAR = 10.0
"""An error counts as at most this many times the mean size of the peaks before it."""


@dataclass(frozen=True)
class Surprise:
    """How the errors of a key are judged.

        >>> Surprise(memory=500).decay
        0.998

    Args:
        memory: How many errors what is known of them is worth: it decays by 1 / memory with each.
            2000 records are a week of one every five minutes.
        peaks: The share of errors that are above the threshold: of these the tail is known.

    Raises:
        ConfigurationError: A number outside its range.
    """

    memory: float = 2000.0
    peaks: float = 0.01

    def __post_init__(self) -> None:
        check_number("memory", self.memory, least=1)
        check_number("peaks", self.peaks, below=1)
        if not self.peaks:
            raise ConfigurationError("peaks must be in (0, 1), got 0")

    @property
    def decay(self) -> float:
        """What is left of the weight of an error when the next one comes."""
        return 1 - 1 / self.memory


class Tail(NamedTuple):
    """What is known of the errors of one target; their sums are decayed.

    Attributes:
        weight: How many errors there were.
        total: The sum of their sizes.
        threshold: The size u above which an error is a peak.
        peaks: How many of them were.
        excess: The sum of the amounts by which peaks exceeded the threshold.
        squares: The sum of the squares of these.
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
"""Before the first error."""


def tail_probability(tail: Tail, error: float) -> float:
    """How probable an error of at least this size is, from the errors before it; in [0, 1].

    Up to the threshold its logarithm falls in proportion to the size. The threshold is at least the
    last error: what leaps and falls back gives two errors of a size, and is one event. Of few peaks
    xi is itself not known: the next one has a tail that is heavier by one over their number.

    Args:
        tail: What is known.
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
    if not mean:  # there was never an error
        return share
    variance = square - mean * mean
    xi = min((1 - mean * mean / variance) / 2, HEAVIEST) if variance > mean * mean else 0.0
    sigma = mean * (1 - xi)
    xi += 1 / peaks
    return share * math.exp(-math.log1p(xi * (size - tail.threshold) / sigma) / xi)


def _amounts(tail: Tail) -> tuple[float, float, float]:
    """Mean and mean square of the amounts above the threshold, and of how many.

    With one that is not there: for an exponential distribution, as wide as the errors are.
    """
    mean = tail.total / tail.weight
    peaks = tail.peaks + 1
    return (tail.excess + mean) / peaks, (tail.squares + 2 * mean * mean) / peaks, peaks


def observed(tail: Tail, error: float, surprise: Surprise) -> Tail:
    """What is known with one more error.

    One value that is not a measurement, such as 999999, must not hide what follows it. So an error
    counts as at most `FAR` times the size of a mean peak before it, where there was an error. The
    bound grows with the peaks: larger errors that stay are learned within tens of records.

    Args:
        tail: What was known before.
        error: The error.
        surprise: How it is judged.
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
    """The threshold after an error: it stays where that share of the errors is above it.

    A step of Robbins and Monro, u + (peak - share) / (n f(u)): the density f(u) of the errors at
    the threshold is the share over the mean amount above it.
    """
    mean, _, _ = _amounts(tail)
    if is_peak:
        return tail.threshold + mean * min((1 - share) / (share * tail.weight), 1.0)
    return max(tail.threshold - mean / tail.weight, 0.0)
