"""Records that could not be used, into a file beside the one of those that could."""

import logging
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from beam_rnn.files.lines import json_line

logger = logging.getLogger(__name__)


class FormatAside(beam.DoFn):
    """Rows as JSON lines; the log shows the first of each bundle."""

    def start_bundle(self) -> None:
        """Nothing has been shown yet."""
        self._shown = False

    def process(self, element: Any) -> Iterator[str]:
        """A NamedTuple in, its line out."""
        line = json_line(element._asdict())
        if not self._shown:
            logger.warning("cannot use: %s", line)
            self._shown = True
        yield line


class WriteAside(beam.PTransform):
    """Records that could not be used, as NamedTuples, into a file of JSON lines.

    The log shows one of them and says how many there were; if there is none, there is no file.
    """

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Count and say, format and write."""
        path = self._path

        def say(count: int) -> None:
            if count:
                logger.warning("%d records could not be used: see %s", count, path)

        _ = pcoll | "Count" >> beam.combiners.Count.Globally() | "Say" >> beam.Map(say)
        lines = pcoll | "Format" >> beam.ParDo(FormatAside())
        return lines | "Write" >> beam.io.WriteToText(
            path, num_shards=1, shard_name_template="", skip_if_empty=True
        )
