"""The values of a record's fields, each checked: keys, times, numbers, marks, symbols, classes."""

import math
import numbers
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from beam_rnn.core.errors import RecordError
from beam_rnn.data.event_times import (
    MAX_MICROS,
    MIN_MICROS,
    NO_NUMBERS,
    UNITS,
    WrongUnitError,
    micros_of,
)

MAX_KEY_BYTES = 1024
"""The longest key, and the longest symbol."""
ROW = "row"
"""The field with a record's place in its file: `beam_rnn.files.read` adds it where it is the
sequence number and the file has no column of that name."""
UNREADABLE = "cannot be read"
"""The field of a record in which a source says why it could not read it."""


def field(record: Any, name: str) -> Any:
    """Return one field of a record.

    Raises:
        RecordError: The record has no such field, or it cannot be read.
    """
    try:
        return record[name] if isinstance(record, Mapping) else getattr(record, name)
    except (KeyError, AttributeError) as error:
        raise RecordError(_why_missing(record, name), record) from error
    except Exception as error:  # a property may raise anything
        raise RecordError(f"the field {name!r} cannot be read: {error!r}", record) from error


def _why_missing(record: Any, name: str) -> str:
    if isinstance(record, Mapping) and isinstance(record.get(UNREADABLE), str):
        return str(record[UNREADABLE])
    if type(record) is tuple and len(record) == 2:
        return (
            f"the record has no field {name!r}: it is a pair, whose second item may be the record"
        )
    if name == ROW:
        return (
            f"the record has no field {ROW!r}, its place in its file: a stream needs a field "
            "that orders the records of one time, such as Kafka's offset"
        )
    return f"the record has no field {name!r}"


def key_text(name: str, value: Any) -> str:
    """Return a key as text: text as it is, a whole number in decimal, bytes as UTF-8."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, numbers.Integral) and not isinstance(value, NO_NUMBERS):
        try:
            text = str(int(value))
        except ValueError as error:
            raise RecordError(f"{name} must have fewer digits to be a key", value) from error
    elif isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise RecordError(f"{name} must be UTF-8", value) from error
    else:
        raise RecordError(f"{name} must be text, a whole number or bytes to be a key", value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RecordError(f"{name} must be valid Unicode to be a key", value) from error
    if not 0 < size <= MAX_KEY_BYTES:
        raise RecordError(f"{name} must have 1 to {MAX_KEY_BYTES} bytes to be a key", value)
    return text


def micros(name: str, value: Any, time_format: str | None = None) -> int:
    """Return an event time in microseconds since 1970.

    Args:
        name: The column, for the error.
        value: A Beam Timestamp, or a value that `beam_rnn.data.event_times.micros_of` takes.
        time_format: How texts and numbers are written, as for `micros_of`.
    """
    try:
        time = _beam_micros(value)
        if time is None:
            time = micros_of(value, time_format)
    except WrongUnitError as error:
        raise RecordError(f"{name} must be a time: {error}", value) from error
    except (ValueError, TypeError, ArithmeticError) as error:
        raise RecordError(
            f"{name} must be {_times_are(time_format)}; time_format says how it is written", value
        ) from error
    if not MIN_MICROS <= time <= MAX_MICROS:
        raise RecordError(f"{name} must be in the years 1 to 9999", value)
    return time


def _beam_micros(value: Any) -> int | None:
    """Return the microseconds of a Beam Timestamp, without an import of Beam; None for others."""
    return int(value.micros) if is_beam_timestamp(type(value)) else None


def is_beam_timestamp(*kinds: type) -> bool:
    """Return True if the only type is Beam's Timestamp."""
    names = [(kind.__module__, kind.__name__) for kind in kinds]
    return names == [("apache_beam.utils.timestamp", "Timestamp")]


def element_micros(arrived: int | None) -> int:
    """Return the event time of a record whose columns name none: its Beam timestamp.

    Args:
        arrived: It, in microseconds; None if it has none.
    """
    name = "the element's timestamp"
    if arrived is None:
        raise RecordError(f"{name} must be {_times_are(None)}", None)
    if not MIN_MICROS <= arrived <= MAX_MICROS:
        raise RecordError(f"{name} must be in the years 1 to 9999", f"Timestamp({arrived / 1e6})")
    return arrived


def _times_are(time_format: str | None) -> str:
    if time_format is None:
        return "a time: a Timestamp, a datetime, ISO 8601 text or seconds since 1970"
    if time_format in UNITS:
        return f"a time: a Timestamp, a datetime, ISO 8601 text or {time_format} as a number"
    return f"a time: a Timestamp, a datetime, or text as {time_format!r}"


def whole(name: str, value: Any) -> int:
    """Return a sequence number: a whole number of 64 bits above -2**63, which means none."""
    if not isinstance(value, numbers.Integral) or isinstance(value, NO_NUMBERS):
        raise RecordError(f"{name} must be a whole number", value)
    if not -(2**63) < int(value) < 2**63:
        raise RecordError(f"{name} must be a whole number of 64 bits above -2**63", value)
    return int(value)


def mark(name: str, value: Any) -> bool:
    """Return a mark: true or false, 1 or 0; None is false."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Real) and value in (0, 1):
        return bool(value)
    raise RecordError(f"{name} must be true or false", value)


def number(name: str, value: Any) -> float:
    """Return an input or a target: a finite number; True is 1, and -0 is 0."""
    if type(value) is not float:
        if value is None:
            raise RecordError(f"{name} is missing", value)
        if isinstance(value, (list, tuple, np.ndarray)):
            raise RecordError(f"{name} must be one number, not a list of {_length(value)}", value)
        real = isinstance(value, (numbers.Real, Decimal, np.bool_))
        if not real or isinstance(value, np.timedelta64):
            raise RecordError(f"{name} must be a number", value)
        try:
            value = float(value)
        except (OverflowError, ValueError, TypeError) as error:
            raise RecordError(f"{name} must be a number of 64 bits", value) from error
    if not math.isfinite(value):
        raise RecordError(f"{name} must be finite", value)
    return value + 0.0


def number_or_missing(name: str, value: Any) -> float:
    """Return a number as `number` does, and NaN if it is missing."""
    return math.nan if is_missing(value) else number(name, value)


def is_missing(value: Any) -> bool:
    """Return True if a value is None or NaN."""
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def vector(
    name: str, value: Any, size: int, read: Callable[[str, Any], float] = number
) -> list[float]:
    """Return a list of `size` numbers, each read by `read`; all of them may be missing if one may.

    >>> vector("notes", [0, True], 2)
    [0.0, 1.0]
    """
    if is_missing(value):
        return [read(name, value)] * size
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) != 1:
        raise RecordError(f"{name} must be a list of {size} numbers", value)
    if len(value) != size:
        raise RecordError(f"{name} must be {size} numbers, not {len(value)}", value)
    values = value.tolist() if isinstance(value, np.ndarray) else value
    return [read(f"{name}[{i}]", each) for i, each in enumerate(values)]


def symbol(name: str, value: Any) -> str:
    """Return a symbol as text: text as it is, a whole number in decimal."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, numbers.Integral) and not isinstance(value, NO_NUMBERS):
        text = str(int(value))
    else:
        raise RecordError(f"{name} must be text or a whole number to be a symbol", value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RecordError(f"{name} must be valid Unicode to be a symbol", value) from error
    if size > MAX_KEY_BYTES:
        raise RecordError(f"{name} must have at most {MAX_KEY_BYTES} bytes to be a symbol", value)
    return text


def one_of(name: str, value: Any, classes: Mapping[str, int]) -> list[float]:
    """Return a class as numbers: 1 at its place, 0 at those of the others.

    Args:
        name: The column, for the error.
        value: The class, as text or as a whole number.
        classes: The place of each class, by its text.
    """
    whole = isinstance(value, numbers.Real) and float(value).is_integer()
    text = str(int(value)) if whole else value
    if not isinstance(text, str) or text not in classes:
        raise RecordError(f"{name} must be one of the classes {', '.join(classes)}", value)
    return [float(i == classes[text]) for i in range(len(classes))]


def _length(value: Any) -> int:
    return value.size if isinstance(value, np.ndarray) else len(value)
