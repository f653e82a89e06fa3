"""The stateful DoFn: it decides when a record has its turn.

State cells, timers and their names are contracts: a running job finds its state by them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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

from beam_rnn.errors import ConfigurationError
from beam_rnn.loading import ModelLoader
from beam_rnn.records import INVALID, EndedSequence, InvalidRecord, LateRecord, SequenceGap
from beam_rnn.state import (
    Armed,
    decode_armed,
    decode_record,
    decode_waiting,
    encode_armed,
    encode_waiting,
    last_step,
    record_sequence,
    record_time,
)
from beam_rnn.stepping import Policy, Step, Stepper

LATE, ENDED, GAPS = "late", "ended", "gaps"
"""The outputs beside predictions and `INVALID`."""
MILLISECOND = 1000  # microseconds

STATE = ReadModifyWriteStateSpec("state", BytesCoder())
PENDING = BagStateSpec("pending", BytesCoder())
ARMED = ReadModifyWriteStateSpec("armed", BytesCoder())
DUE = TimerSpec("due", TimeDomain.WATERMARK)
LATEST = TimerSpec("latest", TimeDomain.WATERMARK)
END = TimerSpec("end", TimeDomain.WATERMARK)


@dataclass(frozen=True)
class Order:
    """When a record has its turn.

    Args:
        by: "event_time": when the watermark has passed it; "sequence": when its number is the
            next one, or the watermark has passed it; "arrival": at once.
        wait: How many microseconds longer than the watermark says a record is waited for.
        grid: Records become due at multiples of so many microseconds.
        at_event_time: Predictions have the timestamp of their record, not that at which it
            became due.
    """

    by: str
    wait: int
    grid: int
    at_event_time: bool = False

    def due(self, time: int, window: Any, arrived: int = 0) -> int:
        """When the watermark has passed a time: on the grid, not after the end of the window.

        Later than the time plus `wait`, since a record at the watermark is not late, and not
        before the timestamp with which the record arrived, since the watermark may be there. A
        whole millisecond, since that is what runners keep of a timer.

        Args:
            time: The time, in microseconds since 1970.
            window: The window.
            arrived: The Beam timestamp of the record, in microseconds since 1970.
        """
        on_grid = ((time + self.wait) // self.grid + 1) * self.grid
        at_watermark = -(-arrived // MILLISECOND) * MILLISECOND
        end_of_window = int(window.max_timestamp().micros) // MILLISECOND * MILLISECOND
        return min(max(on_grid, at_watermark), end_of_window)


class Cells:
    """The state cells and timers of one key and window."""

    def __init__(self, fingerprint: bytes, state: Any, pending: Any, armed: Any):
        self._fingerprint = fingerprint
        self.state = state
        self.pending = pending
        self._armed = armed

    def armed(self) -> Armed | None:
        """For when the timers are set."""
        data = self._armed.read()
        return None if data is None else decode_armed(data, self._fingerprint)

    def arm(self, armed: Armed) -> None:
        """Remember for when the timers are set."""
        self._armed.write(encode_armed(armed, self._fingerprint))

    def disarm(self) -> None:
        """No timer is set."""
        self._armed.clear()


class StepKeys(beam.DoFn):
    """Steps each key's hidden state through its records, each when it has its turn.

    One timer, `due`, is armed at the earliest thing to do: a record that is pending, or the end
    of a sequence that was idle. When it fires, all that is due is taken in order. A second one,
    `latest`, is armed at the last pending record whenever some are left: where the watermark
    jumps, it takes in one round what would take one for each time. The third, `end`, is that of
    the window.

    The Beam timestamp of a prediction is when its record became due. The timer that is pending
    until then holds the watermark there, so nothing downstream is late.
    """

    def __init__(self, loader: ModelLoader, order: Order, policy: Policy):
        self._loader = loader
        self._order = order
        self._policy = policy
        self._late = Metrics.counter("beam_rnn", "records_late")
        self._duplicate = Metrics.counter("beam_rnn", "records_duplicate")
        self._buffered = Metrics.counter("beam_rnn", "records_buffered")
        self._unordered = Metrics.counter("beam_rnn", "records_out_of_order")
        self._gaps = Metrics.counter("beam_rnn", "sequence_gaps")
        self._evicted = Metrics.counter("beam_rnn", "states_evicted")

    def setup(self) -> None:
        """Loads the model."""
        library = self._loader.library()
        columns = library.newest.columns
        if self._order.by == "sequence" and (columns is None or columns.sequence is None):
            raise ConfigurationError(
                f"order='sequence' needs a model trained with Columns(sequence=...), got {columns}"
            )
        self._stepper = Stepper(library, self._policy)

    def start_bundle(self) -> None:
        """Looks for a newer model, if it is time."""
        self._loader.start_bundle()

    def process(
        self,
        element: tuple[str, bytes],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        pending: Any = beam.DoFn.StateParam(PENDING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        models: Iterable[str] = (),
    ) -> Iterator[Any]:
        """One checked record in; it is stepped, waits for its turn, or is late."""
        if models:
            self._loader.library().use(models)
        key, record = element
        cells = Cells(self._stepper.fingerprint, state, pending, armed)
        before = state.read()
        waits = cells.armed() if self._order.by != "arrival" or self._policy.idle_after else None
        if before is None and waits is None:
            end.set(window.max_timestamp())
        if self._order.by == "arrival":
            if before is not None and record_time(record) < last_step(before)[0]:
                self._unordered.inc()
            ready = [record]
        elif before is not None and self._is_behind(record, before):
            yield self._tagged_late(key, record, last_step(before)[0])
            return
        elif self._order.by == "sequence" and self._is_next(record, before):
            ready = [record, *(self._following(record_sequence(record), cells) if waits else ())]
        else:
            self._buffered.inc()
            due_at = self._order.due(record_time(record), window, timestamp.micros)
            pending.add(encode_waiting(due_at, record))
            self._arm(cells, waits, due_at, due)
            return
        after, steps = self._stepper.step(key, before, ready)
        self._keep(state, before, after)
        if self._policy.idle_after is not None and after is not None:
            idle_at = self._idle_at(after, window, timestamp.micros)
            if idle_at is not None:
                self._arm(cells, waits, idle_at, due)
        for step in steps:
            yield self._tagged(step, None)

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        pending: Any = beam.DoFn.StateParam(PENDING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
        latest: Any = beam.DoFn.TimerParam(LATEST),
    ) -> Iterator[Any]:
        """The watermark has passed the earliest thing to do."""
        cells = Cells(self._stepper.fingerprint, state, pending, armed)
        yield from self._advance(key, fired.micros, window, cells, due, latest)

    @on_timer(LATEST)
    def on_latest(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        pending: Any = beam.DoFn.StateParam(PENDING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
        latest: Any = beam.DoFn.TimerParam(LATEST),
    ) -> Iterator[Any]:
        """The watermark has passed all that waited when this timer was set."""
        cells = Cells(self._stepper.fingerprint, state, pending, armed)
        yield from self._advance(key, fired.micros, window, cells, due, latest)

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        pending: Any = beam.DoFn.StateParam(PENDING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
        latest: Any = beam.DoFn.TimerParam(LATEST),
    ) -> Iterator[Any]:
        """The watermark has passed the end of the window: all that waits, then the sequence."""
        cells = Cells(self._stepper.fingerprint, state, pending, armed)
        end_of_window = int(window.max_timestamp().micros)
        yield from self._advance(key, end_of_window, window, cells, due, latest)
        for step in self._stepper.end(key, state.read(), "window"):
            yield self._tagged(step, end_of_window)
        due.clear()
        latest.clear()
        cells.disarm()
        if state.read() is not None:
            state.clear()
            self._evicted.inc()

    def _advance(
        self, key: str, now: int, window: Any, cells: Cells, due: Any, latest: Any
    ) -> Iterator[Any]:
        """Step all that is due now, end what was idle, and arm the timers for the rest."""
        waiting = [decode_waiting(data) for data in cells.pending.read()]
        taken = self._turn(waiting, now)
        rest = [(due_at, record) for due_at, record in waiting if record not in taken]
        if taken:
            self._duplicate.inc(len(waiting) - len(rest) - len(taken))
            cells.pending.clear()
            for due_at, record in rest:
                cells.pending.add(encode_waiting(due_at, record))
            yield from self._take(key, taken, cells)
        times = [due_at for due_at, _ in rest]
        state = cells.state.read()
        if state is not None and self._policy.idle_after is not None:
            idle_at = self._idle_at(state, window)
            if idle_at is None:
                pass
            elif idle_at <= now:
                for step in self._stepper.end(key, state, "idle"):
                    yield self._tagged(step, idle_at)
                cells.state.clear()
                self._evicted.inc()
            else:
                times.append(idle_at)
        self._arm_next(times, now, cells, due, latest)

    def _turn(self, waiting: Sequence[tuple[int, bytes]], now: int) -> dict[bytes, int]:
        """The records that have their turn now, each with the time when it was due.

        Those before them are taken too, even if they came with a timestamp that is not due yet,
        and those whose number follows: a record that is here is never late.
        """
        taken = {record: due_at for due_at, record in waiting if due_at <= now}
        if not taken:
            return taken
        place, next_to = (record_sequence, 1) if self._order.by == "sequence" else (record_time, 0)
        reached = max(map(place, taken))
        for _, record in sorted(waiting, key=lambda row: place(row[1])):
            if place(record) <= reached + next_to:
                reached = max(reached, place(record))
                taken.setdefault(record, now)
        return taken

    def _take(self, key: str, taken: dict[bytes, int], cells: Cells) -> Iterator[Any]:
        """Step records that have their turn, in order."""
        before = cells.state.read()
        by_number = self._order.by == "sequence"
        ready: list[bytes] = []
        for record in sorted(taken, key=_by_number if by_number else None):
            if before is not None and self._is_behind(record, before):
                yield self._tagged_late(key, record, last_step(before)[0], taken[record])
            elif by_number and ready and record_sequence(ready[-1]) == record_sequence(record):
                yield self._tagged_late(key, record, record_time(ready[-1]), taken[record])
            else:
                ready.append(record)
        if by_number:
            yield from self._missing(key, before, ready, taken)
        after, steps = self._stepper.step(key, before, ready)
        self._keep(cells.state, before, after)
        due_at: dict[int, int] = {}
        for record in ready:
            time = record_time(record)
            due_at[time] = max(taken[record], due_at.get(time, taken[record]))
        for step in steps:
            yield self._tagged(step, due_at[step.time])

    def _following(self, number: int, cells: Cells) -> list[bytes]:
        """The pending records with the next numbers, taken out of what waits."""
        waiting = list(cells.pending.read())
        by_number = sorted((decode_waiting(data)[1] for data in waiting), key=_by_number)
        following: list[bytes] = []
        for record in by_number:
            if record_sequence(record) == number + 1:
                following.append(record)
                number += 1
        if following:
            taken = set(following)
            cells.pending.clear()
            for data in waiting:
                if decode_waiting(data)[1] not in taken:
                    cells.pending.add(data)
        return following

    def _missing(
        self, key: str, before: bytes | None, ready: Sequence[bytes], taken: dict[bytes, int]
    ) -> Iterator[Any]:
        """The numbers that did not come."""
        numbers = [] if before is None else [last_step(before)[1]]
        numbers += [record_sequence(record) for record in ready]
        stepped = ready if before is not None else ready[1:]
        for record, reached, number in zip(stepped, numbers, numbers[1:], strict=False):
            if number > reached + 1:
                self._gaps.inc()
                gap = SequenceGap(key, record_time(record), reached + 1, number - 1)
                yield TaggedOutput(GAPS, _at(gap, taken[record]))

    def _is_behind(self, record: bytes, before: bytes) -> bool:
        """Whether the hidden state has passed the place of a record."""
        time, number = last_step(before)
        if self._order.by == "sequence":
            return record_sequence(record) <= number
        return record_time(record) <= time

    def _is_next(self, record: bytes, before: bytes | None) -> bool:
        return before is not None and record_sequence(record) == last_step(before)[1] + 1

    def _idle_at(self, state: bytes, window: Any, arrived: int = 0) -> int | None:
        """When a sequence ends if no record comes; None if its window ends before."""
        assert self._policy.idle_after is not None, "asked where sequences end by being idle"
        idle_at = self._order.due(last_step(state)[0] + self._policy.idle_after, window, arrived)
        end_of_window = self._order.due(int(window.max_timestamp().micros), window)
        return idle_at if idle_at < end_of_window else None

    def _keep(self, cell: Any, before: bytes | None, after: bytes | None) -> None:
        if after is not None and after != before:
            cell.write(after)

    def _arm(self, cells: Cells, waits: Armed | None, at: int, due: Any) -> None:
        """Have the timer fire at a time, if it is not set for an earlier one."""
        if waits is None or at < waits.due:
            cells.arm(Armed(at, 0 if waits is None else waits.latest))
            due.set(Timestamp(micros=at))

    def _arm_next(
        self, times: Sequence[int], now: int, cells: Cells, due: Any, latest: Any
    ) -> None:
        """Set the timers for what is left to do."""
        if not times:
            due.clear()
            latest.clear()
            cells.disarm()
            return
        waits = cells.armed()
        last = waits.latest if waits is not None and waits.latest > now else 0
        if not last and max(times) > min(times):
            last = max(times)
            latest.set(Timestamp(micros=last))
        cells.arm(Armed(min(times), last))
        due.set(Timestamp(micros=min(times)))

    def _tagged(self, step: Step, due_at: int | None) -> Any:
        """A result on the output where it belongs, at its timestamp."""
        at = step.time if self._order.at_event_time else due_at
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


def _by_number(record: bytes) -> tuple[int, bytes]:
    return record_sequence(record), record
