"""When a record has its turn: the rules of order, without Beam's cells and timers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.state import (
    Armed,
    decode_waiting,
    encode_waiting_rows,
    last_step,
    record_sequence,
    record_time,
    waiting_records,
)

MILLISECOND = 1000  # microseconds


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

    def due(self, time: int, arrived: int = 0) -> int:
        """When the watermark has passed a time, on the grid.

        Later than the time plus `wait`, since a record at the watermark is not late, and not
        before the timestamp with which the record arrived, since the watermark may be there. A
        whole millisecond, since that is what runners keep of a timer.

            >>> Order("event_time", wait=0, grid=500_000).due(2_000_000)
            2500000

        Args:
            time: The time, in microseconds since 1970.
            arrived: The Beam timestamp of the record, in microseconds since 1970.
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
        rows: From `beam_rnn.state.decode_waiting`.

    Attributes:
        reached: The place of the last record that was taken, as it is stored; None if none was.
        stored: How many records were read, those that were taken before too.
    """

    def __init__(self, order: Order, rows: Array, reached: int | None = None):
        self._order = order
        self._field = "sequence" if order.by == "sequence" else "time"
        self._rows = rows[np.argsort(rows[self._field], kind="stable")]
        self._places = self._rows[self._field].astype(np.uint64)
        self.reached = reached
        self.stored = len(rows)

    @classmethod
    def read(cls, order: Order, pieces: Sequence[bytes], armed: Armed | None = None) -> "Waiting":
        """Those in pieces, in any order, but for those that were taken already."""
        rows, turns = decode_waiting(pieces)
        waiting = cls(order, rows)
        if armed is None or not armed.turns:
            return waiting
        taken = (turns < armed.turns) & (rows[waiting._field] <= armed.reached)
        if taken.any():
            waiting = cls(order, rows[~taken])
            waiting.stored = len(rows)
        return waiting

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def earliest(self) -> int | None:
        """When the first of them is due."""
        return int(self._rows["due"].min()) if len(self) else None

    def turn(self, now: int) -> tuple[dict[bytes, int], "Waiting"]:
        """The records that have their turn now, with the time of it; and the rest.

        Those before them are taken too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a record that is here is never late. The time is when the
        earliest of the records was due for which each was taken, which does not depend on `now`.
        """
        due = self._rows["due"] <= now
        if not due.any():
            return {}, self
        reached = self._places[due].max()
        count = int(np.searchsorted(self._places, reached, "right"))
        return self._taken(count if self._order.by != "sequence" else self._follow(count))

    def following(self, number: int) -> tuple[list[bytes], "Waiting"]:
        """The records whose numbers follow on one another from this one on; and the rest."""
        if not len(self) or record_sequence(waiting_records(self._rows[:1])[0]) != number:
            return [], self
        taken, rest = self._taken(self._follow(1))
        return list(taken), rest

    def left_of(self, piece: bytes, turns: int) -> bytes | None:
        """The records of a piece that were not taken, as one that came after so many turns."""
        rows, _ = decode_waiting([piece])
        left = rows[rows[self._field] > self.reached]
        return encode_waiting_rows(left, turns) if len(left) else None

    def _follow(self, count: int) -> int:
        """How many records there are up to the first number that is missing."""
        while count < len(self) and self._places[count] <= self._places[count - 1] + np.uint64(1):
            count += 1
        return count

    def _taken(self, count: int) -> tuple[dict[bytes, int], "Waiting"]:
        rows, places = self._rows[:count], self._places[:count]
        begins = np.ones(count, bool)
        step = np.uint64(self._order.by == "sequence")
        begins[1:] = places[1:] > places[:-1] + step
        due = np.minimum.accumulate(rows["due"][::-1])[::-1]
        due = due[np.maximum.accumulate(np.where(begins, np.arange(count), 0))]
        taken = dict(zip(waiting_records(rows), due.tolist(), strict=True))
        return taken, Waiting(self._order, self._rows[count:], int(places[-1]))

    def to_bytes(self, turns: int = 0) -> bytes:
        """What `read` reads, at least one record."""
        return encode_waiting_rows(self._rows, turns)
