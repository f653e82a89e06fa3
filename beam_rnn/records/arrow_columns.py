"""Columns of Arrow batches as numpy arrays, and which of their values are plain.

Each value that is plain is read as `beam_rnn.records.field_values` reads it. What is not plain is
left to that.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import RecordError
from beam_rnn.data.event_times import DAY, MAX_MICROS, MAX_SECONDS, MIN_MICROS, SECOND
from beam_rnn.data.vocabulary import UNKNOWN
from beam_rnn.records.field_values import micros, one_of, symbol

Column = tuple[Array, Array]
"""The values of a column, and which of them are plain."""

is_whole = pa.types.is_integer
_MICROS = {"s": SECOND, "ms": 1000, "us": 1, "ns": 0, "date32[day]": DAY, "date64[ms]": 1000}
"""Microseconds in a unit of time."""


def flat(column: Any) -> pa.Array:
    """Return a column as one array."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    return column


def as_list(column: Any) -> list[Any]:
    """Return Python values; a text that is no time where Python has no such time."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = flat(column).dictionary_decode()
        kind = column.type
    if pa.types.is_timestamp(kind):  # Python knows neither every zone nor nanoseconds
        zone = "UTC" if kind.tz else None
        if kind.unit == "ns":
            whole = flat(column).cast(pa.timestamp("ns")).view(pa.int64())
            column = pa.array(_floored(whole), pa.timestamp("us", zone))
        else:
            column = column.cast(pa.timestamp(kind.unit, zone))
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, ImportError):
        return [as_python(value) for value in column]


def _floored(nanoseconds: pa.Array) -> pa.Array:
    """Return nanoseconds as whole microseconds, rounded down, before 1970 too."""
    values, there = values_of(nanoseconds)
    return pa.array(values // 1000, pa.int64(), mask=~there)


def as_python(value: pa.Scalar) -> Any:
    """Return a Python value; a text that is no time if Python has no such time."""
    try:
        return value.as_py()
    except (ValueError, OverflowError, ImportError):
        return f"{getattr(value, 'value', '?')} of {value.type}"


def values_of(array: pa.Array) -> Column:
    """Return numbers as a numpy array, and which of them are not null."""
    there = np.ones(len(array), bool)
    if array.null_count:
        there = array.is_valid().to_numpy(zero_copy_only=False)
        array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    return array.to_numpy(zero_copy_only=False), there


def is_text(kind: pa.DataType) -> bool:
    """Return True if a type is that of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _none(array: pa.Array, dtype: Any) -> Column:
    """Return a column without a plain value."""
    return np.zeros(len(array), dtype), np.zeros(len(array), bool)


def read_numbers(array: pa.Array) -> Column:
    """Read each as `field_values.number` does."""
    if not (
        pa.types.is_floating(array.type) or is_whole(array.type) or pa.types.is_boolean(array.type)
    ):
        return _none(array, np.float64)
    values, there = values_of(array)
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        there, values = there & finite, np.where(finite, values, 0.0)
    return values + 0.0, there  # -0 is 0


def read_numbers_or_missing(array: pa.Array) -> Column:
    """Read each as `field_values.number_or_missing` does."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan), np.ones(len(array), bool)
    values, usable = read_numbers(array)
    missing = array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    return np.where(missing, np.nan, values), usable | missing


def read_vectors(array: pa.Array, size: int, read: Callable[[pa.Array], Column]) -> Column:
    """Read each as `field_values.vector` does; return (rows, size) numbers."""
    kind, n = array.type, len(array)
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    good = np.zeros(n, bool)
    if lists or pa.types.is_fixed_size_list(kind):
        sizes = pc.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
        good = sizes == size
    if not good.any():
        return np.zeros((n, size)), good
    numbers, usable = np.zeros((n, size)), good.copy()
    of_lists = array.filter(pa.array(good)).flatten()
    values, there = read(of_lists)
    numbers[good] = values.reshape(-1, size)
    usable[good] = there.reshape(-1, size).all(1)
    return numbers, usable


def read_symbols(array: pa.Array, name: str, places: Mapping[str, int]) -> Column:
    """Read each as `field_values.symbol` does; return indices."""
    codes = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    index = np.zeros(len(codes.dictionary) + 1)
    there = np.zeros(len(index), bool)
    for i, value in enumerate(as_list(codes.dictionary)):
        with contextlib.suppress(RecordError):
            index[i], there[i] = places.get(symbol(name, value), UNKNOWN), True
    at = codes.indices.fill_null(len(index) - 1).to_numpy(zero_copy_only=False)
    return index[at], there[at]


def read_classes(array: pa.Array, name: str, classes: Mapping[str, int]) -> Column:
    """Read each as `field_values.one_of` does; return (rows, classes) numbers."""
    codes = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    one_hot = np.zeros((len(codes.dictionary) + 1, len(classes)))
    there = np.zeros(len(one_hot), bool)
    for i, value in enumerate(as_list(codes.dictionary)):
        with contextlib.suppress(RecordError):
            one_hot[i], there[i] = one_of(name, value, classes), True
    at = codes.indices.fill_null(len(one_hot) - 1).to_numpy(zero_copy_only=False)
    return one_hot[at], there[at]


def read_times(name: str, array: pa.Array, time_format: str | None = None) -> Column:
    """Read each as `field_values.micros` does."""
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        whole = pa.int32() if kind == pa.date32() else pa.int64()
        counted, there = values_of(array.view(whole))
        unit = _MICROS[kind.unit if pa.types.is_timestamp(kind) else str(kind)]
        if unit == 0:  # nanoseconds
            counted, unit = counted // 1000, 1
        there &= (counted >= -(-MIN_MICROS // unit)) & (counted <= MAX_MICROS // unit)
        return np.where(there, counted, 0).astype(np.int64) * unit, there
    number = is_whole(kind) or pa.types.is_floating(kind)
    if number and time_format is None:
        seconds, there = values_of(array)
        there &= (seconds >= -MAX_SECONDS) & (seconds <= MAX_SECONDS)
        seconds = np.where(there, seconds, 0)
        if is_whole(kind):
            return seconds.astype(np.int64) * SECOND, there
        return np.rint(seconds.astype(np.float64) * 1e6).astype(np.int64), there
    if pa.types.is_dictionary(kind) and not is_text(kind.value_type):
        return read_times(name, array.dictionary_decode(), time_format)
    if number or is_text(kind) or pa.types.is_dictionary(kind):
        codes = array if pa.types.is_dictionary(kind) else array.dictionary_encode()
        times = np.zeros(len(codes.dictionary) + 1, np.int64)
        there = np.zeros(len(times), bool)
        if time_format is None and is_text(codes.dictionary.type):
            times[:-1], there[:-1] = _plain_times(codes.dictionary)
        for i in np.flatnonzero(~there[:-1]).tolist():
            with contextlib.suppress(RecordError):
                value = codes.dictionary[i].as_py()
                times[i], there[i] = micros(name, value, time_format), True
        at = codes.indices.fill_null(len(times) - 1).to_numpy(zero_copy_only=False)
        return times[at], there[at]
    return _none(array, np.int64)


_ISO = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\dZ?$"
_ISO_WITH_FRACTION = r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\.\d{1,6}Z?$"
_SECONDS = r"^[1-9]\d{8,11}$"  # eight digits may be a day


def _plain_times(texts: pa.Array) -> Column:
    """Read texts that are ISO 8601 in UTC, or whole seconds since 1970, as columns."""
    times, there = np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    for form, kind, unit in (
        (_ISO, pa.timestamp("s"), SECOND),
        (_ISO_WITH_FRACTION, pa.timestamp("us"), 1),
        (_SECONDS, pa.int64(), SECOND),
    ):
        here = pc.match_substring_regex(texts, form).fill_null(False)
        if not pc.any(here).as_py():
            continue
        some = pc.utf8_rtrim(texts.filter(here), "Z")
        with contextlib.suppress(pa.ArrowException):  # such as the 30th of February
            counted = some.cast(kind).cast(pa.int64()).to_numpy(zero_copy_only=False)
            places = np.flatnonzero(here.to_numpy(zero_copy_only=False))
            times[places] = counted * unit
            there[places] = np.abs(counted) <= MAX_SECONDS * SECOND // unit
    return times, there & (times >= MIN_MICROS) & (times <= MAX_MICROS)


def read_wholes(array: pa.Array) -> Column:
    """Read each as `field_values.whole` does."""
    if not is_whole(array.type):
        return _none(array, np.int64)
    values, there = values_of(array)
    if values.dtype == np.uint64:
        there &= values < 2**63
    numbers = values.astype(np.int64)
    return numbers, there & (numbers > -(2**63))


def read_marks(array: pa.Array) -> Column:
    """Read each as `field_values.mark` does; null is false."""
    if pa.types.is_boolean(array.type):
        values, _ = values_of(array)
        return values.astype(bool), np.ones(len(array), bool)
    if is_whole(array.type) or pa.types.is_floating(array.type):
        values, there = values_of(array)
        return (values == 1) & there, ~there | (values == 0) | (values == 1)
    return _none(array, bool)
