"""What changed in a shard since it was last logged."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.held import Held
from beam_rnn.engine.outcome import NO_ROWS
from beam_rnn.engine.payloads import Payloads
from beam_rnn.engine.table import Table
from beam_rnn.records.block_format import Block

RECORDS_IN_A_PIECE = 16_384
"""The maximum number of buffered records that are written together."""


class Change(NamedTuple):
    """What changed in a shard, and has to be logged.

    Attributes:
        states: The rows of keys whose states changed.
        removed: The keys whose states are gone.
        arrived: Records that were buffered: a block, the number of each, and when it is due.
        taken: The numbers of records that are buffered no longer.
    """

    states: Array
    removed: list[str]
    arrived: list[tuple[Block, Array, Array]]
    taken: Array


class Changes:
    """Collects what changes in a shard."""

    def __init__(self) -> None:
        self.touched: list[Array] = []
        """Rows whose states may have changed; each array has no row twice."""
        self.removed: list[str] = []
        self.arrived: list[tuple[Block, Array, Array]] = []
        self.taken: list[Array] = []

    def change(self, table: Table) -> Change:
        """Return the changes to the keys of a table."""
        touched = NO_ROWS
        if self.touched:
            alone = len(self.touched) == 1
            touched = self.touched[0] if alone else np.unique(np.concatenate(self.touched))
        touched = touched[table.has_state[touched]]
        taken = np.concatenate(self.taken) if self.taken else NO_ROWS
        return Change(touched, self.removed, self.arrived, taken)


def blocks_of(held: Held, table: Table, payloads: Payloads) -> Iterator[tuple[Block, Array, Array]]:
    """Yield buffered records as few blocks, with the number of each, and when it is due."""
    for start in range(0, len(held.time), RECORDS_IN_A_PIECE):
        part = held.pick(slice(start, start + RECORDS_IN_A_PIECE))
        rows: Iterable[tuple[Array, bytes, Array]]
        rows = [(np.arange(len(part.time)), b"", part.at)]
        if len(payloads):
            rows = payloads.joined(part)
        for places, payload, at in rows:
            here = part.pick(places)
            yield _block(here, table, payload, at), here.number, here.due


def _block(held: Held, table: Table, payload: bytes, row: Array) -> Block:
    rows, of_key = np.unique(held.row, return_inverse=True)
    return Block(
        table.names(rows),
        of_key.astype(np.int32),
        held.due,
        held.time,
        held.sequence,
        held.marks,
        held.numbers,
        payload,
        row,
    )
