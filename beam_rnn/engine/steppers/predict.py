"""One key's hidden state, stepped through records that are in order; sequences begin and end."""

import logging
import time as clock
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import itemgetter
from typing import Any

import numpy as np
from apache_beam.metrics import Metrics

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.engine.stepper import Step
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.many_sequences import LONG_AGO, Records, Standing, Swept, sweep
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import KeyState, decode_state, encode_state
from beam_rnn.records.record_format import BufferedRecord, decode_record, decode_records
from beam_rnn.records.results import EndedSequence, Prediction, poisoned
from beam_rnn.streaming.model_loader import ModelLoader

logger = logging.getLogger(__name__)

_NO_VALUES, _NO_NUMBERS = np.zeros(0, np.float32), np.zeros(0)
_POISON = "the step left the range of numbers; the state before it was kept"
_NOBODY_S = "the key has no model, and there is no fallback"


@dataclass(frozen=True)
class Policy:
    """What happens to a sequence.

    Args:
        emit: "every": a prediction for each record; "last": one for each sequence that ended.
        idle_after: A sequence ends when its next record is more than so many microseconds
            after its last one; None for never.
        on_model_change: What a sequence does that another model began: "keep" that model,
            "reset" (it ends, and another begins), "replay" its last inputs through the new one,
            or "error".
        replay: How many inputs are kept to be replayed.
        with_state: Put the hidden state into the results.
    """

    emit: str = "every"
    idle_after: int | None = None
    on_model_change: str = "error"
    replay: int = 0
    with_state: bool = False

    @property
    def shows_history(self) -> bool:
        """Whether a sequence that ends shows the inputs that were kept."""
        return self.with_state and self.replay > 0


SWEPT_FROM = 4
"""So many records of a key are worth a sweep; fewer are stepped one after the other."""
SWEPT_AT_MOST = 16_384
"""So many records are in one sweep, which holds the hidden state after each."""


class Stepper:
    """Steps one key at a time; the same records give the same results, whoever steps them.

    Args:
        loader: Where the models come from; the newest one begins sequences.
        policy: What happens to a sequence.
    """

    def __init__(self, loader: ModelLoader, policy: Policy):
        self._loader = loader
        self.library = loader.library()
        self.policy = policy
        columns = self.library.newest.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        self.columns = columns
        self._inferences = Metrics.counter("beam_rnn", "num_inferences")
        self._micros = Metrics.distribution("beam_rnn", "inference_batch_latency_micro_secs")
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")
        self._ended = Metrics.counter("beam_rnn", "sequences_ended")
        self._model_changes = Metrics.counter("beam_rnn", "model_changes")
        self._unknown = Metrics.counter("beam_rnn", "keys_unknown")
        self._said_unknown = False

    def refresh(self) -> None:
        """Look for a newer model, if it is time."""
        self._loader.start_bundle()

    def use(self, models: Iterable[str]) -> None:
        """Take the last of these files, by name, as the newest model."""
        self.library.use(models)

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """The state after the records, and what came of them.

        Args:
            key: The key.
            data: Its state so far; None before its first step.
            records: Its next records, encoded, in order.
        """
        if not records:
            return data, []
        state = None if data is None else decode_state(data)
        if state is None or not state.steps:
            self.count_unknown([key])
        else:
            self.check_fits(key, state)
        return self._advance(key, state, records)

    def check_fits(self, key: str, state: KeyState) -> None:
        """That a state has the size of the newest model, if it says that it is of that.

        Raises:
            StateError: It has another; none that was computed here does.
        """
        model = self.library.newest.of(key)
        if model is None or not made_by(state, model):
            return
        found, size = (len(state.values), len(state.outputs)), (model.state_size, model.outputs)
        if found != size:
            raise StateError(
                f"the state of key {key!r} has {found[0]} numbers and {found[1]} outputs, its "
                f"model {model.digest} has {size[0]} and {size[1]}: export it again, or leave it "
                "out of what is imported"
            )

    def advance(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """As `step`, of a key that was counted when it began."""
        if not records:
            return data, []
        return self._advance(key, None if data is None else decode_state(data), records)

    def _advance(
        self, key: str, state: KeyState | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        results: list[Step] = []
        for start in range(0, len(records), SWEPT_AT_MOST):
            started = clock.perf_counter()
            part = records[start : start + SWEPT_AT_MOST]
            swept = self._sweep(key, state, part) if len(part) >= SWEPT_FROM else None
            state, came_out, steps = swept or self._one_by_one(key, state, part)
            if start:
                came_out = [step._replace(record=start + step.record) for step in came_out]
            results += came_out
            self.count(steps, started)
        return (None if state is None else encode_state(state)), results

    def stepped(self, key: str, state: KeyState | None, record: BufferedRecord) -> KeyState | None:
        """The state after one record, of which nothing comes out; None if it cannot be stepped."""
        model, base, _ = self._steps(key, state, record)
        after = None if model is None else self._after(key, model, base, record)
        return _ended(after) if record.ends else after

    def count_unknown(self, keys: Iterable[str]) -> None:
        """Count keys that begin, and that training did not see, where it told keys apart."""
        newest = self.library.newest
        known: Mapping[str, Any]
        if isinstance(newest, KeyedModels):
            known, instead = newest.models, "the model of all others is theirs"
        else:
            known = {} if newest.scaler is None else newest.scaler.keys
            instead = "they are scaled by the statistics of all"
        unknown = [key for key in keys if key not in known] if known else []
        if not unknown:
            return
        self._unknown.inc(len(unknown))
        if not self._said_unknown:
            self._said_unknown = True
            logger.warning(
                "training did not see the key %r, perhaps others: %s; the metric keys_unknown "
                "counts them",
                unknown[0],
                instead,
            )

    def count(self, steps: int, started: float) -> None:
        """Count steps that began at a time of `time.perf_counter`."""
        if steps:
            self._inferences.inc(steps)
            self._micros.update(int((clock.perf_counter() - started) * 1e6))

    def _one_by_one(
        self, key: str, state: KeyState | None, records: Sequence[bytes]
    ) -> tuple[KeyState | None, list[Step], int]:
        """The state after the records, what came of them, and how many steps that were."""
        results: list[Step] = []
        steps = 0
        for i, record in enumerate(map(decode_record, records)):
            model, base, reason = self._steps(key, state, record)
            if model is None and reason == "model" and state is not None:  # the key lost its model
                self._model_changes.inc()
                state = self._end(key, state, reason, i, record.time, results)
            after = None if model is None else self._after(key, model, base, record)
            if after is None:  # everything stays as if the record had never been sent
                why = _NOBODY_S if model is None else _POISON
                results.append(self._refused(key, i, record, why))
                continue
            if state is not None and reason is not None:
                self._end(key, state, reason, i, record.time, results)
            if reason == "model" or (base is not state and reason is None):
                self._model_changes.inc()
            state, steps = after, steps + 1
            if self.policy.emit == "every":
                results.append(Step(i, record.time, self._prediction(key, state, record)))
            if record.ends:
                state = self._end(key, state, "end", i, record.time, results)
        return state, results, steps

    def _sweep(
        self, key: str, state: KeyState | None, records: Sequence[bytes]
    ) -> tuple[KeyState | None, list[Step], int] | None:
        """`_one_by_one`, all at once; None for a key that needs that."""
        model = self.library.newest.of(key)
        if model is None or (state is not None and state.steps and not made_by(state, model)):
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
        steps, first_time, time, sequence, values, outputs = (part[0] for part in swept.after)
        return (
            KeyState(
                model.digest,
                model.kernel,
                int(steps),
                int(first_time),
                int(time),
                int(sequence),
                values if steps else _NO_VALUES,
                outputs if steps else _NO_NUMBERS,
                self._history(state, rows, int(steps)),
            ),
            results,
            len(records),
        )

    def _predictions(self, key: str, model: Model, rows: Records, swept: Swept) -> list[Step]:
        """A prediction for each record."""
        times = rows.time.tolist()
        made = map(
            Prediction,
            repeat(key),
            times,
            swept.step.tolist(),
            swept.outputs.tolist(),
            repeat(model.digest),
            self._shown_each(swept),
            rows.sequence.tolist(),
            repeat(model.kernel),
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
        """The predictions, and what came of each sequence that ended, in their order."""
        placed = [((step.record, 1), step) for step in predictions]
        ended = self.ended_in_sweep([key], model, before, rows, swept)
        for step, reason in zip(ended, swept.ended.reason, strict=True):
            place = step[-1].record, 2 if reason == "end" else 0  # after its prediction, or before
            placed += [(place, part) for part in step]
        return [step for _, step in sorted(placed, key=itemgetter(0))]

    def ended_in_sweep(
        self, keys: Sequence[str], model: Model, before: Standing, rows: Records, swept: Swept
    ) -> Iterator[list[Step]]:
        """What came of each sequence that ended in a sweep of these keys."""
        for key, at, reason, last, steps, first_time in zip(*swept.ended, strict=True):
            if last >= 0:
                time, sequence = int(swept.latest[last]), int(rows.sequence[last])
                values, outputs = swept.values(last), swept.outputs[last]
            else:
                time, sequence = int(before.time[key]), int(before.sequence[key])
                values, outputs = before.values[key], before.outputs[key]
            state = KeyState(
                model.digest,
                model.kernel,
                int(steps),
                int(first_time),
                time,
                sequence,
                values,
                outputs,
                _NO_NUMBERS,
            )
            came_out: list[Step] = []
            self._end(keys[key], state, reason, int(at), int(rows.time[at]), came_out)
            yield came_out

    def _history(self, state: KeyState | None, rows: Records, steps: int) -> Array:
        """The last inputs of a sequence that goes on and has had so many steps."""
        kept = self.policy.replay
        if not kept or not steps:
            return _NO_NUMBERS
        here = rows.inputs[-steps:].ravel()
        before = state.history if state is not None and steps > len(rows.time) else _NO_NUMBERS
        return np.concatenate([before, here])[-kept * rows.inputs.shape[1] :]

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """What comes of a key whose state is removed."""
        results: list[Step] = []
        if data is not None:
            state = decode_state(data)
            if state.steps:
                self._end(key, state, reason, -1, state.time, results)
        return results

    def count_ended(self, sequences: int) -> None:
        """Count sequences that ended."""
        if sequences:
            self._ended.inc(sequences)

    def _steps(
        self, key: str, state: KeyState | None, record: BufferedRecord
    ) -> tuple[Model | None, KeyState | None, str | None]:
        """What steps a record: as `_goes_on`, of a record with which a sequence may begin."""
        reason = self._ends_before(state, record)
        if reason is not None:
            return self.library.newest.of(key), _ended(state), reason
        return self._goes_on(key, state)

    def _goes_on(
        self, key: str, state: KeyState | None
    ) -> tuple[Model | None, KeyState | None, str | None]:
        """What steps the next record of a sequence.

        The model, None if the key has none; the state from which it steps; and why the sequence
        ends first, None if it does not.
        """
        newest = self.library.newest.of(key)
        if state is None or not state.steps or (newest is not None and made_by(state, newest)):
            return newest, state, None
        policy = self.policy.on_model_change
        if policy == "error":
            here = "none here is the key's"
            if newest is not None:
                here = f"the model here is {newest.digest} with {newest.kernel}"
            raise StateError(
                f"stored state was made by the model {state.digest} with the kernel "
                f"{state.kernel}, {here}: go on with the old weights and Predict(kernel=...), "
                "start the job without its old state, or say Predict(on_model_change='keep'), "
                "'reset' or 'replay'"
            )
        if policy == "keep":
            return self.library.made_by(state.digest, state.kernel), state, None
        replayed = None
        if policy == "replay" and newest is not None:
            replayed = self._replayed(key, newest, state)
        return newest, replayed or _ended(state), None if replayed else "model"

    def _replayed(self, key: str, model: Model, state: KeyState) -> KeyState | None:
        """The state of a model after it stepped the kept inputs; None if it can step none.

        An input that it cannot step is left out, as it would have been then.
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

    def _ends_before(self, state: KeyState | None, record: BufferedRecord) -> str | None:
        """Why a sequence ends before a record; None if the record belongs to it."""
        if state is None or not state.steps:
            return None
        idle_after = self.policy.idle_after
        if idle_after is not None and record.time - state.time > idle_after:
            return "idle"
        return "start" if record.starts else None

    def _end(
        self, key: str, state: KeyState, reason: str, record: int, now: int, results: list[Step]
    ) -> KeyState:
        """Say what came of a sequence; what is left is the place that it reached."""
        shown = self._shown(state.values)
        outputs = state.outputs.tolist()
        digest, kernel, steps, first_time, time, sequence, *_ = state
        if self.policy.emit == "last":
            last = Prediction(key, time, steps, outputs, digest, shown, sequence, kernel)
            results.append(Step(record, now, last))
        facts = (key, steps, first_time, time, outputs, reason, digest, shown, sequence, kernel)
        history = self._shown(state.history.astype("<f8", copy=False))
        results.append(Step(record, now, EndedSequence(*facts, history)))
        self._ended.inc()
        return state._replace(
            steps=0, first_time=time, values=_NO_VALUES, outputs=_NO_NUMBERS, history=_NO_NUMBERS
        )

    def _after(
        self, key: str, model: Model, state: KeyState | None, record: BufferedRecord
    ) -> KeyState | None:
        """The state after one record; None if the step leaves the range of numbers."""
        goes_on = state is not None and state.steps > 0
        values = state.values if state is not None and goes_on else model.initial_state()[0]
        with default_arithmetic():
            x = model.scaled(key, record.numbers)[np.newaxis].astype(np.float32)
            after, y = model.step(values[np.newaxis], x)
            outputs = model.restored(key, y[0])
        if np.isinf(x).any() or not (np.isfinite(after).all() and np.isfinite(outputs).all()):
            return None
        steps, first_time, before, history = 1, record.time, _NO_NUMBERS, _NO_NUMBERS
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
            after[0],
            outputs,
            history,
        )

    def _prediction(self, key: str, state: KeyState, record: BufferedRecord) -> Prediction:
        """What the model says after a record."""
        return Prediction(
            key,
            record.time,
            state.steps,
            state.outputs.tolist(),
            state.digest,
            self._shown(state.values),
            record.sequence,
            state.kernel,
        )

    def _refused(self, key: str, place: int, record: BufferedRecord, reason: str) -> Step:
        """The dead letter of a record that could be read, but not be stepped."""
        self._invalid.inc()
        letter = poisoned(key, record.time, record.numbers, reason)
        return Step(place, record.time, letter)

    def _shown_each(self, swept: Swept) -> Iterable[bytes]:
        """The hidden state after each record as a result shows it."""
        if not self.policy.with_state:
            return repeat(b"")
        return map(self._shown, swept.values(slice(None)))

    def _shown(self, values: Array) -> bytes:
        """The hidden state as a result shows it."""
        return values.tobytes() if self.policy.with_state else b""


def _ended(state: KeyState | None) -> KeyState | None:
    """The state from which the next sequence begins."""
    return None if state is None else state._replace(steps=0)


def standing(state: KeyState | None, model: Model) -> Standing:
    """Where one key is, as a sweep takes it."""
    if state is None:
        state = KeyState("", "", 0, 0, LONG_AGO, 0, _NO_VALUES, _NO_NUMBERS, _NO_NUMBERS)
    values, outputs = state.values, state.outputs
    if not state.steps:
        values, outputs = np.zeros(model.state_size, np.float32), np.zeros(model.outputs)
    return Standing(
        steps=np.array([state.steps]),
        first_time=np.array([state.first_time]),
        time=np.array([state.time]),
        sequence=np.array([state.sequence]),
        values=values[np.newaxis],
        outputs=outputs[np.newaxis],
    )


def records_of(records: Sequence[bytes]) -> Records:
    """The records of one key, in order, as a sweep takes them."""
    time, sequence, starts, ends, numbers = decode_records(records)
    return Records(np.array([len(records)]), time, sequence, starts, ends, numbers)


def made_by(state: KeyState, model: Model) -> bool:
    """Whether a model, computed as here, made a state."""
    return (state.digest, state.kernel) == (model.digest, model.kernel)


@dataclass(frozen=True)
class PredictSteps:
    """Makes a `Stepper` on a worker.

    Args:
        loader: Where the models come from.
        policy: What happens to a sequence.
    """

    loader: ModelLoader
    policy: Policy

    def stepper(self) -> Stepper:
        """A new one; the model is loaded once a process."""
        return Stepper(self.loader, self.policy)
