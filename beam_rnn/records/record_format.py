"""Records of one key <-> bytes.

A record: version, time, sequence number, marks, then its numbers, raw float64, little-endian. Time
and sequence number are big-endian, and stored with an offset that makes them unsigned, so that the
order of the bytes is the order of the records: by time, then sequence number, then marks (a start
first, an end last), then the bytes of the numbers.

A block of records of one key, on its way to its state: version, length of one record, whether the
times of arrival follow, the records, those times.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError

BLOCK_VERSION = 2
RECORD_VERSION = 3  # not that of a block: the first byte distinguishes the two

_RECORD_HEADER = struct.Struct(">BQQB")
_MARKS_AT = _RECORD_HEADER.size - 1
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
    """Return the bytes of a record; sorted bytes are sorted records, equal ones duplicates."""
    marks = (not starts) + 2 * ends
    header = _RECORD_HEADER.pack(RECORD_VERSION, time + _OFFSET, sequence + _OFFSET, marks)
    return header + numbers.astype("<f8", copy=False).tobytes()


def encode_records(
    time: Array, sequence: Array, numbers: Array, *, starts: Array, ends: Array
) -> list[bytes]:
    """Return `encode_record` of many: (n,) each, numbers (n, numbers)."""
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
    """Return the record in bytes: the inverse of `encode_record`.

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
        raise StateError(f"buffered record is truncated or altered: it has {len(data)} bytes")


class DecodedRecords(NamedTuple):
    """Many records of the same width: `BufferedRecord`, a row each."""

    time: Array
    sequence: Array
    starts: Array
    ends: Array
    numbers: Array


def decode_records(data: Sequence[bytes]) -> DecodedRecords:
    """Return many records of the same width at once; at least one.

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
    """Return records of one key as one piece; a single one is itself.

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
    """Return the records of a block, and when each arrived: the inverse of `encode_block`.

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
            f"block of records of a key is truncated or altered: it has {len(data)} bytes "
            f"for records of {length}"
        )
    count = (len(data) - start) // (length + 8 * timed)
    end = start + count * length
    records = [data[at : at + length] for at in range(start, end, length)]
    if not timed:
        return records, [arrived] * count
    return records, np.frombuffer(data, "<i8", count, end).tolist()


def with_texts(record: bytes, texts: Sequence[str]) -> bytes:
    """Return an encoded record followed by texts, from which a vocabulary will be made.

    >>> without_texts(with_texts(b"record", ["a", "word"]))
    (b'record', ['a', 'word'])
    """
    encoded = [text.encode() for text in texts]
    behind = b"".join(_LENGTH.pack(len(text)) + text for text in encoded)
    return record + behind + _LENGTH.pack(len(behind))


def without_texts(data: bytes) -> tuple[bytes, list[str]]:
    """Return the record and its texts: the inverse of `with_texts`."""
    (size,) = _LENGTH.unpack_from(data, len(data) - _LENGTH.size)
    at = end = len(data) - _LENGTH.size - size
    texts = []
    while at < len(data) - _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        texts.append(data[at - length : at].decode())
    return data[:end], texts


def record_bytes(numbers: int) -> int:
    """Return the size of an encoded record with this number of numbers."""
    return _RECORD_HEADER.size + 8 * numbers


def record_marks(data: bytes) -> tuple[bool, bool]:
    """Return whether a sequence begins with an encoded record, and whether one ends with it."""
    marks = _RECORD_HEADER.unpack_from(data)[3]
    return not marks & 1, marks >= 2


def record_time(data: bytes) -> int:
    """Return the event time of an encoded record, without decoding the rest."""
    return int(_RECORD_HEADER.unpack_from(data)[1]) - _OFFSET


def record_place(data: bytes) -> bytes:
    """Return the first bytes of an encoded record, equal for records of one time and number."""
    return data[:_MARKS_AT]


def first_numbers(data: bytes, n: int) -> bytes:
    """Return an encoded record with its first n numbers only, as without its targets."""
    return data[: record_bytes(n)]


def record_sequence(data: bytes) -> int:
    """Return the sequence number of an encoded record, without decoding the rest."""
    return int(_RECORD_HEADER.unpack_from(data)[2]) - _OFFSET
