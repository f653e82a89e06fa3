"""What becomes of sequences on the way to examples: they are measured, weighted and scaled."""

from collections.abc import Mapping
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
from beam_rnn.nn.network import Network
from beam_rnn.training.example_store import Place
from beam_rnn.training.settings import Training


def place_among_all(sequence: Sequence) -> Place:
    """Return the place of a sequence, or of a part of one, in the order of all."""
    return Place(place_of(sequence), 0 if sequence.part is None else sequence.part.number)


@default_arithmetic()  # numbers that overflow are an error of the scaler
def statistics_of(
    sequence: Sequence, place: Place, training: Training
) -> tuple[Statistics, Statistics]:
    """Return the statistics of the inputs, and of the targets at the nearest horizon."""
    nearest = sequence.targets[:, : sequence.columns.target_size]
    first, sample = hash(place) % 2**64, training.scaling == "robust"
    return (
        Statistics.of(sequence.inputs, first, sample=sample),
        Statistics.of(nearest, first, sample=sample),
    )


def for_columns(network: Network, columns: Columns) -> Network:
    """Return the network for the columns: their horizons and symbols, and residual or not.

    Raises:
        ConfigurationError: They do not fit each other.
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
    if columns.classes and not network.distribution.classes:
        raise ConfigurationError(
            f"the target {columns.targets[0]!r} is a class: that needs Network(output='softmax'), "
            f"got output={network.output!r}"
        )
    if network.distribution.classes and columns.target_size < 2:
        raise ConfigurationError(
            f"output={network.output!r} is for two classes or more, the columns have the one "
            f"target {columns.targets[0]!r}: name its classes in Columns(classes=...), or take "
            "output='sigmoid'"
        )
    embedding = _embedding(network, columns)
    return replace(network, horizons=horizons, residual=residual, embedding=embedding)


def _embedding(network: Network, columns: Columns) -> tuple[int, ...]:
    """Return the embedding size of each symbol field."""
    sizes, fields = network.embedding, len(columns.symbols)
    assert isinstance(sizes, tuple), "a network has it as a tuple"
    if len(sizes) == 1 and fields:
        return sizes * fields
    if len(sizes) != fields:
        raise ConfigurationError(
            f"the columns have symbols={list(columns.symbols)}, the network has "
            f"embedding={sizes}: give one size for all fields, such as Network(embedding=16), or "
            "one for each"
        )
    return sizes


def class_weighted(sequence: Sequence, weights: Mapping[Any, float]) -> Sequence:
    """Return a sequence whose targets have the weight of their class.

    Args:
        sequence: The sequence.
        weights: The weight of each class; if the columns name no classes, of each value of the
            one target.

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
            f"class_weights={dict(weights)} has no weight for {', '.join(missing)}, which key "
            f"{sequence.key!r} has: add one"
        )
    each = np.array([of_value[name] for name in names], float)[values]
    return sequence._replace(weights=each * (1 if sequence.weights is None else sequence.weights))


def with_indices(sequence: Sequence, columns: Columns) -> Sequence:
    """Return a sequence with its symbols as inputs: their indices in the columns' vocabularies."""
    if sequence.columns.has_vocabularies:
        return sequence
    found = [
        indices(symbols, columns.vocabulary(name))
        for name, symbols in zip(columns.symbols, sequence.symbols, strict=True)
    ]
    inputs = np.concatenate([sequence.inputs, np.array(found, float).T], 1)
    return sequence._replace(columns=columns, inputs=inputs, symbols=())


def scaled(sequence: Sequence, scaler: Scaler) -> Example:
    """Return a sequence as the network sees it."""
    scaling = scaler.of(sequence.key)
    x, targets = scaling.scale_inputs(sequence.inputs), scaling.scale_targets(sequence.targets)
    carried = sequence.columns.carried_size
    if carried:  # a target that is missing has the weight 0
        x, targets = carry_through(x, carried), np.nan_to_num(targets, nan=0.0)
    return Example(x, targets, sequence.weights)
