"""State of a key whose records are scored <-> bytes; the only module that knows this format.

The parts are, little-endian: version; the state of the predictor, without its version byte; float64
numbers: the prediction of each target for the next record, NaN for none, then the error statistics
of each target; the count of these numbers; the version byte of the predictor's state. So the last
step of a key is read in the same way as in `beam_rnn.records.record_format`.
"""

import struct
from typing import NamedTuple

import numpy as np

from beam_rnn.core.errors import StateError
from beam_rnn.models.error_tail import NO_ERRORS, Tail

SCORED_VERSION = 0x83  # differs from those of `Predict` and of learned models
_TRAILER = struct.Struct("<IB")
_EACH = 1 + len(Tail._fields)


class Scored(NamedTuple):
    """The state of a key.

    Attributes:
        state: The state of the predictor; None before its first step.
        predictions: (targets,), the prediction for the next record; empty for none.
        tails: The error statistics of each target.
    """

    state: bytes | None
    predictions: tuple[float, ...]
    tails: tuple[Tail, ...]


def nothing_scored(targets: int) -> Scored:
    """Return the state before the first record."""
    return Scored(None, (), (NO_ERRORS,) * targets)


def encode_scored(scored: Scored) -> bytes | None:
    """Return the bytes of a key's state; None before its first step.

    >>> state = nothing_scored(targets=1)._replace(state=b"any", predictions=(0.5,))
    >>> decode_scored(encode_scored(state), targets=1) == state
    True
    """
    state = scored.state
    if state is None:
        return None
    predictions = scored.predictions or (float("nan"),) * len(scored.tails)
    numbers = np.array([*predictions, *(number for tail in scored.tails for number in tail)])
    trailer = _TRAILER.pack(len(numbers), state[0])
    return b"".join([bytes([SCORED_VERSION]), state[1:], numbers.astype("<f8").tobytes(), trailer])


def decode_scored(data: bytes, targets: int) -> Scored:
    """Return the state of a key from its bytes.

    Args:
        data: The bytes.
        targets: The number of targets.

    Raises:
        StateError: The version, the length or the number of targets differs.
    """
    version = data[:1].hex() or None
    if version != f"{SCORED_VERSION:02x}":
        raise StateError(
            f"stored state of anomaly scores has format version {version}, this beam_rnn reads "
            f"{SCORED_VERSION:02x}"
        )
    size = 8 * targets * _EACH + _TRAILER.size
    count, inner = _TRAILER.unpack(data[-_TRAILER.size :]) if len(data) > size else (0, 0)
    if count != targets * _EACH:
        raise StateError(
            f"stored state of anomaly scores has {len(data)} bytes with {count} numbers of errors, "
            f"{targets} targets have {targets * _EACH}: start the job without its old state, or "
            "continue with a model of the same targets"
        )
    numbers = np.frombuffer(data[-size : -_TRAILER.size], "<f8").tolist()
    predictions, rest = tuple(numbers[:targets]), numbers[targets:]
    width = len(Tail._fields)
    return Scored(
        bytes([inner]) + data[1:-size],
        () if any(np.isnan(predictions)) else predictions,
        tuple(Tail(*rest[i : i + width]) for i in range(0, len(rest), width)),
    )
