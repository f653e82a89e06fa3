"""Reading files: the records of each format, and the errors of unreadable files."""

import bz2
import gzip
import json
import sys
import zlib

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io import fileio
from apache_beam.io.filesystems import FileSystems
from apache_beam.typehints import Any

from beam_rnn import Columns
from beam_rnn.cli import flags
from beam_rnn.errors import RecordError
from beam_rnn.files.read import ReadFiles, read_file
from beam_rnn.files.row_reader import ALL, AS_WRITTEN, UnreadableFileError, json_record
from beam_rnn.records.field_values import UNREADABLE, micros
from beam_rnn.records.record_format import decode_record
from beam_rnn.records.record_reader import RecordReader
from tests.helpers.engines import Collect, run
from tests.helpers.mutations import COUNTS, mutated

COLUMNS = Columns(key="k", time="t", inputs=["x"])
CSV = "t,k,x\n" + "".join(f"{3600 * i},a,{i / 8}\n" for i in range(2000))
PACK = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def read(path, columns=COLUMNS, **arguments):
    (found,) = FileSystems.match([str(path)])
    file = fileio.ReadableFile(found.metadata_list[0])
    return list(read_file(file, str(path.parent), columns, **arguments))


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_parquet(table, path):
    pq.write_table(table, path)
    return path


def as_arrow(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    return path


def as_json_lines(table, path):
    return written(path, "".join(json.dumps(row) + "\n" for row in table.to_pylist()))


@pytest.mark.parametrize("ending", PACK)
def test_a_compressed_file_is_read_whole_or_not_at_all(ending, tmp_path):
    data = CSV.encode()
    half = len(CSV) // 2
    packed = PACK[ending](data)

    whole = read(written(tmp_path / f"whole.csv.{ending}", packed))
    assert whole == [{**row, "filename": f"whole.csv.{ending}"} for row in read_plain(tmp_path)]
    several = PACK[ending](data[:half]) + PACK[ending](data[half:])
    assert len(read(written(tmp_path / f"several.csv.{ending}", several))) == 2000

    for broken in (packed[: len(packed) // 2], packed[:-1], packed + b"x" * 20, data, b""):
        path = written(tmp_path / f"broken.csv.{ending}", broken)
        with pytest.raises(UnreadableFileError, match=rf"broken\.csv\.{ending}' (is|cannot be)"):
            read(path)


def read_plain(tmp_path):
    return read(written(tmp_path / "plain.csv", CSV))


def test_a_gzip_that_is_cut_at_the_end_of_a_line_is_an_error(tmp_path):
    """Not even a bad line shows the error."""
    packed = gzip.compress(CSV.encode())
    for n in range(len(packed) // 2, 0, -1):
        if zlib.decompressobj(31).decompress(packed[:n]).endswith(b"\n"):
            break
    with pytest.raises(UnreadableFileError, match=r"cut\.csv\.gz' cannot be read"):
        read(written(tmp_path / "cut.csv.gz", packed[:n]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "t,k,x,Größe\n0,a,1,2\n".encode("latin-1"), r"header that is not UTF-8.*latin1"),
        ("a.csv", CSV.encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        ("a.csv", CSV.encode("utf-16-le"), "is UTF-16 text"),
        ("a.jsonl", '{"t": 1}'.encode("utf-16"), "is UTF-16 text"),
        ("a.csv", gzip.compress(CSV.encode()), r"compressed by gzip: let its name end in \.gz"),
        ("a.csv.gz", gzip.compress(gzip.compress(CSV.encode())), "compressed by gzip"),
        ("a.csv", bz2.compress(CSV.encode()), "compressed by bzip2"),
        ("a.csv", PACK["zst"](CSV.encode()), "compressed by zstd"),
        ("a.csv", b"PK\x03\x04rest", "is a zip file, as those of Excel are"),
        ("a.csv", "t,k,x,x\n0,a,1,2\n", "has two columns named 'x': rename one"),
        ("a.csv", "t;k;x\n0;a;1.5\n", "columns separated by semicolons, 't;k;x'"),
        ("a.csv", "t;k;x\n0;a;1,5\n", "commas between columns, and points in numbers"),
        ("a.csv", "t\tk\tx\n0\ta\t1.5\n", "columns separated by tabs"),
        ("a.parquet", CSV, r"cannot be read as a \.parquet file"),
        ("a.arrow", CSV, r"cannot be read as a \.arrow file"),
    ],
)
def test_a_file_that_is_something_else_is_named_with_the_way_out(name, content, message, tmp_path):
    path = written(tmp_path / name, content)
    with pytest.raises(UnreadableFileError, match=message) as error:
        read(path)
    assert repr(str(path)) in str(error.value)


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_a_file_of_columns_under_the_name_of_text_is_named(write, tmp_path):
    path = write(pa.table({"t": [1], "k": ["a"], "x": [0.5]}), tmp_path / "a.csv")
    with pytest.raises(UnreadableFileError, match=r"is an? (Parquet|Arrow) file: let its name end"):
        read(path)


@pytest.mark.parametrize("write", [as_parquet, as_arrow])
def test_two_columns_of_one_name_are_an_error(write, tmp_path):
    table = pa.table([[1], ["a"], [0.5], [7.5]], names=["t", "k", "x", "x"])
    with pytest.raises(UnreadableFileError, match="has two columns named 'x': rename one"):
        read(write(table, tmp_path / f"a.{write.__name__.removeprefix('as_')}"))


def test_two_fields_of_one_name_are_no_record():
    record = json_record(b'{"k": "a", "x": 1, "x": 2}')
    with pytest.raises(RecordError, match="it has two fields 'x'"):
        RecordReader(COLUMNS).read(record)


def test_columns_without_a_name_are_no_error(tmp_path):
    (record,) = read(written(tmp_path / "a.csv", "t,k,x,,\n0,a,1,,\n"))
    assert record["x"] == 1


def test_an_empty_field_of_a_csv_file_is_a_missing_value_as_null_is_elsewhere(tmp_path):
    table = pa.table({"t": ["0", "1"], "k": ["a", "a"], "x": [None, 2.5]})
    of_csv = read(written(tmp_path / "a.csv", "t,k,x\n0,a,\n1,a,2.5\n"))
    of_others = [
        read(as_parquet(table, tmp_path / "a.parquet")),
        read(as_json_lines(table, tmp_path / "a.jsonl")),
    ]

    for records in (of_csv, *of_others):
        assert [record["x"] for record in records] == [None, 2.5]
    with pytest.raises(RecordError, match="x is missing"):
        RecordReader(COLUMNS).read(of_csv[0])


def test_a_day_of_eight_digits_is_the_same_day_in_every_format(tmp_path):
    table = pa.table({"t": [20240101, 20240229], "k": ["a", "a"], "x": [1.0, 2.0]})
    rows = [
        read(written(tmp_path / "a.csv", "t,k,x\n20240101,a,1\n20240229,a,2\n")),
        read(as_parquet(table, tmp_path / "a.parquet")),
        read(as_arrow(table, tmp_path / "a.arrow")),
        read(as_json_lines(table, tmp_path / "a.jsonl")),
    ]

    for records in rows:
        times = [decode_record(RecordReader(COLUMNS).read(record).data).time for record in records]
        assert times == [micros("t", "2024-01-01"), micros("t", "2024-02-29")]
    seconds = Columns(key="k", time="t", inputs=["x"], time_format="seconds")
    for path in sorted(tmp_path.iterdir()):
        record = RecordReader(seconds).read(read(path, seconds)[0])
        assert decode_record(record.data).time == 20240101 * 1_000_000


def test_nanoseconds_are_read_without_pandas(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    nanoseconds = [1_704_067_200_333_333_333, -1, None]
    kind = pa.timestamp("ns")
    table = pa.table({"t": pa.array(nanoseconds, kind), "since": pa.array([1, 2, 3], kind)})

    records = read(as_parquet(table, tmp_path / "a.parquet"))

    assert [str(record["t"]) for record in records] == [
        "2024-01-01 00:00:00.333333",
        "1969-12-31 23:59:59.999999",
        "None",
    ]


def test_the_row_number_can_be_the_sequence_number(tmp_path):
    for name in ("b.csv", "a.csv"):
        written(tmp_path / name, f"t,k,x\n0,{name},1\nbad\n0,{name},1\n")
    columns = Columns(key="k", time="t", inputs=["x"], sequence="row")

    rows = Collect()

    run(lambda p: p | ReadFiles(f"{tmp_path}/*.csv", columns) | rows)

    number = {
        name: sorted(row["row"] for row in rows.elements if row["filename"] == name)
        for name in ("a.csv", "b.csv")
    }
    assert number["a.csv"] == [0, 1, 2]
    assert number["b.csv"][0] > 2
    keys = [row for row in rows.elements if "k" in row]
    assert len({RecordReader(columns).read(row) for row in keys}) == 4
    with pytest.raises(RecordError, match="no field 'row', its place in its file: a stream needs"):
        RecordReader(columns).read({"k": "a", "t": 0, "x": 1.0})


def test_a_column_that_is_called_row_is_the_number(tmp_path):
    columns = Columns(key="k", time="t", inputs=["x"], sequence="row")
    (record,) = read(written(tmp_path / "a.csv", "t,k,x,row\n0,a,1,7\n"), columns)
    assert record["row"] == 7


def test_the_text_of_numbers_is_kept_on_request(tmp_path):
    path = written(tmp_path / "a.csv", "t,k,x,code\n0,a,1E+05,007\n1,a,0.5,008\n")

    first, second = read(path, keep=["x", "code"])
    assert (first["x"], first["code"]) == (100_000.0, "007")
    assert (first[AS_WRITTEN], second[AS_WRITTEN]) == ({"x": "1E+05"}, {})
    assert read(path, keep=ALL) == [first, second]
    assert AS_WRITTEN not in read(path)[0]


def test_a_name_with_a_comma_is_quoted():
    assert flags.names('a,"b, c" , d') == ["a", "b, c", "d"]
    assert flags.names('"say ""hi"""') == ['say "hi"']


ROWS = pa.table(
    {
        "t": pa.array(range(0, 3600 * 40, 3600), pa.timestamp("s")),
        "k": ["a", "b"] * 20,
        "x": [i / 8 for i in range(40)],
        "n": list(range(40)),
        "note": [None, "one"] * 20,
    }
)
PLAIN = ROWS.set_column(0, "t", pa.array(range(0, 3600 * 40, 3600)))


def good_file(ending, folder):
    if ending == "parquet":
        return as_parquet(ROWS, folder / "good.parquet").read_bytes()
    if ending == "arrow":
        return as_arrow(ROWS, folder / "good.arrow").read_bytes()
    if ending == "jsonl":
        return as_json_lines(PLAIN, folder / "good.jsonl").read_bytes()
    lines = [",".join(PLAIN.column_names)]
    lines += [",".join(map(str, row.values())) for row in PLAIN.to_pylist()]
    text = "\n".join(lines).replace("None", "").encode()
    return gzip.compress(text, mtime=0) if ending == "csv.gz" else text


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "parquet", "arrow"])
def test_each_record_of_a_damaged_file_is_read_or_refused_or_the_file_is(ending, count, tmp_path):
    columns = Columns(key="k", time="t", inputs=["x"], sequence="n")
    reader, coder = RecordReader(columns), beam.coders.registry.get_coder(Any)
    path = tmp_path / f"damaged.{ending}"
    refused = 0

    for data in mutated(good_file(ending, tmp_path), count):
        path.write_bytes(data)
        try:
            records = read(path, columns, keep=ALL)
        except UnreadableFileError:
            refused += 1
            continue
        for record in records:
            coder.encode(record)
            try:
                reader.read(record)
            except RecordError as error:
                coder.encode(reader.invalid(record, error))

    assert refused < count


@pytest.mark.parametrize("count", COUNTS)
def test_each_damaged_message_is_read_or_refused(count):
    message = json.dumps(
        {"k": "a\u00e9", "t": "2024-01-01", "x": 1.5, "list": [1, {"a": None}]}
    ).encode()
    reader, coder = RecordReader(COLUMNS), beam.coders.registry.get_coder(Any)
    read_ones = 0

    for data in mutated(message, count):
        record = json_record(data)
        coder.encode(record)
        try:
            reader.read(record)
            read_ones += 1
        except RecordError as error:
            letter = reader.invalid(record, error)
            assert letter.reason
            coder.encode(letter)
            assert UNREADABLE in record or isinstance(record, dict)

    assert 0 < read_ones < count


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        (['k,0,1,"oops', "k,1,1,b", "k,2,1,b"], 2),
        (["k,0,1,b", 'k,1,1,"oops', 'k,2,1,"b"', "k,3,1,b"], 3),
        (["k,0,1,b", 'k,1,1,"oops'], 3),
        (['k,0,1,"two', 'lines"', 'k,1,1,"oops', "", "k,2,1,b"], 4),
    ],
)
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_quote_that_is_not_closed_takes_no_lines_in_silence(lines, first, end, tmp_path):
    path = written(tmp_path / "a.csv", "\n".join(["k,t,x,note", *lines]) + end)

    with pytest.raises(UnreadableFileError, match=rf"a\.csv.* a quote in line {first}, 'k,.*oops"):
        read(path)


def test_quotes_that_are_closed_may_hold_lines_quotes_and_text_behind_them(tmp_path):
    rows = ['k,0,1,"two\nlines, ""quoted"""', 'k,1,1,"a"b', 'k,2,1,5" pipe', 'k,3,1,"end\n"']
    path = written(tmp_path / "a.csv", "\n".join(["k,t,x,note", *rows]))

    notes = [row["note"] for row in read(path)]

    assert notes == ['two\nlines, "quoted"', "ab", '5" pipe', "end\n"]
