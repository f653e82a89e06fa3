"""Buffered records of a key <-> bytes.

Records that came together are one piece: version, the length of a row, the number of releases
before they came, then of each record the time at which it is due, and the record as
`beam_rnn.records.record_format` has it.
"""

import struct
from collections.abc import Sequence

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.records.record_format import RECORD_VERSION, record_bytes

WAITING_VERSION = 2
_WAITING = struct.Struct("<BIQ")


def encode_waiting(due: Sequence[int], records: Sequence[bytes], releases: int = 0) -> bytes:
    """Return buffered records, of the same length, as one piece.

    Args:
        due: When each is due, in microseconds since 1970.
        records: The records, at least one.
        releases: The number of releases before they came.
    """
    rows = b"".join(
        [at.to_bytes(8, "big", signed=True) + r for at, r in zip(due, records, strict=True)]
    )
    return _WAITING.pack(WAITING_VERSION, 8 + len(records[0]), releases) + rows


def encode_waiting_rows(rows: Array, releases: int) -> bytes:
    """Return rows of `decode_waiting` as one piece, as `encode_waiting` does."""
    return _WAITING.pack(WAITING_VERSION, rows.dtype.itemsize, releases) + rows.tobytes()


_WAITING_FIXED = [("due", ">i8"), ("version", "u1"), ("time", ">u8"), ("sequence", ">u8")]


def decode_waiting(pieces: Sequence[bytes]) -> tuple[Array, Array]:
    """Return buffered records as a structured array with the fields due, time and sequence.

    Time and sequence are as stored, with the offset: good for comparisons only.

    Args:
        pieces: From `encode_waiting`, in any order; records of the same length.

    Returns:
        The records, and the number of releases before each.

    Raises:
        StateError: Another version, truncated bytes, or records of other lengths.
    """
    if not pieces:
        return np.zeros(0, _WAITING_FIXED), np.zeros(0, np.uint64)
    lengths, releases, counts = set(), [], []
    for piece in pieces:
        if len(piece) < _WAITING.size or piece[0] != WAITING_VERSION:
            raise StateError(
                f"buffered records have format version {piece[:1].hex() or None} and "
                f"{len(piece)} bytes, this beam_rnn reads version {WAITING_VERSION}"
            )
        _, length, before = _WAITING.unpack_from(piece)
        lengths.add(length)
        releases.append(before)
        counts.append((len(piece) - _WAITING.size) // max(length, 1))
    length, fixed = min(lengths), np.dtype(_WAITING_FIXED).itemsize
    rest = length - fixed
    data = b"".join([piece[_WAITING.size :] for piece in pieces])
    if len(lengths) > 1 or rest < 1 or rest % 8 != 1 or len(data) != sum(counts) * length:
        raise StateError(
            f"buffered records have {len(data)} bytes in {len(pieces)} pieces, which are no "
            f"records of {sorted(lengths)} bytes: the stored state is broken"
        )
    rows = np.frombuffer(data, np.dtype([*_WAITING_FIXED, ("rest", f"V{rest}")]))
    if (rows["version"] != RECORD_VERSION).any():
        raise StateError(
            f"buffered records have format versions {sorted(set(rows['version'].tolist()))}, "
            f"this beam_rnn reads {RECORD_VERSION}"
        )
    return rows, np.repeat(np.array(releases, np.uint64), counts)


def waiting_bytes(records: int, numbers: int) -> int:
    """Return the number of bytes of records that came together; 0 for none.

    >>> waiting_bytes(records=2, numbers=2) - waiting_bytes(records=1, numbers=2)
    42
    """
    return _WAITING.size + records * (8 + record_bytes(numbers)) if records else 0


def waiting_records(rows: Array) -> list[bytes]:
    """Return the records in rows of `decode_waiting`."""
    size, data = rows.dtype.itemsize, rows.tobytes()
    return [data[at + 8 : at + size] for at in range(0, len(data), size)]


def waiting_marks(rows: Array) -> Array:
    """Return the marks of the records in rows of `decode_waiting`: (records,)."""
    if "rest" not in (rows.dtype.names or ()):
        return np.zeros(0, np.uint8)
    rest = np.ascontiguousarray(rows["rest"])
    return rest.view("u1").reshape(len(rows), rest.dtype.itemsize)[:, 0]
