"""Parsing and formatting of event times.

Inside the library an event time is a whole number of microseconds since 1970, in UTC; it is
negative before 1970.
"""

import math
import numbers
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np

from beam_rnn.core.errors import ConfigurationError

MIN_MICROS, MAX_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999
"""First and last event time: the years 1 to 9999."""
BEFORE_ALL = MIN_MICROS - 1
"""A time before every event time."""
MAX_SECONDS = 9_223_372_036
"""Maximum distance to 1970 of a number of seconds (1677 to 2262); more is another unit."""

UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds", "excel")
"""Units of numbers since 1970; "excel" is days since 1899-12-30, with a fraction."""

SECOND, DAY = 1_000_000, 86_400_000_000  # microseconds
EXCEL_DAYS = 25_569  # from 1899-12-30 to 1970-01-01
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
NO_NUMBERS = (bool, np.timedelta64)  # subclasses of the whole numbers of Python and numpy
_DECIMAL = re.compile(r"[-+]?\d+(\.\d*)?")
_DATE = re.compile(r"(\d{4})([-/])(\d{1,2})(?:\2(\d{1,2})(?!\d)(.*))?")
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)([T ]\d.*)")
_CLOCK = re.compile(
    r"([T ])(\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?(?:(Z|[+-]\d\d)(?::?(\d\d))?)?"
)
_QUARTER = re.compile(r"(\d{4})[- ]?[Qq]([1-4])")
_DAY = re.compile(r"(?:19|20)\d{6}")
_POINT_ZERO = re.compile(r"^(\d+)\.0+$")
_ALL_NUMBERS = re.compile(r"(?:%[dmyYHIMSj])+")
_SIDE_BY_SIDE = re.compile(r"%[dmyYHIMSj]%[dmyYHIMSjf]")
_EXAMPLE = datetime(2001, 11, 23, 14, 45, 56, tzinfo=timezone.utc)


class WrongUnitError(ValueError):
    """A number that is too large to be seconds since 1970."""

    def __init__(self) -> None:
        super().__init__(
            "a number is read as seconds since 1970, from 1677 to 2262: set time_format to its "
            "unit, or to the pattern in which the time is written"
        )


def check_time_format(time_format: Any) -> None:
    """Raise if a time format cannot be used.

    Raises:
        ConfigurationError: It is neither one of `UNITS` nor a pattern for `datetime.strptime` that
            holds the year, and the month if it holds the day, and so on; or it holds `%Z`, the name
            of a time zone, which `strptime` reads but does not apply.
    """
    if time_format in UNITS:
        return
    try:
        if _reads(time_format):
            return
    except (ValueError, TypeError):
        pass
    raise ConfigurationError(
        f"time_format must be one of {', '.join(UNITS)}, or a pattern with a year such as "
        f"'%d.%m.%Y %H:%M' for datetime.strptime (%p needs %I, and %z instead of %Z), got "
        f"{time_format!r}"
    )


def _reads(pattern: str) -> bool:
    """Return True if a pattern reads back what it wrote: a year, a year and a month, ..."""
    written = _EXAMPLE.strftime(pattern)
    read = datetime.strptime(written, pattern).replace(tzinfo=timezone.utc)
    parts = list(
        zip(read.timetuple()[:6], _EXAMPLE.timetuple()[:6], (0, 1, 1, 0, 0, 0), strict=True)
    )
    kept = [part == wrote for part, wrote, _ in parts]
    finest = max((i for i, each in enumerate(kept) if each), default=-1)
    rest = [part == nothing for part, _, nothing in parts[finest + 1 :]]
    whole = finest >= 0 and all(kept[: finest + 1]) and all(rest)
    return whole and read.strftime(pattern) == written and "%Z" not in pattern


def micros_of(value: Any, time_format: str | None = None) -> int:
    """Return an event time in microseconds since 1970.

        >>> micros_of("1970-01-02") == micros_of(86_400) == micros_of("19700102", "%Y%m%d") == DAY
        True
        >>> micros_of("1969/12") // DAY, micros_of("1969Q4") // DAY
        (-31, -92)

    Args:
        value: A datetime or a date (UTC if it has no zone), a numpy datetime64, a text or a number.
        time_format: The format of texts and numbers: one of `UNITS`, the unit of a number, or a
            pattern for `datetime.strptime`. None for ISO 8601, a month ("1949-01"), a quarter
            ("1990Q1"), slashes instead of hyphens, or seconds since 1970.

    Raises:
        ValueError, TypeError, ArithmeticError: The value is not a time.
        WrongUnitError: The value is a number too large to be seconds.
    """
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            raise ValueError(f"{value} is not a time")
        return _micros_of_datetime64(value)
    if isinstance(value, date):
        return _micros_of_datetime(value)
    if isinstance(value, str):
        value = value.strip()
    elif not isinstance(value, (numbers.Real, Decimal)) or isinstance(value, NO_NUMBERS):
        raise TypeError(f"{type(value).__name__} is not a time")
    if time_format is not None and time_format not in UNITS:
        return _micros_of_datetime(_strictly(_text(value), time_format))
    if isinstance(value, str):
        if time_format is None and is_day(value):
            return _micros_of_datetime(datetime.strptime(value, "%Y%m%d"))  # noqa: DTZ007
        if not _DECIMAL.fullmatch(value):
            return _micros_of_datetime(_parsed(value))
        value = Decimal(value)
    return _counted(value, time_format)


def is_day(text: str) -> bool:
    """Return True if a text is a day of the years 1900 to 2099 in the basic format of ISO 8601.

    >>> is_day("20240229"), is_day("20240230"), is_day("86400000")
    (True, False, False)
    """
    if not _DAY.fullmatch(text):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _micros_of_datetime(value: date) -> int:
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return (value - _EPOCH) // timedelta(microseconds=1)


def _micros_of_datetime64(value: np.datetime64) -> int:
    micros = value.astype("datetime64[us]")
    finer = np.datetime_data(value.dtype)[0] in ("ns", "ps", "fs", "as")
    if not finer and micros.astype(value.dtype) != value:  # numpy overflows silently
        raise OverflowError(f"{value} is not within 64 bits of microseconds")
    return int(micros.astype(np.int64))


def _strictly(text: str, pattern: str) -> datetime:
    """Parse a time by a pattern. Adjacent numbers must have their leading zeros.

    Raises:
        ValueError: The text does not match. `strptime` reads 1112014 by "%d%m%Y" as 11 January.
    """
    if _ALL_NUMBERS.fullmatch(pattern) and text.isdecimal():
        text = text.zfill(len(_EXAMPLE.strftime(pattern)))  # a whole number has no leading zero
    time = datetime.strptime(text, pattern)  # noqa: DTZ007
    if _SIDE_BY_SIDE.search(pattern):
        fixed = time.strftime(re.split("%[fz]", pattern)[0])
        if not text.casefold().startswith(fixed.casefold()):
            raise ValueError(f"{text!r} does not match {pattern!r}: leading zeros are missing")
    return time


def _text(value: Any) -> str:
    """Return a number as text, without ".0" if it is whole; return other text unchanged."""
    if isinstance(value, str):
        return _POINT_ZERO.sub(r"\1", value)
    return str(int(value)) if value == int(value) else str(value)


def _parsed(text: str) -> datetime:
    """Parse a text that is not a number."""
    quarter = _QUARTER.fullmatch(text)
    if quarter:
        return datetime(int(quarter[1]), 3 * int(quarter[2]) - 2, 1)  # noqa: DTZ001
    if "W" in text:  # a week, which Python 3.10 does not read
        raise ValueError(f"a week is not a time, got {text!r}")
    compact = _COMPACT.fullmatch(text)
    if compact:
        text = "{}-{}-{}{}".format(*compact.groups())
    day = _DATE.fullmatch(text)
    if day:  # Python needs two digits, and a day
        text = f"{day[1]}-{int(day[3]):02}-{int(day[4] or 1):02}{_clock(day[5] or '')}"
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _clock(text: str) -> str:
    """Return a time of day as Python 3.10 reads it: with colons and six decimals of a second.

    >>> _clock("T1030"), _clock(" 10:30:05.5+02")
    ('T10:30:00', ' 10:30:05.500000+02:00')
    """
    clock = _CLOCK.fullmatch(text)
    if not clock:
        return text
    mark, hour, minute, second, fraction, zone, zone_minute = clock.groups()
    after = f".{fraction[:6]:0<6}" if fraction else ""
    offset = "Z" if zone == "Z" else f"{zone}:{zone_minute or '00'}" if zone else ""
    return f"{mark}{hour}:{minute or '00'}:{second or '00'}{after}{offset}"


def _counted(value: Any, unit: str | None) -> int:
    """Return the time of a number of units since 1970."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    if unit == "excel":
        return round((float(value) - EXCEL_DAYS) * DAY)
    if unit == "nanoseconds":
        return int(value // 1000)
    factor = {"milliseconds": 1000, "microseconds": 1}.get(unit or "seconds", SECOND)
    if factor == SECOND and abs(value) > MAX_SECONDS:
        raise WrongUnitError
    if isinstance(value, numbers.Integral):
        return int(value) * factor
    return round(float(value) * factor)


def as_datetime(micros: int) -> datetime:
    """Return an event time as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def rfc3339(micros: int) -> str:
    """Return an event time as RFC 3339 text, as Beam's `Timestamp.to_rfc3339` does.

    >>> rfc3339(1_714_557_600_000_000), rfc3339(-1)
    ('2024-05-01T10:00:00Z', '1969-12-31T23:59:59.999999Z')
    """
    return as_datetime(micros).replace(tzinfo=None).isoformat() + "Z"


def utc_text(micros: int) -> str:
    """Return an event time for people, without trailing zeros.

    >>> utc_text(-1), utc_text(0), utc_text(1_404_172_800_000_000 + 3600 * SECOND)
    ('1969-12-31 23:59:59.999999', '1970-01-01', '2014-07-01 01:00')
    """
    text = str((_EPOCH + timedelta(microseconds=micros)).replace(tzinfo=None))
    return text.removesuffix(":00").removesuffix(" 00:00")
