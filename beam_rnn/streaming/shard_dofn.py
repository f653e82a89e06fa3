"""The stateful DoFn of shards: Beam's cells and timers around the shards that a process remembers.

State cells, timers and their names are contracts: a running job finds its state by them.
"""

import os
import threading
import time as clock
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, Protocol
from uuid import uuid4

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.core.arrays import Array
from beam_rnn.engine.log_format import SLACK, Head, decode_head, encode_change, encode_head, replay
from beam_rnn.engine.order import END_OF_TIME, NOW, Order, check_numbered, due_at_closing
from beam_rnn.engine.order_format import order_header_of
from beam_rnn.engine.outcome import Outcome
from beam_rnn.engine.shard import Shard
from beam_rnn.engine.shard_stepper import ShardStepper
from beam_rnn.engine.stepper import Row
from beam_rnn.engine.table import Table
from beam_rnn.models.state_format import decode_state
from beam_rnn.records.block_format import Block, decode_block, imported_state_of
from beam_rnn.records.results import LateRecord
from beam_rnn.streaming.closed_windows import AT_THEIR_END, Closing
from beam_rnn.streaming.keyed_dofn import Unstamped
from beam_rnn.streaming.metrics import BeamCounters
from beam_rnn.streaming.outputs import Stamps, tagged
from beam_rnn.streaming.sources import PredictSource

HEAD = ReadModifyWriteStateSpec("head", BytesCoder())
LOG = BagStateSpec("log", BytesCoder())
DUE = TimerSpec("due", TimeDomain.WATERMARK)
END = TimerSpec("end", TimeDomain.WATERMARK)

SHARDS = 16
"""The number of shards where the library chooses: at most this many workers share the keys."""
FORGOTTEN_AFTER = 600.0
"""The seconds after which an unused shard is dropped: it is elsewhere, or can be read again."""


class Remembered:
    """The shards that this process has in memory, each with the token of its last change.

    A shard is taken out while it is used. It is trusted only if its token is the one in the state.
    After a bundle that failed, a crash, or a time on another worker it is not, and the shard is
    read from its log.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shards: dict[Any, tuple[bytes, Shard, float]] = {}  # by use, the oldest first

    def take(self, which: Any, token: bytes) -> Shard | None:
        """Return the shard, if it is the one of that token."""
        with self._lock:
            found, shard, _ = self._shards.pop(which, (b"", None, 0.0))
        return shard if found == token else None

    def put(self, which: Any, token: bytes, shard: Shard) -> None:
        """Remember a shard."""
        now = clock.monotonic()
        with self._lock:
            self._shards.pop(which, None)
            self._shards[which] = token, shard, now
            while now - next(iter(self._shards.values()))[2] > FORGOTTEN_AFTER:
                del self._shards[next(iter(self._shards))]


REMEMBERED = Remembered()


class Emission(Protocol):
    """Makes elements of predictions; it is pickled to get to a worker."""

    def __call__(self, outcome: Outcome, table: Table) -> Iterable[tuple[Iterable[Any], Array]]:
        """Elements, and when each was due: all `NOW`, or none."""


class StepShards(beam.DoFn):
    """Steps the keys of a shard, all that are in a block as one matrix.

    What `beam_rnn.streaming.keyed_dofn.StepKeys` does for a key, with the same timers and the same
    bits. The state of a shard is a log, to which each block adds what it changed:
    `beam_rnn.engine.log_format`.

    Args:
        source: Makes the stepper.
        order: When records are stepped.
        idle_after: A sequence ends after this number of microseconds without a record; None for
            never.
        shards: The number of shards.
        emission: Makes elements of predictions.
        closing: When windows are closed.
        at_event_time: Give results the event time of their records as Beam timestamp.
    """

    def __init__(
        self,
        source: PredictSource,
        order: Order,
        idle_after: int | None,
        shards: int,
        emission: Emission,
        *,
        closing: Closing = AT_THEIR_END,
        at_event_time: bool = False,
    ):
        self._source = source
        self._order = replace(order, idle_after=idle_after)
        self._shards = shards
        self._emission = emission
        self._closing = closing
        self._unstamped = Unstamped()
        self._counters = BeamCounters()
        self._at_event_time = at_event_time
        self._id = uuid4().hex  # of the shards in memory; nothing that is stored knows it

    def setup(self) -> None:
        """Makes the stepper: loads the model."""
        self._stepper = ShardStepper(self._source.stepper())
        self._columns = self._stepper.alone.columns
        self._fingerprint = self._columns.fingerprint
        check_numbered(self._order, self._columns)

    def start_bundle(self) -> None:
        """Looks for a newer model, if it is time."""
        self._source.refresh()
        self._bundle_begins = True

    def process(
        self,
        element: tuple[str, bytes],
        window: Any = beam.DoFn.WindowParam,
        head: Any = beam.DoFn.StateParam(HEAD),
        log: Any = beam.DoFn.StateParam(LOG),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
        models: Iterable[tuple[str, str]] = (),
    ) -> Iterable[Any]:
        """A block of checked records in; each is stepped, waits until it is due, or is late."""
        if models and self._bundle_begins:  # there may be many
            self._source.use(path for _, path in models)
            self._bundle_begins = False
        key, data = element
        cells = _Cells(head, log, due, window, self._closing.at(window))
        start = imported_state_of(data)
        late: list[Any] = []
        if start is None:
            block, late = self._on_time(decode_block(data), cells)
            if not block.records:
                return late
        shard, before = self._open(key, cells)
        if before is None:
            end.set(Timestamp(micros=cells.closes_at))
        if start is not None:
            _, begun, state = order_header_of(start[1])
            to_do, outcome = shard.start_from(start[0], decode_state(state), begun), None
        else:
            if self._order.by != "arrival":
                self._unstamped.see(int((block.arrived >= END_OF_TIME).sum()))
            outcome = shard.arrive(block)
            to_do = shard.to_do_after(outcome)
        armed = None if before is None else before.armed
        times = [at for at in (to_do, armed) if at is not None]
        self._close(key, shard, before, cells, min(times, default=None))
        return () if outcome is None else chain(late, self._emitted(outcome, shard, window))

    def _on_time(self, block: Block, cells: "_Cells") -> tuple[Block, list[Any]]:
        """Return the records of keys whose window is not closed, and the rows of the others."""
        closed = [i for i, k in enumerate(block.keys) if self._closing.is_closed(k, cells.window)]
        if not closed:
            return block, []
        late = np.isin(block.of_key, closed)
        self._counters.count("records_late", int(late.sum()))
        stamps = Stamps()
        letters = []
        for i in np.flatnonzero(late).tolist():
            time, key = int(block.time[i]), block.keys[block.of_key[i]]
            numbers, sequence = block.numbers[i].tolist(), int(block.sequence[i])
            late_row = LateRecord(
                key=key,
                time=time,
                behind=cells.closes_at - time,
                inputs=numbers,
                sequence=sequence,
            )
            row = Row(late_row, int(block.arrived[i]), time)
            letters.append(self._tagged(row, stamps, cells.window))
        rest = block.pick(~late)
        used, of_key = np.unique(rest.of_key, return_inverse=True)
        keys = [block.keys[i] for i in used.tolist()]
        return rest._replace(keys=keys, of_key=of_key.astype(np.int32)), letters

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        head: Any = beam.DoFn.StateParam(HEAD),
        log: Any = beam.DoFn.StateParam(LOG),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterable[Any]:
        """The watermark has passed the earliest thing to do."""
        cells = _Cells(head, log, due, window, self._closing.at(window))
        shard, before = self._open(key, cells)
        if before is None:  # the window ended before
            return ()
        outcome = shard.advance(int(fired.micros), before.armed)
        self._close(key, shard, before, cells, shard.to_do(), fired=True)
        return self._emitted(outcome, shard, window)

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        head: Any = beam.DoFn.StateParam(HEAD),
        log: Any = beam.DoFn.StateParam(LOG),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterable[Any]:
        """The window is closed: step all that waits, then end every sequence."""
        cells = _Cells(head, log, due, window, self._closing.at(window))
        shard, before = self._open(key, cells)
        self._closing.close(window)
        if before is None:
            return ()
        outcomes = shard.close(before.armed)
        for each in shard.changes().removed:
            self._closing.leave(each, window)
        cells.clear()
        emitted = [self._emitted(outcome, shard, window) for outcome in outcomes]
        return chain.from_iterable(emitted)

    def _open(self, key: str, cells: "_Cells") -> tuple[Shard, Head | None]:
        """Return the shard and its head; None if there was none."""
        data = cells.head.read()
        if data is None:
            return self._new(cells), None
        head = decode_head(data, self._fingerprint, self._shards)
        shard = REMEMBERED.take((self._id, key, cells.window), head.token)
        if shard is not None:
            shard.use(self._stepper)
            return shard, head
        shard = self._new(cells)
        replay(cells.log.read(), shard)
        return shard, head

    def _new(self, cells: "_Cells") -> Shard:
        inputs = self._columns.number_size
        return Shard(self._stepper, self._order, cells.end, inputs, cells.closes_at)

    def _close(
        self,
        key: str,
        shard: Shard,
        before: Head | None,
        cells: "_Cells",
        armed: int | None,
        *,
        fired: bool = False,
    ) -> None:
        """Log what changed, arm the timer, and remember the shard."""
        change = shard.changes()
        for each in change.removed:
            self._closing.leave(each, cells.window)
        if shard.empty and armed is None:
            if before is not None:
                cells.clear()
            return
        serial, logged, live = (0, 0, 0) if before is None else before[2:5]
        pieces = encode_change(change, shard.table, serial)
        logged += sum(map(len, pieces))
        if logged > 2 * live + SLACK:
            cells.log.clear()
            pieces = encode_change(shard.everything(), shard.table, serial)
            live = logged = sum(map(len, pieces))
        for piece in pieces:
            cells.log.add(piece)
        if armed is not None and (fired or before is None or before.armed != armed):
            armed = min(armed, due_at_closing(cells.closes_at))
            cells.due.set(Timestamp(micros=armed))
        head = Head(os.urandom(16), self._shards, serial + len(pieces), logged, live, armed)
        cells.head.write(encode_head(head, self._fingerprint))
        REMEMBERED.put((self._id, key, cells.window), head.token, shard)

    def _emitted(self, outcome: Outcome, shard: Shard, window: Any) -> Iterable[Any]:
        """Return the results of records on their outputs, at their timestamps."""
        for name, count in outcome.counts.items():
            if count:
                self._counters.count(name, count)
        emitted: list[Iterable[Any]] = []
        for elements, due in self._emission(outcome, shard.table):
            if self._at_event_time:
                made = list(elements)
                emitted.append(_at(made, [row.time for row in made], window))
            else:
                now = len(due) and due[0] == NOW
                emitted.append(elements if now else _at(elements, due.tolist(), window))
        stamps = Stamps()
        emitted.append(self._tagged(row, stamps, window) for row in outcome.rows)
        return chain.from_iterable(emitted)

    def _tagged(self, row: Row, stamps: Stamps, window: Any) -> Any:
        return tagged(row, stamps, window, at_event_time=self._at_event_time)


def _at(elements: Iterable[Any], micros: Iterable[int], window: Any) -> Iterable[WindowedValue]:
    """Return elements at their timestamps."""
    stamps = Stamps()
    return map(WindowedValue, elements, map(stamps.__getitem__, micros), repeat((window,)))


class _Cells:
    """The state cells of a shard and window, and its timer."""

    def __init__(self, head: Any, log: Any, due: Any, window: Any, closes_at: int):
        self.head, self.log, self.due, self.window = head, log, due, window
        self.closes_at = closes_at
        self.end = int(window.max_timestamp().micros)

    def clear(self) -> None:
        """Remove all."""
        self.head.clear()
        self.log.clear()
        self.due.clear()
