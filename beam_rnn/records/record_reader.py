"""The records that go in: each is read by its columns, and checked before anything else.

A record is a dict, a `beam.Row`, a NamedTuple, or any object with attributes.
"""

import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.core.errors import RecordError, shown
from beam_rnn.data.calendar import cycle_numbers
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import (
    MAX_MICROS,
    MIN_MICROS,
    NO_NUMBERS,
    UNITS,
    WrongUnitError,
    micros_of,
    utc_text,
)
from beam_rnn.data.vocabulary import UNKNOWN, places_of
from beam_rnn.records.record_format import encode_record, with_texts
from beam_rnn.records.results import INVALID, InvalidRecord

MAX_KEY_BYTES = 1024  # of a symbol, too
ROW = "row"
"""The field with a record's place in its file: `beam_rnn.files.read` adds it where it is the
sequence number, and the file has no column of that name."""


class Record(NamedTuple):
    """A record that was read and checked.

    Attributes:
        key: Its key, as text.
        data: Time, sequence number and numbers, as `beam_rnn.records.record_format.encode_record`
            has them.
    """

    key: str
    data: bytes


class RecordReader:
    """Reads records by their columns.

        >>> reader = RecordReader(Columns(key="id", time="at", inputs=["x"]))
        >>> reader.read({"id": 7, "at": "2014-07-01 00:00:00", "x": 1.5}).key
        '7'
        >>> reader.read({"id": 7, "at": "2014-07-01 00:00:00", "x": "1.5"})
        Traceback (most recent call last):
        ...
        beam_rnn.errors.RecordError: x must be a number, got '1.5'

    Args:
        columns: Which fields mean what.
        targets: Whether records must have the targets, and their weight, too, as those for
            training do.
    """

    def __init__(self, columns: Columns, targets: bool = False):
        self._columns = columns
        self._targets = targets
        self._classes = {str(label): i for i, label in enumerate(columns.classes)}
        self._read_number = number_or_missing if columns.carried_size else number
        self._sizes = dict(columns.vectors)
        self._vocabularies = [places_of(columns.vocabulary(name)) for name in columns.symbols]
        self._has_vocabularies = columns.has_vocabularies

    def read(self, record: Any, element_time: Timestamp | None = None) -> Record:
        """The record, checked.

        Args:
            record: A dict, a `beam.Row`, a NamedTuple, or any object with attributes.
            element_time: Its Beam timestamp, used where no column is named for the time.

        Raises:
            RecordError: A field is missing or cannot be used.
        """
        columns = self._columns
        key = key_text(columns.key, field(record, columns.key))
        time = self._time(record, element_time)
        sequence = 0
        if columns.sequence is not None:
            sequence = whole(columns.sequence, field(record, columns.sequence))
        values = self._numbers(record, columns.fields)
        if columns.calendar:
            values += cycle_numbers(columns.calendar, np.array([time]))[0].tolist()
        symbols = [symbol(name, field(record, name)) for name in columns.symbols]
        if self._has_vocabularies:
            for text, places in zip(symbols, self._vocabularies, strict=True):
                values.append(places.get(text, UNKNOWN))
        if self._targets:
            values += self._read_targets(record)
        starts, ends = (
            name is not None and mark(name, field(record, name))
            for name in (columns.start, columns.end)
        )
        numbers = np.array(values, np.float64)
        data = encode_record(time, sequence, numbers, starts=starts, ends=ends)
        return Record(key, data if self._has_vocabularies else with_texts(data, symbols))

    def _time(self, record: Any, element_time: Timestamp | None) -> int:
        name, latest = self._columns.time, self._columns.latest_micros
        value = element_time if name is None else field(record, name)
        called = name or "the element's timestamp"
        time = micros(called, value, self._columns.time_format)
        if time > latest:
            raise RecordError(f"{called} must be at most {utc_text(latest)}", value)
        return time

    def _numbers(self, record: Any, names: Sequence[str]) -> list[float]:
        """The numbers of these fields."""
        read, sizes = self._read_number, self._sizes
        if not sizes:
            return [read(name, field(record, name)) for name in names]
        values: list[float] = []
        for name in names:
            value = field(record, name)
            if name in sizes:
                values += vector(name, value, sizes[name], read)
            else:
                values.append(read(name, value))
        return values

    def _read_targets(self, record: Any) -> list[float]:
        """The numbers of the targets, and the weight if there is one."""
        columns = self._columns
        if self._classes:
            (name,) = columns.targets
            values = one_of(name, field(record, name), self._classes)
        else:
            values = self._numbers(record, columns.targets)
        if columns.weight is not None:
            weight = number(columns.weight, field(record, columns.weight))
            if weight < 0:
                raise RecordError(f"{columns.weight} must be at least 0 to be a weight", weight)
            values.append(weight)
        return values

    def drops(self, error: RecordError) -> bool:
        """Whether a record that `read` refused is one to go on without."""
        return self._columns.missing == "drop" and is_missing(error.value)

    def invalid(self, record: Any, error: RecordError) -> InvalidRecord:
        """The dead letter for a record that `read` refused."""
        return dead_letter(self._columns.key, record, error)


def dead_letter(key_column: str, record: Any, error: RecordError) -> InvalidRecord:
    """The dead letter for a record that cannot be used."""
    try:
        key = key_text(key_column, field(record, key_column))
    except RecordError:
        key = ""
    return InvalidRecord(key, error.reason, shown(error.value), shown(record))


class ReadRecords(beam.DoFn):
    """Reads records and checks them before anything else; dead letters go to `INVALID`.

    Args:
        reader: Makes the reader, on the worker: a `RecordReader`, or one like it.
        strict: Raise the error of a bad record.
    """

    def __init__(self, reader: Callable[[], Any], strict: bool = False):
        self._make_reader = reader
        self._strict = strict
        self._invalid = Metrics.counter("beam_rnn", "records_invalid")

    def setup(self) -> None:
        """Makes the reader."""
        self._reader = self._make_reader()

    def process(self, element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        """One record in; what was read of it out, or a dead letter."""
        try:
            yield self._reader.read(element, timestamp)
        except RecordError as error:
            if self._strict and not self._reader.drops(error):
                raise
            self._invalid.inc()
            yield TaggedOutput(INVALID, self._reader.invalid(element, error))


UNREADABLE = "cannot be read"
"""The field of a record in which a source says why it could not read it."""


def field(record: Any, name: str) -> Any:
    """One field of a record."""
    try:
        return record[name] if isinstance(record, Mapping) else getattr(record, name)
    except (KeyError, AttributeError) as error:
        raise RecordError(_why_missing(record, name), record) from error
    except Exception as error:  # a property may raise anything
        raise RecordError(f"the field {name!r} cannot be read: {error!r}", record) from error


def _why_missing(record: Any, name: str) -> str:
    if isinstance(record, Mapping) and isinstance(record.get(UNREADABLE), str):
        return str(record[UNREADABLE])
    if type(record) is tuple and len(record) == 2:
        return (
            f"the record has no field {name!r}: it is a pair, of which the second may be the record"
        )
    if name == ROW:
        return (
            f"the record has no field {ROW!r}, its place in its file: a stream needs one that "
            "orders the records of one time, such as Kafka's offset"
        )
    return f"the record has no field {name!r}"


def key_text(name: str, value: Any) -> str:
    """A key as text: text as it is, a whole number in decimal, bytes as UTF-8."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, numbers.Integral) and not isinstance(value, NO_NUMBERS):
        try:
            text = str(int(value))
        except ValueError as error:
            raise RecordError(f"{name} must have fewer digits to be a key", value) from error
    elif isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise RecordError(f"{name} must be UTF-8", value) from error
    else:
        raise RecordError(f"{name} must be text, a whole number or bytes to be a key", value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RecordError(f"{name} must be valid Unicode to be a key", value) from error
    if not 0 < size <= MAX_KEY_BYTES:
        raise RecordError(f"{name} must have 1 to {MAX_KEY_BYTES} bytes to be a key", value)
    return text


def micros(name: str, value: Any, time_format: str | None = None) -> int:
    """An event time as microseconds since 1970.

    Args:
        name: The column, for the error.
        value: A Beam Timestamp, or as `beam_rnn.data.event_times.micros_of` takes it.
        time_format: How texts and numbers are written, as there.
    """
    try:
        time = int(value.micros) if isinstance(value, Timestamp) else micros_of(value, time_format)
    except WrongUnitError as error:
        raise RecordError(f"{name} must be a time: {error}", value) from error
    except (ValueError, TypeError, ArithmeticError) as error:
        raise RecordError(f"{name} must be {_times_are(time_format)}", value) from error
    if not MIN_MICROS <= time <= MAX_MICROS:
        raise RecordError(f"{name} must be in the years 1 to 9999", value)
    return time


def _times_are(time_format: str | None) -> str:
    if time_format is None:
        return "a time: a Timestamp, a datetime, ISO 8601 text or seconds since 1970"
    if time_format in UNITS:
        return f"a time: a Timestamp, a datetime, ISO 8601 text or {time_format} as a number"
    return f"a time: a Timestamp, a datetime, or text as {time_format!r}"


def whole(name: str, value: Any) -> int:
    """A sequence number: a whole number of 64 bits above -2**63, which stands for none."""
    if not isinstance(value, numbers.Integral) or isinstance(value, NO_NUMBERS):
        raise RecordError(f"{name} must be a whole number", value)
    if not -(2**63) < int(value) < 2**63:
        raise RecordError(f"{name} must be a whole number of 64 bits above -2**63", value)
    return int(value)


def mark(name: str, value: Any) -> bool:
    """A mark: true or false, 1 or 0; None is false."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Real) and value in (0, 1):
        return bool(value)
    raise RecordError(f"{name} must be true or false", value)


def number(name: str, value: Any) -> float:
    """An input or a target: a finite number; True is 1, and -0 is 0."""
    if type(value) is not float:
        if value is None:
            raise RecordError(f"{name} is missing", value)
        if isinstance(value, (list, tuple, np.ndarray)):
            raise RecordError(f"{name} must be one number, not a list of {_length(value)}", value)
        real = isinstance(value, (numbers.Real, Decimal, np.bool_))
        if not real or isinstance(value, np.timedelta64):
            raise RecordError(f"{name} must be a number", value)
        try:
            value = float(value)
        except (OverflowError, ValueError, TypeError) as error:
            raise RecordError(f"{name} must be a number of 64 bits", value) from error
    if not math.isfinite(value):
        raise RecordError(f"{name} must be finite", value)
    return value + 0.0


def number_or_missing(name: str, value: Any) -> float:
    """As `number`, and NaN for what is missing."""
    return math.nan if is_missing(value) else number(name, value)


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def vector(
    name: str, value: Any, size: int, read: Callable[[str, Any], float] = number
) -> list[float]:
    """A list of so many numbers, each as `read` has it; where one may be missing, all may be.

    >>> vector("notes", [0, True], 2)
    [0.0, 1.0]
    """
    if is_missing(value):
        return [read(name, value)] * size
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) != 1:
        raise RecordError(f"{name} must be a list of {size} numbers", value)
    if len(value) != size:
        raise RecordError(f"{name} must be {size} numbers, not {len(value)}", value)
    values = value.tolist() if isinstance(value, np.ndarray) else value
    return [read(f"{name}[{i}]", each) for i, each in enumerate(values)]


def symbol(name: str, value: Any) -> str:
    """A symbol as text: text as it is, a whole number in decimal."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, numbers.Integral) and not isinstance(value, NO_NUMBERS):
        text = str(int(value))
    else:
        raise RecordError(f"{name} must be text or a whole number to be a symbol", value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RecordError(f"{name} must be valid Unicode to be a symbol", value) from error
    if size > MAX_KEY_BYTES:
        raise RecordError(f"{name} must have at most {MAX_KEY_BYTES} bytes to be a symbol", value)
    return text


def one_of(name: str, value: Any, classes: Mapping[str, int]) -> list[float]:
    """A class: 1 at its place, 0 at those of the others.

    Args:
        name: The column, for the error.
        value: The class, as text or as a whole number.
        classes: The place of each class, by its text.
    """
    whole = isinstance(value, numbers.Real) and float(value).is_integer()
    text = str(int(value)) if whole else value
    if not isinstance(text, str) or text not in classes:
        raise RecordError(f"{name} must be one of the classes {', '.join(classes)}", value)
    return [float(i == classes[text]) for i in range(len(classes))]


def _length(value: Any) -> int:
    return value.size if isinstance(value, np.ndarray) else len(value)
