"""Whether any record could be used at all: a command that did nothing has not done its work."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from beam_rnn.cli.date_like_numbers import CountForms, check_times
from beam_rnn.cli.order_report import SayOrder
from beam_rnn.core.errors import BeamRnnError
from beam_rnn.core.text import counted, names
from beam_rnn.data.columns import Columns
from beam_rnn.files.read import ALL, AS_WRITTEN
from beam_rnn.files.set_aside import Refused, WriteAside
from beam_rnn.records.field_values import UNREADABLE
from beam_rnn.records.record_reader import ReadRecords, RecordReader
from beam_rnn.records.results import INVALID, InvalidRecord

DISTINCT = 64
"""So many kinds of records are told apart by their columns."""


class NothingUsableError(BeamRnnError):
    """There is no record, or none that can be used."""


class UnknownColumnError(BeamRnnError):
    """No record has a column that is to be kept."""


class SetAside(beam.PTransform):
    """Dead letters into a file; an error, once it is written, if no other record is left.

    The log says from when to when the records are, and which of them are equal or share a time.
    Gives one element. What is written if all goes well waits for it: see `After`.

    Args:
        records: All records, as dicts.
        columns: Which fields of a record mean what.
        source: Where the records come from, for the error.
        path: The file of dead letters.
        training: Whether the records are read as for training: with targets, and a weight.
        trained: Whether there is a model already, whose columns these are.
        keep: Further columns that the records must have; ["all"] for none.

    Raises:
        NothingUsableError: In the pipeline: there is no record, or none could be used.
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
        keep: Sequence[str] = (),
    ):
        super().__init__()
        self._trained = trained
        self._records, self._columns = records, columns
        self._source, self._path, self._training = source, path, training
        self._keep = [name for name in keep if list(keep) != ALL]

    def expand(self, pcoll: beam.PCollection[InvalidRecord]) -> beam.PCollection[int]:
        """Write and count, count all, compare."""
        refused = pcoll | "Invalid" >> WriteAside(self._path)
        kinds = self._records | "Kinds" >> beam.CombineGlobally(CountKinds())
        read = fields_read(self._columns, targets=self._training)
        check = beam.Map(check_usable, AsSingleton(kinds), read, self._source, self._path)
        usable = refused | "Check" >> check.with_output_types(int)
        _ = self._records | "Order" >> SayOrder(
            self._columns, targets=self._training, trained=self._trained
        )
        time = self._columns.time
        if time is not None and self._columns.time_format is None:
            forms = self._records | "Forms" >> beam.CombineGlobally(CountForms(time))
            times = beam.Map(check_times, AsSingleton(forms), time, self._trained)
            usable = usable | "Times" >> times.with_output_types(int)
        if self._keep:
            has = beam.Map(check_kept, AsSingleton(kinds), self._keep, self._source)
            usable = usable | "Kept" >> has.with_output_types(int)
        return usable


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
        """Check each, set aside."""
        read = ReadRecords(partial(RecordReader, self._columns))
        checked = pcoll | "Check" >> beam.ParDo(read).with_outputs(INVALID, main="checked")
        aside = SetAside(pcoll, self._columns, self._source, self._path)
        return checked.invalid | "Aside" >> aside


class After(beam.PTransform):
    """The same elements; they are not all there before another collection is.

    What gathers or writes them waits, then: on every runner, even where there is no element.

    Args:
        other: What to wait for.
    """

    def __init__(self, other: beam.PCollection[Any]):
        super().__init__()
        self._other = other

    def expand(self, pcoll: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Put nothing of the other beside them."""
        nothing = beam.FlatMap(lambda _: ()).with_output_types(pcoll.element_type)
        return (pcoll, self._other | "Nothing" >> nothing) | "After" >> beam.Flatten()


class CountKinds(beam.CombineFn):
    """Counts records by what columns they have; the file's name is none.

    Those that could not be read have none, nor have those of kinds beyond `DISTINCT`.
    """

    def create_accumulator(self) -> Counter[tuple[str, ...]]:
        """None yet."""
        return Counter()

    def add_input(
        self, mutable_accumulator: Counter[tuple[str, ...]], element: Mapping[str, Any]
    ) -> Counter[tuple[str, ...]]:
        """One more."""
        kind = tuple(name for name in element if name not in ("filename", AS_WRITTEN))
        if UNREADABLE in element or (
            kind not in mutable_accumulator and len(mutable_accumulator) >= DISTINCT
        ):
            kind = ()
        mutable_accumulator[kind] += 1
        return mutable_accumulator

    def merge_accumulators(
        self, accumulators: Iterable[Counter[tuple[str, ...]]]
    ) -> Counter[tuple[str, ...]]:
        """Those of all workers together; the most frequent are kept apart."""
        total: Counter[tuple[str, ...]] = Counter()
        for each in accumulators:
            total.update(each)
        kept = Counter(dict(total.most_common(DISTINCT)))
        rest = sum(total.values()) - sum(kept.values())
        if rest:
            kept[()] += rest
        return kept

    def extract_output(self, accumulator: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
        """The counts."""
        return accumulator


def fields_read(columns: Columns, *, targets: bool) -> list[str]:
    """The fields that a record must have, each once.

    >>> fields_read(Columns(key="id", time="at", inputs=["x"], targets=["x", "y"]), targets=True)
    ['id', 'at', 'x', 'y']
    """
    once = [columns.key, columns.time, columns.sequence, columns.start, columns.end]
    seen = [*columns.fields, *columns.symbols]
    learned = [*columns.targets, columns.weight] if targets else []
    return list(dict.fromkeys(name for name in (*once, *seen, *learned) if name is not None))


def check_usable(
    refused: list[Refused],
    kinds: Mapping[tuple[str, ...], int],
    read: list[str],
    source: str,
    path: str,
) -> int:
    """How many records could be used.

        >>> rows = [Refused(3, "the record has no field 'x'", "{'y': 1}")]
        >>> check_usable(rows, {("y",): 3}, ["id", "x"], "a.csv", "out.csv.invalid.jsonl")
        Traceback (most recent call last):
        ...
        beam_rnn.cli.usable_records.NothingUsableError: none of 3 records could be used: the \
record has no field 'x'; needed are id, x; the records have y; see out.csv.invalid.jsonl

    Args:
        refused: The reasons of those that could not, the most frequent first.
        kinds: How many records there are, by their columns.
        read: The fields that are read.
        source: Where the records come from.
        path: The file of dead letters.

    Raises:
        NothingUsableError: There is no record, or none that could be used.
    """
    total, count = sum(kinds.values()), sum(row.records for row in refused)
    if not total:
        raise NothingUsableError(f"there is no record in {source!r}")
    if count < total:
        return total - count
    there = max(kinds, key=lambda kind: (len(kind) > 0, kinds[kind], kind))
    have = f"; the records have {names(there)}" if there else ""
    raise NothingUsableError(
        f"none of {counted(total, 'record')} could be used: {refused[0].reason}; needed are "
        f"{names(read)}{have}; see {path}"
    )


def check_kept(
    usable: int, kinds: Mapping[tuple[str, ...], int], keep: Iterable[str], source: str
) -> int:
    """That the records have the columns that are kept.

    Raises:
        UnknownColumnError: None of them has one.
    """
    there = {name for kind in kinds for name in ("filename", *kind)}
    for name in keep:
        if name not in there and len(kinds) <= DISTINCT:
            raise UnknownColumnError(
                f"--keep {name}: no record in {source!r} has it; there are {names(sorted(there))}"
            )
    return usable
