"""How the report writes names and numbers: nothing that is shown can become a part of the page."""

import math
from collections.abc import Iterable
from html import escape
from typing import NamedTuple


def printable(value: str) -> str:
    """Text in which nothing is invisible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def text(value: object) -> str:
    r"""A value as text of a page: what a key or a command holds cannot become a part of it.

    >>> text("<b> & \u202e")
    '&lt;b&gt; &amp; \\u202e'
    """
    return escape(printable(str(value)))


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


def ahead(horizons: tuple[int, ...]) -> str:
    """How far ahead the targets lie.

    >>> ahead((1,)), ahead((1, 2, 3)), ahead((1, 24))
    ('1 record ahead', '1 to 3 records ahead', '1 and 24 records ahead')
    """
    if horizons == (0,):
        return "of the same record"
    ends = counted(horizons[-1], "record")
    if len(horizons) == 1:
        return f"{ends} ahead"
    if list(horizons) == list(range(horizons[0], horizons[-1] + 1)):
        return f"{horizons[0]} to {ends} ahead"
    return f"{names(horizons[:-1])} and {ends} ahead"


class Measure(NamedTuple):
    """How well a model does, as it is written: an error, or of classes the accuracy.

    Attributes:
        name: What it is called.
        with_article: The same with "a" or "an".
        axis: The same with its unit.
        last_value: What the forecast without a model is called.
        falls: Whether less of it is worse.
    """

    name: str
    with_article: str
    axis: str
    last_value: str
    falls: bool

    def value(self, error: float) -> float:
        """What an error is drawn as."""
        return 100 * (1 - error) if self.falls else error

    def text(self, error: float | None) -> str:
        """What an error is written as."""
        return percent(1 - error) if self.falls and error is not None else number(error)


def measure(*, classes: bool) -> Measure:
    """How a model of numbers, or of classes, is measured.

    >>> measure(classes=True).text(0.25), measure(classes=False).text(0.25)
    ('75.0 %', '0.250')
    """
    if classes:
        return Measure("accuracy", "an accuracy", "accuracy, %", "class before", falls=True)
    axis = "mean absolute error, standard deviations"
    return Measure("error", "an error", axis, "last value", falls=False)
