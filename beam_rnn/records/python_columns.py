"""Columns of Python values as numpy arrays, and which of their values are plain.

Each value that is plain is read as `beam_rnn.records.field_values` reads it. What is not plain is
left to that.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import RecordError
from beam_rnn.data.event_times import MAX_MICROS, MAX_SECONDS, MIN_MICROS, SECOND
from beam_rnn.data.vocabulary import UNKNOWN
from beam_rnn.records.field_values import is_beam_timestamp, mark, micros, symbol

_PLAIN_NUMBERS = {float, int, np.float64, np.float32}

Column = tuple[Array, Array]
"""The values of a column, and which of them are plain."""


def read_numbers(column: Sequence[Any]) -> Column:
    """Read each as `field_values.number` does."""
    kinds = set(map(type, column))
    try:
        if kinds <= _PLAIN_NUMBERS:
            values = np.array(column, np.float64)
        else:
            plain = [value if type(value) in _PLAIN_NUMBERS else np.nan for value in column]
            values = np.array(plain, np.float64)
    except OverflowError:  # a whole number beyond 64 bits
        return np.zeros(len(column)), np.zeros(len(column), bool)
    good = np.isfinite(values)
    return np.where(good, values, 0.0) + 0.0, good  # -0 is 0


def read_numbers_or_missing(column: Sequence[Any]) -> Column:
    """Read each as `field_values.number_or_missing` does."""
    missing = np.array([v is None or (isinstance(v, float) and v != v) for v in column])  # noqa: PLR0124
    if not missing.any():
        return read_numbers(column)
    values, good = read_numbers(
        [0.0 if gone else v for v, gone in zip(column, missing, strict=True)]
    )
    return np.where(missing, np.nan, values), good


def read_vectors(
    column: Sequence[Any], size: int, read: Callable[[Sequence[Any]], Column]
) -> Column:
    """Read each as `field_values.vector` does; return (records, size) numbers."""
    good = np.array([isinstance(v, (list, tuple)) and len(v) == size for v in column])
    nothing = [0.0] * size
    flat = [x for v, usable in zip(column, good, strict=True) for x in (v if usable else nothing)]
    numbers, usable = read(flat)
    shape = len(column), size
    return numbers.reshape(shape), good & usable.reshape(shape).all(1)


def read_symbols(name: str, column: Sequence[Any], places: Mapping[str, int]) -> Column:
    """Read each as `field_values.symbol` does; return indices."""
    if set(map(type, column)) == {str}:
        known = [places.get(value) for value in column]
        if None not in known:
            return np.array(known, np.float64), np.ones(len(column), bool)
    return _each(column, lambda value: places.get(symbol(name, value), UNKNOWN), np.float64)


def read_times(name: str, column: Sequence[Any], time_format: str | None) -> Column:
    """Read each as `field_values.micros` does."""
    if time_format is None:
        kinds = set(map(type, column))
        if kinds == {float}:
            values = np.array(column)
            good = np.abs(values) <= MAX_SECONDS
            return np.rint(np.where(good, values, 0) * 1e6).astype(np.int64), good
        if kinds == {int} and min(column) >= -MAX_SECONDS and max(column) <= MAX_SECONDS:
            return np.array(column, np.int64) * SECOND, np.ones(len(column), bool)
        if is_beam_timestamp(*kinds):
            times = np.array([time.micros for time in column], np.int64)
            return times, (times >= MIN_MICROS) & (times <= MAX_MICROS)
    return _each(column, lambda value: micros(name, value, time_format), np.int64)


def read_wholes(column: Sequence[Any]) -> Column:
    """Read each as `field_values.whole` does."""
    good = np.ones(len(column), bool)
    if set(map(type, column)) == {int}:
        try:
            return np.array(column, np.int64), good
        except OverflowError:
            pass
    return np.zeros(len(column), np.int64), ~good


def read_marks(name: str, column: Sequence[Any]) -> Column:
    """Read each as `field_values.mark` does."""
    if set(map(type, column)) <= {bool, type(None)}:
        return np.array(column, bool), np.ones(len(column), bool)
    return _each(column, lambda value: mark(name, value), bool)


def _each(column: Sequence[Any], read: Callable[[Any], Any], dtype: type) -> Column:
    """Read values one by one."""
    values: Array = np.zeros(len(column), dtype)
    good = np.ones(len(column), bool)
    for i, value in enumerate(column):
        try:
            values[i] = read(value)
        except RecordError:
            good[i] = False
    return values, good
