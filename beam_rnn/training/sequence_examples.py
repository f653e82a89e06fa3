"""Sequences on their way to the network: checked, weighted, split in time and scaled."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from beam_rnn.core.errors import ConfigurationError, TrainingError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.columns import Columns
from beam_rnn.data.missing_values import carry_through
from beam_rnn.data.scaling import Scaler, Statistics
from beam_rnn.data.sequences import Example, Sequence, place_of
from beam_rnn.data.vocabulary import indices
from beam_rnn.nn.losses import check_targets, loss_name
from beam_rnn.nn.network import Network
from beam_rnn.training.example_store import Place, encode_example
from beam_rnn.training.settings import Training
from beam_rnn.training.survey import Facts
from beam_rnn.training.validation import Split


def facts_of_sequence(
    sequence: Sequence, split: Split, network: Network, training: Training
) -> Facts:
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


@default_arithmetic()  # numbers too great are an error of the scaler
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


def examples_of_sequence(
    sequence: Sequence, split: Split, columns: Columns, scaler: Scaler, training: Training
) -> Iterator[tuple[bool, Place, bytes]]:
    """A sequence as the network sees it: whether it is held back, its place, and its bytes.

    Args:
        sequence: The sequence.
        split: Where the part that is held back begins.
        columns: Its columns, with their vocabularies.
        scaler: How it is scaled.
        training: How the network is trained.
    """
    if training.class_weights is not None:
        sequence = class_weighted(sequence, training.class_weights)
    place = Place(place_of(sequence), 0 if sequence.part is None else sequence.part.number)
    for held_back, half in enumerate(split.halves(sequence)):
        if half is not None:
            example = scaled(with_indices(half, columns), scaler)
            yield bool(held_back), place, encode_example(place, sequence.key, example)


def for_columns(network: Network, columns: Columns) -> Network:
    """The network with as many horizons as the columns, residual or not.

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
    residual = network.residual
    if residual is None:
        residual = network.can_be_residual and columns.forecasts_inputs
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
    embedding = _embedding(network, columns)
    return replace(network, horizons=horizons, residual=residual, embedding=embedding)


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
