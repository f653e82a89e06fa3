"""When the state of a Beam window is removed, and which windows of a key were closed.

A window is closed at its end and the allowed lateness after it. Runners such as Flink and Dataflow
drop a record of a closed window before a stateful transform sees it. Those that run in this
process deliver it, with nothing left of the window's state: for them the keys are remembered here.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Any

from apache_beam.transforms.window import GlobalWindow

logger = logging.getLogger(__name__)

REMEMBERED_KEYS = 100_000
"""The number of keys whose closed windows are remembered, those closed last."""

_FORGET_STATE = {"PrismRunner", "SwitchingDirectRunner"}
"""Runners that remove the state of a window at its end, whatever its allowed lateness."""
_DELIVER = {*_FORGET_STATE, "BundleBasedDirectRunner"}
"""Runners that deliver records of closed windows."""

_NEVER = -(2**63)
_lock = threading.Lock()
_closed: dict[tuple[str, str], int] = {}  # by step and key, the one that was closed last at the end


@dataclass(frozen=True)
class Closing:
    """When windows are closed.

    Args:
        lateness: So many microseconds after their end.
        step: A name of the step that no other has, where closed windows are remembered; empty
            where they need not be.
    """

    lateness: int = 0
    step: str = ""

    def at(self, window: Any) -> int:
        """When a window is closed, in microseconds since 1970."""
        end = int(window.max_timestamp().micros)
        return end if isinstance(window, GlobalWindow) else end + self.lateness

    def close(self, key: str, window: Any) -> None:
        """Remember that a window of a key, and all before it, are closed."""
        if not self.step or isinstance(window, GlobalWindow):
            return
        with _lock:
            at = max(self.at(window), _closed.pop((self.step, key), _NEVER))
            _closed[self.step, key] = at
            if len(_closed) > REMEMBERED_KEYS:
                del _closed[next(iter(_closed))]

    def is_closed(self, key: str, window: Any) -> bool:
        """Return True if it is known that a window of a key was closed."""
        return bool(self.step) and self.at(window) <= _closed.get((self.step, key), _NEVER)


AT_THEIR_END = Closing()
"""Windows are closed at their end."""


def closing_on(runner: Any, lateness: int, wait: int, name: str, step: str) -> Closing:
    """When windows are closed on a runner.

    Args:
        runner: The runner.
        lateness: The allowed lateness of the windows, in microseconds.
        wait: How long the transform waits for a record, in microseconds.
        name: The transform, for the log.
        step: As for `Closing`.
    """
    kinds = {kind.__name__ for kind in type(runner).__mro__}
    if kinds & _FORGET_STATE and (lateness or wait):
        logger.warning(
            "%s: %s removes the state of a window at its end, so that neither wait=%g s nor the "
            "allowed lateness of %g s is kept there: records that come after the end are late. "
            "Flink, Dataflow and BundleBasedDirectRunner keep both",
            name,
            type(runner).__name__,
            wait / 1e6,
            lateness / 1e6,
        )
        lateness = 0
    return Closing(lateness, step if kinds & _DELIVER else "")
