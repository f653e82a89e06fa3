"""Writes records that could not be used into a file of their own, and logs why."""

import logging
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from beam_rnn.files.refused import Refused, line_of, most_frequent, reason_of, said, together
from beam_rnn.files.write import WriteLines

logger = logging.getLogger(__name__)


class WriteAside(beam.PTransform):
    """Writes records that could not be used, as NamedTuples, into a file of JSON lines.

    The log has their number, and the most frequent reasons, each with a value. If there are none,
    there is no file: a file of an earlier run is removed.

    Args:
        path: The file.
        what: What happened to them, for the log.
    """

    def __init__(self, path: str, what: str = "could not be used"):
        super().__init__()
        self._path, self._what = path, what

    def expand(self, pcoll: beam.PCollection[Any]) -> beam.PCollection[list[Refused]]:
        """Write; then count by reason, log that, and give it as a list, most frequent first."""
        lines = pcoll | "Format" >> beam.Map(line_of)
        written = lines | "Write" >> WriteLines(self._path)
        return (
            pcoll
            | "Reason" >> beam.Map(reason_of)
            | "Count" >> beam.CombinePerKey(together)
            | "Gather" >> beam.combiners.ToList()
            | "InOrder" >> beam.Map(most_frequent)
            | "Say" >> beam.Map(self._say, beam.pvalue.AsIter(written))
        )

    def _say(self, refused: list[Refused], _: Iterable[None]) -> list[Refused]:
        """Log the reasons, once the file is written."""
        for line in said(refused, self._what, self._path):
            logger.warning("%s", line)
        return refused
