"""The order of records by the column: that of their bytes, key by key.

An encoded record is ordered by time, sequence number, marks and the bytes of its numbers: see
`beam_rnn.records.record_format`.
"""

import numpy as np

from beam_rnn.core.arrays import Array


def bits(numbers: Array) -> Array:
    """Return the bits of numbers as integers; a NaN is not equal to itself, its bits are."""
    return np.ascontiguousarray(numbers, "<f8").view("<u8")


def ordered_bits(numbers: Array) -> Array:
    """Return integers that have the order of the bytes of numbers: (records, numbers)."""
    return bits(numbers).view(">u8").astype(np.uint64)


def rises(key: Array, place: Array) -> bool:
    """Return True if records are sorted by key and place, and no two have the same."""
    same = key[1:] == key[:-1]
    return bool(((key[1:] > key[:-1]) | (same & (place[1:] > place[:-1]))).all())


def by_key_and_place(key: Array, place: Array) -> Array:
    """Return the order of records by key and place; those of one place stay as they are."""
    narrow = key.astype(np.uint16) if key.max(initial=0) < 2**16 else key  # is sorted faster
    if (place[1:] >= place[:-1]).all():
        return np.argsort(narrow, kind="stable")
    order = np.argsort(place, kind="stable")
    return order[np.argsort(narrow[order], kind="stable")]


def by_key_and_bytes(
    key: Array, time: Array, sequence: Array, marks: Array, numbers: Array
) -> Array:
    """Return the order of records by key and bytes; equal ones stay as they are."""
    order = by_key_and_place(key, time)
    if rises(key[order], time[order]):  # no two have the same time
        return order
    return np.lexsort((*ordered_bits(numbers).T[::-1], marks, sequence, time, key))
