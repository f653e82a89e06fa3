"""The state cells of one key in Beam, and its timer."""

from collections.abc import Sequence
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from beam_rnn.engine.order import Order, Place, due_at_closing
from beam_rnn.engine.order_format import (
    Armed,
    decode_armed,
    encode_armed,
    order_header_of,
    with_order_header,
)
from beam_rnn.engine.storage import Stood
from beam_rnn.engine.waiting import Waiting
from beam_rnn.models.state_format import last_step
from beam_rnn.records.waiting_format import encode_waiting


class Cells:
    """The state cells of one key and window, and its timer.

    Reading or clearing a cell can be a request to the runner: the state is read once, and an
    empty cell is not cleared. Buffered records are appended as they come. Released ones stay in the
    bag until they are half of it; `Armed.reached` says how far they go, so that a release does not
    rewrite the records that still wait.
    """

    def __init__(
        self, cells: Sequence[Any], due: Any, window: Any, closes_at: int, fingerprint: bytes
    ):
        self._state, self._waiting, self._armed = cells
        self._known: tuple[bytes | None] | None = None  # what is stored, if it was read
        self._read: tuple[Armed | None] | None = None  # so with the timer
        self._stored = 0  # records in `_waiting`, those that were taken too
        self._new: bytes | None = None  # a piece that is not there yet
        self._due = due
        self._fingerprint = fingerprint
        self.end = int(window.max_timestamp().micros)
        self.closes_at = closes_at

    def state(self) -> Stood | None:
        """The state of the key, and where it is; None before its first step."""
        if self._known is None:
            self._known = (next(iter(self._state.read()), None),)
        (data,) = self._known
        if data is None:
            return None
        due, begun, state = order_header_of(data)
        return Stood(Place(*last_step(state), due, begun), state)

    def write(self, stood: Stood | None) -> None:
        """Let this be the state."""
        known = self._known or (next(iter(self._state.read()), None),)
        data = None
        if stood is not None:
            data = with_order_header(stood.state, stood.place.due, stood.place.begun)
        self._known = (data,)
        if known == self._known:
            return
        if known[0] is not None:
            self._state.clear()
        if data is not None:
            self._state.add(data)

    def armed(self) -> int | None:
        """The time for which the timer is set."""
        armed = self._armed_as_it_is()
        return None if armed is None else armed.due

    def arm(self, at: int) -> None:
        """Set the timer, at the latest to the time when the window is closed."""
        at = min(at, due_at_closing(self.closes_at))
        self._write_armed((self._armed_as_it_is() or Armed(at))._replace(due=at))
        self._due.set(Timestamp(micros=at))

    def disarm(self) -> None:
        """Unset the timer."""
        if self._armed_as_it_is() is not None:
            self._read = (None,)
            self._armed.clear()
            self._due.clear()

    def clear(self) -> None:
        """Remove all."""
        self.write(None)
        if any(True for _ in self._waiting.read()):
            self._waiting.clear()
        self.disarm()

    def wait(self, records: Sequence[bytes], due_at: Sequence[int]) -> None:
        """Keep records until they are due."""
        self._waiting.add(self._piece(records, due_at))

    def waiting(
        self, order: Order, records: Sequence[bytes] = (), due_at: Sequence[int] = ()
    ) -> Waiting:
        """The buffered records, and new ones that are not stored yet."""
        pieces = list(self._waiting.read())
        self._new = None
        if records:
            self._new = self._piece(records, due_at)
            pieces.append(self._new)
        stood = self.state()
        place = None if stood is None else stood.place
        waiting = Waiting.read(order, pieces, self._armed_as_it_is(), place)
        self._stored = waiting.stored - len(records)
        return waiting

    def released(self, rest: Waiting) -> None:
        """Store the records that still wait after some were released."""
        if rest.reached is None:  # nothing was taken
            if self._new is not None:
                self._waiting.add(self._new)
            return
        armed = self._armed_as_it_is() or Armed(self.end)
        releases = armed.releases
        if 2 * len(rest) <= self._stored or not self._stored or rest.reached < armed.reached:
            left = rest.to_bytes(releases) if rest else None
            if self._stored:
                self._waiting.clear()
        else:
            releases += 1
            left = None if self._new is None else rest.left_of(self._new, releases)
            self._write_armed(Armed(armed.due, releases, rest.reached))
        if left is not None:
            self._waiting.add(left)

    def _piece(self, records: Sequence[bytes], due_at: Sequence[int]) -> bytes:
        """Records to buffer, due at the latest when the window is closed."""
        armed = self._armed_as_it_is()
        closing = due_at_closing(self.closes_at)
        due = [min(at, closing) for at in due_at]
        return encode_waiting(due, records, 0 if armed is None else armed.releases)

    def _armed_as_it_is(self) -> Armed | None:
        if self._read is None:
            data = self._armed.read()
            self._read = (None if data is None else decode_armed(data, self._fingerprint),)
        return self._read[0]

    def _write_armed(self, armed: Armed) -> None:
        self._read = (armed,)
        self._armed.write(encode_armed(armed, self._fingerprint))
