"""Rate limiting of log lines in a long run."""

import time


class Throttle:
    """A rate limit: `ready` returns True at most once per interval.

        >>> throttle = Throttle(3600, at_once=True)
        >>> throttle.ready(), throttle.ready()
        (True, False)

    Args:
        seconds: The interval.
        at_once: Whether the first call is ready; if not, the first interval starts now.
    """

    def __init__(self, seconds: float, *, at_once: bool = False):
        self._seconds = seconds
        self._last = float("-inf") if at_once else time.monotonic()

    def ready(self) -> bool:
        """Return True if the interval has passed since the last True."""
        now = time.monotonic()
        passed = now - self._last >= self._seconds
        if passed:
            self._last = now
        return passed
