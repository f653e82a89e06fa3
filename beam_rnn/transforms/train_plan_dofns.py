"""The Beam side of the plan: facts about sequences come together, then each goes to its shard."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from beam_rnn.data.pair_columns import Pair
from beam_rnn.data.sequences import Sequence
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network
from beam_rnn.training.dataset import examples_of, facts_of, has_steps
from beam_rnn.training.plan import Plan, plan_of, shard_of
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import Facts, KeyFacts, key_facts
from beam_rnn.training.validation import Split, SplitByTime, split_time

HELD_BACK = "held_back"
"""The output of what is judged by."""


def split_at(pair: tuple[str, Iterable[Any]], fraction: float) -> tuple[str, int]:
    """When the part of a key that is held back begins, from the times of its sequences."""
    key, times = pair
    return key, split_time(times, fraction)


def split_from(pairs: list[tuple[str, int]]) -> Split:
    """The split of all keys."""
    return SplitByTime(dict(pairs))


class Survey(beam.DoFn):
    """The facts of each sequence, or pair."""

    def __init__(self, network: Network | EncoderDecoder, training: Training):
        self._network = network
        self._training = training

    def process(self, element: Sequence | Pair, split: Split) -> Iterator[tuple[str, Facts]]:
        """One in; its key and its facts out."""
        if has_steps(element):
            yield element.key, facts_of(element, split, self._network, self._training)


def facts_of_key(pair: tuple[str, Iterable[Facts]]) -> KeyFacts:
    """The facts of all sequences of a key."""
    return key_facts(pair[1])


class MakePlan(beam.DoFn):
    """The plan, from the facts of all keys."""

    def __init__(self, network: Network | EncoderDecoder, training: Training):
        self._network = network
        self._training = training

    def process(self, element: list[KeyFacts]) -> Iterator[Plan]:
        """The facts of all keys in, the plan out."""
        yield plan_of(element, self._network, self._training)


class DealOut(beam.DoFn):
    """Brings each sequence, or pair, as the network sees it, to its shard."""

    def __init__(self, training: Training, shards: int):
        self._training = training
        self._shards = shards

    def process(self, element: Sequence | Pair, split: Split, plan: Plan) -> Iterator[Any]:
        """One in; its shard and its bytes out, held back or not."""
        if not has_steps(element):
            return
        for held_back, place, data in examples_of(element, split, plan, self._training):
            places = plan.held_back_places if held_back else plan.learned_places
            pair = shard_of(place, places, self._shards), data
            yield TaggedOutput(HELD_BACK, pair) if held_back else pair
