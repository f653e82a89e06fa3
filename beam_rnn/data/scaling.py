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
"""per_key: each key by its own numbers, and a key never seen by those
of all; global: every key by those of all; none: numbers as they are."""

SCALINGS = ("standard", "min_max", "robust")
"""standard: to mean 0 and standard deviation 1; min_max: from 0 to 1; robust: the median to 0, the
quartiles 1 apart, which outliers do not move. Quantiles of more than `SAMPLE` values are those of a
sample of so many."""


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

    def restore_targets(self, outputs: Array, parts: Sequence[Part] = VALUE) -> Array:
        """Return outputs in the targets' own units, quantiles sorted.

        The inverse of `scale_targets`.

        Args:
            outputs: (..., horizons * targets * parts).
            parts: The numbers that describe one target, side by side.
        """
        targets = self.targets_center.shape[-1]
        by_part = outputs.reshape(*outputs.shape[:-1], -1, targets, len(parts))
        center = self.targets_center[..., np.newaxis, :, np.newaxis]
        scale = self.targets_scale[..., np.newaxis, :, np.newaxis]
        y = restored(by_part, center, scale, parts)
        return in_order(y.reshape(outputs.shape), parts)


CONSTANT = 1e-12
"""A deviation of at most this share of the mean is due to rounding."""
OUTLYING = 0.9
"""The share of a column's variance above which one value is an outlier."""
SAMPLE = 4096
"""So many values, drawn by a hash of their places, stand for all where quantiles are wanted."""


class Statistics(NamedTuple):
    """What a scaler needs to know of values (n, columns), of those that are there; float64."""

    n: Array  # of each column
    mean: Array
    squares: Array  # the sum of squared deviations from the mean
    low: Array
    high: Array
    sample: Array  # (at most SAMPLE, columns)
    places: Array  # (at most SAMPLE,) uint64, rising: those of the sample are the least of all

    @staticmethod
    def of(values: Array, place: int = 0, *, sample: bool = False) -> "Statistics":
        """The statistics of values.

        Args:
            values: (n, columns), at least one; NaN where one is missing.
            place: 64 bits that say whose they are.
            sample: Whether quantiles are wanted.
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
        """The statistics of both sets of values together (Chan, Golub and LeVeque 1979)."""
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
        """Mean and standard deviation."""
        return self.mean, np.sqrt(self.squares / self.n.clip(1))

    def min_max(self) -> tuple[Array, Array]:
        """The least value, and how far the greatest is from it."""
        return self.low, self.high - self.low

    def robust(self) -> tuple[Array, Array]:
        """The median and the distance of the quartiles."""
        rows = np.where(self.n > 0, self.sample, 0)
        first, median, third = np.nanquantile(rows, [0.25, 0.5, 0.75], axis=0)
        return median, third - first


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
    def fit(
        values: Mapping[str, tuple[Array, Array]],
        columns: Columns,
        kind: str = "per_key",
        scaling: str = "standard",
        *,
        targets: bool = True,
    ) -> "Scaler":
        """The scaler of values.

        Args:
            values: For each key its inputs (n, inputs) and targets (n, targets).
            columns: Their names.
            kind: One of `SCALERS`.
            scaling: One of `SCALINGS`.
            targets: Whether targets are scaled too; if not, they stay as they are.

        Raises:
            TrainingError: Numbers so great that their variance is not finite.
        """
        sample = scaling == "robust"
        with default_arithmetic():  # too great is an error of its own
            statistics = {
                key: (
                    Statistics.of(inputs, place_of_key(key), sample=sample),
                    Statistics.of(of_targets, place_of_key(key), sample=sample),
                )
                for key, (inputs, of_targets) in values.items()
            }
        return Scaler.of_statistics(statistics, columns, kind, scaling, targets=targets)

    @staticmethod
    @default_arithmetic()  # numbers too great are an error of their own
    def of_statistics(
        statistics: Mapping[str, tuple[Statistics, Statistics]],
        columns: Columns,
        kind: str = "per_key",
        scaling: str = "standard",
        *,
        targets: bool = True,
    ) -> "Scaler":
        """The scaler of values whose statistics are known.

        A target that is an input too is scaled as that input. A column that never changes in a key
        has that key's own center, and the scale that it has in all keys together.

        Args:
            statistics: For each key those of its inputs and of its targets.
            columns: Their names.
            kind: One of `SCALERS`.
            scaling: One of `SCALINGS`.
            targets: Whether targets are scaled too; if not, they stay as they are.

        Raises:
            TrainingError: Numbers so great that their variance is not finite, or a column of which
                every value is missing.
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
            inputs[of_keys:] = True  # what is static, or of the calendar, is no key's own
            unknown = (
                inputs,
                inputs | (own.inputs_scale == 0),
                of_targets,
                of_targets | (own.targets_scale == 0),
            )
            for where, mine, of_all in zip(unknown, own, default, strict=True):
                mine[where] = of_all[where]
        alike = not of_keys and not targets  # nothing is scaled by a key's own numbers
        return Scaler(default, {} if alike or kind == "global" else keys)

    @staticmethod
    def outliers(
        statistics: Mapping[str, tuple[Statistics, Statistics]], columns: Columns
    ) -> list[str]:
        """Values beside which all others of their key would be scaled to nothing, in words.

        Args:
            statistics: As for `of_statistics`.
            columns: The names.
        """
        found = []
        for key, (inputs, _) in sorted(statistics.items()):
            with default_arithmetic():
                highest = inputs.high - inputs.mean >= inputs.mean - inputs.low
                far = np.where(highest, inputs.high, inputs.low)
                share = (far - inputs.mean) ** 2 / inputs.squares
            # A flag that is raised once is none: it is what it was meant to be.
            odd = (share > OUTLYING) & (inputs.n >= 20) & (inputs.high - inputs.low > 1)
            found += [
                f"one value of {columns.number_names[i]!r} of key {key!r}, {far[i]:g}, makes up "
                f"{100 * share[i]:.1f} % of its variance"
                for i in np.flatnonzero(odd)
            ]
        return found

    def with_indices(self, fields: int) -> "Scaler":
        """The same for inputs with the indices of symbols behind them, which stay as they are."""

        def widened(scaling: Scaling) -> Scaling:
            return scaling._replace(
                inputs_center=np.append(scaling.inputs_center, np.zeros(fields)),
                inputs_scale=np.append(scaling.inputs_scale, np.ones(fields)),
            )

        keys = {key: widened(scaling) for key, scaling in self.keys.items()}
        return Scaler(widened(self.default), keys)

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


def place_of_key(key: str) -> int:
    """64 bits of a hash of a key."""
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
    of_inputs[0][fields:], of_inputs[1][fields:] = 0.0, 1.0  # points on a circle, and indices
    if not scale_targets:
        return Scaling(*of_inputs, *map(np.full_like, of_targets, (0.0, 1.0)))
    for i, place in columns.targets_in_inputs():
        for target, value in zip(of_targets, of_inputs, strict=True):
            target[i] = value[place]
    return Scaling(*of_inputs, *of_targets)


def _center_and_scale(
    key: str, names: Sequence[str], statistics: Statistics, scaling: str
) -> tuple[Array, Array]:
    """What is subtracted, and what is divided by: 0 for a column that never changes.

    Where half of the values are one, the quartiles may be too: then the deviation is the scale.
    """
    center, deviation = statistics.standard()
    beyond = ~(np.isfinite(center) & np.isfinite(deviation))
    if beyond.any():
        raise TrainingError(
            f"the numbers of {names[int(beyond.argmax())]!r} of key {key!r} are too great to be "
            "scaled: is there a mark for missing values among them?"
        )
    constant = deviation <= CONSTANT * np.abs(center)
    if scaling != "standard":
        center, scale = getattr(statistics, scaling)()
        deviation = np.where(scale > 0, scale, deviation)
    return np.array(center), np.where(constant, 0.0, deviation)


def _with_a_scale(scaling: Scaling) -> Scaling:
    """The same, where a column that never changes is scaled by its level, or by 1 if that is 0."""

    def scale(center: Array, scale: Array) -> Array:
        return np.where(scale > 0, scale, np.where(center, np.abs(center), 1.0))

    return scaling._replace(
        inputs_scale=scale(scaling.inputs_center, scaling.inputs_scale),
        targets_scale=scale(scaling.targets_center, scaling.targets_scale),
    )
