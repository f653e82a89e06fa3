"""A shard: the hidden states of its keys, their buffered records, and the steps of both.

What `beam_rnn.engine.key_engine.KeyEngine` does key by key, for many keys at once; it knows neither
Beam nor bytes. The rules of order are those of `beam_rnn.engine.order_columns`.
"""

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.engine.held import Held, by_row, different, duplicates, slices
from beam_rnn.engine.order import NEVER, NOW, Order
from beam_rnn.engine.order_columns import (
    Places,
    arrived_by,
    due_at,
    idle_at,
    irregular,
    is_next,
    kept_open,
    late,
    out_of_order,
)
from beam_rnn.engine.outcome import NO_ROWS, Outcome, nothing_stepped
from beam_rnn.engine.payloads import Payloads
from beam_rnn.engine.pending import Pending
from beam_rnn.engine.shard_changes import Change, Changes, blocks_of
from beam_rnn.engine.shard_rows import gap_rows, judge, late_rows
from beam_rnn.engine.shard_stepper import ShardStepper, Stepped
from beam_rnn.engine.stepper import Row
from beam_rnn.engine.table import Table
from beam_rnn.models.many_sequences import LONG_AGO, Records
from beam_rnn.models.state_format import KeyState
from beam_rnn.records.block_format import Block, ends_of, starts_of
from beam_rnn.records.results import InvalidRecord, LateRecord


class Shard:
    """The keys of a shard in one window.

    Args:
        stepper: What steps them.
        order: When records are stepped, and when a sequence is idle.
        end: The end of the window, in microseconds.
        inputs: The number of inputs of a record.
        closes_at: When the window is closed, in microseconds; at its end if left out.
    """

    def __init__(
        self,
        stepper: ShardStepper,
        order: Order,
        end: int,
        inputs: int,
        closes_at: int | None = None,
    ):
        self._stepper = stepper
        self._order = order
        has_starts = stepper.alone.columns.start is not None
        self._restarts = order.by == "sequence" and has_starts
        self._end = end
        self._closes_at = end if closes_at is None else closes_at
        self.table = Table(inputs, stepper.alone.policy.replay)
        self.pending = Pending(order)
        self.payloads = Payloads()
        self._next_number = 0
        self._changes = Changes()

    def use(self, stepper: ShardStepper) -> None:
        """Step by this from now on."""
        self._stepper = stepper

    @property
    def empty(self) -> bool:
        """Return True if there is nothing to keep."""
        return not len(self.table)

    def changes(self) -> Change:
        """Return what changed since this was last called."""
        changes, self._changes = self._changes, Changes()
        return changes.change(self.table)

    def everything(self) -> Change:
        """Return all that there is, as if it had just come."""
        held = self.pending.all()
        arrived = [] if held is None else list(blocks_of(held, self.table, self.payloads))
        return Change(self.table.with_state(), [], arrived, NO_ROWS)

    def restore(self, block: Block, number: Array, due: Array) -> None:
        """Take up records that were buffered.

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
        """Remove buffered records, by their numbers."""
        pieces = different(self.pending.column("piece"))
        self.pending.forget(numbers)
        self._cut_payloads(pieces)

    def drop_unused_rows(self) -> None:
        """Remove keys that have neither a state nor a buffered record."""
        in_use = self.table.in_use()
        self._forget_keys(in_use[~self.table.has_state[in_use]])

    def end_rows(self, rows: Array) -> None:
        """Remove the states of keys, without results."""
        self._changes.removed += self.table.names(rows)
        self.table.drop_states(rows)
        self._forget_keys(rows)

    def start_from(self, key: str, state: KeyState, begun: int) -> int | None:
        """Take up an imported state, unless the key has one; return as `to_do`.

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
            self._changes.touched.append(rows)
        return self._earliest(rows)

    def arrive(self, block: Block) -> Outcome:
        """Step, buffer or refuse records that came."""
        number = self._next_number + np.arange(block.records)
        self._next_number += block.records
        if block.payload:
            self.payloads.add(int(number[0]), block.payload)
        outcome = self._arrive(block, number)
        self._cut_payloads(number[:1])
        return outcome

    def _arrive(self, block: Block, number: Array) -> Outcome:
        """As `arrive`, of records with these numbers."""
        held = self._held(block, number, block.arrived)
        together = bool((block.arrived == block.arrived[0]).all())
        if self._order.by == "arrival":
            held = by_row(held)
            due = held.due
            if together:
                held = held._replace(due=np.full(block.records, NOW))
            counts = {"records_out_of_order": out_of_order(held, self._known(held))}
            return self._step(held, counts, [], due)
        known = self._known(held)
        is_late, rows = late(self._order, held, known, restarts=self._restarts), list[Row]()
        if is_late.any():
            of_late = held.pick(is_late)
            rows = late_rows(of_late, self.table, self.table.time[of_late.row])
            if is_late.all():
                return nothing_stepped(rows, {"records_late": len(rows)})
            block, held = block.pick(~is_late), held.pick(~is_late)
        counts = {"records_late": len(rows)}
        due = due_at(self._order, held.time, block.arrived, self._closes_at)
        held = held._replace(due=due)
        self.pending.add(held)
        following = self._following(held)
        waits = np.ones(len(held.number), bool)
        if following is not None:
            numbers = following[0].number
            waits = np.isin(held.number, numbers, invert=True)
            self._changes.taken.append(np.setdiff1d(numbers, held.number, assume_unique=True))
        if waits.any():
            counts["records_buffered"] = int(waits.sum())
            if waits.all() and not is_late.any():
                self._changes.arrived.append((block, held.number, held.due))
            else:
                of_waiting = blocks_of(held.pick(waits), self.table, self.payloads)
                self._changes.arrived += of_waiting
        if following is None:
            return nothing_stepped(rows, counts)
        taken, _ = following
        at = np.array(NOW) if together else arrived_by(taken, held.number, block.arrived)
        return self._take(taken, np.broadcast_to(at, len(taken.time)), rows, counts)

    def advance(self, now: int, armed: int | None = None) -> Outcome:
        """Step all that is due now, and end what was idle.

        Args:
            now: Where the watermark is.
            armed: The time for which the timer was set: nothing is emitted before it.
        """
        outcome = self._take_due(now)
        rows = self.table.with_state()
        ends_at = self._ends_at(rows)
        idle = ends_at <= now
        idle &= ~self._kept_open(rows)
        ended_at = np.maximum(ends_at[idle], NOW if armed is None else armed)
        self._end_rows(rows[idle], ended_at, "idle", outcome)
        return outcome

    def close(self, armed: int | None = None) -> list[Outcome]:
        """Step all that waits, whenever it is due, and end every sequence: the window is closed.

        Records that are released alone in a stream are released alone here.

        Args:
            armed: As in `advance`.
        """
        outcomes = []
        while (at := self.pending.alone_at(Places.of(self.table))) < NEVER:
            outcomes.append(self._take_due(at))
        outcome = self._take_due(NEVER)
        rows = self.table.with_state()
        ends_at = self._ends_at(rows)
        idle = ends_at < NEVER
        ended_at = np.maximum(ends_at[idle], NOW if armed is None else armed)
        self._end_rows(rows[idle], ended_at, "idle", outcome)
        rest = rows[~idle]
        self._end_rows(rest, np.full(len(rest), self._closes_at), "window", outcome)
        return [*outcomes, outcome]

    def to_do(self) -> int | None:
        """Return when there is something to do next; None for never."""
        rows = self.table.with_state()
        return self._earliest(rows[~self._kept_open(rows)])

    def to_do_after(self, outcome: Outcome) -> int | None:
        """Return when there is something to do next for records that came."""
        idles = self._order.idle_after is not None
        return self._earliest(np.unique(outcome.records.row) if idles else NO_ROWS)

    def _earliest(self, rows: Array) -> int | None:
        first = int(self._ends_at(rows).min(initial=NEVER))
        times = [at for at in (self.pending.earliest, first) if at is not None and at < NEVER]
        return min(times, default=None)

    def _held(self, block: Block, number: Array, due: Array) -> Held:
        """Return the records of a block as rows."""
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

    def _known(self, held: Held) -> Places:
        """Return where the key of each record is."""
        return Places.of(self.table, held.row)

    def _following(self, held: Held) -> tuple[Held, Array] | None:
        """By number: the records of keys whose next number came, and what follows on it."""
        if self._order.by != "sequence":
            return None
        here = is_next(held, self._known(held))
        if not here.any():
            return None
        return self.pending.following(held.row[here], Places.of(self.table))

    def _take_due(self, now: int) -> Outcome:
        """Step all that is due now."""
        taken = self.pending.release(now, Places.of(self.table))
        if taken is None:
            return nothing_stepped([], {})
        self._changes.taken.append(taken[0].number)
        return self._take(*taken, [], {})

    def _take(self, held: Held, at: Array, rows: list[Row], counts: dict[str, int]) -> Outcome:
        """Step released records, in order; `at` is the timestamp of each result."""
        pieces = different(held.piece)
        outcome = self._take_once(held, at, rows, counts)
        self._cut_payloads(pieces)
        return outcome

    def _take_once(self, held: Held, at: Array, rows: list[Row], counts: dict[str, int]) -> Outcome:
        """As `_take`; of equal records the first."""
        same = duplicates(held)
        if same.any():
            counts["records_duplicate"] = int(same.sum())
            held, at = self.payloads.smallest(held, same).pick(~same), at[~same]
        due, held = held.due, held._replace(due=at)
        if self._order.by == "sequence":
            return self._take_by_number(held, due, rows, counts)
        is_late = late(self._order, held, self._known(held))
        if is_late.any():
            of_late = held.pick(is_late)
            rows += late_rows(of_late, self.table, self.table.time[of_late.row])
            counts["records_late"] = len(rows)
            held, due = held.pick(~is_late), due[~is_late]
        return self._step(held, counts, rows, due)

    def _take_by_number(
        self, held: Held, due: Array, rows: list[Row], counts: dict[str, int]
    ) -> Outcome:
        """Step records released by number; `due` is when each was due by itself."""
        known = self._known(held)
        odd = irregular(self._order, held, known)
        good, begun = np.ones(len(due), bool), np.full(len(due), LONG_AGO)
        for _, here in slices(held.row, np.unique(held.row[odd])):
            places = np.arange(len(due))[here]
            judge(self._order, self._stepper.alone, self.table, held, places, good, begun, rows)
        counts["records_late"] = sum(isinstance(row.result, LateRecord) for row in rows)
        counts["records_invalid"] = sum(isinstance(row.result, InvalidRecord) for row in rows)
        held, due, begun = held.pick(good), due[good], begun[good]
        known = self._known(held)
        outcome = self._step(held, counts, rows, due)
        stepped = np.ones(len(due), bool)
        stepped[_refused(outcome.stepped)] = False
        begins = np.flatnonzero((begun > LONG_AGO) & stepped)
        self.table.begun[held.row[begins]] = begun[begins]  # of a key the last one
        known = Places(*(column[stepped] for column in known))
        gaps = gap_rows(self._order, held.pick(stepped), self.table, known)
        counts["sequence_gaps"] = len(gaps)
        rows += gaps
        return outcome

    def _step(self, held: Held, counts: dict[str, int], rows: list[Row], due: Array) -> Outcome:
        """Step records, grouped by key; `due` is when each was due."""
        if not len(held.time):
            return nothing_stepped(rows, counts)
        first = np.append(True, held.row[1:] != held.row[:-1])
        of_keys = held.row[first]
        records = Records(
            np.diff(np.append(np.flatnonzero(first), len(first))),
            held.time,
            held.sequence,
            starts_of(held.marks),
            ends_of(held.marks),
            held.numbers,
        )
        stepped = self._stepper.step(self.table, of_keys, records)
        self._keep_last_due(of_keys, records, stepped, due)
        self._changes.touched.append(of_keys)
        without = ~self.table.has_state[of_keys]
        keys = self.table.keys[of_keys]
        if without.any():  # no record of theirs could be used
            self._forget_keys(of_keys[without])
        rows += [Row(step.result, int(held.due[step.record]), step.time) for step in stepped.others]
        return Outcome(held, keys, stepped, rows, counts, self.payloads.of(held))

    def _keep_last_due(self, rows: Array, records: Records, stepped: Stepped, due: Array) -> None:
        """Store for each key when the last record that was stepped was due."""
        good = np.arange(len(due))
        good[_refused(stepped)] = -1
        first = np.cumsum(records.counts) - records.counts
        last = np.maximum.reduceat(good, first)
        here = last >= first
        at = last[here]
        self.table.due[rows[here]] = self._order.due_at(records.time[at], due[at])

    def _forget_keys(self, rows: Array) -> None:
        """Remove keys that have no state, except those with buffered records."""
        if len(rows):
            waiting = np.zeros(int(rows.max()) + 1, bool)
            of_waiting = self.pending.column("row")
            waiting[of_waiting[of_waiting < len(waiting)]] = True
            self.table.remove(rows[~waiting[rows]])

    def _cut_payloads(self, pieces: Array) -> None:
        """Keep of these payloads what buffered records need."""
        for piece in self.payloads.too_large(pieces.tolist(), self.pending.of_piece):
            self.payloads.keep(piece, self.pending.rows_of(piece))

    def _ends_at(self, rows: Array) -> Array:
        """Return when the sequences of keys end by idling; `NEVER` if their window ends them."""
        return idle_at(self._order, self.table.time[rows], self.table.due[rows], self._end)

    def _kept_open(self, rows: Array) -> Array:
        """Return which sequences a buffered record that is not idle keeps open."""
        if self._order.idle_after is None or self.pending.earliest is None:
            return np.zeros(len(rows), bool)
        following = self.pending.first_times(len(self.table.time))
        return kept_open(self._order, self.table.time[rows], following[rows])

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
    """Return the records that could not be stepped."""
    return [step.record for step in stepped.others if isinstance(step.result, InvalidRecord)]
