"""How the report writes names and numbers: nothing that is shown can become a part of the page."""

from html import escape
from typing import NamedTuple

from beam_rnn.core.text import counted, names, number, percent, printable


def text(value: object) -> str:
    r"""A value as text of a page: what a key or a command holds cannot become a part of it.

    >>> text("<b> & \u202e")
    '&lt;b&gt; &amp; \\u202e'
    """
    return escape(printable(str(value)))


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
