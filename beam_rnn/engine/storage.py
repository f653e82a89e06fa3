"""What is stored of one key: the interface between `KeyEngine` and what keeps its bytes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from beam_rnn.engine.order import Order, Place
from beam_rnn.engine.waiting import Waiting


class Stood(NamedTuple):
    """The place that a key has reached, and the state of its stepper."""

    place: Place
    state: bytes


class Storage(Protocol):
    """What is stored of one key in one window, and its timer."""

    end: int
    """The end of the window, in microseconds since 1970."""
    closes_at: int
    """When the window is closed: with the allowed lateness."""

    def state(self) -> Stood | None:
        """Return the state; None before the first step."""

    def write(self, stood: Stood | None) -> None:
        """Replace the state."""

    def wait(self, records: Sequence[bytes], due_at: Sequence[int]) -> None:
        """Buffer records until they are due."""

    def waiting(
        self, order: Order, records: Sequence[bytes] = (), due_at: Sequence[int] = ()
    ) -> Waiting:
        """Return the buffered records, and new ones that are not stored yet."""

    def released(self, rest: Waiting) -> None:
        """Store the records that still wait after some were released."""

    def armed(self) -> int | None:
        """Return the time for which the timer is set."""

    def arm(self, at: int) -> None:
        """Set the timer."""

    def disarm(self) -> None:
        """Unset the timer."""
