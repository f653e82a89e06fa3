"""Learning-rate schedules: the rate of each update, counted from 0.

>>> rate = Warmup(steps=2, then=StepDecay(initial=0.1, every=3, factor=0.5))
>>> [round(rate(update), 3) for update in range(7)]
[0.05, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from beam_rnn.errors import ConfigurationError

Schedule = Callable[[int], float]
"""The learning rate of update 0, 1, 2, ..."""


def rate_at(schedule: "float | Schedule", update: int) -> float:
    """The rate of an update; a number is the same rate for all."""
    return schedule(update) if callable(schedule) else schedule


def check_rate(name: str, rate: object) -> None:
    """That it can be a learning rate.

    Raises:
        ConfigurationError: A number below 0 or not finite, or neither a number nor a schedule.
    """
    if callable(rate):
        return
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate < math.inf:
        raise ConfigurationError(
            f"{name} must be a number of at least 0 or a schedule, got {rate!r}"
        )


def _check_updates(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1, got {value!r}")


@dataclass(frozen=True)
class StepDecay:
    """initial, times `factor` after each `every` updates.

    Args:
        initial: The rate of update 0.
        every: How many updates have the same rate.
        factor: What the rate is multiplied by.
    """

    initial: float
    every: int
    factor: float = 0.5

    def __post_init__(self) -> None:
        check_rate("initial", self.initial)
        _check_updates("every", self.every)
        check_rate("factor", self.factor)

    def __call__(self, update: int) -> float:
        """The rate of an update."""
        return self.initial * self.factor ** (update // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `initial` down to `final` (Loshchilov and Hutter 2017).

    Args:
        initial: The rate of update 0.
        steps: The update that first has the rate `final`; all after it have it too.
        final: The last rate.
    """

    initial: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_rate("initial", self.initial)
        _check_updates("steps", self.steps)
        check_rate("final", self.final)

    def __call__(self, update: int) -> float:
        """The rate of an update."""
        done = min(update / self.steps, 1.0)
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Warmup:
    """A straight rise to the rate of another schedule, which then goes on.

    Args:
        steps: How many updates the rise takes: update t has (t + 1) / steps of the rate.
        then: The rate after it; a schedule is counted from the end of the rise.
    """

    steps: int
    then: "float | Schedule"

    def __post_init__(self) -> None:
        _check_updates("steps", self.steps)
        check_rate("then", self.then)

    def __call__(self, update: int) -> float:
        """The rate of an update."""
        if update < self.steps:
            return rate_at(self.then, 0) * (update + 1) / self.steps
        return rate_at(self.then, update - self.steps)
