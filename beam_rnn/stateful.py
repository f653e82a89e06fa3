"""The stateful DoFn: Beam's cells and timers around the rules of order and the steps.

State cells, timers and their names are contracts: a running job finds its state by them.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

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

from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError
from beam_rnn.rows import INVALID, EndedSequence, InvalidRecord, LateRecord, SequenceGap
from beam_rnn.state import (
    Armed,
    decode_armed,
    decode_block,
    decode_record,
    encode_armed,
    encode_waiting,
    imported,
    last_step,
    record_sequence,
    record_time,
)
from beam_rnn.stepping import Step
from beam_rnn.turns import MILLISECOND, Order, Waiting

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


def check_numbered(order: Order, columns: Columns) -> None:
    """That records have the number by which they are ordered.

    Raises:
        ConfigurationError: They have none.
    """
    if order.by == "sequence" and columns.sequence is None:
        raise ConfigurationError(
            f"order='sequence' needs a model trained with Columns(sequence=...), got {columns}"
        )


class Cells:
    """The state cells of one key and window, and its timer.

    To read or clear a cell can be a request to the runner: the state is read once, and what is
    empty is not cleared. Records that wait are added as they come. Those that were taken are left
    there until they are half of it, and a place says how far they go, so that what waits on is not
    written at each turn.
    """

    def __init__(self, cells: Sequence[Any], due: Any, window: Any, fingerprint: bytes):
        self._state, self._waiting, self._armed = cells
        self._known: tuple[bytes | None] | None = None  # the state, if it was read
        self._read: tuple[Armed | None] | None = None  # so with the timer
        self._stored = 0  # records in `_waiting`, those that were taken too
        self._new: bytes | None = None  # a piece that is not there yet
        self._due = due
        self._fingerprint = fingerprint
        self.end = int(window.max_timestamp().micros)

    def state(self) -> bytes | None:
        """The state of the key."""
        if self._known is None:
            self._known = (next(iter(self._state.read()), None),)
        return self._known[0]

    def write(self, state: bytes | None) -> None:
        """Let this be the state."""
        before = self.state()
        if state == before:
            return
        self._known = (state,)
        if before is not None:
            self._state.clear()
        if state is not None:
            self._state.add(state)

    def armed(self) -> int | None:
        """The time for which the timer is set."""
        armed = self._armed_as_it_is()
        return None if armed is None else armed.due

    def arm(self, at: int) -> None:
        """Set the timer: for the end of the window at the latest."""
        at = min(at, self.end // MILLISECOND * MILLISECOND)
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
        armed = self._armed_as_it_is()
        turns = 0 if armed is None else armed.turns
        self._waiting.add(encode_waiting(self._by_the_end(due_at), records, turns))

    def waiting(
        self, order: Order, records: Sequence[bytes] = (), due_at: Sequence[int] = ()
    ) -> Waiting:
        """The records that wait, and those that would."""
        armed = self._armed_as_it_is()
        pieces = list(self._waiting.read())
        self._new = None
        if records:
            self._new = encode_waiting(
                self._by_the_end(due_at), records, armed.turns if armed else 0
            )
            pieces.append(self._new)
        waiting = Waiting.read(order, pieces, armed)
        self._stored = waiting.stored - len(records)
        return waiting

    def turned(self, rest: Waiting) -> None:
        """Let these be the records that wait: what a turn left of `waiting`."""
        if rest.reached is None:  # nothing was taken
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

    def _by_the_end(self, due_at: Sequence[int]) -> list[int]:
        """The times when records are due, which is at the end of the window at the latest."""
        end = self.end // MILLISECOND * MILLISECOND
        return [min(at, end) for at in due_at]

    def _armed_as_it_is(self) -> Armed | None:
        if self._read is None:
            data = self._armed.read()
            self._read = (None if data is None else decode_armed(data, self._fingerprint),)
        return self._read[0]

    def _write_armed(self, armed: Armed) -> None:
        self._read = (armed,)
        self._armed.write(encode_armed(armed, self._fingerprint))


class StepKeys(beam.DoFn):
    """Steps each key's state through its records, each when it has its turn.

    The timer `due` is armed at the earliest thing to do: a record that waits, or the end of a
    sequence that was idle. When it fires, all that is due is taken in order. The timer `end` is
    that of the window: it takes what is left, and ends the sequence. In a batch the watermark
    jumps there, and one round does what would take one for each time.

    The Beam timestamp of a prediction is when its record became due. The timer that is pending
    until then holds the watermark there, so nothing downstream is late.
    """

    def __init__(
        self,
        source: StepperSource,
        order: Order,
        idle_after: int | None,
        *,
        at_event_time: bool = False,
    ):
        self._source = source
        self._order = order
        self._idle_after = idle_after
        self._timed = order.by != "arrival" or idle_after is not None
        self._at_event_time = at_event_time
        self._late = Metrics.counter("beam_rnn", "records_late")
        self._duplicate = Metrics.counter("beam_rnn", "records_duplicate")
        self._buffered = Metrics.counter("beam_rnn", "records_buffered")
        self._unordered = Metrics.counter("beam_rnn", "records_out_of_order")
        self._gaps = Metrics.counter("beam_rnn", "sequence_gaps")
        self._evicted = Metrics.counter("beam_rnn", "states_evicted")

    def setup(self) -> None:
        """Makes the stepper: loads the model."""
        self._stepper = self._source.stepper()
        columns = self._stepper.columns
        check_numbered(self._order, columns)
        self._fingerprint = columns.fingerprint

    def start_bundle(self) -> None:
        """Looks for a newer model, if it is time."""
        self._stepper.refresh()

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
        if models:
            self._stepper.use(path for _, path in models)
        key, data = element
        self._here = (window,)
        cells = Cells((state, waiting, armed), due, window, self._fingerprint)
        armed_at = cells.armed() if self._timed else None
        is_new = armed_at is None and cells.state() is None
        to_do = yield from self._arrive(key, data, timestamp.micros, cells)
        if self._idle_after is not None:
            idle_at = self._idle_at(cells.state(), cells, timestamp.micros)
            to_do += [] if idle_at is None else [idle_at]
        if to_do and (armed_at is None or min(to_do) < armed_at):
            cells.arm(min(to_do))
        if armed_at is not None or to_do or cells.state() is not None:
            if is_new:
                end.set(window.max_timestamp())
        elif not is_new:
            end.clear()

    def _arrive(
        self, key: str, data: bytes, now: int, cells: Cells
    ) -> Generator[Any, None, list[int]]:
        """Take in what arrived; gives the times at which there is something to do."""
        before = cells.state()
        start = imported(data)
        if start is not None:
            if before is None:
                cells.write(start)
            return []
        records, arrived = decode_block(data, now)
        if self._order.by == "arrival":
            yield from self._step_as_they_come(key, records, arrived, cells)
            return []
        if before is not None:
            records, arrived = yield from self._on_time(key, records, arrived, before)
        return (yield from self._buffer(key, records, arrived, cells)) if records else []

    def _step_as_they_come(
        self, key: str, records: list[bytes], arrived: list[int], cells: Cells
    ) -> Iterator[Any]:
        """Step records that need not wait."""
        before = cells.state()
        reached = 0 if before is None else last_step(before)[0]
        for record in records:
            time = record_time(record)
            if time < reached:
                self._unordered.inc()
            reached = time
        after, steps = self._stepper.step(key, before, records)
        cells.write(after)
        if min(arrived) == max(arrived):
            yield from (self._tagged(step, None) for step in steps)
        else:
            yield from (self._tagged(step, arrived[step.record]) for step in steps)

    def _on_time(
        self, key: str, records: list[bytes], arrived: list[int], before: bytes
    ) -> Generator[Any, None, tuple[list[bytes], list[int]]]:
        """The records that the state has not passed; the others go where late ones do."""
        on_time: tuple[list[bytes], list[int]] = [], []
        for record, at in zip(records, arrived, strict=True):
            if self._order.is_behind(record, before):
                yield self._tagged_late(key, record, last_step(before)[0], at)
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
        """Keep records until they have their turn, which may be now; gives what is to do when."""
        due_at = [
            self._order.due(record_time(record), at)
            for record, at in zip(records, arrived, strict=True)
        ]
        before = cells.state()
        if self._order.by == "sequence" and before is not None:
            number = last_step(before)[1] + 1
            if any(record_sequence(record) == number for record in records):
                waiting = cells.waiting(self._order, records, due_at)
                taken, rest = waiting.following(number)
                self._duplicate.inc(len(waiting) - len(rest) - len(taken))
                at = _at_once(self._order.sorted(taken), records, arrived)
                after = yield from self._take(key, at, before)
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
        self._here = (window,)
        cells = Cells((state, waiting, armed), due, window, self._fingerprint)
        yield from self._advance(key, int(fired.micros), cells)
        if cells.armed() is None and cells.state() is None:
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
        """The watermark has passed the end of the window: all that waits, then the sequence."""
        self._here = (window,)
        cells = Cells((state, waiting, armed), due, window, self._fingerprint)
        after, _ = yield from self._take_due(key, cells.end, cells)
        idle_at = self._idle_at(after, cells)
        reason, at = ("window", cells.end) if idle_at is None else ("idle", idle_at)
        for step in self._stepper.end(key, after, reason):
            yield self._tagged(step, at)
        if after is not None:
            self._evicted.inc()
        # The cells of the global window go with the job; a timer that is still due must find none.
        if self._timed or window != GlobalWindow():
            cells.clear()

    def _advance(self, key: str, now: int, cells: Cells) -> Iterator[Any]:
        """Step all that is due now, end what was idle, and arm the timer for the rest."""
        after, rest = yield from self._take_due(key, now, cells)
        idle_at = self._idle_at(after, cells)
        if idle_at is not None and idle_at <= now:
            for step in self._stepper.end(key, after, "idle"):
                yield self._tagged(step, idle_at)
            cells.write(None)
            self._evicted.inc()
            idle_at = None
        else:
            cells.write(after)
        cells.turned(rest)
        to_do = [at for at in (rest.earliest, idle_at) if at is not None]
        if to_do:
            cells.arm(min(to_do))
        else:
            cells.disarm()

    def _take_due(
        self, key: str, now: int, cells: Cells
    ) -> Generator[Any, None, tuple[bytes | None, Waiting]]:
        """Step all that is due now; gives the state after it, and what waits on."""
        before = cells.state()
        if self._order.by == "arrival":
            return before, Waiting.read(self._order, [])
        waiting = cells.waiting(self._order)
        taken, rest = waiting.turn(now)
        if not taken:
            return before, rest
        self._duplicate.inc(len(waiting) - len(rest) - len(taken))
        return (yield from self._take(key, taken, before)), rest

    def _take(
        self, key: str, taken: Mapping[bytes, int | None], before: bytes | None
    ) -> Generator[Any, None, bytes | None]:
        """Step records that have their turn, in order; gives the state after them.

        Args:
            key: The key.
            taken: The records, and the time of each one's turn; None for now.
            before: The state.
        """
        ready: list[bytes] = []
        in_order = self._order.sorted(list(taken))
        if self._order.by == "event_time" and not (
            before is not None and self._order.is_behind(in_order[0], before)
        ):
            ready, in_order = in_order, []  # the first is on time, and so are all
        for record in in_order:
            if before is not None and self._order.is_behind(record, before):
                yield self._tagged_late(key, record, last_step(before)[0], taken[record])
            elif self._order.by == "sequence" and ready and self._same_number(ready[-1], record):
                yield self._tagged_late(key, record, record_time(ready[-1]), taken[record])
            else:
                ready.append(record)
        if self._order.by == "sequence":
            yield from self._missing(key, before, ready, taken)
        after, steps = self._stepper.step(key, before, ready)
        for step in steps:
            yield self._tagged(step, taken[ready[step.record]])
        return after

    def _missing(
        self,
        key: str,
        before: bytes | None,
        ready: Sequence[bytes],
        taken: Mapping[bytes, int | None],
    ) -> Iterator[Any]:
        """The numbers that did not come."""
        reached = None if before is None else last_step(before)[1]
        for record in ready:
            number = record_sequence(record)
            if reached is not None and number > reached + 1:
                self._gaps.inc()
                gap = SequenceGap(key, record_time(record), reached + 1, number - 1)
                yield TaggedOutput(GAPS, self._at(gap, taken[record]))
            reached = number

    def _same_number(self, one: bytes, other: bytes) -> bool:
        return record_sequence(one) == record_sequence(other)

    def _idle_at(self, state: bytes | None, cells: Cells, arrived: int = 0) -> int | None:
        """When the sequence ends if no record comes; None if never, or if its window does."""
        if state is None or self._idle_after is None:
            return None
        idle_at = self._order.due(last_step(state)[0] + self._idle_after, arrived)
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


def _at_once(
    taken: Iterable[bytes], records: Sequence[bytes], arrived: Sequence[int]
) -> dict[bytes, int | None]:
    """When records come out that need not wait: when they and all before them had arrived.

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
