"""The score of the Numenta Anomaly Benchmark: detections early in a window count, others cost.

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms" (2015,
https://arxiv.org/abs/1510.03336), as numenta/NAB computes it (`nab/sweeper.py`, `nab/runner.py`).

A row is a detection if its anomaly score reaches a threshold, one for all series: the one that is
best for the detector. In a window the earliest detection counts, by a sigmoid of its place; a
detection outside costs, the less the shortly after a window; a window without one costs. The first
15 % of a series, 750 rows at the most, do not count. The sum is normalised: 0 for no detection at
all, 100 for one at the begin of each window.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array

PROBATION = 0.15
"""The share of a series that does not count."""
PROBATION_OF_AT_MOST = 5000  # rows
NOWHERE = -1


class Profile(NamedTuple):
    """What detections are worth, and what they cost (`config/profiles.json`)."""

    found: float
    missed: float
    false: float


PROFILES = {
    "standard": Profile(found=1.0, missed=1.0, false=0.11),
    "reward_low_FP_rate": Profile(found=1.0, missed=1.0, false=0.22),
    "reward_low_FN_rate": Profile(found=1.0, missed=2.0, false=0.11),
}


class Series(NamedTuple):
    """The anomaly scores of a series, and where its anomalies are.

    Attributes:
        times: Of each row; those that a window names are among them.
        scores: (rows,), the anomaly score of each, in [0, 1].
        windows: The first and the last time of each, in order.
    """

    times: Sequence[object]
    scores: Array
    windows: Sequence[tuple[object, object]]


class Score(NamedTuple):
    """What a detector reached.

    Attributes:
        normalised: 0 for no detection, 100 for all, at once.
        threshold: The anomaly score from which a row was a detection.
        found: How many windows have a detection.
        windows: How many there are.
        false: How many detections are in none.
    """

    normalised: float
    threshold: float
    found: int
    windows: int
    false: int


def scaled_sigmoid(position: Array) -> Array:
    """What a detection is worth at a place: -1 is the begin of a window, 0 its end.

    >>> scaled_sigmoid(np.array([-1, -0.5, 0, 1, 4])).round(3).tolist()
    [0.987, 0.848, 0.0, -0.987, -1.0]
    """
    worth = 2 / (1 + np.exp(5 * np.minimum(position, 3.0))) - 1
    return np.where(position > 3, -1.0, worth)


def worth(series: Series, profile: Profile) -> tuple[Array, Array]:
    """What a detection at each row adds, (rows,), and in which window it is, or `NOWHERE`.

    Of a window the best detection counts, of those outside the sum.
    """
    rows = np.arange(len(series.times))
    window = np.full(len(rows), NOWHERE)
    position = np.full(len(rows), np.inf)  # before the first window all are equally false
    times = list(series.times)
    for i, (begin, end) in enumerate(series.windows):
        first, last = times.index(begin), times.index(end)
        width = last - first + 1
        after = slice(last + 1, None)
        position[after] = (rows[after] - last) / max(width - 1, 1e-9)
        inside = slice(first, last + 1)
        position[inside] = (rows[inside] - last - 1) / width
        window[inside] = i
        window[after] = NOWHERE
    value = scaled_sigmoid(position)
    best = scaled_sigmoid(np.array(-1.0))
    return np.where(window == NOWHERE, profile.false, profile.found / best) * value, window


def probation(rows: int) -> int:
    """How many rows do not count.

    >>> probation(1000), probation(10_000)
    (150, 750)
    """
    least = min(np.floor(PROBATION * rows), PROBATION * PROBATION_OF_AT_MOST)
    return int(np.ceil(least))


def score(corpus: Iterable[Series], profile: Profile = PROFILES["standard"]) -> Score:
    """The score of a detector on some series, at the threshold that is best for it.

    Args:
        corpus: The series.
        profile: What detections are worth.
    """
    added, window, reached, windows = _joined(corpus, profile)
    order = np.argsort(-reached, kind="stable")
    added, window, reached = added[order], window[order], reached[order]
    outside = window == NOWHERE
    # What a row changes: of a window it is the best so far less the best before it.
    change = np.where(outside, added, 0.0)
    opened = np.zeros(len(change), np.int64)
    for i in np.unique(window[~outside]):
        rows = np.flatnonzero(window == i)
        best = np.maximum.accumulate(np.append(-profile.missed, added[rows]))
        change[rows] = np.diff(best)
        opened[rows[0]] = 1
    missed = -profile.missed * len(np.unique(window[~outside]))
    totals = missed + np.append(0.0, np.cumsum(change))
    last = np.append(np.flatnonzero(np.diff(reached)), len(reached) - 1)  # of equal scores
    counts = np.append(0, last + 1)  # rows that are detections, at each threshold
    n = int(counts[np.argmax(totals[counts])])
    return Score(
        normalised=float(100 * (totals[n] - missed) / (profile.found * windows - missed)),
        threshold=float(reached[n - 1]) if n else float("inf"),
        found=int(opened[:n].sum()),
        windows=windows,
        false=int(outside[:n].sum()),
    )


def _joined(corpus: Iterable[Series], profile: Profile) -> tuple[Array, Array, Array, int]:
    """Of all rows that count: what each adds, its window, and its score; and all windows."""
    parts, windows = [], 0
    for series in corpus:
        added, window = worth(series, profile)
        first = probation(len(series.scores))
        window = np.where(window == NOWHERE, NOWHERE, window + windows)
        parts.append((added[first:], window[first:], np.asarray(series.scores)[first:]))
        windows += len(series.windows)
    added, window, reached = (np.concatenate(part) for part in zip(*parts, strict=True))
    return added, window, reached, windows
