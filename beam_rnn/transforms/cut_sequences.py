"""The DoFn that cuts the records of a key into sequences."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_rnn.core.errors import shown
from beam_rnn.core.text import counted, names
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.records.cutting import cut, cut_in_parts

logger = logging.getLogger(__name__)


class CutSequences(beam.DoFn):
    """Cuts the records of each key; counts and logs keys with too few records for a step.

    The log has one line for each bundle.
    """

    def __init__(
        self,
        columns: Columns,
        length: int | None,
        stride: int | None,
        fraction: float,
        idle_after: int | None,
        parts_of: int | None = None,
    ):
        self._columns = columns
        self._length, self._stride, self._parts_of = length, stride, parts_of
        self._fraction, self._idle_after = fraction, idle_after
        self._too_short = Metrics.counter("beam_rnn", "keys_too_short")

    def start_bundle(self) -> None:
        """Start with no key that is too short."""
        self._short: list[str] = []

    def process(
        self, element: tuple[str, Iterable[bytes]], window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Sequence]:
        """Yield the sequences of a key from all its records."""
        key, records = element
        rest = self._fraction, self._idle_after
        sequences: Iterable[Sequence]
        if self._parts_of is None:
            sequences = cut(key, records, self._columns, self._length, self._stride, *rest)
        else:
            end = int(window.max_timestamp().micros)
            sequences = cut_in_parts(key, records, self._columns, self._parts_of, *rest, end)
        too_short = True
        for sequence in sequences:
            too_short = False
            yield sequence
        if too_short:
            self._too_short.inc()
            self._short.append(shown(key))

    def finish_bundle(self) -> None:
        """Log the keys that have too few records."""
        if self._short:
            have = "has" if len(self._short) == 1 else "have"
            keys = names(sorted(self._short))
            logger.info("%s %s too few records: %s", counted(len(self._short), "key"), have, keys)
