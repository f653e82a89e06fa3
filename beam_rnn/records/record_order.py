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


def by_key(key: Array) -> Array:
    """Return the order of records by key; those of a key stay as they are."""
    narrow = key.astype(np.uint16) if key.max(initial=0) < 2**16 else key  # is sorted faster
    return np.argsort(narrow, kind="stable")


def equal_to_the_one_before(
    key: Array, time: Array, sequence: Array, marks: Array, numbers: Array
) -> Array:
    """Return which records equal the one before, in the order of their bytes: (records,)."""
    same = np.zeros(len(key), bool)
    same[1:] = key[1:] == key[:-1]
    for column in (time, sequence, marks):
        same[1:] &= column[1:] == column[:-1]
    if same.any():
        values = bits(numbers)
        same[1:] &= (values[1:] == values[:-1]).all(1)
    return same


def by_key_and_place(key: Array, place: Array) -> Array:
    """Return the order of records by key and place; those of one place stay as they are."""
    if (place[1:] >= place[:-1]).all():
        return by_key(key)
    order = np.argsort(place, kind="stable")
    return order[by_key(key[order])]


def by_key_and_bytes(
    key: Array, time: Array, sequence: Array, marks: Array, numbers: Array
) -> Array:
    """Return the order of records by key and bytes; equal ones stay as they are."""
    order = by_key_and_place(key, time)
    if rises(key[order], time[order]):  # no two have the same time
        return order
    return np.lexsort((*ordered_bits(numbers).T[::-1], marks, sequence, time, key))
