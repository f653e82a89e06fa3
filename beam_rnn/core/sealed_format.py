"""Arrow files that are checked before Arrow parses them: weights and checkpoints.

The schema's metadata holds, as `beam_rnn.seal`, the kind of the file and the SHA-256 of all its
bytes, computed with zeros in place of the digest. The seal is found and verified in the raw bytes.
Then the file is read as a stream, batch by batch, without its footer. Any Arrow library can read
such a file.

A seal shows that a file is complete and unchanged, not who wrote it. So the memory that a file with
a valid seal can take is bounded by its length: compressed buffers are rejected, and every table is
validated in full.
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from beam_rnn.core.errors import BeamRnnError, CheckpointError, StateError, WeightsError

WEIGHTS, CHECKPOINT = "weights", "checkpoint"
MAGIC = b"ARROW1"
DEEPEST_JSON = 32
"""Maximum nesting depth of lists and objects in metadata."""

_STREAM_STARTS = 8  # after the magic and its padding
_PREFIX = "beam_rnn."
_SEAL = re.compile(rb"beam_rnn (weights|checkpoint) sha256 [0-9a-f]{64}")
_ZEROS = "0" * 64


@contextmanager
def decoding(name: str, error: type[BeamRnnError]) -> Iterator[None]:
    """Convert any error while untrusted bytes are decoded to one of this class.

    Args:
        name: The name of the bytes in the error.
        error: The class to raise. The library's own errors about stored bytes pass unchanged.
    """
    try:
        yield
    except (WeightsError, CheckpointError, StateError, MemoryError):
        raise
    except Exception as cause:
        why = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
        raise error(
            f"{name!r} cannot be used, it is truncated, altered or of another format: {why}"
        ) from cause


def from_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is not JSON, or nested deeper than `DEEPEST_JSON`.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"its JSON of {len(text)} characters is nested too deeply") from error
    level = [value]
    for _ in range(DEEPEST_JSON + 1):
        nested = [each for each in level if isinstance(each, (dict, list))]
        if not nested:
            return value
        level = [
            child
            for each in nested
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    raise ValueError(f"its JSON is nested deeper than {DEEPEST_JSON} levels")


def schema_of(kind: str, fields: pa.Schema, texts: Mapping[str, str]) -> pa.Schema:
    """Return the schema of a file to be sealed.

    Args:
        kind: `WEIGHTS` or `CHECKPOINT`.
        fields: The columns.
        texts: The metadata, without the prefix `beam_rnn.`.
    """
    metadata = {f"{_PREFIX}{name}": text for name, text in texts.items()}
    return fields.with_metadata({**metadata, f"{_PREFIX}seal": f"beam_rnn {kind} sha256 {_ZEROS}"})


def seal(data: pa.Buffer) -> bytes:
    """Return the bytes of a file, sealed; its schema is one from `schema_of`."""
    kind = kind_of(data)
    zeros = f"beam_rnn {kind} sha256 {_ZEROS}".encode()
    digest = hashlib.sha256(data).hexdigest()
    return data.to_pybytes().replace(zeros, f"beam_rnn {kind} sha256 {digest}".encode())


def kind_of(data: pa.Buffer | bytes) -> str | None:
    """Return `WEIGHTS` or `CHECKPOINT`; None if the bytes have no seal."""
    found = _SEAL.search(memoryview(data))
    return None if found is None else found[1].decode()


class SealedFile:
    """A file whose seal is valid.

    Attributes:
        texts: Its metadata, without the prefix `beam_rnn.`.

    Args:
        data: The bytes of the file.
        kind: `WEIGHTS` or `CHECKPOINT`.

    Raises:
        ValueError, pa.ArrowException: The bytes are truncated, altered, or of another format or
            kind.
    """

    def __init__(self, data: pa.Buffer, kind: str):
        _check_seal(data, kind)
        stream = pa.BufferReader(data.slice(_STREAM_STARTS))
        self._messages = pa.ipc.MessageReader.open_stream(stream)
        self._schema = pa.ipc.read_schema(self._messages.read_next_message())
        metadata = {k.decode(): v.decode() for k, v in (self._schema.metadata or {}).items()}
        self.texts = {name.removeprefix(_PREFIX): text for name, text in metadata.items()}

    def table(self, fields: pa.Schema) -> pa.Table:
        """Return the rows, whose buffers are views of the file.

        Args:
            fields: The expected columns.

        Raises:
            ValueError, pa.ArrowException: The columns differ, or the rows are not valid.
        """
        if not self._schema.equals(fields):
            raise ValueError(f"its columns are {self._schema.names}, not {fields.names}")
        batches = []
        for message in self._messages:
            if message.type != "record batch" or _is_compressed(message.metadata.to_pybytes()):
                raise ValueError(f"it holds a compressed batch, or a {message.type}")
            batches.append(pa.ipc.read_record_batch(message, self._schema))
        table = pa.Table.from_batches(batches, self._schema)
        table.validate(full=True)
        for column, field in zip(table.columns, fields, strict=True):
            if column.null_count and not field.nullable:
                raise ValueError(f"its column {field.name!r} has {column.null_count} nulls")
        return table


def _check_seal(data: pa.Buffer, kind: str) -> None:
    """Raise if the seal is missing, of another kind, or does not match the bytes.

    Raises:
        ValueError: The seal is not valid.
    """
    found = _SEAL.search(memoryview(data))
    if found is None:
        is_arrow = data[: len(MAGIC)].to_pybytes() == MAGIC
        raise ValueError(
            "it is an Arrow file without the seal of beam_rnn"
            if is_arrow
            else "it is not an Arrow file"
        )
    if found[1].decode() != kind:
        raise ValueError(f"it is a {found[1].decode()} file of beam_rnn, not a {kind} file")
    value, zeros = found[0], found[0][: -len(_ZEROS)] + _ZEROS.encode()
    sha, start = hashlib.sha256(), 0
    for each in re.finditer(re.escape(value), memoryview(data)):
        sha.update(data[start : each.start()])
        sha.update(zeros)
        start = each.end()
    sha.update(data[start:])
    recorded = value[-len(_ZEROS) :].decode()
    if sha.hexdigest() != recorded:
        raise ValueError(
            f"its bytes have the digest {sha.hexdigest()}, but were written with {recorded}"
        )


def _is_compressed(metadata: bytes) -> bool:
    """Return True if the buffers of a record batch are compressed.

    pyarrow does not report it before it decompresses them. The flatbuffer does: field 3 of the
    RecordBatch, which is field 2 of the Message (apache/arrow, format/Message.fbs).
    """
    (root,) = struct.unpack_from("<I", metadata)
    header = _place_of_field(metadata, root, 2)
    if header is None:
        raise ValueError(f"a message of {len(metadata)} bytes has no header")
    (offset,) = struct.unpack_from("<I", metadata, header)
    return _place_of_field(metadata, header + offset, 3) is not None


def _place_of_field(metadata: bytes, table: int, number: int) -> int | None:
    """Return the offset of a field in a flatbuffer's table; None if it is absent."""
    (back,) = struct.unpack_from("<i", metadata, table)
    (size,) = struct.unpack_from("<H", metadata, table - back)
    entry = 4 + 2 * number
    if entry >= size:
        return None
    (offset,) = struct.unpack_from("<H", metadata, table - back + entry)
    return table + offset if offset else None
