"""A shard <-> bytes; the only module that knows these formats.

Rewriting all states of a shard for a bundle that changed a few would cost more than the steps. So
a shard is stored as a log: each change is a piece that is appended, and when half of the log is out
of date, it is rewritten. A small head has a token, which shows whether the shard that a process has
in memory is the one that was logged.

Pieces: version, kind, serial number, since Beam promises no order in a bag; then

- states: what made them, how many, the columns of the table, the keys;
- states of several models of one size (version 4): the same, and the digest of each;
- removed keys;
- buffered records: the number of each, when it is due, and their block;
- the numbers of records that are buffered no longer.
"""

import math
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.core.stored_bytes import decoding
from beam_rnn.engine.held import grouped
from beam_rnn.engine.shard import Shard
from beam_rnn.engine.shard_changes import Change
from beam_rnn.engine.table import Maker, Table
from beam_rnn.models.state_format import STATE_TYPE, STORED_KERNELS
from beam_rnn.records.block_format import (
    block_bytes,
    decode_block,
    decode_keys,
    encode_block,
    encode_keys,
    keys_bytes,
)

PIECE_VERSION = 3
MIXED_PIECE_VERSION = 4
HEAD_VERSION = 1
ROWS_IN_A_PIECE = 4096
"""The maximum number of states in a piece, so that no message of a runner grows too large."""
SLACK = 1 << 20
"""The size, in bytes, up to which a log is not worth rewriting."""

_STATES, _REMOVED, _ARRIVED, _TAKEN, _MIXED_STATES = 1, 2, 3, 4, 5
_PIECE = struct.Struct("<BB6xQ")  # 16 bytes, so that what follows is aligned
_MADE = struct.Struct("<32sB3xIIIII")
_HEAD = struct.Struct("<B8s16sIQQQ?q")
HEAD_BYTES = _HEAD.size
"""The size of the head of a shard."""
_VERSIONS = {_MIXED_STATES: MIXED_PIECE_VERSION}
_MOST_RECORDS = 2**62
_MIXED = "0" * 64
"""The digest in the header where each state has its own."""


class Head(NamedTuple):
    """What is stored of a shard besides its log.

    Attributes:
        token: Random, and different after every change.
        shards: The number of shards.
        pieces: The number of pieces that were ever logged.
        logged: The size of the log, in bytes.
        live: Its size when it was last rewritten.
        armed: When its timer fires, in microseconds since 1970; None if it is not set.
    """

    token: bytes
    shards: int
    pieces: int
    logged: int
    live: int
    armed: int | None


def encode_head(head: Head, fingerprint: bytes) -> bytes:
    """Return the head of a shard whose records were read by columns of that fingerprint."""
    armed = head.armed is not None
    return _HEAD.pack(HEAD_VERSION, fingerprint, *head[:5], armed, head.armed or 0)


def decode_head(data: bytes, fingerprint: bytes, shards: int) -> Head:
    """Return the head in bytes: the inverse of `encode_head`.

    Raises:
        StateError: Another version, records that were read by other columns, or another number
            of shards.
    """
    if len(data) != _HEAD.size or data[0] != HEAD_VERSION:
        raise StateError(
            f"the stored head of a shard has format version {data[:1].hex() or None}, this "
            f"beam_rnn reads {HEAD_VERSION}"
        )
    _, read_by, token, stored_in, pieces, logged, live, armed, at = _HEAD.unpack(data)
    head = Head(token, stored_in, pieces, logged, live, at if armed else None)
    if read_by != fingerprint:
        raise StateError(
            f"buffered records were read by columns of fingerprint {read_by.hex()}, those of the "
            f"model here have {fingerprint.hex()}: start the job without its old state, or "
            "continue with a model of the same inputs"
        )
    if head.shards != shards:
        raise StateError(
            f"stored state is in {head.shards} shards, this job has shards={shards}, and would "
            f"look for the states of keys where they are not: say Predict(shards={head.shards}), "
            "or start the job without its old state"
        )
    return head


def encode_change(change: Change, table: Table, serial: int) -> list[bytes]:
    """Return the pieces of a change, numbered from `serial` on."""
    bodies: list[tuple[int, bytes]] = []
    if change.removed:
        bodies.append((_REMOVED, encode_keys(change.removed)))
    if len(change.taken):
        bodies.append((_TAKEN, change.taken.astype("<i8").tobytes()))
    alike: dict[Maker, list[tuple[Maker, Array]]] = {}  # by all but the digest
    for maker, places in grouped(table.maker[change.states]):
        made = table.makers[maker]
        alike.setdefault(made._replace(digest=_MIXED), []).append((made, change.states[places]))
    for parts in alike.values():
        kind = _STATES if len(parts) == 1 else _MIXED_STATES
        made, rows = parts[0][0], np.concatenate([rows for _, rows in parts])
        bodies += [(kind, body) for body in _encode_states(table, made, rows, kind)]
    for block, number, due in change.arrived:
        columns = number.astype("<i8").tobytes() + due.astype("<i8").tobytes()
        header = struct.pack("<Q", len(number))
        bodies.append((_ARRIVED, b"".join([header, columns, encode_block(block)])))
    return [
        _PIECE.pack(_VERSIONS.get(kind, PIECE_VERSION), kind, serial + i) + body
        for i, (kind, body) in enumerate(bodies)
    ]


def states_bytes(keys: int, values: int, outputs: int, history: int = 0, key: int = 16) -> int:
    """Return the size of the states of a shard in a log that was just rewritten, in bytes.

    The log grows to at most twice that plus `SLACK` before it is rewritten again.

        >>> states_bytes(keys=1000, values=64, outputs=1, key=16) / 1000
        329.071

    Args:
        keys: The number of keys of a shard.
        values: The number of numbers of a hidden state.
        outputs: The number of outputs.
        history: The number of numbers of the inputs that are kept for a replay.
        key: The size of a key, in bytes.
    """
    pieces = -(-keys // ROWS_IN_A_PIECE)
    place = 6 * 8  # steps, first_time, time, sequence, due, begun
    each = place + 8 * outputs + STATE_TYPE.itemsize * values + (8 * history + 4 if history else 0)
    names = keys_bytes(keys, key) - (pieces - 1) if keys else 0  # nothing between two pieces
    return pieces * (_PIECE.size + _MADE.size) + keys * each + names


def arrived_bytes(records: int, numbers: int, keys: int, key: int = 16) -> int:
    """Return the size in the log of buffered records of one bundle, in bytes; 0 for none.

    Args:
        records: The number of buffered records of a shard.
        numbers: The number of numbers of each.
        keys: The number of their keys.
        key: The size of a key, in bytes.
    """
    if not records:
        return 0
    block = block_bytes(records, numbers, keys_bytes(keys, key))
    return _PIECE.size + 8 + 16 * records + block


def replay(pieces: Iterable[bytes], shard: Shard) -> None:
    """Bring a new shard to the end of its log.

    Raises:
        StateError: Another version, or truncated or altered bytes.
    """
    numbered = []
    for piece in pieces:
        if piece[:1] not in (bytes([PIECE_VERSION]), bytes([MIXED_PIECE_VERSION])):
            raise StateError(
                f"piece of a shard's log has format version {piece[:1].hex() or None}, this "
                f"beam_rnn reads up to {MIXED_PIECE_VERSION}"
            )
        with decoding("piece of a shard's log"):
            _, kind, serial = _PIECE.unpack_from(piece)
        numbered.append((serial, kind, piece))
    taken = []
    for _, kind, piece in sorted(numbered, key=lambda entry: entry[0]):
        with decoding("piece of a shard's log"):
            if kind in (_STATES, _MIXED_STATES):
                _decode_states(piece, shard.table, kind)
            elif kind == _REMOVED:
                shard.table.drop_states(shard.table.rows(decode_keys(piece[_PIECE.size :])))
            elif kind == _TAKEN:
                taken.append(np.frombuffer(piece, "<i8", offset=_PIECE.size))
            elif kind == _ARRIVED:
                _decode_arrived(piece, shard)
            else:
                raise ValueError(f"there is no kind {kind} of pieces")
    if taken:
        shard.forget(np.concatenate(taken))
    shard.drop_unused_rows()


def _decode_arrived(piece: bytes, shard: Shard) -> None:
    (n,) = struct.unpack_from("<Q", piece, _PIECE.size)
    columns = np.frombuffer(piece, "<i8", 2 * n, _PIECE.size + 8)
    block = decode_block(piece[_PIECE.size + 8 + 16 * n :])
    inputs = shard.table.history.shape[2]
    if block.numbers.shape != (n, inputs):
        raise ValueError(f"{n} records of {inputs} numbers are {block.numbers.shape}")
    if columns[:n].min() < 0 or columns[:n].max() >= _MOST_RECORDS:
        raise ValueError(f"a record has the number {columns[:n].min()} or {columns[:n].max()}")
    shard.restore(block, columns[:n], columns[n:])


def _encode_states(table: Table, made: Maker, rows: Array, kind: int) -> Iterator[bytes]:
    replay = table.history.shape[1]
    for start in range(0, len(rows), ROWS_IN_A_PIECE):
        part = rows[start : start + ROWS_IN_A_PIECE]
        kept = replay if table.kept[part].any() else 0
        header = _MADE.pack(
            bytes.fromhex(made.digest if kind == _STATES else _MIXED),
            STORED_KERNELS.index(made.kernel),
            made.values,
            made.outputs,
            len(part),
            kept,
            table.history.shape[2],
        )
        columns: list[tuple[Array, DTypeLike]] = [
            (table.steps[part], "<i8"),
            (table.first_time[part], "<i8"),
            (table.time[part], "<i8"),
            (table.sequence[part], "<i8"),
            (table.due[part], "<i8"),
            (table.begun[part], "<i8"),
            (table.outputs[part, : made.outputs], "<f8"),
            (table.history[part] if kept else np.zeros(0), "<f8"),
            (table.kept[part] if kept else np.zeros(0), "<i4"),
            (table.values[part, : made.values], STATE_TYPE),
        ]
        arrays = [np.ascontiguousarray(values, dtype).data for values, dtype in columns]
        if kind == _MIXED_STATES:
            of_rows = (table.makers[number].digest for number in table.maker[part].tolist())
            arrays.append(memoryview(bytes.fromhex("".join(of_rows))))
        yield b"".join([header, *arrays, encode_keys(table.names(part))])


def _decode_states(piece: bytes, table: Table, kind: int) -> None:
    digest, kernel, values, outputs, n, replay, inputs = _MADE.unpack_from(piece, _PIECE.size)
    at = _PIECE.size + _MADE.size

    def take(dtype: DTypeLike, *shape: int) -> Array:
        nonlocal at
        count = math.prod(shape)
        column = np.frombuffer(piece, dtype, count, at) if count else np.zeros(0, dtype)
        at += column.nbytes
        return column.reshape(shape)

    place = [take("<i8", n) for _ in range(6)]
    last_outputs = take("<f8", n, outputs)
    history = take("<f8", n, replay, inputs)
    kept = take("<i4", n) if replay else np.zeros(n, np.int32)
    hidden = take(STATE_TYPE, n, values)
    if not n or not (0 <= kept.min() <= kept.max() <= replay):
        raise ValueError(f"{n} states with {kept} of {replay} inputs")
    made = Maker(digest.hex(), STORED_KERNELS[kernel], values, outputs)
    if kind == _STATES:
        maker: int | Array = table.made_by(made)
    else:
        digests = [row.tobytes().hex() for row in take("u1", n, len(digest))]
        maker = np.array([table.made_by(made._replace(digest=each)) for each in digests])
    names = decode_keys(piece[at:])
    if len(names) != n:
        raise ValueError(f"{n} states of {len(names)} keys")
    rows = table.rows(names)
    table.load(rows, maker, place, hidden, last_outputs, kept, history)
