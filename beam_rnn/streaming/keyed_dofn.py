"""The stateful DoFn that steps each key alone: Beam's cells and timers around `KeyEngine`.

State cells, timers and their names are contracts: a running job finds its state by them.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.engine.key_engine import KeyEngine
from beam_rnn.engine.order import END_OF_TIME, Order, check_numbered
from beam_rnn.engine.order_format import imported
from beam_rnn.engine.stepper import Row
from beam_rnn.records.record_format import decode_block
from beam_rnn.streaming.closed_windows import AT_THEIR_END, Closing
from beam_rnn.streaming.key_cells import Cells
from beam_rnn.streaming.metrics import BeamCounters
from beam_rnn.streaming.outputs import Stamps, tagged
from beam_rnn.streaming.sources import StepperSource

logger = logging.getLogger(__name__)

STATE = BagStateSpec("state", BytesCoder())  # of one; a first value needs no clearing
WAITING = BagStateSpec("waiting", BytesCoder())
ARMED = ReadModifyWriteStateSpec("armed", BytesCoder())
DUE = TimerSpec("due", TimeDomain.WATERMARK)
END = TimerSpec("end", TimeDomain.WATERMARK)


class Unstamped:
    """Counts records whose Beam timestamp does not say when they came, and warns once."""

    def __init__(self) -> None:
        self._counters = BeamCounters()
        self._warned = False

    def see(self, count: int) -> None:
        """Count such records, and warn at the first."""
        if not count:
            return
        self._counters.count("records_without_timestamp", count)
        if not self._warned:
            self._warned = True
            logger.warning(
                "a record has the end of the global window as its Beam timestamp, as behind a "
                "triggered GroupByKey: it waits by its own time alone, and the metric "
                "records_without_timestamp counts such records. Give them their time back, with "
                "beam.Map(lambda record: TimestampedValue(record, record['time']))"
            )


class StepKeys(beam.DoFn):
    """Steps each key's state through its records, each when it is due.

    The timer `due` is armed at the earliest thing to do: a record that waits, or the end of a
    sequence that was idle. When it fires, all that is due is stepped in order. The timer `end`
    fires when the window is closed: the rest is stepped, and the sequence ends. In a batch the
    watermark jumps there, and one round does what would take one for each time.

    The Beam timestamp of a prediction is the time at which its record became due. The timer that is
    pending until then holds the watermark, so nothing downstream is late except results of records
    that were behind the watermark themselves.

    Args:
        source: What makes the stepper.
        order: When records are stepped.
        idle_after: A sequence ends after this number of microseconds without a record; None for
            never.
        closing: When windows are closed.
        at_event_time: Give results the event time of their records as Beam timestamp.
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
        self._timed = order.by != "arrival" or idle_after is not None
        self._at_event_time = at_event_time
        self._unstamped = Unstamped()

    def setup(self) -> None:
        """Makes the stepper: loads the model."""
        stepper = self._source.stepper()
        check_numbered(self._order, stepper.columns)
        self._fingerprint = stepper.columns.fingerprint
        self._engine = KeyEngine(stepper, self._order, BeamCounters())

    def start_bundle(self) -> None:
        """Looks for a newer model, if it is time."""
        self._source.refresh()
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
        """Checked records in; each is stepped, waits until it is due, or is late."""
        if models and self._bundle_begins:  # there may be many
            self._source.use(path for _, path in models)
            self._bundle_begins = False
        key, data = element
        cells = self._cells((state, waiting, armed), due, window)
        start, rows = imported(data), list[Row]()
        records, arrived = ([], []) if start is not None else decode_block(data, timestamp.micros)
        if self._closing.is_closed(key, window):
            self._engine.too_late(key, records, arrived, cells, rows)
            return self._emitted(rows, window)
        armed_at = cells.armed() if self._timed else None
        is_new = armed_at is None and cells.state() is None
        if start is not None:
            to_do = self._engine.start_from(start, cells)
        else:
            if self._order.by != "arrival":
                self._unstamped.see(sum(at >= END_OF_TIME for at in arrived))
            to_do = self._engine.arrive(key, records, arrived, cells, rows)
        if to_do is not None and (armed_at is None or to_do < armed_at):
            cells.arm(to_do)
        if is_new and (to_do is not None or cells.state() is not None):
            end.set(Timestamp(micros=cells.closes_at))
        return self._emitted(rows, window)

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
        cells, rows = self._cells((state, waiting, armed), due, window), list[Row]()
        if self._engine.advance(key, int(fired.micros), cells, rows):
            self._closing.leave(key, window)
        gone = cells.armed() is None and cells.state() is None
        if gone and not self._closing.remembers(window):
            end.clear()  # a timer of a key that is gone would stay until the window ends
        return self._emitted(rows, window)

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
        cells, rows = self._cells((state, waiting, armed), due, window), list[Row]()
        if self._engine.close(key, cells, rows):
            self._closing.leave(key, window)
        self._closing.close(window)
        # The cells of the global window go with the job; a timer that is still due must find none.
        if self._timed or window != GlobalWindow():
            cells.clear()
        return self._emitted(rows, window)

    def _cells(self, cells: Sequence[Any], due: Any, window: Any) -> Cells:
        return Cells(cells, due, window, self._closing.at(window), self._fingerprint)

    def _emitted(self, rows: Iterable[Row], window: Any) -> Iterator[Any]:
        """Return results on their outputs, at their timestamps."""
        stamps = Stamps()
        return (tagged(row, stamps, window, at_event_time=self._at_event_time) for row in rows)
