"""The rules of order of one key: when a record is due, late, refused or missing.

`beam_rnn.engine.order_columns` has the same rules for many keys at once, as columns. No other
module decides them.

A record is *due* when the watermark has passed its time (or, by number, as soon as its number is
the next one). It is *late* if records after it were stepped already. By number, a record is
*refused* if its number is more than `max_jump` above the last one, and a *gap* is a number that
never came. A sequence is *idle* if its next record does not come within `idle_after`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.records.record_format import record_sequence, record_time
from beam_rnn.records.results import SequenceGap

MILLISECOND = 1000  # microseconds
END_OF_TIME = 9_223_371_950_454_000_000
"""The last second of Beam's global window, in microseconds since 1970.

The elements of a triggered grouping in the global window have its end as their timestamp, which
does not say when they came.
"""
NOW = -(2**63)
"""The Beam timestamp of a result that has that of the element: it need not wait."""
LOWEST = -(2**63)
"""Below every sequence number."""
NEVER = 2**63 - 1
"""After every time."""


def due_at_closing(closes_at: int) -> int:
    """Return when a record is due at the latest, by the time at which its window is closed."""
    return closes_at // MILLISECOND * MILLISECOND


class Place(NamedTuple):
    """The place that a key has reached.

    Attributes:
        time: The latest event time of the records that were stepped, in microseconds since 1970.
        number: The sequence number of the last one.
        due: When that one was due.
        begun: The event time from which its numbers count, since they restarted; `LONG_AGO` if
            they did not.
    """

    time: int
    number: int
    due: int
    begun: int


@dataclass(frozen=True)
class Order:
    """When a record is stepped.

    Args:
        by: "event_time": when the watermark has passed it; "sequence": when its number is the
            next one, or the watermark has passed it; "arrival": at once.
        wait: How much longer than the watermark says a record is waited for, in microseconds.
        grid: Records become due at multiples of this, in microseconds.
        max_jump: By number: a record whose number is more than this above the last one of its key
            is refused; None for no limit.
        idle_after: A sequence ends where the next record is more than this number of microseconds
            later, and by number the numbers restart there; None for nowhere.
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
        """Return when the watermark has passed a time, on the grid.

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
        """Return `due` of many records: (records,) each."""
        on_grid = ((time + self.wait) // self.grid + 1) * self.grid
        stamped = np.where(np.asarray(arrived) < END_OF_TIME, arrived, LONG_AGO)
        return np.maximum(on_grid, -(-stamped // MILLISECOND) * MILLISECOND)

    def idle_at(self, time: int, due: int) -> int:
        """Return when a sequence ends if no record of it comes: `idle_after` after its last one.

        Its Beam timestamps count too: they may be of another clock than its records.

        Args:
            time: The latest event time of its records, in microseconds since 1970.
            due: When the last of them was due.
        """
        assert self.idle_after is not None, "else it is never idle"
        return self.due(time + self.idle_after, due + self.idle_after)

    def ends_at(self, place: Place | None, following: int | None, end: int) -> int | None:
        """Return when a sequence ends by idling; None if never, or not before its window.

        Args:
            place: Where its key is; None before its first record.
            following: The earliest event time of its buffered records: one that is not more than
                `idle_after` later keeps the sequence open. None if there are none.
            end: The end of the window, in microseconds since 1970.
        """
        if place is None or self.idle_after is None:
            return None
        if following is not None and following - place.time <= self.idle_after:
            return None
        at = self.idle_at(place.time, place.due)
        return at if at <= end else None

    def is_idle(self, place: Place, time: int) -> bool:
        """Return True if a record comes too late to belong to the sequence before it."""
        return self.idle_after is not None and time - place.time > self.idle_after

    def is_behind(self, record: bytes, place: Place, *, restarts: bool = False) -> bool:
        """Return True if the hidden state has passed the place of a record.

        Args:
            record: The record.
            place: Where its key is.
            restarts: Its numbers may have restarted, with a record that is not here yet.
        """
        time, number = record_time(record), record_sequence(record)
        later = restarts and place.begun <= time > place.time
        return not later and self.has_passed(place, time, number, starts=False)

    def has_passed(self, place: Place, time: int, number: int, *, starts: bool) -> bool:
        """Return True if a released record is late.

        By number, the numbers restart with a start mark that is later than the last record, and
        with a record that is more than `idle_after` later.
        """
        if self.by != "sequence":
            return time <= place.time
        if time < place.begun:
            return True
        restarts = (starts and time > place.time) or self.is_idle(place, time)
        return number <= place.number and not restarts

    def verdict(self, place: Place | None, time: int, number: int, *, starts: bool) -> str:
        """Return the outcome of a record that is released by number.

        "next", "restart" (the numbers restart with it), "late" or "jump" (it is refused).
        """
        if place is None:
            return "next"
        if self.has_passed(place, time, number, starts=starts):
            return "late"
        if not self.is_idle(place, time) and self.jumps(place.number, number, starts=starts):
            return "jump"
        return "restart" if number <= place.number else "next"

    def begun(self, place: Place, time: int) -> int:
        """Return the time from which numbers count that restart with a record of this time."""
        if self.idle_after is not None and self.is_idle(place, time):
            return place.time + self.idle_after + 1
        return time

    def jumps(self, reached: int, number: int, *, starts: bool) -> bool:
        """Return True if a number is too far above the one that was reached."""
        return self.max_jump is not None and not starts and number - reached > self.max_jump

    def why_refused(self, reached: int, number: int) -> str:
        """Return what the dead letter of a number that jumps says."""
        return (
            f"its number {number} is {number - reached} above the last one of its key, {reached}: "
            f"more than max_jump={self.max_jump}"
        )

    def refused(self, number: Array, starts: Array, reached: int) -> Array:
        """Return which records of one run, in order, jump: (records,)."""
        refused = np.zeros(len(number), bool)
        for i, (n, marked) in enumerate(zip(number.tolist(), starts.tolist(), strict=True)):
            refused[i] = self.jumps(reached, n, starts=marked)
            reached = reached if refused[i] else n
        return refused


LEFT_BEHIND = 1
"""The run of records whose numbers the key has passed: they are late."""


def runs_of(
    time: Array,
    number: Array,
    starts: Array,
    due: Array,
    place: Place | None = None,
    idle_after: int | None = None,
) -> tuple[Array, Array]:
    """Return the run of each record of one key, and when it is released alone: (records,) each.

    0 is the current run, `LEFT_BEHIND` its records that are late. Another run begins after a pause:
    where a record is more than `idle_after` later than all that are due before it; all that are due
    later follow it. It also begins with a start mark whose number is not above those before it in
    time; all later records follow it. Late records count for neither.

    A late record is released alone, when it is due. So is the first one after a pause if records
    due after it are not later than the pause: they may be late by then. `NEVER` for all others.

        >>> time, starts = np.array([1, 2, 9, 8]), np.array([False, False, False, True])
        >>> place = Place(time=0, number=4, due=0, begun=LONG_AGO)
        >>> runs_of(time, np.array([5, 3, 1, 0]), starts, time, place)[0].tolist()
        [0, 1, 2, 2]
        >>> runs_of(time, np.array([5, 6, 9, 8]), starts & False, time, place, 5)[0].tolist()
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
        return np.where(late, LEFT_BEHIND, 0), np.where(late, due, NEVER)
    paused, latest_before = _paused(time, due, late, latest, idle_after)
    first = np.full(int(paused.max(initial=0)) + 1, NEVER)
    np.minimum.at(first, paused, due)
    behind = (paused > 0) & (time - latest_before <= (idle_after or 0))
    alone_at = np.where(behind, first[paused], NEVER)
    order = np.lexsort((number, ~starts, time, paused))
    marked = _first_marks(time[order], starts[order], latest_before[order])
    numbers, paused, late = number[order], paused[order], late[order]
    restarts = np.append(paused[:1] > 0, paused[1:] > paused[:-1])
    begins, seen = np.zeros(len(order), bool), 0
    counted = np.where(late & (paused == 0), LOWEST, numbers)
    for at in np.flatnonzero(marked | restarts).tolist():
        high, seen = max(high, int(counted[seen:at].max(initial=LOWEST))), at
        if restarts[at] or numbers[at] <= high:
            begins[at], high, counted = True, LOWEST, numbers
    run = np.cumsum(begins)
    runs = np.empty(len(order), np.int64)
    runs[order] = np.where(run > 0, run + LEFT_BEHIND, np.where(late, LEFT_BEHIND, 0))
    return runs, np.where(runs == LEFT_BEHIND, due, alone_at)


def _late(time: Array, number: Array, starts: Array, place: Place | None) -> Array:
    """Return which records are late, regardless of pauses: (records,)."""
    if place is None:
        return np.zeros(len(time), bool)
    marks = starts & (time > place.time) & (number <= place.number)
    begin = time[marks].min(initial=NEVER)
    return ((number <= place.number) & (time < begin)) | (time < place.begun)


def _first_marks(time: Array, starts: Array, latest: Array) -> Array:
    """Return which start marks can begin a run: one of each time, whose marks come first."""
    first = np.append(True, time[1:] != time[:-1])
    return starts & (first | ~np.append(False, starts[:-1])) & (time > latest)


def _paused(
    time: Array, due: Array, late: Array, latest: int, idle_after: int | None
) -> tuple[Array, Array]:
    """Return the number of pauses before each record, and the latest time before the last one."""
    if idle_after is None:
        return np.zeros(len(time), np.int64), np.full(len(time), latest)
    order = np.lexsort((time, due))
    in_order, counted = time[order], np.where(late, LONG_AGO, time)[order]
    before = np.maximum.accumulate(np.append(latest, counted[:-1]))
    first = np.flatnonzero(pauses(before, in_order, idle_after))[:1]
    for at in first.tolist():  # none is late after a pause
        counted[at:] = in_order[at:]
        before = np.maximum.accumulate(np.append(latest, counted[:-1]))
    begins = pauses(before, in_order, idle_after)
    paused, latest_before = np.empty(len(time), np.int64), np.empty(len(time), np.int64)
    paused[order] = which = np.cumsum(begins)
    latest_before[order] = np.append(latest, before[begins])[which]
    return paused, latest_before


def first_due(due: Array, *same: Array) -> Array:
    """Return when the first of the records is due that are equal to each in these columns.

    Records of one time and number are released together.

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
        before: (records,), the latest event time before each; `LONG_AGO` for none.
        time: (records,), their event times.
        idle_after: As in `Order`.
    """
    if idle_after is None:
        return np.zeros(len(time), bool)
    return np.asarray((before > LONG_AGO) & (time - before > idle_after))


def gaps(
    key: str, place: Place | None, records: Sequence[bytes], idle_after: int | None
) -> Iterator[tuple[bytes, SequenceGap]]:
    """Yield the numbers that are missing before records that are stepped, with the record.

    After a pause of more than `idle_after` none is missing.

    Args:
        key: The key.
        place: Where it was before; None before its first record.
        records: The records, whose numbers rise.
        idle_after: As in `Order`.
    """
    reached = None if place is None else place.number
    latest = LONG_AGO if place is None else place.time
    for record in records:
        time, number = record_time(record), record_sequence(record)
        idle = idle_after is not None and time - latest > idle_after
        if reached is not None and number > reached + 1 and not idle:
            yield record, SequenceGap(key=key, time=time, first=reached + 1, last=number - 1)
        reached, latest = number, max(latest, time)


def released_at(
    records: Sequence[bytes], arrived: Sequence[int], taken: Sequence[bytes]
) -> dict[bytes, int]:
    """Return the Beam timestamps of records that need not wait.

    Each has the time at which it and all before it had arrived.

    Args:
        records: The records that came just now; others were buffered.
        arrived: When each of these came.
        taken: The records that are stepped now, in order.
    """
    came: dict[bytes, int] = {}
    for record, at in zip(records, arrived, strict=True):
        came[record] = min(at, came.get(record, at))
    released: dict[bytes, int] = {}
    latest = min(arrived)
    for record in taken:
        released[record] = latest = max(latest, came.get(record, latest))
    return released


def check_numbered(order: Order, columns: Columns) -> None:
    """Check that records have the number by which they are ordered, and no key waits for ever.

    Raises:
        ConfigurationError: They have none; or nothing ends a sequence after a gap that is larger
            than `max_jump`.
    """
    if order.by == "sequence" and columns.sequence is None:
        raise ConfigurationError(
            f"order='sequence' needs a model trained with Columns(sequence=...), got {columns}"
        )
    if order.max_jump is not None and columns.start is None and order.idle_after is None:
        raise ConfigurationError(
            f"max_jump={order.max_jump} refuses all later records of a key after a gap in its "
            "numbers that is larger than that: say idle_after= too, with which the numbers may go "
            f"on anywhere after a pause, or train with Columns(start=...); got {columns}"
        )
