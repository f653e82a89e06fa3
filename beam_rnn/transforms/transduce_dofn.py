"""The DoFn of an encoder-decoder: reads the source of each record and writes a target."""

import time as clock
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.shared import Shared
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_rnn.core.errors import RecordError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.pair_columns import Pair
from beam_rnn.models.transducer import Transducer, Transduction
from beam_rnn.records.pair_reader import PairReader
from beam_rnn.records.results import INVALID, InvalidRecord, Transduced
from beam_rnn.training.model_files import read_transducer

AT_ONCE = 256
"""The greatest number of sources in a batch."""


class TransduceRecords(beam.DoFn):
    """Writes a target for each source; dead letters go to `INVALID`.

    Results have the timestamps and windows of their records.

    Args:
        weights: The path of the weights file.
        beam: The beam width of the search.
        limit: The greatest number of symbols to write; None for the default of the model.
        kernel: One of `beam_rnn.nn.kernels.KERNELS`.
    """

    def __init__(self, weights: str, beam: int, limit: int | None, kernel: str):
        self._weights = weights
        self._beam, self._limit, self._kernel = beam, limit, kernel
        self._shared = Shared()
        self._inferences = Metrics.counter("beam_rnn", "num_inferences")
        self._micros = Metrics.distribution("beam_rnn", "inference_batch_latency_micro_secs")
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")

    def setup(self) -> None:
        """Load the model, once in a process."""
        self._model = self._shared.acquire(self._load, tag=f"{self._weights} {self._kernel}")
        self._reader = PairReader(self._model.columns, target=False)

    def _load(self) -> Transducer:
        return read_transducer(self._weights).with_kernel(self._kernel)

    def start_bundle(self) -> None:
        """Start an empty batch: none is kept from one bundle to the next."""
        self._held: list[tuple[Pair, Any]] = []

    def process(self, element: Any, windowed: Any = beam.DoFn.WindowedValueParam) -> Iterator[Any]:
        """Take a record; give results and dead letters when the batch is full."""
        try:
            self._held.append((self._reader.read(element), windowed))
        except RecordError as error:
            yield self._letter(self._reader.invalid(element, error), windowed)
        if len(self._held) >= AT_ONCE:
            yield from self.finish_bundle()

    def finish_bundle(self) -> Iterator[Any]:
        """Give the results of the last batch."""
        held, self._held = self._held, []
        if not held:
            return
        model, started = self._model, clock.perf_counter()
        with default_arithmetic():  # an overflow becomes a dead letter below
            written = model.transduce([pair.source for pair, _ in held], self._beam, self._limit)
        self._inferences.inc(len(held))
        self._micros.update(int((clock.perf_counter() - started) * 1e6))
        for (pair, windowed), each in zip(held, written, strict=True):
            if not np.isfinite(each.log_probability):
                reason = "the result overflowed"
                letter = InvalidRecord(pair.key, reason, repr(each.log_probability), "")
                yield self._letter(letter, windowed)
                continue
            yield _placed(_row(pair, each, model), windowed)

    def _letter(self, letter: InvalidRecord, windowed: Any) -> TaggedOutput:
        self._invalid.inc()
        return TaggedOutput(INVALID, _placed(letter, windowed))


def _row(pair: Pair, written: Transduction, model: Transducer) -> Transduced:
    symbols, log_probability, ended = written
    return Transduced(pair.key, list(symbols), log_probability, ended, model.digest, model.kernel)


def _placed(row: Any, windowed: Any) -> WindowedValue:
    """Return a row with the timestamp and the windows of its record."""
    return WindowedValue(row, Timestamp(micros=windowed.timestamp_micros), windowed.windows)
