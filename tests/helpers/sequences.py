"""Sequences for tests."""

import numpy as np

from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.training.plan import task_of
from beam_rnn.training.settings import Training
from beam_rnn.training.validation import split_of

COLUMNS = Columns(key="id", time="t", inputs=["x"])


def wave(length=40, key="a", columns=COLUMNS, start=0):
    """A sine wave, a step a second, as `Sequences` would cut it."""
    furthest = columns.horizons[-1]
    values = np.sin(np.arange(start, start + length + furthest) / 3)[:, np.newaxis]
    times = np.arange(start, start + length) * 1_000_000
    targets = np.concatenate([values[h : length + h] for h in columns.horizons], 1)
    until = (start + length - 1 + furthest) * 1_000_000
    return Sequence(columns, key, times, values[:length], targets, until)


def hold_back(sequences, fraction, network):
    """The sequences to train on, and those of the validation set."""
    task = task_of(network, Training(validation=fraction))
    split = split_of(sequences, fraction, task.split_by)
    halves = [split.halves(sequence) for sequence in sequences]
    return [a for a, _ in halves if a is not None], [b for _, b in halves if b is not None]
