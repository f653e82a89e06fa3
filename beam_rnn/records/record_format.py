"""What is kept for a key <-> bytes; the only module that knows these formats.

Five kinds of bytes are stored in a running pipeline, and outlive it in savepoints:

- before the state of a key: version, when its last record had its turn, and the event time from
  which its sequence numbers count;
- the hidden state of a key: version, kernel, model digest, step count, the times of the first
  and the last step, the last sequence number, how many numbers and outputs there are, then the
  numbers of the state, raw float32, the last outputs and the last inputs that are kept to be
  replayed, raw float64; little-endian;
- a record: version, time, sequence number, marks, then its numbers, raw float64,
  little-endian. Time and sequence number are big-endian, and stored with an offset that makes
  them unsigned, so that the order of the bytes is the order of the records: by time, then
  sequence number, then marks (a start first, an end last), then the bytes of the numbers;
- a block of records of one key, on its way to its state: version, length of one record, whether
  the times at which they arrived follow, the records, those times;
- records that wait, those that came together: version, the length of one, how many turns there
  were before they came, then of each the time when it is due, and the record. Beside them: version,
  fingerprint of the columns that they were read by, the time for which the timer is set, how many
  turns there were, and the place up to which records that came before the last of them were taken.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError

BLOCK_VERSION = 2
RECORD_VERSION = 3  # differs from that of a block: the first byte tells them apart
WAITING_VERSION = 2

_RECORD_HEADER = struct.Struct(">BQQB")
_MARKS_AT = _RECORD_HEADER.size - 1
_WAITING = struct.Struct("<BIQ")
_LENGTH = struct.Struct("<I")
_BLOCK_HEADER = struct.Struct("<BI?")
_OFFSET = 1 << 63  # added to a signed number, it gives an unsigned one of the same order


class BufferedRecord(NamedTuple):
    """A record that was checked.

    Attributes:
        time: Its event time in microseconds since 1970.
        sequence: Its sequence number, 0 if there is none.
        starts: Whether a sequence begins with it.
        ends: Whether a sequence ends with it.
        numbers: (n,) float64.
    """

    time: int
    sequence: int
    starts: bool
    ends: bool
    numbers: Array


def encode_record(
    time: int, sequence: int, numbers: Array, *, starts: bool = False, ends: bool = False
) -> bytes:
    """The bytes of a record; sorted bytes are sorted records, equal ones duplicates."""
    marks = (not starts) + 2 * ends
    header = _RECORD_HEADER.pack(RECORD_VERSION, time + _OFFSET, sequence + _OFFSET, marks)
    return header + numbers.astype("<f8", copy=False).tobytes()


def encode_records(
    time: Array, sequence: Array, numbers: Array, *, starts: Array, ends: Array
) -> list[bytes]:
    """`encode_record` of many: (n,) each, numbers (n, numbers)."""
    rows = np.empty(len(time), _record_layout(numbers.shape[1]))
    rows["version"] = RECORD_VERSION
    rows["time"] = _unsigned(time)
    rows["sequence"] = _unsigned(sequence)
    rows["marks"] = ~starts + 2 * ends
    rows["numbers"] = numbers
    size, data = rows.dtype.itemsize, rows.tobytes()
    return [data[at : at + size] for at in range(0, len(data), size)]


def _unsigned(numbers: Array) -> Array:
    return numbers.view(np.uint64) ^ np.uint64(_OFFSET)


def _signed(numbers: Array) -> Array:
    return (numbers.astype(np.uint64) ^ np.uint64(_OFFSET)).view(np.int64)


def _record_layout(numbers: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("version", "u1"),
            ("time", ">u8"),
            ("sequence", ">u8"),
            ("marks", "u1"),
            ("numbers", "<f8", (numbers,)),
        ]
    )


def decode_record(data: bytes) -> BufferedRecord:
    """The inverse of `encode_record`.

    Raises:
        StateError: Another version, or bytes that are cut.
    """
    _check_version(data)
    _, time, sequence, marks = _RECORD_HEADER.unpack_from(data)
    numbers = np.frombuffer(data, "<f8", offset=_RECORD_HEADER.size)
    return BufferedRecord(time - _OFFSET, sequence - _OFFSET, not marks & 1, marks >= 2, numbers)


def _check_version(data: bytes) -> None:
    if data[:1] != bytes([RECORD_VERSION]):
        raise StateError(
            f"buffered record has format version {data[:1].hex() or None}, this beam_rnn reads "
            f"{RECORD_VERSION}"
        )
    if len(data) < _RECORD_HEADER.size or (len(data) - _RECORD_HEADER.size) % 8:
        raise StateError(f"buffered record is cut or altered: it has {len(data)} bytes")


class DecodedRecords(NamedTuple):
    """Many records of the same width: `BufferedRecord`, a row each."""

    time: Array
    sequence: Array
    starts: Array
    ends: Array
    numbers: Array


def decode_records(data: Sequence[bytes]) -> DecodedRecords:
    """Many records of the same width at once; at least one.

    Raises:
        StateError: The first is of another version.
    """
    _check_version(data[0])
    width = (len(data[0]) - _RECORD_HEADER.size) // 8
    rows = np.frombuffer(b"".join(data), _record_layout(width))
    marks = rows["marks"]
    return DecodedRecords(
        _signed(rows["time"]),
        _signed(rows["sequence"]),
        marks & 1 == 0,
        marks >= 2,
        rows["numbers"].copy(),
    )


def encode_block(records: Sequence[bytes], arrived: Sequence[int] | None = None) -> bytes:
    """Records of one key as one piece; a single one is itself.

    Args:
        records: From `encode_record`, at least one, all of the same length.
        arrived: The Beam timestamp of each, in microseconds; None if all have that of the block.
    """
    if len(records) == 1:
        return records[0]
    header = _BLOCK_HEADER.pack(BLOCK_VERSION, len(records[0]), arrived is not None)
    times = b"" if arrived is None else np.array(arrived, "<i8").tobytes()
    return b"".join([header, *records, times])


def decode_block(data: bytes, arrived: int) -> tuple[list[bytes], list[int]]:
    """The inverse of `encode_block`: the records, and when each arrived.

    Args:
        data: A block, or a record.
        arrived: When the block did.

    Raises:
        StateError: Another version, or bytes that are cut.
    """
    if data[:1] != bytes([BLOCK_VERSION]):
        if len(data) < _RECORD_HEADER.size or data[0] != RECORD_VERSION:
            raise StateError(
                f"records of a key have format version {data[:1].hex() or None} and {len(data)} "
                f"bytes, this beam_rnn reads {RECORD_VERSION} and {BLOCK_VERSION}"
            )
        return [data], [arrived]
    start, length, timed = _BLOCK_HEADER.size, 0, False
    if len(data) > start:
        _, length, timed = _BLOCK_HEADER.unpack_from(data)
    if length < _RECORD_HEADER.size or (len(data) - start) % (length + 8 * timed):
        raise StateError(
            f"block of records of a key is cut or altered: it has {len(data)} bytes for records of "
            f"{length}"
        )
    count = (len(data) - start) // (length + 8 * timed)
    end = start + count * length
    records = [data[at : at + length] for at in range(start, end, length)]
    if not timed:
        return records, [arrived] * count
    return records, np.frombuffer(data, "<i8", count, end).tolist()


def with_texts(record: bytes, texts: Sequence[str]) -> bytes:
    """An encoded record with texts behind it, on its way to where a vocabulary is made of them.

    >>> without_texts(with_texts(b"record", ["a", "word"]))
    (b'record', ['a', 'word'])
    """
    encoded = [text.encode() for text in texts]
    behind = b"".join(_LENGTH.pack(len(text)) + text for text in encoded)
    return record + behind + _LENGTH.pack(len(behind))


def without_texts(data: bytes) -> tuple[bytes, list[str]]:
    """The inverse of `with_texts`."""
    (size,) = _LENGTH.unpack_from(data, len(data) - _LENGTH.size)
    at = end = len(data) - _LENGTH.size - size
    texts = []
    while at < len(data) - _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        texts.append(data[at - length : at].decode())
    return data[:end], texts


def record_marks(data: bytes) -> tuple[bool, bool]:
    """Whether a sequence begins with an encoded record, and whether one ends with it."""
    marks = _RECORD_HEADER.unpack_from(data)[3]
    return not marks & 1, marks >= 2


def record_time(data: bytes) -> int:
    """The event time of an encoded record, without decoding the rest."""
    return int(_RECORD_HEADER.unpack_from(data)[1]) - _OFFSET


def record_place(data: bytes) -> bytes:
    """What an encoded record begins with that is equal for records of one time and number."""
    return data[:_MARKS_AT]


def first_numbers(data: bytes, n: int) -> bytes:
    """The encoded record with its first n numbers alone, as without its targets."""
    return data[: _RECORD_HEADER.size + 8 * n]


def record_sequence(data: bytes) -> int:
    """The sequence number of an encoded record, without decoding the rest."""
    return int(_RECORD_HEADER.unpack_from(data)[2]) - _OFFSET


def encode_waiting(due: Sequence[int], records: Sequence[bytes], turns: int = 0) -> bytes:
    """Records that wait, of the same length.

    Args:
        due: When each is due, in microseconds since 1970.
        records: The records, at least one.
        turns: How many turns there were before they came.
    """
    rows = b"".join(
        [at.to_bytes(8, "big", signed=True) + r for at, r in zip(due, records, strict=True)]
    )
    return _WAITING.pack(WAITING_VERSION, 8 + len(records[0]), turns) + rows


def encode_waiting_rows(rows: Array, turns: int) -> bytes:
    """Rows of `decode_waiting` as one piece: what `encode_waiting` gives."""
    return _WAITING.pack(WAITING_VERSION, rows.dtype.itemsize, turns) + rows.tobytes()


_WAITING_FIXED = [("due", ">i8"), ("version", "u1"), ("time", ">u8"), ("sequence", ">u8")]


def decode_waiting(pieces: Sequence[bytes]) -> tuple[Array, Array]:
    """Records that wait, as a structured array with the fields due, time and sequence.

    Time and sequence are as stored, with the offset: they say the order alone.

    Args:
        pieces: From `encode_waiting`, in any order; records of the same length.

    Returns:
        The records, and the turns before each.

    Raises:
        StateError: Another version, bytes that are cut, or records of other lengths.
    """
    if not pieces:
        return np.zeros(0, _WAITING_FIXED), np.zeros(0, np.uint64)
    lengths, turns, counts = set(), [], []
    for piece in pieces:
        if len(piece) < _WAITING.size or piece[0] != WAITING_VERSION:
            raise StateError(
                f"records that wait have format version {piece[:1].hex() or None} and "
                f"{len(piece)} bytes, this beam_rnn reads version {WAITING_VERSION}"
            )
        _, length, before = _WAITING.unpack_from(piece)
        lengths.add(length)
        turns.append(before)
        counts.append((len(piece) - _WAITING.size) // max(length, 1))
    length, fixed = min(lengths), np.dtype(_WAITING_FIXED).itemsize
    rest = length - fixed
    data = b"".join([piece[_WAITING.size :] for piece in pieces])
    if len(lengths) > 1 or rest < 1 or rest % 8 != 1 or len(data) != sum(counts) * length:
        raise StateError(
            f"records that wait have {len(data)} bytes in {len(pieces)} pieces, which are no "
            f"records of {sorted(lengths)} bytes: the stored state is broken"
        )
    rows = np.frombuffer(data, np.dtype([*_WAITING_FIXED, ("rest", f"V{rest}")]))
    if (rows["version"] != RECORD_VERSION).any():
        raise StateError(
            f"records that wait have format versions {sorted(set(rows['version'].tolist()))}, "
            f"this beam_rnn reads {RECORD_VERSION}"
        )
    return rows, np.repeat(np.array(turns, np.uint64), counts)


def waiting_bytes(records: int, numbers: int) -> int:
    """How many bytes `encode_waiting` gives for records of so many numbers; 0 for none.

    >>> waiting_bytes(records=2, numbers=2) - waiting_bytes(records=1, numbers=2)
    42
    """
    each = 8 + _RECORD_HEADER.size + 8 * numbers
    return _WAITING.size + records * each if records else 0


def waiting_records(rows: Array) -> list[bytes]:
    """The records in rows of `decode_waiting`."""
    size, data = rows.dtype.itemsize, rows.tobytes()
    return [data[at + 8 : at + size] for at in range(0, len(data), size)]


def waiting_marks(rows: Array) -> Array:
    """The marks of the records in rows of `decode_waiting`: (records,)."""
    if "rest" not in (rows.dtype.names or ()):
        return np.zeros(0, np.uint8)
    rest = np.ascontiguousarray(rows["rest"])
    return rest.view("u1").reshape(len(rows), rest.dtype.itemsize)[:, 0]
