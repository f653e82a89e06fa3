"""The stateful DoFns: the hidden state of each key, carried from record to record.

State cells, timers and their names are contracts: a running job finds its state by them.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder, VarIntCoder
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
from apache_beam.utils.shared import Shared
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.errors import WeightsError
from beam_rnn.model import Model
from beam_rnn.records import (
    INVALID,
    InvalidRecord,
    LateRecord,
    Prediction,
    RecordReader,
    poisoned,
)
from beam_rnn.state import (
    KeyState,
    decode_record,
    decode_state,
    encode_state,
    last_time,
    record_time,
)
from beam_rnn.storage import read_model

logger = logging.getLogger(__name__)

LATE = "late"
MILLISECOND = 1000  # microseconds


class LoadedModel:
    """A model, and what loading it took until that was reported."""

    def __init__(self, path: str):
        started = time.monotonic()
        self.model = read_model(path)
        self.milliseconds: int | None = int((time.monotonic() - started) * 1000)


class ModelLoader:
    """Loads a weights file once a process, however many DoFns use it."""

    def __init__(self, path: str):
        self.path = path
        self._shared = Shared()
        self._loaded: LoadedModel | None = None

    def model(self) -> Model:
        """The model; loaded by the first call of the process."""
        self._loaded = self._shared.acquire(self._load, tag=self.path)
        return self._loaded.model

    def reader(self) -> RecordReader:
        """What reads the records that the model was trained on."""
        columns = self.model().columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        return RecordReader(columns)

    def report(self) -> None:
        """Counts the load, once; in a bundle, since Beam takes no metrics in `setup`."""
        loaded = self._loaded
        if loaded is None or loaded.milliseconds is None:
            return
        milliseconds, loaded.milliseconds = loaded.milliseconds, None
        size = sum(value.nbytes for value in loaded.model.parameters.values())
        Metrics.distribution("beam_rnn", "load_model_latency_milli_secs").update(milliseconds)
        Metrics.distribution("beam_rnn", "model_byte_size").update(size)

    def _load(self) -> LoadedModel:
        loaded = LoadedModel(self.path)
        model = loaded.model
        if model.columns is None:
            raise WeightsError(
                f"{self.path!r} names no columns, so no record can be read for it: train it in "
                "a pipeline, or give the model columns before it is written"
            )
        if model.network.bidirectional:
            raise WeightsError(
                f"{self.path!r} holds a bidirectional network, which needs whole sequences: a "
                "stream can be stepped by a network with bidirectional=False alone"
            )
        described = model.network.to_json()
        logger.info("loaded %s: %s, digest %s", self.path, described, model.digest[:12])
        return loaded


class Stepper:
    """Steps one key's hidden state through records that are in order."""

    def __init__(self, model: Model, with_state: bool):
        self._model = model
        self._with_state = with_state
        self._inferences = Metrics.counter("beam_rnn", "num_inferences")
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")

    def step(
        self, key: str, data: bytes | None, records: Iterable[bytes]
    ) -> tuple[bytes | None, list[tuple[int, Prediction | InvalidRecord]]]:
        """The state after the records, and what came of each, with the record's time.

        Args:
            key: The key.
            data: Its state so far; None before its first step.
            records: Its next records, encoded, in order.
        """
        model, digest = self._model, self._model.digest
        if data is None:
            before = KeyState(digest, 0, -1, model.initial_state()[0])
        else:
            before = decode_state(data, digest, model.network.state_size)
        results: list[tuple[int, Prediction | InvalidRecord]] = []
        state = before
        for encoded in records:
            record = decode_record(encoded)
            inputs = record.numbers
            with np.errstate(over="ignore", invalid="ignore"):
                x = model.scaled(key, inputs)[np.newaxis].astype(np.float32)
                values, y = model.step(state.values[np.newaxis], x)
                outputs = model.restored(key, y[0])
            if not all(np.isfinite(array).all() for array in (x, values, outputs)):
                self._invalid.inc()
                reason = "the step left the range of numbers; the state before it was kept"
                results.append((record.time, poisoned(key, inputs, reason)))
                continue
            state = KeyState(digest, state.steps + 1, record.time, values[0])
            shown = values[0].astype("<f4", copy=False).tobytes() if self._with_state else b""
            prediction = Prediction(key, record.time, state.steps, outputs.tolist(), digest, shown)
            results.append((record.time, prediction))
        self._inferences.inc(state.steps - before.steps)
        return (data if state is before else encode_state(state)), results


STATE = ReadModifyWriteStateSpec("state", BytesCoder())
PENDING = BagStateSpec("pending", BytesCoder())
EARLIEST = ReadModifyWriteStateSpec("earliest", VarIntCoder())
DUE = TimerSpec("due", TimeDomain.WATERMARK)
END = TimerSpec("end", TimeDomain.WATERMARK)


class StepOnArrival(beam.DoFn):
    """Steps each record when it comes: for sources that are in order already."""

    def __init__(self, loader: ModelLoader, with_state: bool):
        self._loader = loader
        self._with_state = with_state
        self._unordered = Metrics.counter("beam_rnn", "records_out_of_order")

    def setup(self) -> None:
        """Loads the model."""
        self._stepper = Stepper(self._loader.model(), self._with_state)

    def start_bundle(self) -> None:
        """Reports what loading took, if this worker did it."""
        self._loader.report()

    def process(
        self, element: tuple[str, bytes], state: Any = beam.DoFn.StateParam(STATE)
    ) -> Iterator[Any]:
        """One checked record in, its prediction out."""
        key, record = element
        before = state.read()
        if before is not None and record_time(record) < last_time(before):
            self._unordered.inc()
        after, results = self._stepper.step(key, before, [record])
        if after is not before:
            state.write(after)
        for _, result in results:
            yield _tagged(result)


class StepInOrder(beam.DoFn):
    """Steps records in the order of event time, whatever the order in which they come.

    A record is due when the watermark has passed its time by `wait`, rounded up to a grid. One
    timer is armed at the earliest record that is pending; when it fires, all that is due is
    taken in order. A second timer at the end of the window takes whatever is left at once: in
    a batch the watermark jumps there, and one round does what would take one for each time.

    The Beam timestamp of a prediction is when its record became due. The pending timer holds
    the watermark there, so nothing downstream is late.
    """

    def __init__(self, loader: ModelLoader, wait: int, grid: int, with_state: bool):
        self._loader = loader
        self._wait = wait  # microseconds, like all times here
        self._grid = grid
        self._with_state = with_state
        self._late = Metrics.counter("beam_rnn", "records_late")
        self._duplicate = Metrics.counter("beam_rnn", "records_duplicate")

    def setup(self) -> None:
        """Loads the model."""
        self._stepper = Stepper(self._loader.model(), self._with_state)

    def start_bundle(self) -> None:
        """Reports what loading took, if this worker did it."""
        self._loader.report()

    def process(
        self,
        element: tuple[str, bytes],
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        pending: Any = beam.DoFn.StateParam(PENDING),
        earliest: Any = beam.DoFn.StateParam(EARLIEST),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> Iterator[Any]:
        """One checked record in; it waits for its turn, or is late."""
        key, record = element
        before = state.read()
        if before is not None and record_time(record) <= last_time(before):
            self._late.inc()
            yield TaggedOutput(LATE, _late(key, record, last_time(before)))
            return
        pending.add(record)
        time_due = self._time_due(record_time(record), window)
        armed = earliest.read()
        if armed is None or time_due < armed:
            earliest.write(time_due)
            due.set(Timestamp(micros=time_due))
        if armed is None and before is None:
            end.set(window.max_timestamp())

    @on_timer(DUE)
    def on_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        fired: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        pending: Any = beam.DoFn.StateParam(PENDING),
        earliest: Any = beam.DoFn.StateParam(EARLIEST),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        """The watermark has passed the earliest pending record."""
        yield from self._take(key, fired.micros, window, state, pending, earliest, due)

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        window: Any = beam.DoFn.WindowParam,
        state: Any = beam.DoFn.StateParam(STATE),
        pending: Any = beam.DoFn.StateParam(PENDING),
        earliest: Any = beam.DoFn.StateParam(EARLIEST),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        """The watermark has passed the end of the window."""
        end = window.max_timestamp().micros
        yield from self._take(key, end, window, state, pending, earliest, due)

    def _time_due(self, time: int, window: Any) -> int:
        """When a record is due: on the grid, and not after the end of its window.

        A whole millisecond, since that is what runners keep of a timer.
        """
        on_grid = -(-(time + self._wait) // self._grid) * self._grid
        end_of_window = int(window.max_timestamp().micros) // MILLISECOND * MILLISECOND
        return min(on_grid, end_of_window)

    def _take(
        self,
        key: str,
        now: int,
        window: Any,
        state: Any,
        pending: Any,
        earliest: Any,
        due: Any,
    ) -> Iterator[Any]:
        """Step all pending records that are due now; arm the timer for the rest."""
        waiting = [(self._time_due(record_time(r), window), r) for r in pending.read()]
        ready = [record for at, record in waiting if at <= now]
        rest = [(at, record) for at, record in waiting if at > now]
        if ready:
            pending.clear()
            for _, record in rest:
                pending.add(record)
        if rest:
            next_due = min(at for at, _ in rest)
            earliest.write(next_due)
            due.set(Timestamp(micros=next_due))
        else:
            earliest.clear()
            due.clear()
        if not ready:
            return
        ordered = sorted(set(ready))
        self._duplicate.inc(len(ready) - len(ordered))
        before = state.read()
        after, results = self._stepper.step(key, before, ordered)
        if after is not before:
            state.write(after)
        for event_time, result in results:
            due_at = Timestamp(micros=self._time_due(event_time, window))
            yield _tagged(result, due_at)


def _late(key: str, record: bytes, reached: int) -> LateRecord:
    decoded = decode_record(record)
    return LateRecord(key, decoded.time, reached - decoded.time, decoded.numbers.tolist())


def _tagged(result: Prediction | InvalidRecord, timestamp: Timestamp | None = None) -> Any:
    """A result on the output where it belongs, at a timestamp."""
    value: Any = result if timestamp is None else TimestampedValue(result, timestamp)
    return TaggedOutput(INVALID, value) if isinstance(result, InvalidRecord) else value
