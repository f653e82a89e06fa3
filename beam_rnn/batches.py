"""Sequences, and the padded batches in which a network sees them."""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.cells import Array
from beam_rnn.columns import Columns


class Sequence(NamedTuple):
    """A key's records in order, as arrays, with the target that belongs to each step.

    Attributes:
        columns: Which fields of the records these are.
        key: The key.
        times: (steps,) int64, the event time of each input in microseconds since 1970.
        inputs: (steps, inputs) float64, as recorded.
        targets: (steps, horizons * targets) float64, as recorded: what the output after that
            input should be, `horizon` records later; horizon after horizon. Of classes, 1
            for the one that it is.
        until: The event time of the last record that went into it, inputs or targets.
        weights: (steps, horizons) float64, how much each of the targets counts; None if all
            count alike.
    """

    columns: Columns
    key: str
    times: Array
    inputs: Array
    targets: Array
    until: int
    weights: Array | None = None


class Example(NamedTuple):
    """A sequence as the network sees it: a row of a batch."""

    x: Array  # (steps, inputs)
    targets: Array  # (steps, horizons * targets)
    weights: Array | None = None  # (steps, horizons); None if all count alike


class Batch(NamedTuple):
    """Sequences side by side, longest first, padded with zeros; time comes first."""

    x: Array  # (time, batch, inputs)
    targets: Array  # (time, batch, horizons * targets)
    lengths: Array  # (batch,), falling
    weights: Array | None = None  # (time, batch, horizons); None if all count alike


def pad(arrays: SequenceOf[Array], dtype: DTypeLike) -> Array:
    """(time, batch, features) from arrays of (steps, features), zero at the end of each."""
    steps = max(len(array) for array in arrays)
    padded = np.zeros((steps, len(arrays), arrays[0].shape[1]), dtype)
    for i, array in enumerate(arrays):
        padded[: len(array), i] = array
    return padded


def batch_of(examples: SequenceOf[Example], dtype: DTypeLike = np.float32) -> Batch:
    """A batch of examples; all have weights, or none has."""
    longest_first = sorted(examples, key=lambda example: -len(example.x))
    weights = [example.weights for example in longest_first if example.weights is not None]
    return Batch(
        pad([example.x for example in longest_first], dtype),
        pad([example.targets for example in longest_first], dtype),
        np.array([len(example.x) for example in longest_first]),
        pad(weights, np.float64) if weights else None,
    )


def shuffled_batches(
    examples: SequenceOf[Example], size: int, random: np.random.Generator
) -> Iterator[Batch]:
    """Batches of at most `size` sequences, in an order that `random` decides."""
    order = random.permutation(len(examples))
    for start in range(0, len(order), size):
        yield batch_of([examples[i] for i in order[start : start + size]])
