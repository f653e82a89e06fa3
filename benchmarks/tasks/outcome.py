"""What came of a task: the figures of ours, and those beside which they stand."""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """The figures of one row.

    Attributes:
        measure: What the figures are.
        figures: Ours, one for each seed.
        goal: The figure to reach, by name: its value is that of `beside`.
        beside: What others reach, published or naive, by name.
        higher_is_better: Whether a greater figure is the better one, as with an accuracy.
        together: The figure of the mean forecast of all seeds; None where there is none.
        facts: What else there is to say.
    """

    measure: str
    figures: tuple[float, ...]
    goal: str
    beside: Mapping[str, float]
    higher_is_better: bool = False
    together: float | None = None
    facts: Mapping[str, Any] = {}

    @property
    def ours(self) -> float:
        """Our figure: of the mean forecast, or else the mean over the seeds."""
        return statistics.mean(self.figures) if self.together is None else self.together

    @property
    def reached(self) -> bool:
        """Whether ours is as good as the goal.

        >>> Outcome("error", (1.0, 3.0), "naive", {"naive": 2.0}).reached
        True
        >>> Outcome("accuracy", (1.0, 3.0), "naive", {"naive": 2.5}, True).reached
        False
        """
        goal = self.beside[self.goal]
        return self.ours >= goal if self.higher_is_better else self.ours <= goal
