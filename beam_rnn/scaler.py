"""Scaling of inputs and targets, fitted in training, stored with the model, inverted at output.

>>> columns = Columns(key="id", inputs=["x"], targets=["y"])
>>> values = {"a": (np.array([[1.0], [3.0]]), np.array([[10.0], [10.0]]))}
>>> scaler = Scaler.fit(values, columns)
>>> scaler.of("a").scale_inputs(np.array([[3.0]]))
array([[1.]])
>>> scaler.of("never seen").restore_targets(np.array([[0.5]]))
array([[10.5]])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.checks import check_choice
from beam_rnn.columns import Columns
from beam_rnn.errors import TrainingError

SCALERS = ("per_key", "global", "none")
"""per_key: each key by its own mean and standard deviation, and a key never seen by those
of all; global: every key by those of all; none: numbers as they are."""


class Scaling(NamedTuple):
    """(value - center) / scale for each input and each target; float64.

    Each is (inputs,) or (targets,), for numbers of one key; or (rows, inputs) and (rows, targets),
    for rows that have their own.
    """

    inputs_center: Array
    inputs_scale: Array
    targets_center: Array
    targets_scale: Array

    def scale_inputs(self, inputs: Array) -> Array:
        """Inputs (..., inputs) as the network sees them."""
        return (inputs - self.inputs_center) / self.inputs_scale

    def scale_targets(self, targets: Array) -> Array:
        """Targets (..., horizons * targets) as the network sees them."""
        by_horizon = targets.reshape(*targets.shape[:-1], -1, self.targets_center.shape[-1])
        return ((by_horizon - self.targets_center) / self.targets_scale).reshape(targets.shape)

    def restore_targets(self, outputs: Array, parts: Sequence[str] = ("value",)) -> Array:
        """Outputs in the targets' own units: the inverse of `scale_targets`.

        Args:
            outputs: (..., horizons * targets * parts).
            parts: What stands for one target, side by side. A "deviation" has a scale and no
                center.
        """
        targets = self.targets_center.shape[-1]
        by_part = outputs.reshape(*outputs.shape[:-1], -1, targets, len(parts))
        centered = np.array([part != "deviation" for part in parts])
        center = self.targets_center[..., np.newaxis, :, np.newaxis] * centered
        scale = self.targets_scale[..., np.newaxis, :, np.newaxis]
        return (by_part * scale + center).reshape(outputs.shape)


class _Sums(NamedTuple):
    n: int
    mean: Array
    squares: Array  # the sum of squared deviations from the mean

    @staticmethod
    def of(values: Array) -> "_Sums":
        mean = values.mean(0)
        return _Sums(len(values), mean, ((values - mean) ** 2).sum(0))

    def merge(self, other: "_Sums") -> "_Sums":
        """The sums of both sets of values together (Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.n / n)
        squares = self.squares + other.squares + delta**2 * (self.n * other.n / n)
        return _Sums(n, mean, squares)

    def center_and_scale(self) -> tuple[Array, Array]:
        """Mean and standard deviation; a column that never changes has the scale 1."""
        deviation = np.sqrt(self.squares / self.n)
        constant = deviation <= 1e-12 * np.abs(self.mean)
        return self.mean, np.where(constant, 1.0, deviation)


@dataclass(frozen=True)
class Scaler:
    """The scaling of every key, and of a key that training never saw.

    Args:
        default: The scaling of all keys together.
        keys: The scaling of each key; empty if all share one.
    """

    default: Scaling
    keys: Mapping[str, Scaling]

    def of(self, key: str) -> Scaling:
        """The scaling of a key."""
        return self.keys.get(key, self.default)

    @staticmethod
    def identity(inputs: int, targets: int) -> "Scaler":
        """Numbers as they are."""
        zero, one = np.zeros, np.ones
        return Scaler(Scaling(zero(inputs), one(inputs), zero(targets), one(targets)), {})

    @staticmethod
    @np.errstate(over="ignore", invalid="ignore")  # numbers too great are an error of their own
    def fit(
        values: Mapping[str, tuple[Array, Array]],
        columns: Columns,
        kind: str = "per_key",
        *,
        targets: bool = True,
    ) -> "Scaler":
        """Standard scaling to mean 0 and standard deviation 1.

        A target that is an input too is scaled as that input.

        Args:
            values: For each key its inputs (n, inputs) and targets (n, targets).
            columns: Their names.
            kind: One of `SCALERS`.
            targets: Whether targets are scaled too; if not, they stay as they are.

        Raises:
            TrainingError: Numbers so great that their variance is not finite.
        """
        check_choice("scaler", kind, SCALERS)
        if kind == "none":
            return Scaler.identity(len(columns.inputs), columns.target_size)
        total: tuple[_Sums, _Sums] | None = None
        keys = {}
        for key in sorted(values):
            sums = _Sums.of(values[key][0]), _Sums.of(values[key][1])
            keys[key] = _scaling(key, *sums, columns, targets)
            total = sums if total is None else (total[0].merge(sums[0]), total[1].merge(sums[1]))
        assert total is not None, "fit is called with at least one key"
        return Scaler(_scaling("all", *total, columns, targets), keys if kind == "per_key" else {})

    def to_json(self) -> dict[str, Any]:
        """The scaler as JSON values, exact."""

        def numbers(scaling: Scaling) -> dict[str, list[float]]:
            return {name: value.tolist() for name, value in scaling._asdict().items()}

        return {
            "default": numbers(self.default),
            "keys": {key: numbers(scaling) for key, scaling in sorted(self.keys.items())},
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Scaler":
        """The inverse of `to_json`."""

        def scaling(numbers: Mapping[str, list[float]]) -> Scaling:
            return Scaling(**{name: np.array(value, float) for name, value in numbers.items()})

        keys = {key: scaling(numbers) for key, numbers in values["keys"].items()}
        return Scaler(scaling(values["default"]), keys)


def _scaling(
    key: str, inputs: _Sums, targets: _Sums, columns: Columns, scale_targets: bool
) -> Scaling:
    input_stats, target_stats = inputs.center_and_scale(), targets.center_and_scale()
    for names, stats in ((columns.inputs, input_stats), (columns.target_names, target_stats)):
        beyond = ~(np.isfinite(stats[0]) & np.isfinite(stats[1]))
        if beyond.any():
            raise TrainingError(
                f"the numbers of {names[int(beyond.argmax())]!r} of key {key!r} are too great to "
                "be scaled: is there a mark for missing values among them?"
            )
    if not scale_targets:
        return Scaling(*input_stats, *map(np.full_like, target_stats, (0.0, 1.0)))
    for i, name in enumerate(columns.targets):
        if name in columns.inputs:
            for of_targets, of_inputs in zip(target_stats, input_stats, strict=True):
                of_targets[i] = of_inputs[columns.inputs.index(name)]
    return Scaling(*input_stats, *target_stats)
