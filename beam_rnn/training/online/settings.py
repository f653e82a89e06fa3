"""The settings of online learning, and an untrained base model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beam_rnn.core.checks import check_choice, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.models.model import Model
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.losses import LOSS_NAMES
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Adam, Optimizer
from beam_rnn.training.online.gate import Gate
from beam_rnn.training.online.running_scaler import Running
from beam_rnn.training.sequence_examples import for_columns


@dataclass(frozen=True)
class Learning:
    """The settings of online learning.

        >>> Learning(bptt=Bptt(steps=24, stride=1, loss="last")).bptt.steps
        24

    Args:
        bptt: Which steps the gradient passes through; it needs `steps`, since a stream has no
            end. When a sequence ends, the rest of its last window is learned from.
        loss: As in `Training`.
        optimizer: The optimiser; it sees the parameters as one vector, "all".
        clip_norm: The greatest global norm of a gradient; None for no limit.
        clip_value: The greatest size of each number of a gradient; None for no limit.
        scaler: Running statistics to scale by; None for the base model's scaler, or for `Running()`
            if it has none.
        gate: When to predict with the learned model; None for always.

    Raises:
        ConfigurationError: A value outside its range.
    """

    bptt: Bptt = field(default_factory=lambda: Bptt(steps=32))
    loss: str | None = None
    optimizer: Optimizer = field(default_factory=Adam)
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    scaler: Running | None = None
    gate: Gate | None = field(default_factory=Gate)

    def __post_init__(self) -> None:
        for name, kind in (("bptt", Bptt), ("scaler", Running), ("gate", Gate)):
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "bptt"):
                raise ConfigurationError(f"{name} must be a {kind.__name__}, got {value!r}")
        if self.bptt.steps is None:
            raise ConfigurationError(
                "Bptt(steps=None) goes back to the start of the sequence, and a stream has no end: "
                "give a number of steps, such as Bptt(steps=32)"
            )
        if self.loss is not None:
            check_choice("loss", self.loss, LOSS_NAMES)
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
                raise ConfigurationError(f"{name} must be above 0 or None, got {limit!r}")
        if not all(callable(getattr(self.optimizer, name, None)) for name in ("init", "update")):
            raise ConfigurationError(
                f"optimizer must be one such as Adam(1e-3), got {self.optimizer!r}"
            )


@dataclass(frozen=True)
class Untrained:
    """A base model that has learned nothing yet.

    Its head is zero: its forecast is the last value if the network is residual, the running mean
    otherwise.

        >>> Untrained(Network("gru", hidden=4), Columns(key="id", inputs=["x"])).model().outputs
        1

    Args:
        network: The network; its horizons are taken from the columns, and whether it is residual
            if that is None, as in `Train`.
        columns: The fields of a record.
        seed: The same seed gives the same parameters.

    Raises:
        ConfigurationError: Network and columns do not fit each other.
    """

    network: Network
    columns: Columns
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("network", Network), ("columns", Columns)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigurationError(
                    f"{name} must be a {kind.__name__}, got {getattr(self, name)!r}"
                )
        check_whole("seed", self.seed, least=0)
        self.columns.check_nothing_missing("what is learned in the stream")
        self.columns.check_numbers_alone("what is learned in the stream")
        self.model()

    def model(self, kernel: str = "auto") -> Model:
        """Return the model, the same one each time."""
        network = for_columns(self.network, self.columns)
        outputs = network.horizons * self.columns.target_size * len(network.parts)
        parameters = network.initialize(self.columns.input_size, outputs, self.seed)
        parameters |= {
            name: np.zeros_like(value)
            for name, value in parameters.items()
            if name.startswith("head.")
        }
        return Model(network, parameters, self.columns, kernel=kernel)


def settings_of(learning: Learning, running: Running | None) -> Sequence[Any]:
    """Return the settings that stored state depends on.

    The learning rate, the loss and the clipping may change while a stream runs.
    """
    bptt = learning.bptt
    gated = learning.gate is not None
    kind = type(learning.optimizer).__name__
    return (bptt.steps, bptt.stride, bptt.loss, kind, gated, running and vars(running))
