"""How the errors of many keys are spread: a histogram, and what half of the keys stay below."""

import math
from collections.abc import Iterable
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


FEW = 20
"""So many keys are listed, each with its score."""
WORST = 10
"""Of more keys so many are listed: the worst ones."""


class Calibration(NamedTuple):
    """How often targets lie below quantiles of them, or within the band.

    Attributes:
        targets: How many targets were judged.
        below: Of each quantile, how many lay at or below it.
        within: How many lay within the band.
    """

    targets: int
    below: tuple[int, ...]
    within: int

    @property
    def shares(self) -> tuple[float, ...]:
        """Of each quantile, the share of the targets at or below it."""
        return tuple(count / max(1, self.targets) for count in self.below)


class Score(NamedTuple):
    """How well a model does on a key.

    Attributes:
        key: The key.
        error: Of numbers the mean absolute error in standard deviations; of classes the share of
            steps whose class was not the likeliest one; of labels that of those told wrong.
            Infinite if an output is not finite.
        last_value: The same of the forecast that the target stays what it was; None if what it
            was is not known.
        steps: How many steps were judged.
        by_horizon: The error and that of the last value at each horizon, None where there is
            nothing to judge by.
        calibration: At the nearest horizon, and at the furthest if there are several; empty if
            the outputs are no distribution.
        classes: For each class how many steps were of it, were said to be of it, and both.
        trained_on: Whether these steps were trained on.
        known: Whether training saw the key.
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
    """How well a model does on all keys.

    Attributes:
        shown: The scores of the best, the median and the worst key, by what they are.
        few: The scores of all keys, by key; empty if there are more than `FEW`.
        worst: The scores of the `WORST` worst keys, the worst first; empty if `few` has all.
        spread: How the errors of all keys are spread; None if none is finite.
        keys: How many keys were judged.
        steps: How many steps.
        error: The mean error over the keys.
        last_value: The same of the last value's forecast, over the keys that have it.
        better: On how many keys the model does better than the last value, and of how many.
        by_horizon: The mean over the keys of both errors at each horizon.
        calibration: As for `Score`, of all keys.
        classes: As for `Score`, of all keys.
        left_out: How many keys have nothing to be judged by.
        trained_on: Whether what was judged was trained on.
        strange: How many keys are left out since training did not see them.
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
    strange: int = 0


def summarize(scores: Iterable[Score | None]) -> Summary | None:
    """The summary of the scores of all keys, in any order; None if none could be judged.

    Keys of which all was trained on are left out where others have more; and so are keys that
    training did not see, where it saw others.

    >>> scores = [Score("a", 0.3, 0.5, 9), Score("b", 0.1, 0.2, 9), Score("c", 0.9, 0.5, 9), None]
    >>> summary = summarize(scores)
    >>> [(what, each.key) for what, each in summary.shown]
    [('best', 'b'), ('median', 'a'), ('worst', 'c')]
    >>> summary.better, summary.left_out
    ((2, 3), 1)
    """
    given = list(scores)
    judged = [each for each in given if each is not None]
    unseen = [each for each in judged if not each.trained_on]
    known = [each for each in unseen or judged if each.known]
    by_key = sorted(known or unseen or judged)
    strange = len(unseen or judged) - len(by_key)
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
        tuple(_together(each) for each in zip(*(e.calibration for e in by_key), strict=True)),
        tuple(
            tuple(map(sum, zip(*of_class, strict=True)))  # type: ignore[misc]
            for of_class in zip(*(each.classes for each in by_key), strict=True)
        ),
        len(given) - len(by_key) - strange,
        not unseen,
        strange,
    )


def _shown(ranked: SequenceOf[Score]) -> tuple[tuple[str, Score], ...]:
    if len(ranked) == 1:
        return (("only", ranked[0]),)
    ends = ("best", ranked[0]), ("worst", ranked[-1])
    if len(ranked) == 2:
        return ends
    return ends[0], ("median", ranked[(len(ranked) - 1) // 2]), ends[1]


def _together(each: SequenceOf[Calibration]) -> Calibration:
    """Those of all keys as one."""
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
