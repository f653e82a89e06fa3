"""Formatting of names, numbers and counts for people."""

import math
from collections.abc import Iterable


def printable(value: str) -> str:
    """Return a text with its invisible characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def number(value: float | None) -> str:
    """Return a number with three significant digits or three decimals.

    >>> number(0.12345), number(1234567.0), number(None)
    ('0.123', '1.23e+06', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """Return a share in percent, with one decimal.

    >>> percent(0.8234)
    '82.3 %'
    """
    return f"{100 * share:.1f} %"


def level(share: float) -> str:
    """Return a share in percent, without trailing zeros.

    >>> level(0.975)
    '97.5 %'
    """
    return f"{100 * share:g} %"


def counted(n: int, name: str) -> str:
    """Return a count and its noun, in the plural if needed.

    >>> counted(1, "key"), counted(2000, "key")
    ('1 key', '2,000 keys')
    """
    return f"{n:,} {name}" + ("" if n == 1 else "s")


def names(values: Iterable[object], most: int = 12) -> str:
    """Return names joined by commas: the first `most`, and the number of the rest."""
    each = [str(value) for value in values]
    more = f" and {len(each) - most} more" if len(each) > most else ""
    return ", ".join(each[:most]) + more
