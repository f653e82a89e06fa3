"""The stateful DoFn: Beam's cells and timers around the rules of order and the steps.

State cells, timers and their names are contracts: a running job finds its state by them.
"""

import logging
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.closing import AT_THEIR_END, Closing
from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError
from beam_rnn.rows import (
    INVALID,
    EndedSequence,
    InvalidRecord,
    LateRecord,
    SequenceGap,
    poisoned,
)
from beam_rnn.state import (
    Armed,
    decode_armed,
    decode_block,
    decode_record,
    encode_armed,
    encode_waiting,
    imported,
    last_step,
    record_marks,
    record_sequence,
    record_time,
    turn_of,
    with_turn,
)
from beam_rnn.stepping import Step
from beam_rnn.sweep import LONG_AGO
from beam_rnn.turns import END_OF_TIME, MILLISECOND, NEVER, Order, Place, Turn, Waiting

logger = logging.getLogger(__name__)

LATE, ENDED, GAPS, MODELS = "late", "ended", "gaps", "models"
"""The outputs beside predictions and `INVALID`."""

STATE = BagStateSpec("state", BytesCoder())  # of one; a first value needs no clearing
WAITING = BagStateSpec("waiting", BytesCoder())
ARMED = ReadModifyWriteStateSpec("armed", BytesCoder())
DUE = TimerSpec("due", TimeDomain.WATERMARK)
END = TimerSpec("end", TimeDomain.WATERMARK)


class Stepping(Protocol):
    """What takes the records of a key in their turn: `beam_rnn.stepping.Stepper`, for one."""

    columns: Columns

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """The state after records that are in order, and what came of them."""

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """What comes of a key whose state is removed."""

    def refresh(self) -> None:
        """A bundle begins."""

    def use(self, models: Iterable[str]) -> None:
        """These are the models there are."""


class StepperSource(Protocol):
    """What makes a `Stepping` on a worker; it is pickled to get there."""

    def stepper(self) -> Stepping:
        """A new one."""


def check_numbered(order: Order, columns: Columns, idle_after: int | None) -> None:
    """That records have the number by which they are ordered, and that a key never waits for ever.

    Raises:
        ConfigurationError: They have none; or nothing ends a sequence after a gap that is larger
            than `max_jump`.
    """
    if order.by == "sequence" and columns.sequence is None:
        raise ConfigurationError(
            f"order='sequence' needs a model trained with Columns(sequence=...), got {columns}"
        )
    if order.max_jump is not None and columns.start is None and idle_after is None:
        raise ConfigurationError(
            f"max_jump={order.max_jump} refuses all later records of a key after a gap in its "
            "numbers that is larger than that: say idle_after= too, with which the numbers may go "
            f"on anywhere after a pause, or train with Columns(start=...); got {columns}"
        )


class Stood(NamedTuple):
    """Where a key stands: its place, and the state of what steps its records."""

    place: Place
    state: bytes


class Cells:
    """The state cells of one key and window, and its timer.

    Reading or clearing a cell can be a request to the runner: the state is read once, and an
    empty cell is not cleared. Buffered records are appended as they come. Those that were taken
    stay in the bag until they are half of it; `Armed.reached` says how far they go, so a turn does
    not rewrite the records that still wait.
    """

    def __init__(
        self, cells: Sequence[Any], due: Any, window: Any, closes_at: int, fingerprint: bytes
    ):
        self._state, self._waiting, self._armed = cells
        self._known: tuple[bytes | None] | None = None  # what is stored, if it was read
        self._read: tuple[Armed | None] | None = None  # so with the timer
        self._stored = 0  # records in `_waiting`, those that were taken too
        self._new: bytes | None = None  # a piece that is not there yet
        self._due = due
        self._fingerprint = fingerprint
        self.end = int(window.max_timestamp().micros)
        self.closes_at = closes_at

    def state(self) -> "Stood | None":
        """The state of the key, and where it is; None before its first step."""
        if self._known is None:
            self._known = (next(iter(self._state.read()), None),)
        (data,) = self._known
        if data is None:
            return None
        due, begun, state = turn_of(data)
        return Stood(Place(*last_step(state), due, begun), state)

    def write(self, stood: "Stood | None") -> None:
        """Let this be the state."""
        known = self._known or (next(iter(self._state.read()), None),)
        data = None
        if stood is not None:
            data = with_turn(stood.state, stood.place.due, stood.place.begun)
        self._known = (data,)
        if known == self._known:
            return
        if known[0] is not None:
            self._state.clear()
        if data is not None:
            self._state.add(data)

    def armed(self) -> int | None:
        """The time for which the timer is set."""
        armed = self._armed_as_it_is()
        return None if armed is None else armed.due

    def arm(self, at: int) -> None:
        """Set the timer, at the latest to the time when the window is closed."""
        at = min(at, self.closes_at // MILLISECOND * MILLISECOND)
        self._write_armed((self._armed_as_it_is() or Armed(at))._replace(due=at))
        self._due.set(Timestamp(micros=at))

    def disarm(self) -> None:
        """Unset the timer."""
        if self._armed_as_it_is() is not None:
            self._read = (None,)
            self._armed.clear()
            self._due.clear()

    def clear(self) -> None:
        """Remove all."""
        self.write(None)
        if any(True for _ in self._waiting.read()):
            self._waiting.clear()
        self.disarm()

    def wait(self, records: Sequence[bytes], due_at: Sequence[int]) -> None:
        """Keep records until they are due."""
        self._waiting.add(self._piece(records, due_at))

    def waiting(
        self, order: Order, records: Sequence[bytes] = (), due_at: Sequence[int] = ()
    ) -> Waiting:
        """The buffered records, and new ones that are not stored yet."""
        pieces = list(self._waiting.read())
        self._new = None
        if records:
            self._new = self._piece(records, due_at)
            pieces.append(self._new)
        stood = self.state()
        place = None if stood is None else stood.place
        waiting = Waiting.read(order, pieces, self._armed_as_it_is(), place)
        self._stored = waiting.stored - len(records)
        return waiting

    def turned(self, rest: Waiting) -> None:
        """Store the records that still wait after a turn."""
        if rest.reached is None:  # nothing was taken
            if self._new is not None:
                self._waiting.add(self._new)
            return
        armed = self._armed_as_it_is() or Armed(self.end)
        turns = armed.turns
        if 2 * len(rest) <= self._stored or not self._stored or rest.reached < armed.reached:
            left = rest.to_bytes(turns) if rest else None
            if self._stored:
                self._waiting.clear()
        else:
            turns += 1
            left = None if self._new is None else rest.left_of(self._new, turns)
            self._write_armed(Armed(armed.due, turns, rest.reached))
        if left is not None:
            self._waiting.add(left)

    def _piece(self, records: Sequence[bytes], due_at: Sequence[int]) -> bytes:
        """Records to buffer, due at the latest when the window is closed."""
        armed = self._armed_as_it_is()
        end = self.closes_at // MILLISECOND * MILLISECOND
        due = [min(at, end) for at in due_at]
        return encode_waiting(due, records, 0 if armed is None else armed.turns)

    def _armed_as_it_is(self) -> Armed | None:
        if self._read is None:
            data = self._armed.read()
            self._read = (None if data is None else decode_armed(data, self._fingerprint),)
        return self._read[0]

    def _write_armed(self, armed: Armed) -> None:
        self._read = (armed,)
        self._armed.write(encode_armed(armed, self._fingerprint))


class Unstamped:
    """Counts records whose Beam timestamp says nothing of when they came, and says so once."""

    def __init__(self) -> None:
        self._count = Metrics.counter("beam_rnn", "records_without_timestamp")
        self._said = False

    def see(self, count: int) -> None:
        """Count such records, and warn at the first."""
        if not count:
            return
        self._count.inc(count)
        if not self._said:
            self._said = True
            logger.warning(
                "a record has the end of the global window as its Beam timestamp, as behind a "
                "triggered GroupByKey: it waits by its own time alone, and the metric "
                "records_without_timestamp counts such records. Give them their time back, with "
                "beam.Map(lambda record: TimestampedValue(record, record['time']))"
            )


class StepKeys(beam.DoFn):
    """Steps each key's state through its records, each when it has its turn.

    The timer `due` is armed at the earliest thing to do: a record that waits, or the end of a
    sequence that was idle. When it fires, all that is due is taken in order. The timer `end` fires
    when the window is closed: it takes what is left, and ends the sequence. In a batch the
    watermark jumps there, and one round does what would take one for each time.

    The Beam timestamp of a prediction is when its record became due. The timer that is pending
    until then holds the watermark, so nothing downstream is late except what comes of records that
    were behind the watermark themselves.
    """

    def __init__(
        self,
        source: StepperSource,
        order: Order,
        idle_after: int | None,
        *,
        closing: Closing = AT_THEIR_END,
        at_event_time: bool = False,
    ):
        self._source = source
        self._order = replace(order, idle_after=idle_after)
        self._closing = closing
        self._idle_after = idle_after
        self._timed = order.by != "arrival" or idle_after is not None
        self._at_event_time = at_event_time
        self._late = Metrics.counter("beam_rnn", "records_late")
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")
        self._duplicate = Metrics.counter("beam_rnn", "records_duplicate")
        self._buffered = Metrics.counter("beam_rnn", "records_buffered")
        self._unordered = Metrics.counter("beam_rnn", "records_out_of_order")
        self._gaps = Metrics.counter("beam_rnn", "sequence_gaps")
        self._evicted = Metrics.counter("beam_rnn", "states_evicted")
        self._unstamped = Unstamped()

    def setup(self) -> None:
        """Makes the stepper: loads the model."""
        self._stepper = self._source.stepper()
        columns = self._stepper.columns
        check_numbered(self._order, columns, self._idle_after)
        self._restarts = self._order.by == "sequence" and columns.start is not None
        self._fingerprint = columns.fingerprint

    def start_bundle(self) -> None:
        """Looks for a newer model, if it is time."""
        self._stepper.refresh()
        self._bundle_begins = True

    def process(
        self,
        element: tuple[str, bytes],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        models: Iterable[tuple[str, str]] = (),
    ) -> Iterator[Any]:
        """Checked records in; each is stepped, waits for its turn, or is late."""
        if models and self._bundle_begins:  # there may be many
            self._stepper.use(path for _, path in models)
            self._bundle_begins = False
        key, data = element
        cells = self._cells((state, waiting, armed), due, window)
        if self._closing.is_closed(key, window):
            yield from self._too_late(key, data, timestamp.micros, cells)
            return
        armed_at = cells.armed() if self._timed else None
        is_new = armed_at is None and cells.state() is None
        to_do = yield from self._arrive(key, data, timestamp.micros, cells)
        idle_at = self._idle_at(cells.state(), cells)
        to_do += [] if idle_at is None else [idle_at]
        if to_do and (armed_at is None or min(to_do) < armed_at):
            cells.arm(min(to_do))
        if is_new and (to_do or cells.state() is not None):
            end.set(Timestamp(micros=cells.closes_at))

    def _cells(self, cells: Sequence[Any], due: Any, window: Any) -> Cells:
        """The cells of a key; what comes out belongs to their window from now on."""
        self._here = (window,)
        return Cells(cells, due, window, self._closing.at(window), self._fingerprint)

    def _too_late(self, key: str, data: bytes, now: int, cells: Cells) -> Iterator[Any]:
        """Records of a window that was closed."""
        if imported(data) is None:
            for record, at in zip(*decode_block(data, now), strict=True):
                yield self._tagged_late(key, record, cells.closes_at, at)

    def _arrive(
        self, key: str, data: bytes, now: int, cells: Cells
    ) -> Generator[Any, None, list[int]]:
        """Take in what arrived; gives the times at which there is something to do."""
        before = cells.state()
        start = imported(data)
        if start is not None:
            if before is None:
                _, begun, state = turn_of(start)
                cells.write(Stood(Place(*last_step(state), LONG_AGO, begun), state))
            return []
        records, arrived = decode_block(data, now)
        if self._order.by == "arrival":
            yield from self._step_as_they_come(key, records, arrived, cells)
            return []
        self._unstamped.see(sum(at >= END_OF_TIME for at in arrived))
        if before is not None:
            records, arrived = yield from self._on_time(key, records, arrived, before.place)
        return (yield from self._buffer(key, records, arrived, cells)) if records else []

    def _step_as_they_come(
        self, key: str, records: list[bytes], arrived: list[int], cells: Cells
    ) -> Iterator[Any]:
        """Step records that need not wait."""
        before = cells.state()
        reached = LONG_AGO if before is None else before.place.time
        for record in records:
            time = record_time(record)
            self._unordered.inc(time < reached)
            reached = max(reached, time)
        after, steps = self._step(key, before, records, arrived)
        cells.write(after)
        if min(arrived) == max(arrived):
            yield from (self._tagged(step, None) for step in steps)
        else:
            yield from (self._tagged(step, arrived[step.record]) for step in steps)

    def _step(
        self, key: str, before: Stood | None, records: list[bytes], due_at: Sequence[int]
    ) -> tuple[Stood | None, list[Step]]:
        """Step records that have their turn, each of which was due at a time."""
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
        self, key: str, records: list[bytes], arrived: list[int], place: Place
    ) -> Generator[Any, None, tuple[list[bytes], list[int]]]:
        """The records that the state has not passed; the others go where late ones do."""
        on_time: tuple[list[bytes], list[int]] = [], []
        for record, at in zip(records, arrived, strict=True):
            if self._order.is_behind(record, place, restarts=self._restarts):
                yield self._tagged_late(key, record, place.time, at)
            else:
                on_time[0].append(record)
                on_time[1].append(at)
        return on_time

    def _buffer(
        self,
        key: str,
        records: list[bytes],
        arrived: list[int],
        cells: Cells,
    ) -> Generator[Any, None, list[int]]:
        """Buffer records until their turn, which may be now; return the times to act next."""
        due_at = [
            self._order.due(record_time(record), at)
            for record, at in zip(records, arrived, strict=True)
        ]
        before = cells.state()
        if self._order.by == "sequence" and before is not None:
            number = before.place.number + 1
            if any(record_sequence(record) == number for record in records):
                waiting = cells.waiting(self._order, records, due_at)
                taken, rest = waiting.following(number)
                self._duplicate.inc(len(waiting) - len(rest) - len(taken))
                at = _at_once(taken, records, arrived)
                after = yield from self._take(key, taken, at, before)
                cells.write(after)
                cells.turned(rest)
                return [] if rest.earliest is None else [rest.earliest]
        self._buffered.inc(len(records))
        cells.wait(records, due_at)
        return [min(due_at)]

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> Iterator[Any]:
        """The watermark has passed the earliest thing to do."""
        cells = self._cells((state, waiting, armed), due, window)
        yield from self._advance(key, int(fired.micros), cells)
        gone = cells.armed() is None and cells.state() is None
        if gone and not self._closing.remembers(window):
            end.clear()  # a timer of a key that is gone would stay until the window ends

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        """The window is closed: all that waits, then the sequence."""
        cells = self._cells((state, waiting, armed), due, window)
        armed_at = cells.armed()
        after, _ = yield from self._take_due(key, NEVER, cells)  # whenever it is due
        idle_at = self._idle_at(after, cells)
        reason, at = "window", cells.closes_at
        if idle_at is not None:  # a record that waited may have held the timer back
            reason, at = "idle", idle_at if armed_at is None else max(idle_at, armed_at)
        if after is not None:
            yield from self._end(key, after, reason, at)
        self._closing.close(window)
        # The cells of the global window go with the job; a timer that is still due must find none.
        if self._timed or window != GlobalWindow():
            cells.clear()

    def _advance(self, key: str, now: int, cells: Cells) -> Iterator[Any]:
        """Step all that is due now, end what was idle, and arm the timer for the rest."""
        armed = cells.armed()
        after, rest = yield from self._take_due(key, now, cells)
        idle_at = self._idle_at(after, cells, rest)
        if after is not None and idle_at is not None and idle_at <= now:
            # A late record may have held the timer back: nothing is emitted before it.
            yield from self._end(key, after, "idle", max(idle_at, armed or idle_at))
            cells.write(None)
            idle_at = None
        else:
            cells.write(after)
        if rest is not None:
            cells.turned(rest)
        earliest = None if rest is None else rest.earliest
        to_do = [at for at in (earliest, idle_at) if at is not None]
        if to_do:
            cells.arm(min(to_do))
        else:
            cells.disarm()

    def _end(self, key: str, stood: Stood, reason: str, at: int) -> Iterator[Any]:
        """End the sequence of a key, whose state is removed."""
        begun = stood.place.begun
        for step in self._stepper.end(key, stood.state, reason):
            result = step.result
            known = self._idle_after is None and begun != LONG_AGO
            if known and isinstance(result, EndedSequence):
                result = result._replace(begun=begun)
            yield self._tagged(step._replace(result=result), at)
        self._evicted.inc()
        self._closing.leave(key, self._here[0])

    def _take_due(
        self, key: str, now: int, cells: Cells
    ) -> Generator[Any, None, tuple[Stood | None, Waiting | None]]:
        """Step all that is due now; gives the state after it, and what waits on."""
        before = cells.state()
        if self._order.by == "arrival":
            return before, None
        waiting = cells.waiting(self._order)
        taken, rest = waiting.turn(now)
        if not taken:
            return before, rest
        self._duplicate.inc(len(waiting) - len(rest) - len(taken))
        came_out = {record: turn.at for record, turn in taken.items()}
        return (yield from self._take(key, taken, came_out, before)), rest

    def _take(
        self,
        key: str,
        taken: Mapping[bytes, Turn],
        came_out: Mapping[bytes, int | None],
        before: Stood | None,
    ) -> Generator[Any, None, Stood | None]:
        """Step records that have their turn, in order; gives the state after them.

        Args:
            key: The key.
            taken: The records, and when each was due.
            came_out: The Beam timestamp of what comes of each; None for that of the element.
            before: The state.
        """
        if self._order.by != "sequence":
            return (yield from self._take_by_time(key, taken, came_out, before))
        part: list[bytes] = []
        for record in taken:  # one that begins the numbers anew is stepped by itself
            if record_marks(record)[0]:
                before = yield from self._take_by_number(key, part, taken, came_out, before)
                before = yield from self._take_by_number(key, [record], taken, came_out, before)
                part = []
            else:
                part.append(record)
        return (yield from self._take_by_number(key, part, taken, came_out, before))

    def _take_by_time(
        self,
        key: str,
        taken: Mapping[bytes, Turn],
        came_out: Mapping[bytes, int | None],
        before: Stood | None,
    ) -> Generator[Any, None, Stood | None]:
        ready = list(taken)
        if before is not None and self._order.is_behind(ready[0], before.place):
            late = [r for r in ready if self._order.is_behind(r, before.place)]
            ready = ready[len(late) :]
            for record in late:
                yield self._tagged_late(key, record, before.place.time, came_out[record])
        after, steps = self._step(key, before, ready, [taken[record].due for record in ready])
        for step in steps:
            yield self._tagged(step, came_out[ready[step.record]])
        return after

    def _take_by_number(
        self,
        key: str,
        records: Sequence[bytes],
        taken: Mapping[bytes, Turn],
        came_out: Mapping[bytes, int | None],
        before: Stood | None,
    ) -> Generator[Any, None, Stood | None]:
        """Step records by number: those without a start mark, or one that has it."""
        ready: list[bytes] = []
        place = None if before is None else before.place
        for record in records:
            time, number = record_time(record), record_sequence(record)
            starts, _ = record_marks(record)
            verdict = self._order.verdict(place, time, number, starts=starts)
            if ready and verdict != "next":  # if those before it can be stepped
                before = yield from self._step_by_number(key, ready, taken, came_out, before)
                ready, place = [], None if before is None else before.place
                verdict = self._order.verdict(place, time, number, starts=starts)
            if place is not None and verdict == "late":
                yield self._tagged_late(key, record, place.time, came_out[record])
            elif place is not None and verdict == "jump":
                yield self._refused(key, record, place.number, came_out[record])
            elif place is not None and verdict == "anew":
                begun = self._order.begun(place, time)
                before = yield from self._step_by_number(
                    key, [record], taken, came_out, before, begun=begun
                )
                place = None if before is None else before.place
            else:
                latest = time if place is None else max(time, place.time)
                place = Place(latest, number, 0, LONG_AGO if place is None else place.begun)
                ready.append(record)
        return (yield from self._step_by_number(key, ready, taken, came_out, before))

    def _step_by_number(
        self,
        key: str,
        ready: list[bytes],
        taken: Mapping[bytes, Turn],
        came_out: Mapping[bytes, int | None],
        before: Stood | None,
        *,
        begun: int | None = None,
    ) -> Generator[Any, None, Stood | None]:
        """Step records whose numbers rise; with `begun` they begin anew with the only one."""
        if not ready:
            return before
        after, steps = self._step(key, before, ready, [taken[record].due for record in ready])
        refused = _refused_places(steps)
        stepped = [record for i, record in enumerate(ready) if i not in refused]
        if begun is not None and stepped and after is not None:
            after = after._replace(place=after.place._replace(begun=begun))
        yield from self._missing(key, before and before.place, stepped, came_out)
        for step in steps:
            yield self._tagged(step, came_out[ready[step.record]])
        return after

    def _refused(self, key: str, record: bytes, reached: int, due_at: int | None) -> Any:
        """The dead letter of a record whose number jumps."""
        self._invalid.inc()
        time, number, *_, numbers = decode_record(record)
        letter = poisoned(key, time, numbers, self._order.why_refused(reached, number))
        return self._tagged(Step(-1, time, letter), due_at)

    def _missing(
        self,
        key: str,
        before: Place | None,
        stepped: Sequence[bytes],
        came_out: Mapping[bytes, int | None],
    ) -> Iterator[Any]:
        """The numbers that did not come; none are missed after a sequence that was idle."""
        reached = None if before is None else before.number
        latest = LONG_AGO if before is None else before.time
        for record in stepped:
            time, number = record_time(record), record_sequence(record)
            idle = self._idle_after is not None and time - latest > self._idle_after
            if reached is not None and number > reached + 1 and not idle:
                self._gaps.inc()
                gap = SequenceGap(key, time, reached + 1, number - 1)
                yield TaggedOutput(GAPS, self._at(gap, came_out[record]))
            reached, latest = number, max(latest, time)

    def _idle_at(
        self, stood: Stood | None, cells: Cells, rest: Waiting | None = None
    ) -> int | None:
        """When the sequence ends if no record comes; None if never, or if its window does.

        A record that waits, and is not more than `idle_after` later, keeps it going.
        """
        if stood is None or self._idle_after is None:
            return None
        place, following = stood.place, rest.first_time if rest else None
        if following is not None and following - place.time <= self._idle_after:
            return None
        idle_at = self._order.idle_at(place.time, place.due, self._idle_after)
        return idle_at if idle_at <= cells.end else None

    def _at(self, row: Any, micros: int | None) -> Any:
        """A row at a time, in the window that is stepped.

        A `TimestampedValue` would not stay there: Beam puts it into all windows of its time.
        """
        return row if micros is None else WindowedValue(row, Timestamp(micros=micros), self._here)

    def _tagged(self, step: Step, due_at: int | None) -> Any:
        """A result on the output where it belongs, at its timestamp."""
        result = self._at(step.result, step.time if self._at_event_time else due_at)
        tag = _TAGS.get(type(step.result))
        return result if tag is None else TaggedOutput(tag, result)

    def _tagged_late(self, key: str, record: bytes, reached: int, due_at: int | None = None) -> Any:
        self._late.inc()
        time, number, *_, numbers = decode_record(record)
        row = LateRecord(key, time, reached - time, numbers.tolist(), number)
        return TaggedOutput(LATE, self._at(row, due_at))


def _refused_places(steps: Iterable[Step]) -> set[int]:
    """The places of the records that could not be stepped."""
    return {step.record for step in steps if type(step.result) is InvalidRecord}


def _at_once(
    taken: Iterable[bytes], records: Sequence[bytes], arrived: Sequence[int]
) -> dict[bytes, int | None]:
    """Beam timestamps of records that need not wait: when each and all before it had arrived.

    Args:
        taken: The records, in order.
        records: Those that came just now; the others were here.
        arrived: When each of them did.
    """
    came: dict[bytes, int] = {}
    for record, at in zip(records, arrived, strict=True):
        came[record] = min(at, came.get(record, at))
    at_once: dict[bytes, int | None] = {}
    latest = min(arrived)
    for record in taken:
        at_once[record] = latest = max(latest, came.get(record, latest))
    return at_once


_TAGS = {InvalidRecord: INVALID, EndedSequence: ENDED, tuple: MODELS}  # a key and its model
