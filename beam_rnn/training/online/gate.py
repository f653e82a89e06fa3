"""A gate: when to predict with what was learned, and when with the model that it began with.

Of each step d is followed, the loss of the base model less that of what was learned. The choice is
the one of the two whose loss has been less of late. It is acted on only while there is evidence
that choosing so is better than the base model alone: what each choice saved, d or 0, is followed in
the mean, in standard errors, as Diebold and Mariano (1995) compare two forecasts.

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
    """Predict with what was learned while there is evidence that this is better.

    The losses of what was learned and of the base model are compared as decayed means. The lesser
    is the choice. It is acted on from when such choices have been better than the base model alone
    by more than `standard_errors`, until they have been worse in the mean. Both decays are those of
    as many steps as the farthest horizon has.

    Args:
        decay: How much the losses so far count for the choice when the next ones come.
        evidence_decay: How much what was saved so far counts. At 0.995 it is worth 399 values, and
            2 standard errors show a difference of a tenth of its deviation.
        standard_errors: How far above 0 its mean must be. 2 is exceeded by chance once in 44 times.
        patience: Begin anew from the base model when what was learned has been worse by as many
            standard errors for so many steps in a row; None for never.

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
    """What a gate goes by.

    Attributes:
        learned: Of d.
        choice: Of what the choices saved: d where it was what was learned, else 0.
        worse: For how many steps in a row there has been evidence that d is below 0.
        proven: 1 while there is evidence for the choices, else 0.
    """

    learned: Mean
    choice: Mean
    worse: int
    proven: int

    @property
    def chooses(self) -> bool:
        """Whether what was learned is the choice."""
        return self.learned.mean > 0

    @property
    def trusts(self) -> bool:
        """Whether what was learned is the choice, and the choice is acted on."""
        return self.chooses and bool(self.proven)


_NOTHING = Mean(0.0, 0.0, 0.0)
NO_EVIDENCE = Evidence(_NOTHING, _NOTHING, 0, 0)
"""Before the first difference."""


def following(gate: Gate, before: Evidence, d: float, chosen: object, horizon: int = 1) -> Evidence:
    """The evidence with that of one more step.

    Args:
        gate: The gate.
        before: The evidence so far.
        d: The loss of the base model less that of what was learned.
        chosen: Whether what was learned was the choice when the step was predicted.
        horizon: How many steps ahead the forecasts reach: the losses of as many steps have
            changes of the target in common, and so count as one.
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
    """How many values decayed ones are worth: W^2 / sum of w^2, where W is the sum of w.

    >>> round(effective(Mean(20.0, 0.0, 0.0), 0.95), 6)
    39.0
    """
    return values.weight * (1 + decay) / (2 - (1 - decay) * values.weight)


def deviate(values: Mean, n: float) -> float:
    """A mean of n values in standard errors, as a standard normal deviate.

    With n - 1 degrees of freedom of Student's t, by the formula of Wallace (1959): of few values
    the standard error is itself not known.
    """
    weight, mean, squares = values
    freedom = n - 1
    if freedom <= 0 or mean == 0:
        return 0.0
    square = mean * mean * weight / squares if squares > 0 else math.inf  # t^2 / (n - 1)
    size = math.sqrt(freedom * math.log1p(square))
    return math.copysign((8 * freedom + 1) / (8 * freedom + 3) * size, mean)
