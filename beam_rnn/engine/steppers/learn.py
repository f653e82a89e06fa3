"""Predicts each record of a key, then learns from it: a model of each key."""

import time as clock
from collections.abc import Sequence

from beam_rnn.engine.stepper import OVERFLOWED, Counters, Step, Stepper
from beam_rnn.models.model import Model
from beam_rnn.records.record_format import BufferedRecord, decode_record
from beam_rnn.records.results import EndedSequence, Prediction
from beam_rnn.training.online.learned_format import (
    Learned,
    Place,
    decode_learned,
    encode_learned,
    fingerprint_of,
    name_of,
)
from beam_rnn.training.online.prequential import Prequential
from beam_rnn.training.online.settings import Learning


class LearnStepper(Stepper):
    """Predicts and learns where `beam_rnn.engine.steppers.predict.PredictStepper` only predicts.

    Args:
        model: The base model, with which each key begins.
        learning: How it learns.
        idle_after: A key is forgotten when its next record is more than this number of microseconds
            after its last one; None for never.
        checkpoint_every: Emit the model after every `checkpoint_every` updates, and when a sequence
            ends; None for never.
        counters: Where steps and updates are counted.
    """

    def __init__(
        self,
        model: Model,
        learning: Learning,
        idle_after: int | None,
        checkpoint_every: int | None,
        counters: Counters,
    ):
        columns = model.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        columns.check_nothing_missing("what is learned in the stream")
        super().__init__(columns, counters, idle_after)
        self._prequential = Prequential(model, learning)
        self._new = self._prequential.begin()
        fingerprint = fingerprint_of(learning, self._prequential.rescaling.running)
        self._here = Place(model.digest, model.kernel, fingerprint, 0, 0, 0)
        self._every = checkpoint_every

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """Return the state of a key after its next records, and their results."""
        if not records:
            return data, []
        started = clock.perf_counter()
        place, state = self._decoded(data)
        results: list[Step] = []
        for i, encoded in enumerate(records):
            record = decode_record(encoded)
            reason = self._why_ended(place, state, record)
            before = (
                state if reason is None else self._left(self._prequential.finish(state), reason)
            )
            after = self._prequential.take(before, key, record.numbers)
            if after is None:  # everything stays as if the record had never been sent
                results.append(self._refused(i, key, record))
                continue
            if reason is not None:
                self._end(key, place, state, Step(i, record.time, reason), results)
            state = before
            first_time = place.first_time if state.steps else record.time
            latest = record.time if place is self._here else max(place.time, record.time)
            place = place._replace(first_time=first_time, time=latest, sequence=record.sequence)
            results.append(Step(i, record.time, self._prediction(key, record, place, after)))
            self._count(state, after)
            if self._every and after.updates > state.updates and not after.updates % self._every:
                results.append(Step(i, record.time, (key, self._prequential.checkpoint(after))))
            state = after
            if record.ends:
                state = self._end(key, place, state, Step(i, record.time, "end"), results)
        self.count_steps(sum(isinstance(step.result, Prediction) for step in results), started)
        learned_or_placed = state.steps or state is not self._new or data is not None
        return (encode_learned(place, state) if learned_or_placed else None), results

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """Return the last results of a key whose state is removed."""
        results: list[Step] = []
        place, state = self._decoded(data)
        if state.steps:
            self._end(key, place, state, Step(-1, place.time, reason), results)
        return results

    def _decoded(self, data: bytes | None) -> tuple[Place, Learned]:
        if data is None:
            return self._here, self._new
        return decode_learned(data, self._new, self._here)

    def _why_ended(self, place: Place, state: Learned, record: BufferedRecord) -> str | None:
        """Return why a key's sequence ends before a record; None if the record belongs to it.

        A key between two sequences can be idle, too: it forgets what it learned.
        """
        if place is self._here:
            return None
        starts = record.starts and state.steps > 0
        return self._ends_before(place.time, record.time, starts=starts)

    def _end(
        self, key: str, place: Place, state: Learned, ended: Step, results: list[Step]
    ) -> Learned:
        """Learn from what is left, and add the ended sequence; return the state after it."""
        after = self._prequential.finish(state)
        self._count(state, after)
        if state.steps:
            row = EndedSequence(
                key=key,
                steps=state.steps,
                first_time=place.first_time,
                last_time=place.time,
                outputs=state.outputs.tolist(),
                reason=ended.result,
                model=name_of(place.digest, state.made_by),
                state=b"",
                sequence=place.sequence,
                kernel=place.kernel,
            )
            results.append(ended._replace(result=row))
            self._counters.count("sequences_ended")
            if self._every and after.updates:
                results.append(ended._replace(result=(key, self._prequential.checkpoint(after))))
        return self._left(after, ended.result)

    def _left(self, finished: Learned, reason: str) -> Learned:
        """Return what is kept after a sequence: what was learned.

        An idle key is forgotten as a whole, as it is when the watermark shows that it was idle.
        """
        return self._new if reason == "idle" else self._prequential.new_sequence(finished)

    def _prediction(
        self, key: str, record: BufferedRecord, place: Place, state: Learned
    ) -> Prediction:
        return Prediction(
            key=key,
            time=record.time,
            step=state.steps,
            outputs=state.outputs.tolist(),
            model=name_of(place.digest, state.made_by),
            state=b"",
            sequence=place.sequence,
            kernel=place.kernel,
        )

    def _refused(self, place: int, key: str, record: BufferedRecord) -> Step:
        """Return the dead letter of a record."""
        reason = self._prequential.rescaling.problem(record.numbers) or OVERFLOWED
        inputs = record.numbers[: self.columns.number_size]
        return self._dead_letter(place, key, record.time, inputs, reason)

    def _count(self, before: Learned, after: Learned) -> None:
        for name, was, now in (
            ("updates", before.updates, after.updates),
            ("updates_refused", before.refused, after.refused),
            ("model_restarts", before.restarts, after.restarts),
        ):
            if now > was:
                self._counters.count(name, now - was)
