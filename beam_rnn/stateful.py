"""The stateful DoFn: Beam's cells and timers around the rules of order and the steps.

State cells, timers and their names are contracts: a running job finds its state by them.
"""

from collections.abc import Iterable, Iterator, Sequence
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
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError
from beam_rnn.records import INVALID, EndedSequence, InvalidRecord, LateRecord, SequenceGap
from beam_rnn.state import (
    decode_armed,
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

LATE, ENDED, GAPS = "late", "ended", "gaps"
"""The outputs beside predictions and `INVALID`."""

STATE = ReadModifyWriteStateSpec("state", BytesCoder())
ARRIVED = BagStateSpec("arrived", BytesCoder())
WAITING = ReadModifyWriteStateSpec("waiting", BytesCoder())
ARMED = ReadModifyWriteStateSpec("armed", BytesCoder())
DUE = TimerSpec("due", TimeDomain.WATERMARK)
END = TimerSpec("end", TimeDomain.WATERMARK)


class Stepping(Protocol):
    """What takes the records of a key in their turn: `beam_rnn.stepping.Stepper`, for one."""

    columns: Columns

    def step(
        self, key: str, data: bytes | None, records: Iterable[bytes]
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


class Cells:
    """The state cells of one key and window, and its timer."""

    def __init__(self, cells: Sequence[Any], due: Any, window: Any, fingerprint: bytes):
        self.state, self._arrived, self._waiting, self._armed = cells
        self._due = due
        self._fingerprint = fingerprint
        self.end = int(window.max_timestamp().micros)

    def armed(self) -> int | None:
        """The time for which the timer is set."""
        data = self._armed.read()
        return None if data is None else decode_armed(data, self._fingerprint)

    def arm(self, at: int) -> None:
        """Set the timer: for the end of the window at the latest."""
        at = min(at, self.end // MILLISECOND * MILLISECOND)
        self._armed.write(encode_armed(at, self._fingerprint))
        self._due.set(Timestamp(micros=at))

    def disarm(self) -> None:
        """Unset the timer."""
        self._armed.clear()
        self._due.clear()

    def wait(self, record: bytes, due_at: int) -> None:
        """Keep a record until it is due: at the end of the window at the latest."""
        self._arrived.add(
            encode_waiting(min(due_at, self.end // MILLISECOND * MILLISECOND), record)
        )

    def waiting(self, order: Order) -> Waiting:
        """The records that wait."""
        return Waiting.read(order, self._waiting.read(), list(self._arrived.read()))

    def keep(self, waiting: Waiting) -> None:
        """Let these be the records that wait."""
        self._arrived.clear()
        if len(waiting):
            self._waiting.write(waiting.to_bytes())
        else:
            self._waiting.clear()


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
        if self._order.by == "sequence" and columns.sequence is None:
            raise ConfigurationError(
                f"order='sequence' needs a model trained with Columns(sequence=...), got {columns}"
            )
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
        arrived: Any = beam.DoFn.StateParam(ARRIVED),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        models: Iterable[tuple[str, str]] = (),
    ) -> Iterator[Any]:
        """One checked record in; it is stepped, waits for its turn, or is late."""
        if models:
            self._stepper.use(path for _, path in models)
        key, record = element
        cells = Cells((state, arrived, waiting, armed), due, window, self._fingerprint)
        before = state.read()
        timed = self._order.by != "arrival" or self._idle_after is not None
        armed_at = cells.armed() if timed else None
        if before is None and armed_at is None:
            end.set(window.max_timestamp())
        at: int | None
        if (start := imported(record)) is not None:
            if before is None:
                state.write(start)
            at = self._idle_at(state.read(), cells, timestamp.micros)
        elif self._is_late(record, before):
            yield self._tagged_late(key, record, last_step(state.read())[0])
            return
        elif self._order.is_next(record, before):
            yield from self._step_now(key, record, cells, armed_at)
            at = self._idle_at(state.read(), cells, timestamp.micros)
        else:
            self._buffered.inc()
            at = self._order.due(record_time(record), timestamp.micros)
            cells.wait(record, at)
        if at is not None and (armed_at is None or at < armed_at):
            cells.arm(at)

    def _is_late(self, record: bytes, before: bytes | None) -> bool:
        """Whether a record comes too late; by arrival, none does."""
        if before is None:
            return False
        if self._order.by == "arrival":
            if record_time(record) < last_step(before)[0]:
                self._unordered.inc()
            return False
        return self._order.is_behind(record, before)

    def _step_now(
        self, key: str, record: bytes, cells: Cells, armed_at: int | None
    ) -> Iterator[Any]:
        """Step a record that need not wait, and those that waited for it."""
        before = cells.state.read()
        ready = [record]
        if self._order.by == "sequence" and armed_at is not None:
            following, rest = cells.waiting(self._order).following(record_sequence(record))
            if following:
                ready += following
                cells.keep(rest)
        after, steps = self._stepper.step(key, before, ready)
        self._write(cells, before, after)
        for step in steps:
            yield self._tagged(step, None)

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        arrived: Any = beam.DoFn.StateParam(ARRIVED),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        """The watermark has passed the earliest thing to do."""
        cells = Cells((state, arrived, waiting, armed), due, window, self._fingerprint)
        yield from self._advance(key, int(fired.micros), cells)

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        arrived: Any = beam.DoFn.StateParam(ARRIVED),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        """The watermark has passed the end of the window: all that waits, then the sequence."""
        cells = Cells((state, arrived, waiting, armed), due, window, self._fingerprint)
        yield from self._advance(key, cells.end, cells)
        for step in self._stepper.end(key, state.read(), "window"):
            yield self._tagged(step, cells.end)
        cells.disarm()
        self._remove(cells)

    def _advance(self, key: str, now: int, cells: Cells) -> Iterator[Any]:
        """Step all that is due now, end what was idle, and arm the timer for the rest."""
        waiting = cells.waiting(self._order)
        taken, rest = waiting.turn(now)
        if taken:
            self._duplicate.inc(len(waiting) - len(rest) - len(taken))
            yield from self._take(key, taken, cells)
        cells.keep(rest)
        idle_at = self._idle_at(cells.state.read(), cells)
        if idle_at is not None and idle_at <= now:
            for step in self._stepper.end(key, cells.state.read(), "idle"):
                yield self._tagged(step, idle_at)
            self._remove(cells)
            idle_at = None
        to_do = [at for at in (rest.earliest, idle_at) if at is not None]
        if to_do:
            cells.arm(min(to_do))
        else:
            cells.disarm()

    def _take(self, key: str, taken: dict[bytes, int], cells: Cells) -> Iterator[Any]:
        """Step records that have their turn, in order."""
        before = cells.state.read()
        ready: list[bytes] = []
        for record in self._order.sorted(list(taken)):
            if before is not None and self._order.is_behind(record, before):
                yield self._tagged_late(key, record, last_step(before)[0], taken[record])
            elif self._order.by == "sequence" and ready and self._same_number(ready[-1], record):
                yield self._tagged_late(key, record, record_time(ready[-1]), taken[record])
            else:
                ready.append(record)
        if self._order.by == "sequence":
            yield from self._missing(key, before, ready, taken)
        after, steps = self._stepper.step(key, before, ready)
        self._write(cells, before, after)
        due_at: dict[int, int] = {}
        for record in ready:
            time = record_time(record)
            due_at[time] = max(taken[record], due_at.get(time, taken[record]))
        for step in steps:
            yield self._tagged(step, due_at[step.time])

    def _missing(
        self, key: str, before: bytes | None, ready: Sequence[bytes], taken: dict[bytes, int]
    ) -> Iterator[Any]:
        """The numbers that did not come."""
        reached = None if before is None else last_step(before)[1]
        for record in ready:
            number = record_sequence(record)
            if reached is not None and number > reached + 1:
                self._gaps.inc()
                gap = SequenceGap(key, record_time(record), reached + 1, number - 1)
                yield TaggedOutput(GAPS, _at(gap, taken[record]))
            reached = number

    def _same_number(self, one: bytes, other: bytes) -> bool:
        return record_sequence(one) == record_sequence(other)

    def _idle_at(self, state: bytes | None, cells: Cells, arrived: int = 0) -> int | None:
        """When the sequence ends if no record comes; None if never, or if its window does."""
        if state is None or self._idle_after is None:
            return None
        idle_at = self._order.due(last_step(state)[0] + self._idle_after, arrived)
        return idle_at if idle_at <= cells.end else None

    def _write(self, cells: Cells, before: bytes | None, after: bytes | None) -> None:
        if after is not None and after != before:
            cells.state.write(after)

    def _remove(self, cells: Cells) -> None:
        if cells.state.read() is not None:
            cells.state.clear()
            self._evicted.inc()

    def _tagged(self, step: Step, due_at: int | None) -> Any:
        """A result on the output where it belongs, at its timestamp."""
        at = step.time if self._at_event_time else due_at
        if isinstance(step.result, InvalidRecord):
            return TaggedOutput(INVALID, _at(step.result, at))
        if isinstance(step.result, EndedSequence):
            return TaggedOutput(ENDED, _at(step.result, at))
        return _at(step.result, at)

    def _tagged_late(self, key: str, record: bytes, reached: int, due_at: int | None = None) -> Any:
        self._late.inc()
        time, number, *_, numbers = decode_record(record)
        row = LateRecord(key, time, reached - time, numbers.tolist(), number)
        return TaggedOutput(LATE, _at(row, due_at))


def _at(row: Any, micros: int | None) -> Any:
    return row if micros is None else TimestampedValue(row, Timestamp(micros=micros))
