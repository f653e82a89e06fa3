"""Sequences, and the padded batches in which a network sees them."""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.cells import Array
from beam_rnn.columns import Columns
from beam_rnn.scaler import Scaler


class Sequence(NamedTuple):
    """A key's records in order, as arrays, with the target that belongs to each step.

    Attributes:
        columns: Which fields of the records these are.
        key: The key.
        times: (steps,) int64, the event time of each input in microseconds since 1970.
        inputs: (steps, inputs) float64, as recorded.
        targets: (steps, targets) float64, as recorded: what the output after that input
            should be, `horizon` records later.
        until: The event time of the last record that went into it, inputs or targets.
    """

    columns: Columns
    key: str
    times: Array
    inputs: Array
    targets: Array
    until: int


class Batch(NamedTuple):
    """Sequences side by side, longest first, padded with zeros; time comes first."""

    x: Array  # (time, batch, inputs)
    targets: Array  # (time, batch, targets)
    lengths: Array  # (batch,), falling


def pad(arrays: SequenceOf[Array], dtype: DTypeLike) -> Array:
    """(time, batch, features) from arrays of (steps, features), zero at the end of each."""
    steps = max(len(array) for array in arrays)
    padded = np.zeros((steps, len(arrays), arrays[0].shape[1]), dtype)
    for i, array in enumerate(arrays):
        padded[: len(array), i] = array
    return padded


def batch_of(pairs: SequenceOf[tuple[Array, Array]], dtype: DTypeLike = np.float32) -> Batch:
    """A batch of (inputs, targets) pairs."""
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))
    longest_first = [pairs[i] for i in order]
    return Batch(
        pad([inputs for inputs, _ in longest_first], dtype),
        pad([targets for _, targets in longest_first], dtype),
        np.array([len(inputs) for inputs, _ in longest_first]),
    )


def scaled(sequences: SequenceOf[Sequence], scaler: Scaler) -> list[tuple[Array, Array]]:
    """The inputs and targets of each sequence as the network sees them."""
    pairs = []
    for sequence in sequences:
        scaling = scaler.of(sequence.key)
        pairs.append(
            (scaling.scale_inputs(sequence.inputs), scaling.scale_targets(sequence.targets))
        )
    return pairs


def shuffled_batches(
    pairs: SequenceOf[tuple[Array, Array]], size: int, random: np.random.Generator
) -> Iterator[Batch]:
    """Batches of at most `size` sequences, in an order that `random` decides."""
    order = random.permutation(len(pairs))
    for start in range(0, len(order), size):
        yield batch_of([pairs[i] for i in order[start : start + size]])
