"""The bytes of what the rules of order keep: when a key was due, its timers, imported states."""

import struct
from typing import NamedTuple

from beam_rnn.core.errors import StateError
from beam_rnn.models.state_format import KeyState, encode_state

ARMED_VERSION = 2


TURN_VERSION = 2  # version 1: states without this header


_TURN = struct.Struct("<Bqq")


TURN_BYTES = _TURN.size
"""So many bytes stand before the state of a key."""


_ARMED = struct.Struct("<B8sqQQ")


ARMED_BYTES = _ARMED.size
"""The size of `encode_armed`."""


def with_turn(state: bytes, due: int, begun: int) -> bytes:
    """The state of a key with what the rules of order know of it beside its place.

    >>> turn_of(with_turn(b"state", due=1, begun=2))
    (1, 2, b'state')

    Args:
        state: The state of what steps its records.
        due: When its last record had its turn, in microseconds since 1970.
        begun: The event time from which its sequence numbers count.
    """
    return _TURN.pack(TURN_VERSION, due, begun) + state


def turn_of(data: bytes) -> tuple[int, int, bytes]:
    """The inverse of `with_turn`: due, begun, state.

    Raises:
        StateError: Another version.
    """
    if len(data) < TURN_BYTES or data[0] != TURN_VERSION:
        raise StateError(
            f"stored state has format version {data[:1].hex() or None}, this beam_rnn reads "
            f"{TURN_VERSION:02x}"
        )
    _, due, begun = _TURN.unpack_from(data)
    return due, begun, data[TURN_BYTES:]


class Armed(NamedTuple):
    """What is known of the buffered records of a key without reading them.

    Attributes:
        due: The time for which the timer is set, in microseconds since 1970.
        turns: The number of turns after which some records still waited.
        reached: All records that came before the last of those turns, and whose place is this or
            less, were taken: see `Waiting.reached`.
    """

    due: int
    turns: int = 0
    reached: int = 0


def encode_armed(armed: Armed, fingerprint: bytes) -> bytes:
    """The timer of a key, whose records were read by columns of that fingerprint."""
    return _ARMED.pack(ARMED_VERSION, fingerprint, *armed)


def decode_armed(data: bytes, fingerprint: bytes) -> Armed:
    """The inverse of `encode_armed`.

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
            f"records wait that were read by columns of fingerprint {read_by.hex()}, those of the "
            f"model here have {fingerprint.hex()}: start the job without its old state, or go on "
            "with a model of the same inputs"
        )
    return Armed(*armed)


_IMPORTED = b"\xff"  # no version of a record


def encode_imported(state: KeyState, begun: int) -> bytes:
    """A state that comes among the records, to start from.

    Args:
        state: The state.
        begun: The event time from which its sequence numbers count.
    """
    return _IMPORTED + with_turn(encode_state(state), begun, begun)


def imported(data: bytes) -> bytes | None:
    """What `turn_of` reads of a state that came among the records; None for a record."""
    return data[1:] if data[:1] == _IMPORTED else None
