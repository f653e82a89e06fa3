"""Scaling of the records of a stream, and of outputs back to the units of the targets."""

from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.output_parts import in_order, restored
from beam_rnn.data.scaling import Scaler, Scaling
from beam_rnn.models.model import Model
from beam_rnn.training.online.running_scaler import (
    Running,
    Statistics,
    center_and_scale,
    no_statistics,
    observed,
)


class Scaled(NamedTuple):
    """A record as the network sees it, and how its targets are scaled.

    Attributes:
        statistics: The statistics with this record.
        x: (inputs,) float32.
        offset: (horizons * targets,) float64: a target is offset + scale * z.
        scale: (horizons * targets,) float64.
        known: 1 if there is a deviation to scale by, and every value that is subtracted; else 0.
        value: (targets + weight,) float64, its own targets, as logarithms if `Running(log=True)`.
    """

    statistics: Statistics
    x: Array
    offset: Array
    scale: Array
    known: float
    value: Array


class Rescaling:
    """Scales by running statistics, or by the scaler of the base model.

    Args:
        base: The base model.
        running: The running statistics; None for the scaler of the base model, or for `Running()`
            if it has none.

    Raises:
        ConfigurationError: They do not fit each other.
    """

    def __init__(self, base: Model, running: Running | None):
        assert base.columns is not None, "a model without columns is refused when it is loaded"
        columns = base.columns
        self.running = Running() if running is None and base.scaler is None else running
        self._scaler = base.scaler
        self._horizons = columns.horizons
        self._inputs = columns.number_size
        self._targets = columns.target_size
        self._scales_targets = base.network.distribution.scaled
        self._parts = base.network.parts
        self._check(base)
        self._as_input = [
            (place, self._inputs + i)
            for i, place in columns.targets_in_inputs()
            if self._scales_targets
        ]

    def _check(self, base: Model) -> None:
        running = self.running
        if running is None or running.plain:
            return
        if not self._scales_targets:
            raise ConfigurationError(
                f"{running} is for targets that are numbers, got a network with "
                f"output={base.network.output!r}"
            )
        if running.log and not all(part.centered for part in self._parts):
            raise ConfigurationError(
                "Running(log=True) has no deviation in the unit of the targets: take "
                f"output='quantiles' instead of {base.network.output!r}"
            )
        if running.difference and self._horizons[0] == 0:
            raise ConfigurationError(
                f"{running} predicts changes from earlier values: it needs horizons of at least 1, "
                "got 0"
            )

    def nothing_known(self) -> Statistics:
        """Return the statistics before the first record."""
        return no_statistics(0 if self.running is None else self._inputs + self._targets)

    def scaled(self, statistics: Statistics, before: Array, key: str, numbers: Array) -> Scaled:
        """Scale a record.

        Args:
            statistics: The statistics before it.
            before: (records, targets + weight), the values of the records before it.
            key: Its key.
            numbers: Its inputs, targets and weight, as recorded.
        """
        inputs, value = numbers[: self._inputs], numbers[self._inputs :].copy()
        if self.running is None:
            return self._by_base(statistics, key, inputs, value)
        targets = value[: self._targets]  # a view
        if self.running.log:
            targets[:] = np.log(targets)
        now = np.concatenate([inputs, self._change(before, targets)])
        for of_input, of_target in self._as_input:
            now[of_input] = now[of_target]
        after = observed(statistics, now, self.running.decay)
        center, scale, varies = center_and_scale(after)
        x = (now[: self._inputs] - center[: self._inputs]) / scale[: self._inputs]
        x = np.where(np.isnan(now[: self._inputs]), 0.0, x)
        if self._horizons[0] == 0:  # the record's own targets are not known yet
            center, scale, varies = center_and_scale(statistics)
        center, scale, varies = (part[self._inputs :] for part in (center, scale, varies))
        if not self._scales_targets:
            return self._scaled(after, x, np.zeros_like(center), np.ones_like(scale), 1, value)
        if self.running.difference is None:
            return self._scaled(after, x, center, scale, varies.all(), value)
        offset, there = self._from_before(before, targets, center)
        return self._scaled(after, x, offset, scale, there and varies.all(), value)

    def _by_base(self, statistics: Statistics, key: str, inputs: Array, value: Array) -> Scaled:
        """Scale a record by the scaler of the base model."""
        assert self._scaler is not None, "without one the statistics are running"
        scaling = self._scaler.of(key)
        x = scaling.scale_inputs(inputs)
        return self._scaled(statistics, x, scaling.targets_center, scaling.targets_scale, 1, value)

    def _scaled(
        self,
        statistics: Statistics,
        x: Array,
        offset: Array,
        scale: Array,
        known: object,
        value: Array,
    ) -> Scaled:
        """Return the parts, with offset and scale for each horizon."""
        n = len(self._horizons) * self._targets
        return Scaled(
            statistics,
            x.astype(np.float32),
            _repeated(offset, n),
            _repeated(scale, n),
            float(bool(known)),
            value,
        )

    def _change(self, before: Array, targets: Array) -> Array:
        """Return the values of targets for the statistics; NaN if there is none to subtract."""
        assert self.running is not None, "of running statistics"
        back = self.running.difference
        if back is None:
            return targets
        if len(before) < back:
            return np.full(len(targets), np.nan)
        return targets - before[-back, : len(targets)]

    def _from_before(self, before: Array, targets: Array, center: Array) -> tuple[Array, bool]:
        """Return the value that each target changes from plus mean change; True if all exist."""
        assert self.running is not None, "of running statistics"
        assert self.running.difference is not None, "of differences"
        values = np.concatenate([before[:, : len(targets)], targets[np.newaxis]])
        offsets = []
        for horizon in self._horizons:
            back = self.running.steps_back(horizon)
            at = len(values) - 1 + horizon - back
            if at < 0:
                return np.tile(targets, len(self._horizons)), False
            offsets.append(values[at] + center * (back // self.running.difference))
        return np.concatenate(offsets), True

    def restored(self, y: Array, scaled: Scaled) -> Array:
        """Return outputs (outputs,) in the units of the targets: float64."""
        by_part = y.astype(np.float64).reshape(-1, len(self._parts))
        in_units = restored(
            by_part, scaled.offset[:, np.newaxis], scaled.scale[:, np.newaxis], self._parts
        )
        if self.running is not None and self.running.log:
            in_units = np.exp(in_units)
        return in_order(in_units.reshape(-1), self._parts)

    def scaler(self, statistics: Statistics) -> Scaler | None:
        """Return the statistics as the scaler of a model.

        Raises:
            ConfigurationError: As `check_can_be_stored`.
        """
        self.check_can_be_stored()
        if self.running is None:
            return self._scaler
        center, scale, _ = center_and_scale(statistics)
        n, targets = self._inputs, self._targets
        of_targets = center[n:], scale[n:]
        if not self._scales_targets:
            of_targets = np.zeros(targets), np.ones(targets)
        return Scaler(Scaling(center[:n], scale[:n], *of_targets), {})

    def check_can_be_stored(self) -> None:
        """Check that a weights file can hold the statistics.

        Raises:
            ConfigurationError: They are of logarithms or differences.
        """
        if self.running is not None:
            self.running.check_can_be_stored()

    def problem(self, numbers: Array) -> str | None:
        """Return why a record cannot be scaled; None if it can."""
        targets = numbers[self._inputs : self._inputs + self._targets]
        if self.running is not None and self.running.log and not (targets > 0).all():
            return "targets must be above 0 for Running(log=True)"
        return None


def _repeated(values: Array, n: int) -> Array:
    """Return the values repeated, n in all."""
    return values if len(values) == n else np.concatenate([values] * (n // len(values)))
