"""State of a key <-> bytes; the only module that knows this format."""

import struct
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError

STATE_TYPE = np.dtype("<f4")
"""Type of a stored hidden state; steps compute in float32."""
NO_VALUES, NO_NUMBERS = np.zeros(0, STATE_TYPE), np.zeros(0)
"""Hidden state, and outputs or history, of a key between two sequences."""


class KeptRecords(NamedTuple):
    """Records that are kept in a state as its history, one row each."""

    time: Array
    sequence: Array
    numbers: Array


def encode_kept(kept: KeptRecords) -> Array:
    """Return records as a history: bits of time and sequence number, then the numbers."""
    places = np.stack([kept.time, kept.sequence], 1).astype(np.int64, copy=False)
    return np.concatenate([places.view(np.float64), kept.numbers], 1).ravel()


def decode_kept(history: Array, numbers: int) -> KeptRecords:
    """Return the records of a history.

    Args:
        history: The history, from `encode_kept`.
        numbers: The number of inputs of a record.

    Raises:
        StateError: The length of the history is not a multiple of a record's.
    """
    if history.size % (2 + numbers):
        raise StateError(
            f"stored state has a history of {history.size} numbers, which is not a whole number of "
            f"records of {numbers} inputs"
        )
    rows = history.reshape(-1, 2 + numbers)
    places = rows[:, :2].copy().view(np.int64)
    return KeptRecords(places[:, 0], places[:, 1], rows[:, 2:])


STATE_VERSION = 1
STORED_KERNELS = ("none", "numpy", "fused")  # the index is stored
_STATE_HEADER = struct.Struct("<BB32sqqqqII")


class KeyState(NamedTuple):
    """The hidden state of a key after its last step.

    Attributes:
        digest: The digest of the model that computed it.
        kernel: The kernel that computed it: "numpy" or "fused"; "none" if there was no step.
        steps: The number of steps of the sequence; 0 between two sequences, when only the time and
            the sequence number of the last step are known.
        first_time: The event time of the first step, in microseconds since 1970.
        time: The event time of the last step.
        sequence: The sequence number of the last step.
        values: (state_size,) of `STATE_TYPE`.
        outputs: (outputs,) float64, the outputs of the last step, in the units of the targets.
        history: (n,) float64, the last inputs, as recorded, one record after another.
    """

    digest: str
    kernel: str
    steps: int
    first_time: int
    time: int
    sequence: int
    values: Array
    outputs: Array
    history: Array


def encode_state(state: KeyState) -> bytes:
    """Return the bytes of a key's state."""
    header = _STATE_HEADER.pack(
        STATE_VERSION,
        STORED_KERNELS.index(state.kernel),
        bytes.fromhex(state.digest),
        state.steps,
        state.first_time,
        state.time,
        state.sequence,
        len(state.values),
        len(state.outputs),
    )
    numbers = np.concatenate([state.outputs, state.history])
    values = state.values.astype(STATE_TYPE, copy=False).tobytes()
    return header + values + numbers.astype("<f8", copy=False).tobytes()


def state_bytes(values: int, outputs: int, history: int = 0) -> int:
    """Return the length of `encode_state` for these counts of numbers.

    >>> state_bytes(values=64, outputs=1)
    338
    """
    return _STATE_HEADER.size + STATE_TYPE.itemsize * values + 8 * (outputs + history)


def decode_state(data: bytes) -> KeyState:
    """Return the state of a key from its bytes.

    Raises:
        StateError: The version, the kernel or the length is wrong.
    """
    version = data[:1].hex() or None
    if version != f"{STATE_VERSION:02x}":
        raise StateError(
            f"stored state has format version {version}, this beam_rnn reads {STATE_VERSION}"
        )
    if len(data) < _STATE_HEADER.size:
        raise StateError(
            f"stored state has {len(data)} bytes, its header alone has {_STATE_HEADER.size}"
        )
    _, kernel, digest, steps, first_time, time, sequence, values, outputs = (
        _STATE_HEADER.unpack_from(data)
    )
    if kernel >= len(STORED_KERNELS):
        raise StateError(
            f"stored state was computed by the kernel {kernel}, this beam_rnn knows "
            f"{len(STORED_KERNELS)}: read it with the version that wrote it, or a newer one"
        )
    size = state_bytes(values, outputs)
    if len(data) < size or (len(data) - size) % 8:
        raise StateError(
            f"stored state has {len(data)} bytes, a state of {values} numbers and {outputs} "
            f"outputs has {size}, and 8 more for each input in its history"
        )
    numbers = np.frombuffer(data, "<f8", offset=state_bytes(values, 0))
    return KeyState(
        digest.hex(),
        STORED_KERNELS[kernel],
        steps,
        first_time,
        time,
        sequence,
        np.frombuffer(data, STATE_TYPE, values, _STATE_HEADER.size),
        numbers[:outputs],
        numbers[outputs:],
    )


def last_step(data: bytes) -> tuple[int, int]:
    """Return the event time and sequence number of the last step, without decoding the rest.

    Raises:
        StateError: The bytes are truncated.
    """
    if len(data) < _STATE_HEADER.size:
        raise StateError(
            f"stored state has {len(data)} bytes, its header alone has {_STATE_HEADER.size}"
        )
    *_, time, sequence, _, _ = _STATE_HEADER.unpack_from(data)
    return time, sequence
