"""A gate: when to predict with the learned model, and when with the base model.

For each step d is the loss of the base model minus that of the learned model. The choice is the
model with the lower recent loss. It is used only while there is evidence that these choices are
better than the base model alone: the mean of what each choice saved, d or 0, is measured in
standard errors, as Diebold and Mariano (1995) compare two forecasts.

>>> evidence = NO_EVIDENCE
>>> for d in (0.4, 0.5, 0.2, 0.4, 0.3):
...     evidence = following(Gate(), evidence, d, evidence.chooses)
...     print(f"{evidence.choice.mean:.2f}", evidence.trusts)
0.00 False
0.25 False
0.23 False
0.28 False
0.28 True
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from beam_rnn.core.checks import check_number, check_whole


@dataclass(frozen=True)
class Gate:
    """Predict with the learned model while there is evidence that it is better.

    The losses of the learned model and of the base model are compared as decayed means. The lower
    one is the choice. It is used once these choices have been better than the base model alone by
    more than `standard_errors`, until they are worse on average. Both decays apply to as many steps
    as the greatest horizon has.

    Args:
        decay: The decay of the mean losses that decide the choice.
        evidence_decay: The decay of the mean saving. At 0.995 it is worth 399 values, and 2
            standard errors detect a mean of a tenth of the standard deviation.
        standard_errors: How far above 0 the mean saving must be. 2 is exceeded by chance once in 44
            times.
        patience: Restart from the base model when the learned one has been worse by
            `standard_errors` for this number of steps in a row; None for never.

    Raises:
        ConfigurationError: A number outside its range.
    """

    decay: float = 0.95
    evidence_decay: float = 0.995
    standard_errors: float = 2.0
    patience: int | None = 200

    def __post_init__(self) -> None:
        check_number("decay", self.decay, below=1)
        check_number("evidence_decay", self.evidence_decay, below=1)
        check_number("standard_errors", self.standard_errors)
        if self.patience is not None:
            check_whole("patience", self.patience)


class Mean(NamedTuple):
    """A decayed mean.

    Attributes:
        weight: The sum of the weights of the values.
        mean: Their weighted mean.
        squares: The weighted sum of their squared deviations from it.
    """

    weight: float
    mean: float
    squares: float


class Evidence(NamedTuple):
    """What a gate decides by.

    Attributes:
        learned: The mean of d.
        choice: The mean of what the choices saved: d where it was the learned model, else 0.
        worse: The number of steps in a row with evidence that d is below 0.
        proven: 1 while there is evidence for the choices, else 0.
    """

    learned: Mean
    choice: Mean
    worse: int
    proven: int

    @property
    def chooses(self) -> bool:
        """Return True if the learned model is the choice."""
        return self.learned.mean > 0

    @property
    def trusts(self) -> bool:
        """Return True if the learned model is the choice, and the choice is used."""
        return self.chooses and bool(self.proven)


_NOTHING = Mean(0.0, 0.0, 0.0)
NO_EVIDENCE = Evidence(_NOTHING, _NOTHING, 0, 0)
"""The evidence before the first step."""


def following(gate: Gate, before: Evidence, d: float, chosen: object, horizon: int = 1) -> Evidence:
    """Return the evidence after one more step.

    Args:
        gate: The gate.
        before: The evidence so far.
        d: The loss of the base model minus that of the learned model.
        chosen: True if the learned model was the choice when the step was predicted.
        horizon: The greatest horizon: the losses of as many steps share changes of the target, and
            so count as one.
    """
    span = max(horizon, 1)
    decay, evidence_decay = gate.decay ** (1 / span), gate.evidence_decay ** (1 / span)
    learned = _with(before.learned, d, decay)
    choice = _with(before.choice, d if chosen else 0.0, evidence_decay)
    is_worse = deviate(learned, effective(learned, decay) / span) < -gate.standard_errors
    proven = choice.mean > 0
    if not before.proven:
        n = effective(choice, evidence_decay) / span
        proven = deviate(choice, n) > gate.standard_errors
    return Evidence(learned, choice, before.worse + 1 if is_worse else 0, int(proven))


def _with(before: Mean, value: float, decay: float) -> Mean:
    weight = decay * before.weight + 1
    delta = value - before.mean
    mean = before.mean + delta / weight
    return Mean(weight, mean, decay * before.squares + delta * (value - mean))


def effective(values: Mean, decay: float) -> float:
    """Return the effective number of decayed values: W^2 / sum of w^2, where W is the sum of w.

    >>> round(effective(Mean(20.0, 0.0, 0.0), 0.95), 6)
    39.0
    """
    return values.weight * (1 + decay) / (2 - (1 - decay) * values.weight)


def deviate(values: Mean, n: float) -> float:
    """Return a mean of n values in standard errors, as a standard normal deviate.

    From Student's t with n - 1 degrees of freedom, by the formula of Wallace (1959): with few
    values the standard error is itself uncertain.
    """
    weight, mean, squares = values
    freedom = n - 1
    if freedom <= 0 or mean == 0:
        return 0.0
    square = mean * mean * weight / squares if squares > 0 else math.inf  # t^2 / (n - 1)
    size = math.sqrt(freedom * math.log1p(square))
    return math.copysign((8 * freedom + 1) / (8 * freedom + 3) * size, mean)
