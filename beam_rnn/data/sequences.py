"""Sequences, and padded batches of them."""

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.data.columns import Columns


class Part(NamedTuple):
    """The place of a sequence that is part of a longer one."""

    sequence: int  # hash of the longer sequence, 64 bits
    number: int  # 0 for the first part; all but the last have the same number of steps


class Sequence(NamedTuple):
    """A key's records in order, as arrays, with the target of each step.

    Attributes:
        columns: The columns they were read by.
        key: The key.
        times: (steps,) int64, the event time of each input in microseconds since 1970.
        inputs: (steps, inputs) float64, as recorded.
        targets: (steps, horizons * targets) float64, as recorded: the values `horizon` records
            after the step, horizon after horizon. Classes are one-hot.
        until: The event time of the last record in it, among inputs and targets.
        weights: (steps, horizons) float64, the weight of each target; None if all are equal.
        part: Its place in a longer sequence; None if it is a whole one.
        symbols: For each field of `columns.symbols` the text of each step, if the vocabularies are
            not known yet; if they are, the indices are inputs.
    """

    columns: Columns
    key: str
    times: Array
    inputs: Array
    targets: Array
    until: int
    weights: Array | None = None
    part: Part | None = None
    symbols: tuple[tuple[str, ...], ...] = ()


def place_of(sequence: Sequence) -> int:
    """Return a hash of 64 bits of the sequence's content; its parts share the hash of the whole."""
    if sequence.part is not None:
        return sequence.part.sequence
    content = hashlib.sha256(sequence.key.encode())
    for array in (sequence.times, sequence.inputs, sequence.targets):
        content.update(array.tobytes())
    for symbols in sequence.symbols:
        content.update("\0".join(symbols).encode())
    return int.from_bytes(content.digest()[:8], "little")


class Example(NamedTuple):
    """A sequence as the network sees it: a row of a batch."""

    x: Array  # (steps, inputs)
    targets: Array  # (steps, horizons * targets)
    weights: Array | None = None  # (steps, horizons); None if all are equal


class Batch(NamedTuple):
    """Sequences padded with zeros, longest first; time is the first axis."""

    x: Array  # (time, batch, inputs)
    targets: Array  # (time, batch, horizons * targets)
    lengths: Array  # (batch,), decreasing
    weights: Array | None = None  # (time, batch, horizons); None if all are equal


def pad(arrays: SequenceOf[Array], dtype: DTypeLike) -> Array:
    """Return arrays (steps, features) as one (time, batch, features), padded with zeros."""
    steps = max(len(array) for array in arrays)
    padded = np.zeros((steps, len(arrays), arrays[0].shape[1]), dtype)
    for i, array in enumerate(arrays):
        padded[: len(array), i] = array
    return padded


def batch_of(examples: SequenceOf[Example], dtype: DTypeLike = np.float32) -> Batch:
    """Return a batch of examples. Either all have weights or none has."""
    longest_first = sorted(examples, key=lambda example: -len(example.x))
    weights = [example.weights for example in longest_first if example.weights is not None]
    return Batch(
        pad([example.x for example in longest_first], dtype),
        pad([example.targets for example in longest_first], dtype),
        np.array([len(example.x) for example in longest_first]),
        pad(weights, np.float64) if weights else None,
    )


def shuffled(
    lengths: SequenceOf[int], size: int, random: np.random.Generator, bucket: int = 1
) -> Iterator[list[int]]:
    """Yield the indices of the sequences of each batch, in random order.

        >>> [sorted(b) for b in shuffled([9, 2, 8, 3], 2, np.random.default_rng(0), bucket=2)]
        [[1, 3], [0, 2]]

    Args:
        lengths: The length of each sequence.
        size: The maximum number of sequences in a batch.
        random: The source of the order.
        bucket: The number of batches that are cut at a time from sequences sorted by length, so
            that the sequences of a batch have similar lengths.
    """
    order = random.permutation(len(lengths))
    for first in range(0, len(order), size * bucket):
        together = order[first : first + size * bucket]
        if bucket > 1:
            together = together[np.argsort([-lengths[i] for i in together], kind="stable")]
        batches = [together[at : at + size] for at in range(0, len(together), size)]
        places = random.permutation(len(batches)) if bucket > 1 else range(len(batches))
        for place in places:
            yield [int(i) for i in batches[place]]
