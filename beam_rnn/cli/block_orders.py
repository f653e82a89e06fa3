"""The order of the records of a block, by the column: what `order_of_key` finds key by key."""

from collections.abc import Iterator

import numpy as np

from beam_rnn.cli.order_text import EXAMPLES, STEPS, Orders, Tie
from beam_rnn.core.arrays import Array
from beam_rnn.records.block_format import Block, encoded


def orders_of(block: Block) -> Orders:
    """Return the order of the records of all keys of a block of at least one record.

    >>> from beam_rnn.records.column_reader import ColumnReader
    >>> from beam_rnn import Columns
    >>> reader = ColumnReader(Columns(key="id", time="t", inputs=["x"]))
    >>> records = [{"id": "a", "t": t, "x": x} for t, x in ((0, 1.0), (9, 2.0), (0, 1.0), (9, 3.0))]
    >>> found = orders_of(reader.read_block(records, np.zeros(4, np.int64))[0])
    >>> found.records, found.equal, found.tied, found.steps
    (3, 1, 2, {9000000: 1})
    """
    order = np.lexsort((block.sequence, block.time, block.of_key))
    key, time, sequence = block.of_key[order], block.time[order], block.sequence[order]
    same = (key[1:] == key[:-1]) & (time[1:] == time[:-1]) & (sequence[1:] == sequence[:-1])
    equal = tied = 0
    tie: Tie | None = None
    examples: set[tuple[str, bytes]] = set()
    for places in _groups(same):
        name, alike = block.keys[key[places[0]]], encoded(block.pick(order[places]))
        distinct = sorted(set(alike))
        equal += len(alike) - len(distinct)
        if len(distinct) > 1:
            tied += len(distinct)
            found = Tie(name, int(time[places[0]]), distinct[0], distinct[1])
            tie = found if tie is None else min(tie, found)
        if len(examples) < EXAMPLES:
            examples |= {(name, data) for data in distinct if alike.count(data) > 1}
    return Orders(
        len(np.unique(key)),
        len(key) - equal,
        equal,
        tied,
        tie,
        int(time.min()),
        int(time.max()),
        _usual_steps(key, time),
        tuple(sorted(examples)[:EXAMPLES]),
    )


def _groups(same: Array) -> Iterator[Array]:
    """Yield the places of records that are in one place, where there are several."""
    joined = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for start, end in joined.reshape(-1, 2).tolist():
        yield np.arange(start, end + 1)


def _usual_steps(key: Array, time: Array) -> dict[int, int]:
    """Return the number of keys with each usual step, of records sorted by key and time."""
    steps = time[1:] - time[:-1]
    here = (key[1:] == key[:-1]) & (steps > 0)
    of_key, steps = key[1:][here], steps[here]
    if not len(steps):
        return {}
    order = np.lexsort((steps, of_key))
    of_key, steps = of_key[order], steps[order]
    first = np.flatnonzero(np.append(True, of_key[1:] != of_key[:-1]))
    count = np.diff(np.append(first, len(of_key)))
    usual, keys = np.unique(steps[first + (count - 1) // 2], return_counts=True)
    most = np.argsort(-keys, kind="stable")[:STEPS]
    return dict(zip(usual[most].tolist(), keys[most].tolist(), strict=True))
