"""Predicts each record of a key: a hidden state stepped through records that are in order."""

import logging
import time as clock
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.engine.batched import ended_states, history_after, records_of, standing, state_after
from beam_rnn.engine.stepper import (
    NO_MODEL,
    OVERFLOWED,
    Counters,
    Library,
    ModelStepper,
    Step,
)
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.many_sequences import Records, Standing, Swept, sweep
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import (
    NO_NUMBERS,
    NO_VALUES,
    STATE_TYPE,
    KeyState,
    decode_state,
    encode_state,
)
from beam_rnn.records.record_format import BufferedRecord, decode_record
from beam_rnn.records.results import EndedSequence, Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """What happens to a sequence.

    Args:
        emit: "every": a prediction for each record; "last": one for each sequence that ended.
        idle_after: A sequence ends when its next record is more than this number of microseconds
            after its last one; None for never.
        on_model_change: What happens to an open sequence that another model began: "keep" that
            model, "reset" (it ends, and another begins), "replay" its last inputs through the new
            one, or "error".
        replay: The number of inputs that are kept for a replay.
        with_state: Put the hidden state into the results.
    """

    emit: str = "every"
    idle_after: int | None = None
    on_model_change: str = "error"
    replay: int = 0
    with_state: bool = False

    @property
    def shows_history(self) -> bool:
        """Return True if a sequence that ends shows the inputs that were kept."""
        return self.with_state and self.replay > 0


BATCHED_FROM = 4
"""The minimum number of records of one key to step as a batch."""
BATCHED_AT_MOST = 16_384
"""The maximum number of records in a batch, which holds the hidden state after each."""


class PredictStepper(ModelStepper):
    """Predicts one key at a time.

    Args:
        library: The models; the newest one begins sequences.
        policy: What happens to a sequence.
        counters: Where steps are counted.
    """

    def __init__(self, library: Library, policy: Policy, counters: Counters):
        super().__init__(library, counters, policy.idle_after)
        self.policy = policy
        self._warned_of_unknown = False

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """Return the state of a key after its next records, and their results."""
        if not records:
            return data, []
        state = None if data is None else decode_state(data)
        if state is None or not state.steps:
            self.count_unknown([key])
        else:
            self.check_fits(key, state)
        after, results = self.advance(key, state, records)
        return (None if after is None else encode_state(after)), results

    def advance(
        self, key: str, state: KeyState | None, records: Sequence[bytes]
    ) -> tuple[KeyState | None, list[Step]]:
        """As `step`, of a key that was checked and counted when it began."""
        results: list[Step] = []
        for start in range(0, len(records), BATCHED_AT_MOST):
            started = clock.perf_counter()
            part = records[start : start + BATCHED_AT_MOST]
            batched = self._batched(key, state, part) if len(part) >= BATCHED_FROM else None
            state, of_part, steps = batched or self._one_by_one(key, state, part)
            if start:
                of_part = [step._replace(record=start + step.record) for step in of_part]
            results += of_part
            self.count_steps(steps, started)
        return state, results

    def stepped(self, key: str, state: KeyState | None, record: BufferedRecord) -> KeyState | None:
        """Return the state after one record, without results; None if it cannot be stepped."""
        model, base, _ = self._model_for(key, state, record)
        after = None if model is None else self._after(key, model, base, record)
        return _without_sequence(after) if record.ends else after

    def count_unknown(self, keys: Iterable[str]) -> None:
        """Count keys that begin and were not in training, if training distinguished keys."""
        newest = self.library.newest
        known: Mapping[str, Any]
        if isinstance(newest, KeyedModels):
            known, instead = newest.models, "they use the model of all other keys"
        else:
            known = {} if newest.scaler is None else newest.scaler.keys
            instead = "they are scaled by the statistics of all keys"
        unknown = [key for key in keys if key not in known] if known else []
        if not unknown:
            return
        self._counters.count("keys_unknown", len(unknown))
        if not self._warned_of_unknown:
            self._warned_of_unknown = True
            logger.warning(
                "the key %r, and perhaps others, was not in the training data: %s; the metric "
                "keys_unknown counts them",
                unknown[0],
                instead,
            )

    def _one_by_one(
        self, key: str, state: KeyState | None, records: Sequence[bytes]
    ) -> tuple[KeyState | None, list[Step], int]:
        """Return the state after the records, their results, and the number of steps."""
        results: list[Step] = []
        steps = 0
        for i, record in enumerate(map(decode_record, records)):
            model, base, reason = self._model_for(key, state, record)
            if model is None and reason == "model" and state is not None:  # the key lost its model
                self._counters.count("model_changes")
                state = self._end(key, state, reason, i, record.time, results)
            after = None if model is None else self._after(key, model, base, record)
            if after is None:  # everything stays as if the record had never been sent
                why = NO_MODEL if model is None else OVERFLOWED
                results.append(self._dead_letter(i, key, record.time, record.numbers, why))
                continue
            if state is not None and reason is not None:
                self._end(key, state, reason, i, record.time, results)
            if reason == "model" or (base is not state and reason is None):
                self._counters.count("model_changes")
            state, steps = after, steps + 1
            if self.policy.emit == "every":
                results.append(Step(i, record.time, self._prediction(key, state, record.time)))
            if record.ends:
                state = self._end(key, state, "end", i, record.time, results)
        return state, results, steps

    def _batched(
        self, key: str, state: KeyState | None, records: Sequence[bytes]
    ) -> tuple[KeyState | None, list[Step], int] | None:
        """As `_one_by_one`, in one batch; None for a key that cannot be stepped so."""
        model = self.library.newest.of(key)
        if model is None or not self._goes_on_with(key, state):
            return None
        rows = records_of(records)
        before = standing(state, model)
        swept = sweep(model, [key], before, rows, self.policy.idle_after)
        if len(swept.left) or (len(swept.ended.at) and self.policy.shows_history):
            return None
        results = []
        if self.policy.emit == "every":
            results = self._predictions(key, model, rows, swept)
        if len(swept.ended.at):
            results = self._with_ends(key, model, before, rows, swept, results)
        history = history_after(state, rows, int(swept.after.steps[0]), self.policy.replay)
        return state_after(model, swept, history), results, len(records)

    def _predictions(self, key: str, model: Model, rows: Records, swept: Swept) -> list[Step]:
        """Return a prediction for each record of a batch."""
        times = rows.time.tolist()
        made = Prediction.many(
            key=repeat(key),
            time=times,
            step=swept.step.tolist(),
            outputs=swept.outputs.tolist(),
            model=repeat(model.digest),
            state=self._shown_each(swept),
            sequence=rows.sequence.tolist(),
            kernel=repeat(model.kernel),
        )
        return list(map(Step, range(len(times)), times, made))

    def _with_ends(
        self,
        key: str,
        model: Model,
        before: Standing,
        rows: Records,
        swept: Swept,
        predictions: list[Step],
    ) -> list[Step]:
        """Return the predictions and the results of each sequence that ended, in their order."""
        placed = [((step.record, 1), step) for step in predictions]
        ended = self.ended_in_batch([key], model, before, rows, swept)
        for steps, reason in zip(ended, swept.ended.reason, strict=True):
            place = steps[-1].record, 2 if reason == "end" else 0  # after its prediction, or before
            placed += [(place, step) for step in steps]
        return [step for _, step in sorted(placed, key=itemgetter(0))]

    def ended_in_batch(
        self, keys: Sequence[str], model: Model, before: Standing, rows: Records, swept: Swept
    ) -> Iterable[list[Step]]:
        """Yield the results of each sequence that ended in a batch of these keys."""
        for key, state, reason, at in ended_states(model, before, rows, swept):
            results: list[Step] = []
            self._end(keys[key], state, reason, at, int(rows.time[at]), results)
            yield results

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """Return the last results of a key whose state is removed."""
        results: list[Step] = []
        if data is not None:
            state = decode_state(data)
            if state.steps:
                self._end(key, state, reason, -1, state.time, results)
        return results

    def count_ended(self, sequences: int) -> None:
        """Count sequences that ended."""
        if sequences:
            self._counters.count("sequences_ended", sequences)

    def _model_for(
        self, key: str, state: KeyState | None, record: BufferedRecord
    ) -> tuple[Model | None, KeyState | None, str | None]:
        """Return what steps a record.

        The model, None if the key has none; the state from which it steps; and why the open
        sequence ends before the record, None if it goes on.

        Raises:
            StateError: Another model began the sequence, and the policy makes that an error.
        """
        newest = self.library.newest.of(key)
        if state is None or not state.steps:
            return newest, state, None
        reason = self._ends_before(state.time, record.time, starts=record.starts)
        if reason is not None:
            return newest, _without_sequence(state), reason
        if self._goes_on_with(key, state):
            return newest, state, None
        policy = self.policy.on_model_change
        if policy == "error":
            raise self._other_model(
                key,
                state,
                "go on with the old weights and Predict(kernel=...), start the job without its old "
                "state, or say Predict(on_model_change='keep'), 'reset' or 'replay'",
            )
        if policy == "keep":
            return self.library.made_by(state.digest, state.kernel), state, None
        replayed = None
        if policy == "replay" and newest is not None:
            replayed = self._replayed(key, newest, state)
        return newest, replayed or _without_sequence(state), None if replayed else "model"

    def _replayed(self, key: str, model: Model, state: KeyState) -> KeyState | None:
        """Return the state after a model stepped the kept inputs; None if it can step none.

        An input that it cannot step is skipped, as it would have been as a record.
        """
        width = model.inputs - model.carried
        if len(state.history) % width:
            return None
        kept = state.history.reshape(-1, width)[-self.policy.replay :]
        replayed = None
        for numbers in kept:
            record = BufferedRecord(state.time, state.sequence, False, False, numbers)
            replayed = self._after(key, model, replayed, record) or replayed
        if replayed is None:
            return None
        return replayed._replace(
            steps=state.steps, first_time=state.first_time, time=state.time, history=kept.ravel()
        )

    def _end(
        self, key: str, state: KeyState, reason: str, record: int, now: int, results: list[Step]
    ) -> KeyState:
        """Add the results of a sequence that ended; return what is kept: the place it reached."""
        if self.policy.emit == "last":
            results.append(Step(record, now, self._prediction(key, state, state.time)))
        ended = EndedSequence(
            key=key,
            steps=state.steps,
            first_time=state.first_time,
            last_time=state.time,
            outputs=state.outputs.tolist(),
            reason=reason,
            model=state.digest,
            state=self._shown(state.values),
            sequence=state.sequence,
            kernel=state.kernel,
            history=self._shown(state.history.astype("<f8", copy=False)),
        )
        results.append(Step(record, now, ended))
        self.count_ended(1)
        return state._replace(
            steps=0,
            first_time=state.time,
            values=NO_VALUES,
            outputs=NO_NUMBERS,
            history=NO_NUMBERS,
        )

    def _after(
        self, key: str, model: Model, state: KeyState | None, record: BufferedRecord
    ) -> KeyState | None:
        """Return the state after one record; None if the step overflows."""
        goes_on = state is not None and state.steps > 0
        values = state.values if state is not None and goes_on else model.initial_state()[0]
        with default_arithmetic():
            x = model.scaled(key, record.numbers)[np.newaxis].astype(np.float32)
            after, y = model.step(values[np.newaxis].astype(np.float32, copy=False), x)
            outputs = model.restored(key, y[0])
        if np.isinf(x).any() or not (np.isfinite(after).all() and np.isfinite(outputs).all()):
            return None
        steps, first_time, before, history = 1, record.time, NO_NUMBERS, NO_NUMBERS
        if state is not None and goes_on:
            steps, first_time, before = state.steps + 1, state.first_time, state.history
        if self.policy.replay:
            kept = self.policy.replay * len(record.numbers)
            history = np.concatenate([before, record.numbers])[-kept:]
        return KeyState(
            model.digest,
            model.kernel,
            steps,
            first_time,
            record.time if state is None else max(state.time, record.time),
            record.sequence,
            after[0].astype(STATE_TYPE, copy=False),
            outputs,
            history,
        )

    def _prediction(self, key: str, state: KeyState, time: int) -> Prediction:
        """Return the prediction that a state holds, of a record of this time."""
        return Prediction(
            key=key,
            time=time,
            step=state.steps,
            outputs=state.outputs.tolist(),
            model=state.digest,
            state=self._shown(state.values),
            sequence=state.sequence,
            kernel=state.kernel,
        )

    def _shown_each(self, swept: Swept) -> Iterable[bytes]:
        """Return the hidden state after each record as results show it."""
        if not self.policy.with_state:
            return repeat(b"")
        return map(self._shown, swept.values(slice(None)))

    def _shown(self, values: Array) -> bytes:
        """Return a hidden state as results show it."""
        return values.tobytes() if self.policy.with_state else b""


def _without_sequence(state: KeyState | None) -> KeyState | None:
    """Return the state from which the next sequence begins."""
    return None if state is None else state._replace(steps=0)
