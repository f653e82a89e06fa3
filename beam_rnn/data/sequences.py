"""Sequences, and the padded batches in which a network sees them."""

import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.data.columns import Columns


class Part(NamedTuple):
    """Which part of a longer sequence a sequence is."""

    sequence: int  # which one: 64 bits, the same in all its parts
    number: int  # 0 for the first; each but the last has as many steps


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
        part: Which part of a longer sequence this is; None if it is a whole one.
        symbols: For each field of `columns.symbols` the text of each step, where their
            vocabularies are not known yet; where they are, the indices are inputs.
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
    """64 bits that say which sequence this is; the same for all its parts.

    Those of equal sequences are equal, whoever made them.
    """
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


def shuffled(
    lengths: SequenceOf[int], size: int, random: np.random.Generator, bucket: int = 1
) -> Iterator[list[int]]:
    """Which sequences stand in a batch together, in an order that `random` decides.

        >>> [sorted(b) for b in shuffled([9, 2, 8, 3], 2, np.random.default_rng(0), bucket=2)]
        [[1, 3], [0, 2]]

    Args:
        lengths: The length of each sequence.
        size: How many sequences are in a batch, at most.
        random: Decides the order.
        bucket: So many batches at a time are cut from sequences sorted by length, so that those
            of a batch are about as long.
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
