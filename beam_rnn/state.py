"""What is kept for a key <-> bytes; the only module that knows these formats.

Two kinds of bytes are stored in a running pipeline, and outlive it in savepoints:

- the hidden state of a key: version, model digest, step count, time of the last step, then
  the numbers of the state, raw float32, little-endian;
- a buffered record: version, time, sequence number, then its numbers, raw float64,
  little-endian. Time and sequence number are big-endian and never negative, so that the
  order of the bytes is the order of the records: by time, then sequence number, then value.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.errors import StateError

STATE_VERSION = 1
RECORD_VERSION = 1

_STATE_HEADER = struct.Struct("<B32sqq")
_RECORD_HEADER = struct.Struct(">BQQ")
_SEQUENCE_OFFSET = 1 << 63  # a signed number as one that is never negative


class KeyState(NamedTuple):
    """The hidden state of a key after its last step.

    Attributes:
        digest: The model that made it.
        steps: How many steps the sequence has had.
        time: The event time of the last one, in microseconds since 1970.
        values: (state_size,) float32.
    """

    digest: str
    steps: int
    time: int
    values: Array


def encode_state(state: KeyState) -> bytes:
    """The bytes of a key's state."""
    digest = bytes.fromhex(state.digest)
    header = _STATE_HEADER.pack(STATE_VERSION, digest, state.steps, state.time)
    return header + state.values.astype("<f4", copy=False).tobytes()


def decode_state(data: bytes, digest: str, size: int) -> KeyState:
    """The state of a key, made by the model with that digest.

    Args:
        data: From `encode_state`.
        digest: The model that will go on from it.
        size: The model's state_size.

    Raises:
        StateError: Another version, another model, or the wrong length.
    """
    if not data or data[0] != STATE_VERSION:
        raise StateError(
            f"stored state has format version {data[:1].hex() or None}, this beam_rnn reads "
            f"{STATE_VERSION}"
        )
    if len(data) != _STATE_HEADER.size + 4 * size:
        raise StateError(
            f"stored state has {len(data)} bytes, a state of {size} numbers has "
            f"{_STATE_HEADER.size + 4 * size}"
        )
    _, made_by, steps, time = _STATE_HEADER.unpack_from(data)
    if made_by.hex() != digest:
        raise StateError(
            f"stored state was made by the model {made_by.hex()}, the model here is {digest}: "
            "go on with the old weights, or start the job without its old state"
        )
    return KeyState(digest, steps, time, np.frombuffer(data, "<f4", offset=_STATE_HEADER.size))


def last_time(data: bytes) -> int:
    """The time of the last step, without decoding the rest."""
    return int(_STATE_HEADER.unpack_from(data)[3])


class BufferedRecord(NamedTuple):
    """A record that was checked, and waits for its turn.

    Attributes:
        time: Its event time in microseconds since 1970.
        sequence: Its sequence number, 0 if there is none.
        numbers: (n,) float64.
    """

    time: int
    sequence: int
    numbers: Array


def encode_record(time: int, sequence: int, numbers: Array) -> bytes:
    """The bytes of a record; sorted bytes are sorted records, equal ones duplicates."""
    header = _RECORD_HEADER.pack(RECORD_VERSION, time, sequence + _SEQUENCE_OFFSET)
    return header + numbers.astype("<f8", copy=False).tobytes()


def decode_record(data: bytes) -> BufferedRecord:
    """The inverse of `encode_record`.

    Raises:
        StateError: Another version.
    """
    if not data or data[0] != RECORD_VERSION:
        raise StateError(
            f"buffered record has format version {data[:1].hex() or None}, this beam_rnn reads "
            f"{RECORD_VERSION}"
        )
    _, time, sequence = _RECORD_HEADER.unpack_from(data)
    numbers = np.frombuffer(data, "<f8", offset=_RECORD_HEADER.size)
    return BufferedRecord(time, sequence - _SEQUENCE_OFFSET, numbers)


def decode_records(data: Sequence[bytes]) -> tuple[Array, Array]:
    """The times (n,) and numbers (n, numbers) of many records of the same width."""
    width = (len(data[0]) - _RECORD_HEADER.size) // 8
    layout = [("version", "u1"), ("time", ">u8"), ("sequence", ">u8"), ("numbers", "<f8", width)]
    rows = np.frombuffer(b"".join(data), np.dtype(layout))
    return rows["time"].astype(np.int64), rows["numbers"].reshape(len(data), width).copy()


def record_time(data: bytes) -> int:
    """The event time of an encoded record, without decoding the rest."""
    return int(_RECORD_HEADER.unpack_from(data)[1])


def first_numbers(data: bytes, n: int) -> bytes:
    """The encoded record with its first n numbers alone, as without its targets."""
    return data[: _RECORD_HEADER.size + 8 * n]
