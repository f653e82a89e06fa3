"""The training loop: epochs of truncated BPTT over sequences, without Beam."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

from beam_rnn.batches import Batch, Sequence, scaled, shuffled_batches
from beam_rnn.bptt import Bptt, Learner, learn
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.losses import LOSSES
from beam_rnn.model import Model
from beam_rnn.network import Network
from beam_rnn.optimizers import Adam, Optimizer
from beam_rnn.scaler import SCALERS, Scaler


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        bptt: Which steps the gradient passes through.
        loss: "mse", "mae" or "huber", of scaled targets.
        optimizer: How a gradient changes the parameters.
        epochs: How often the training passes over all sequences.
        batch_size: How many sequences stand side by side in a batch.
        clip_norm: The greatest global norm of a gradient; None for no limit.
        clip_value: The greatest size of each number of a gradient; None for no limit.
        scaler: "per_key", "global" or "none": see `beam_rnn.scaler.SCALERS`.
        seed: Decides everything random: the same seed gives the same weights.

    Raises:
        ConfigurationError: A value outside its range.
    """

    bptt: Bptt = field(default_factory=lambda: Bptt(steps=32))
    loss: str = "mse"
    optimizer: Optimizer = field(default_factory=Adam)
    epochs: int = 20
    batch_size: int = 32
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    scaler: str = "per_key"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("loss", tuple(LOSSES)), ("scaler", SCALERS)):
            if getattr(self, name) not in choices:
                raise ConfigurationError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ConfigurationError(f"{name} must be above 0 or None, got {limit!r}")


class Epoch(NamedTuple):
    """How far the training is."""

    epoch: int  # 1 for the first
    epochs: int
    loss: float  # the mean over the epoch, of scaled targets
    records_per_second: float


def fit(
    network: Network,
    sequences: Iterable[Sequence],
    training: Training,
    progress: Callable[[Epoch], None] = lambda _: None,
) -> Model:
    """A model trained on sequences.

    The result depends on the sequences as a set, not on the order in which they come.

    Args:
        network: What to train.
        sequences: What to learn from; the model keeps their columns.
        training: How to train.
        progress: Called after each epoch.

    Raises:
        TrainingError: There is nothing to learn from, the sequences are of different
            columns, or the loss is not finite.
        ConfigurationError: The network is residual and the targets are not the first inputs.
    """
    ordered = sorted((s for s in sequences if len(s.times)), key=_place)
    if not ordered:
        raise TrainingError(
            "there is nothing to learn from: no sequence has a step. A key needs more records in "
            "the training part than the horizon is long"
        )
    columns = ordered[0].columns
    others = {sequence.columns for sequence in ordered} - {columns}
    if others:
        raise TrainingError(f"sequences are of different columns: {columns} and {others}")
    if network.residual:
        columns.check_residual()
    scaler = Scaler.fit(_by_key(ordered), columns, training.scaler)
    pairs = scaled(ordered, scaler)
    parameters = network.initialize(
        len(columns.inputs), len(columns.targets), training.seed, np.float32
    )
    learner = Learner(parameters, training.optimizer.init(parameters))
    random = np.random.default_rng([training.seed, 1])  # another stream than the parameters'
    steps = sum(len(inputs) for inputs, _ in pairs)
    curve = []
    for number in range(1, training.epochs + 1):
        started = time.perf_counter()
        batches = shuffled_batches(pairs, training.batch_size, random)
        learner, loss = _epoch(network, learner, batches, training)
        curve.append(loss)
        rate = steps / (time.perf_counter() - started)
        progress(Epoch(number, training.epochs, loss, rate))
    optimizer = repr(training.optimizer)
    facts = {
        "settings": {**vars(training), "bptt": asdict(training.bptt), "optimizer": optimizer},
        "sequences": len(ordered),
        "records": steps,
        "loss_curve": curve,
        "until": _until(ordered),
    }
    return Model(network, learner.parameters, columns, scaler, facts)


def _epoch(
    network: Network, learner: Learner, batches: Iterable[Batch], training: Training
) -> tuple[Learner, float]:
    """One pass over the batches, and the mean loss over all steps that have one."""
    total = weight = 0.0
    for batch in batches:
        learner, losses = learn(
            network,
            learner,
            batch,
            bptt=training.bptt,
            loss=LOSSES[training.loss],
            optimizer=training.optimizer,
            clip_norm=training.clip_norm,
            clip_value=training.clip_value,
        )
        total += sum(window.loss * window.weight for window in losses)
        weight += sum(window.weight for window in losses)
    return learner, total / weight


def _place(sequence: Sequence) -> tuple[str, int, bytes]:
    """Where a sequence stands among all; equal places mean equal sequences."""
    content = hashlib.sha256()
    for array in (sequence.times, sequence.inputs, sequence.targets):
        content.update(array.tobytes())
    return sequence.key, int(sequence.times[0]), content.digest()


def _by_key(sequences: Iterable[Sequence]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The inputs and targets of each key, one sequence after the other."""
    keys: dict[str, list[Sequence]] = {}
    for sequence in sequences:
        keys.setdefault(sequence.key, []).append(sequence)
    return {
        key: (
            np.concatenate([s.inputs for s in group]),
            np.concatenate([s.targets for s in group]),
        )
        for key, group in keys.items()
    }


def _until(sequences: Iterable[Sequence]) -> dict[str, int]:
    """The time of the last record of each key that the training has seen."""
    until: dict[str, int] = {}
    for sequence in sequences:
        until[sequence.key] = max(sequence.until, until.get(sequence.key, sequence.until))
    return until
