"""Generate translation tasks: additions as text, and dates in words to ISO 8601."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np

Record = dict[str, Any]
"""A key, a source and a target."""

ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
]
MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
FIRST, LAST = date(1900, 1, 1), date(2099, 12, 31)


def additions(samples: int, digits: int, seed: int = 0) -> Iterator[Record]:
    """Yield sums of two numbers, without duplicates.

        >>> next(additions(1, digits=2))
        {'id': '85+63', 'source': '85+63', 'target': '148'}

    Args:
        samples: The number of sums.
        digits: The maximum number of digits of a number.
        seed: The seed of the random numbers.
    """
    random = np.random.default_rng(seed)
    seen: set[tuple[int, int]] = set()
    while len(seen) < samples:
        a, b = (int(n) for n in random.integers(0, 10**digits, 2))
        if (a, b) not in seen:
            seen.add((a, b))
            yield {"id": f"{a}+{b}", "source": f"{a}+{b}", "target": str(a + b)}


def dates(samples: int, seed: int = 0) -> Iterator[Record]:
    """Yield dates of two centuries in words, without duplicates.

        >>> for record in dates(3, seed=1):
        ...     print(record["source"], "->", record["target"])
        august twenty-first, nineteen ninety-four -> 1994-08-21
        13th of january twenty fifty-one -> 2051-01-13
        the twenty-first of december nineteen oh six -> 1906-12-21

    Args:
        samples: The number of dates.
        seed: The seed of the random numbers.
    """
    random = np.random.default_rng(seed)
    seen: set[str] = set()
    while len(seen) < samples:
        day = FIRST + timedelta(days=int(random.integers((LAST - FIRST).days + 1)))
        text = in_words(day, int(random.integers(len(FORMS))))
        if text not in seen:
            seen.add(text)
            yield {"id": text, "source": text, "target": day.isoformat()}


def in_words(day: date, form: int) -> str:
    """Return a date in one of `FORMS`.

    >>> in_words(date(1999, 12, 31), 0)
    'the thirty-first of december nineteen ninety-nine'
    """
    return FORMS[form].format(
        day=day.day,
        ordinal=ordinal(day.day),
        suffix=suffix(day.day),
        month=MONTHS[day.month - 1],
        weekday=DAYS[day.weekday()],
        year=day.year,
        spelled=year(day.year),
    )


FORMS = (
    "the {ordinal} of {month} {spelled}",
    "{weekday} the {ordinal} of {month} {spelled}",
    "{month} {ordinal}, {spelled}",
    "{weekday}, {month} {day}{suffix} {year}",
    "{day}{suffix} of {month} {spelled}",
)
"""The written forms of a date."""


def number(n: int) -> str:
    """Return a number below 100 in words.

    >>> number(21), number(40)
    ('twenty-one', 'forty')
    """
    if n < len(ONES):
        return ONES[n]
    tens, ones = divmod(n, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


def ordinal(n: int) -> str:
    """Return an ordinal below 100 in words.

    >>> ordinal(3), ordinal(20), ordinal(31)
    ('third', 'twentieth', 'thirty-first')
    """
    if n <= len(ORDINALS):
        return ORDINALS[n - 1]
    tens, ones = divmod(n, 10)
    return f"{TENS[tens]}-{ORDINALS[ones - 1]}" if ones else f"{TENS[tens][:-1]}ieth"


def suffix(n: int) -> str:
    """Return the suffix of a day of the month.

    >>> [f"{n}{suffix(n)}" for n in (1, 2, 3, 4, 11, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    return "th" if n in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")


def year(n: int) -> str:
    """Return a year of these two centuries in words.

    >>> year(1900), year(1905), year(1999), year(2000), year(2007), year(2031)
    ('nineteen hundred', 'nineteen oh five', 'nineteen ninety-nine', 'two thousand', \
'two thousand and seven', 'twenty thirty-one')
    """
    century, rest = divmod(n, 100)
    if century == 20 and rest < 10:
        return "two thousand" + (f" and {number(rest)}" if rest else "")
    if rest == 0:
        return f"{number(century)} hundred"
    return f"{number(century)} {f'oh {number(rest)}' if rest < 10 else number(rest)}"
