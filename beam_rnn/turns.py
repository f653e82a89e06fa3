"""When a record has its turn: the rules of order, without Beam's cells and timers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.state import (
    decode_all_waiting,
    encode_all_waiting,
    last_step,
    record_sequence,
    record_time,
    waiting_records,
)

MILLISECOND = 1000  # microseconds
LONG_AGO = -(2**63 // 1000) * 1000
"""Before every event time, in microseconds since 1970; a whole millisecond."""


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
        return max(on_grid, -(-arrived // MILLISECOND) * MILLISECOND)

    def due_at(self, time: Array, arrived: Array | int) -> Array:
        """`due` of many records: (records,) each."""
        on_grid = ((time + self.wait) // self.grid + 1) * self.grid
        return np.maximum(on_grid, -(-arrived // MILLISECOND) * MILLISECOND)

    def place(self, record: bytes) -> int:
        """Where a record stands among those of its key: its time, or its number."""
        return record_sequence(record) if self.by == "sequence" else record_time(record)

    def is_behind(self, record: bytes, state: bytes) -> bool:
        """Whether the hidden state has passed the place of a record."""
        time, number = last_step(state)
        return self.place(record) <= (number if self.by == "sequence" else time)

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

    def turn(self, now: int) -> tuple[dict[bytes, int], "Waiting"]:
        """The records that have their turn now, with the time when each was due; and the rest.

        Those before them are taken too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a record that is here is never late.
        """
        due = self._rows["due"] <= now
        if not due.any():
            return {}, self
        reached = self._places[due].max()
        count = int(np.searchsorted(self._places, reached, "right"))
        return self._taken(count if self._order.by != "sequence" else self._follow(count), now)

    def following(self, number: int) -> tuple[list[bytes], "Waiting"]:
        """The records whose numbers follow on one another from this one on; and the rest."""
        if not len(self) or record_sequence(waiting_records(self._rows[:1])[0]) != number:
            return [], self
        taken, rest = self._taken(self._follow(1), now=int(self._rows["due"].max()))
        return list(taken), rest

    def _follow(self, count: int) -> int:
        """How many records there are up to the first number that is missing."""
        while count < len(self) and self._places[count] <= self._places[count - 1] + np.uint64(1):
            count += 1
        return count

    def _taken(self, count: int, now: int) -> tuple[dict[bytes, int], "Waiting"]:
        rows = self._rows[:count]
        # The earliest of equal records comes last, and so is the one that stays.
        latest_first = rows[np.argsort(-rows["due"].astype(np.int64), kind="stable")]
        due = np.minimum(latest_first["due"], now).tolist()
        taken = dict(zip(waiting_records(latest_first), due, strict=True))
        return taken, Waiting(self._order, self._rows[count:])

    def to_bytes(self) -> bytes:
        """What `read` reads."""
        return encode_all_waiting(self._rows)
