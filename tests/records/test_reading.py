"""Records read by the column equal records read one by one."""

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn import Columns
from beam_rnn.errors import RecordError
from beam_rnn.records.column_reader import ALONE_BELOW, ColumnReader
from beam_rnn.records.record_reader import RecordReader

COLUMNS = Columns(
    key="id", time="t", inputs=["x", "y"], sequence="n", start="first", end="last", targets=["x"]
)
KEYS = ["a", "b", "", 7, "7", True, 1, b"a", b"\xff", None, ["a"], 1.0, "k" * 2000]
TIMES = [0, 5, 5.5, -1, -5.5, 1e11, 2**70, float("nan"), "2020-01-01", "1949-01", 19490101, None,
         True, "soon", datetime(1949, 1, 1, tzinfo=timezone.utc), Timestamp(-5), MIN_TIMESTAMP,
         Timestamp(5), datetime(2020, 1, 1, tzinfo=timezone.utc), np.datetime64("2020-01-01"),
         Decimal(3), np.int64(4), np.float32(4)]  # fmt: skip
NUMBERS = [0.5, -0.0, 3, True, float("nan"), float("inf"), "1", None, [1.0], 2**63, 10**400,
           np.float32(0.1), np.float64(2), np.int8(3), np.ones(2), Decimal("0.1")]  # fmt: skip
WHOLES = [0, -5, 2**63 - 1, 2**63, 1.0, True, "1", None]
MARKS = [True, False, None, 0, 1, 2, "yes", np.True_]


class Row(NamedTuple):
    id: object
    t: object
    n: object
    first: object
    last: object
    x: object
    y: object


@dataclass
class Thing:
    id: object
    t: object
    n: object
    first: object
    last: object
    x: object
    y: object


class Broken:
    id, t, n, first, last, x = "a", 1, 1, False, False, 1.0

    @property
    def y(self):
        raise ZeroDivisionError


KINDS = [lambda **fields: fields, Row, Thing, beam.Row]


def rows(values, kind):
    return st.builds(
        kind,
        id=st.sampled_from(values[0]),
        t=st.sampled_from(values[1]),
        n=st.sampled_from(values[2]),
        first=st.sampled_from(values[3]),
        last=st.sampled_from(values[3]),
        x=st.sampled_from(values[4]),
        y=st.sampled_from(values[4]),
    )


PLAIN = ["a", "b", 7], [0, 5], [1, 2], [True, None], [0.5, -0.0]
ANY = KEYS, TIMES, WHOLES, MARKS, NUMBERS
several = st.sampled_from(KINDS).flatmap(
    lambda kind: st.lists(
        st.one_of(rows(PLAIN, kind), rows(ANY, kind)), min_size=ALONE_BELOW, max_size=30
    )
)
strangers = st.lists(st.sampled_from([None, "a,1", {}, {"id": "a"}, Broken(), 5]), max_size=3)


def alone(reader, records):
    for record in records:
        try:
            yield tuple(reader.read(record, 9_000_000))
        except RecordError as error:
            yield tuple(reader.invalid(record, error))


@pytest.mark.parametrize(
    "columns",
    [
        COLUMNS,
        Columns(key="id", time="t", inputs=["x"]),
        Columns(key="id", time="t", inputs=["x"], latest=datetime(1970, 1, 1, tzinfo=timezone.utc)),
        Columns(key="id", time="t", inputs=["x"], time_format="%Y%m%d"),
        Columns(key="id", time="t", inputs=["x"], time_format="milliseconds"),
    ],
    ids=str,
)
@given(records=several, others=strangers, chance=st.randoms(use_true_random=False))
def test_any_records_are_read_as_one_by_one(records, others, chance, columns):
    records = [*records, *others]
    chance.shuffle(records)

    read = ColumnReader(columns).read(records, np.full(len(records), 9_000_000))

    letters = dict(read.invalid)
    together = [
        tuple(letters[i]) if key is None else (key, data)
        for i, (key, data) in enumerate(zip(read.keys, read.data, strict=True))
    ]
    assert together == list(alone(RecordReader(columns), records))


def test_without_a_time_column_the_time_is_that_of_the_element():
    columns = Columns(key="id", inputs=["x"])
    records = [{"id": "a", "x": 1.0}] * 20
    times = [t * 1_000_000 for t in range(20)]
    arrived = np.array(times)

    read = ColumnReader(columns).read(records, arrived)

    reader = RecordReader(columns)
    assert read.data == [reader.read(r, t).data for r, t in zip(records, times, strict=True)]


def test_a_field_with_a_dot_in_its_name_is_a_field():
    columns = Columns(key="id", time="t", inputs=["a.b"])
    records = [{"id": "a", "t": t, "a.b": 1.0} for t in range(20)]

    assert not ColumnReader(columns).read(records).invalid


def test_keys_are_remembered_only_so_long(monkeypatch):
    monkeypatch.setattr("beam_rnn.records.column_reader.KNOWN_KEYS", 10)
    reader = ColumnReader(Columns(key="id", time="t", inputs=["x"]))

    for start in range(0, 200, 20):
        records = [{"id": f"{start}-{i}", "t": 1, "x": 1.0} for i in range(20)]
        assert reader.read(records).keys == [record["id"] for record in records]

    assert len(reader._keys) <= 30
