import datetime as dt
import decimal
import fractions
import json
import math
from dataclasses import replace
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.coders import registry
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp

from beam_rnn.data.columns import Columns
from beam_rnn.errors import RecordError
from beam_rnn.records.field_values import micros
from beam_rnn.records.record_format import decode_record
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import (
    EndedSequence,
    InvalidRecord,
    LateRecord,
    Prediction,
    SequenceGap,
)

COLUMNS = Columns(key="id", time="t", inputs=["x", "y"], targets=["z"])
GOOD = {"id": "a", "t": 1_500_000_000, "x": 1.5, "y": -2, "z": 7}


class Reading(NamedTuple):
    id: str
    t: float
    x: float
    y: float


def read(record, **arguments):
    result = RecordReader(COLUMNS, **arguments).read(record)
    return result.key, decode_record(result.data)


@pytest.mark.parametrize(
    "record",
    [
        GOOD,
        beam.Row(**GOOD),
        Reading("a", 1_500_000_000, 1.5, -2),
        {**GOOD, "x": np.float64(1.5), "y": np.int8(-2), "t": np.int64(1_500_000_000)},
        {**GOOD, "id": b"a", "x": fractions.Fraction(3, 2)},
        {**GOOD, "x": decimal.Decimal("1.5")},
    ],
    ids=["dict", "row", "namedtuple", "numpy", "bytes and fraction", "decimal"],
)
def test_every_kind_of_record_reads_the_same(record):
    key, data = read(record)

    assert key == "a"
    assert data.time == 1_500_000_000_000_000
    assert data.numbers.tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("low", [1, 0, 0]),
        (7, [0, 0, 1]),
        ("7", [0, 0, 1]),
        (7.0, [0, 0, 1]),
        (np.int8(7), [0, 0, 1]),
    ],
)
def test_a_class_is_one_at_its_place(value, numbers):
    columns = replace(COLUMNS, classes=["low", "high", 7])
    _, data = RecordReader(columns, targets=True).read({**GOOD, "z": value})
    assert decode_record(data).numbers.tolist() == [1.5, -2.0, *numbers]


@pytest.mark.parametrize("value", ["LOW", None, 7.5, True, ["low"], float("nan"), 8])
def test_another_class_is_refused(value):
    columns = replace(COLUMNS, classes=["low", "high", 7])
    with pytest.raises(RecordError, match="z must be one of the classes low, high, 7") as refused:
        RecordReader(columns, targets=True).read({**GOOD, "z": value})
    assert refused.value.value is value


def test_the_weight_of_a_record_comes_last():
    columns = replace(COLUMNS, weight="w")
    _, data = RecordReader(columns, targets=True).read({**GOOD, "w": 0.5})
    assert decode_record(data).numbers.tolist() == [1.5, -2.0, 7.0, 0.5]
    with pytest.raises(RecordError, match="w must be at least 0 to be a weight, got -1"):
        RecordReader(columns, targets=True).read({**GOOD, "w": -1})
    with pytest.raises(RecordError, match="has no field 'w'"):
        RecordReader(columns, targets=True).read(GOOD)
    assert RecordReader(columns).read(GOOD).key == "a"  # a prediction needs none


class Lazy:
    id, t, y = "a", 1, 2.0

    @property
    def x(self):
        raise OSError("the file is gone")

    def __repr__(self):
        return "half a pair: \ud800"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({**GOOD, "x": 10**5000}, "x must be a number of 64 bits"),
        ({**GOOD, "id": 10**5000}, "id must have fewer digits to be a key"),
        ({**GOOD, "t": 10**5000}, "t must be a time"),
        ({**GOOD, "id": np.timedelta64(5, "s")}, "id must be text"),
        ({**GOOD, "x": np.timedelta64(5, "s")}, "x must be a number"),
        ({**GOOD, "t": np.timedelta64(5, "s")}, "t must be a time"),
        (Lazy(), "the field 'x' cannot be read: OSError('the file is gone')"),
    ],
    ids=["huge number", "huge key", "huge time", "span key", "span", "span time", "lazy"],
)
def test_a_record_without_a_repr_is_a_dead_letter(record, reason):
    reader = RecordReader(COLUMNS)
    with pytest.raises(RecordError) as refused:
        reader.read(record)
    letter = reader.invalid(record, refused.value)

    assert letter.reason.startswith(reason)
    for text in (str(refused.value), *letter):
        text.encode()  # no coder stumbles over it


def test_minus_zero_is_zero():
    minus, plus = ({**GOOD, "x": x} for x in (-0.0, 0.0))
    assert RecordReader(COLUMNS).read(minus) == RecordReader(COLUMNS).read(plus)


def test_records_for_training_have_their_targets():
    assert read(GOOD, targets=True)[1].numbers.tolist() == [1.5, -2.0, 7.0]
    with pytest.raises(RecordError, match="the record has no field 'z'"):
        read(Reading("a", 1, 1, 1), targets=True)


@pytest.mark.parametrize(
    "value",
    [
        "2014-07-01 00:00:00",
        "2014-07-01T00:00:00Z",
        "2014-07-01T02:00:00+02:00",
        "20140701",
        "1404172800",
        " 1404172800.0 ",
        decimal.Decimal(1_404_172_800),
        dt.date(2014, 7, 1),
        dt.datetime(2014, 7, 1),  # noqa: DTZ001
        dt.datetime(2014, 7, 1, tzinfo=dt.timezone.utc),
        dt.datetime(2014, 6, 30, 19, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
        np.datetime64("2014-07-01"),
        np.datetime64("2014-07-01T00:00:00.000000000"),
        Timestamp(1_404_172_800),
        1_404_172_800,
        1_404_172_800.0,
        np.int32(1_404_172_800),
    ],
    ids=repr,
)
def test_every_kind_of_time_reads_the_same(value):
    assert micros("t", value) == 1_404_172_800_000_000


def test_a_fraction_of_a_second_is_kept():
    assert micros("t", "2014-07-01 00:00:00.000001") == 1_404_172_800_000_001
    assert micros("t", 1_404_172_800.25) == 1_404_172_800_250_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1949-01", "1949-01-01"),
        ("1949/1", "1949-01-01"),
        ("2010/01/02", "2010-01-02"),
        ("2010/1/2 03:04", "2010-01-02T03:04"),
        ("1990Q1", "1990-01-01"),
        ("1990-q4", "1990-10-01"),
        ("1969-12-31 23:59:59.999999", "1969-12-31T23:59:59.999999"),
        ("1969-12-31T23:59:59.9", "1969-12-31T23:59:59.900000"),
        ("1969-12-31 23:59:59.1234567Z", "1969-12-31T23:59:59.123456"),
        ("19691231T2359", "1969-12-31T23:59"),
        ("19691231 235958+0100", "1969-12-31T22:59:58"),
        ("1969-12-31 23:59:59.5+00", "1969-12-31T23:59:59.500000"),
        ("1969-12-31T23-01:30", "1970-01-01T00:30"),
        (-0.5, "1969-12-31T23:59:59.500000"),
        ("-86400", "1969-12-31"),
        (dt.date(1, 1, 1), "0001-01-01"),
        (np.datetime64(-1, "ns"), "1969-12-31T23:59:59.999999"),
        ("9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999"),
    ],
)
def test_times_of_the_years_1_to_9999_are_read(value, expected):
    assert micros("t", value) == np.datetime64(expected, "us").astype(int)


def test_times_before_1970_come_before_those_after_it():
    texts = ["0001-01-01", "1899-12-31", "1969-12-31", "1970-01-01", "2024-01-01"]
    reader = RecordReader(COLUMNS)

    encoded = [reader.read({**GOOD, "t": text}).data for text in texts]

    assert sorted(encoded) == encoded
    assert [decode_record(data).time for data in encoded] == [micros("t", text) for text in texts]


@pytest.mark.parametrize(
    ("time_format", "value"),
    [
        ("%Y%m%d%H", "2014070112"),
        ("%Y%m%d%H", 2014070112),
        ("%Y%m%d%H", 2014070112.0),
        ("%d.%m.%Y %H Uhr", "01.07.2014 12 Uhr"),
        ("seconds", "1404216000"),
        ("milliseconds", 1_404_216_000_000),
        ("milliseconds", "2014-07-01 12:00"),
        ("microseconds", 1_404_216_000_000_000),
        ("nanoseconds", 1_404_216_000_000_000_999),
        ("excel", 41821.5),
        ("excel", "41821.5"),
        ("%Y", Timestamp(1_404_216_000)),
        ("excel", dt.datetime(2014, 7, 1, 12)),  # noqa: DTZ001
    ],
    ids=repr,
)
def test_a_format_says_how_texts_and_numbers_are_times(time_format, value):
    record = {**GOOD, "t": value}
    read = RecordReader(replace(COLUMNS, time_format=time_format)).read(record)

    assert decode_record(read.data).time == 1_404_216_000_000_000


def test_a_time_in_another_format_is_refused():
    reader = RecordReader(replace(COLUMNS, time_format="%Y%m%d"))
    with pytest.raises(RecordError, match=r"t must be .* text as '%Y%m%d'; .*, got '2014-07-01'"):
        reader.read({**GOOD, "t": "2014-07-01"})


def test_a_record_later_than_the_latest_is_refused():
    reader = RecordReader(replace(COLUMNS, latest="2030-01-01"))

    assert reader.read({**GOOD, "t": "2030-01-01"}).key == "a"
    with pytest.raises(RecordError, match=r"t must be at most 2030-01-01, got '2030-01-01T00:01'"):
        reader.read({**GOOD, "t": "2030-01-01T00:01"})


def test_without_a_time_column_the_element_has_the_time():
    reader = RecordReader(Columns(key="id", inputs=["x"]))

    assert decode_record(reader.read(GOOD, 5_000_000).data).time == 5_000_000
    with pytest.raises(RecordError, match="timestamp must be in the years 1 to 9999"):
        reader.read(GOOD, int(MIN_TIMESTAMP.micros))


def test_a_sequence_number_orders_records_of_one_time():
    reader = RecordReader(Columns(key="id", time="t", inputs=["x"], sequence="n"))
    rows = [{**GOOD, "n": n, "x": -n} for n in (-3, 2, 10)]

    encoded = sorted(reader.read(row).data for row in reversed(rows))

    assert [decode_record(data).numbers[0] for data in encoded] == [3, -2, -10]
    for bad in (1.5, "1", None, True, 2**63, -(2**63)):
        with pytest.raises(RecordError, match="n must be a whole number"):
            reader.read({**GOOD, "n": bad})


class Odd:
    """Numbers and lengths that raise."""

    def __float__(self):
        raise ValueError


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": "1.5"}, "x must be a number, got '1.5'"),
        ({"x": None}, "x is missing, got None"),
        ({"x": float("nan")}, "x must be finite, got nan"),
        ({"x": -math.inf}, "x must be finite, got -inf"),
        ({"x": np.float32("nan")}, "x must be finite, got nan"),
        ({"x": 10**400}, "x must be a number of 64 bits"),
        ({"x": 1 + 2j}, r"x must be a number, got \(1\+2j\)"),
        ({"x": [1.0, 2.0]}, r"x must be one number, not a list of 2, got \[1.0, 2.0\]"),
        ({"x": [1, [2, 3]]}, "x must be one number, not a list of 2"),
        ({"x": np.zeros((3, 2))}, "x must be one number, not a list of 6"),
        ({"x": Odd()}, "x must be a number"),
        ({"x": {"nested": 1}}, "x must be a number, got {'nested': 1}"),
        ({"id": [1]}, r"id must be text, a whole number or bytes to be a key, got \[1\]"),
        ({"id": {}}, "to be a key, got {}"),
        ({"id": None}, "to be a key, got None"),
        ({"id": 1.0}, "to be a key, got 1.0"),
        ({"id": True}, "to be a key, got True"),
        ({"id": ""}, "id must have 1 to 1024 bytes to be a key, got ''"),
        ({"id": "a" * 1025}, "id must have 1 to 1024 bytes"),
        ({"id": b"\xff"}, r"id must be UTF-8, got b'\\xff'"),
        ({"id": "\ud800"}, "id must be valid Unicode"),
        ({"t": "yesterday"}, "t must be a time: .* got 'yesterday'"),
        ({"t": None}, "t must be a time: .* got None"),
        ({"t": float("nan")}, "t must be a time: .* got nan"),
        ({"t": math.inf}, "t must be a time: .* got inf"),
        ({"t": True}, "t must be a time: .* got True"),
        ({"t": np.datetime64("NaT")}, "t must be a time"),
        ({"t": 1_404_172_800_000}, "a number is read as seconds since 1970.* set time_format"),
        ({"t": "-1404172800000"}, "a number is read as seconds since 1970"),
        ({"t": "10000-01-01"}, "t must be a time"),
        ({"t": "1990Q5"}, "t must be a time"),
        ({"t": "2014-W05-1"}, "t must be a time"),
        ({"t": "1949-13"}, "t must be a time"),
        ({"t": np.datetime64("0000-12-31T23:59:59")}, "t must be in the years 1 to 9999"),
        ({"t": np.datetime64("10000-01-01")}, "t must be in the years 1 to 9999"),
    ],
)
def test_the_error_of_an_invalid_record_has_the_reason_and_the_value(change, reason):
    with pytest.raises(RecordError, match=reason):
        read(GOOD | change)


@pytest.mark.parametrize("missing", ["id", "t", "x"])
def test_a_missing_field_is_named(missing):
    for make in (dict, beam.Row):
        record = make(**{k: v for k, v in GOOD.items() if k != missing})
        with pytest.raises(RecordError, match=f"the record has no field '{missing}'"):
            read(record)


@pytest.mark.parametrize("record", [None, 5, "a,b,c", b"bytes", [], object()])
def test_a_value_that_is_not_a_record_has_no_field(record):
    with pytest.raises(RecordError, match="the record has no field 'id'"):
        read(record)


def test_a_dead_letter_shows_key_reason_value_and_record():
    reader = RecordReader(COLUMNS)
    record = {**GOOD, "x": "1.5"}
    with pytest.raises(RecordError) as caught:
        reader.read(record)

    letter = reader.invalid(record, caught.value)

    assert letter == InvalidRecord("a", "x must be a number", "'1.5'", letter.record)
    assert json.loads(letter.record)["y"] == -2


def test_a_dead_letter_of_a_huge_record_is_short():
    reader = RecordReader(COLUMNS)
    record = {**GOOD, "x": list(range(10**6)), "note": "n" * 10**6}
    with pytest.raises(RecordError) as caught:
        reader.read(record)

    assert sum(map(len, reader.invalid(record, caught.value))) < 2000


@pytest.mark.parametrize(
    "row",
    [
        Prediction("a", 1, 2, [0.5], "d", b"s", 0, "numpy"),
        LateRecord("a", 1, 2, [0.5], 3),
        EndedSequence("a", 1, 2, 3, [0.5], "idle", "d", b"s", 4, "numpy"),
        SequenceGap("a", 1, 2, 3),
        InvalidRecord("a", "r", "v", "w"),
    ],
)
def test_rows_have_a_row_coder_that_every_language_reads(row):
    coder = registry.get_coder(type(row))

    assert coder.to_runner_api(PipelineContext()).spec.urn == "beam:coder:row:v1"
    assert coder.decode(coder.encode(row)) == row


def test_the_fields_of_the_rows_are_final():
    prediction = ("key", "time", "step", "outputs", "model", "state", "sequence", "kernel")
    assert Prediction._fields == prediction
    assert LateRecord._fields == ("key", "time", "behind", "inputs", "sequence")
    ended = ("key", "steps", "first_time", "last_time", "outputs", "reason", "model", "state")
    assert EndedSequence._fields == (*ended, "sequence", "kernel", "history", "begun")
    assert SequenceGap._fields == ("key", "time", "first", "last")
    assert InvalidRecord._fields == ("key", "reason", "value", "record")
