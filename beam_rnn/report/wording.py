"""How the report writes names and numbers; user text is always escaped."""

from html import escape
from typing import NamedTuple

from beam_rnn.core.text import counted, names, number, percent, printable


def text(value: object) -> str:
    r"""Return a value as HTML text, with markup and invisible characters escaped.

    >>> text("<b> & \u202e")
    '&lt;b&gt; &amp; \\u202e'
    """
    return escape(printable(str(value)))


def ahead(horizons: tuple[int, ...]) -> str:
    """Return how far ahead the targets lie, in words.

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
    """The measure on the page: an error, or for classes the accuracy.

    Attributes:
        name: The name.
        with_article: The name with "a" or "an".
        axis: The name with its unit.
        last_value: The name of the baseline.
        higher_is_better: True for the accuracy.
    """

    name: str
    with_article: str
    axis: str
    last_value: str
    higher_is_better: bool

    def value(self, error: float) -> float:
        """Return the value of an error in charts."""
        return 100 * (1 - error) if self.higher_is_better else error

    def text(self, error: float | None) -> str:
        """Return an error as text."""
        return percent(1 - error) if self.higher_is_better and error is not None else number(error)


def measure(*, classes: bool) -> Measure:
    """Return the measure for a model of numbers, or of classes.

    >>> measure(classes=True).text(0.25), measure(classes=False).text(0.25)
    ('75.0 %', '0.250')
    """
    if classes:
        return Measure(
            "accuracy", "an accuracy", "accuracy, %", "class before", higher_is_better=True
        )
    axis = "mean absolute error, standard deviations"
    return Measure("error", "an error", axis, "last value", higher_is_better=False)
