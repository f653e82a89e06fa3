"""Facts about what is learned from: no worker holds all of it."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import PairColumns
from beam_rnn.data.scaling import Statistics
from beam_rnn.training.example_store import Place


class Facts(NamedTuple):
    """What must be known of a sequence, or a pair, before any can be learned from.

    Attributes:
        columns: Its columns.
        key: Its key.
        place: Where it stands among all.
        until: The time of the last record that went into it.
        steps: How many of its steps are learned from.
        held_back: How many are judged by.
        statistics: Those of the inputs and targets that are learned from; None if none are.
        symbols: How often each symbol stands in what is learned from, for each field whose
            vocabulary is not known yet.
        longest: How many symbols the target of a pair has; 0 for a sequence.
    """

    columns: Columns | PairColumns
    key: str
    place: Place
    until: int
    steps: int
    held_back: int
    statistics: tuple[Statistics, Statistics] | None
    symbols: tuple[Counter[str], ...]
    longest: int = 0


class KeyFacts(NamedTuple):
    """The same of all sequences of a key; places are those of sequences, each once, rising."""

    columns: tuple[Columns | PairColumns, ...]  # each that there is
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


@default_arithmetic()  # numbers too great are an error of the scaler
def key_facts(facts: Iterable[Facts]) -> KeyFacts:
    """The facts of all sequences of a key, in any order."""
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
        together(each.symbols for each in ordered),
        max(each.longest for each in ordered),
    )


def together(counts: Iterable[tuple[Counter[str], ...]]) -> tuple[Counter[str], ...]:
    """Counts of the same fields, added up."""
    totals: list[Counter[str]] = []
    for of_fields in counts:
        totals += [Counter[str]() for _ in of_fields[len(totals) :]]
        for total, of_field in zip(totals, of_fields, strict=False):
            total.update(of_field)
    return tuple(totals)


def _places(places: Iterable[Place]) -> Array:
    return np.unique(np.array([place.sequence for place in places], np.uint64))
