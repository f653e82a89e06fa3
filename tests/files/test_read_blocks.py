"""Files that are read by the column: the records and dead letters of reading row by row."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_rnn import Columns
from beam_rnn.errors import BeamRnnError, RecordError
from beam_rnn.files import read_blocks as read_blocks_module
from beam_rnn.files.read_blocks import read_blocks
from beam_rnn.files.row_reader import UnreadableFileError, records_of
from beam_rnn.records.block_format import ends_of, starts_of
from beam_rnn.records.record_format import encode_records
from beam_rnn.records.record_reader import RecordReader

COLUMNS = Columns(key="k", time="t", inputs=["x"], targets=["y"], sequence="n")
READ_BY = [
    COLUMNS,
    replace(COLUMNS, sequence=None, missing="carry"),
    replace(COLUMNS, sequence="row"),
    replace(COLUMNS, key="filename", sequence=None),
    replace(COLUMNS, sequence=None, time_format="%Y%m%d"),
    replace(COLUMNS, sequence=None, time_format="milliseconds"),
    replace(COLUMNS, sequence=None, start="first", weight="w"),
]


def row_by_row(path, columns, *, targets):
    """What each row of a file is, by the readers of rows."""
    reader, found = RecordReader(columns, targets), []
    with path.open("rb") as opened:
        for record in records_of(opened, str(path), str(path.parent), columns):
            try:
                found.append(tuple(reader.read(record, 0)))
            except RecordError as error:
                found.append(tuple(reader.invalid(record, error)))
    return found


def by_column(path, columns, *, targets):
    (found,) = read_blocks(f"{path.parent}/*{path.name}", columns, targets=targets)
    rows = [None] * found.rows
    block = found.block
    marks = {"starts": starts_of(block.marks), "ends": ends_of(block.marks)}
    data = encode_records(block.time, block.sequence, block.numbers, **marks)
    for row, key, each in zip(block.row.tolist(), block.of_key.tolist(), data, strict=True):
        rows[row] = block.keys[key], each
    for row, letter in found.letters:
        rows[row] = tuple(letter)
    return rows


def outcome(read, *args, **settings):
    """What is read, or the error."""
    try:
        return read(*args, **settings)
    except BeamRnnError as error:
        return type(error), str(error)


def both(path, columns, *, targets=False):
    expected = outcome(row_by_row, path, columns, targets=targets)
    assert outcome(by_column, path, columns, targets=targets) == expected


NUMBERS = [
    *("0.5", "-0", "1", "", "1e3", "1e999", "nan", "inf", " 1", "+1", ".5", "5.", "1_0", "n/a"),
    *("9007199254740993", "1" * 320, "0x1", "-1.25E-2", "\u0661"),
]
TIMES = [
    *("2024-05-01 10:00:00", "2024-05-01T10:00:00Z", "2024-02-30 00:00:00", "1404172800"),
    *("20140701", "1404172800.5", "2024-05-01", "2024-05-01T10:00:00+02:00"),
    *("0000-01-01 00:00:00", "", "soon", "99999999999", "9999-12-31 23:59:59"),
    *("2024-05-01 24:00:00", "1990Q1"),
]
KEYS = ["a", "pump 7", "", "\u00e9", "b,c", 'say "hi"', "two\nlines", "7"]
WHOLES = ["0", "5", "-3", "1.0", "", "99999999999999999999", "x"]
MARKS = ["", "true", "1", "0", "false"]
CELLS = {"k": KEYS, "t": TIMES, "x": NUMBERS, "y": NUMBERS, "n": WHOLES, "first": MARKS}
CELLS |= {"w": NUMBERS, "other": [*KEYS, *NUMBERS]}
PLAIN = {"k": "a", "t": TIMES[0], "x": "0.5", "y": "1", "n": "3", "first": "", "w": "1"}
PLAIN |= {"other": ""}


@st.composite
def csv_files(draw):
    quote = draw(st.sampled_from(["needed", "all", "never"]))
    names = draw(st.permutations(list(PLAIN)))
    lines = [",".join(names)]
    for _ in range(draw(st.integers(0, 6))):
        row = dict(PLAIN)
        for name in draw(st.sets(st.sampled_from(names), max_size=2)):
            row[name] = draw(st.sampled_from(CELLS[name]))
        cells = [quoted(row[name], quote) for name in names]
        if draw(st.integers(0, 15)) == 0:
            cells.pop()
        lines.append(",".join(cells))
        if draw(st.integers(0, 15)) == 0:
            lines.append("")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    data = text.encode()
    if draw(st.integers(0, 20)) == 0:
        data = data.replace(b"a", b"\xff", 1)
    return draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf"])) + data


def quoted(cell, quote):
    needs = any(c in cell for c in ',"\n')
    if quote == "all" or (quote == "needed" and needs):
        return '"' + cell.replace('"', '""') + '"'
    return cell


@settings(deadline=None, max_examples=300)
@given(data=csv_files(), columns=st.sampled_from(READ_BY), targets=st.booleans())
@example(data=b"k,t,x\n", columns=COLUMNS, targets=False)
@example(data=b"", columns=COLUMNS, targets=False)
@example(data=b"k;t;x\n1;2;3\n", columns=COLUMNS, targets=False)
def test_a_csv_file_is_read_as_row_by_row(data, columns, targets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("csv")
    path = folder / "a.csv"
    path.write_bytes(data)
    both(path, columns, targets=targets)
    packed = folder / "b.csv.gz"
    packed.write_bytes(gzip.compress(data))
    both(packed, columns, targets=targets)


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "k": st.sampled_from(["a", "b", None, ""]),
                "t": st.sampled_from([1_404_172_800, 20_140_701, 5, None]),
                "x": st.sampled_from([0.5, None, float("nan"), float("inf"), -0.0]),
                "y": st.sampled_from([1.0, None]),
                "n": st.sampled_from([1, 2, None]),
                "first": st.sampled_from([None, True, False]),
                "w": st.sampled_from([1.0, -1.0]),
                "other": st.sampled_from(["site", None]),
            }
        ),
        max_size=8,
    ),
    columns=st.sampled_from([c for c in READ_BY if c.time_format != "%Y%m%d"]),
    targets=st.booleans(),
)
def test_other_files_are_read_as_row_by_row(rows, columns, targets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    schema = pa.schema(
        [
            *(("k", pa.string()), ("t", pa.int64()), ("x", pa.float64()), ("y", pa.float64())),
            *(
                ("n", pa.int64()),
                ("first", pa.bool_()),
                ("w", pa.float64()),
                ("other", pa.string()),
            ),
        ]
    )
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(table, folder / "a.parquet", row_group_size=3)
    with pa.ipc.new_file(folder / "a.arrow", schema) as writer:
        writer.write_table(table)
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "[1]\n{\n")
    for name in ("a.parquet", "a.arrow", "a.jsonl"):
        both(folder / name, columns, targets=targets)


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_plain_file_is_read_by_the_column(quote, tmp_path, monkeypatch):
    def at(i):
        return f"{quote}2024-05-01 10:00:{i % 60:02}{quote}"

    lines = [f"{quote}a{quote},{at(i)},{i / 7},{'bad' if i == 5 else i}" for i in range(200)]
    (tmp_path / "a.csv").write_text("\n".join(["k,t,x,n", *lines]))
    monkeypatch.setattr(read_blocks_module, "ColumnReader", None)

    (found,) = read_blocks(f"{tmp_path}/a.csv", replace(COLUMNS, targets=("x",)))

    assert found.block.records == 199
    ((row, letter),) = found.letters
    assert (row, letter.value) == (5, "'bad'")


def test_what_is_no_such_file_is_said(tmp_path):
    for name in ("a.parquet", "a.arrow", "a.csv.gz", "a.csv"):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
        with pytest.raises(UnreadableFileError, match=name):
            list(read_blocks(f"{tmp_path}/{name}", COLUMNS))
    twice = pa.table([["a"], [1], [1.0], [2.0]], names=["k", "t", "x", "x"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(UnreadableFileError, match="two columns named 'x'"):
        list(read_blocks(f"{tmp_path}/a.parquet", COLUMNS))


def test_files_come_in_the_order_of_their_paths_and_have_their_places(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text(f"k,t,x\n{name},1,2\n{name},2,3\n")
    columns = Columns(key="filename", time="t", inputs=["x"], sequence="row")
    first, second = read_blocks(f"{tmp_path}/*.csv", columns)
    assert first.block.keys == ["a.csv"]
    assert second.block.keys == ["b.csv"]
    assert np.concatenate([first.block.sequence, second.block.sequence]).tolist() == [
        *(0, 1, 1 << 40, (1 << 40) + 1)
    ]


def test_it_imports_no_beam(tmp_path):
    (tmp_path / "a.csv").write_text("k,t,x\na,1,2\n")
    code = f"""
import sys
from beam_rnn import Columns
from beam_rnn.files.read_blocks import read_blocks
(found,) = read_blocks({str(tmp_path / "*.csv")!r}, Columns(key="k", time="t", inputs=["x"]))
assert found.rows == 1 and "apache_beam" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
