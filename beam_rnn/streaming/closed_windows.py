"""When the state of a Beam window is removed, and which windows of a key were closed.

A window is closed at its end and the allowed lateness after it. Runners such as Flink and Dataflow
drop a record of a closed window before a stateful transform sees it. Local runners deliver it,
although the window's state is gone: for them this module remembers what was closed.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Any

from apache_beam.transforms.external import ExternalTransform
from apache_beam.transforms.window import GlobalWindow

logger = logging.getLogger(__name__)

REMEMBERED_KEYS = 100_000
"""The number of keys whose closed windows are remembered, those closed last."""

_FORGET_STATE = {"PrismRunner", "SwitchingDirectRunner"}
"""Runners that remove the state of a window at its end, whatever its allowed lateness."""
_DELIVER = {*_FORGET_STATE, "BundleBasedDirectRunner"}
"""Runners that deliver records of closed windows."""

_NEVER = -(2**63)
_NO_EXPANSION = "external"
"""The namespace of transforms outside an expansion service, which sets that of its caller."""
_lock = threading.Lock()
_left: dict[tuple[str, str], int] = {}  # by step and key, when its last window is closed
_over: dict[str, int] = {}  # by step, when the last window was closed of those that were


@dataclass(frozen=True)
class Closing:
    """When windows are closed.

    Args:
        lateness: How long after their end, in microseconds.
        step: A unique name of the step, under which closed windows are remembered; empty
            to remember none.
    """

    lateness: int = 0
    step: str = ""

    def at(self, window: Any) -> int:
        """When a window is closed, in microseconds since 1970."""
        end = int(window.max_timestamp().micros)
        return end if isinstance(window, GlobalWindow) else end + self.lateness

    def remembers(self, window: Any) -> bool:
        """Return True if closed windows of that kind are remembered here."""
        return bool(self.step) and not isinstance(window, GlobalWindow)

    def leave(self, key: str, window: Any) -> None:
        """Remember that the state of a key was removed, with its window or before its end."""
        if not self.remembers(window):
            return
        with _lock:
            at = max(self.at(window), _left.pop((self.step, key), _NEVER))
            _left[self.step, key] = at
            if len(_left) > REMEMBERED_KEYS:
                del _left[next(iter(_left))]

    def close(self, window: Any) -> None:
        """Remember that a window, and all before it, are closed.

        A bundle that fails after that, and is tried again in this process, finds its window closed.
        Runners that deliver records of closed windows stop at a bundle that fails.
        """
        if self.remembers(window):
            with _lock:
                _over[self.step] = max(self.at(window), _over.get(self.step, _NEVER))

    def is_closed(self, key: str, window: Any) -> bool:
        """Return True if it is known that a window was closed in which, or after, a key was."""
        if not self.remembers(window):
            return False
        at = self.at(window)
        return at <= _left.get((self.step, key), _NEVER) and at <= _over.get(self.step, _NEVER)


AT_THEIR_END = Closing()
"""Windows are closed at their end."""


def closing_on(runner: Any, lateness: int, wait: int, name: str, step: str) -> Closing:
    """When windows are closed on a runner.

    Where an expansion service builds the transform for another SDK, the runner is not known: the
    windows are kept as Beam says, and the runner is trusted to drop what comes later.

    Args:
        runner: The runner of the pipeline that is built.
        lateness: The allowed lateness of the windows, in microseconds.
        wait: How long the transform waits for a record, in microseconds.
        name: The transform, for the log.
        step: As for `Closing`.
    """
    if ExternalTransform.get_local_namespace() != _NO_EXPANSION:
        return Closing(lateness)
    kinds = _kinds(runner)
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


def _kinds(runner: Any) -> set[str]:
    """The names of the classes of a runner; of an interactive one, those of what it runs on."""
    runner = getattr(runner, "_underlying_runner", runner)
    if getattr(runner, "_is_interactive", False):  # then a direct runner does not take Prism
        return {"BundleBasedDirectRunner"}
    return {kind.__name__ for kind in type(runner).__mro__}
