"""What the rules of order store <-> bytes: a header of each state, a timer, imported states."""

import struct
from typing import NamedTuple

from beam_rnn.core.errors import StateError
from beam_rnn.models.state_format import KeyState, encode_state

ARMED_VERSION = 2


ORDER_HEADER_VERSION = 2  # version 1: states without this header


_TURN = struct.Struct("<Bqq")


ORDER_HEADER_BYTES = _TURN.size
"""The size of the header of a key's state."""


_ARMED = struct.Struct("<B8sqQQ")


ARMED_BYTES = _ARMED.size
"""The size of `encode_armed`."""


def with_order_header(state: bytes, due: int, begun: int) -> bytes:
    """Return the state of a key after a header: what the rules of order know besides its place.

    >>> order_header_of(with_order_header(b"state", due=1, begun=2))
    (1, 2, b'state')

    Args:
        state: The state of what steps its records.
        due: When its last record was due, in microseconds since 1970.
        begun: The event time from which its sequence numbers count.
    """
    return _TURN.pack(ORDER_HEADER_VERSION, due, begun) + state


def order_header_of(data: bytes) -> tuple[int, int, bytes]:
    """Return due, begun and state: the inverse of `with_order_header`.

    Raises:
        StateError: Another version.
    """
    if len(data) < ORDER_HEADER_BYTES or data[0] != ORDER_HEADER_VERSION:
        raise StateError(
            f"stored state has format version {data[:1].hex() or None}, this beam_rnn reads "
            f"{ORDER_HEADER_VERSION:02x}"
        )
    _, due, begun = _TURN.unpack_from(data)
    return due, begun, data[ORDER_HEADER_BYTES:]


class Armed(NamedTuple):
    """The timer of a key, and which of its buffered records were released already.

    Attributes:
        due: The time for which the timer is set, in microseconds since 1970.
        releases: The number of releases after which some records still waited.
        reached: All records that came before the last of those releases, and whose place is this
            or less, were released: see `Waiting.reached`.
    """

    due: int
    releases: int = 0
    reached: int = 0


def encode_armed(armed: Armed, fingerprint: bytes) -> bytes:
    """Return the timer of a key, whose records were read by columns of that fingerprint."""
    return _ARMED.pack(ARMED_VERSION, fingerprint, *armed)


def decode_armed(data: bytes, fingerprint: bytes) -> Armed:
    """Return the timer in bytes: the inverse of `encode_armed`.

    Raises:
        StateError: Another version, or records that were read by other columns.
    """
    if len(data) != _ARMED.size or data[0] != ARMED_VERSION:
        raise StateError(
            f"the stored time of a timer has format version {data[:1].hex() or None}, this "
            f"beam_rnn reads {ARMED_VERSION}"
        )
    _, read_by, *armed = _ARMED.unpack(data)
    if read_by != fingerprint:
        raise StateError(
            f"buffered records were read by columns of fingerprint {read_by.hex()}, those of the "
            f"model here have {fingerprint.hex()}: start the job without its old state, or "
            "continue with a model of the same inputs"
        )
    return Armed(*armed)


_IMPORTED = b"\xff"  # no version of a record


def encode_imported(state: KeyState, begun: int) -> bytes:
    """Return a state that comes among the records, to start from.

    Args:
        state: The state.
        begun: The event time from which its sequence numbers count.
    """
    return _IMPORTED + with_order_header(encode_state(state), begun, begun)


def imported(data: bytes) -> bytes | None:
    """Return what `order_header_of` reads of an imported state; None for a record."""
    return data[1:] if data[:1] == _IMPORTED else None
