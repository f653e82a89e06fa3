"""The training loop: epochs of truncated BPTT over sequences, without Beam."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.batches import Sequence, shuffled_batches
from beam_rnn.bptt import Bptt, Learner, learn
from beam_rnn.checks import check_choice, check_number, check_whole
from beam_rnn.dataset import Dataset, prepare
from beam_rnn.dropout import Dropout, draw
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.kernels import KERNELS, Kernel, kernel_name, kernel_of
from beam_rnn.model import Model
from beam_rnn.network import Network
from beam_rnn.objective import LOSS_NAMES, loss_name
from beam_rnn.optimizers import Adam, Optimizer, lowered
from beam_rnn.scaler import SCALERS
from beam_rnn.schedules import Best, Plateau
from beam_rnn.validation import validation_loss


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        bptt: Which steps the gradient passes through.
        loss: "mse", "mae", "huber", "quantile", "gaussian_nll", "binary_cross_entropy" or
            "cross_entropy", of scaled targets; None for the usual one of the network's output
            function: "mse" for forecasts.
        optimizer: How a gradient changes the parameters.
        epochs: How often the training passes over all sequences.
        batch_size: How many sequences stand side by side in a batch.
        clip_norm: The greatest global norm of a gradient; None for no limit.
        clip_value: The greatest size of each number of a gradient; None for no limit.
        scaler: "per_key", "global" or "none": see `beam_rnn.scaler.SCALERS`. Targets are scaled
            where the output function has their unit: "identity", "quantiles", "gaussian".
        seed: Decides everything random: the same seed gives the same weights.
        dropout: The probabilities with which units are left out.
        class_weights: How much each class counts: of `Columns(classes=...)`, or each value of
            the one target; None if all count alike.
        validation: The share of the steps, the last of each key in time, that is not learned
            from but judged by: see `beam_rnn.validation.hold_back`. The model with the least
            loss on them is the result.
        patience: Stop after so many epochs without a lower validation loss; None to run them
            all.
        plateau: Lower the learning rate when the loss, that of the validation if there is one,
            no longer falls.
        kernel: What computes: "numpy", "fused" (needs the extra `fast`), or "auto", the fused
            one where it can be had.

    Raises:
        ConfigurationError: A value outside its range.
    """

    bptt: Bptt = field(default_factory=lambda: Bptt(steps=32))
    loss: str | None = None
    optimizer: Optimizer = field(default_factory=Adam)
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

    def __post_init__(self) -> None:
        if self.loss is not None:
            check_choice("loss", self.loss, LOSS_NAMES)
        check_choice("scaler", self.scaler, SCALERS)
        check_choice("kernel", self.kernel, KERNELS)
        for name, kind in (("bptt", Bptt), ("dropout", Dropout), ("plateau", Plateau)):
            value = getattr(self, name)
            if not isinstance(value, kind) and (name, value) != ("plateau", None):
                raise ConfigurationError(f"{name} must be a {kind.__name__}, got {value!r}")
        check_whole("epochs", self.epochs)
        check_whole("batch_size", self.batch_size)
        check_whole("seed", self.seed, least=0)
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
                raise ConfigurationError(f"{name} must be above 0 or None, got {limit!r}")
        if not all(callable(getattr(self.optimizer, name, None)) for name in ("init", "update")):
            raise ConfigurationError(
                f"optimizer must be one such as Adam(1e-3), got {self.optimizer!r}"
            )
        for label, weight in (self.class_weights or {}).items():
            check_number(f"class_weights[{label!r}]", weight)
        self._check_validation()

    def _check_validation(self) -> None:
        check_number("validation", self.validation, below=1)
        if self.patience is not None:
            check_whole("patience", self.patience)
        if self.patience is not None and self.validation == 0:
            raise ConfigurationError(
                f"patience={self.patience!r} waits for a lower validation loss: give a share to "
                "validate on, such as validation=0.2"
            )
        if self.plateau is not None and not hasattr(self.optimizer, "learning_rate"):
            raise ConfigurationError(f"plateau needs a learning_rate to lower in {self.optimizer}")

    def settings(self, network: Network) -> dict[str, Any]:
        """What trained a network, as JSON values."""
        return {
            **vars(self),
            "loss": loss_name(network, self.loss),
            "bptt": asdict(self.bptt),
            "optimizer": repr(self.optimizer),
            "dropout": asdict(self.dropout),
            "class_weights": self.class_weights
            and {str(label): weight for label, weight in self.class_weights.items()},
            "plateau": self.plateau and asdict(self.plateau),
        }


class Epoch(NamedTuple):
    """How far the training is."""

    epoch: int  # 1 for the first
    epochs: int
    loss: float  # the mean over the epoch, of scaled targets
    validation_loss: float | None  # after the epoch; None if nothing is held back
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
        TrainingError: There is nothing to learn from, the sequences are of different columns,
            targets are not what the loss can compare with, or the loss is not finite.
        ConfigurationError: Network, training and columns do not go together.
    """
    data = prepare(
        network,
        sequences,
        loss=training.loss,
        scaler=training.scaler,
        class_weights=training.class_weights,
        validation=training.validation,
    )
    optimizer, plateau = training.optimizer, training.plateau
    parameters = data.network.initialize(data.inputs, data.outputs, training.seed, np.float32)
    kernel = kernel_of(kernel_name(data.network, np.float32, training.kernel))
    learner = Learner(parameters, optimizer.init(parameters))
    order, left_out = (np.random.default_rng([training.seed, stream]) for stream in (1, 2))
    rate = Plateau().init() if plateau is None else plateau.init()
    best, best_parameters = Best(), learner.parameters
    curve, validation_curve = [], []
    for number in range(1, training.epochs + 1):
        started = time.perf_counter()
        at_rate = optimizer if rate.factor == 1 else lowered(optimizer, rate.factor)
        learner, loss = _epoch(data, learner, training, kernel, at_rate, order, left_out)
        curve.append(loss)
        seconds = time.perf_counter() - started
        judged_by = loss
        if data.held_back:
            judged_by = validation_loss(
                data.network,
                learner.parameters,
                data.held_back,
                data.loss,
                training.batch_size,
                kernel,
            )
            validation_curve.append(judged_by)
        best = best.after(judged_by)
        if best.epochs_ago == 0 or not data.held_back:
            best_parameters = learner.parameters
        if plateau is not None:
            rate = plateau.update(judged_by, rate)
        validated = judged_by if data.held_back else None
        progress(Epoch(number, training.epochs, loss, validated, data.steps / seconds))
        if training.patience is not None and best.epochs_ago >= training.patience:
            break
    facts = {
        "settings": training.settings(data.network),
        "sequences": data.sequences,
        "records": data.steps,
        "loss_curve": curve,
        "kernel": kernel.name,
        "until": data.until,
    }
    if data.held_back:
        facts["validation_curve"] = validation_curve
    return Model(data.network, best_parameters, data.columns, data.scaler, facts, training.kernel)


def _epoch(
    data: Dataset,
    learner: Learner,
    training: Training,
    kernel: Kernel,
    optimizer: Optimizer,
    order: np.random.Generator,
    left_out: np.random.Generator,
) -> tuple[Learner, float]:
    """One pass over the batches, and the mean loss over all steps that have one."""
    total = weight = 0.0
    for batch in shuffled_batches(data.learned, training.batch_size, order):
        size = len(batch.lengths)
        learner, losses = learn(
            data.network,
            learner,
            batch,
            bptt=training.bptt,
            loss=data.loss,
            optimizer=optimizer,
            clip_norm=training.clip_norm,
            clip_value=training.clip_value,
            masks=draw(training.dropout, data.network, data.inputs, size, left_out, batch.x.dtype),
            kernel=kernel,
        )
        total += sum(window.loss * window.weight for window in losses)
        weight += sum(window.weight for window in losses)
    if weight == 0:
        raise TrainingError("there is nothing to learn from: every target has the weight 0")
    return learner, total / weight
