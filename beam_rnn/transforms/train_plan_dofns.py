"""The DoFns before the first round: gather facts, make the plan, send examples to their shards."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from beam_rnn.training.plan import Plan, plan_of, shard_of
from beam_rnn.training.survey import Facts, KeyFacts, key_facts
from beam_rnn.training.task import Item, Task
from beam_rnn.training.validation import Split, SplitByTime, split_time

HELD_BACK = "held_back"
"""The output with the validation set."""


def split_at(pair: tuple[str, Iterable[Any]], fraction: float) -> tuple[str, int]:
    """Return when the validation set of a key begins, from the times of its sequences."""
    key, times = pair
    return key, split_time(times, fraction)


def split_from(pairs: list[tuple[str, int]]) -> Split:
    """Return the split of all keys."""
    return SplitByTime(dict(pairs))


class Survey(beam.DoFn):
    """Gives the facts of each item."""

    def __init__(self, task: Task):
        self._task = task

    def process(self, element: Item, split: Split) -> Iterator[tuple[str, Facts]]:
        """Take an item, give its key and its facts."""
        if self._task.has_steps(element):
            yield element.key, self._task.facts_of(element, split)


def facts_of_key(pair: tuple[str, Iterable[Facts]]) -> KeyFacts:
    """Return the facts of all items of a key."""
    return key_facts(pair[1])


class MakePlan(beam.DoFn):
    """Makes the plan from the facts of all keys."""

    def __init__(self, task: Task):
        self._task = task

    def process(self, element: list[KeyFacts]) -> Iterator[Plan]:
        """Take the facts of all keys, give the plan."""
        yield plan_of(element, self._task)


class DealOut(beam.DoFn):
    """Sends the examples of each item to their shards; those to validate on to `HELD_BACK`."""

    def __init__(self, task: Task, shards: int):
        self._task = task
        self._shards = shards

    def process(self, element: Item, split: Split, plan: Plan) -> Iterator[Any]:
        """Take an item, give the shard and the bytes of each of its examples."""
        if not self._task.has_steps(element):
            return
        examples = self._task.examples_of(element, split, plan.columns, plan.scaler)
        for held_back, place, data in examples:
            places = plan.held_back_places if held_back else plan.learned_places
            pair = shard_of(place, places, self._shards), data
            yield TaggedOutput(HELD_BACK, pair) if held_back else pair
