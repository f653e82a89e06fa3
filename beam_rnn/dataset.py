"""What is learned from: sequences checked, weighted, split in time, scaled and dealt out.

Each step looks at one sequence, or at facts about many: no worker holds all of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.batches import Example, Sequence, place_of
from beam_rnn.cells import Array
from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.examples import Examples, Place, encode_example
from beam_rnn.missing import carry_through
from beam_rnn.network import Network
from beam_rnn.objective import check_targets, loss_name
from beam_rnn.outputs import OUTPUTS
from beam_rnn.scaler import Scaler, Statistics
from beam_rnn.settings import Training
from beam_rnn.validation import Split, split_of
from beam_rnn.vocabularies import indices


class Facts(NamedTuple):
    """What must be known of a sequence before any can be learned from.

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
    """

    columns: Columns
    key: str
    place: Place
    until: int
    steps: int
    held_back: int
    statistics: tuple[Statistics, Statistics] | None
    symbols: tuple[Counter[str], ...]


class KeyFacts(NamedTuple):
    """The same of all sequences of a key; places are those of sequences, each once, rising."""

    columns: tuple[Columns, ...]  # each that there is
    key: str
    sequences: int
    until: int
    steps: int
    held_back: int
    learned_places: Array
    held_back_places: Array
    statistics: tuple[Statistics, Statistics] | None
    symbols: tuple[Counter[str], ...]


class Plan(NamedTuple):
    """What is trained, and how what is learned from is scaled and dealt out.

    Attributes:
        network: The network, for the horizons of the columns.
        columns: The columns of all sequences, with the vocabularies of their symbols.
        scaler: Fitted on what is learned from.
        sequences: How many sequences there were.
        steps: How many steps are learned from.
        until: The time of the last record of each key that went into them, in microseconds.
        learned_places: (sequences learned from,) uint64, rising.
        held_back_places: (sequences judged by,) uint64, rising.
    """

    network: Network
    columns: Columns
    scaler: Scaler
    sequences: int
    steps: int
    until: dict[str, int]
    learned_places: Array
    held_back_places: Array

    @property
    def inputs(self) -> int:
        """The size of x."""
        return self.columns.input_size

    @property
    def outputs(self) -> int:
        """The size of y."""
        network = self.network
        return self.columns.target_size * network.horizons * len(network.parts)


def facts_of(sequence: Sequence, split: Split, network: Network, training: Training) -> Facts:
    """The facts of one sequence of at least one step.

    Raises:
        TrainingError: Targets are not what the loss can compare with.
        ConfigurationError: Network, loss and columns do not go together.
    """
    columns, part = sequence.columns, sequence.part
    network = for_columns(network, columns)
    if part is not None and (network.bidirectional or network.output_steps == "last"):
        raise ConfigurationError(
            f"a sequence of key {sequence.key!r} comes in parts, which a network with "
            f"bidirectional={network.bidirectional} and output_steps={network.output_steps!r} "
            "cannot learn from: leave out Sequences(parts_of=...)"
        )
    check_targets(loss_name(network, training.loss), network, sequence.key, sequence.targets)
    learned, held_back = split.halves(sequence)
    place = Place(place_of(sequence), 0 if part is None else part.number)
    return Facts(
        columns,
        sequence.key,
        place,
        sequence.until,
        0 if learned is None else len(learned.times),
        0 if held_back is None else len(held_back.times),
        None if learned is None else _statistics(learned, place, training),
        tuple(map(Counter, () if learned is None else learned.symbols)),
    )


@np.errstate(over="ignore", invalid="ignore")  # numbers too great are an error of the scaler
def _statistics(
    sequence: Sequence, place: Place, training: Training
) -> tuple[Statistics, Statistics]:
    """Those of the inputs, and of the targets at the nearest horizon."""
    nearest = sequence.targets[:, : sequence.columns.target_size]
    first, sample = hash(place) % 2**64, training.scaling == "robust"
    return (
        Statistics.of(sequence.inputs, first, sample=sample),
        Statistics.of(nearest, first, sample=sample),
    )


@np.errstate(over="ignore", invalid="ignore")  # numbers too great are an error of the scaler
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
        _together(each.symbols for each in ordered),
    )


def _together(counts: Iterable[tuple[Counter[str], ...]]) -> tuple[Counter[str], ...]:
    """Counts of the same fields, added up."""
    totals: list[Counter[str]] = []
    for of_fields in counts:
        totals += [Counter[str]() for _ in of_fields[len(totals) :]]
        for total, of_field in zip(totals, of_fields, strict=False):
            total.update(of_field)
    return tuple(totals)


def _places(places: Iterable[Place]) -> Array:
    return np.unique(np.array([place.sequence for place in places], np.uint64))


def plan_of(facts: Iterable[KeyFacts], network: Network, training: Training) -> Plan:
    """What is trained, from the facts of all keys, in any order.

    Raises:
        TrainingError: There is nothing to learn from, sequences are of different columns, or
            numbers cannot be scaled.
    """
    ordered = sorted(facts, key=lambda each: each.key)
    if not ordered:
        raise TrainingError(
            "there is nothing to learn from: no sequence has a step. A key needs more records in "
            "the training part than the horizon is long"
        )
    columns, *others = dict.fromkeys(columns for each in ordered for columns in each.columns)
    if others:
        raise TrainingError(f"sequences are of different columns: {columns} and {others}")
    sequences = sum(each.sequences for each in ordered)
    learned, held_back = (
        np.unique(np.concatenate([getattr(each, name) for each in ordered]))
        for name in ("learned_places", "held_back_places")
    )
    if training.validation and not (len(learned) and len(held_back)):
        raise TrainingError(
            f"validation={training.validation} leaves {len(learned)} sequences to learn from and "
            f"{len(held_back)} to validate on, of {sequences}: give more records"
        )
    network = for_columns(network, columns)
    scaler = Scaler.of_statistics(
        {each.key: each.statistics for each in ordered if each.statistics is not None},
        columns,
        training.scaler,
        training.scaling,
        targets=OUTPUTS[network.output].scaled,
    )
    if not columns.has_vocabularies:
        counts = _together(each.symbols for each in ordered)
        columns = columns.with_vocabularies(_vocabularies(columns, counts, training))
        scaler = scaler.with_indices(len(columns.symbols))
    return Plan(
        network,
        columns,
        scaler,
        sequences,
        sum(each.steps for each in ordered),
        {each.key: each.until for each in ordered},
        learned,
        held_back,
    )


def _vocabularies(
    columns: Columns, counts: tuple[Counter[str], ...], training: Training
) -> dict[str, tuple[str, ...]]:
    """The symbols that get an index, for each field whose vocabulary is not known yet."""
    found = {}
    for name, of_field in zip(columns.symbols, counts, strict=True):
        if columns.vocabulary(name):
            continue
        found[name] = training.vocabulary.of(of_field)
        if not found[name]:
            raise TrainingError(
                f"no symbol of {name!r} is in {training.vocabulary}: the most frequent one is seen "
                f"{max(of_field.values(), default=0)} times"
            )
    return found


def examples_of(
    sequence: Sequence, split: Split, plan: Plan, training: Training
) -> Iterator[tuple[bool, Place, bytes]]:
    """A sequence as the network sees it: whether it is held back, its place, and its bytes."""
    if training.class_weights is not None:
        sequence = class_weighted(sequence, training.class_weights)
    place = Place(place_of(sequence), 0 if sequence.part is None else sequence.part.number)
    for held_back, half in enumerate(split.halves(sequence)):
        if half is not None:
            example = scaled(with_indices(half, plan.columns), plan.scaler)
            yield bool(held_back), place, encode_example(place, sequence.key, example)


def shard_of(place: Place, places: Array, shards: int) -> int:
    """The shard of a sequence: they are dealt out in the order of their places.

    Args:
        place: That of the sequence.
        places: Those of all, rising.
        shards: How many shards there are.
    """
    return int(np.searchsorted(places, np.uint64(place.sequence))) % shards


class Dataset(NamedTuple):
    """What is learned from, and what by, on one machine; a shard each."""

    plan: Plan
    learned: list[Examples]
    held_back: list[Examples]


def prepare(
    network: Network,
    sequences: Iterable[Sequence],
    training: Training,
    shards: int = 1,
) -> Dataset:
    """The sequences, as a set, ready to be learned from on one machine.

    Raises:
        TrainingError: There is nothing to learn from, the sequences are of different columns,
            or targets are not what the loss can compare with.
        ConfigurationError: Network, loss and columns do not go together.
    """
    given = [sequence for sequence in sequences if len(sequence.times)]
    split = split_of(given, training.validation, network)
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


def for_columns(network: Network, columns: Columns) -> Network:
    """The network with as many horizons as the columns.

    Raises:
        ConfigurationError: They do not go together.
    """
    horizons = len(columns.horizons)
    if network.horizons not in (1, horizons):
        raise ConfigurationError(
            f"the network has horizons={network.horizons}, the columns name {horizons}: "
            f"{columns.horizon}"
        )
    if network.residual:
        columns.check_residual()
    if columns.classes and network.output != "softmax":
        raise ConfigurationError(
            f"the target {columns.targets[0]!r} is a class: that needs Network(output='softmax'), "
            f"got output={network.output!r}"
        )
    if network.output == "softmax" and columns.target_size < 2:
        raise ConfigurationError(
            f"output='softmax' is for two classes or more, the columns have the one target "
            f"{columns.targets[0]!r}: name its classes in Columns(classes=...), or take "
            "output='sigmoid'"
        )
    return replace(network, horizons=horizons, embedding=_embedding(network, columns))


def _embedding(network: Network, columns: Columns) -> tuple[int, ...]:
    """The sizes of the vectors of a network's symbols, one for each field."""
    sizes, fields = network.embedding, len(columns.symbols)
    assert isinstance(sizes, tuple), "a network has it as a tuple"
    if len(sizes) == 1 and fields:
        return sizes * fields
    if len(sizes) != fields:
        raise ConfigurationError(
            f"the columns have symbols={list(columns.symbols)}, the network has "
            f"embedding={sizes}: give the size of the vector that stands for a symbol, such as "
            f"Network(embedding=16), or one for each"
        )
    return sizes


def class_weighted(sequence: Sequence, weights: Mapping[Any, float]) -> Sequence:
    """A sequence whose targets count as much as their class does.

    Args:
        sequence: The sequence.
        weights: The weight of each class; where the columns name no classes, of each value of
            the one target.

    Raises:
        TrainingError: A target has no weight.
    """
    columns = sequence.columns
    of_value = {str(label): weight for label, weight in weights.items()}
    names = [str(label) for label in columns.classes]
    if columns.classes:
        values = sequence.targets.reshape(len(sequence.times), -1, len(names)).argmax(2)
    else:
        names = [f"{value:g}" for value in np.unique(sequence.targets)]
        values = np.unique(sequence.targets, return_inverse=True)[1].reshape(
            len(sequence.times), -1
        )
    missing = [name for name in names if name not in of_value]
    if missing:
        raise TrainingError(
            f"class_weights={dict(weights)} say nothing of {', '.join(missing)} of key "
            f"{sequence.key!r}"
        )
    each = np.array([of_value[name] for name in names], float)[values]
    return sequence._replace(weights=each * (1 if sequence.weights is None else sequence.weights))


def with_indices(sequence: Sequence, columns: Columns) -> Sequence:
    """A sequence whose symbols are inputs: their indices in the vocabularies of these columns."""
    if sequence.columns.has_vocabularies:
        return sequence
    found = [
        indices(symbols, columns.vocabulary(name))
        for name, symbols in zip(columns.symbols, sequence.symbols, strict=True)
    ]
    inputs = np.concatenate([sequence.inputs, np.array(found, float).T], 1)
    return sequence._replace(columns=columns, inputs=inputs, symbols=())


def scaled(sequence: Sequence, scaler: Scaler) -> Example:
    """A sequence as the network sees it."""
    scaling = scaler.of(sequence.key)
    x, targets = scaling.scale_inputs(sequence.inputs), scaling.scale_targets(sequence.targets)
    carried = sequence.columns.carried_size
    if carried:  # a target that is missing has the weight 0
        x, targets = carry_through(x, carried), np.nan_to_num(targets, nan=0.0)
    return Example(x, targets, sequence.weights)
