"""Hidden states out of one job and into another, through Parquet files.

Each row has a digest of all its other columns. It shows that a row is as it was exported; rows may
be left out, and the file may be written again by another program.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_rnn.core.errors import StateError
from beam_rnn.core.sealed_format import decoding
from beam_rnn.engine.order_format import encode_imported, imported
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.models.state_format import STATE_TYPE, KeyState
from beam_rnn.records.block_format import encode_imported_state, shards_of
from beam_rnn.records.results import EndedSequence

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("first_time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("outputs", pa.list_(pa.float64()), nullable=False),
        pa.field("state", pa.list_(pa.from_numpy_dtype(STATE_TYPE)), nullable=False),
        pa.field("kernel", pa.string(), nullable=False),
        pa.field("history", pa.list_(pa.float64()), nullable=False),
        pa.field("begun", pa.timestamp("us", "UTC")),
        pa.field("digest", pa.string(), nullable=False),
    ]
)
"""A row per key: its last step, the hidden state, the inputs kept for a replay, the time from which
its sequence numbers count if they restarted, and a digest."""

_WITH_MICROS = pa.schema(
    [
        field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field
        for field in SCHEMA
    ]
)
_ROWS_AT_ONCE = 1024
_BYTES_OF_A_ROW = 32
"""The least size of a row in a file: that of its digest, which no two rows share."""

OPEN = ("window", "idle")
"""The reasons of sequences that would have continued with more records."""


def to_row(ended: EndedSequence) -> dict[str, Any]:
    """Return a row of `SCHEMA`.

    Raises:
        StateError: The sequence came without its hidden state.
    """
    if not ended.state:
        raise StateError(
            f"the sequence of key {ended.key!r} ended without its hidden state: ExportStates needs "
            "the .ended of Predict(..., with_state=True)"
        )
    row = {
        "key": ended.key,
        "steps": ended.steps,
        "first_time": ended.first_time,
        "time": ended.last_time,
        "sequence": ended.sequence,
        "model": ended.model,
        "outputs": list(ended.outputs),
        "state": np.frombuffer(ended.state, STATE_TYPE).tolist(),
        "kernel": ended.kernel,
        "history": np.frombuffer(ended.history, "<f8").tolist(),
        "begun": ended.begun,
    }
    return {**row, "digest": digest_of_row(row)}


def digest_of_row(row: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal, of all columns of a row except the digest.

    Of [[name, value], ...] as JSON, in the order of `SCHEMA`; times in microseconds since 1970.
    """
    named = [[name, row[name]] for name in SCHEMA.names if name != "digest"]
    return hashlib.sha256(json.dumps(named, default=bytes.hex).encode()).hexdigest()


def read_states(file: BinaryIO, size: int, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the keys in a file of exported states, each with its state as `StepKeys` takes it in.

    Args:
        file: The Parquet file.
        size: The number of bytes in it.
        name: What to call it in an error.

    Raises:
        StateError: It is truncated, altered, or of another format.
    """
    with decoding(name, StateError):
        parquet = pq.ParquetFile(file)
        missing = set(SCHEMA.names) - set(parquet.schema_arrow.names)
        if missing:
            raise StateError(
                f"{name!r} holds no states that ExportStates of this version wrote: it has no "
                f"column {', '.join(sorted(missing))}. Export the states again"
            )
        # Not the metadata of columns: pyarrow 25 ends the process where they contradict the schema.
        if parquet.metadata.num_rows * _BYTES_OF_A_ROW > size:
            raise ValueError(f"it claims {parquet.metadata.num_rows} rows in {size} bytes")
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=SCHEMA.names):
            batch.validate(full=True)
            table = pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)
            for row in table.cast(_WITH_MICROS).to_pylist():
                yield from_row(row, name)


def from_row(row: Mapping[str, Any], name: str) -> tuple[str, bytes]:
    """Return a key, and its state as `StepKeys` takes it in.

    Args:
        row: A row of `SCHEMA`, times in microseconds since 1970.
        name: What to call its file in an error.

    Raises:
        StateError: The row is not as it was exported.
    """
    found = digest_of_row(row)
    if found != row["digest"]:
        raise StateError(
            f"the state of key {row['key']!r} in {name!r} is altered: its row has the digest "
            f"{found}, it was exported with {row['digest']}: export it again, or leave the row out"
        )
    state = KeyState(
        row["model"],
        row["kernel"],
        row["steps"],
        row["first_time"],
        row["time"],
        row["sequence"],
        np.array(row["state"], STATE_TYPE),
        np.array(row["outputs"], np.float64),
        np.array(row["history"], np.float64),
    )
    finite = np.isfinite(state.values).all() and np.isfinite(state.outputs).all()
    if state.steps < 1 or len(state.digest) != 64 or not finite:
        raise StateError(
            f"the state of key {row['key']!r} in {name!r} cannot be continued: of the model "
            f"{state.digest!r}, after {state.steps} steps, with values {state.values} and outputs "
            f"{state.outputs}"
        )
    return row["key"], encode_imported(state, LONG_AGO if row["begun"] is None else row["begun"])


def to_shard(keyed: tuple[str, bytes], shards: int) -> tuple[str, bytes]:
    """Return the shard of a key, and its state as `StepShards` takes it in."""
    key, data = keyed
    state = imported(data)
    assert state is not None, "from_row gives states"
    return str(shards_of([key], shards)[0]), encode_imported_state(key, state)
