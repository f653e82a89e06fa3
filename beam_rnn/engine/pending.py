"""The buffered records of many keys, and which of them are due.

What `beam_rnn.engine.waiting.Waiting` does for one key, by the column.
"""

from collections import Counter

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.held import Held, grouped, joined
from beam_rnn.engine.order import NEVER, NOW, Order
from beam_rnn.engine.order_columns import Places, breaks, in_runs, released_at, runs_of_keys

_NO_PLACES = np.zeros(0, np.int64)
_FAR = 2**62


class _Part:
    """Some of the buffered records.

    Released records stay in place until they are half of the part, so that the others are not
    copied at each release.
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
        """Return the places of the buffered records for which `which` is true."""
        return np.flatnonzero(which & self._here)

    def due(self, now: int) -> Array:
        """Return the places of those that are due."""
        return self.places(self._held.due <= now) if self.earliest <= now else _NO_PLACES

    def take(self, places: Array) -> None:
        """Remove these."""
        self._here[places] = False
        self.left -= len(places)
        if 2 * self.left <= len(self._here):
            self._held = self._held.pick(self._here)
            self._here = np.ones(self.left, bool)
        self.earliest = int(self._held.due.min(initial=NEVER, where=self._here))

    def pick(self, places: Array) -> Held:
        """Return some of them."""
        return self._held if len(places) == len(self._here) else self._held.pick(places)

    def __getitem__(self, name: str) -> Array:
        """Return one column, including records that were released."""
        column: Array = getattr(self._held, name)
        return column


class Pending:
    """The buffered records of all keys of a shard.

    Args:
        order: When records are stepped.
    """

    def __init__(self, order: Order):
        self._order = order
        self._parts: list[_Part] = []  # each more than twice as large as the next
        self._new: list[Held] = []
        self._new_earliest = NEVER
        self.of_piece: Counter[int] = Counter()
        """The number of buffered records of each payload."""

    @property
    def earliest(self) -> int | None:
        """Return when the first of them is due; None if there is none."""
        first = min([self._new_earliest, *(part.earliest for part in self._parts)])
        return None if first == NEVER else first

    def add(self, held: Held) -> None:
        """Buffer more records."""
        if len(held.time):
            self._new.append(held)
            self._new_earliest = min(self._new_earliest, int(held.due.min()))
            self._count(held.piece, 1)

    def all(self) -> Held | None:
        """Return all buffered records; None for none."""
        self._settle()
        return joined([part.held for part in self._parts]) if self._parts else None

    def column(self, name: str) -> Array:
        """Return one column of all buffered records."""
        self._settle()
        return np.concatenate([_NO_PLACES, *(part.column(name) for part in self._parts)])

    def rows_of(self, piece: int) -> Array:
        """Return the rows of a payload whose records are buffered."""
        return self.column("at")[self.column("piece") == piece]

    def forget(self, numbers: Array) -> None:
        """Remove records, by their numbers."""
        self._settle()
        self._take([(part, part.places(np.isin(part["number"], numbers))) for part in self._parts])

    def release(self, now: int, keys: Places) -> tuple[Held, Array] | None:
        """Release the records that are due now, in the order of their keys and places.

        Those before them are released too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a buffered record is never late.

        Args:
            now: Where the watermark is.
            keys: Where the keys are, by row.

        Returns:
            The records, and when each was released: when the earliest of the records was due that
            take it along, which does not depend on `now`. None if there are none.
        """
        self._settle()
        due = [(part, part.due(now)) for part in self._parts]
        if not any(len(places) for _, places in due):
            return None
        if self._order.by == "sequence":
            rows = np.concatenate([part["row"][places] for part, places in due])
            return self._take_runs(rows, now, keys)
        latest = max(int(part["time"][places].max(initial=NOW)) for part, places in due)
        candidates = [(part, part.places(part["time"] <= latest)) for part in self._parts]
        held = joined([part.pick(places) for part, places in candidates])
        here = held.due <= now
        upto = np.full(int(held.row.max()) + 1, NOW)
        np.maximum.at(upto, held.row[here], held.time[here])
        taken = held.time <= upto[held.row]
        self._take_some(candidates, taken)
        return released_at(held.pick(taken), self._order.by)

    def following(self, rows: Array, keys: Places) -> tuple[Held, Array] | None:
        """Release the records of some keys that follow the numbers the keys have reached."""
        self._settle()
        return self._take_runs(rows, None, keys)

    def first_times(self, rows: int) -> Array:
        """Return the earliest event time of each key's records: (rows,).

        Far in the future for a key that has none.
        """
        times = np.full(rows, _FAR)
        np.minimum.at(times, self.column("row"), self.column("time"))
        return times

    def alone_at(self, keys: Places) -> int:
        """Return when the first of the records is released alone; `NEVER` for none."""
        held = self.all() if self._order.by == "sequence" else None
        if held is None:
            return NEVER
        _, alone_at = runs_of_keys(held, keys, self._order.idle_after)
        return int(alone_at.min(initial=NEVER))

    def _take_runs(self, rows: Array, now: int | None, keys: Places) -> tuple[Held, Array] | None:
        """Release what is due of some keys or, without `now`, what follows the number reached."""
        if not self._parts:
            return None
        size = max(int(part["row"].max()) for part in self._parts)
        wanted = np.zeros(max(size, int(rows.max())) + 1, bool)
        wanted[rows] = True
        candidates = [(part, part.places(wanted[part["row"]])) for part in self._parts]
        held = joined([part.pick(places) for part, places in candidates])
        if not len(held.time):
            return None
        places, row, number, run, alone = in_runs(self._order, held, keys)
        pieces = np.cumsum(breaks(row, run, number))
        if now is None:
            due = np.zeros(len(row), bool)
            leading = (run == 0) & (number == keys.number[row] + 1)
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
        return released_at(held.pick(taken), self._order.by, of_records[taken])

    def _settle(self) -> None:
        """Make the new records a part, merged with parts that are not much larger."""
        if not self._new:
            return
        new, self._new, self._new_earliest = joined(self._new), [], NEVER
        while self._parts and self._parts[-1].left <= 2 * len(new.time):
            new = joined([self._parts.pop().held, new])
        self._parts.append(_Part(new))

    def _take_some(self, candidates: list[tuple[_Part, Array]], taken: Array) -> None:
        """Remove some of the candidates, which are one part after the other."""
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
