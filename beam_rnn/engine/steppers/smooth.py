"""One key's records through a bidirectional network, each output a fixed number of steps later."""

import time as clock
from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.engine.stepper import NO_MODEL, OVERFLOWED, Counters, Library, ModelStepper, Step
from beam_rnn.models.bidirectional import both_directions
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import (
    NO_NUMBERS,
    NO_VALUES,
    KeptRecords,
    KeyState,
    decode_kept,
    decode_state,
    encode_kept,
    encode_state,
)
from beam_rnn.records.record_format import DecodedRecords, decode_records
from beam_rnn.records.results import EndedSequence, Prediction

ROWS_AT_ONCE = 65_536
"""The maximum number of steps, over all windows, in a batch."""


class SmoothStepper(ModelStepper):
    """Gives the output of a record when `lag` more of its sequence have come, or when that ends.

    The state keeps the forward directions as they were after the last record whose output was
    given, and the records since then. The forward direction of the first layer is the same as in
    the whole sequence; those of further layers have seen the outputs of the layers below with this
    lag.

    Args:
        library: The models; none follows another in an open sequence.
        lag: The number of further records that an output waits for.
        idle_after: As for `Stepper`.
        counters: Where steps are counted.
    """

    def __init__(self, library: Library, lag: int, idle_after: int | None, counters: Counters):
        super().__init__(library, counters, idle_after)
        self._lag = lag

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """Return the state of a key after its next records, and the outputs that they complete."""
        if not records:
            return data, []
        started = clock.perf_counter()
        state = None if data is None else decode_state(data)
        model = self._model_of(key, state)
        rows = decode_records(records)
        if model is None:
            return data, [self._refused(key, i, rows, NO_MODEL) for i in range(len(records))]
        state, results, steps = self._smooth(key, model, state, rows)
        self.count_steps(steps, started)
        return (None if state is None else encode_state(state)), results

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """Return the last results of a key whose state is removed."""
        results: list[Step] = []
        if data is not None:
            state = decode_state(data)
            if state.steps:
                model = self._model_of(key, state)
                assert model is not None, "an open sequence has its model"
                self._end(key, model, state, reason, -1, results)
        return results

    def _model_of(self, key: str, state: KeyState | None) -> Model | None:
        """Return the model of a key; None if it has none.

        Raises:
            StateError: Another one began the sequence.
        """
        if state is not None and not self._goes_on_with(key, state):
            remedy = "go on with the old weights and Smooth(kernel=...), or start the job without "
            raise self._other_model(key, state, remedy + "its old state")
        return self.library.newest.of(key)

    def _smooth(
        self, key: str, model: Model, state: KeyState | None, rows: DecodedRecords
    ) -> tuple[KeyState | None, list[Step], int]:
        """Return the state after the records, their results, and the number of steps."""
        results: list[Step] = []
        opens = self._opens(rows)
        at_once = max(ROWS_AT_ONCE // (self._lag + 1), 1)
        start = alone = steps = 0
        while start < len(rows.time):
            base, reason = state, None
            if state is not None and state.steps:
                time, starts = int(rows.time[start]), bool(rows.starts[start])
                reason = self._ends_before(state.time, time, starts=starts)
                base = state if reason is None else state._replace(steps=0)
            stop = start + 1
            if start >= alone:
                stop = min(int(opens[np.searchsorted(opens, start, "right")]), start + at_once)
            outputs: list[Step] = []
            after = self._advance(key, model, base, rows, slice(start, stop), outputs)
            if after is not None:
                if state is not None and reason is not None:
                    self._end(key, model, state, reason, start, results)
                results += outputs
                state, steps = after, steps + stop - start
                if rows.ends[stop - 1]:
                    state = self._end(key, model, state, "end", stop - 1, results)
            elif stop - start > 1:
                alone = stop  # one of them is to blame: each by itself
                continue
            else:
                results.append(self._refused(key, start, rows, OVERFLOWED))
            start = stop
        return state, results, steps

    def _opens(self, rows: DecodedRecords) -> Array:
        """Return where sequences begin, if all records can be used; and the end."""
        begins = rows.starts.copy()
        begins[1:] |= rows.ends[:-1]
        if self._idle_after is not None:
            begins[1:] |= np.diff(np.maximum.accumulate(rows.time)) > self._idle_after
        return np.append(np.flatnonzero(begins), len(begins))

    def _advance(
        self,
        key: str,
        model: Model,
        state: KeyState | None,
        rows: DecodedRecords,
        part: slice,
        results: list[Step],
    ) -> KeyState | None:
        """Return the state after further records of a sequence; None if a number overflowed."""
        both = both_directions(model)
        latest = int(rows.time[part].max())
        if state is not None:
            latest = max(latest, state.time)
        if state is None or not state.steps:
            first = int(rows.time[part.start])
            fresh = both.initial_state, NO_NUMBERS, NO_NUMBERS
            state = KeyState(model.digest, model.kernel, 0, first, first, 0, *fresh)
        before = decode_kept(state.history, rows.numbers.shape[1])
        new = KeptRecords(rows.time[part], rows.sequence[part], rows.numbers[part])
        kept = KeptRecords(*map(np.concatenate, zip(before, new, strict=True)))
        waiting = len(before.time)
        with default_arithmetic():
            x = model.scaled(key, kept.numbers).astype(np.float32)
            start = state.values.astype(np.float32, copy=False)
            y, given, values, finite = both.windows(start, x, waiting, self._lag)
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
            outputs=outputs[given - 1] if all_given else NO_NUMBERS,
            history=encode_kept(KeptRecords(*(each[given:] for each in kept))),
        )

    def _predictions(
        self, key: str, model: Model, kept: KeptRecords, outputs: Array, steps: int
    ) -> Iterator[Prediction]:
        """Return one for each of the first records, which come after this number of steps."""
        return Prediction.many(
            key=repeat(key),
            time=kept.time.tolist(),
            step=range(steps + 1, steps + 1 + len(outputs)),
            outputs=outputs.tolist(),
            model=repeat(model.digest),
            sequence=kept.sequence.tolist(),
            kernel=repeat(model.kernel),
        )

    def _end(
        self,
        key: str,
        model: Model,
        state: KeyState,
        reason: str,
        record: int,
        results: list[Step],
    ) -> KeyState:
        """Add the outputs that still wait, from the steps that there are, and the ended sequence.

        Returns:
            What is kept of the state: the place that the sequence reached.
        """
        kept = decode_kept(state.history, model.inputs - model.carried)
        outputs = state.outputs
        if len(kept.time):
            with default_arithmetic():
                x = model.scaled(key, kept.numbers).astype(np.float32)
                one = np.ones(len(x), np.int64)
                start = state.values[np.newaxis].astype(np.float32, copy=False)
                y, _ = both_directions(model).run(x, one, start)
                waited_for = model.restored(key, y)
            made = self._predictions(key, model, kept, waited_for, state.steps - len(waited_for))
            results += [Step(record, row.time, row) for row in made]
            outputs = waited_for[-1]
        ended = EndedSequence(
            key=key,
            steps=state.steps,
            first_time=state.first_time,
            last_time=state.time,
            outputs=outputs.tolist(),
            reason=reason,
            model=state.digest,
            state=b"",
            sequence=state.sequence,
            kernel=state.kernel,
        )
        results.append(Step(record, state.time, ended))
        self._counters.count("sequences_ended")
        return state._replace(
            steps=0,
            first_time=state.time,
            values=NO_VALUES,
            outputs=NO_NUMBERS,
            history=NO_NUMBERS,
        )

    def _refused(self, key: str, place: int, rows: DecodedRecords, reason: str) -> Step:
        """Return the dead letter of a record."""
        return self._dead_letter(place, key, int(rows.time[place]), rows.numbers[place], reason)
