"""The scores of keys, their summary, and the distribution of the errors of many keys."""

import math
from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np

LOG_FROM = 10.0
"""The ratio of the largest to the smallest error from which bins are logarithmic."""
BINS = 8, 30
"""The minimum and the maximum number of bins."""


class Spread(NamedTuple):
    """A histogram of the errors of keys.

    Attributes:
        edges: (bins + 1), increasing.
        model: (bins), the number of keys by the error of the model.
        last_value: (bins), the number of keys by the error of the last value.
        log: True if the edges are spaced logarithmically.
        half: The median error.
        most: The 90th percentile of the errors.
        not_finite: The number of keys with a non-finite error, which are in no bin.
    """

    edges: tuple[float, ...]
    model: tuple[int, ...]
    last_value: tuple[int, ...]
    log: bool
    half: float
    most: float
    not_finite: int


def spread_of(errors: SequenceOf[float], last_values: SequenceOf[float]) -> Spread | None:
    """Return the histogram of errors; None if none is finite.

    >>> spread = spread_of([1.0, 2.0, 3.0, 9.0], [9.0])
    >>> spread.half, sum(spread.model), spread.last_value[-1], spread.log
    (2.0, 4, 1, False)

    Args:
        errors: The error of each key.
        last_values: The errors of the last value, for the keys for which it is known.
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
    edges[0], edges[-1] = low, high  # exact, so that both ends are in a bin
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


FEW = 20
"""The maximum number of keys for which all scores are listed."""
WORST = 10
"""The number of worst keys that are listed if there are more than `FEW`."""


class Calibration(NamedTuple):
    """How many targets lie below each quantile, and within the band.

    Attributes:
        targets: The number of targets.
        below: The number of targets at or below each quantile.
        within: The number of targets within the band.
    """

    targets: int
    below: tuple[int, ...]
    within: int

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of targets at or below each quantile."""
        return tuple(count / max(1, self.targets) for count in self.below)


class Score(NamedTuple):
    """The score of a model on a key.

    Attributes:
        key: The key.
        error: For numbers the mean absolute error in standard deviations; for classes the share of
            steps whose most likely class is wrong; for labels the share of wrong labels. Infinite
            if an output is not finite.
        last_value: The error of the last value as a forecast; None if it is unknown.
        steps: The number of evaluated steps.
        by_horizon: The errors of the model and of the last value at each horizon, None if there
            are no steps.
        calibration: At the nearest horizon, and at the furthest if there are several; empty if
            the outputs are no distribution.
        classes: For each class the numbers of true, predicted and correctly predicted steps.
        trained_on: True if the model was trained on these steps.
        known: True if the key was in the training data.
    """

    key: str
    error: float
    last_value: float | None
    steps: int
    by_horizon: tuple[tuple[float | None, float | None], ...] = ()
    calibration: tuple[Calibration, ...] = ()
    classes: tuple[tuple[int, int, int], ...] = ()
    trained_on: bool = False
    known: bool = True


class Summary(NamedTuple):
    """The scores of a model on all keys.

    Attributes:
        shown: The scores of the best, the median and the worst key, with these names.
        few: The scores of all keys, sorted by key; empty if there are more than `FEW`.
        worst: The scores of the `WORST` worst keys, the worst first; empty if `few` has all.
        spread: The histogram of the errors of all keys; None if none is finite.
        keys: The number of evaluated keys.
        steps: The number of evaluated steps.
        error: The mean error over the keys.
        last_value: The mean error of the last value, over the keys for which it is known.
        better: The number of keys on which the model is better than the last value, and the number
            of keys with a last value.
        by_horizon: The mean over the keys of both errors at each horizon.
        calibration: As in `Score`, over all keys.
        classes: As in `Score`, over all keys.
        left_out: The number of keys without steps to evaluate.
        trained_on: True if the model was trained on the evaluated steps.
        unknown: The number of keys that are left out because they were not in the training data.
    """

    shown: tuple[tuple[str, Score], ...]
    few: tuple[Score, ...]
    worst: tuple[Score, ...]
    spread: Spread | None
    keys: int
    steps: int
    error: float
    last_value: float | None
    better: tuple[int, int]
    by_horizon: tuple[tuple[float | None, float | None], ...]
    calibration: tuple[Calibration, ...]
    classes: tuple[tuple[int, int, int], ...]
    left_out: int
    trained_on: bool
    unknown: int = 0


def summarize(scores: Iterable[Score | None]) -> Summary | None:
    """Return the summary of the scores of all keys, in any order; None if there are none.

    Keys with only training records are left out if other keys have later records, and keys that
    were not in the training data if other keys were.

    >>> scores = [Score("a", 0.3, 0.5, 9), Score("b", 0.1, 0.2, 9), Score("c", 0.9, 0.5, 9), None]
    >>> summary = summarize(scores)
    >>> [(what, each.key) for what, each in summary.shown]
    [('best', 'b'), ('median', 'a'), ('worst', 'c')]
    >>> summary.better, summary.left_out
    ((2, 3), 1)
    """
    given = list(scores)
    scored = [each for each in given if each is not None]
    unseen = [each for each in scored if not each.trained_on]
    known = [each for each in unseen or scored if each.known]
    by_key = sorted(known or unseen or scored)
    unknown = len(unseen or scored) - len(by_key)
    if not by_key:
        return None
    comparable = [each for each in by_key if each.last_value is not None]
    ranked = sorted(by_key, key=lambda each: (each.error, each.key))
    few = len(by_key) <= FEW
    return Summary(
        _shown(ranked),
        tuple(by_key) if few else (),
        () if few else tuple(ranked[: -WORST - 1 : -1]),
        spread_of([each.error for each in by_key], [each.last_value or 0.0 for each in comparable]),
        len(by_key),
        sum(each.steps for each in by_key),
        _mean(each.error for each in by_key),
        _mean(each.last_value or 0.0 for each in comparable) if comparable else None,
        (sum(each.error < (each.last_value or 0.0) for each in comparable), len(comparable)),
        tuple(
            (_mean_of_known(error for error, _ in each), _mean_of_known(last for _, last in each))
            for each in zip(*(each.by_horizon for each in by_key), strict=True)
        ),
        tuple(_summed(each) for each in zip(*(e.calibration for e in by_key), strict=True)),
        tuple(
            tuple(map(sum, zip(*of_class, strict=True)))  # type: ignore[misc]
            for of_class in zip(*(each.classes for each in by_key), strict=True)
        ),
        len(given) - len(by_key) - unknown,
        not unseen,
        unknown,
    )


def _shown(ranked: SequenceOf[Score]) -> tuple[tuple[str, Score], ...]:
    if len(ranked) == 1:
        return (("only", ranked[0]),)
    ends = ("best", ranked[0]), ("worst", ranked[-1])
    if len(ranked) == 2:
        return ends
    return ends[0], ("median", ranked[(len(ranked) - 1) // 2]), ends[1]


def _summed(each: SequenceOf[Calibration]) -> Calibration:
    """Return the sums over all keys."""
    return Calibration(
        sum(of.targets for of in each),
        tuple(map(sum, zip(*(of.below for of in each), strict=True))),
        sum(of.within for of in each),
    )


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _mean(known) if known else None


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if all(map(math.isfinite, numbers)) else math.inf
