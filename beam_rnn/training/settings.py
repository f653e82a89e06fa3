"""The settings of a training, and of its rounds."""

from collections.abc import Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from beam_rnn.core.checks import check_choice, check_number, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.scaling import SCALERS, SCALINGS
from beam_rnn.data.sequences import shuffled
from beam_rnn.data.vocabulary import Vocabulary
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.dropout import Dropout
from beam_rnn.nn.encoder_decoder import AnyNetwork
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.nn.losses import LOSS_NAMES, loss_name
from beam_rnn.nn.optimizers import Adam, Optimizer
from beam_rnn.nn.schedules import Plateau

DIVERGENCE = ("error", "keep")
"""The result of a training whose loss becomes non-finite: an error, or the last good model."""


@dataclass(frozen=True)
class Training:
    """The settings of a training.

    Args:
        bptt: Which steps the gradient passes through.
        loss: "mse", "mae", "huber", "quantile", "gaussian_nll", "binary_cross_entropy" or
            "cross_entropy", of scaled targets; None for the default of the network's output
            function: "mae" for forecasts, which is robust to outliers.
        optimizer: The optimiser.
        epochs: The number of passes over all sequences.
        batch_size: The number of sequences in a batch.
        clip_norm: The greatest global norm of a gradient; None for no limit.
        clip_value: The greatest size of each number of a gradient; None for no limit.
        scaler: "per_key", "global" or "none": see `beam_rnn.data.scaling.SCALERS`. Targets are
            scaled where the output function has their unit: "identity", "quantiles", "gaussian".
        seed: Decides everything random: the same seed gives the same weights.
        dropout: The probabilities of dropout.
        class_weights: The weight of each class of `Columns(classes=...)`, or of each value of the
            one target; None for equal weights.
        validation: The share of the validation set: the last steps of each key, which are not
            learned from: see `beam_rnn.training.validation.SplitByTime`. The result is the model
            with the lowest loss on it.
        patience: Stop after this number of epochs, or of rounds if there are rounds, without a
            lower validation loss; None to run them all.
        plateau: Lower the learning rate when the loss, or the validation loss if there is one, no
            longer falls.
        kernel: "numpy", "fused" (needs the extra `fast`), or "auto" for the fused one where it is
            available.
        scaling: "standard", "min_max" or "robust": see `beam_rnn.data.scaling.SCALINGS`.
        bucket: The number of batches that are cut together from sequences sorted by length, so
            that those of a batch have similar lengths; 1 for random batches.
        vocabulary: Which symbols get an index of their own, for the fields of `Columns(symbols=)`
            whose vocabularies are not given.
        on_divergence: What to do when the loss, or a parameter, becomes non-finite: "error" to
            raise one, "keep" to return the model of the round before, or of the epoch before if
            there are no rounds.

    Raises:
        ConfigurationError: A value outside its range.
    """

    bptt: Bptt = field(default_factory=lambda: Bptt(steps=32))
    loss: str | None = None
    optimizer: Optimizer = field(default_factory=lambda: Adam(learning_rate=3e-3))
    epochs: int = 20
    batch_size: int = 32
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    scaler: str = "per_key"
    seed: int = 0
    dropout: Dropout = field(default_factory=Dropout)
    class_weights: Mapping[Any, float] | None = None
    validation: float = 0.0
    patience: int | None = None
    plateau: Plateau | None = None
    kernel: str = "auto"
    scaling: str = "standard"
    bucket: int = 1
    on_divergence: str = "error"
    vocabulary: Vocabulary = field(default_factory=Vocabulary)

    def __post_init__(self) -> None:
        if self.loss is not None:
            check_choice("loss", self.loss, LOSS_NAMES)
        choices = {
            "scaler": SCALERS,
            "scaling": SCALINGS,
            "kernel": KERNELS,
            "on_divergence": DIVERGENCE,
        }
        for name, of in choices.items():
            check_choice(name, getattr(self, name), of)
        for name, kind in (
            ("bptt", Bptt),
            ("dropout", Dropout),
            ("plateau", Plateau),
            ("vocabulary", Vocabulary),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind) and (name, value) != ("plateau", None):
                raise ConfigurationError(f"{name} must be a {kind.__name__}, got {value!r}")
        for name in ("epochs", "batch_size", "bucket"):
            check_whole(name, getattr(self, name))
        check_whole("seed", self.seed, least=0)
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
                raise ConfigurationError(f"{name} must be above 0 or None, got {limit!r}")
        check_optimizer("optimizer", self.optimizer)
        for label, weight in (self.class_weights or {}).items():
            check_number(f"class_weights[{label!r}]", weight)
        self._check_validation()

    def _check_validation(self) -> None:
        check_number("validation", self.validation, below=1)
        if self.patience is not None:
            check_whole("patience", self.patience)
        if self.patience is not None and self.validation == 0:
            raise ConfigurationError(
                f"patience={self.patience!r} needs a validation loss: give the share of a "
                "validation set, such as validation=0.2"
            )
        if self.plateau is not None and not hasattr(self.optimizer, "learning_rate"):
            raise ConfigurationError(f"plateau needs a learning_rate to lower in {self.optimizer}")

    def updates(self, lengths: SequenceOf[int]) -> int:
        """Return the number of updates in one epoch, which a schedule of the learning rate needs.

        It varies with the batches that are drawn: this is the number for one draw.

            >>> Training(bptt=Bptt(steps=10), batch_size=2).updates([25, 25, 25])
            6

        Args:
            lengths: The number of steps of each sequence.
        """
        batches = shuffled(lengths, self.batch_size, np.random.default_rng(0), self.bucket)
        longest = (max(lengths[i] for i in batch) for batch in batches)
        return sum(len(list(self.bptt.windows(length))) for length in longest)

    def settings(self, network: AnyNetwork) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {
            **vars(self),
            "loss": loss_name(network, self.loss),
            "bptt": asdict(self.bptt),
            "optimizer": repr(self.optimizer),
            "dropout": asdict(self.dropout),
            "vocabulary": asdict(self.vocabulary),
            "class_weights": self.class_weights
            and {str(label): weight for label, weight in self.class_weights.items()},
            "plateau": self.plateau and asdict(self.plateau),
        }


def check_optimizer(name: str, optimizer: Any) -> None:
    """Check that an argument is an optimiser.

    Raises:
        ConfigurationError: It is not.
    """
    if not all(callable(getattr(optimizer, method, None)) for method in ("init", "update")):
        raise ConfigurationError(f"{name} must be one such as Adam(1e-3), got {optimizer!r}")


@dataclass(frozen=True)
class Rounds:
    """The rounds of a training, and its shards.

    The sequences are distributed over shards. In each round every shard trains from the same
    parameters on its own sequences; then the parameters of the shards are averaged, weighted by
    the weights of their targets.

        >>> Rounds(shards=8, rounds=5, local_epochs=2).epochs(Training())
        10
        >>> Rounds(shards=8).rounds_of(Training(epochs=20))
        20

    Args:
        shards: The number of shards.
        rounds: The number of rounds; None for as many as give the epochs of the `Training`.
        local_epochs: The number of passes over its sequences that a shard makes in a round.
        outer: The outer optimiser, which takes the averaged change as a gradient (DiLoCo, Douillard
            2023): `Sgd(1.0, momentum=0.5, nesterov=True)`; None for the average itself.

    Raises:
        ConfigurationError: A number below 1, or an outer optimiser that is none.
    """

    shards: int = 1
    rounds: int | None = None
    local_epochs: int = 1
    outer: Optimizer | None = None

    def __post_init__(self) -> None:
        check_whole("shards", self.shards)
        check_whole("local_epochs", self.local_epochs)
        if self.rounds is not None:
            check_whole("rounds", self.rounds)
        if self.outer is not None:
            check_optimizer("outer", self.outer)

    def rounds_of(self, training: Training) -> int:
        """Return the number of rounds."""
        return self.rounds or max(1, training.epochs // self.local_epochs)

    def epochs(self, training: Training) -> int:
        """Return the number of passes over each sequence in all rounds."""
        return self.rounds_of(training) * self.local_epochs

    def settings(self, training: Training) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {
            "shards": self.shards,
            "rounds": self.rounds_of(training),
            "local_epochs": self.local_epochs,
            "outer": None if self.outer is None else repr(self.outer),
        }
