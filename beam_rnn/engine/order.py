"""When a record has its turn: the rules of order, without Beam's cells and timers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.order_format import Armed
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.records.record_format import record_sequence, record_time
from beam_rnn.records.waiting_format import (
    decode_waiting,
    encode_waiting_rows,
    waiting_marks,
    waiting_records,
)

MILLISECOND = 1000  # microseconds
END_OF_TIME = 9_223_371_950_454_000_000
"""The last second of Beam's global window, in microseconds since 1970.

What comes out of a triggered grouping in the global window has its end as a timestamp, which says
nothing of when it came.
"""
LOWEST = -(2**63)
"""Below every sequence number that counts."""
NEVER = 2**63 - 1
"""After every time."""


class Place(NamedTuple):
    """Where a key is.

    Attributes:
        time: The latest event time of the records that were stepped, in microseconds since 1970.
        number: The sequence number of the last one.
        due: When that one had its turn.
        begun: The event time from which its numbers count: that of the start mark with which they
            began anew; `sweep.LONG_AGO` if they did not.
    """

    time: int
    number: int
    due: int
    begun: int


@dataclass(frozen=True)
class Order:
    """When a record has its turn.

    Args:
        by: "event_time": when the watermark has passed it; "sequence": when its number is the
            next one, or the watermark has passed it; "arrival": at once.
        wait: How many microseconds longer than the watermark says a record is waited for.
        grid: Records become due at multiples of so many microseconds.
        max_jump: By number: a record whose number is more than so much above the last one of its
            key is refused; None for no limit.
    """

    by: str
    wait: int
    grid: int
    max_jump: int | None = None

    @property
    def field(self) -> str:
        """The field by which records of a key are ordered: "sequence" or "time"."""
        return "sequence" if self.by == "sequence" else "time"

    def due(self, time: int, arrived: int = LONG_AGO) -> int:
        """When the watermark has passed a time, on the grid.

        Later than the time plus `wait`, since a record at the watermark is not late, and not
        before the timestamp with which the record arrived, since the watermark may be there. A
        whole millisecond, since that is what runners keep of a timer.

            >>> Order("event_time", wait=0, grid=500_000).due(2_000_000)
            2500000

        Args:
            time: The time, in microseconds since 1970.
            arrived: The Beam timestamp of the record, in microseconds since 1970; `LONG_AGO`
                if that does not matter.
        """
        on_grid = ((time + self.wait) // self.grid + 1) * self.grid
        if arrived >= END_OF_TIME:
            return on_grid
        return max(on_grid, -(-arrived // MILLISECOND) * MILLISECOND)

    def due_at(self, time: Array, arrived: Array | int) -> Array:
        """`due` of many records: (records,) each."""
        on_grid = ((time + self.wait) // self.grid + 1) * self.grid
        stamped = np.where(np.asarray(arrived) < END_OF_TIME, arrived, LONG_AGO)
        return np.maximum(on_grid, -(-stamped // MILLISECOND) * MILLISECOND)

    def idle_at(self, time: int, due: int, idle_after: int) -> int:
        """When a sequence ends if no record of it comes: `idle_after` after its last turn.

        Its Beam timestamps count too: they may be of another clock than its records.

        Args:
            time: The latest event time of its records, in microseconds since 1970.
            due: When the last of them had its turn.
            idle_after: How long it may be idle, in microseconds.
        """
        return self.due(time + idle_after, due + idle_after)

    def idle_at_of(self, time: Array, due: Array, idle_after: int) -> Array:
        """`idle_at` of many sequences: (sequences,) each."""
        return self.due_at(time + idle_after, due + idle_after)

    def is_behind(self, record: bytes, place: Place, *, restarts: bool = False) -> bool:
        """Return True if the hidden state has passed the place of a record.

        Args:
            record: The record.
            place: Where its key is.
            restarts: Its numbers may have begun anew, with a record that is not here yet.
        """
        time, number = record_time(record), record_sequence(record)
        later = restarts and place.begun <= time > place.time
        return not later and self.has_passed(place, time, number, starts=False)

    def has_passed(self, place: Place, time: int, number: int, *, starts: bool) -> bool:
        """Return True if a record that has its turn is late.

        By number, one with a start mark that is later than the last one begins the numbers anew.
        """
        if self.by != "sequence":
            return time <= place.time
        if time < place.begun:
            return True
        return number <= place.number and not (starts and time > place.time)

    def verdict(self, place: Place | None, time: int, number: int, *, starts: bool) -> str:
        """What becomes of a record that has its turn, by number.

        "next", "anew" (the numbers begin anew with it), "late" or "jump" (it is refused).
        """
        if place is None:
            return "next"
        if self.has_passed(place, time, number, starts=starts):
            return "late"
        if self.jumps(place.number, number, starts=starts):
            return "jump"
        return "anew" if number <= place.number else "next"

    def jumps(self, reached: int, number: int, *, starts: bool) -> bool:
        """Return True if a number is too far above the one that was reached."""
        return self.max_jump is not None and not starts and number - reached > self.max_jump

    def why_refused(self, reached: int, number: int) -> str:
        """What a dead letter says of a number that jumps."""
        return (
            f"its number {number} is {number - reached} above the last one of its key, {reached}: "
            f"more than max_jump={self.max_jump}"
        )

    def refused(self, number: Array, starts: Array, reached: int) -> Array:
        """Which records of one run, in order, jump: (records,)."""
        refused = np.zeros(len(number), bool)
        for i, (n, marked) in enumerate(zip(number.tolist(), starts.tolist(), strict=True)):
            refused[i] = self.jumps(reached, n, starts=marked)
            reached = reached if refused[i] else n
        return refused


def runs_of(time: Array, number: Array, starts: Array, reached: int) -> Array:
    """The run of numbers of each record of one key: (records,); 0 is the run that goes on.

    A run begins with a start mark whose number is not above those before it in time; all later
    records are in it.

        >>> time, starts = np.array([1, 2, 9, 8]), np.array([False, False, False, True])
        >>> runs_of(time, np.array([5, 6, 1, 0]), starts, reached=4).tolist()
        [0, 0, 1, 1]

    Args:
        time: (records,), their event times.
        number: (records,), their sequence numbers.
        starts: (records,), whether each has a start mark.
        reached: The number that the key has reached; `LOWEST` before its first record.
    """
    runs = np.zeros(len(time), np.int64)
    if not starts.any():
        return runs
    order = np.lexsort((number, ~starts, time))
    in_time, high = number[order], reached
    begins, seen = np.zeros(len(time), bool), 0
    marked = np.flatnonzero(starts[order])
    _, first = np.unique(time[order][marked], return_index=True)  # one run begins at a time
    for at in marked[first].tolist():
        high = max(high, int(in_time[seen:at].max(initial=LOWEST)))
        if in_time[at] <= high:
            begins[at], high = True, LOWEST
        seen = at
    runs[order] = np.cumsum(begins)
    return runs


class Turn(NamedTuple):
    """When a record has its turn, in microseconds since 1970.

    Attributes:
        due: When it is due by itself.
        at: The earliest time at which it, or a record of its key behind it, in its place or in its
            run of numbers, is due: any of these takes it along. Independent of the watermark.
    """

    due: int
    at: int


class Waiting:
    """The records of one key that wait for their turn, in order.

    Args:
        order: When they have it.
        rows: From `beam_rnn.records.waiting_format.decode_waiting`.
        place: Where the key is; None before its first record.

    Attributes:
        reached: Exactly the records up to this place (in its stored form) were taken; -1 if
            some before it still wait; None if nothing was taken.
        stored: The number of records read, including those taken in earlier turns.
    """

    def __init__(self, order: Order, rows: Array, place: Place | None = None):
        self._order, self._place = order, place
        self.reached: int | None = None
        self.stored = len(rows)
        by_number = order.by == "sequence"
        places = rows["sequence"].astype(np.uint64) if by_number else rows["time"]
        runs = np.zeros(len(rows), np.int64)
        if by_number and len(rows):
            reached = LOWEST if place is None else place.number
            runs = runs_of(_times(rows), _numbers(rows), _starts(rows), reached)
        in_order = np.lexsort((places, runs))
        self._rows, self._places, self._runs = rows[in_order], places[in_order], runs[in_order]

    @classmethod
    def read(
        cls,
        order: Order,
        pieces: Sequence[bytes],
        armed: Armed | None = None,
        place: Place | None = None,
    ) -> "Waiting":
        """The records in pieces, which may be in any order, except those already taken."""
        rows, turns = decode_waiting(pieces)
        stored = len(rows)
        if armed is not None and armed.turns:
            rows = rows[~((turns < armed.turns) & (rows[order.field] <= armed.reached))]
        waiting = cls(order, rows, place)
        waiting.stored = stored
        return waiting

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def earliest(self) -> int | None:
        """When the first of them is due."""
        return int(self._rows["due"].min()) if len(self) else None

    @property
    def first_time(self) -> int | None:
        """The earliest event time of those that are neither late nor refused."""
        times = _times(self._rows)[~self._passed() & ~self._refused()]
        return int(times.min()) if len(times) else None

    def turn(self, now: int) -> tuple[dict[bytes, Turn], "Waiting"]:
        """The records that have their turn now; and the rest.

        Those before them are taken too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a record that is here is never late.
        """
        due = self._rows["due"] <= now
        if not due.any():
            return {}, self
        alone = self._passed() | self._refused()  # they take no other with them
        leading = np.flatnonzero(due & ~alone)
        taken = due.copy()
        if len(leading):
            count = self._ties(int(leading[-1]) + 1)
            taken[: count if self._order.by != "sequence" else self._follow(count)] = True
            taken &= due | ~alone
        return self._taken(taken)

    def following(self, number: int) -> tuple[dict[bytes, Turn], "Waiting"]:
        """The records whose numbers follow on one another from this one on; and the rest."""
        start = int(np.argmax(~self._passed())) if len(self) else 0
        if start >= len(self) or self._runs[start] or _numbers(self._rows)[start] != number:
            return {}, self
        taken = np.zeros(len(self), bool)
        taken[start : self._follow(start + 1)] = True
        return self._taken(taken)

    def _passed(self) -> Array:
        """Which records are late, unless the numbers begin anew before them: (records,)."""
        if self._order.by != "sequence" or self._place is None:
            return np.zeros(len(self), bool)
        return (self._runs == 0) & (_numbers(self._rows) <= self._place.number)

    def _refused(self) -> Array:
        """Which records have a number that jumps: (records,)."""
        refused = np.zeros(len(self), bool)
        if self._order.by != "sequence" or self._order.max_jump is None:
            return refused
        passed, number, starts = self._passed(), _numbers(self._rows), _starts(self._rows)
        for run in np.unique(self._runs).tolist():
            here = np.flatnonzero((self._runs == run) & ~passed)
            if len(here):
                reached = int(number[here[0]])
                if self._place is not None and run == 0:
                    reached = self._place.number
                refused[here] = self._order.refused(number[here], starts[here], reached)
        return refused

    def _ties(self, count: int) -> int:
        """How many records there are up to the last one of the same place."""
        while count < len(self) and self._stands_at(count) == self._stands_at(count - 1):
            count += 1
        return count

    def _stands_at(self, i: int) -> tuple[int, int]:
        return int(self._runs[i]), int(self._places[i])

    def _follow(self, count: int) -> int:
        """How many records there are up to the first number that is missing."""
        while count < len(self) and self._goes_on(count):
            count += 1
        return count

    def _goes_on(self, i: int) -> bool:
        (run, place), (run_before, before) = self._stands_at(i), self._stands_at(i - 1)
        return run == run_before and place <= before + 1

    def left_of(self, piece: bytes, turns: int) -> bytes | None:
        """The records of a piece that were not taken, as one that came after so many turns."""
        rows, _ = decode_waiting([piece])
        left = rows[rows[self._order.field] > self.reached]
        return encode_waiting_rows(left, turns) if len(left) else None

    def _taken(self, taken: Array) -> tuple[dict[bytes, Turn], "Waiting"]:
        rows, runs = self._rows[taken], self._runs[taken]
        places = self._places[taken].astype(np.uint64)
        begins = np.ones(len(rows), bool)
        step = np.uint64(self._order.by == "sequence")
        begins[1:] = (runs[1:] != runs[:-1]) | (places[1:] > places[:-1] + step)
        at = np.minimum.accumulate(rows["due"][::-1])[::-1]
        at = at[np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))]
        numbers = places.tolist() if self._order.by == "sequence" else runs.tolist()
        turns = map(Turn, rows["due"].tolist(), at.tolist())
        records = zip(runs.tolist(), numbers, waiting_records(rows), turns, strict=True)
        entries = sorted(records, reverse=True)
        # The first of equal records, and the one that is due first, comes last and stays.
        stays = {record: turn for _, _, record, turn in entries}
        in_order = (
            dict(reversed(stays.items()))
            if len(stays) == len(entries)
            else {record: stays[record] for _, _, record, _ in reversed(entries)}
        )
        rest = Waiting(self._order, self._rows[~taken], self._place)
        reached = int(places.max(initial=0))
        is_left_behind = (self._places[~taken].astype(np.uint64) <= reached).any()
        rest.reached = -1 if is_left_behind else reached
        return in_order, rest

    def to_bytes(self, turns: int = 0) -> bytes:
        """What `read` reads, at least one record."""
        return encode_waiting_rows(self._rows, turns)


def _times(rows: Array) -> Array:
    """The event times of rows of `decode_waiting`."""
    return (rows["time"].astype(np.uint64) ^ np.uint64(1 << 63)).view(np.int64)


def _numbers(rows: Array) -> Array:
    """The sequence numbers of rows of `decode_waiting`."""
    return (rows["sequence"].astype(np.uint64) ^ np.uint64(1 << 63)).view(np.int64)


def _starts(rows: Array) -> Array:
    """Which of them have a start mark."""
    return waiting_marks(rows) & 1 == 0
