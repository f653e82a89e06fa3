"""How the training data are scaled and distributed over the shards."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError, TrainingError
from beam_rnn.data.scaling import Scaler
from beam_rnn.nn.encoder_decoder import AnyNetwork, EncoderDecoder
from beam_rnn.nn.network import Network
from beam_rnn.training.example_store import Place
from beam_rnn.training.pair_task import PairTask
from beam_rnn.training.sequence_task import SequenceTask
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import KeyFacts
from beam_rnn.training.task import Task

TASKS: Mapping[type, Any] = {Network: SequenceTask, EncoderDecoder: PairTask}
"""The task of each kind of network."""


def task_of(network: AnyNetwork, training: Training) -> Task:
    """Return the task of training a network.

    Raises:
        ConfigurationError: It is no network, or the training has settings that do not fit it.
    """
    for kind, task in TASKS.items():
        if isinstance(network, kind):
            made: Task = task(network, training)
            return made
    raise ConfigurationError(
        f"network must be a {' or '.join(kind.__name__ for kind in TASKS)}, got {network!r} "
        f"({type(network).__name__})"
    )


class Plan(NamedTuple):
    """What training must know of its data before the first round.

    Attributes:
        network: The network, with the sizes that the columns decide.
        columns: The columns of all items, with the vocabularies of their symbols.
        scaler: Fitted on the training part; None where there are only symbols.
        facts: What the model records of its data, as JSON values.
        learned_places: (sequences to learn from,) uint64, rising.
        held_back_places: (sequences of the validation set,) uint64, rising.
    """

    network: Any
    columns: Any
    scaler: Scaler | None
    facts: Mapping[str, Any]
    learned_places: Array
    held_back_places: Array


def plan_of(facts: Iterable[KeyFacts], task: Task) -> Plan:
    """Return the plan, from the facts of all keys, in any order.

    Raises:
        TrainingError: There is nothing to learn from, items have different columns, or numbers
            cannot be scaled.
        ConfigurationError: Network and columns do not fit each other.
    """
    ordered = sorted(facts, key=lambda each: each.key)
    if not ordered:
        raise TrainingError(
            "there is nothing to learn from: no sequence has a step. A key needs more records in "
            "the training part than its horizon"
        )
    columns, *others = dict.fromkeys(columns for each in ordered for columns in each.columns)
    if others:
        raise TrainingError(f"sequences are of different columns: {columns} and {others}")
    sequences = sum(each.sequences for each in ordered)
    learned, held_back = (
        np.unique(np.concatenate([getattr(each, name) for each in ordered]))
        for name in ("learned_places", "held_back_places")
    )
    validation = task.training.validation
    if validation and not (len(learned) and len(held_back)):
        raise TrainingError(
            f"validation={validation} leaves {len(learned)} sequences to learn from and "
            f"{len(held_back)} to validate on, of {sequences}: give more records"
        )
    network, columns, scaler, of_task = task.fitted(columns, ordered)
    counted = {"sequences": sequences, "records": sum(each.steps for each in ordered)}
    return Plan(network, columns, scaler, {**counted, **of_task}, learned, held_back)


def shard_of(place: Place, places: Array, shards: int) -> int:
    """Return the shard of a sequence: they are dealt out in the order of their places.

    Args:
        place: The place of the sequence.
        places: Those of all, rising.
        shards: The number of shards.
    """
    return int(np.searchsorted(places, np.uint64(place.sequence))) % shards
