"""Hidden states out of one job and into another, through Parquet files."""

from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_rnn.errors import StateError
from beam_rnn.rows import EndedSequence
from beam_rnn.shards.blocks import encode_states_to_start_from, shards_of
from beam_rnn.state import KeyState, encode_imported, imported

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("first_time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("outputs", pa.list_(pa.float64()), nullable=False),
        pa.field("state", pa.list_(pa.float32()), nullable=False),
        pa.field("kernel", pa.string(), nullable=False),
        pa.field("history", pa.list_(pa.float64()), nullable=False),
    ]
)
"""One row a key: its last step, the hidden state after it, and the inputs kept to be replayed."""

OPEN = ("window", "idle")
"""Why a sequence ends that would have gone on, had there been more records."""


class LastOfKey(beam.CombineFn):  # type: ignore[misc]
    """The sequence of a key that ended last."""

    def create_accumulator(self) -> EndedSequence | None:
        """None so far."""
        return None

    def add_input(
        self, mutable_accumulator: EndedSequence | None, element: EndedSequence
    ) -> EndedSequence:
        """The later of two."""
        if mutable_accumulator is None:
            return element
        return max(mutable_accumulator, element, key=_place)

    def merge_accumulators(self, accumulators: Any) -> EndedSequence | None:
        """The latest of all."""
        return max((a for a in accumulators if a is not None), key=_place, default=None)

    def extract_output(self, accumulator: EndedSequence) -> EndedSequence:
        """The latest of all."""
        return accumulator


def _place(ended: EndedSequence) -> tuple[int, int, bool, int]:
    return ended.last_time, ended.sequence, ended.reason in OPEN, ended.steps


def to_row(ended: EndedSequence) -> dict[str, Any]:
    """A row of `SCHEMA`.

    Raises:
        StateError: The sequence came without its hidden state.
    """
    if not ended.state:
        raise StateError(
            f"the sequence of key {ended.key!r} ended without its hidden state: ExportStates needs "
            "the .ended of Predict(..., with_state=True)"
        )
    return {
        "key": ended.key,
        "steps": ended.steps,
        "first_time": ended.first_time,
        "time": ended.last_time,
        "sequence": ended.sequence,
        "model": ended.model,
        "outputs": list(ended.outputs),
        "state": np.frombuffer(ended.state, "<f4").tolist(),
        "kernel": ended.kernel,
        "history": np.frombuffer(ended.history, "<f8").tolist(),
    }


def from_row(row: Mapping[str, Any]) -> tuple[str, bytes]:
    """A key, and its state as `StepKeys` takes it in."""
    first_time, time = (_micros(row[name]) for name in ("first_time", "time"))
    state = KeyState(
        row["model"],
        row["kernel"],
        row["steps"],
        first_time,
        time,
        row["sequence"],
        np.array(row["state"], np.float32),
        np.array(row["outputs"], np.float64),
        np.array(row["history"], np.float64),
    )
    return row["key"], encode_imported(state)


def to_shard(keyed: tuple[str, bytes], shards: int) -> tuple[str, bytes]:
    """The shard of a key, and its state as `StepShards` takes it in."""
    key, data = keyed
    state = imported(data)
    assert state is not None, "from_row gives states"
    return str(shards_of([key], shards)[0]), encode_states_to_start_from(key, state)


def _micros(value: Any) -> int:
    return value if isinstance(value, int) else pa.scalar(value, pa.timestamp("us", "UTC")).value
