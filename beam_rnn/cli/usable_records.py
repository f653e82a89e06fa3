"""Dead letters into a file, and an error if no record of a command can be used."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from beam_rnn.cli.date_like_numbers import Forms, check_times, forms_of
from beam_rnn.cli.nothing_usable import check_usable
from beam_rnn.cli.order_report import SayOrder
from beam_rnn.data.columns import Columns
from beam_rnn.files.set_aside import WriteAside
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import INVALID, InvalidRecord
from beam_rnn.streaming.read_records import ReadRecords


class SetAside(beam.PTransform):
    """Write dead letters to a file; raise an error, once it is written, if no record is left.

    The log says from when to when the records are, and which of them are equal or share a time.
    Gives one element. What is written if all goes well waits for it: see `After`.

    Args:
        records: All records, as dicts.
        columns: Which fields of a record mean what.
        source: Where the records come from, for the error.
        path: The file of dead letters.
        training: True if the records are read as for training: with targets, and a weight.
        trained: True if there is a model already, whose columns these are.

    Raises:
        NothingUsableError: In the pipeline: there is no record, or none can be used.
        NoTimesError: In the pipeline, before training: what is read as seconds are dates.
    """

    def __init__(
        self,
        records: beam.PCollection[Mapping[str, Any]],
        columns: Columns,
        source: str,
        path: str,
        *,
        training: bool = False,
        trained: bool = True,
    ):
        super().__init__()
        self._records, self._columns = records, columns
        self._source, self._path = source, path
        self._training, self._trained = training, trained

    def expand(self, pcoll: beam.PCollection[InvalidRecord]) -> beam.PCollection[int]:
        """Write and count, count all, compare."""
        columns, trained = self._columns, self._trained
        if not trained:
            pcoll = pcoll | "Reason" >> beam.Map(with_flag).with_output_types(InvalidRecord)
        refused = pcoll | "Invalid" >> WriteAside(self._path)
        total = self._records | "Total" >> beam.combiners.Count.Globally()
        check = beam.Map(check_usable, AsSingleton(total), self._source, self._path)
        usable = refused | "Check" >> check.with_output_types(int)
        _ = self._records | "Order" >> SayOrder(columns, targets=self._training, trained=trained)
        time = columns.time
        if time is not None and columns.time_format is None:
            forms = self._records | "Forms" >> beam.CombineGlobally(CountForms(time))
            times = beam.Map(check_times, AsSingleton(forms), time, trained)
            usable = usable | "Times" >> times.with_output_types(int)
        return usable


def with_flag(row: InvalidRecord) -> InvalidRecord:
    """A dead letter whose reason names the flag `--time_format`, which `train` has.

    >>> with_flag(InvalidRecord("a", "t must be a time; time_format says how", "'?'", "{}")).reason
    't must be a time; --time_format says how'
    """
    return row._replace(reason=row.reason.replace("; time_format says", "; --time_format says"))


class CheckRecords(beam.PTransform):
    """As `SetAside`, for records that nothing has checked yet.

    Args:
        columns: Which fields of a record mean what.
        source: Where the records come from, for the error.
        path: The file of dead letters.
    """

    def __init__(self, columns: Columns, source: str, path: str):
        super().__init__()
        self._columns, self._source, self._path = columns, source, path

    def expand(self, pcoll: beam.PCollection[Mapping[str, Any]]) -> beam.PCollection[int]:
        """Check each, write the dead letters."""
        read = ReadRecords(partial(RecordReader, self._columns))
        checked = pcoll | "Check" >> beam.ParDo(read).with_outputs(INVALID, main="checked")
        aside = SetAside(pcoll, self._columns, self._source, self._path)
        return checked.invalid | "Aside" >> aside


class After(beam.PTransform):
    """The same elements, but not all of them before another collection is complete.

    So what gathers or writes them waits for it, on every runner, even if it is empty.

    Args:
        other: What to wait for.
    """

    def __init__(self, other: beam.PCollection[Any]):
        super().__init__()
        self._other = other

    def expand(self, pcoll: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Flatten them with nothing of the other."""
        nothing = beam.FlatMap(lambda _: ()).with_output_types(pcoll.element_type)
        return (pcoll, self._other | "Nothing" >> nothing) | "After" >> beam.Flatten()


class CountForms(beam.CombineFn):
    """Count the values of a column by their form (`forms_of`), each with an example."""

    def __init__(self, column: str):
        self._column = column

    def create_accumulator(self) -> Forms:
        """Begin with no value."""
        return {}

    def add_input(self, mutable_accumulator: Forms, element: Mapping[str, Any]) -> Forms:
        """One more."""
        value = element.get(self._column)
        for form in forms_of(value):
            count, one = mutable_accumulator.get(form, (0, str(value)))
            mutable_accumulator[form] = count + 1, one
        return mutable_accumulator

    def merge_accumulators(self, accumulators: Iterable[Forms]) -> Forms:
        """Those of all workers together."""
        total: Forms = {}
        for each in accumulators:
            for form, (count, one) in each.items():
                before, least = total.get(form, (0, one))
                total[form] = before + count, min(least, one)
        return total

    def extract_output(self, accumulator: Forms) -> Forms:
        """The counts."""
        return accumulator
