"""What is learned from, on one machine: facts, a plan of them, and then the examples.

Each step looks at one sequence, or one pair, or at facts about many: no worker holds all of them.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import Pair, PairColumns
from beam_rnn.data.sequences import Sequence
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network
from beam_rnn.training.example_store import Examples, Place
from beam_rnn.training.pair_examples import examples_of_pair, facts_of_pair
from beam_rnn.training.plan import Plan, check_learns, plan_of, shard_of
from beam_rnn.training.sequence_examples import examples_of_sequence, facts_of_sequence
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import Facts, key_facts
from beam_rnn.training.validation import NoSplit, Split, split_of


def has_steps(given: Sequence | Pair) -> bool:
    """Whether there is a step in it to learn from."""
    return isinstance(given, Pair) or len(given.times) > 0


def facts_of(
    given: Sequence | Pair, split: Split, network: Network | EncoderDecoder, training: Training
) -> Facts:
    """The facts of one sequence of at least one step, or of one pair.

    Raises:
        TrainingError: Targets are not what the loss can compare with.
        ConfigurationError: Network, loss and columns do not go together.
    """
    of_sequences = check_learns(network, given.columns)
    if isinstance(given, Pair):
        return facts_of_pair(given, training.validation)
    assert of_sequences is not None, "a sequence has columns of one"
    return facts_of_sequence(given, split, of_sequences[0], training)


def examples_of(
    given: Sequence | Pair, split: Split, plan: Plan, training: Training
) -> Iterator[tuple[bool, Place, bytes]]:
    """What the network sees of one: whether it is held back, its place, and its bytes."""
    if isinstance(given, Pair):
        assert isinstance(plan.columns, PairColumns), "all are of the same columns"
        return examples_of_pair(given, training.validation, plan.columns)
    assert isinstance(plan.columns, Columns), "all are of the same columns"
    assert plan.scaler is not None, "sequences have one"
    return examples_of_sequence(given, split, plan.columns, plan.scaler, training)


class Dataset(NamedTuple):
    """What is learned from, and what by, on one machine; a shard each."""

    plan: Plan
    learned: list[Examples]
    held_back: list[Examples]


def prepare(
    network: Network | EncoderDecoder,
    sequences: Iterable[Sequence | Pair],
    training: Training,
    shards: int = 1,
) -> Dataset:
    """The sequences, or pairs, as a set, ready to be learned from on one machine.

    Raises:
        TrainingError: There is nothing to learn from, the sequences are of different columns,
            or targets are not what the loss can compare with.
        ConfigurationError: Network, loss and columns do not go together.
    """
    given = [each for each in sequences if has_steps(each)]
    split: Split = NoSplit()
    if isinstance(network, Network):
        of_network = [each for each in given if isinstance(each, Sequence)]
        split = split_of(of_network, training.validation, network)
    by_key: dict[str, list[Facts]] = {}
    for sequence in given:
        facts = facts_of(sequence, split, network, training)
        by_key.setdefault(sequence.key, []).append(facts)
    plan = plan_of(map(key_facts, by_key.values()), network, training)
    encoded: tuple[list[list[bytes]], ...] = tuple([[] for _ in range(shards)] for _ in range(2))
    places = plan.learned_places, plan.held_back_places
    for sequence in given:
        for half, place, data in examples_of(sequence, split, plan, training):
            encoded[half][shard_of(place, places[half], shards)].append(data)
    learned, held_back = ([Examples(each) for each in half] for half in encoded)
    return Dataset(plan, learned, held_back)
