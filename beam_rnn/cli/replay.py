"""A replay of records through `Predict`, and the page of its outcome."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.cli.console import PREDICTIONS
from beam_rnn.cli.launch import SayProgress
from beam_rnn.cli.record_counts import CountRecords
from beam_rnn.cli.report_stage import WriteReport
from beam_rnn.cli.usable_records import After, CheckRecords, SetAside
from beam_rnn.core.checks import check_number
from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.data.columns import Columns
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.models.model import Model
from beam_rnn.records.record_format import record_time
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.transforms.predict import Predict


def check_one_model(path: str, model: Models) -> Model:
    """Return the model of a weights file, if it is one model with columns, as a page needs it.

    Raises:
        ConfigurationError: The file holds a model for each key, or one without columns.
    """
    if isinstance(model, KeyedModels):
        raise ConfigurationError(
            f"a report shows one model, {path!r} holds {len(model.models):,} models of keys"
        )
    if model.columns is None:
        raise ConfigurationError(
            f"{path!r} holds a model without columns, which reads no records: give it some with "
            "Model(network, parameters, Columns(...))"
        )
    return model


class ReplayReport(beam.PTransform):
    """Replay records through `Predict`, judge the predictions, write a page of HTML.

    Dead letters are written to `<path>.invalid.jsonl`. A bidirectional network cannot step through
    a stream: then nothing is replayed.

    Args:
        path: The page to write, on any filesystem that Beam knows.
        weights: The weights file.
        model: What it holds.
        command: The command line, for the page.
        shuffle_within: Shuffle the records: each arrives up to so many seconds late.
        usable: What the page waits for, if the dead letters are written elsewhere.
        source: Where the records come from, for the error.

    Raises:
        ConfigurationError: `shuffle_within` is below 0 or no number.
        NothingUsableError: In the pipeline: there is no record, or none could be used.
    """

    def __init__(
        self,
        path: str,
        weights: str,
        model: Model,
        command: str = "",
        shuffle_within: float = 0.0,
        usable: beam.PCollection[int] | None = None,
        source: str = "",
    ):
        super().__init__()
        check_number("shuffle_within, in seconds,", shuffle_within)
        self._path, self._weights, self._model = path, weights, model
        self._command, self._shuffle_within = command, shuffle_within
        self._usable, self._source = usable, source

    def expand(self, pcoll: beam.PCollection[Any]) -> Any:
        """Replay and count, judge and write."""
        columns, within = self._model.columns, self._shuffle_within
        assert columns is not None, "ReadModel gives models with columns"
        counts, usable = None, self._usable
        of_file = columns, self._source, f"{self._path}.invalid.jsonl"
        if not self._model.network.bidirectional:
            arriving = pcoll | "Arrive" >> Arrive(columns, within)
            outputs = arriving | "Replay" >> Predict(self._weights)
            _ = outputs.predictions | "Progress" >> beam.ParDo(SayProgress(PREDICTIONS))
            counts = pcoll | "Count" >> CountRecords(
                columns, outputs.invalid, outputs.predictions, outputs.late, within
            )
            if usable is None:
                usable = outputs.invalid | "Invalid" >> SetAside(pcoll, *of_file)
        elif usable is None:
            usable = pcoll | "Invalid" >> CheckRecords(*of_file)
        weights = pcoll.pipeline | "Weights" >> beam.Create([self._weights])
        page = WriteReport(
            self._path, columns, weights | "Usable" >> After(usable), self._command, counts
        )
        return pcoll | "Page" >> page


class Arrive(beam.PTransform):
    """Delay each record by a random time.

    Args:
        columns: Which fields of a record mean what.
        within: The longest delay in seconds; 0 leaves the order as it is.
    """

    def __init__(self, columns: Columns, within: float):
        super().__init__()
        self._columns, self._within = columns, within

    def expand(self, pcoll: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Group by key, since an order is that of a key's records."""
        if not self._within:
            return pcoll
        return (
            pcoll
            | "WithTimes" >> beam.ParDo(WithTime(self._columns))
            | "ByKey" >> beam.GroupByKey()
            | "InTurn" >> beam.FlatMap(arrive, self._within)
        )


class WithTime(beam.DoFn):
    """Records by key with their times; one that cannot be read gets an empty key and the time 0."""

    def __init__(self, columns: Columns):
        self._reader = RecordReader(columns)

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam
    ) -> Iterator[tuple[str, tuple[int, Any]]]:
        """A record in; its key, its time and itself out."""
        try:
            key, data = self._reader.read(element, int(timestamp.micros))
        except RecordError:
            yield "", (0, element)
        else:
            yield key, (record_time(data), element)


def arrive(
    group: tuple[str, Iterable[tuple[int, Any]]], shuffle_within: float
) -> Iterator[TimestampedValue]:
    """Yield the records of a key, each delayed by a random time.

    After a GroupByKey elements have no time of their own: they get that of the record.
    """
    key, records = group
    chance = random.Random(key)
    late = [
        (t + chance.uniform(0, shuffle_within) * 1e6, i, t, r) for i, (t, r) in enumerate(records)
    ]
    for _, _, time, record in sorted(late, key=lambda row: row[:2]):
        yield TimestampedValue(record, Timestamp(micros=time))
