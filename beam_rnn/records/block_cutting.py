"""Cuts the records of many keys into sequences, by the column.

The same sequences as `beam_rnn.records.cutting.cut` makes of the encoded records of each key.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.records.block_format import Block, ends_of, starts_of
from beam_rnn.records.cutting import sequences_of
from beam_rnn.records.record_order import by_key_and_bytes, equal_to_the_one_before


def cut_block(
    block: Block,
    columns: Columns,
    length: int | None = None,
    stride: int | None = None,
    fraction: float = 1.0,
    idle_after: int | None = None,
) -> Iterator[Sequence]:
    """Yield the sequences of all keys of a block, those of a key in order.

    Args:
        block: The records, in any order, as `BatchReader(columns, targets=True)` reads them.
        columns: What they hold.
        length: Steps in a sequence; None for all in one. The last one may be shorter.
        stride: Steps from the start of one sequence to the start of the next; None for `length`.
        fraction: Take this first part of each key's records, in time.
        idle_after: As for `cut`.
    """
    block = _of_first_part(_each_once(block), fraction)
    if not block.records:
        return
    begins = _begins(block, idle_after)
    bounds = [*np.flatnonzero(begins).tolist(), block.records]
    for start, end in pairwise(bounds):
        key = block.keys[block.of_key[start]]
        times, numbers = block.time[start:end], block.numbers[start:end]
        yield from sequences_of(key, times, numbers, columns, length, stride)


def _each_once(block: Block) -> Block:
    """Return the records sorted by key and bytes, equal ones once."""
    block = block.pick(by_key_and_bytes(*_record(block)))
    same = equal_to_the_one_before(*_record(block))
    return block.pick(~same) if same.any() else block


def _record(block: Block) -> tuple[Array, Array, Array, Array, Array]:
    return block.of_key, block.time, block.sequence, block.marks, block.numbers


def _of_first_part(block: Block, fraction: float) -> Block:
    """Return the first part of the records of each key."""
    if fraction >= 1.0 or not block.records:
        return block
    first = np.flatnonzero(_first_of_keys(block))
    counts = np.diff(np.append(first, block.records))
    place = np.arange(block.records) - np.repeat(first, counts)
    taken = (counts * fraction).astype(np.int64)
    return block.pick(place < np.repeat(taken, counts))


def _begins(block: Block, idle_after: int | None) -> Array:
    """Return True for each record with which a sequence begins."""
    begins = _first_of_keys(block) | starts_of(block.marks)
    begins[1:] |= ends_of(block.marks)[:-1]
    if idle_after is not None:
        begins[1:] |= np.diff(block.time) > idle_after
    return begins


def _first_of_keys(block: Block) -> Array:
    return np.append(True, block.of_key[1:] != block.of_key[:-1])[: block.records]
