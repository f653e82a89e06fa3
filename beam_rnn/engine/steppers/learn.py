"""One key's model, learned from records that are in order while it predicts them."""

import time as clock
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apache_beam.metrics import Metrics

from beam_rnn.core.errors import WeightsError
from beam_rnn.data.columns import Columns
from beam_rnn.engine.stepper import Step
from beam_rnn.models.model import Model
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_format import BufferedRecord, decode_record
from beam_rnn.records.results import EndedSequence, Prediction, poisoned
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.training.online.learned_format import (
    Learned,
    Place,
    decode_learned,
    encode_learned,
    fingerprint_of,
    name_of,
)
from beam_rnn.training.online.prequential import Prequential
from beam_rnn.training.online.settings import Learning, Untrained


@dataclass(frozen=True)
class Base:
    """Where the base model comes from, on a worker.

    Args:
        source: A weights file, or a model that has learned nothing yet.
        kernel: What computes: see `beam_rnn.nn.kernels.KERNELS`.
    """

    source: ModelLoader | Untrained
    kernel: str

    def model(self) -> Model:
        """The base model.

        Raises:
            WeightsError: The file holds models of keys.
        """
        if isinstance(self.source, Untrained):
            return self.source.model(self.kernel)
        newest = self.source.library().newest
        if not isinstance(newest, Model):
            raise WeightsError(
                f"{self.source.pattern!r} holds models of {len(newest.models)} keys, what is "
                "learned in the stream begins from one model: give the file of one"
            )
        return newest

    def report(self) -> None:
        """Count the load of a weights file."""
        if isinstance(self.source, ModelLoader):
            self.source.start_bundle()

    def columns(self) -> Columns:
        """Its columns."""
        columns = self.model().columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        columns.check_nothing_missing("what is learned in the stream")
        return columns

    def reader(self) -> ColumnReader:
        """What reads records with their targets."""
        return ColumnReader(self.columns(), targets=True)


class LearningStepper:
    """Predicts and learns where `beam_rnn.engine.steppers.predict.Stepper` predicts alone.

    Args:
        base: The model that each key begins with.
        learning: How it learns.
        idle_after: A key is forgotten when its next record is more than so many microseconds
            after its last one; None for never.
        checkpoint_every: Give the model after every so many updates, and when a sequence ends;
            None for never.
    """

    def __init__(
        self,
        base: Base,
        learning: Learning,
        idle_after: int | None,
        checkpoint_every: int | None,
    ):
        model = base.model()
        self._base = base
        self.columns = base.columns()
        self._prequential = Prequential(model, learning)
        self._new = self._prequential.begin()
        fingerprint = fingerprint_of(learning, self._prequential.rescaling.running)
        self._here = Place(model.digest, model.kernel, fingerprint, 0, 0, 0)
        self._idle_after = idle_after
        self._every = checkpoint_every
        self._inferences = Metrics.counter("beam_rnn", "num_inferences")
        self._micros = Metrics.distribution("beam_rnn", "inference_batch_latency_micro_secs")
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")
        self._ended = Metrics.counter("beam_rnn", "sequences_ended")
        self._updates = Metrics.counter("beam_rnn", "updates")
        self._refused = Metrics.counter("beam_rnn", "updates_refused")
        self._restarts = Metrics.counter("beam_rnn", "model_restarts")

    def refresh(self) -> None:
        """The base model stays what it is; that it was loaded is counted."""
        self._base.report()

    def use(self, models: Iterable[str]) -> None:
        """The base model stays what it is."""

    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """The state after the records, and what came of them."""
        if not records:
            return data, []
        started = clock.perf_counter()
        place, state = self._decoded(data)
        results: list[Step] = []
        for i, encoded in enumerate(records):
            record = decode_record(encoded)
            reason = self._ends_before(place, state, record)
            before = (
                state if reason is None else self._left(self._prequential.finish(state), reason)
            )
            after = self._prequential.take(before, key, record.numbers)
            if after is None:  # everything stays as if the record had never been sent
                results.append(Step(i, record.time, self._dead_letter(key, record)))
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
        self._inferences.inc(sum(isinstance(step.result, Prediction) for step in results))
        self._micros.update(int((clock.perf_counter() - started) * 1e6))
        learned_or_placed = state.steps or state is not self._new or data is not None
        return (encode_learned(place, state) if learned_or_placed else None), results

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """What comes of a key whose state is removed."""
        results: list[Step] = []
        place, state = self._decoded(data)
        if state.steps:
            self._end(key, place, state, Step(-1, place.time, reason), results)
        return results

    def _decoded(self, data: bytes | None) -> tuple[Place, Learned]:
        if data is None:
            return self._here, self._new
        return decode_learned(data, self._new, self._here)

    def _ends_before(self, place: Place, state: Learned, record: BufferedRecord) -> str | None:
        """Why a sequence ends before a record; None if the record belongs to it."""
        idle_after = self._idle_after
        if place is self._here:
            return None
        if idle_after is not None and record.time - place.time > idle_after:
            return "idle"
        return "start" if record.starts and state.steps else None

    def _end(
        self, key: str, place: Place, state: Learned, ended: Step, results: list[Step]
    ) -> Learned:
        """Learn what is left, and say what came of a sequence; gives what is left after it."""
        after = self._prequential.finish(state)
        self._count(state, after)
        name = name_of(place.digest, state.made_by)
        if state.steps:
            row = EndedSequence(
                key,
                state.steps,
                place.first_time,
                place.time,
                state.outputs.tolist(),
                ended.result,
                name,
                b"",
                place.sequence,
                place.kernel,
            )
            results.append(ended._replace(result=row))
            self._ended.inc()
            if self._every and after.updates:
                results.append(ended._replace(result=(key, self._prequential.checkpoint(after))))
        return self._left(after, ended.result)

    def _left(self, finished: Learned, reason: str) -> Learned:
        """What is left after a sequence: what was learned.

        An idle key is forgotten as a whole, as it is when the watermark says so.
        """
        return self._new if reason == "idle" else self._prequential.new_sequence(finished)

    def _prediction(
        self, key: str, record: BufferedRecord, place: Place, state: Learned
    ) -> Prediction:
        name = name_of(place.digest, state.made_by)
        outputs = state.outputs.tolist()
        return Prediction(
            key, record.time, state.steps, outputs, name, b"", place.sequence, place.kernel
        )

    def _dead_letter(self, key: str, record: BufferedRecord) -> object:
        self._invalid.inc()
        reason = self._prequential.rescaling.problem(record.numbers) or (
            "the step left the range of numbers; the state before it was kept"
        )
        inputs = record.numbers[: self.columns.number_size]
        return poisoned(key, record.time, inputs, reason)

    def _count(self, before: Learned, after: Learned) -> None:
        for counter, name in (
            (self._updates, "updates"),
            (self._refused, "refused"),
            (self._restarts, "restarts"),
        ):
            if getattr(after, name) > getattr(before, name):
                counter.inc(getattr(after, name) - getattr(before, name))


@dataclass(frozen=True)
class LearnSteps:
    """Makes a `LearningStepper` on a worker."""

    base: Base
    learning: Learning
    idle_after: int | None
    checkpoint_every: int | None

    def stepper(self) -> LearningStepper:
        """A new one."""
        return LearningStepper(self.base, self.learning, self.idle_after, self.checkpoint_every)
