"""The records of many keys that wait for their turn, and which of them have it.

What `beam_rnn.turns.Waiting` does for one key, by the column.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.shards.blocks import starts_of
from beam_rnn.turns import LOWEST, Order, runs_of

NOW = np.iinfo(np.int64).min
"""When a record was due that need not wait: now."""


_FAR = 2**62


class Held(NamedTuple):
    """Records that are held, a row each.

    Attributes:
        number: (records,) int64, in the order in which they came.
        row: (records,) int64, the row of each one's key.
        due: (records,) int64, when each is due, in microseconds since 1970.
        time, sequence, marks, numbers: As in `beam_rnn.shards.blocks.Block`.
        piece: (records,) int64, which payload each came with.
        at: (records,) int32, the row of that payload.
    """

    number: Array
    row: Array
    due: Array
    time: Array
    sequence: Array
    marks: Array
    numbers: Array
    piece: Array
    at: Array

    def pick(self, records: Array | slice) -> "Held":
        """Some of the records, by their places or a mask."""
        return Held(*(column[records] for column in self))

    def place(self, by: str) -> Array:
        """Where each stands among those of its key: its number, or its time."""
        return self.sequence if by == "sequence" else self.time


def joined(parts: Sequence[Held]) -> Held:
    """Records that are held, together."""
    if len(parts) == 1:
        return parts[0]
    return Held(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Pending:
    """The records that wait, of all keys of a shard.

    Args:
        order: When they have their turn.
    """

    def __init__(self, order: Order):
        self._order = order
        self._parts: list[Held] = []
        self.earliest: int | None = None
        """When the first of them is due."""

    def add(self, held: Held) -> None:
        """More records."""
        if len(held.time):
            self._parts.append(held)
            first = int(held.due.min())
            self.earliest = first if self.earliest is None else min(first, self.earliest)

    def all(self) -> Held | None:
        """All records that wait, as they came; None for none."""
        if not self._parts:
            return None
        self._parts = [joined(self._parts)]
        return self._parts[0]

    def forget(self, numbers: Array) -> None:
        """Some of them wait no more."""
        held = self.all()
        if held is not None:
            self._keep(held, np.isin(held.number, numbers, invert=True))

    def turn(self, now: int, reached: Array) -> Held | None:
        """The records that have their turn now, in the order of their keys and places.

        Those before them are taken too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a record that is here is never late.

        Args:
            now: Where the watermark is.
            reached: The sequence number that the key of each row has reached; `LOWEST` for none.
        """
        held = self.all()
        if held is None:
            return None
        due = held.due <= now
        if not due.any():
            return None
        if self._order.by == "sequence":
            return self._take_runs(held, np.isin(held.row, held.row[due]), now, reached)
        upto = np.full(int(held.row.max()) + 1, NOW)
        np.maximum.at(upto, held.row[due], held.time[due])
        taken = held.time <= upto[held.row]
        self._keep(held, ~taken)
        return _by_key(held.pick(taken), self._order.by)

    def following(self, rows: Array, reached: Array) -> Held | None:
        """Of some keys the records whose numbers follow on those that they have reached."""
        held = self.all()
        return (
            None if held is None else self._take_runs(held, np.isin(held.row, rows), None, reached)
        )

    def first_times(self, reached: Array) -> Array:
        """(rows,), the event time of the first record in order of each key that is not late.

        Of a key that has none it is far away.
        """
        times = np.full(len(reached), _FAR)
        held = self.all()
        if held is None:
            return times
        if self._order.by != "sequence":
            np.minimum.at(times, held.row, held.time)
            return times
        numbered = self._in_runs(held, np.arange(len(held.time)), reached)
        ahead = numbered.places[~numbered.alone][::-1]  # of each key the first one comes last
        times[held.row[ahead]] = held.time[ahead]
        return times

    def _in_runs(self, held: Held, places: Array, reached: Array) -> "_InRuns":
        """Records at some places by key, run and number."""
        row, number, starts = held.row[places], held.sequence[places], starts_of(held.marks[places])
        run = np.zeros(len(places), np.int64)
        for key in np.unique(row[starts]).tolist():
            here = np.flatnonzero(row == key)
            at = places[here]
            run[here] = runs_of(held.time[at], number[here], starts[here], int(reached[key]))
        order = np.lexsort((number, run, row))
        places, row, number, run = places[order], row[order], number[order], run[order]
        known = reached[row]
        alone = (run == 0) & (number <= known) & (known > LOWEST)
        if self._order.max_jump is not None:
            starts = starts[order]
            begins = np.append(True, (row[1:] != row[:-1]) | (run[1:] != run[:-1]))
            for whole in np.split(np.arange(len(row)), np.flatnonzero(begins)[1:]):
                part = whole[~alone[whole]]
                if len(part):
                    goes_on = run[part[0]] == 0 and known[part[0]] > LOWEST
                    from_there = int(known[part[0]] if goes_on else number[part[0]])
                    alone[part] = self._order.refused(number[part], starts[part], from_there)
        return _InRuns(places, row, number, run, alone)

    def _take_runs(
        self, held: Held, candidates: Array, now: int | None, reached: Array
    ) -> Held | None:
        """Take what is due, or else what follows on what a key has reached."""
        places = np.flatnonzero(candidates)
        if not len(places):
            return None
        places, row, number, run, alone = self._in_runs(held, places, reached)
        breaks = np.append(True, (row[1:] != row[:-1]) | (run[1:] != run[:-1]))
        breaks[1:] |= number[1:] > number[:-1] + 1
        pieces = np.cumsum(breaks)
        if now is None:
            due = np.zeros(len(row), bool)
            leading = (run == 0) & (number == reached[row] + 1)
        else:
            due = held.due[places] <= now
            leading = due & ~alone
        upto = np.zeros(int(row.max()) + 1, np.int64)
        np.maximum.at(upto, row[leading], pieces[leading])
        taken = due | (~alone & (pieces <= upto[row]))
        places, run = places[taken], run[taken]
        if not len(places):
            return None
        mask = np.zeros(len(held.time), bool)
        mask[places] = True
        self._keep(held, ~mask)
        if not run.any():
            return _by_key(held.pick(mask), self._order.by)
        of_records = np.zeros(len(held.time), np.int64)
        of_records[places] = run
        return _by_key(held.pick(mask), self._order.by, of_records[mask])

    def _keep(self, held: Held, which: Array) -> None:
        self._parts, self.earliest = [], None
        if which.any():
            self.add(held.pick(which))


def by_row(held: Held) -> Held:
    """Records in the order of their keys, those of a key as they came."""
    row = held.row
    narrow = row.astype(np.uint16) if row.max(initial=0) < 2**16 else row  # is sorted faster
    return held.pick(np.argsort(narrow, kind="stable"))


class _InRuns(NamedTuple):
    """Records by key, run and number: where each is, and whether it takes no other with it."""

    places: Array
    row: Array
    number: Array
    run: Array
    alone: Array


def _by_key(held: Held, by: str, run: Array | None = None) -> Held:
    """Records in the order of their keys, places and bytes; of equal ones the earliest due first.

    The bytes are those of an encoded record: time, number, marks, then each of its numbers.
    """
    first = [held.row, held.place(by)]
    if run is not None:
        first.insert(1, run)
    else:
        sorted_by_row = by_row(held)
        row, place = sorted_by_row.row, sorted_by_row.place(by)
        if ((place[1:] > place[:-1]) | (row[1:] != row[:-1])).all():
            return sorted_by_row
    as_bytes = held.numbers.astype("<f8", copy=False).view(">u8").astype(np.uint64)
    record = [held.time, held.sequence, held.marks, *as_bytes.T]
    return held.pick(np.lexsort((held.due, *record[::-1], *first[::-1])))


def duplicates(held: Held) -> Array:
    """Whether each record equals the one before it, of records from `Pending`: (records,)."""
    same = np.zeros(len(held.time), bool)
    same[1:] = (
        (held.row[1:] == held.row[:-1])
        & (held.time[1:] == held.time[:-1])
        & (held.sequence[1:] == held.sequence[:-1])
        & (held.marks[1:] == held.marks[:-1])
        & (held.numbers[1:] == held.numbers[:-1]).all(1)
    )
    return same


def grouped(values: Array) -> Iterator[tuple[int, Array]]:
    """Each value that there is, rising, and its places, rising; mostly it is one.

    >>> [(value, places.tolist()) for value, places in grouped(np.array([7, 5, 7]))]
    [(5, [1]), (7, [0, 2])]
    """
    if not len(values):
        return
    if (values == values[0]).all():
        yield int(values[0]), np.arange(len(values))
        return
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        yield int(ordered[start]), order[start:end]


def different(values: Array) -> Array:
    """The values that there are, rising; mostly it is one."""
    if len(values) and (values == values[0]).all():
        return values[:1]
    return np.unique(values)
