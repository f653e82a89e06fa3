"""How often a long run writes a line to the log."""

import time


class Throttle:
    """Returns True at most once in a number of seconds.

        >>> throttle = Throttle(3600, at_once=True)
        >>> throttle.ready(), throttle.ready()
        (True, False)

    Args:
        seconds: The seconds between two lines.
        at_once: The first call is ready; else the first wait begins now.
    """

    def __init__(self, seconds: float, *, at_once: bool = False):
        self._seconds = seconds
        self._last = float("-inf") if at_once else time.monotonic()

    def ready(self) -> bool:
        """Return True if the seconds have passed since it last did."""
        now = time.monotonic()
        passed = now - self._last >= self._seconds
        if passed:
            self._last = now
        return passed
