"""A gate: the evidence that what was learned is better than the model it began with.

Of each step d is followed, the loss of the base model less that of what was learned, as Diebold
and Mariano (1995) compare two forecasts: the mean of d in standard errors. Both are decayed, so
that the evidence is of late.

>>> evidence = NO_EVIDENCE
>>> for d in (0.0, 0.5, 0.2, 0.4, 0.3):
...     evidence = following(Gate(), evidence, d)
>>> f"{evidence.mean:.2f}", evidence.trusted
('0.28', 1)
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from beam_rnn.checks import check_number, check_whole


@dataclass(frozen=True)
class Gate:
    """Predict with what was learned while there is evidence that it is better than the base model.

    It is trusted from when its loss has been less, in the mean, by more than `standard_errors`,
    until its loss is the greater.

    Args:
        decay: How much the evidence so far counts when that of the next step comes; with a far
            horizon, when that of as many steps comes.
        standard_errors: How far above 0 the mean of the differences must be. 2 is exceeded by
            chance once in 44 times.
        patience: Begin anew from the base model when the mean has been as far below 0 for so
            many steps in a row; None for never.

    Raises:
        ConfigurationError: A number outside its range.
    """

    decay: float = 0.95
    standard_errors: float = 2.0
    patience: int | None = 200

    def __post_init__(self) -> None:
        check_number("decay", self.decay, below=1)
        check_number("standard_errors", self.standard_errors)
        if self.patience is not None:
            check_whole("patience", self.patience)


class Evidence(NamedTuple):
    """What is known of the differences d.

    Attributes:
        weight: The sum of their weights.
        mean: Their weighted mean.
        squares: The weighted sum of their squared deviations from it.
        worse: For how many steps in a row there has been evidence that the base model is better.
        trusted: 1 while what was learned is trusted, else 0.
    """

    weight: float
    mean: float
    squares: float
    worse: int
    trusted: int


NO_EVIDENCE = Evidence(0.0, 0.0, 0.0, 0, 0)
"""Before the first difference."""


def following(gate: Gate, before: Evidence, d: float, horizon: int = 1) -> Evidence:
    """The evidence with that of one more step.

    Args:
        gate: The gate.
        before: The evidence so far.
        d: The loss of the base model less that of what was learned.
        horizon: How many steps ahead the forecasts reach: the losses of as many steps have
            changes of the target in common, and so count as one.
    """
    decay = gate.decay ** (1 / max(horizon, 1))
    weight = decay * before.weight + 1
    delta = d - before.mean
    mean = before.mean + delta / weight
    squares = decay * before.squares + delta * (d - mean)
    deviate = _deviate(weight, mean, squares, effective(weight, decay) / max(horizon, 1))
    worse = before.worse + 1 if deviate < -gate.standard_errors else 0
    trusted = mean > 0 if before.trusted else deviate > gate.standard_errors
    return Evidence(weight, mean, squares, worse, int(trusted))


def effective(weight: float, decay: float) -> float:
    """How many values the decayed ones are worth: W^2 / sum of w^2, where W is the sum of w.

    >>> effective(3.0, 1.0), round(effective(20.0, 0.95), 6)
    (3.0, 39.0)
    """
    return weight * (1 + decay) / (2 - (1 - decay) * weight)


def _deviate(weight: float, mean: float, squares: float, n: float) -> float:
    """The mean of n values in standard errors, as a standard normal deviate.

    With n - 1 degrees of freedom of Student's t, by the formula of Wallace (1959): of few values
    the standard error is itself not known.
    """
    freedom = n - 1
    if freedom <= 0 or mean == 0:
        return 0.0
    square = mean * mean * weight / squares if squares > 0 else math.inf  # t^2 / (n - 1)
    size = math.sqrt(freedom * math.log1p(square))
    return math.copysign((8 * freedom + 1) / (8 * freedom + 3) * size, mean)
