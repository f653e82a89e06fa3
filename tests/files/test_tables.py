"""Writing rows to files of every format, also without rows."""

import csv
import gzip
import json
from datetime import datetime, timezone

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn.files.row_writer import csv_line, write_rows, write_table
from beam_rnn.files.write import WriteFile, WriteLines

KEYS = pa.schema([("key", pa.string())])
MIN, MAX = (datetime(year, 1, 1) for year in (1900, 2100))  # noqa: DTZ001
AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
SCHEMA = pa.schema([("key", pa.string()), ("x", pa.float64()), ("at", pa.timestamp("us", "UTC"))])
ROWS = [{"key": key, "x": i / 4, "at": AT} for i, key in enumerate(["a", "pump\n7", 'b,"c"\r'])]


def written(rows, transform):
    with beam.Pipeline("FnApiRunner") as pipeline:
        _ = pipeline | beam.Create(rows) | transform


def by_key(rows):
    return sorted(rows, key=lambda row: row["key"])


def read(path):
    if ".csv" in path.name:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="") as file:
            rows = csv.DictReader(file)
            return [{**row, "x": float(row["x"]), "at": AT} for row in rows]
    if path.suffix == ".jsonl":
        return [{**json.loads(line), "at": AT} for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with pa.ipc.open_file(path) as reader:
        return reader.read_all().to_pylist()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".jsonl", ".parquet", ".arrow"])
def test_rows_are_read_back_as_they_were(suffix, tmp_path):
    path, table = tmp_path / f"rows{suffix}", tmp_path / f"table{suffix}"
    written(ROWS, WriteFile(str(path), SCHEMA))
    written([(row["key"], [row]) for row in ROWS], WriteFile(str(table)))

    assert by_key(read(path)) == by_key(ROWS)
    assert read(table) == by_key(ROWS)
    assert sorted(tmp_path.iterdir()) == [path, table]


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb", '"', "a,b", " a", "", "1E+05"])
def test_a_field_survives_a_csv_round_trip(text):
    assert list(csv.reader([csv_line([text, 1])])) == [[text, "1"]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".arrow"])
def test_a_file_of_no_rows_has_its_columns(suffix, tmp_path):
    path = tmp_path / f"rows{suffix}"
    written([], WriteFile(str(path), SCHEMA))

    assert read(path) == []
    assert suffix != ".csv" or path.read_text() == "key,x,at\n"


def test_rows_of_several_kinds_have_all_columns(tmp_path):
    path = tmp_path / "rows.csv"
    written([("b", [{"y": 2}]), ("a", [{"x": 1}, {"x": "one"}])], WriteFile(str(path)))

    assert path.read_text() == "x,y\n1,\none,\n,2\n"


def test_text_that_is_not_utf_8_is_written_as_it_was(tmp_path):
    path = tmp_path / "rows.csv"
    written([("a", [{"place": b"Z\xfcrich", "x": "1E+05"}])], WriteFile(str(path)))

    assert path.read_bytes() == b"place,x\nZ\xfcrich,1E+05\n"


def test_a_file_of_lines_is_there_if_there_are_some(tmp_path):
    path = tmp_path / "refused.jsonl"
    written(["a", "b"], WriteLines(str(path)))
    assert sorted(path.read_text().splitlines()) == ["a", "b"]

    written([], WriteLines(str(path)))
    assert not path.exists()


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.text(), st.sampled_from(["a,b", 'say "hi"', "two\nlines", "a\rb", ""])),
            st.datetimes(MIN, MAX),
            st.one_of(
                st.none(),
                st.floats(allow_nan=False, allow_infinity=False),
                st.floats(1e-6, 1e17).map(lambda x: round(x, 3)),
            ),
            st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=20,
    ),
    whole=st.booleans(),
)
def test_a_table_is_written_as_its_rows(rows, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    zone = timezone.utc
    times = [
        at.replace(tzinfo=zone, microsecond=0 if whole else at.microsecond) for _, at, *_ in rows
    ]
    schema = pa.schema(
        [
            *(("key", pa.string()), ("time", pa.timestamp("us", "UTC"))),
            *(("x", pa.float64()), ("n", pa.int64())),
        ]
    )
    keys = pa.array([row[0] for row in rows], pa.string()).dictionary_encode()
    numbers = [pa.array([row[i] for row in rows], schema.types[i]) for i in (2, 3)]
    table = pa.table([keys, pa.array(times, schema.types[1]), *numbers], names=schema.names)
    as_dicts = [
        dict(zip(schema.names, (row[0], at, *row[2:]), strict=True))
        for row, at in zip(rows, times, strict=True)
    ]
    for name in ("a.csv", "a.jsonl"):
        write_table(table, str(folder / name))
        write_rows(as_dicts, str(folder / f"rows-{name}"), schema)
        assert (folder / name).read_bytes() == (folder / f"rows-{name}").read_bytes()
    write_table(table.select(["key"]), str(folder / "keys.csv"))
    write_rows([{"key": row["key"]} for row in as_dicts], str(folder / "k.csv"), KEYS)
    assert (folder / "keys.csv").read_bytes() == (folder / "k.csv").read_bytes()
    write_table(table, str(folder / "a.parquet"))
    assert pq.read_table(folder / "a.parquet").to_pylist() == as_dicts
