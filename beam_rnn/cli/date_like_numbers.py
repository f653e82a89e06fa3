"""Numbers that look like dates, and would be read as seconds since 1970."""

import logging
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from beam_rnn.core.errors import BeamRnnError
from beam_rnn.data.event_times import is_day

logger = logging.getLogger(__name__)

Forms = dict[str, tuple[int, str]]
"""The number of values of each form (`forms_of`), and one of them."""


class NoTimesError(BeamRnnError):
    """The times of a file are numbers that look like dates, and would be read as seconds."""


NUMBER, DAY_READ = "number", "day"
"""The form of a time that is a number, and of one that is read as a day, such as 20140701."""
_WRITE = "write them as dates, such as 1949-03-31, or, if they are none, give"
MOST = 0.9
"""The share of numbers that look like dates from which on they are taken for dates."""


class _Form(NamedTuple):
    """A form of numbers that are dates.

    Attributes:
        looks: What they look like, in words.
        time_format: The format that reads them; None if there is none.
        is_one: Returns True if digits look so.
        sizes: The possible numbers of digits.
    """

    looks: str
    time_format: str | None
    is_one: Callable[[str], bool]
    sizes: tuple[int, ...] = ()


_FORMS = (
    _Form("years", "%Y", lambda d: _is_year(int(d)), (4,)),
    _Form("years with a fraction", None, lambda d: _is_year(int(d)), (4,)),
    _Form(
        "a year and its quarter", None, lambda d: is_day(f"{d[:4]}0101") and d[4] in "1234", (5,)
    ),
    _Form("days as Excel counts them", "excel", lambda d: _is_excel(int(d)), (5,)),
    _Form("months", "%Y%m", lambda d: is_day(f"{d}01"), (6,)),
    _Form(
        "a year and its week", None, lambda d: is_day(f"{d[:4]}0101") and 0 < int(d[4:]) < 54, (6,)
    ),
    _Form("days that begin with the year", "%y%m%d", lambda d: is_day(f"20{d}"), (6,)),
    _Form(
        "a year and its day",
        "%Y%j",
        lambda d: is_day(f"{d[:4]}0101") and 0 < int(d[4:]) < 367,
        (7,),
    ),
    _Form("days", "%d%m%Y", lambda d: is_day(d[-4:] + d[-6:-4] + d[:-6].zfill(2)), (7, 8)),
    _Form(
        "days that begin with the month",
        "%m%d%Y",
        lambda d: is_day(d[-4:] + d[:-4].zfill(4)),
        (7, 8),
    ),
    _Form("days with a point", "%Y%m%d", is_day, (8,)),
    _Form("hours of a day", "%Y%m%d%H", lambda d: is_day(d[:8]) and int(d[8:]) < 24, (10,)),
)
"""The forms that would be read as seconds since 1970. Counters have none of them, since only some
consecutive numbers are dates. The first that fits is taken."""


def _is_year(year: float) -> bool:
    return 1500 <= year < 2200


def _is_excel(days: float) -> bool:
    return 20_000 <= days < 80_000  # 1954 to 2119


def forms_of(value: Any) -> Iterable[str]:
    """Return the forms of a time: only `NUMBER` for a number that is no date.

    >>> [list(forms_of(value)) for value in ("1959-01-01", 7, "1959", 1949.25, "20140701")]
    [[], ['number'], ['number', 'years', 'years with a fraction'], \
['number', 'years with a fraction'], ['number', 'day']]
    """
    if type(value) is int and not 1500 <= value < 2_100_000_000:  # the most frequent
        return (NUMBER,)
    number = _number(value)
    return () if number is None else (NUMBER, *_looks(str(value).strip(), number))


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _looks(text: str, number: float) -> list[str]:
    """Return the forms of a number: `DAY_READ`, or some of `_FORMS`."""
    digits, point, fraction = text.partition(".")
    if fraction.strip("0"):
        of_fractions = {"years with a fraction": _is_year, "days as Excel counts them": _is_excel}
        return [looks for looks, is_one in of_fractions.items() if is_one(number)]
    if not digits.isdecimal():
        return []
    if not point and is_day(digits):
        return [DAY_READ]
    return [form.looks for form in _FORMS if len(digits) in form.sizes and form.is_one(digits)]


def wrong_times(forms: Forms, column: str) -> str | None:
    """Return what is wrong with times that are read without a format; None if nothing is.

    >>> wrong_times({NUMBER: (200, "1959"), "years": (200, "1959")}, "t")
    "the times look like years, such as t='1959', and would be read as seconds since 1970: say \
what they are, --time_format '%Y' or --time_format seconds"
    """
    numbers = forms.get(NUMBER, (0, ""))[0]
    days, day = forms.get(DAY_READ, (0, ""))
    if 0 < days < numbers:
        return (
            f"{days:,} of {numbers:,} numbers look like days, such as {column}={day!r}, and the "
            "others would be read as seconds since 1970: say what they are, --time_format '%Y%m%d' "
            "or --time_format seconds"
        )
    for form in _FORMS:
        count, one = forms.get(form.looks, (0, ""))
        if count and count >= MOST * numbers:
            known = form.time_format is not None
            way = f"say what they are, --time_format {form.time_format!r}" if known else _WRITE
            return (
                f"the times look like {form.looks}, such as {column}={one!r}, and would be read as "
                f"seconds since 1970: {way} or --time_format seconds"
            )
    return None


def check_times(usable: int, forms: Forms, column: str, trained: bool) -> int:
    """Check that times read as seconds do not look like dates; only warn if a model is trained.

    Raises:
        NoTimesError: They look like dates.
    """
    wrong = wrong_times(forms, column)
    if wrong is None:
        return usable
    if not trained:
        raise NoTimesError(wrong)
    logger.warning("%s when the model is trained", wrong)
    return usable


def forms_in(values: Iterable[Any]) -> Forms:
    """Return the forms of times, with one value of each."""
    found: Forms = {}
    for value in values:
        for form in forms_of(value):
            count, one = found.get(form, (0, str(value)))
            found[form] = count + 1, min(one, str(value))
    return found
