"""Facts about the training data, which no worker holds as a whole."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import TrainingError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.scaling import Statistics
from beam_rnn.data.vocabulary import Vocabulary
from beam_rnn.training.example_store import Place


class Facts(NamedTuple):
    """What must be known of a sequence, or a pair, before any can be learned from.

    Attributes:
        columns: Its columns.
        key: Its key.
        place: Its place among all.
        until: The time of the last record that went into it.
        steps: The number of its steps in the training part.
        held_back: The number of its steps in the validation set.
        statistics: Those of the inputs and targets of the training part; None if it is empty.
        symbols: The count of each symbol in the training part, for each field; empty if all
            vocabularies are given.
        longest: The number of symbols in the target of a pair; 0 for a sequence.
    """

    columns: Any
    key: str
    place: Place
    until: int
    steps: int
    held_back: int
    statistics: tuple[Statistics, Statistics] | None
    symbols: tuple[Counter[str], ...]
    longest: int = 0


class KeyFacts(NamedTuple):
    """The facts of all sequences of a key; places are those of sequences, each once, rising."""

    columns: tuple[Any, ...]  # each that there is
    key: str
    sequences: int
    until: int
    steps: int
    held_back: int
    learned_places: Array
    held_back_places: Array
    statistics: tuple[Statistics, Statistics] | None
    symbols: tuple[Counter[str], ...]
    longest: int = 0


@default_arithmetic()  # numbers that overflow are an error of the scaler
def key_facts(facts: Iterable[Facts]) -> KeyFacts:
    """Return the facts of all sequences of a key, given in any order."""
    ordered = sorted(facts, key=lambda each: (each.place, each.until))
    statistics: tuple[Statistics, Statistics] | None = None
    for each in ordered:
        if statistics is None or each.statistics is None:
            statistics = statistics or each.statistics
        else:
            inputs, targets = each.statistics
            statistics = statistics[0].merge(inputs), statistics[1].merge(targets)
    return KeyFacts(
        tuple({each.columns: None for each in ordered}),
        ordered[0].key,
        sum(each.place.part == 0 for each in ordered),
        max(each.until for each in ordered),
        sum(each.steps for each in ordered),
        sum(each.held_back for each in ordered),
        _places(each.place for each in ordered if each.steps),
        _places(each.place for each in ordered if each.held_back),
        statistics,
        sum_counts(each.symbols for each in ordered),
        max(each.longest for each in ordered),
    )


def sum_counts(counts: Iterable[tuple[Counter[str], ...]]) -> tuple[Counter[str], ...]:
    """Return the sums of the counts of each field."""
    totals: list[Counter[str]] = []
    for of_fields in counts:
        totals += [Counter[str]() for _ in of_fields[len(totals) :]]
        for total, of_field in zip(totals, of_fields, strict=False):
            total.update(of_field)
    return tuple(totals)


def vocabularies_of(
    rules: Mapping[str, Vocabulary | None], counts: Sequence[Counter[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the symbols that get an index, for each field whose vocabulary is not given.

    Args:
        rules: Which symbols get an index, for each field; None if its vocabulary is given.
        counts: The count of each symbol, for each field.

    Raises:
        TrainingError: A field would have no symbol.
    """
    found = {}
    for (name, rule), of_field in zip(rules.items(), counts, strict=True):
        if rule is None:
            continue
        found[name] = rule.of(of_field)
        if not found[name]:
            raise TrainingError(
                f"no symbol of {name!r} is in {rule}: the most frequent one is seen "
                f"{max(of_field.values(), default=0)} times"
            )
    return found


def _places(places: Iterable[Place]) -> Array:
    return np.unique(np.array([place.sequence for place in places], np.uint64))
