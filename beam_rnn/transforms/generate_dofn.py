"""Generates after prompts: the records of each key and window in, rows out."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.engine.stepper import NO_MODEL, OVERFLOWED
from beam_rnn.models.generator import Continuation, Generation, Generator, Prompt
from beam_rnn.models.model import Model
from beam_rnn.records.cutting import last_sequence
from beam_rnn.records.record_format import decode_block, decode_record, decode_records
from beam_rnn.records.results import INVALID, Generated, InvalidRecord, poisoned
from beam_rnn.streaming.model_loader import ModelLoader

RECORDS_HELD_AT_MOST = 65_536
"""Maximum number of prompt records that are held before sequences are generated."""


class _Held(NamedTuple):
    """A prompt, with its timestamp and windows."""

    prompt: Prompt
    timestamp: Any
    windows: Any


class GenerateSequences(beam.DoFn):
    """Generates after the prompts of a bundle, those of a model together.

    Takes a key and the blocks of its records; dead letters go to `INVALID`.

    Args:
        loader: Where the model comes from.
        how: How sequences are generated.
    """

    def __init__(self, loader: ModelLoader, how: Generation):
        self._loader = loader
        self._how = how
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")
        self._generated = Metrics.counter("beam_rnn", "sequences_generated")

    def setup(self) -> None:
        """Load the model, and check that it can generate."""
        self._how.check(self._loader.library().newest)

    def start_bundle(self) -> None:
        """Hold nothing from one bundle to the next."""
        self._models = self._loader.start_bundle().newest
        self._held: dict[str, tuple[Model, list[_Held]]] = {}
        self._records = 0

    def process(
        self,
        element: tuple[str, Iterable[bytes]],
        windowed: Any = beam.DoFn.WindowedValueParam,
    ) -> Iterator[Any]:
        """Hold a prompt; yield sequences and dead letters once there are many."""
        key, blocks = element
        last = last_sequence(record for block in blocks for record in decode_block(block, 0)[0])
        model = self._models.of(key)
        if model is None:
            for data in last:
                record = decode_record(data)
                letter = poisoned(key, record.time, record.numbers, NO_MODEL)
                yield self._letter(letter, windowed.timestamp, windowed.windows)
            return
        times, *_, numbers = decode_records(last)
        held = _Held(Prompt(key, times, numbers), windowed.timestamp, windowed.windows)
        self._held.setdefault(model.digest, (model, []))[1].append(held)
        self._records += len(last)
        if self._records >= RECORDS_HELD_AT_MOST:
            yield from self.finish_bundle()

    def finish_bundle(self) -> Iterator[Any]:
        """Generate after all held prompts."""
        held_by_model = self._held
        self.start_bundle()
        for model, held in held_by_model.values():
            generator = Generator(model, self._how)
            for start in range(0, len(held), generator.rows_at_once):
                yield from self._generate(generator, held[start : start + generator.rows_at_once])

    def _generate(self, generator: Generator, held: list[_Held]) -> Iterator[Any]:
        """Yield the sequences of some prompts, and the dead letters of their records."""
        prompts = [each.prompt for each in held]
        read = generator.read(prompts)
        for i, place in read.bad:
            yield self._letter(letter_of(prompts[i], place, OVERFLOWED), *held[i][1:])
        for each in generator.generate(prompts, read):
            prompt, *at = held[each.prompt]
            last = read.last[each.prompt]
            if each.reason == "range":
                steps, sample = len(each.values), each.sample
                reason = f"the step overflowed after {steps} generated steps, sample {sample}"
                yield self._letter(letter_of(prompt, last, reason), *at)
                continue
            self._generated.inc()
            row = row_of(generator.model, prompt.key, int(prompt.times[last]), each)
            yield WindowedValue(row, *at)

    def _letter(self, letter: InvalidRecord, timestamp: Any, windows: Any) -> TaggedOutput:
        """Return a dead letter at the timestamp and in the windows of its prompt."""
        self._invalid.inc()
        return TaggedOutput(INVALID, WindowedValue(letter, timestamp, windows))


def letter_of(prompt: Prompt, place: int, reason: str) -> InvalidRecord:
    """Return the dead letter of a record of a prompt."""
    return poisoned(prompt.key, int(prompt.times[place]), prompt.numbers[place], reason)


def row_of(model: Model, key: str, time: int, written: Continuation) -> Generated:
    """Return a generated sequence as a row."""
    assert model.columns is not None, "it was checked"
    classes = list(map(str, model.columns.classes))
    values = [] if classes else np.asarray(written.values, float).tolist()
    symbols = [classes[i] for i in written.values] if classes else []
    return Generated(
        key,
        written.sample,
        values,
        symbols,
        written.log_probability,
        written.reason,
        time,
        model.digest,
        model.kernel,
    )
