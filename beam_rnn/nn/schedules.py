"""Learning-rate schedules: the rate of each update, counted from 0.

`Plateau` is different: it depends on the loss of each epoch, and so has a state.

>>> rate = Warmup(steps=2, then=StepDecay(initial=0.1, every=3, factor=0.5))
>>> [round(rate(update), 3) for update in range(7)]
[0.05, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from beam_rnn.core.checks import check_number, check_whole
from beam_rnn.core.errors import ConfigurationError

Schedule = Callable[[int], float]
"""The learning rate of update 0, 1, 2, ..."""


def rate_at(schedule: "float | Schedule", update: int) -> float:
    """Return the rate of an update; a number is a constant rate."""
    return schedule(update) if callable(schedule) else schedule


def check_rate(name: str, rate: object) -> None:
    """Raise if a value is not a learning rate.

    Raises:
        ConfigurationError: A number below 0 or not finite, or neither a number nor a schedule.
    """
    if callable(rate):
        return
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate < math.inf:
        raise ConfigurationError(
            f"{name} must be a number of at least 0 or a schedule, got {rate!r}"
        )


@dataclass(frozen=True)
class StepDecay:
    """Multiply the rate by `factor` every `every` updates.

    Args:
        initial: The rate of update 0.
        every: The number of updates with the same rate.
        factor: The factor.
    """

    initial: float
    every: int
    factor: float = 0.5

    def __post_init__(self) -> None:
        check_rate("initial", self.initial)
        check_whole("every", self.every)
        check_rate("factor", self.factor)

    def __call__(self, update: int) -> float:
        """Return the rate of an update."""
        return self.initial * self.factor ** (update // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from `initial` down to `final` (Loshchilov and Hutter 2017).

    Args:
        initial: The rate of update 0.
        steps: The number of updates until the rate is `final`; it stays there.
        final: The last rate.
    """

    initial: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_rate("initial", self.initial)
        check_whole("steps", self.steps)
        check_rate("final", self.final)

    def __call__(self, update: int) -> float:
        """Return the rate of an update."""
        done = min(update / self.steps, 1.0)
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Warmup:
    """A linear rise to the rate of another schedule, which follows.

    Args:
        steps: The number of updates of the rise: update t has (t + 1) / steps of the rate.
        then: The rate after the rise; a schedule starts at the end of the rise.
    """

    steps: int
    then: "float | Schedule"

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)
        check_rate("then", self.then)

    def __call__(self, update: int) -> float:
        """Return the rate of an update."""
        if update < self.steps:
            return rate_at(self.then, 0) * (update + 1) / self.steps
        return rate_at(self.then, update - self.steps)


@dataclass(frozen=True)
class Scaled:
    """Another schedule times a factor.

    Args:
        of: A rate, or a schedule.
        factor: The factor.
    """

    of: "float | Schedule"
    factor: float

    def __call__(self, update: int) -> float:
        """Return the rate of an update."""
        return rate_at(self.of, update) * self.factor


class Best(NamedTuple):
    """The lowest loss so far, and how many epochs ago it was.

    >>> best = Best()
    >>> for loss in (3.0, 2.0, 2.5):
    ...     best = best.after(loss)
    >>> best
    Best(loss=2.0, epochs_ago=1)
    """

    loss: float = math.inf
    epochs_ago: int = 0

    def after(self, loss: float) -> "Best":
        """Return the record after the loss of one more epoch."""
        return Best(loss, 0) if loss < self.loss else Best(self.loss, self.epochs_ago + 1)


@dataclass(frozen=True)
class Plateau:
    """Lower the rate when the loss no longer falls: a pair of `init` and `update`.

        >>> plateau = Plateau(patience=1, factor=0.5)
        >>> state = plateau.init()
        >>> for loss in (3.0, 2.0, 2.0, 2.0, 2.0):
        ...     state = plateau.update(loss, state)
        ...     print(state.factor)
        1.0
        1.0
        0.5
        0.25
        0.125

    Args:
        patience: The number of epochs without a lower loss after which the rate is lowered.
        factor: The factor.
        least: The minimum of the rate, as a share of the first rate.
    """

    patience: int = 5
    factor: float = 0.5
    least: float = 0.0

    def __post_init__(self) -> None:
        check_whole("patience", self.patience)
        for name in ("factor", "least"):
            check_number(name, getattr(self, name), below=1)

    def init(self) -> "PlateauState":
        """Return the state before the first epoch."""
        return PlateauState(Best(), 1.0)

    def update(self, loss: float, state: "PlateauState") -> "PlateauState":
        """Return the state after an epoch with that loss."""
        best = state.best.after(loss)
        if best.epochs_ago < self.patience:
            return PlateauState(best, state.factor)
        return PlateauState(Best(best.loss, 0), max(state.factor * self.factor, self.least))


class PlateauState(NamedTuple):
    """The state of `Plateau`: the lowest loss so far, and the current factor of the rate."""

    best: Best
    factor: float
