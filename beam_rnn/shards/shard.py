"""A shard: the hidden states of its keys, the records that wait, and the rules of order over both.

What `beam_rnn.stateful.StepKeys` does key by key, for many keys at once; it knows neither Beam nor
bytes. What changed since it was last asked is a `Change`, for a log.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.errors import StateError
from beam_rnn.rows import InvalidRecord, LateRecord, SequenceGap, poisoned
from beam_rnn.shards.blocks import Block, ends_of, starts_of
from beam_rnn.shards.payloads import Payload, Payloads
from beam_rnn.shards.pending import (
    NOW,
    Held,
    Pending,
    Places,
    by_row,
    different,
    duplicates,
    running_max,
    slices,
)
from beam_rnn.shards.stepping import ShardStepper, Stepped
from beam_rnn.shards.table import Table
from beam_rnn.state import BufferedRecord, KeyState
from beam_rnn.sweep import LONG_AGO, Records, latest_so_far
from beam_rnn.turns import LOWEST, MILLISECOND, NEVER, Order, Place


class Row(NamedTuple):
    """A result that is no prediction of a record.

    Attributes:
        result: The row.
        due: The Beam timestamp at which it comes out, in microseconds; `NOW` for now.
        time: Its event time.
    """

    result: Any
    due: int
    time: int


class Outcome(NamedTuple):
    """What came of records.

    Attributes:
        records: Those that were stepped, those of a key one after another.
        keys: (keys,), the keys, as they stand there; the table may have forgotten them since.
        stepped: What came of them.
        rows: The rest.
        counts: How many records were what, by the names of the metrics.
        payloads: The rows in which they came, by `Held.piece`, if they are given back.
    """

    records: Held
    keys: Array
    stepped: Stepped
    rows: list[Row]
    counts: dict[str, int]
    payloads: dict[int, Payload]


class Change(NamedTuple):
    """What changed in a shard, and has to be logged.

    Attributes:
        states: The rows of keys whose states are others now.
        removed: The keys whose states are gone.
        arrived: Records that wait: a block, the number of each, and when it is due.
        taken: The numbers of records that wait no more.
    """

    states: Array
    removed: list[str]
    arrived: list[tuple[Block, Array, Array]]
    taken: Array


RECORDS_IN_A_PIECE = 16_384
"""So many records that wait are written together at the most."""


class Shard:
    """The keys of a shard in one window.

    Args:
        stepper: What steps them.
        order: When records have their turn.
        idle_after: A sequence ends after so many microseconds without a record; None for never.
        end: The end of the window, in microseconds.
        inputs: How many inputs a record has.
        closes_at: When the window is closed, in microseconds; at its end if left out.
    """

    def __init__(
        self,
        stepper: ShardStepper,
        order: Order,
        idle_after: int | None,
        end: int,
        inputs: int,
        closes_at: int | None = None,
    ):
        self._stepper = stepper
        self._order = replace(order, idle_after=idle_after)
        self._idle_after = idle_after
        has_starts = stepper.alone.columns.start is not None
        self._restarts = order.by == "sequence" and has_starts
        self._end = end
        self._closes_at = end if closes_at is None else closes_at
        self.table = Table(inputs, stepper.alone.policy.replay)
        self.pending = Pending(self._order)
        self.payloads = Payloads()
        self._next_number = 0
        self._touched: list[Array] = []
        self._removed: list[str] = []
        self._arrived: list[tuple[Block, Array, Array]] = []
        self._taken: list[Array] = []

    def use(self, stepper: ShardStepper) -> None:
        """Step by this from now on."""
        self._stepper = stepper

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not len(self.table)

    def changes(self) -> Change:
        """What changed since this was last called."""
        touched = _NO_ROWS
        if self._touched:  # each has no row twice
            alone = len(self._touched) == 1
            touched = self._touched[0] if alone else np.unique(np.concatenate(self._touched))
        touched = touched[self.table.has_state[touched]]
        taken = np.concatenate(self._taken) if self._taken else _NO_ROWS
        change = Change(touched, self._removed, self._arrived, taken)
        self._touched, self._removed, self._arrived, self._taken = [], [], [], []
        return change

    def everything(self) -> Change:
        """All that there is, as if it had just come."""
        held = self.pending.all()
        arrived = [] if held is None else list(self._blocks(held))
        return Change(self.table.with_state(), [], arrived, _NO_ROWS)

    def restore(self, block: Block, number: Array, due: Array) -> None:
        """Take up records that waited.

        Raises:
            StateError: Their Arrow rows cannot be read, or they are there already.
        """
        if int(number[0]) in self.pending.of_piece:
            raise StateError(f"two pieces of a shard's log have the record of number {number[0]}")
        if block.payload:
            self.payloads.restore(int(number[0]), block.payload, block.row)
        self.pending.add(self._held(block, number, due))
        self._next_number = max(self._next_number, int(number.max()) + 1)

    def forget(self, numbers: Array) -> None:
        """Some of the records that waited do not any more."""
        pieces = different(self.pending.column("piece"))
        self.pending.forget(numbers)
        self._cut_payloads(pieces)

    def drop_unused_rows(self) -> None:
        """Keys that have neither a state nor a record that waits are no keys."""
        in_use = self.table.in_use()
        self._forget_keys(in_use[~self.table.has_state[in_use]])

    def end_rows(self, rows: Array) -> None:
        """Let keys have no state, and say nothing of it."""
        self._removed += self.table.names(rows)
        self.table.drop_states(rows)
        self._forget_keys(rows)

    def start_from(self, key: str, state: KeyState, begun: int) -> int | None:
        """Take up the state of a key, unless it has one; gives when there is something to do.

        Args:
            key: The key.
            state: Its state.
            begun: The event time from which its sequence numbers count.

        Raises:
            StateError: The state has another size than its model.
        """
        self._stepper.alone.check_fits(key, state)
        rows = self.table.rows([key])
        if not self.table.has_state[rows[0]]:
            self.table.set_state(int(rows[0]), state)
            self.table.begun[rows] = begun
            self._touched.append(rows)
        return self._earliest(rows)

    def arrive(self, block: Block) -> Outcome:
        """Records came: each is stepped, waits, or is late."""
        number = self._next_number + np.arange(block.records)
        self._next_number += block.records
        if block.payload:
            self.payloads.add(int(number[0]), block.payload)
        outcome = self._arrive(block, number)
        self._cut_payloads(number[:1])
        return outcome

    def _arrive(self, block: Block, number: Array) -> Outcome:
        """Records came, with these numbers."""
        held = self._held(block, number, block.arrived)
        alike = bool((block.arrived == block.arrived[0]).all())
        if self._order.by == "arrival":
            held = by_row(held)
            due = held.due
            if alike:
                held = held._replace(due=np.full(block.records, NOW))
            return self._step(held, {"records_out_of_order": self._out_of_order(held)}, [], due)
        late, found = self._behind(held), []
        if late.any():
            of_late = held.pick(late)
            found = self._late(of_late, self.table.time[of_late.row])
            if late.all():
                return self._nothing(found, {"records_late": len(found)})
            block, held = block.pick(~late), held.pick(~late)
        counts = {"records_late": len(found)}
        held = held._replace(due=self._due(held.time, block.arrived))
        self.pending.add(held)
        following = self._following(held)
        waits = np.ones(len(held.number), bool)
        if following is not None:
            numbers = following[0].number
            waits = np.isin(held.number, numbers, invert=True)
            self._taken.append(np.setdiff1d(numbers, held.number, assume_unique=True))
        if waits.any():
            counts["records_buffered"] = int(waits.sum())
            whole = waits.all() and not late.any()
            of_waiting = held.pick(waits)
            self._arrived += [(block, held.number, held.due)] if whole else self._blocks(of_waiting)
        if following is None:
            return self._nothing(found, counts)
        taken, _ = following
        at = np.array(NOW) if alike else _at_once(taken, held.number, block.arrived)
        return self._take(taken, np.broadcast_to(at, len(taken.time)), found, counts)

    def advance(self, now: int, armed: int | None = None) -> Outcome:
        """The watermark is here: all that is due is stepped, and what was idle ends.

        Args:
            now: Where the watermark is.
            armed: The time for which the timer was set: nothing is emitted before it.
        """
        outcome = self._take_due(now)
        rows = self.table.with_state()
        idle_at = self._idle_at(rows)
        idle = idle_at <= now
        idle &= ~self._kept_going(rows)
        ended_at = np.maximum(idle_at[idle], NOW if armed is None else armed)
        self._end_rows(rows[idle], ended_at, "idle", outcome)
        return outcome

    def close(self, armed: int | None = None) -> Outcome:
        """The window is closed: all that waits, whenever it is due, then every sequence.

        Args:
            armed: As in `advance`.
        """
        outcome = self._take_due(NEVER)
        rows = self.table.with_state()
        idle_at = self._idle_at(rows)
        ends_by_idling = idle_at < NEVER
        ended_at = np.maximum(idle_at[ends_by_idling], NOW if armed is None else armed)
        self._end_rows(rows[ends_by_idling], ended_at, "idle", outcome)
        rest = rows[~ends_by_idling]
        self._end_rows(rest, np.full(len(rest), self._closes_at), "window", outcome)
        return outcome

    def to_do(self) -> int | None:
        """When there is something to do next; None for never."""
        rows = self.table.with_state()
        return self._earliest(rows[~self._kept_going(rows)])

    def to_do_after(self, outcome: Outcome) -> int | None:
        """When there is something to do for what just came."""
        rows = _NO_ROWS if self._idle_after is None else np.unique(outcome.records.row)
        return self._earliest(rows)

    def _earliest(self, rows: Array) -> int | None:
        first = int(self._idle_at(rows).min(initial=NEVER))
        times = [at for at in (self.pending.earliest, first) if at is not None and at < NEVER]
        return min(times, default=None)

    def _held(self, block: Block, number: Array, due: Array) -> Held:
        """The records of a block, and its payload, as they are held."""
        return Held(
            number,
            self.table.rows(block.keys)[block.of_key],
            due,
            block.time,
            block.sequence,
            block.marks,
            block.numbers,
            np.full(block.records, number[0]),
            block.row,
        )

    def _blocks(self, held: Held) -> Iterator[tuple[Block, Array, Array]]:
        """Records that wait as few blocks, with the number of each, and when it is due."""
        for start in range(0, len(held.time), RECORDS_IN_A_PIECE):
            part = held.pick(slice(start, start + RECORDS_IN_A_PIECE))
            rows: Iterable[tuple[Array, bytes, Array]]
            rows = [(np.arange(len(part.time)), b"", part.at)]
            if len(self.payloads):
                rows = self.payloads.joined(part)
            for places, payload, at in rows:
                here = part.pick(places)
                yield self._block(here, payload, at), here.number, here.due

    def _block(self, held: Held, payload: bytes, row: Array) -> Block:
        rows, of_key = np.unique(held.row, return_inverse=True)
        return Block(
            self.table.names(rows),
            of_key.astype(np.int32),
            held.due,
            held.time,
            held.sequence,
            held.marks,
            held.numbers,
            payload,
            row,
        )

    def _due(self, time: Array, arrived: Array) -> Array:
        """When records are due; when the window is closed at the latest."""
        end = self._closes_at // MILLISECOND * MILLISECOND
        return np.minimum(self._order.due_at(time, arrived), end)

    def _place(self, rows: Array) -> Array:
        """Where the states of keys are: their number, or their time."""
        return (self.table.sequence if self._order.by == "sequence" else self.table.time)[rows]

    def places(self) -> Places:
        """Return where the keys are."""
        table, has = self.table, self.table.has_state
        return Places(
            np.where(has, table.sequence, LOWEST), np.where(has, table.time, LONG_AGO), table.begun
        )

    def _behind(self, held: Held) -> Array:
        """Which records the states have passed: (records,)."""
        row = held.row
        behind = held.place(self._order.by) <= self._place(row)
        if self._order.by == "sequence":
            time, begun = self.table.time[row], self.table.begun[row]
            if self._restarts:  # with a record that is not here yet
                behind &= held.time <= time
            elif self._idle_after is not None:
                behind &= held.time - time <= self._idle_after
            behind |= held.time < begun
        return self.table.has_state[row] & behind

    def _late(self, held: Held, reached: Array) -> list[Row]:
        """The rows of late records, whose keys had reached those times."""
        return [
            Row(LateRecord(self.table.keys[row], time, before - time, numbers, sequence), at, time)
            for row, time, before, numbers, sequence, at in zip(
                held.row.tolist(),
                held.time.tolist(),
                reached.tolist(),
                held.numbers.tolist(),
                held.sequence.tolist(),
                held.due.tolist(),
                strict=True,
            )
        ]

    def _following(self, held: Held) -> tuple[Held, Array] | None:
        """By number: the records of keys whose next number came, and what follows on it."""
        if self._order.by != "sequence":
            return None
        has_state = self.table.has_state[held.row]
        is_next = has_state & (held.sequence == self.table.sequence[held.row] + 1)
        return self.pending.following(held.row[is_next], self.places()) if is_next.any() else None

    def _out_of_order(self, held: Held) -> int:
        """How many records came after later ones of their key."""
        first = np.flatnonzero(np.append(True, held.row[1:] != held.row[:-1]))
        of_key = held.row[first]
        before = np.where(self.table.has_state[of_key], self.table.time[of_key], LONG_AGO)
        return int((held.time < latest_so_far(held.time, first, before)).sum())

    def _take_due(self, now: int) -> Outcome:
        """Step all that is due now."""
        taken = self.pending.turn(now, self.places())
        if taken is None:
            return self._nothing([], {})
        self._taken.append(taken[0].number)
        return self._take(*taken, [], {})

    def _take(self, held: Held, at: Array, found: list[Row], counts: dict[str, int]) -> Outcome:
        """Step records that have their turn, in order; `at` is the timestamp of each result."""
        pieces = different(held.piece)
        outcome = self._take_once(held, at, found, counts)
        self._cut_payloads(pieces)
        return outcome

    def _take_once(
        self, held: Held, at: Array, found: list[Row], counts: dict[str, int]
    ) -> Outcome:
        """As `_take`; of equal records the first."""
        same = duplicates(held)
        if same.any():
            counts["records_duplicate"] = int(same.sum())
            held, at = self.payloads.smallest(held, same).pick(~same), at[~same]
        due, held = held.due, held._replace(due=at)
        if self._order.by == "sequence":
            return self._take_by_number(held, due, found, counts)
        late = self._behind(held)
        if late.any():
            of_late = held.pick(late)
            found += self._late(of_late, self.table.time[of_late.row])
            counts["records_late"] = len(found)
            held, due = held.pick(~late), due[~late]
        return self._step(held, counts, found, due)

    def _take_by_number(
        self, held: Held, due: Array, found: list[Row], counts: dict[str, int]
    ) -> Outcome:
        """Step records that have their turn by number; `due` is when each was due by itself."""
        places = self.places()
        before, latest = places.number[held.row], places.time[held.row]
        same_key = np.append(False, held.row[1:] == held.row[:-1])
        before[1:] = np.where(same_key[1:], held.sequence[:-1], before[1:])
        odd = (held.sequence <= before) & (before > LOWEST)
        odd |= self.table.has_state[held.row] & (held.time < self.table.begun[held.row])
        if self._order.max_jump is not None:
            odd |= (before > LOWEST) & (held.sequence - self._order.max_jump > before)
        good, begun = np.ones(len(due), bool), np.full(len(due), LONG_AGO)
        for _, here in slices(held.row, np.unique(held.row[odd])):
            self._judge(held, np.arange(len(due))[here], good, begun, found)
        counts["records_late"] = sum(isinstance(row.result, LateRecord) for row in found)
        counts["records_invalid"] = sum(isinstance(row.result, InvalidRecord) for row in found)
        held, due, begun, latest = held.pick(good), due[good], begun[good], latest[good]
        reached = places.number[held.row]
        outcome = self._step(held, counts, found, due)
        stepped = np.ones(len(due), bool)
        stepped[_refused(outcome.stepped)] = False
        begins = np.flatnonzero((begun > LONG_AGO) & stepped)
        self.table.begun[held.row[begins]] = begun[begins]  # of a key the last one
        gaps = self._gaps(held.pick(stepped), reached[stepped], latest[stepped])
        counts["sequence_gaps"] = len(gaps)
        found += gaps
        return outcome

    def _judge(self, held: Held, here: Array, good: Array, begun: Array, found: list[Row]) -> None:
        """Tell the records of one key apart: those to be stepped, late ones, those that jump.

        Of one with which the numbers begin anew, `begun` says from which time on they count.
        One that cannot be stepped moves nothing; the next one of its number is not late.
        """
        row = int(held.row[here[0]])
        key, place, state = self.table.keys[row], self._place_of(row), self.table.state(row)
        starts, ends = starts_of(held.marks), ends_of(held.marks)
        for i in here.tolist():
            time, number = int(held.time[i]), int(held.sequence[i])
            verdict = self._order.verdict(place, time, number, starts=bool(starts[i]))
            good[i] = verdict in ("next", "anew")
            if place is not None and verdict == "late":
                found += self._late(held.pick(slice(i, i + 1)), np.array([place.time]))
            elif place is not None and verdict == "jump":
                why = self._order.why_refused(place.number, number)
                letter = poisoned(key, time, held.numbers[i], why)
                found.append(Row(letter, int(held.due[i]), time))
            else:
                marks = bool(starts[i]), bool(ends[i])
                record = BufferedRecord(time, number, *marks, held.numbers[i])
                after = self._stepper.alone.stepped(key, state, record)
                if after is None:
                    continue
                if place is not None and verdict == "anew":
                    begun[i] = self._order.begun(place, time)
                before = LONG_AGO if place is None else place.begun
                state, place = after, Place(after.time, number, 0, max(before, int(begun[i])))

    def _place_of(self, row: int) -> Place | None:
        """Where the key of a row is."""
        if not self.table.has_state[row]:
            return None
        table = self.table
        columns = table.time, table.sequence, table.due, table.begun
        return Place(*(int(column[row]) for column in columns))

    def _gaps(self, held: Held, reached: Array, latest: Array) -> list[Row]:
        """The numbers that did not come before records; none are missed after an idle sequence.

        Args:
            held: Records that were stepped.
            reached: The number that the key of each had reached; `LOWEST` before its first record.
            latest: The latest time of the key of each; `LONG_AGO` before its first record.
        """
        before = np.where(reached > LOWEST, reached, held.sequence - 1)
        same_key = held.row[1:] == held.row[:-1]
        before[1:] = np.where(same_key, held.sequence[:-1], before[1:])
        missing = held.sequence > before + 1
        if self._idle_after is not None and missing.any():
            first = np.flatnonzero(np.append(True, ~same_key))
            so_far = latest_so_far(held.time, first, latest[first])
            earlier = latest.copy()
            earlier[1:] = np.where(same_key, so_far[:-1], earlier[1:])
            missing &= held.time - earlier <= self._idle_after
        return [
            Row(
                SequenceGap(
                    self.table.keys[held.row[i]],
                    int(held.time[i]),
                    int(before[i]) + 1,
                    int(held.sequence[i]) - 1,
                ),
                int(held.due[i]),
                int(held.time[i]),
            )
            for i in np.flatnonzero(missing).tolist()
        ]

    def _step(self, held: Held, counts: dict[str, int], found: list[Row], due: Array) -> Outcome:
        """Step records, grouped by key; `due` is when each was due."""
        if not len(held.time):
            return self._nothing(found, counts)
        first = np.append(True, held.row[1:] != held.row[:-1])
        rows = held.row[first]
        records = Records(
            np.diff(np.append(np.flatnonzero(first), len(first))),
            held.time,
            held.sequence,
            starts_of(held.marks),
            ends_of(held.marks),
            held.numbers,
        )
        stepped = self._stepper.step(self.table, rows, records)
        self._keep_turns(rows, records, stepped, due)
        self._touched.append(rows)
        without = ~self.table.has_state[rows]
        keys = self.table.keys[rows]
        if without.any():  # no record of theirs could be used
            self._forget_keys(rows[without])
        found += [
            Row(step.result, int(held.due[step.record]), step.time) for step in stepped.others
        ]
        return Outcome(held, keys, stepped, found, counts, self.payloads.of(held))

    def _keep_turns(self, rows: Array, records: Records, stepped: Stepped, due: Array) -> None:
        """Store for each key when the last record that was stepped was due."""
        good = np.arange(len(due))
        good[_refused(stepped)] = -1
        first = np.cumsum(records.counts) - records.counts
        last = np.maximum.reduceat(good, first)
        here = last >= first
        at = last[here]
        self.table.due[rows[here]] = self._order.due_at(records.time[at], due[at])

    def _nothing(self, found: list[Row], counts: dict[str, int]) -> Outcome:
        """What came of records of which none was stepped."""
        return Outcome(_NONE, _NO_ROWS, _NOT_STEPPED, found, counts, {})

    def _forget_keys(self, rows: Array) -> None:
        """Keys without a state are no keys, unless records of theirs wait."""
        if len(rows):
            waiting = np.zeros(int(rows.max()) + 1, bool)
            of_waiting = self.pending.column("row")
            waiting[of_waiting[of_waiting < len(waiting)]] = True
            self.table.remove(rows[~waiting[rows]])

    def _cut_payloads(self, pieces: Array) -> None:
        """Of these payloads keep what records need that wait."""
        for piece in self.payloads.too_large(pieces.tolist(), self.pending.of_piece):
            self.payloads.keep(piece, self.pending.rows_of(piece))

    def _idle_at(self, rows: Array) -> Array:
        """When the sequences of keys end if no record comes; `NEVER` if their window does."""
        if self._idle_after is None:
            return np.full(len(rows), NEVER)
        time, due = self.table.time[rows], self.table.due[rows]
        at = self._order.idle_at_of(time, due, self._idle_after)
        return np.where(at <= self._end, at, NEVER)

    def _kept_going(self, rows: Array) -> Array:
        """Whether a record that waits, and is not idle, keeps each of these going."""
        if self._idle_after is None or self.pending.earliest is None:
            return np.zeros(len(rows), bool)
        following = self.pending.first_times(len(self.table.time))
        return np.asarray(following[rows] - self.table.time[rows] <= self._idle_after)

    def _end_rows(self, rows: Array, at: Array, reason: str, outcome: Outcome) -> None:
        """End the sequences of keys, and remove their states."""
        due, time = at.tolist(), self.table.time[rows].tolist()
        ended = self._stepper.end(self.table, rows, reason)
        outcome.rows.extend(Row(result, due[i], time[i]) for i, result in ended)
        if len(rows):
            counted = outcome.counts.get("states_evicted", 0)
            outcome.counts["states_evicted"] = counted + len(rows)
            self.end_rows(rows)


def _refused(stepped: Stepped) -> list[int]:
    """The records that could not be stepped."""
    return [step.record for step in stepped.others if isinstance(step.result, InvalidRecord)]


def _at_once(taken: Held, came: Array, arrived: Array) -> Array:
    """Beam timestamps of records that need not wait: when each and all before it had arrived.

    Args:
        taken: The records, those of a key one after another.
        came: The numbers of the records that came just now, rising; the others were here.
        arrived: When each of these did.
    """
    place = np.minimum(np.searchsorted(came, taken.number), len(came) - 1)
    of_taken = np.where(came[place] == taken.number, arrived[place], NOW)
    groups = np.cumsum(~duplicates(taken)) - 1
    first = np.full(int(groups[-1]) + 1, NEVER)
    np.minimum.at(first, groups, of_taken)
    latest = running_max(first[groups], np.append(True, taken.row[1:] != taken.row[:-1]))
    return np.maximum(latest, arrived.min())


_NO_ROWS = np.zeros(0, np.int64)
_NONE = Held(
    number=_NO_ROWS,
    row=_NO_ROWS,
    due=_NO_ROWS,
    time=_NO_ROWS,
    sequence=_NO_ROWS,
    marks=_NO_ROWS,
    numbers=np.zeros((0, 1)),
    piece=_NO_ROWS,
    at=_NO_ROWS,
)
_NOT_STEPPED = Stepped(
    np.zeros(0, np.int32), _NO_ROWS, np.zeros((0, 1)), np.zeros((0, 0), np.float32), []
)
