"""The records of many keys that wait for their turn, and which of them have it.

What `beam_rnn.turns.Waiting` does for one key, by the column.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.shards.blocks import starts_of
from beam_rnn.sweep import LONG_AGO
from beam_rnn.turns import LEFT_BEHIND, LOWEST, NEVER, Order, Place, first_due, pauses, runs_of

NOW = np.iinfo(np.int64).min
"""When a record was due that need not wait: now."""
_NO_PLACES = np.zeros(0, np.int64)


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


class Places(NamedTuple):
    """Where the keys of a shard are, as `beam_rnn.turns.Place` has it: a row each.

    Attributes:
        number: (rows,), the sequence numbers that they have reached; `LOWEST` before the first.
        time: (rows,), their latest event times; `LONG_AGO` before the first.
        begun: (rows,), the event times from which their numbers count.
    """

    number: Array
    time: Array
    begun: Array

    def of(self, row: int) -> Place | None:
        """Return where one key is; None before its first record."""
        number, time, begun = (int(column[row]) for column in self)
        return None if number == LOWEST else Place(time, number, LONG_AGO, begun)


class _Part:
    """Some of the records that wait.

    Records that were taken stay in place until they are half of the part, so that the records that
    still wait are not copied at each turn.
    """

    def __init__(self, held: Held):
        self._held = held
        self._here = np.ones(len(held.time), bool)
        self.left = len(held.time)
        self.earliest = int(held.due.min())

    @property
    def held(self) -> Held:
        """Those that wait."""
        return self._held if self._here.all() else self._held.pick(self._here)

    def column(self, name: str) -> Array:
        """One column of those that wait, without the others."""
        column: Array = getattr(self._held, name)
        return column[self._here]

    def places(self, which: Array) -> Array:
        """The places of the waiting records for which `which` is true."""
        return np.flatnonzero(which & self._here)

    def due(self, now: int) -> Array:
        """The places of those that are due."""
        return self.places(self._held.due <= now) if self.earliest <= now else _NO_PLACES

    def take(self, places: Array) -> None:
        """These wait no more."""
        self._here[places] = False
        self.left -= len(places)
        if 2 * self.left <= len(self._here):
            self._held = self._held.pick(self._here)
            self._here = np.ones(self.left, bool)
        self.earliest = int(self._held.due.min(initial=NEVER, where=self._here))

    def pick(self, places: Array) -> Held:
        """Some of them."""
        return self._held if len(places) == len(self._here) else self._held.pick(places)

    def __getitem__(self, name: str) -> Array:
        """One column, including records that were taken."""
        column: Array = getattr(self._held, name)
        return column


class Pending:
    """The records that wait, of all keys of a shard.

    Args:
        order: When they have their turn.
    """

    def __init__(self, order: Order):
        self._order = order
        self._parts: list[_Part] = []  # each more than twice as large as the next
        self._new: list[Held] = []
        self._new_earliest = NEVER
        self.of_piece: Counter[int] = Counter()
        """How many records of each payload wait."""

    @property
    def earliest(self) -> int | None:
        """When the first of them is due."""
        first = min([self._new_earliest, *(part.earliest for part in self._parts)])
        return None if first == NEVER else first

    def add(self, held: Held) -> None:
        """More records."""
        if len(held.time):
            self._new.append(held)
            self._new_earliest = min(self._new_earliest, int(held.due.min()))
            self._count(held.piece, 1)

    def all(self) -> Held | None:
        """All records that wait; None for none."""
        self._settle()
        return joined([part.held for part in self._parts]) if self._parts else None

    def column(self, name: str) -> Array:
        """One column of all records that wait."""
        self._settle()
        return np.concatenate([_NO_PLACES, *(part.column(name) for part in self._parts)])

    def rows_of(self, piece: int) -> Array:
        """The rows of a payload whose records wait."""
        return self.column("at")[self.column("piece") == piece]

    def forget(self, numbers: Array) -> None:
        """Some of them wait no more."""
        self._settle()
        self._take([(part, part.places(np.isin(part["number"], numbers))) for part in self._parts])

    def turn(self, now: int, known: Places) -> tuple[Held, Array] | None:
        """The records that have their turn now, in the order of their keys and places.

        Those before them are taken too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a record that is here is never late.

        Args:
            now: Where the watermark is.
            known: Where the keys are.

        Returns:
            The records, and the turn of each: when the earliest of the records was due for which
            it is taken, which does not depend on `now`. None if there are none.
        """
        self._settle()
        due = [(part, part.due(now)) for part in self._parts]
        if not any(len(places) for _, places in due):
            return None
        if self._order.by == "sequence":
            rows = np.concatenate([part["row"][places] for part, places in due])
            return self._take_runs(rows, now, known)
        latest = max(int(part["time"][places].max(initial=NOW)) for part, places in due)
        candidates = [(part, part.places(part["time"] <= latest)) for part in self._parts]
        held = joined([part.pick(places) for part, places in candidates])
        here = held.due <= now
        upto = np.full(int(held.row.max()) + 1, NOW)
        np.maximum.at(upto, held.row[here], held.time[here])
        taken = held.time <= upto[held.row]
        self._take_some(candidates, taken)
        return _with_turns(held.pick(taken), self._order.by)

    def following(self, rows: Array, known: Places) -> tuple[Held, Array] | None:
        """The records of some keys that follow the numbers the keys have reached."""
        self._settle()
        return self._take_runs(rows, None, known)

    def first_times(self, rows: int) -> Array:
        """(rows,), the earliest event time of each key's records.

        Of a key that has none it is far away.
        """
        times = np.full(rows, _FAR)
        np.minimum.at(times, self.column("row"), self.column("time"))
        return times

    def _in_runs(self, held: Held, keys: Places) -> "_InRuns":
        """Records by key, run and number."""
        row, number, starts = held.row, held.sequence, starts_of(held.marks)
        run = _runs(held, starts, keys, self._order.idle_after)
        places = np.lexsort((number, run, row))
        row, number, run = row[places], number[places], run[places]
        known = keys.number[row]
        alone = run == LEFT_BEHIND
        if self._order.max_jump is not None:
            starts = starts[places]
            begins = np.append(True, (row[1:] != row[:-1]) | (run[1:] != run[:-1]))
            before = np.where(run == 0, known, LOWEST)
            before[1:] = np.where(begins[1:], before[1:], np.maximum(before[1:], number[:-1]))
            jumps = ~alone & (before > LOWEST) & (number - self._order.max_jump > before)
            of_run = np.cumsum(begins)
            for which in np.unique(of_run[jumps]).tolist():
                whole = slice(*np.searchsorted(of_run, [which, which + 1]))
                part = np.arange(len(row))[whole][~alone[whole]]
                goes_on = run[part[0]] == 0 and known[part[0]] > LOWEST
                from_there = int(known[part[0]] if goes_on else number[part[0]])
                alone[part] = self._order.refused(number[part], starts[part], from_there)
        return _InRuns(places, row, number, run, alone)

    def _take_runs(self, rows: Array, now: int | None, known: Places) -> tuple[Held, Array] | None:
        """Take what is due of some keys or, without `now`, what follows the number reached."""
        if not self._parts:
            return None
        size = max(int(part["row"].max()) for part in self._parts)
        wanted = np.zeros(max(size, int(rows.max())) + 1, bool)
        wanted[rows] = True
        candidates = [(part, part.places(wanted[part["row"]])) for part in self._parts]
        held = joined([part.pick(places) for part, places in candidates])
        if not len(held.time):
            return None
        places, row, number, run, alone = self._in_runs(held, known)
        pieces = np.cumsum(_breaks(row, run, number))
        if now is None:
            due = np.zeros(len(row), bool)
            leading = (run == 0) & (number == known.number[row] + 1)
        else:
            due = held.due[places] <= now
            leading = due & ~alone
        upto = np.zeros(int(row.max()) + 1, np.int64)
        np.maximum.at(upto, row[leading], pieces[leading])
        chosen = places[due | (~alone & (pieces <= upto[row]))]
        if not len(chosen):
            return None
        taken = np.zeros(len(held.time), bool)
        taken[chosen] = True
        self._take_some(candidates, taken)
        of_records = np.empty(len(held.time), np.int64)
        of_records[places] = run
        return _with_turns(held.pick(taken), self._order.by, of_records[taken])

    def _settle(self) -> None:
        """Make the new records a part, merged with parts that are not much larger."""
        if not self._new:
            return
        new, self._new, self._new_earliest = joined(self._new), [], NEVER
        while self._parts and self._parts[-1].left <= 2 * len(new.time):
            new = joined([self._parts.pop().held, new])
        self._parts.append(_Part(new))

    def _take_some(self, candidates: list[tuple[_Part, Array]], taken: Array) -> None:
        """Take some of the candidates, which stand one part after the other."""
        ends = np.cumsum([len(places) for _, places in candidates]).tolist()
        self._take(
            [
                (part, places[taken[end - len(places) : end]])
                for end, (part, places) in zip(ends, candidates, strict=True)
            ]
        )

    def _take(self, taken: list[tuple[_Part, Array]]) -> None:
        for part, places in taken:
            if len(places):
                self._count(part["piece"][places], -1)
                part.take(places)
        self._parts = [part for part in self._parts if part.left]

    def _count(self, piece: Array, sign: int) -> None:
        for each, places in grouped(piece):
            self.of_piece[each] += sign * len(places)
            if not self.of_piece[each]:
                del self.of_piece[each]


def _runs(held: Held, starts: Array, known: Places, idle_after: int | None) -> Array:
    """The run of numbers of each record, as `runs_of` says of each key: (records,)."""
    number, time, begun = (column[held.row] for column in known)
    late = (number > LOWEST) & ((held.sequence <= number) | (held.time < begun))
    run = np.where(late, LEFT_BEHIND, 0)
    if idle_after is None and not starts.any():
        return run
    in_time = np.lexsort((held.sequence, ~starts, held.time, held.row))
    row = held.row[in_time]
    first = np.append(True, row[1:] != row[:-1])
    of_records = held.sequence[in_time]
    due = held.due
    odd = starts[in_time] & (of_records <= _before(of_records, number[in_time], first))
    if idle_after is not None:
        due = first_due(due, held.time, held.sequence, held.row)
        in_turn = np.lexsort((held.time, due, held.row))  # of the same keys
        times = held.time[in_turn]
        odd |= late[in_turn] | pauses(_before(times, time[in_turn], first), times, idle_after)
    for key, here in slices(row, np.unique(row[odd])):
        places = in_time[here]
        columns = held.time[places], held.sequence[places], starts[places], due[places]
        run[places] = runs_of(*columns, known.of(key), idle_after)
    return run


def _before(values: Array, known: Array, first: Array) -> Array:
    """The largest value before each record, of those of its key and what is known of that."""
    before = known.copy()
    high = running_max(values, first)
    before[1:] = np.where(first[1:], before[1:], np.maximum(before[1:], high[:-1]))
    return before


def slices(row: Array, rows: Array) -> Iterator[tuple[int, slice]]:
    """Where the records of some keys are, of records by key.

    >>> list(slices(np.array([3, 3, 5, 7]), np.array([3, 7])))
    [(3, slice(0, 2, None)), (7, slice(3, 4, None))]
    """
    bounds = (np.searchsorted(row, rows, side).tolist() for side in ("left", "right"))
    for key, start, end in zip(rows.tolist(), *bounds, strict=True):
        yield key, slice(start, end)


def _breaks(row: Array, run: Array, number: Array) -> Array:
    """Where numbers do not follow on one another, of records by key, run and number."""
    breaks = np.append(True, (row[1:] != row[:-1]) | (run[1:] != run[:-1]))
    breaks[1:] |= number[1:] > number[:-1] + 1
    return breaks


def _with_turns(held: Held, by: str, run: Array | None = None) -> tuple[Held, Array]:
    """Records taken together, in order, and when the earliest record that took each was due.

    That is any record of its key behind it, at the same time, or in the same run of numbers.
    """
    order = _in_order(held, by, run)
    if order is not None:
        held = held.pick(order)
    first = np.append(True, held.row[1:] != held.row[:-1])
    if by == "sequence":
        runs = np.zeros(len(held.row), np.int64) if run is None else run
        begins = _breaks(held.row, runs if order is None else runs[order], held.sequence)
    else:
        begins = first.copy()
        begins[1:] |= held.time[1:] > held.time[:-1]
    if begins.all() and (first[1:] | (held.due[1:] >= held.due[:-1])).all():
        return held, held.due
    alone = np.zeros(len(held.row), bool)  # a late one takes no other along
    if run is not None:
        alone = (run if order is None else run[order]) == LEFT_BEHIND
    due = np.where(alone, NEVER, held.due)
    due = -running_max(-due[::-1], np.append(True, first[:0:-1]))[::-1]
    due = due[np.maximum.accumulate(np.where(begins, np.arange(len(due)), 0))]
    return held, np.where(alone, held.due, due)


def running_max(values: Array, first: Array) -> Array:
    """The largest value so far, beginning anew where `first` says so.

    >>> running_max(np.array([3, 1, 2, 5]), np.array([True, False, True, False])).tolist()
    [3, 3, 2, 5]
    """
    levels, level = np.unique(values, return_inverse=True)
    offset = (np.cumsum(first) - 1) * len(levels)
    return levels[np.maximum.accumulate(level + offset) - offset]


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


def _in_order(held: Held, by: str, run: Array | None) -> Array | None:
    """Records in the order of their keys, runs, places and bytes; None if they stand in it.

    The bytes are those of an encoded record: time, number, marks, then each of its numbers. Of
    equal ones the earliest due comes first.
    """
    row, place = held.row, held.place(by)
    runs = [] if run is None or not run.any() else [run]
    if (
        not runs
        and ((row[1:] > row[:-1]) | ((row[1:] == row[:-1]) & (place[1:] > place[:-1]))).all()
    ):
        return None
    as_bytes = _bits(held.numbers).view(">u8").astype(np.uint64)
    record = [held.time, held.sequence, held.marks, *as_bytes.T]
    return np.lexsort((held.due, *record[::-1], place, *runs, row))


def duplicates(held: Held) -> Array:
    """Whether each record equals the one before it, of records from `Pending`: (records,).

    Their bytes are compared, as encoded records are key by key.
    """
    numbers = _bits(held.numbers)
    same = np.zeros(len(held.time), bool)
    same[1:] = (
        (held.row[1:] == held.row[:-1])
        & (held.time[1:] == held.time[:-1])
        & (held.sequence[1:] == held.sequence[:-1])
        & (held.marks[1:] == held.marks[:-1])
        & (numbers[1:] == numbers[:-1]).all(1)
    )
    return same


def _bits(numbers: Array) -> Array:
    """The bytes of numbers, as whole numbers; a NaN is not equal to itself, its bytes are."""
    return np.ascontiguousarray(numbers, "<f8").view("<u8")


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
