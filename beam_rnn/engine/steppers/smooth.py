"""One key's records through a bidirectional network, each output a fixed number of steps later."""

import time as clock
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from apache_beam.metrics import Metrics

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.engine.stepper import Step
from beam_rnn.engine.steppers.predict import made_by
from beam_rnn.models.bidirectional import both_directions
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import (
    KeptRecords,
    KeyState,
    decode_kept,
    decode_state,
    encode_kept,
    encode_state,
)
from beam_rnn.records.record_format import DecodedRecords, decode_records
from beam_rnn.records.results import EndedSequence, Prediction, poisoned
from beam_rnn.streaming.model_loader import ModelLoader

ROWS_AT_ONCE = 65_536
"""So many steps of windows are one batch."""
POISON = "the step left the range of numbers; the state before it was kept"
NOBODY_S = "the key has no model, and there is no fallback"
"""Why a record that could be read cannot be stepped."""
_NO_VALUES, _NO_NUMBERS = np.zeros(0, np.float32), np.zeros(0)


class Smoother:
    """Gives the output of a record when `lag` more of its sequence are there, or when that ends.

    The state keeps the forward directions as they were after the last record whose output was
    given, and the records since then. The first layer's is the same as in the whole sequence;
    those of further layers have seen what the layers below said with this lag.

    Args:
        loader: Where the models come from.
        lag: How many further records an output waits for.
        idle_after: A sequence ends when its next record is more than so many microseconds after
            its last one; None for never.
    """

    def __init__(self, loader: ModelLoader, lag: int, idle_after: int | None):
        self._loader = loader
        self.library = loader.library()
        self._lag = lag
        self._idle_after = idle_after
        columns = self.library.newest.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        self.columns = columns
        self._inferences = Metrics.counter("beam_rnn", "num_inferences")
        self._micros = Metrics.distribution("beam_rnn", "inference_batch_latency_micro_secs")
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")
        self._ended = Metrics.counter("beam_rnn", "sequences_ended")

    def refresh(self) -> None:
        """Count what was loaded."""
        self._loader.start_bundle()

    def use(self, models: Iterable[str]) -> None:
        """No model follows another."""

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """The state after the records, and what came of them, as `Stepper.step`."""
        if not records:
            return data, []
        started = clock.perf_counter()
        state = None if data is None else decode_state(data)
        model = self._model_of(key, state)
        rows = decode_records(records)
        if model is None:
            return data, [self._refused(key, i, rows, NOBODY_S) for i in range(len(records))]
        state, results, steps = self._smooth(key, model, state, rows)
        if steps:
            self._inferences.inc(steps)
            self._micros.update(int((clock.perf_counter() - started) * 1e6))
        return (None if state is None else encode_state(state)), results

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """What comes of a key whose state is removed."""
        results: list[Step] = []
        if data is not None:
            state = decode_state(data)
            if state.steps:
                model = self._model_of(key, state)
                assert model is not None, "a sequence that goes on has its model"
                self._end(key, model, state, reason, -1, results)
        return results

    def _model_of(self, key: str, state: KeyState | None) -> Model | None:
        """The model of a key; None if it has none.

        Raises:
            StateError: Another one began the sequence.
        """
        newest = self.library.newest.of(key)
        if state is None or not state.steps or (newest is not None and made_by(state, newest)):
            return newest
        here = "none here is the key's"
        if newest is not None:
            here = f"the model here is {newest.digest} with {newest.kernel}"
        raise StateError(
            f"stored state was made by the model {state.digest} with the kernel {state.kernel}, "
            f"{here}: go on with the old weights and Smooth(kernel=...), or start the job without "
            "its old state"
        )

    def _smooth(
        self, key: str, model: Model, state: KeyState | None, rows: DecodedRecords
    ) -> tuple[KeyState | None, list[Step], int]:
        """The state after the records, what came of them, and how many steps that were."""
        results: list[Step] = []
        opens = self._opens(rows)
        at_once = max(ROWS_AT_ONCE // (self._lag + 1), 1)
        start = alone = steps = 0
        while start < len(rows.time):
            reason = self._ends_before(state, rows, start)
            base = state
            if state is not None and reason is not None:
                base = state._replace(steps=0)
            stop = start + 1
            if start >= alone:
                stop = min(int(opens[np.searchsorted(opens, start, "right")]), start + at_once)
            said: list[Step] = []
            after = self._advance(key, model, base, rows, slice(start, stop), said)
            if after is not None:
                if state is not None and reason is not None:
                    self._end(key, model, state, reason, start, results)
                results += said
                state, steps = after, steps + stop - start
                if rows.ends[stop - 1]:
                    state = self._end(key, model, state, "end", stop - 1, results)
            elif stop - start > 1:
                alone = stop  # one of them is to blame: each by itself
                continue
            else:
                results.append(self._refused(key, start, rows, POISON))
            start = stop
        return state, results, steps

    def _opens(self, rows: DecodedRecords) -> Array:
        """Where sequences begin, if all records can be used; and the end."""
        begins = rows.starts.copy()
        begins[1:] |= rows.ends[:-1]
        if self._idle_after is not None:
            begins[1:] |= np.diff(np.maximum.accumulate(rows.time)) > self._idle_after
        return np.append(np.flatnonzero(begins), len(begins))

    def _ends_before(self, state: KeyState | None, rows: DecodedRecords, i: int) -> str | None:
        """Why a sequence ends before a record; None if the record belongs to it."""
        if state is None or not state.steps:
            return None
        if self._idle_after is not None and rows.time[i] - state.time > self._idle_after:
            return "idle"
        return "start" if rows.starts[i] else None

    def _advance(
        self,
        key: str,
        model: Model,
        state: KeyState | None,
        rows: DecodedRecords,
        part: slice,
        results: list[Step],
    ) -> KeyState | None:
        """The state after further records of a sequence; None if a number left its range."""
        both = both_directions(model)
        latest = int(rows.time[part].max())
        if state is not None:
            latest = max(latest, state.time)
        if state is None or not state.steps:
            first = int(rows.time[part.start])
            fresh = both.initial_state, _NO_NUMBERS, _NO_NUMBERS
            state = KeyState(model.digest, model.kernel, 0, first, first, 0, *fresh)
        before = decode_kept(state.history, rows.numbers.shape[1])
        new = KeptRecords(rows.time[part], rows.sequence[part], rows.numbers[part])
        kept = KeptRecords(*map(np.concatenate, zip(before, new, strict=True)))
        waiting = len(before.time)
        with default_arithmetic():
            x = model.scaled(key, kept.numbers).astype(np.float32)
            y, given, values, finite = both.windows(state.values, x, waiting, self._lag)
            outputs = model.restored(key, y)
        if not finite or not np.isfinite(outputs).all():
            return None
        made = self._predictions(key, model, kept, outputs[:given], state.steps - waiting)
        for i, row in enumerate(made):
            completes = max(i + self._lag - waiting, 0)  # below 0 where the lag was longer before
            results.append(Step(part.start + completes, row.time, row))
        all_given = given == len(kept.time)
        return state._replace(
            steps=state.steps + len(new.time),
            time=latest,
            sequence=int(new.sequence[-1]),
            values=values,
            outputs=outputs[given - 1] if all_given else _NO_NUMBERS,
            history=encode_kept(KeptRecords(*(each[given:] for each in kept))),
        )

    def _predictions(
        self, key: str, model: Model, kept: KeptRecords, outputs: Array, steps: int
    ) -> list[Prediction]:
        """One for each of the first records, which so many steps of the sequence came before."""
        return [
            Prediction(key, at, steps + i, said, model.digest, b"", number, model.kernel)
            for i, (at, number, said) in enumerate(
                zip(kept.time.tolist(), kept.sequence.tolist(), outputs.tolist(), strict=False), 1
            )
        ]

    def _end(
        self,
        key: str,
        model: Model,
        state: KeyState,
        reason: str,
        record: int,
        results: list[Step],
    ) -> KeyState:
        """The outputs that were waited for, with the steps that there are; then what came of it.

        What is left is the place that the sequence reached.
        """
        kept = decode_kept(state.history, model.inputs - model.carried)
        outputs = state.outputs
        if len(kept.time):
            with default_arithmetic():
                x = model.scaled(key, kept.numbers).astype(np.float32)
                one = np.ones(len(x), np.int64)
                y, _ = both_directions(model).run(x, one, state.values[np.newaxis])
                said = model.restored(key, y)
            made = self._predictions(key, model, kept, said, state.steps - len(said))
            results += [Step(record, row.time, row) for row in made]
            outputs = said[-1]
        digest, kernel, steps, first_time, time, sequence, *_ = state
        last = outputs.tolist()
        facts = (key, steps, first_time, time, last, reason, digest, b"", sequence, kernel)
        results.append(Step(record, time, EndedSequence(*facts)))
        self._ended.inc()
        empty = _NO_VALUES, _NO_NUMBERS, _NO_NUMBERS
        return KeyState(digest, kernel, 0, time, time, sequence, *empty)

    def _refused(self, key: str, place: int, rows: DecodedRecords, reason: str) -> Step:
        """The dead letter of a record."""
        self._invalid.inc()
        time = int(rows.time[place])
        return Step(place, time, poisoned(key, time, rows.numbers[place], reason))


@dataclass(frozen=True)
class SmoothSteps:
    """Makes a `Smoother` on a worker.

    Args:
        loader: Where the models come from.
        lag: How many further records an output waits for.
        idle_after: When a sequence ends, in microseconds; None for never.
    """

    loader: ModelLoader
    lag: int
    idle_after: int | None

    def stepper(self) -> Smoother:
        """A new one; the model is loaded once a process."""
        return Smoother(self.loader, self.lag, self.idle_after)
