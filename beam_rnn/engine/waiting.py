"""The buffered records of one key, and which of them are due."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.order import LEFT_BEHIND, NEVER, Order, Place, first_due, runs_of
from beam_rnn.engine.order_format import Armed
from beam_rnn.records.waiting_format import (
    decode_waiting,
    encode_waiting_rows,
    waiting_marks,
    waiting_records,
)


class Release(NamedTuple):
    """When a record is released, in microseconds since 1970.

    Attributes:
        due: When it is due by itself.
        at: The earliest time at which it, or a record of its key behind it, in its place or in its
            run of numbers, is due: any of these takes it along. Independent of the watermark.
    """

    due: int
    at: int


class Waiting:
    """The buffered records of one key, in order.

    Args:
        order: When records are stepped.
        rows: From `beam_rnn.records.waiting_format.decode_waiting`.
        place: Where the key is; None before its first record.

    Attributes:
        reached: Exactly the records up to this place (in its stored form) were released; -1 if
            some before it still wait; None if nothing was released.
        alone_at: When the first of them is released alone, as `runs_of` says; `NEVER` for none.
        stored: The number of records read, including those released before.
    """

    def __init__(self, order: Order, rows: Array, place: Place | None = None):
        self._order, self._place = order, place
        self.reached: int | None = None
        self.stored = len(rows)
        by_number = order.by == "sequence"
        places = rows["sequence"].astype(np.uint64) if by_number else rows["time"]
        runs, alone_at = np.zeros(len(rows), np.int64), np.full(len(rows), NEVER)
        if by_number and len(rows):
            columns = _times(rows), _numbers(rows), _starts(rows)
            due = first_due(rows["due"].astype(np.int64), *columns[:2])
            runs, alone_at = runs_of(*columns, due, place, order.idle_after)
        self.alone_at = int(alone_at.min(initial=NEVER))
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
        """Return the records in pieces, in any order, except those released before."""
        rows, releases = decode_waiting(pieces)
        stored = len(rows)
        if armed is not None and armed.releases:
            rows = rows[~((releases < armed.releases) & (rows[order.field] <= armed.reached))]
        waiting = cls(order, rows, place)
        waiting.stored = stored
        return waiting

    def at(self, place: Place | None) -> "Waiting":
        """Return the same records for a key that is at another place."""
        return Waiting(self._order, self._rows, place)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def earliest(self) -> int | None:
        """Return when the first of them is due; None if there is none."""
        return int(self._rows["due"].min()) if len(self) else None

    @property
    def first_time(self) -> int | None:
        """Return the earliest event time of them; None if there is none."""
        return int(_times(self._rows).min()) if len(self) else None

    def release(self, now: int) -> tuple[dict[bytes, Release], "Waiting"]:
        """Return the records that are released now, and the rest.

        Besides those that are due, those before them are released, even if they came with a
        timestamp that is not due yet, and those whose number follows: a buffered record is never
        late.
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

    def following(self, number: int) -> tuple[dict[bytes, Release], "Waiting"]:
        """Return the records with consecutive numbers from this one on, and the rest."""
        if not len(self) or self._runs[0] or _numbers(self._rows)[0] != number:
            return {}, self
        return self._taken(np.arange(len(self)) < self._follow(1))

    def _passed(self) -> Array:
        """Return which records are late, unless the numbers restart before them: (records,)."""
        return np.asarray(self._runs == LEFT_BEHIND)

    def _refused(self) -> Array:
        """Return which records have a number that jumps: (records,)."""
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
        """Return the number of records up to the last one of the same place."""
        while count < len(self) and self._place_at(count) == self._place_at(count - 1):
            count += 1
        return count

    def _place_at(self, i: int) -> tuple[int, int]:
        return int(self._runs[i]), int(self._places[i])

    def _follow(self, count: int) -> int:
        """Return the number of records up to the first missing number."""
        while count < len(self) and self._goes_on(count):
            count += 1
        return count

    def _goes_on(self, i: int) -> bool:
        (run, place), (run_before, before) = self._place_at(i), self._place_at(i - 1)
        return run == run_before and place <= before + 1

    def left_of(self, piece: bytes, releases: int) -> bytes | None:
        """Return the records of a piece that still wait, as one that came after these releases."""
        rows, _ = decode_waiting([piece])
        left = rows[rows[self._order.field] > self.reached]
        return encode_waiting_rows(left, releases) if len(left) else None

    def _taken(self, taken: Array) -> tuple[dict[bytes, Release], "Waiting"]:
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
        releases = map(Release, rows["due"].tolist(), at.tolist())
        records = zip(runs.tolist(), numbers, waiting_records(rows), releases, strict=True)
        entries = sorted(records, reverse=True)
        # The first of equal records, and the one that is due first, comes last and stays.
        stays = {record: release for _, _, record, release in entries}
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

    def to_bytes(self, releases: int = 0) -> bytes:
        """Return the records, at least one, as a piece for `read`."""
        return encode_waiting_rows(self._rows, releases)


def _times(rows: Array) -> Array:
    """Return the event times of rows of `decode_waiting`."""
    return (rows["time"].astype(np.uint64) ^ np.uint64(1 << 63)).view(np.int64)


def _numbers(rows: Array) -> Array:
    """Return the sequence numbers of rows of `decode_waiting`."""
    return (rows["sequence"].astype(np.uint64) ^ np.uint64(1 << 63)).view(np.int64)


def _starts(rows: Array) -> Array:
    """Return which of them have a start mark."""
    return waiting_marks(rows) & 1 == 0
