"""Blocks of records of many keys, by column, and their bytes; only this module knows the format.

A block holds the records of a bundle that belong to one shard. A stateless step makes it; it goes
to the shard and waits in its state until its records are due. Its bytes: version, flags and counts;
the columns, those of 8 bytes a number first; the keys; the rows as they came, if Arrow batches are
to come out.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.core.stored_bytes import decoding
from beam_rnn.records.record_format import encode_records

BLOCK_VERSION = 3
STATES_VERSION = 0xFE  # a block of hidden states to start from

NO_MARKS = 1  # as in an encoded record: 1 unless it starts a sequence, and 2 if it ends one
_ENDS = 2

_HEADER = struct.Struct("<BBHIIQ4x")  # 24 bytes, so that what follows is aligned
_ALIKE, _NUMBERED, _MARKED = 1, 2, 4


class Block(NamedTuple):
    """Records of many keys, in the order in which they arrived.

    Attributes:
        keys: The keys, each once.
        of_key: (records,) int32, the index of each record's key.
        arrived: (records,) int64, the Beam timestamp of each, in microseconds.
        time: (records,) int64, its event time.
        sequence: (records,) int64, its sequence number; 0 if there is none.
        marks: (records,) uint8: see `marks_of`.
        numbers: (records, numbers) float64.
        payload: The rows in which the records came, as bytes that this module does not read.
        row: (records,) int32, the row of each.
    """

    keys: list[str]
    of_key: Array
    arrived: Array
    time: Array
    sequence: Array
    marks: Array
    numbers: Array
    payload: bytes
    row: Array

    @property
    def records(self) -> int:
        """Return the number of records."""
        return len(self.time)

    def pick(self, records: Array) -> "Block":
        """Return some of the records, by their indices or a mask."""
        return self._replace(
            of_key=self.of_key[records],
            arrived=self.arrived[records],
            time=self.time[records],
            sequence=self.sequence[records],
            marks=self.marks[records],
            numbers=self.numbers[records],
            row=self.row[records],
        )


def marks_of(starts: Array, ends: Array) -> Array:
    """Return the marks of each record as a number, which orders records of the same time."""
    return (~starts + _ENDS * ends).astype(np.uint8)


def starts_of(marks: Array) -> Array:
    """Return True for each record that starts a sequence."""
    return marks & 1 == 0


def ends_of(marks: Array) -> Array:
    """Return True for each record that ends a sequence."""
    return marks >= _ENDS


def encode_block(block: Block) -> bytes:
    """Return the bytes of a block of at least one record."""
    n, numbers = block.numbers.shape
    alike = bool((block.arrived == block.arrived[0]).all())
    numbered = bool(block.sequence.any())
    marked = bool((block.marks != NO_MARKS).any())
    flags = alike * _ALIKE + numbered * _NUMBERED + marked * _MARKED
    keys = encode_keys(block.keys)
    columns = [
        (block.arrived[:1] if alike else block.arrived, "<i8"),
        (block.time, "<i8"),
        (block.sequence if numbered else (), "<i8"),
        (block.numbers, "<f8"),
        (block.of_key, "<i4"),
        (block.row if block.payload else (), "<i4"),
        (block.marks if marked else (), "u1"),
    ]
    header = _HEADER.pack(BLOCK_VERSION, flags, numbers, n, len(keys), len(block.payload))
    pieces = [np.ascontiguousarray(values, dtype).tobytes() for values, dtype in columns]
    return b"".join([header, *pieces, keys, block.payload])


def block_bytes(records: int, numbers: int, keys: int) -> int:
    """Return the size of `encode_block` for records that arrived at different times.

    Sequence numbers (8 bytes a record), marks (1 byte) and the rows as they came are left out.

    Args:
        records: Number of records.
        numbers: Numbers in each record.
        keys: Bytes of their keys, from `keys_bytes`.
    """
    return _HEADER.size + records * (8 + 8 + 8 * numbers + 4) + keys


def decode_block(data: bytes) -> Block:
    """Return the block of `encode_block`; its columns are views of the bytes.

    Raises:
        StateError: Another version, or bytes that are truncated or altered.
    """
    if not data or data[0] != BLOCK_VERSION:
        raise StateError(
            f"block of records has format version {data[:1].hex() or None}, this beam_rnn reads "
            f"{BLOCK_VERSION}"
        )
    with decoding("block of records"):
        return _decode_block(data)


def _decode_block(data: bytes) -> Block:
    _, flags, numbers, n, keys, payload = _HEADER.unpack_from(data)
    columns = _Columns(data, _HEADER.size)
    arrived = np.broadcast_to(columns.take("<i8", 1), n) if flags & _ALIKE else None
    arrived = columns.take("<i8", n) if arrived is None else arrived
    time = columns.take("<i8", n)
    sequence = columns.take("<i8", n) if flags & _NUMBERED else np.zeros(n, np.int64)
    values = columns.take("<f8", n * numbers).reshape(n, numbers)
    of_key = columns.take("<i4", n)
    row = columns.take("<i4", n) if payload else np.zeros(n, np.int32)
    marks = columns.take("u1", n) if flags & _MARKED else np.full(n, NO_MARKS, np.uint8)
    end = columns.at + keys
    if not n or end + payload != len(data):
        raise ValueError(f"{n} records, {len(data)} bytes instead of {end + payload}")
    names = decode_keys(data[columns.at : end])
    if of_key.min() < 0 or of_key.max() >= len(names):
        raise ValueError(f"records of the keys {of_key.min()} to {of_key.max()} of {len(names)}")
    return Block(names, of_key, arrived, time, sequence, marks, values, data[end:], row)


class _Columns:
    """Arrays that follow one another in bytes."""

    def __init__(self, data: bytes, at: int):
        self._data = data
        self.at = at

    def take(self, dtype: DTypeLike, count: int) -> Array:
        """Return the next `count` numbers."""
        values = np.frombuffer(self._data, dtype, count, self.at) if count else np.zeros(0, dtype)
        self.at += values.nbytes
        return values


_SEPARATOR = "\0"


def encode_keys(keys: Sequence[str]) -> bytes:
    """Return the bytes of at least one key.

    Keys are separated by zeros. If keys contain zeros: a zero, the number of keys, the length of
    each in characters, and the keys.
    """
    text = _SEPARATOR.join(keys)
    if text.count(_SEPARATOR) == len(keys) - 1:
        return text.encode()
    lengths = np.fromiter(map(len, keys), "<u4", len(keys)).tobytes()
    return b"".join([b"\0", struct.pack("<I", len(keys)), lengths, "".join(keys).encode()])


def keys_bytes(keys: int, each: int) -> int:
    """Return the size of `encode_keys` for keys of `each` bytes that contain no zeros.

    >>> keys_bytes(keys=2, each=1) == len(encode_keys(["a", "b"]))
    True
    """
    return keys * each + keys - 1


def decode_keys(data: bytes) -> list[str]:
    """Return the keys of `encode_keys`.

    >>> decode_keys(encode_keys(["a", "b€"]))
    ['a', 'b€']
    """
    if data[:1] != b"\0":
        return data.decode().split(_SEPARATOR)
    (count,) = struct.unpack_from("<I", data, 1)
    ends = np.cumsum(np.frombuffer(data, "<u4", count, 5), dtype=np.int64).tolist()
    text = data[5 + 4 * count :].decode()
    if not ends or ends[-1] != len(text):
        raise ValueError(f"{count} keys have {ends[-1:]} characters, and not {len(text)}")
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def encode_imported_state(key: str, state: bytes) -> bytes:
    """Return the bytes of a key's hidden state, which is sent like a block of records."""
    name = key.encode()
    return b"".join([bytes([STATES_VERSION]), struct.pack("<I", len(name)), name, state])


def imported_state_of(data: bytes) -> tuple[str, bytes] | None:
    """Return the key and its hidden state; None for a block of records."""
    if data[:1] != bytes([STATES_VERSION]):
        return None
    with decoding("state to start from"):
        (length,) = struct.unpack_from("<I", data, 1)
        return data[5 : 5 + length].decode(), data[5 + length :]


def encoded(block: Block) -> list[bytes]:
    """Return each record of a block as `beam_rnn.records.record_format.encode_record` has it."""
    marks = {"starts": starts_of(block.marks), "ends": ends_of(block.marks)}
    return encode_records(block.time, block.sequence, block.numbers, **marks)


def empty_block(numbers: int) -> Block:
    """Return a block of no records."""
    none, small = np.zeros(0, np.int64), np.zeros(0, np.int32)
    marks, values = np.zeros(0, np.uint8), np.zeros((0, numbers))
    return Block([], small, none, none, none, marks, values, b"", small)


def joined(blocks: Sequence[Block]) -> Block:
    """Join blocks without payload, in the order of their rows, with the keys that they use."""
    places: dict[str, int] = {}
    of_key = []
    for block in blocks:
        used = np.unique(block.of_key)
        place = np.zeros(len(block.keys), np.int32)
        place[used] = [places.setdefault(block.keys[i], len(places)) for i in used.tolist()]
        of_key.append(place[block.of_key])
    row = np.concatenate([block.row for block in blocks])
    whole = Block(
        list(places),
        np.concatenate(of_key),
        np.concatenate([block.arrived for block in blocks]),
        np.concatenate([block.time for block in blocks]),
        np.concatenate([block.sequence for block in blocks]),
        np.concatenate([block.marks for block in blocks]),
        np.concatenate([block.numbers for block in blocks]),
        b"",
        row,
    )
    return whole.pick(np.argsort(row, kind="stable")) if len(blocks) > 1 else whole


def one_after_another(blocks: Sequence[Block]) -> Block:
    """Concatenate blocks without payload."""
    if len(blocks) == 1:
        return blocks[0]
    ends = np.cumsum([block.records for block in blocks])
    numbered = [
        block._replace(row=np.arange(end - block.records, end, dtype=np.int32))
        for block, end in zip(blocks, ends.tolist(), strict=True)
    ]
    return joined(numbered)


def by_shard(block: Block, shards: int) -> list[tuple[int, Block]]:
    """Return the records of each shard that has any, in the order in which they arrived.

    They have no payload; `row` gives their rows in that of the block.
    """
    of_keys = shards_of(block.keys, shards)
    keys = np.array(block.keys, object)
    of_records = of_keys[block.of_key]
    order = np.argsort(of_records, kind="stable")
    ends = np.cumsum(np.bincount(of_records, minlength=shards)).tolist()
    by_shard = np.argsort(of_keys, kind="stable")
    keys_end = np.cumsum(np.bincount(of_keys, minlength=shards)).tolist()
    place = np.empty(len(of_keys), np.int32)
    parts = []
    for shard in range(shards):
        start, end = ends[shard - 1] if shard else 0, ends[shard]
        if start == end:
            continue
        here = by_shard[keys_end[shard - 1] if shard else 0 : keys_end[shard]]
        place[here] = np.arange(len(here))
        part = block.pick(order[start:end])
        keys_here = keys[here].tolist()
        parts.append((shard, part._replace(keys=keys_here, of_key=place[part.of_key], payload=b"")))
    return parts


_FACTORS = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_FOLD = np.uint64(33)


def shards_of(keys: Sequence[str], shards: int) -> Array:
    """Return the shard of each key: the same on every machine and in every version.

    Keys are hashed by the mixing steps of MurmurHash3's finaliser (fmix64), over the length of a
    key and its UTF-8 bytes, 8 at a time.

    >>> shards_of(["a", "b", "pump-1"], 8)
    array([3, 2, 3], dtype=int16)
    """
    text = "".join(keys)
    if text.isascii():
        lengths = np.fromiter(map(len, keys), np.int64, len(keys))
        data = text.encode()
    else:
        encoded = [key.encode() for key in keys]
        lengths = np.fromiter(map(len, encoded), np.int64, len(keys))
        data = b"".join(encoded)
    codes = _mixed(lengths.astype(np.uint64))
    starts = np.cumsum(lengths) - lengths
    whole = np.frombuffer(data + bytes(8), np.uint8)
    for at in range(0, int(lengths.max(initial=0)), 8):
        here = np.flatnonzero(lengths > at)
        places = starts[here, np.newaxis] + at + np.arange(8)
        inside = at + np.arange(8) < lengths[here, np.newaxis]
        words = np.where(inside, whole[places], np.uint8(0)).view("<u8")[:, 0]
        codes[here] = _mixed(codes[here] ^ words)
    narrow = np.int16 if shards < 2**15 else np.int32  # 16 bits are sorted faster
    return (codes % np.uint64(shards)).astype(narrow)


def _mixed(codes: Array) -> Array:
    for factor in _FACTORS:
        codes = (codes ^ (codes >> _FOLD)) * factor
    return codes ^ (codes >> _FOLD)
