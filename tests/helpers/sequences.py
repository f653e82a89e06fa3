"""Sequences for tests."""

import numpy as np

from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence

COLUMNS = Columns(key="id", time="t", inputs=["x"])


def wave(length=40, key="a", columns=COLUMNS, start=0):
    """A sine wave, a step a second, as `Sequences` would cut it."""
    furthest = columns.horizons[-1]
    values = np.sin(np.arange(start, start + length + furthest) / 3)[:, np.newaxis]
    times = np.arange(start, start + length) * 1_000_000
    targets = np.concatenate([values[h : length + h] for h in columns.horizons], 1)
    until = (start + length - 1 + furthest) * 1_000_000
    return Sequence(columns, key, times, values[:length], targets, until)
