"""The training data on one machine: facts, a plan made of them, and then the examples."""

from collections.abc import Iterable
from typing import NamedTuple

from beam_rnn.nn.encoder_decoder import AnyNetwork
from beam_rnn.training.example_store import Examples
from beam_rnn.training.plan import Plan, plan_of, shard_of, task_of
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import Facts, key_facts
from beam_rnn.training.task import Item
from beam_rnn.training.validation import split_of


class Dataset(NamedTuple):
    """A plan, and the examples of each shard."""

    plan: Plan
    learned: list[Examples]
    held_back: list[Examples]


def prepare(
    network: AnyNetwork, items: Iterable[Item], training: Training, shards: int = 1
) -> Dataset:
    """Return the training data, ready to be learned from on one machine.

    Raises:
        TrainingError: There is nothing to learn from, items have different columns, or the loss
            cannot be computed for their targets.
        ConfigurationError: Network, training and columns do not fit each other.
    """
    task = task_of(network, training)
    given = [each for each in items if task.has_steps(each)]
    split = split_of(given, training.validation, task.split_by)
    by_key: dict[str, list[Facts]] = {}
    for item in given:
        by_key.setdefault(item.key, []).append(task.facts_of(item, split))
    plan = plan_of(map(key_facts, by_key.values()), task)
    encoded: tuple[list[list[bytes]], ...] = tuple([[] for _ in range(shards)] for _ in range(2))
    places = plan.learned_places, plan.held_back_places
    for item in given:
        for half, place, data in task.examples_of(item, split, plan.columns, plan.scaler):
            encoded[half][shard_of(place, places[half], shards)].append(data)
    learned, held_back = ([Examples(each) for each in half] for half in encoded)
    return Dataset(plan, learned, held_back)
