"""Turns generated values into the inputs of the next record."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.calendar import cycle_names, cycle_numbers
from beam_rnn.data.columns import Columns
from beam_rnn.data.vocabulary import UNKNOWN, places_of


def check_fed_back(columns: Columns) -> None:
    """Raise if a generated record would lack inputs of the network.

    Raises:
        ConfigurationError: The inputs, and what to do.
    """
    targets = set(columns.targets)
    others = [name for name in (*columns.inputs, *columns.symbols) if name not in targets]
    if others:
        raise ConfigurationError(
            f"the inputs {others} are no targets, so they are unknown for a generated record: "
            "train with all inputs and symbols as targets; static fields and the calendar are "
            "continued automatically"
        )
    if columns.symbols and not columns.classes:
        raise ConfigurationError(
            f"the symbols {list(columns.symbols)} are predicted as numbers: list their values "
            "in Columns(classes=...)"
        )
    if columns.classes and not columns.symbols:
        texts = [label for label in columns.classes if not _is_whole(str(label))]
        if texts:
            raise ConfigurationError(
                f"the classes {texts} are no numbers, but {columns.targets[0]!r} is a numeric "
                "input: name it in symbols instead of inputs"
            )


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


class Feedback(NamedTuple):
    """Which values of a step become which inputs of the next record.

    Attributes:
        values: (fed back,), the indices of the values.
        places: (fed back,), the indices of their inputs.
        of_class: The input of each class; empty if values are numbers.
        calendar: The inputs of the calendar.
        cycles: The cycles of the calendar.
    """

    values: Array
    places: Array
    of_class: Array
    calendar: slice
    cycles: Sequence[str]

    def after(self, numbers: Array, values: Array, times: Array) -> Array:
        """Return the inputs of the next records: (rows, numbers)."""
        following = numbers.copy()
        if len(self.of_class):
            following[:, self.places] = self.of_class[values]
        else:
            following[:, self.places] = values[:, self.values]
        if self.cycles:
            following[:, self.calendar] = cycle_numbers(self.cycles, times)
        return following


def feedback_of(columns: Columns) -> Feedback:
    """Return how generated values become inputs.

    >>> feedback_of(Columns(key="id", inputs=["x", "y"], targets=["y", "x"])).places
    array([1, 0])
    """
    names = columns.number_names
    first = len(columns.scaled_names)
    calendar = slice(first, first + len(cycle_names(columns.calendar)))
    if not columns.classes:
        pairs = columns.targets_in_inputs()
        values, places = (np.array(each, int) for each in zip(*pairs, strict=True))
        return Feedback(values, places, np.zeros(0), calendar, columns.calendar)
    (target,) = columns.targets
    labels = [str(label) for label in columns.classes]
    if target in columns.symbols:
        index = places_of(columns.vocabulary(target))
        numbers = [float(index.get(label, UNKNOWN)) for label in labels]
    else:
        numbers = [float(label) for label in labels]
    places = np.array([names.index(target)])
    of_class = np.array(numbers)[:, np.newaxis]
    return Feedback(np.zeros(0, int), places, of_class, calendar, columns.calendar)
