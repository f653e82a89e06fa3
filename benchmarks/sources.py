"""Sources of records and a stateful DoFn that does nothing; workers can import this module."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_rnn import Columns, Model, Network, weights
from beam_rnn.data.scaling import Scaler

START = 1_500_000_000
HIDDEN = 64
ROWS = 65_536
"""Rows per Arrow batch."""
WINDOW = 32
"""Number of records that a stateless model reads for each record."""

TABLES: list[pa.Table] = []
"""The batches of `tables`, made before the measurement starts."""


class Reading(NamedTuple):
    """A record of one number."""

    id: str
    t: float
    x: float


def readings(_: Any, count: int, keys: int) -> Iterator[Reading]:
    """Yield `count` records, with the keys in rotation."""
    for i in range(count):
        yield Reading(f"key-{i % keys}", float(START + i // keys), float(i % 7))


def pairs(_: Any, count: int, keys: int) -> Iterator[tuple[str, float]]:
    """Yield the same records as pairs of key and number."""
    for i in range(count):
        yield f"key-{i % keys}", float(i % 7)


def windows(_: Any, count: int) -> Iterator[Any]:
    """Yield for each record the last `WINDOW` records of its key as an array."""
    series = (np.arange(WINDOW + 7, dtype=np.float32) % 7)[:, None]
    for i in range(count):
        yield series[i % 7 : i % 7 + WINDOW]


def make_tables(count: int, keys: int) -> None:
    """Fill `TABLES` with `count` records, with the keys in rotation."""
    names = pa.array([f"key-{i}" for i in range(keys)])
    TABLES.clear()
    for start in range(0, count, ROWS):
        i = np.arange(start, min(start + ROWS, count))
        ids, t, x = names.take(pa.array(i % keys)), START + i // keys, i % 7
        TABLES.append(pa.table({"id": ids, "t": t.astype(float), "x": x.astype(float)}))


def tables(_: Any) -> Iterator[pa.Table]:
    """Yield the records as Arrow batches."""
    yield from TABLES


class NoOpState(beam.DoFn):
    """Reads and writes a state of the size of the hidden state."""

    STATE = ReadModifyWriteStateSpec("state", BytesCoder())

    def process(
        self, element: tuple[str, float], state: Any = beam.DoFn.StateParam(STATE)
    ) -> Iterator[tuple[str, float]]:
        """Yield the element unchanged."""
        state.write(state.read() or bytes(4 * HIDDEN))
        yield element


def write_model(path: str | Path) -> None:
    """Write a GRU with random weights for these records."""
    network = Network("gru", HIDDEN)
    columns = Columns(key="id", time="t", inputs=["x"])
    parameters = network.initialize(1, 1, seed=0, dtype=np.float32)
    weights.save(Model(network, parameters, columns, Scaler.identity(1, 1)), path)
