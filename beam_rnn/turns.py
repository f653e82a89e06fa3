"""When a record has its turn: the rules of order, without Beam's cells and timers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.state import (
    decode_all_waiting,
    encode_all_waiting,
    record_sequence,
    record_time,
    waiting_records,
)
from beam_rnn.sweep import LONG_AGO

MILLISECOND = 1000  # microseconds
END_OF_TIME = 9_223_371_950_454_000_000
"""The last second of Beam's global window, in microseconds since 1970.

What comes out of a triggered grouping in the global window has its end as a timestamp, which says
nothing of when it came.
"""


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
    """

    by: str
    wait: int
    grid: int

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

    def place(self, record: bytes) -> int:
        """Where a record stands among those of its key: its time, or its number."""
        return record_sequence(record) if self.by == "sequence" else record_time(record)

    def is_behind(self, record: bytes, place: Place) -> bool:
        """Whether the hidden state has passed the place of a record."""
        return self.place(record) <= (place.number if self.by == "sequence" else place.time)

    def sorted(self, records: Sequence[bytes]) -> list[bytes]:
        """Records in the order in which they are stepped."""
        if self.by != "sequence":
            return sorted(records)  # their bytes begin with the time
        return sorted(records, key=lambda record: (self.place(record), record))


class Waiting:
    """The records of one key that wait for their turn, in order of their places.

    Args:
        order: When they have it.
        rows: From `beam_rnn.state.decode_all_waiting`.
    """

    def __init__(self, order: Order, rows: Array):
        self._order = order
        place = "sequence" if order.by == "sequence" else "time"
        self._rows = rows[np.argsort(rows[place], kind="stable")]
        self._places = self._rows[place].astype(np.uint64)

    @classmethod
    def read(cls, order: Order, waiting: bytes | None, arrived: Sequence[bytes]) -> "Waiting":
        """Those that were there, and those that came since, in any order."""
        return cls(order, decode_all_waiting(waiting, arrived))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def earliest(self) -> int | None:
        """When the first of them is due."""
        return int(self._rows["due"].min()) if len(self) else None

    @property
    def first_time(self) -> int | None:
        """The event time of the first of them in order."""
        return int(self._rows["time"][0]) if len(self) else None

    def turn(self, now: int) -> tuple[dict[bytes, int], "Waiting"]:
        """The records that have their turn now, with the time when each is due; and the rest.

        Those before them are taken too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a record that is here is never late.
        """
        due = self._rows["due"] <= now
        if not due.any():
            return {}, self
        reached = self._places[due].max()
        count = int(np.searchsorted(self._places, reached, "right"))
        return self._taken(count if self._order.by != "sequence" else self._follow(count))

    def following(self, number: int) -> tuple[dict[bytes, int], "Waiting"]:
        """The records whose numbers follow on one another from this one on; and the rest."""
        if not len(self) or record_sequence(waiting_records(self._rows[:1])[0]) != number:
            return {}, self
        return self._taken(self._follow(1))

    def _follow(self, count: int) -> int:
        """How many records there are up to the first number that is missing."""
        while count < len(self) and self._places[count] <= self._places[count - 1] + np.uint64(1):
            count += 1
        return count

    def _taken(self, count: int) -> tuple[dict[bytes, int], "Waiting"]:
        rows = self._rows[:count]
        # The earliest of equal records comes last, and so is the one that stays.
        latest_first = rows[np.argsort(-rows["due"].astype(np.int64), kind="stable")]
        due = latest_first["due"].tolist()
        taken = dict(zip(waiting_records(latest_first), due, strict=True))
        return taken, Waiting(self._order, self._rows[count:])

    def to_bytes(self) -> bytes:
        """What `read` reads."""
        return encode_all_waiting(self._rows)
