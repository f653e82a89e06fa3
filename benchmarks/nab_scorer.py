"""The score of the Numenta Anomaly Benchmark (NAB).

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms" (2015,
https://arxiv.org/abs/1510.03336), as numenta/NAB computes it (`nab/sweeper.py`, `nab/runner.py`).

A row is a detection if its anomaly score reaches a threshold. All series share one threshold, the
best one for the detector. The earliest detection in a window adds to the score, weighted by a
sigmoid of its position. A false positive costs less the sooner it follows a window; a missed window
costs, too. The first 15 % of a series, at most 750 rows, are not scored. The sum is normalised: 0
for no detection at all, 100 for a detection at the beginning of each window.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array

PROBATION = 0.15
"""The share of a series that is not scored."""
PROBATION_OF_AT_MOST = 5000  # rows
NOWHERE = -1


class Profile(NamedTuple):
    """The weights of detections, misses and false positives (`config/profiles.json`)."""

    found: float
    missed: float
    false: float


PROFILES = {
    "standard": Profile(found=1.0, missed=1.0, false=0.11),
    "reward_low_FP_rate": Profile(found=1.0, missed=1.0, false=0.22),
    "reward_low_FN_rate": Profile(found=1.0, missed=2.0, false=0.11),
}


class Series(NamedTuple):
    """The anomaly scores of a series, and the windows of its anomalies.

    Attributes:
        times: The time of each row; they include the limits of all windows.
        scores: (rows,), the anomaly score of each, in [0, 1].
        windows: The first and the last time of each window, in order.
    """

    times: Sequence[object]
    scores: Array
    windows: Sequence[tuple[object, object]]


class Score(NamedTuple):
    """The score of a detector.

    Attributes:
        normalised: 0 for no detection, 100 for immediate detection of all windows.
        threshold: The least anomaly score of a detection.
        found: The number of windows with a detection.
        windows: The number of windows.
        false: The number of detections outside of windows.
    """

    normalised: float
    threshold: float
    found: int
    windows: int
    false: int


def scaled_sigmoid(position: Array) -> Array:
    """Return the weight of a detection at a position: -1 is the start of a window, 0 its end.

    >>> scaled_sigmoid(np.array([-1, -0.5, 0, 1, 4])).round(3).tolist()
    [0.987, 0.848, 0.0, -0.987, -1.0]
    """
    worth = 2 / (1 + np.exp(5 * np.minimum(position, 3.0))) - 1
    return np.where(position > 3, -1.0, worth)


def worth(series: Series, profile: Profile) -> tuple[Array, Array]:
    """Return what a detection at each row adds, (rows,), and its window or `NOWHERE`.

    Only the best detection of a window is counted, but every one outside of windows.
    """
    rows = np.arange(len(series.times))
    window = np.full(len(rows), NOWHERE)
    position = np.full(len(rows), np.inf)  # before the first window all cost the same
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
    """Return the number of first rows that are not scored.

    >>> probation(1000), probation(10_000)
    (150, 750)
    """
    least = min(np.floor(PROBATION * rows), PROBATION * PROBATION_OF_AT_MOST)
    return int(np.ceil(least))


def score(corpus: Iterable[Series], profile: Profile = PROFILES["standard"]) -> Score:
    """Return the score of a detector on some series, at its best threshold.

    Args:
        corpus: The series.
        profile: The weights.
    """
    added, window, reached, windows = _joined(corpus, profile)
    order = np.argsort(-reached, kind="stable")
    added, window, reached = added[order], window[order], reached[order]
    outside = window == NOWHERE
    # The change of the total at a row; in a window, the increase of the best value so far.
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
    """Return the value, window and score of all scored rows, and the number of windows."""
    parts, windows = [], 0
    for series in corpus:
        added, window = worth(series, profile)
        first = probation(len(series.scores))
        window = np.where(window == NOWHERE, NOWHERE, window + windows)
        parts.append((added[first:], window[first:], np.asarray(series.scores)[first:]))
        windows += len(series.windows)
    added, window, reached = (np.concatenate(part) for part in zip(*parts, strict=True))
    return added, window, reached, windows
