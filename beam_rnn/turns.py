"""When a record has its turn: the rules of order, without Beam's cells and timers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.state import (
    Armed,
    decode_waiting,
    encode_waiting_rows,
    record_sequence,
    record_time,
    waiting_marks,
    waiting_records,
)
from beam_rnn.sweep import LONG_AGO

MILLISECOND = 1000  # microseconds
END_OF_TIME = 9_223_371_950_454_000_000
"""The last second of Beam's global window, in microseconds since 1970.

What comes out of a triggered grouping in the global window has its end as a timestamp, which says
nothing of when it came.
"""
LOWEST = -(2**63)
"""Below every sequence number."""
NEVER = 2**63 - 1
"""After every time."""


class Place(NamedTuple):
    """Where a key is.

    Attributes:
        time: The latest event time of the records that were stepped, in microseconds since 1970.
        number: The sequence number of the last one.
        due: When that one had its turn.
        begun: The event time from which its numbers count, since they began anew;
            `sweep.LONG_AGO` if they did not.
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
        idle_after: A sequence ends where the next record is more than so many microseconds later,
            and by number the numbers begin anew there; None for nowhere.
    """

    by: str
    wait: int
    grid: int
    max_jump: int | None = None
    idle_after: int | None = None

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

    def is_idle(self, place: Place, time: int) -> bool:
        """Return True if a record comes too late to belong to the sequence before it."""
        return self.idle_after is not None and time - place.time > self.idle_after

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

        By number, the numbers begin anew with one that has a start mark and is later than the last
        one, and with one that is more than `idle_after` later.
        """
        if self.by != "sequence":
            return time <= place.time
        if time < place.begun:
            return True
        anew = (starts and time > place.time) or self.is_idle(place, time)
        return number <= place.number and not anew

    def verdict(self, place: Place | None, time: int, number: int, *, starts: bool) -> str:
        """What becomes of a record that has its turn, by number.

        "next", "anew" (the numbers begin anew with it), "late" or "jump" (it is refused).
        """
        if place is None:
            return "next"
        if self.has_passed(place, time, number, starts=starts):
            return "late"
        if not self.is_idle(place, time) and self.jumps(place.number, number, starts=starts):
            return "jump"
        return "anew" if number <= place.number else "next"

    def begun(self, place: Place, time: int) -> int:
        """The event time from which numbers count that begin anew with a record of a time."""
        if self.idle_after is not None and self.is_idle(place, time):
            return place.time + self.idle_after + 1
        return time

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


LEFT_BEHIND = 1
"""The run of records whose numbers the key has passed."""


def runs_of(
    time: Array,
    number: Array,
    starts: Array,
    due: Array,
    place: Place | None = None,
    idle_after: int | None = None,
) -> Array:
    """The run of numbers of each record of one key: (records,).

    0 is the run that goes on, `LEFT_BEHIND` its records that are late. Another run begins after a
    pause: where a record is more than `idle_after` later than all that are due before it; all that
    are due later are behind it. It also begins with a start mark whose number is not above those
    before it in time; all later records are behind it. Late records count for neither.

        >>> time, starts = np.array([1, 2, 9, 8]), np.array([False, False, False, True])
        >>> place = Place(time=0, number=4, due=0, begun=LONG_AGO)
        >>> runs_of(time, np.array([5, 3, 1, 0]), starts, time, place).tolist()
        [0, 1, 2, 2]
        >>> runs_of(time, np.array([5, 6, 9, 8]), starts & False, time, place, 5).tolist()
        [0, 0, 2, 2]

    Args:
        time: (records,), their event times.
        number: (records,), their sequence numbers.
        starts: (records,), whether each has a start mark.
        due: (records,), from `first_due`.
        place: Where the key is; None before its first record.
        idle_after: As in `Order`.
    """
    latest, high = (LONG_AGO, LOWEST) if place is None else (place.time, place.number)
    late = _late(time, number, starts, place)
    if idle_after is None and not starts.any():
        return np.where(late, LEFT_BEHIND, 0)
    paused, latest_before = _paused(time, due, late, latest, idle_after)
    order = np.lexsort((number, ~starts, time, paused))
    marked = _first_marks(time[order], starts[order], latest_before[order])
    numbers, paused, late = number[order], paused[order], late[order]
    anew = np.append(paused[:1] > 0, paused[1:] > paused[:-1])
    begins, seen = np.zeros(len(order), bool), 0
    counted = np.where(late & (paused == 0), LOWEST, numbers)
    for at in np.flatnonzero(marked | anew).tolist():
        high, seen = max(high, int(counted[seen:at].max(initial=LOWEST))), at
        if anew[at] or numbers[at] <= high:
            begins[at], high, counted = True, LOWEST, numbers
    run = np.cumsum(begins)
    runs = np.empty(len(order), np.int64)
    runs[order] = np.where(run > 0, run + LEFT_BEHIND, np.where(late, LEFT_BEHIND, 0))
    return runs


def _late(time: Array, number: Array, starts: Array, place: Place | None) -> Array:
    """Which records the numbers have passed, without regard to pauses: (records,)."""
    if place is None:
        return np.zeros(len(time), bool)
    marks = starts & (time > place.time) & (number <= place.number)
    begin = time[marks].min(initial=NEVER)
    return ((number <= place.number) & (time < begin)) | (time < place.begun)


def _first_marks(time: Array, starts: Array, latest: Array) -> Array:
    """Which start marks can begin a run: of those of a time, which stand first in it, one."""
    first = np.append(True, time[1:] != time[:-1])
    return starts & (first | ~np.append(False, starts[:-1])) & (time > latest)


def _paused(
    time: Array, due: Array, late: Array, latest: int, idle_after: int | None
) -> tuple[Array, Array]:
    """How many pauses there are before each record, and the latest time before the last one."""
    if idle_after is None:
        return np.zeros(len(time), np.int64), np.full(len(time), latest)
    order = np.lexsort((time, due))
    in_turn, counted = time[order], np.where(late, LONG_AGO, time)[order]
    before = np.maximum.accumulate(np.append(latest, counted[:-1]))
    first = np.flatnonzero(pauses(before, in_turn, idle_after))[:1]
    for at in first.tolist():  # none is late after a pause
        counted[at:] = in_turn[at:]
        before = np.maximum.accumulate(np.append(latest, counted[:-1]))
    begins = pauses(before, in_turn, idle_after)
    paused, latest_before = np.empty(len(time), np.int64), np.empty(len(time), np.int64)
    paused[order] = which = np.cumsum(begins)
    latest_before[order] = np.append(latest, before[begins])[which]
    return paused, latest_before


def first_due(due: Array, *same: Array) -> Array:
    """Return when the first of the records is due that are equal to each in these columns.

    Those of one time and number are taken together.

        >>> first_due(np.array([7, 5, 9]), np.array([1, 2, 1])).tolist()
        [7, 5, 7]
    """
    order = np.lexsort((due, *same))
    first = np.arange(len(due))
    if len(due):
        alike = [column[order][1:] == column[order][:-1] for column in same]
        first[1:][np.logical_and.reduce(alike)] = 0
    earliest = np.empty_like(due)
    earliest[order] = due[order][np.maximum.accumulate(first)]
    return earliest


def pauses(before: Array, time: Array, idle_after: int | None) -> Array:
    """Return which records come more than `idle_after` after the latest one before: (records,).

    Args:
        before: (records,), the latest event time before each; `sweep.LONG_AGO` for none.
        time: (records,), their event times.
        idle_after: As in `Order`.
    """
    if idle_after is None:
        return np.zeros(len(time), bool)
    return np.asarray((before > LONG_AGO) & (time - before > idle_after))


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
        rows: From `beam_rnn.state.decode_waiting`.
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
            columns = _times(rows), _numbers(rows), _starts(rows)
            due = first_due(rows["due"].astype(np.int64), *columns[:2])
            runs = runs_of(*columns, due, place, order.idle_after)
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
        """The earliest event time of them."""
        return int(_times(self._rows).min()) if len(self) else None

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
        if not len(self) or self._runs[0] or _numbers(self._rows)[0] != number:
            return {}, self
        return self._taken(np.arange(len(self)) < self._follow(1))

    def _passed(self) -> Array:
        """Which records are late, unless the numbers begin anew before them: (records,)."""
        return np.asarray(self._runs == LEFT_BEHIND)

    def _refused(self) -> Array:
        """Which records have a number that jumps: (records,)."""
        refused = np.zeros(len(self), bool)
        if self._order.by != "sequence" or self._order.max_jump is None:
            return refused
        number, starts = _numbers(self._rows), _starts(self._rows)
        for run in np.unique(self._runs[~self._passed()]).tolist():
            here = np.flatnonzero(self._runs == run)
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
        alone = runs == LEFT_BEHIND  # a late one takes no other along
        at = np.minimum.accumulate(np.where(alone, NEVER, rows["due"])[::-1])[::-1]
        at = at[np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))]
        at = np.where(alone, rows["due"], at)
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
