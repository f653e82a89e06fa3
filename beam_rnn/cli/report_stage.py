"""The report of a model, as a stage of the pipeline that trains or replays.

The records of each key are judged by the worker that has them. What is gathered is a score of each
key, and the excerpts of three keys that the page shows.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from beam_rnn.cli.record_counts import CountRecords
from beam_rnn.core.filesystems import write_bytes
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.models.model import Model
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import INVALID, InvalidRecord
from beam_rnn.report import page
from beam_rnn.report.evaluation import Excerpt, excerpt, score
from beam_rnn.report.scores import Score, Summary, summarize
from beam_rnn.report.sections.record_counts import Counts
from beam_rnn.streaming.read_records import ReadRecords
from beam_rnn.training.model_files import read_model
from beam_rnn.transforms.cut_sequences import CutSequences


class WriteReport(beam.PTransform):
    """Records, those that were trained on and those that came after, into a page of HTML.

    Records that cannot be used are left out, and counted on the page.

    Args:
        path: The page to write, on any filesystem that Beam knows.
        columns: Which fields of a record mean what.
        weights: The path of the weights file, once it is written.
        command: The command line, for the page.
        counts: The counts of the records in `Predict`; None if there was no replay.
    """

    def __init__(
        self,
        path: str,
        columns: Columns,
        weights: beam.PCollection[str],
        command: str = "",
        counts: beam.PCollection[Counts] | None = None,
    ):
        super().__init__()
        self._path, self._columns = path, columns
        self._weights, self._command, self._counts = weights, command, counts

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Judge each key, take excerpts of three, write."""
        weights = AsSingleton(self._weights)
        read = ReadRecords(partial(RecordReader, self._columns, targets=True), counts=False)
        records = pcoll | "Read" >> beam.ParDo(read).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="checked")
        cut = beam.ParDo(CutSequences(self._columns, None, None, 1.0, None)).with_output_types(
            Sequence
        )
        by_key = (
            records.checked
            | "Records" >> beam.GroupByKey()
            | "Whole" >> cut
            | "KeyOf" >> beam.Map(lambda sequence: (sequence.key, sequence))
            | "ByKey" >> beam.GroupByKey()
        )
        summary = (
            by_key
            | "Score" >> beam.ParDo(ScoreKey(), weights)
            | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "Summarize" >> beam.Map(summarize)
        )
        excerpts = by_key | "Excerpt" >> beam.ParDo(ShowKey(), weights, AsSingleton(summary))
        counts = self._counts
        if counts is None:
            counts = pcoll | "Count" >> CountRecords(self._columns, records.invalid)
        page_of = WritePage(self._path, self._command)
        write = beam.ParDo(page_of, weights, AsIter(excerpts), AsSingleton(counts))
        return summary | "Write" >> write


class WithModel(beam.DoFn):
    """A DoFn that loads the model of a weights file once."""

    def setup(self) -> None:
        """Begin with no model."""
        self._loaded: tuple[str, Model] | None = None

    def model(self, path: str) -> Model:
        """Return the model of a file."""
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = path, read_model(path)
        return self._loaded[1]


class ScoreKey(WithModel):
    """Score the model on a key."""

    def process(
        self, element: tuple[str, Iterable[Sequence]], weights: str
    ) -> Iterator[Score | None]:
        """A key and its sequences in, its score out."""
        yield score(self.model(weights), element[1])


class ShowKey(WithModel):
    """Make the excerpt of a key, if it is one that the page shows."""

    def process(
        self, element: tuple[str, Iterable[Sequence]], weights: str, summary: Summary | None
    ) -> Iterator[Excerpt]:
        """A key and its sequences in; its excerpt, or nothing, out."""
        key, sequences = element
        if summary is not None and key in {each.key for _, each in summary.shown}:
            yield excerpt(self.model(weights), sequences)


class WritePage(WithModel):
    """Write the page."""

    def __init__(self, path: str, command: str):
        self._path, self._command = path, command

    def process(
        self, element: Summary | None, weights: str, excerpts: Iterable[Excerpt], counts: Counts
    ) -> Iterator[str]:
        """The summary in, the path of the page out."""
        html = page(self.model(weights), element, excerpts, self._command, counts)
        write_bytes(html.encode(), self._path)
        yield self._path
