"""The result of a task: our figures and those of the peers."""

import statistics
from collections.abc import Mapping
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """The figures of one row.

    Attributes:
        measure: The name of the measure.
        figures: Ours, one for each seed.
        goal: The name of the figure to reach, a key of `beside`.
        beside: The published and naive figures by name.
        higher_is_better: True if a higher figure is better, as for an accuracy.
        together: The figure of the mean forecast of all seeds; None if there is none.
        facts: Further figures for the JSON file.
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
        """Our figure: that of the mean forecast, or else the mean over the seeds."""
        return statistics.mean(self.figures) if self.together is None else self.together

    @property
    def reached(self) -> bool:
        """True if our figure is at least as good as the goal.

        >>> Outcome("error", (1.0, 3.0), "naive", {"naive": 2.0}).reached
        True
        >>> Outcome("accuracy", (1.0, 3.0), "naive", {"naive": 2.5}, True).reached
        False
        """
        goal = self.beside[self.goal]
        return self.ours >= goal if self.higher_is_better else self.ours <= goal
