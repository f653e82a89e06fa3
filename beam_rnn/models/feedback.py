"""What becomes of a value that was generated: the inputs of the next record."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.calendar import cycle_names, cycle_numbers
from beam_rnn.data.columns import Columns
from beam_rnn.data.vocabulary import UNKNOWN, places_of


def check_fed_back(columns: Columns) -> None:
    """That all which the network sees of a record is known of one that it generates."""
    targets = set(columns.targets)
    others = [name for name in (*columns.inputs, *columns.symbols) if name not in targets]
    if others:
        raise ConfigurationError(
            f"the inputs {others} are no targets, so nobody knows them for a generated record: "
            "train with targets that are all of inputs and symbols; static fields and the calendar "
            "go on by themselves"
        )
    if columns.symbols and not columns.classes:
        raise ConfigurationError(
            f"the symbols {list(columns.symbols)} are predicted as numbers: name what they can be "
            "in Columns(classes=...)"
        )
    if columns.classes and not columns.symbols:
        texts = [label for label in columns.classes if not _is_whole(str(label))]
        if texts:
            raise ConfigurationError(
                f"the classes {texts} are no numbers, but {columns.targets[0]!r} is an input that "
                f"is one: name it in symbols instead of inputs"
            )


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


class Feedback(NamedTuple):
    """Where the values of a step stand among the numbers of the next record.

    Attributes:
        values: Which of the values: (fed back,).
        places: Where each of them stands.
        of_class: The number that each class is as an input; empty if values are numbers.
        calendar: Where the calendar stands.
        cycles: What it has.
    """

    values: Array
    places: Array
    of_class: Array
    calendar: slice
    cycles: Sequence[str]

    def after(self, numbers: Array, values: Array, times: Array) -> Array:
        """The numbers of the next records: (rows, numbers)."""
        following = numbers.copy()
        if len(self.of_class):
            following[:, self.places] = self.of_class[values]
        else:
            following[:, self.places] = values[:, self.values]
        if self.cycles:
            following[:, self.calendar] = cycle_numbers(self.cycles, times)
        return following


def feedback_of(columns: Columns) -> Feedback:
    """How what is generated becomes inputs.

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
