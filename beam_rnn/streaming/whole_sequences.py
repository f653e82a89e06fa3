"""Whole sequences of records through a model: those of a key and window, once all are there."""

import time as clock
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.core.arrays import Array
from beam_rnn.core.external_sort import sorted_on_disk
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.core.packed_sequences import last_rows, rows_of, running_at
from beam_rnn.engine.stepper import NO_MODEL, OVERFLOWED
from beam_rnn.models.bidirectional import both_directions
from beam_rnn.models.model import Model
from beam_rnn.records.record_format import decode_block, decode_record, decode_records
from beam_rnn.records.results import INVALID, EndedSequence, InvalidRecord, Prediction, poisoned
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.outputs import ENDED

STEPS_AT_ONCE = 16_384
"""The number of steps in a batch of sequences; a longer sequence is a batch by itself."""


class Whole(NamedTuple):
    """A sequence: a row a record, and why it ended.

    Attributes:
        key: The key.
        time: (steps,), in microseconds since 1970.
        sequence: (steps,).
        numbers: (steps, numbers), as recorded.
        reason: As `EndedSequence.reason`.
    """

    key: str
    time: Array
    sequence: Array
    numbers: Array
    reason: str


def outputs_of(model: Model, sequences: Sequence[Array]) -> list[Array | None]:
    """Return the outputs of whole sequences, which have the same bits in every batch.

        >>> from beam_rnn.nn.network import Network
        >>> network = Network("gru", hidden=4)
        >>> model = Model(network, network.initialize(inputs=2, outputs=1, seed=0))
        >>> [len(y) for y in outputs_of(model, [np.ones((3, 2)), np.ones((5, 2))])]
        [3, 5]

    Args:
        model: The model.
        sequences: (steps, inputs) of each, scaled; at least one step.

    Returns:
        y of each, scaled: (steps, outputs), or (1, outputs) of a network with
        output_steps="last"; None for a sequence that overflowed.
    """
    lengths = np.array([len(x) for x in sequences])
    order = np.argsort(-lengths, kind="stable")
    running = running_at(lengths[order], int(lengths.max()))
    steps, rank = rows_of(running)
    first = np.cumsum(lengths) - lengths
    row = first[order][rank] + steps  # of each packed row, the place of its step
    with default_arithmetic():
        x = np.concatenate(sequences).astype(np.float32)[row]
        y, finite = _run(model, x, running)
    last = model.network.output_steps == "last"
    outputs = np.empty_like(y)
    outputs[order if last else row] = y
    ends = np.arange(1, len(lengths)) if last else first[1:]
    usable = np.empty(len(lengths), bool)
    usable[order] = finite
    parts = np.split(outputs, ends)
    return [part if good else None for part, good in zip(parts, usable, strict=True)]


def _run(model: Model, x: Array, running: Array) -> tuple[Array, Array]:
    """As `BothDirections.run`, of a model of one direction or of both."""
    if model.network.bidirectional:
        return both_directions(model).run(x, running)
    batch = int(running[0])
    y, states = model.advance(model.initial_state(batch), x, running)
    _, sequences = rows_of(running)
    left = ~np.isfinite(y).all(1) | ~np.isfinite(states).all(1) | np.isinf(x).any(1)
    if model.network.output_steps == "last":
        y = y[last_rows(np.bincount(sequences), running)]
    return y, np.bincount(sequences[left], minlength=batch) == 0


def usable_steps(model: Model, x: Array) -> Array:
    """Return the steps of a sequence that can be used: without those that overflow.

    Such a step is the last one of the shortest beginning that overflows. The others are as if it
    had never been there.
    """
    with default_arithmetic():
        kept = np.flatnonzero(~np.isinf(x.astype(np.float32)).any(1))
    while len(kept) and outputs_of(model, [x[kept]])[0] is None:
        kept = np.delete(kept, _overflowing(model, x[kept]))
    return kept


def _overflowing(model: Model, x: Array) -> int:
    """Return the last step of the shortest beginning that overflows, by bisection."""
    good, bad = 0, len(x)  # steps of a beginning that does not overflow, and of one that does
    while bad - good > 1:
        middle = (good + bad) // 2
        left = outputs_of(model, [x[:middle]])[0] is None
        good, bad = (good, middle) if left else (middle, bad)
    return bad - 1


def whole_sequences(
    key: str, records: Iterable[bytes], idle_after: int | None, until: int
) -> Iterator[Whole]:
    """Yield the sequences of a key, from its records in any order; equal ones count once.

    Args:
        key: The key.
        records: Its records, encoded.
        idle_after: A sequence ends when its next record is more than this number of microseconds
            after its last one; None for never.
        until: The end of the Beam window, in microseconds since 1970.
    """
    kept: list[bytes] = []
    reached = 0
    with sorted_on_disk(records) as (ordered, _):
        for data in ordered:
            time, _, starts, ends, _ = decode_record(data)
            idle = idle_after is not None and time - reached > idle_after
            if kept and (idle or starts):
                yield _whole(key, kept, "idle" if idle else "start")
                kept = []
            kept.append(data)
            reached = time
            if ends:
                yield _whole(key, kept, "end")
                kept = []
        if kept:
            idle = idle_after is not None and reached + idle_after < until
            yield _whole(key, kept, "idle" if idle else "window")


def _whole(key: str, records: list[bytes], reason: str) -> Whole:
    time, sequence, _, _, numbers = decode_records(records)
    return Whole(key, time, sequence, numbers, reason)


class _Held(NamedTuple):
    """A sequence that waits for others, and its timestamp and window."""

    whole: Whole
    model: Model
    timestamp: Any
    window: Any


class PredictWhole(beam.DoFn):
    """Runs the whole sequences of a bundle, many at once; what comes out has its window.

    Args:
        loader: Where the model comes from.
        emit: "every": a prediction for each record; "last": one for each sequence.
        idle_after: When a sequence ends, in microseconds; None for never.
    """

    def __init__(self, loader: ModelLoader, emit: str, idle_after: int | None):
        self._loader = loader
        self._emit = emit
        self._idle_after = idle_after
        self._inferences = Metrics.counter("beam_rnn", "num_inferences")
        self._micros = Metrics.distribution("beam_rnn", "inference_batch_latency_micro_secs")
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")
        self._ended = Metrics.counter("beam_rnn", "sequences_ended")

    def setup(self) -> None:
        """Loads the model."""
        self._library = self._loader.library()

    def start_bundle(self) -> None:
        """Nothing is held from one bundle to the next."""
        self._loader.start_bundle()
        self._held: list[_Held] = []
        self._steps = 0

    def process(
        self,
        element: tuple[str, Iterable[bytes]],
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        """A key and all its records in; predictions of this and other keys out, now and then."""
        key, blocks = element
        records = (record for block in blocks for record in decode_block(block, 0)[0])
        model = self._library.newest.of(key)
        until = int(window.max_timestamp().micros)
        for whole in whole_sequences(key, records, self._idle_after, until):
            if model is None:
                for row in self._refused(whole, np.arange(len(whole.time)), NO_MODEL):
                    yield TaggedOutput(INVALID, WindowedValue(row, timestamp, [window]))
                continue
            self._held.append(_Held(whole, model, timestamp, window))
            self._steps += len(whole.time)
            if self._steps >= STEPS_AT_ONCE:
                yield from self.finish_bundle()

    def finish_bundle(self) -> Iterator[Any]:
        """Run all sequences that wait."""
        by_model: dict[Model, list[_Held]] = {}
        for held in self._held:
            by_model.setdefault(held.model, []).append(held)
        self._held, self._steps = [], 0
        for model, some in by_model.items():
            started = clock.perf_counter()
            scaled = [model.scaled(held.whole.key, held.whole.numbers) for held in some]
            outputs = outputs_of(model, scaled)
            self._micros.update(int((clock.perf_counter() - started) * 1e6))
            for held, x, y in zip(some, scaled, outputs, strict=True):
                for row in self._rows(model, held.whole, x, y):
                    tag = _TAGS.get(type(row))
                    value = WindowedValue(row, held.timestamp, [held.window])
                    yield value if tag is None else TaggedOutput(tag, value)

    def _rows(self, model: Model, whole: Whole, x: Array, y: Array | None) -> Iterator[Any]:
        """Yield the results of a sequence."""
        if y is None:
            kept = usable_steps(model, x)
            yield from self._refused(whole, np.setdiff1d(np.arange(len(x)), kept), OVERFLOWED)
            if not len(kept):
                return
            (y,) = outputs_of(model, [x[kept]])
            assert y is not None, "these steps can be used"
            whole = whole._replace(
                time=whole.time[kept], sequence=whole.sequence[kept], numbers=whole.numbers[kept]
            )
        outputs = model.restored(whole.key, y).tolist()
        steps, times, numbers = len(whole.time), whole.time.tolist(), whole.sequence.tolist()
        self._inferences.inc(steps)
        self._ended.inc()
        first = 0 if self._emit == "every" and len(outputs) == steps else steps - 1
        yield from Prediction.many(
            key=repeat(whole.key),
            time=times[first:],
            step=range(first + 1, steps + 1),
            outputs=outputs[first - steps :],
            model=repeat(model.digest),
            sequence=numbers[first:],
            kernel=repeat(model.kernel),
        )
        yield EndedSequence(
            key=whole.key,
            steps=steps,
            first_time=times[0],
            last_time=times[-1],
            outputs=outputs[-1],
            reason=whole.reason,
            model=model.digest,
            state=b"",
            sequence=numbers[-1],
            kernel=model.kernel,
        )

    def _refused(self, whole: Whole, places: Array, reason: str) -> Iterator[InvalidRecord]:
        """Yield the dead letters of records."""
        self._invalid.inc(len(places))
        for place in places:
            yield poisoned(whole.key, int(whole.time[place]), whole.numbers[place], reason)


_TAGS = {InvalidRecord: INVALID, EndedSequence: ENDED}
