"""Records in memory, a row each, and the order of such rows."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.records.record_order import by_key, equal_to_the_one_before


class Held(NamedTuple):
    """Records in memory, a row each.

    Attributes:
        number: (records,) int64, rising in the order in which they came.
        row: (records,) int64, the row of each one's key.
        due: (records,) int64, when each is due, in microseconds since 1970.
        time, sequence, marks, numbers: As in `beam_rnn.records.block_format.Block`.
        piece: (records,) int64, which payload each came with.
        at: (records,) int32, the row of that payload.
    """

    number: Array
    row: Array
    due: Array
    time: Array
    sequence: Array
    marks: Array
    numbers: Array
    piece: Array
    at: Array

    def pick(self, records: Array | slice) -> "Held":
        """Return some of the records, by their places or a mask."""
        return Held(*(column[records] for column in self))

    def place(self, by: str) -> Array:
        """Return the place of each among those of its key: its number, or its time."""
        return self.sequence if by == "sequence" else self.time


def joined(parts: Sequence[Held]) -> Held:
    """Return the records of all parts together."""
    if len(parts) == 1:
        return parts[0]
    return Held(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def by_row(held: Held) -> Held:
    """Return records in the order of their keys, those of a key as they came."""
    return held.pick(by_key(held.row))


def duplicates(held: Held) -> Array:
    """Return which records equal the one before, of records from `Pending`: (records,).

    Their bytes are compared, as encoded records are key by key.
    """
    return equal_to_the_one_before(held.row, held.time, held.sequence, held.marks, held.numbers)


def slices(row: Array, rows: Array) -> Iterator[tuple[int, slice]]:
    """Yield the slice of the records of some keys, of records by key.

    >>> list(slices(np.array([3, 3, 5, 7]), np.array([3, 7])))
    [(3, slice(0, 2, None)), (7, slice(3, 4, None))]
    """
    bounds = (np.searchsorted(row, rows, side).tolist() for side in ("left", "right"))
    for key, start, end in zip(rows.tolist(), *bounds, strict=True):
        yield key, slice(start, end)


def running_max(values: Array, first: Array) -> Array:
    """Return the largest value so far, restarting wherever `first` is true.

    >>> running_max(np.array([3, 1, 2, 5]), np.array([True, False, True, False])).tolist()
    [3, 3, 2, 5]
    """
    levels, level = np.unique(values, return_inverse=True)
    offset = (np.cumsum(first) - 1) * len(levels)
    return levels[np.maximum.accumulate(level + offset) - offset]


def grouped(values: Array) -> Iterator[tuple[int, Array]]:
    """Yield each different value, rising, and its places; fast if there is only one.

    >>> [(value, places.tolist()) for value, places in grouped(np.array([7, 5, 7]))]
    [(5, [1]), (7, [0, 2])]
    """
    if not len(values):
        return
    if (values == values[0]).all():
        yield int(values[0]), np.arange(len(values))
        return
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        yield int(ordered[start]), order[start:end]


def different(values: Array) -> Array:
    """Return the different values, rising; fast if there is only one."""
    if len(values) and (values == values[0]).all():
        return values[:1]
    return np.unique(values)
