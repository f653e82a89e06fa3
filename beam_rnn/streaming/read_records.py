"""The DoFn that reads and checks records one by one."""

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from beam_rnn.core.errors import RecordError
from beam_rnn.records.results import INVALID


class ReadRecords(beam.DoFn):
    """Reads and checks records; dead letters go to `INVALID`.

    Args:
        reader: Makes the reader, on the worker: a `RecordReader`, or one like it.
        strict: Raise the error of a bad record.
        counts: Count dead letters in `records_invalid`: not where another step reads them too.
    """

    def __init__(self, reader: Callable[[], Any], strict: bool = False, *, counts: bool = True):
        self._make_reader = reader
        self._strict, self._counts = strict, counts
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")

    def setup(self) -> None:
        """Make the reader."""
        self._reader = self._make_reader()

    def process(self, element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        """Yield what was read of a record, or its dead letter."""
        try:
            yield self._reader.read(element, int(timestamp.micros))
        except RecordError as error:
            if self._strict and not self._reader.drops(error):
                raise
            self._invalid.inc(int(self._counts))
            yield TaggedOutput(INVALID, self._reader.invalid(element, error))
