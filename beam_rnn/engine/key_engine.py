"""One key: its records stepped by the rules of order, without Beam.

What `beam_rnn.engine.shard.Shard` does for the keys of a shard together. What the key has stored
is behind `Storage`: `beam_rnn.streaming.key_cells.Cells` in a pipeline.
"""

from collections.abc import Iterable, Mapping, Sequence

from beam_rnn.engine.order import NOW, Order, Place, gaps, released_at
from beam_rnn.engine.order_format import order_header_of
from beam_rnn.engine.stepper import Counters, Row, Step, Stepper
from beam_rnn.engine.storage import Stood, Storage
from beam_rnn.engine.waiting import Release, Waiting
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.models.state_format import last_step
from beam_rnn.records.record_format import (
    decode_record,
    record_marks,
    record_sequence,
    record_time,
)
from beam_rnn.records.results import EndedSequence, InvalidRecord, LateRecord, poisoned


class KeyEngine:
    """Steps the records of one key after another.

    Args:
        stepper: What steps them.
        order: When records are stepped.
        counters: Where records are counted.
    """

    def __init__(self, stepper: Stepper, order: Order, counters: Counters):
        self._stepper = stepper
        self._order = order
        self._counters = counters
        self._restarts = order.by == "sequence" and stepper.columns.start is not None

    def start_from(self, data: bytes, stored: Storage) -> int | None:
        """Take up an imported state, unless the key has one; return as `arrive`."""
        if stored.state() is None:
            _, begun, state = order_header_of(data)
            stored.write(Stood(Place(*last_step(state), LONG_AGO, begun), state))
        return self._ends_at(stored.state(), stored)

    def arrive(
        self,
        key: str,
        records: list[bytes],
        arrived: list[int],
        stored: Storage,
        rows: list[Row],
    ) -> int | None:
        """Step, buffer or refuse records that came.

        Args:
            key: The key.
            records: The records.
            arrived: Their Beam timestamps.
            stored: What is stored of the key.
            rows: The results are added to these.

        Returns:
            When there is something to do next because of them; None for never.
        """
        before, earliest = stored.state(), None
        if self._order.by == "arrival":
            self._step_on_arrival(key, records, arrived, stored, rows)
        else:
            if before is not None:
                records, arrived = self._on_time(key, records, arrived, before.place, rows)
            if records:
                earliest = self._buffer(key, records, arrived, stored, rows)
        idle_at = self._ends_at(stored.state(), stored)
        return min((at for at in (earliest, idle_at) if at is not None), default=None)

    def advance(self, key: str, now: int, stored: Storage, rows: list[Row]) -> bool:
        """Step all that is due now, end what was idle, and arm the timer for the rest.

        Returns:
            Whether the sequence ended, and the state was removed.
        """
        armed = stored.armed()
        after, rest = self._take_due(key, now, stored, rows)
        idle_at = self._ends_at(after, stored, rest)
        is_idle = after is not None and idle_at is not None and idle_at <= now
        if after is not None and idle_at is not None and is_idle:
            # A late record may have held the timer back: nothing is emitted before it.
            self._end(key, after, "idle", max(idle_at, armed or idle_at), rows)
            after = idle_at = None
        stored.write(after)
        if rest is not None:
            stored.released(rest)
        earliest = None if rest is None else rest.earliest
        to_do = [at for at in (earliest, idle_at) if at is not None]
        if to_do:
            stored.arm(min(to_do))
        else:
            stored.disarm()
        return is_idle

    def close(self, key: str, stored: Storage, rows: list[Row]) -> bool:
        """Step all that waits, whenever it is due, and end the sequence: the window is closed.

        Returns:
            Whether there was a state.
        """
        armed = stored.armed()
        after = self._take_all(key, stored, rows)
        if after is None:
            return False
        idle_at = self._ends_at(after, stored)
        reason, at = "window", stored.closes_at
        if idle_at is not None:  # a record that waited may have held the timer back
            reason, at = "idle", idle_at if armed is None else max(idle_at, armed)
        self._end(key, after, reason, at, rows)
        return True

    def too_late(
        self,
        key: str,
        records: Iterable[bytes],
        arrived: Iterable[int],
        stored: Storage,
        rows: list[Row],
    ) -> None:
        """Refuse records of a window that was closed."""
        for record, at in zip(records, arrived, strict=True):
            self._late(key, record, stored.closes_at, at, rows)

    def _step_on_arrival(
        self,
        key: str,
        records: list[bytes],
        arrived: list[int],
        stored: Storage,
        rows: list[Row],
    ) -> None:
        """Step records that need not wait."""
        before = stored.state()
        reached = LONG_AGO if before is None else before.place.time
        out_of_order = 0
        for record in records:
            time = record_time(record)
            out_of_order += time < reached
            reached = max(reached, time)
        self._counters.count("records_out_of_order", out_of_order)
        after, steps = self._step(key, before, records, arrived)
        stored.write(after)
        together = min(arrived) == max(arrived)
        rows += [
            Row(step.result, NOW if together else arrived[step.record], step.time) for step in steps
        ]

    def _step(
        self, key: str, before: Stood | None, records: list[bytes], due_at: Sequence[int]
    ) -> tuple[Stood | None, list[Step]]:
        """Step records that are due, given when each was."""
        state, steps = self._stepper.step(key, before and before.state, records)
        if state is None:
            return None, steps
        due, begun = (LONG_AGO, LONG_AGO) if before is None else before.place[2:]
        refused = _refused_places(steps)
        last = next((i for i in reversed(range(len(records))) if i not in refused), None)
        if last is not None:
            due = self._order.due(record_time(records[last]), due_at[last])
        return Stood(Place(*last_step(state), due, begun), state), steps

    def _on_time(
        self,
        key: str,
        records: list[bytes],
        arrived: list[int],
        place: Place,
        rows: list[Row],
    ) -> tuple[list[bytes], list[int]]:
        """Return the records that are not late, and when they arrived."""
        on_time: tuple[list[bytes], list[int]] = [], []
        for record, at in zip(records, arrived, strict=True):
            if self._order.is_behind(record, place, restarts=self._restarts):
                self._late(key, record, place.time, at, rows)
            else:
                on_time[0].append(record)
                on_time[1].append(at)
        return on_time

    def _buffer(
        self,
        key: str,
        records: list[bytes],
        arrived: list[int],
        stored: Storage,
        rows: list[Row],
    ) -> int | None:
        """Buffer records until they are due, which may be now; return when to act next."""
        due_at = [
            self._order.due(record_time(record), at)
            for record, at in zip(records, arrived, strict=True)
        ]
        before = stored.state()
        if self._order.by == "sequence" and before is not None:
            number = before.place.number + 1
            if any(record_sequence(record) == number for record in records):
                waiting = stored.waiting(self._order, records, due_at)
                taken, rest = waiting.following(number)
                self._count_duplicates(waiting, rest, taken)
                at = released_at(records, arrived, list(taken))
                stored.write(self._take(key, taken, at, before, rows))
                stored.released(rest)
                return rest.earliest
        self._counters.count("records_buffered", len(records))
        stored.wait(records, due_at)
        return min(due_at)

    def _take_due(
        self, key: str, now: int, stored: Storage, rows: list[Row]
    ) -> tuple[Stood | None, Waiting | None]:
        """Step all that is due now; return the state after it, and what still waits."""
        before = stored.state()
        if self._order.by == "arrival":
            return before, None
        return self._release(key, now, stored.waiting(self._order), before, rows)

    def _take_all(self, key: str, stored: Storage, rows: list[Row]) -> Stood | None:
        """Step all that waits, whenever it is due; return the state after it.

        Records that are released alone in a stream are released alone here.
        """
        after = stored.state()
        if self._order.by == "arrival":
            return after
        rest: Waiting | None = stored.waiting(self._order)
        while rest:
            waiting = rest.at(None if after is None else after.place)
            after, rest = self._release(key, waiting.alone_at, waiting, after, rows)
        return after

    def _release(
        self, key: str, now: int, waiting: Waiting, before: Stood | None, rows: list[Row]
    ) -> tuple[Stood | None, Waiting | None]:
        """Step what is due now of the buffered records; return the state after it, and the rest."""
        taken, rest = waiting.release(now)
        if not taken:
            return before, rest
        self._count_duplicates(waiting, rest, taken)
        came_out = {record: release.at for record, release in taken.items()}
        return self._take(key, taken, came_out, before, rows), rest

    def _count_duplicates(
        self, waiting: Waiting, rest: Waiting, taken: Mapping[bytes, Release]
    ) -> None:
        self._counters.count("records_duplicate", len(waiting) - len(rest) - len(taken))

    def _take(
        self,
        key: str,
        taken: Mapping[bytes, Release],
        came_out: Mapping[bytes, int],
        before: Stood | None,
        rows: list[Row],
    ) -> Stood | None:
        """Step released records, in order; return the state after them.

        Args:
            key: The key.
            taken: The records, and when each was due.
            came_out: The Beam timestamp of the results of each.
            before: The state.
            rows: The results are added to these.
        """
        if self._order.by != "sequence":
            return self._take_by_time(key, taken, came_out, before, rows)
        part: list[bytes] = []
        for record in taken:  # one with which the numbers may restart is stepped by itself
            if record_marks(record)[0]:
                before = self._take_by_number(key, part, taken, came_out, before, rows)
                before = self._take_by_number(key, [record], taken, came_out, before, rows)
                part = []
            else:
                part.append(record)
        return self._take_by_number(key, part, taken, came_out, before, rows)

    def _take_by_time(
        self,
        key: str,
        taken: Mapping[bytes, Release],
        came_out: Mapping[bytes, int],
        before: Stood | None,
        rows: list[Row],
    ) -> Stood | None:
        ready = list(taken)
        if before is not None and self._order.is_behind(ready[0], before.place):
            late = [r for r in ready if self._order.is_behind(r, before.place)]
            ready = ready[len(late) :]
            for record in late:
                self._late(key, record, before.place.time, came_out[record], rows)
        after, steps = self._step(key, before, ready, [taken[record].due for record in ready])
        rows += [Row(step.result, came_out[ready[step.record]], step.time) for step in steps]
        return after

    def _take_by_number(
        self,
        key: str,
        records: Sequence[bytes],
        taken: Mapping[bytes, Release],
        came_out: Mapping[bytes, int],
        before: Stood | None,
        rows: list[Row],
    ) -> Stood | None:
        """Step records by number: those without a start mark, or one that has it."""
        ready: list[bytes] = []
        place = None if before is None else before.place
        for record in records:
            time, number = record_time(record), record_sequence(record)
            starts, _ = record_marks(record)
            verdict = self._order.verdict(place, time, number, starts=starts)
            if ready and verdict != "next":  # if those before it can be stepped
                before = self._step_by_number(key, ready, taken, came_out, before, rows)
                ready, place = [], None if before is None else before.place
                verdict = self._order.verdict(place, time, number, starts=starts)
            if place is not None and verdict == "late":
                self._late(key, record, place.time, came_out[record], rows)
            elif place is not None and verdict == "jump":
                rows.append(self._refused(key, record, place.number, came_out[record]))
            elif place is not None and verdict == "restart":
                begun = self._order.begun(place, time)
                before = self._step_by_number(
                    key, [record], taken, came_out, before, rows, begun=begun
                )
                place = None if before is None else before.place
            else:
                latest = time if place is None else max(time, place.time)
                place = Place(latest, number, 0, LONG_AGO if place is None else place.begun)
                ready.append(record)
        return self._step_by_number(key, ready, taken, came_out, before, rows)

    def _step_by_number(
        self,
        key: str,
        ready: list[bytes],
        taken: Mapping[bytes, Release],
        came_out: Mapping[bytes, int],
        before: Stood | None,
        rows: list[Row],
        *,
        begun: int | None = None,
    ) -> Stood | None:
        """Step records whose numbers rise; with `begun` they restart with the only one."""
        if not ready:
            return before
        after, steps = self._step(key, before, ready, [taken[record].due for record in ready])
        refused = _refused_places(steps)
        stepped = [record for i, record in enumerate(ready) if i not in refused]
        if begun is not None and stepped and after is not None:
            after = after._replace(place=after.place._replace(begun=begun))
        for record, gap in gaps(key, before and before.place, stepped, self._order.idle_after):
            self._counters.count("sequence_gaps")
            rows.append(Row(gap, came_out[record], gap.time))
        rows += [Row(step.result, came_out[ready[step.record]], step.time) for step in steps]
        return after

    def _refused(self, key: str, record: bytes, reached: int, due: int) -> Row:
        """Return the dead letter of a record whose number jumps."""
        self._counters.count("records_invalid")
        time, number, *_, numbers = decode_record(record)
        letter = poisoned(key, time, numbers, self._order.why_refused(reached, number))
        return Row(letter, due, time)

    def _late(self, key: str, record: bytes, reached: int, due: int, rows: list[Row]) -> None:
        """Refuse a late record; `reached` is where its key is, or when its window was closed."""
        self._counters.count("records_late")
        time, number, *_, inputs = decode_record(record)
        late = LateRecord(key, time, reached - time, inputs.tolist(), number)
        rows.append(Row(late, due, time))

    def _end(self, key: str, stood: Stood, reason: str, at: int, rows: list[Row]) -> None:
        """End the sequence of a key, whose state is removed."""
        begun = stood.place.begun
        for step in self._stepper.end(key, stood.state, reason):
            result = step.result
            known = self._order.idle_after is None and begun != LONG_AGO
            if known and isinstance(result, EndedSequence):
                result = result._replace(begun=begun)
            rows.append(Row(result, at, step.time))
        self._counters.count("states_evicted")

    def _ends_at(
        self, stood: Stood | None, stored: Storage, rest: Waiting | None = None
    ) -> int | None:
        """Return when the sequence ends by idling; None if never, or if its window does."""
        if stood is None:
            return None
        return self._order.ends_at(stood.place, rest.first_time if rest else None, stored.end)


def _refused_places(steps: Iterable[Step]) -> set[int]:
    """Return the places of the records that could not be stepped."""
    return {step.record for step in steps if type(step.result) is InvalidRecord}
