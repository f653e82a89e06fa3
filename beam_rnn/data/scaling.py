"""Scaling of inputs and targets, fitted in training, stored with the model, inverted at output.

>>> columns = Columns(key="id", inputs=["x"], targets=["y"])
>>> values = {"a": (np.array([[1.0], [3.0]]), np.array([[10.0], [12.0]]))}
>>> scaler = Scaler.fit(values, columns)
>>> scaler.of("a").scale_inputs(np.array([[3.0]]))
array([[1.]])
>>> scaler.of("never seen").restore_targets(np.array([[0.5]]))
array([[11.5]])
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_choice
from beam_rnn.core.errors import TrainingError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.core.hashed_random import hashed
from beam_rnn.data.columns import Columns
from beam_rnn.data.output_parts import VALUE, Part, in_order, restored

SCALERS = ("per_key", "global", "none")
"""per_key: each key by its own statistics, unseen keys by those of all keys; global: every key by
the statistics of all keys; none: no scaling."""

SCALINGS = ("standard", "min_max", "robust")
"""standard: to mean 0 and standard deviation 1; min_max: to [0, 1]; robust: to median 0 and
interquartile range 1, which outliers do not affect. Quantiles of more than `SAMPLE` values are
those of a sample of that size."""


class Scaling(NamedTuple):
    """(value - center) / scale for each input and each target; float64.

    Each is (inputs,) or (targets,) for one key, or (rows, inputs) and (rows, targets) for rows of
    several keys.
    """

    inputs_center: Array
    inputs_scale: Array
    targets_center: Array
    targets_scale: Array

    def scale_inputs(self, inputs: Array) -> Array:
        """Return inputs (..., inputs), scaled."""
        return (inputs - self.inputs_center) / self.inputs_scale

    def scale_targets(self, targets: Array) -> Array:
        """Return targets (..., horizons * targets), scaled."""
        by_horizon = targets.reshape(*targets.shape[:-1], -1, self.targets_center.shape[-1])
        return ((by_horizon - self.targets_center) / self.targets_scale).reshape(targets.shape)

    def restore_targets(self, outputs: Array, parts: Sequence[Part] = VALUE) -> Array:
        """Return outputs in the units of the targets, quantiles sorted.

        The inverse of `scale_targets`.

        Args:
            outputs: (..., horizons * targets * parts).
            parts: The parts of one target, on the last axis.
        """
        targets = self.targets_center.shape[-1]
        by_part = outputs.reshape(*outputs.shape[:-1], -1, targets, len(parts))
        center = self.targets_center[..., np.newaxis, :, np.newaxis]
        scale = self.targets_scale[..., np.newaxis, :, np.newaxis]
        y = restored(by_part, center, scale, parts)
        return in_order(y.reshape(outputs.shape), parts)


CONSTANT = 1e-12
"""Maximum ratio of deviation to mean of a constant column: rounding errors."""
OUTLYING = 0.9
"""The share of a column's variance above which one value is an outlier."""
SAMPLE = 4096
"""Maximum size of the sample, drawn by a hash of places, from which quantiles are computed."""


class Statistics(NamedTuple):
    """Statistics of the values (n, columns) that are present, for a scaler; float64."""

    n: Array  # the count of each column
    mean: Array
    squares: Array  # the sum of squared deviations from the mean
    low: Array
    high: Array
    sample: Array  # (at most SAMPLE, columns)
    places: Array  # (at most SAMPLE,) uint64, increasing: the sample has the smallest hashes

    @staticmethod
    def of(values: Array, place: int = 0, *, sample: bool = False) -> "Statistics":
        """Return the statistics of values.

        Args:
            values: (n, columns), at least one row; NaN where a value is missing.
            place: The seed of the sample, from `place_of_key`.
            sample: Whether to keep a sample, for quantiles.
        """
        there = ~np.isnan(values)
        n = there.sum(0)
        mean = np.where(there, values, 0).sum(0) / n.clip(1)
        squares = np.where(there, (values - mean) ** 2, 0).sum(0)
        places = hashed(np.uint64(place), 0, len(values)) if sample else np.zeros(0, np.uint64)
        least = np.argsort(places, kind="stable")[:SAMPLE]
        kept = values[least] if sample else values[:0]
        low, high = np.where(there, values, np.inf).min(0), np.where(there, values, -np.inf).max(0)
        return Statistics(n, mean, squares, low, high, kept, places[least])

    def merge(self, other: "Statistics") -> "Statistics":
        """Return the statistics of both sets of values together (Chan, Golub and LeVeque 1979)."""
        n = (self.n + other.n).clip(1)
        delta = np.where(other.n > 0, other.mean - self.mean, 0)
        places = np.concatenate([self.places, other.places])
        least = np.argsort(places, kind="stable")[:SAMPLE]
        return Statistics(
            self.n + other.n,
            self.mean + delta * (other.n / n),
            self.squares + other.squares + delta**2 * (self.n * other.n / n),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            np.concatenate([self.sample, other.sample])[least],
            places[least],
        )

    def standard(self) -> tuple[Array, Array]:
        """Return the mean and the standard deviation."""
        return self.mean, np.sqrt(self.squares / self.n.clip(1))

    def min_max(self) -> tuple[Array, Array]:
        """Return the minimum and the range."""
        return self.low, self.high - self.low

    def robust(self) -> tuple[Array, Array]:
        """Return the median and the interquartile range."""
        rows = np.where(self.n > 0, self.sample, 0)
        first, median, third = np.nanquantile(rows, [0.25, 0.5, 0.75], axis=0)
        return median, third - first


@dataclass(frozen=True)
class Scaler:
    """The scaling of every key, and of keys that were not in the training data.

    Args:
        default: The scaling of all keys together.
        keys: The scaling of each key; empty if all share one.
    """

    default: Scaling
    keys: Mapping[str, Scaling]

    def of(self, key: str) -> Scaling:
        """Return the scaling of a key."""
        return self.keys.get(key, self.default)

    @staticmethod
    def identity(inputs: int, targets: int) -> "Scaler":
        """Return a scaler that changes nothing."""
        zero, one = np.zeros, np.ones
        return Scaler(Scaling(zero(inputs), one(inputs), zero(targets), one(targets)), {})

    @staticmethod
    def fit(
        values: Mapping[str, tuple[Array, Array]],
        columns: Columns,
        kind: str = "per_key",
        scaling: str = "standard",
        *,
        targets: bool = True,
    ) -> "Scaler":
        """Return a scaler fitted to values.

        Args:
            values: The inputs (n, inputs) and targets (n, targets) of each key.
            columns: The columns of the values.
            kind: One of `SCALERS`.
            scaling: One of `SCALINGS`.
            targets: Whether targets are scaled too; if not, they are unchanged.

        Raises:
            TrainingError: Numbers are so large that their variance is not finite.
        """
        sample = scaling == "robust"
        with default_arithmetic():  # overflow raises a TrainingError
            statistics = {
                key: (
                    Statistics.of(inputs, place_of_key(key), sample=sample),
                    Statistics.of(of_targets, place_of_key(key), sample=sample),
                )
                for key, (inputs, of_targets) in values.items()
            }
        return Scaler.of_statistics(statistics, columns, kind, scaling, targets=targets)

    @staticmethod
    @default_arithmetic()  # overflow raises a TrainingError
    def of_statistics(
        statistics: Mapping[str, tuple[Statistics, Statistics]],
        columns: Columns,
        kind: str = "per_key",
        scaling: str = "standard",
        *,
        targets: bool = True,
    ) -> "Scaler":
        """Return a scaler from statistics.

        A target that is also an input is scaled like that input. A column that is constant in a key
        has the center of that key and the scale of all keys together.

        Args:
            statistics: The statistics of the inputs and of the targets of each key.
            columns: The columns of the values.
            kind: One of `SCALERS`.
            scaling: One of `SCALINGS`.
            targets: Whether targets are scaled too; if not, they are unchanged.

        Raises:
            TrainingError: Numbers are so large that their variance is not finite, or every value of
                a column is missing.
        """
        check_choice("scaler", kind, SCALERS)
        check_choice("scaling", scaling, SCALINGS)
        if kind == "none":
            return Scaler.identity(columns.number_size, columns.target_size)
        keys = {}
        total: tuple[Statistics, Statistics] | None = None
        for key in sorted(statistics):
            each = statistics[key]
            keys[key] = _scaling(key, *each, columns, scaling, targets)
            total = each if total is None else (total[0].merge(each[0]), total[1].merge(each[1]))
        assert total is not None, "there is at least one key"
        for names, values in zip((columns.number_names, columns.target_names), total, strict=True):
            if not values.n.all():
                name = names[int(values.n.argmin())]
                raise TrainingError(
                    f"every value of {name!r} is missing: there is nothing to learn from it"
                )
        default = _with_a_scale(_scaling("all", *total, columns, scaling, targets))
        of_keys = columns.own_size
        for key, own in keys.items():
            inputs, of_targets = (each.n == 0 for each in statistics[key])
            inputs[of_keys:] = True  # static fields and the calendar are not scaled per key
            unknown = (
                inputs,
                inputs | (own.inputs_scale == 0),
                of_targets,
                of_targets | (own.targets_scale == 0),
            )
            for where, mine, of_all in zip(unknown, own, default, strict=True):
                mine[where] = of_all[where]
        alike = not of_keys and not targets  # nothing is scaled per key
        return Scaler(default, {} if alike or kind == "global" else keys)

    @staticmethod
    def outliers(
        statistics: Mapping[str, tuple[Statistics, Statistics]], columns: Columns
    ) -> list[str]:
        """Return a message for each outlier that would scale all other values to nearly 0.

        Args:
            statistics: As for `of_statistics`.
            columns: The columns of the values.
        """
        found = []
        for key, (inputs, _) in sorted(statistics.items()):
            with default_arithmetic():
                highest = inputs.high - inputs.mean >= inputs.mean - inputs.low
                far = np.where(highest, inputs.high, inputs.low)
                share = (far - inputs.mean) ** 2 / inputs.squares
            # A flag that is set once is not an outlier.
            odd = (share > OUTLYING) & (inputs.n >= 20) & (inputs.high - inputs.low > 1)
            found += [
                f"one value of {columns.number_names[i]!r} of key {key!r}, {far[i]:g}, makes up "
                f"{100 * share[i]:.1f} % of its variance"
                for i in np.flatnonzero(odd)
            ]
        return found

    def with_indices(self, fields: int) -> "Scaler":
        """Return the scaler for inputs followed by indices of symbols, which are not scaled."""

        def widened(scaling: Scaling) -> Scaling:
            return scaling._replace(
                inputs_center=np.append(scaling.inputs_center, np.zeros(fields)),
                inputs_scale=np.append(scaling.inputs_scale, np.ones(fields)),
            )

        keys = {key: widened(scaling) for key, scaling in self.keys.items()}
        return Scaler(widened(self.default), keys)

    def to_json(self) -> dict[str, Any]:
        """Return the scaler as JSON values, without rounding."""

        def numbers(scaling: Scaling) -> dict[str, list[float]]:
            return {name: value.tolist() for name, value in scaling._asdict().items()}

        return {
            "default": numbers(self.default),
            "keys": {key: numbers(scaling) for key, scaling in sorted(self.keys.items())},
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Scaler":
        """Return the scaler of JSON values, the inverse of `to_json`."""

        def scaling(numbers: Mapping[str, list[float]]) -> Scaling:
            return Scaling(**{name: np.array(value, float) for name, value in numbers.items()})

        keys = {key: scaling(numbers) for key, numbers in values["keys"].items()}
        return Scaler(scaling(values["default"]), keys)


def place_of_key(key: str) -> int:
    """Return a hash of 64 bits of a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")


def _scaling(
    key: str,
    inputs: Statistics,
    targets: Statistics,
    columns: Columns,
    scaling: str,
    scale_targets: bool,
) -> Scaling:
    of_inputs, of_targets = (
        _center_and_scale(key, names, statistics, scaling)
        for names, statistics in ((columns.number_names, inputs), (columns.target_names, targets))
    )
    fields = len(columns.scaled_names)
    of_inputs[0][fields:], of_inputs[1][fields:] = 0.0, 1.0  # the calendar, and indices
    if not scale_targets:
        return Scaling(*of_inputs, *map(np.full_like, of_targets, (0.0, 1.0)))
    for i, place in columns.targets_in_inputs():
        for target, value in zip(of_targets, of_inputs, strict=True):
            target[i] = value[place]
    return Scaling(*of_inputs, *of_targets)


def _center_and_scale(
    key: str, names: Sequence[str], statistics: Statistics, scaling: str
) -> tuple[Array, Array]:
    """Return the center and the scale of each column; the scale of a constant column is 0.

    If the quartiles are equal, the standard deviation is the scale.
    """
    center, deviation = statistics.standard()
    beyond = ~(np.isfinite(center) & np.isfinite(deviation))
    if beyond.any():
        raise TrainingError(
            f"the numbers of {names[int(beyond.argmax())]!r} of key {key!r} are too large to be "
            "scaled: is there a placeholder for missing values among them?"
        )
    constant = deviation <= CONSTANT * np.abs(center)
    if scaling != "standard":
        center, scale = getattr(statistics, scaling)()
        deviation = np.where(scale > 0, scale, deviation)
    return np.array(center), np.where(constant, 0.0, deviation)


def _with_a_scale(scaling: Scaling) -> Scaling:
    """Return the scaling with constant columns scaled by their level, or by 1 if it is 0."""

    def scale(center: Array, scale: Array) -> Array:
        return np.where(scale > 0, scale, np.where(center, np.abs(center), 1.0))

    return scaling._replace(
        inputs_scale=scale(scaling.inputs_center, scaling.inputs_scale),
        targets_scale=scale(scaling.targets_center, scaling.targets_scale),
    )
