"""How names, numbers and counts are written for people."""

import math
from collections.abc import Iterable


def printable(value: str) -> str:
    """Text in which nothing is invisible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def number(value: float | None) -> str:
    """A number with so many digits as are read.

    >>> number(0.12345), number(1234567.0), number(None)
    ('0.123', '1.23e+06', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """A share in per cent.

    >>> percent(0.8234)
    '82.3 %'
    """
    return f"{100 * share:.1f} %"


def level(share: float) -> str:
    """A share that was chosen, in per cent.

    >>> level(0.975)
    '97.5 %'
    """
    return f"{100 * share:g} %"


def counted(n: int, name: str) -> str:
    """So many of something.

    >>> counted(1, "key"), counted(2000, "key")
    ('1 key', '2,000 keys')
    """
    return f"{n:,} {name}" + ("" if n == 1 else "s")


def names(values: Iterable[object], most: int = 12) -> str:
    """Names in a row; the first of many, and how many more there are."""
    each = [str(value) for value in values]
    more = f" and {len(each) - most} more" if len(each) > most else ""
    return ", ".join(each[:most]) + more
