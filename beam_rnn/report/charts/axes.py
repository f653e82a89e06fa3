"""The axes of a chart, with ticks at round numbers and round times.

>>> [tick.label for tick in number_axis(0.0, 1.03, most=6).ticks]
['0.0', '0.2', '0.4', '0.6', '0.8', '1.0']
"""

import math
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from beam_rnn.core.arrays import Array


class Tick(NamedTuple):
    """A tick: its value and label, and for times the day or year, on a second line."""

    value: float
    label: str
    within: str = ""


class Axis(NamedTuple):
    """An axis.

    Attributes:
        low: The value at its start.
        high: The value at its end, above `low`.
        ticks: The ticks from `low` to `high`, increasing.
        log: True for a logarithmic axis.
    """

    low: float
    high: float
    ticks: tuple[Tick, ...]
    log: bool = False

    def place(self, values: ArrayLike) -> Array:
        """Return the positions of values on the axis: 0 at its start, 1 at its end."""
        numbers = np.asarray(values, float)
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (np.log(np.maximum(numbers, self.low)) - low) / (high - low)
        return (numbers - self.low) / (self.high - self.low)


def number_axis(low: float, high: float, most: int, margin: float = 0.0) -> Axis:
    """Return an axis of numbers with ticks at 1, 2 or 5 times a power of ten.

    Args:
        low: The smallest value.
        high: The largest value; if they are equal, the axis extends to both sides.
        most: The maximum number of ticks.
        margin: The space on both sides of the values, as a share.
    """
    low, high = _apart(low, high)
    room = (high - low) * margin
    low, high = low - room, high + room
    step = _round_step((high - low) / most)
    places = _multiples(low, high, step)
    return Axis(low, high, tuple(Tick(place, _number(place, step)) for place in places))


def whole_axis(low: int, high: int, most: int) -> Axis:
    """Return an axis of whole numbers.

    >>> [tick.value for tick in whole_axis(1, 4, most=8).ticks]
    [1.0, 2.0, 3.0, 4.0]
    """
    if high == low:
        return Axis(low - 0.5, high + 0.5, (Tick(low, f"{low:,}"),))
    step = max(1.0, _round_step((high - low) / most))
    return Axis(low, high, tuple(Tick(at, f"{at:,.0f}") for at in _multiples(low, high, step)))


def log_axis(low: float, high: float, most: int, margin: float = 0.0) -> Axis:
    """Return a logarithmic axis; ticks at powers of ten, and 2 and 5 times these if they fit.

    >>> [tick.label for tick in log_axis(0.01, 1.0, most=4).ticks]
    ['0.01', '0.1', '1']

    Args:
        low: The smallest value, above 0.
        high: The largest value.
        most: The maximum number of ticks.
        margin: The space on both sides of the values, as a share.
    """
    if high / low < 1.01:
        low, high = low / 2, high * 2
    room = (high / low) ** margin
    low, high = low / room, high * room
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    exponents = range(first, last + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        places = [_power(digit, n) for n in exponents for digit in digits]
        places = [place for place in places if low * 0.999 <= place <= high * 1.001]
        if len(places) <= most:
            break
    every = max(1, -(-len(places) // most))
    return Axis(low, high, tuple(Tick(at, f"{at:.6g}") for at in places[::every]), log=True)


SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 24 * 3600 * SECOND
_STEPS = [
    *(digit * 10**n for n in range(6) for digit in (1, 2, 5)),
    *(n * SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * HOUR for n in (1, 2, 3, 6, 12)),
    *(n * DAY for n in (1, 2, 4, 7, 14)),
]
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONDAY = 4 * DAY  # the first Monday after 1970 began


def time_axis(low: float, high: float, most: int) -> Axis:
    """Return an axis of times with ticks at round times, in UTC.

    >>> ticks = time_axis(0, 2 * DAY, most=5).ticks
    >>> [(tick.label, tick.within) for tick in ticks][:3]
    [('00:00', '1 Jan 1970'), ('12:00', ''), ('00:00', '2 Jan 1970')]

    Args:
        low: The first time, in microseconds since 1970.
        high: The last time.
        most: The maximum number of ticks.
    """
    if high <= low:
        low, high = low - SECOND, high + SECOND
    step = next((step for step in _STEPS if (high - low) / step <= most), None)
    if step is None:
        places = _months(low, high, most)
        labelled = [(at, *_month_label(utc(at), places)) for at in places]
    else:
        offset = _MONDAY if step % (7 * DAY) == 0 else 0
        times = [at + offset for at in _multiples(low - offset, high - offset, step)]
        labelled = [(at, *_label(utc(at), step)) for at in times]
    ticks, last = [], ""
    for at, label, within in labelled:
        ticks.append(Tick(at, label, within if within != last else ""))
        last = within
    return Axis(low, high, tuple(ticks))


def utc(micros: float) -> datetime:
    """Return a time as a datetime without a zone, in UTC."""
    return datetime(1970, 1, 1) + timedelta(microseconds=round(micros))  # noqa: DTZ001


def date(time: datetime) -> str:
    """Return a date as text.

    >>> date(utc(0))
    '1 Jan 1970'
    """
    return f"{time.day} {_MONTHS[time.month - 1]} {time.year}"


def _label(time: datetime, step: int) -> tuple[str, str]:
    """Return the label of a tick, and the label of its second line."""
    if step >= DAY:
        return f"{time.day} {_MONTHS[time.month - 1]}", str(time.year)
    if step >= MINUTE:
        return f"{time:%H:%M}", date(time)
    if step >= SECOND:
        return f"{time:%H:%M:%S}", date(time)
    return f"{time:%H:%M:%S.%f}".rstrip("0").rstrip("."), date(time)


def _month_label(time: datetime, places: list[float]) -> tuple[str, str]:
    if all(utc(place).month == 1 for place in places):
        return str(time.year), ""
    return _MONTHS[time.month - 1], str(time.year)


def _months(low: float, high: float, most: int) -> list[float]:
    """Return the starts of months, in steps that give at most `most` ticks."""
    first, last = utc(low), utc(high)
    months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    step = next((s for s in _MONTH_STEPS if len(months) / s <= most), _MONTH_STEPS[-1])
    starts = (datetime(n // 12, n % 12 + 1, 1) for n in months if n % step == 0)  # noqa: DTZ001
    places = [(start - utc(0)) / timedelta(microseconds=1) for start in starts]
    return [place for place in places if low <= place <= high]


def _multiples(low: float, high: float, step: float) -> list[float]:
    """Return the multiples of a step from low to high."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def _round_step(least: float) -> float:
    """Return the smallest number of at least `least` that is 1, 2 or 5 times a power of ten."""
    exponent = math.floor(math.log10(least))
    return next(
        step
        for step in (_power(digit, exponent + n) for n in (0, 1) for digit in (1, 2, 5))
        if step >= least * (1 - 1e-9)
    )


def _power(digit: int, exponent: int) -> float:
    """Return digit * 10^exponent, correctly rounded."""
    return float(f"{digit}e{exponent}")


def _apart(low: float, high: float) -> tuple[float, float]:
    """Return ends of an axis that differ by more than rounding errors."""
    size = max(abs(low), abs(high))
    if high - low > size * 1e-9:
        return low, high
    room = size / 10 or 1.0
    return low - room, high + room


def _number(value: float, step: float) -> str:
    """Return the label of a number, with the precision of the step between ticks."""
    value = 0.0 if abs(value) < step / 2 else value
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(value) < 1e7 and decimals <= 6:
        return f"{value:,.{decimals}f}"
    digits = 1 if value == 0 else max(1, math.ceil(math.log10(abs(value) / step) + 1e-9) + 1)
    return f"{value:.{min(digits, 15)}g}"
