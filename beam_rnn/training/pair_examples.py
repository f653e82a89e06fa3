"""Pairs on their way to the network: indices of their symbols."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from beam_rnn.data.pair_columns import Pair, PairColumns, place_of_pair
from beam_rnn.data.sequences import Example
from beam_rnn.data.vocabulary import UNKNOWN, indices
from beam_rnn.nn.seq2seq import UNWRITABLE
from beam_rnn.training.example_store import Place, encode_example
from beam_rnn.training.survey import Facts


def is_held_back(pair: Pair, fraction: float) -> bool:
    """Whether a pair is one to be judged by: so many of all are, which its content decides."""
    return place_of_pair(pair) < fraction * 2**64


def facts_of_pair(pair: Pair, fraction: float) -> Facts:
    """The facts of one pair; its steps are those of its target, and the end.

    Args:
        pair: The pair.
        fraction: The share of all pairs that is held back.
    """
    held_back = is_held_back(pair, fraction)
    steps = len(pair.target) + 1
    return Facts(
        pair.columns,
        pair.key,
        Place(place_of_pair(pair), 0),
        0,
        0 if held_back else steps,
        steps if held_back else 0,
        None,
        () if held_back else (Counter(pair.source), Counter(pair.target)),
        len(pair.target),
    )


def examples_of_pair(
    pair: Pair, fraction: float, columns: PairColumns
) -> Iterator[tuple[bool, Place, bytes]]:
    """A pair as the network sees it: whether it is held back, its place, and its bytes.

    Args:
        pair: The pair.
        fraction: The share of all pairs that is held back.
        columns: Its columns, with their vocabularies.
    """
    place = Place(place_of_pair(pair), 0)
    data = encode_example(place, pair.key, example_of_pair(pair, columns))
    yield is_held_back(pair, fraction), place, data


def example_of_pair(pair: Pair, columns: PairColumns) -> Example:
    """The indices of its symbols (steps, 1); `UNWRITABLE` for one that a target cannot have."""
    source, target = columns.vocabularies
    x = np.array(indices(pair.source, source), np.float32)
    written = np.array(indices(pair.target, target), np.float32)
    written[written == UNKNOWN] = UNWRITABLE
    return Example(x[:, np.newaxis], written[:, np.newaxis])
