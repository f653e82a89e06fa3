"""What is learned from: sequences checked, weighted, split in time and scaled."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.batches import Example, Sequence
from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.losses import Loss
from beam_rnn.network import Network
from beam_rnn.objective import check_targets, loss_name, objective
from beam_rnn.outputs import OUTPUTS
from beam_rnn.scaler import Scaler
from beam_rnn.validation import hold_back


class Dataset(NamedTuple):
    """What is learned from, and what by.

    Attributes:
        network: The network, for the horizons of the columns.
        columns: The columns of all sequences.
        loss: (z, targets, weights) -> (loss, gradient).
        scaler: Fitted on what is learned from.
        learned: What is learned from.
        held_back: What the result is judged by; empty if nothing is held back.
        sequences: How many sequences there were.
        until: The time of the last record of each key that went into them, in microseconds.
    """

    network: Network
    columns: Columns
    loss: Loss
    scaler: Scaler
    learned: list[Example]
    held_back: list[Example]
    sequences: int
    until: dict[str, int]

    @property
    def inputs(self) -> int:
        """The size of x."""
        return len(self.columns.inputs)

    @property
    def outputs(self) -> int:
        """The size of y."""
        network = self.network
        return self.columns.target_size * network.horizons * len(network.parts)

    @property
    def steps(self) -> int:
        """How many steps are learned from."""
        return sum(len(example.x) for example in self.learned)


def prepare(
    network: Network,
    sequences: Iterable[Sequence],
    *,
    loss: str | None = None,
    scaler: str = "per_key",
    class_weights: Mapping[Any, float] | None = None,
    validation: float = 0.0,
) -> Dataset:
    """The sequences, as a set, ready to be learned from; see `beam_rnn.fit.Training`.

    Raises:
        TrainingError: There is nothing to learn from, the sequences are of different columns,
            or targets are not what the loss can compare with.
        ConfigurationError: Network, loss and columns do not go together.
    """
    ordered = sorted((s for s in sequences if len(s.times)), key=_place)
    columns = _columns_of(ordered)
    network = _for_columns(network, columns)
    for sequence in ordered:
        check_targets(loss_name(network, loss), network, sequence.key, sequence.targets)
    until = _until(ordered)
    weighted = ordered
    if class_weights is not None:
        weighted = [class_weighted(sequence, class_weights) for sequence in ordered]
    learned: list[Sequence] = weighted
    held_back: list[Sequence] = []
    if validation:
        learned, held_back = hold_back(weighted, validation, network)
        if not learned or not held_back:
            raise TrainingError(
                f"validation={validation} leaves {len(learned)} sequences to learn from and "
                f"{len(held_back)} to validate on, of {len(ordered)}: give more records"
            )
    fitted = Scaler.fit(
        _by_key(learned, columns), columns, scaler, targets=OUTPUTS[network.output].scaled
    )
    return Dataset(
        network,
        columns,
        objective(network, loss),
        fitted,
        scaled(learned, fitted),
        scaled(held_back, fitted),
        len(ordered),
        until,
    )


def _columns_of(sequences: list[Sequence]) -> Columns:
    if not sequences:
        raise TrainingError(
            "there is nothing to learn from: no sequence has a step. A key needs more records in "
            "the training part than the horizon is long"
        )
    columns = sequences[0].columns
    others = {sequence.columns for sequence in sequences} - {columns}
    if others:
        raise TrainingError(f"sequences are of different columns: {columns} and {others}")
    return columns


def _for_columns(network: Network, columns: Columns) -> Network:
    """The network with as many horizons as the columns."""
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
    return replace(network, horizons=horizons)


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


def scaled(sequences: Iterable[Sequence], scaler: Scaler) -> list[Example]:
    """Each sequence as the network sees it."""
    examples = []
    for sequence in sequences:
        scaling = scaler.of(sequence.key)
        x, targets = scaling.scale_inputs(sequence.inputs), scaling.scale_targets(sequence.targets)
        examples.append(Example(x, targets, sequence.weights))
    return examples


def _place(sequence: Sequence) -> tuple[str, int, bytes]:
    """Where a sequence stands among all; equal places mean equal sequences."""
    content = hashlib.sha256()
    for array in (sequence.times, sequence.inputs, sequence.targets):
        content.update(array.tobytes())
    return sequence.key, int(sequence.times[0]), content.digest()


def _by_key(
    sequences: Iterable[Sequence], columns: Columns
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The inputs of each key, and its targets at the nearest horizon."""
    keys: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        keys.setdefault(sequence.key, []).append(sequence)
    return {
        key: (
            np.concatenate([s.inputs for s in group]),
            np.concatenate([s.targets[:, : columns.target_size] for s in group]),
        )
        for key, group in keys.items()
    }


def _until(sequences: Iterable[Sequence]) -> dict[str, int]:
    """The time of the last record of each key that the training has seen."""
    until: dict[str, int] = {}
    for sequence in sequences:
        until[sequence.key] = max(sequence.until, until.get(sequence.key, sequence.until))
    return until
