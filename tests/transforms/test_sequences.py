import random

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.window import (
    FixedWindows,
    Sessions,
    SlidingWindows,
    TimestampedValue,
)

from beam_rnn import Columns, Sequences
from beam_rnn.core.external_sort import sorted_on_disk
from beam_rnn.errors import ConfigurationError
from beam_rnn.records.cutting import cut, cut_in_parts
from beam_rnn.records.record_reader import RecordReader
from tests.helpers.engines import ENGINES, Collect, elements, run

COLUMNS = Columns(key="id", time="t", inputs=["x"], targets=["y"])


def row(t, key="a", **more):
    return {"id": key, "t": t, "x": float(t), "y": 100.0 + t} | more


def encoded(times, columns=COLUMNS):
    return [RecordReader(columns, targets=True).read(row(t)).data for t in times]


def test_a_step_has_the_target_of_the_record_horizon_later():
    for horizon in (0, 1, 3):
        columns = Columns(key="id", time="t", inputs=["x"], targets=["y"], horizon=horizon)
        (sequence,) = cut("a", encoded([4, 1, 3, 2, 5], columns), columns)

        assert sequence.inputs[:, 0].tolist() == list(range(1, 6 - horizon))
        assert sequence.targets[:, 0].tolist() == [100 + t for t in range(1 + horizon, 6)]
        assert sequence.times.tolist() == [t * 1_000_000 for t in range(1, 6 - horizon)]
        assert sequence.until == 5_000_000


def test_a_sequence_ends_at_its_marks_and_when_it_is_idle():
    """And no step has a target of another sequence."""
    columns = Columns(
        key="id", time="t", inputs=["x"], targets=["y"], start="first", end="last", horizon=1
    )
    records = [
        RecordReader(columns, targets=True).read(row(t, first=t == 5, last=t == 2)).data
        for t in (0, 1, 2, 3, 4, 5, 6, 60, 61, 62)
    ]

    sequences = cut("a", records, columns, length=3, idle_after=20_000_000)

    assert [s.inputs[:, 0].tolist() for s in sequences] == [[0, 1], [3], [5], [60, 61]]
    assert [s.until // 1_000_000 for s in sequences] == [2, 4, 6, 62]
    (whole, _, last) = cut("a", records, columns)
    assert whole.inputs[:, 0].tolist() == [0, 1]
    assert last.inputs[:, 0].tolist() == [5, 6, 60, 61]


def test_a_step_has_a_target_and_a_weight_for_each_horizon():
    columns = Columns(
        key="id", time="t", inputs=["x"], targets=["y", "x"], horizon=(0, 1, 3), weight="x"
    )
    (sequence,) = cut("a", encoded([4, 1, 3, 2, 5], columns), columns)

    assert sequence.inputs[:, 0].tolist() == [1, 2]
    assert sequence.targets.tolist() == [[101, 1, 102, 2, 104, 4], [102, 2, 103, 3, 105, 5]]
    assert sequence.weights.tolist() == [[1, 2, 4], [2, 3, 5]]
    assert sequence.until == 5_000_000


@pytest.mark.parametrize(
    ("length", "stride", "starts", "stops"),
    [
        (None, None, [1], [9]),
        (4, None, [1, 5], [4, 8]),
        (3, None, [1, 4, 7], [3, 6, 8]),
        (4, 2, [1, 3, 5], [4, 6, 8]),
        (100, None, [1], [8]),
        (2, 3, [1, 4, 7], [2, 5, 8]),
    ],
)
def test_length_and_stride(length, stride, starts, stops):
    """Nine steps for ten records."""
    records = encoded(range(1, 11)) if length is None else encoded(range(1, 10))
    sequences = cut("a", records, COLUMNS, length, stride)

    assert [s.inputs[0, 0] for s in sequences] == starts
    assert [s.inputs[-1, 0] for s in sequences] == stops
    assert sequences[-1].until == int(sequences[-1].targets[-1, 0] - 100) * 1_000_000


def test_a_fraction_takes_the_first_records_in_time():
    (sequence,) = cut("a", encoded([*range(10, 0, -1)]), COLUMNS, fraction=0.6)

    assert sequence.inputs[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert sequence.until == 6_000_000


def test_equal_records_count_once_and_equal_times_have_one_order():
    columns = Columns(key="id", time="t", inputs=["x"])
    reader = RecordReader(columns, targets=True)
    records = [reader.read(row(1, x=x)).data for x in (3.0, 1.0, 3.0, 2.0)]

    forwards, backwards = cut("a", records, columns), cut("a", records[::-1], columns)

    assert len(forwards[0].times) == 2  # three records, the last one is a target only
    np.testing.assert_array_equal(forwards[0].inputs, backwards[0].inputs)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_records_make_no_sequence(count):
    assert cut("a", encoded(range(count)), COLUMNS) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_the_transform_groups_by_key(engine):
    records = [row(t, key) for t in (3, 1, 2) for key in ("a", "b")]

    sequences = elements(Sequences(COLUMNS), records, engine)

    assert sorted(s.key for s in sequences) == ["a", "b"]
    for s in sequences:
        assert s.inputs[:, 0].tolist() == [1, 2]
        assert s.targets[:, 0].tolist() == [102, 103]


@pytest.mark.parametrize(
    ("window", "expected"),
    [(FixedWindows(10), [[1, 3], [12]]), (Sessions(3), [[1], [12]])],
    ids=["fixed", "sessions"],
)
def test_each_beam_window_has_its_own_sequences(window, expected):
    collect = Collect()
    run(
        lambda p: (
            p
            | beam.Create([1, 3, 8, 12, 13])
            | beam.Map(lambda t: TimestampedValue(row(t), t))
            | beam.WindowInto(window)
            | Sequences(COLUMNS)
            | collect
        )
    )

    assert sorted(s.inputs[:, 0].tolist() for s in collect.elements) == expected


def test_a_bad_record_stops_the_pipeline_with_its_value():
    with pytest.raises(Exception, match="x must be finite, got nan"):
        elements(Sequences(COLUMNS), [row(1), row(2, x=float("nan"))])


@pytest.mark.parametrize("engine", ENGINES)
def test_or_becomes_a_dead_letter(engine):
    def build(pipeline):
        outputs = (
            pipeline
            | beam.Create([row(1), row(2), row(3), row(2.5, x="2.5"), {"id": "b"}])
            | Sequences(COLUMNS).with_exception_handling()
        )
        collects = Collect(), Collect()
        for label, output, collect in zip("ab", outputs, collects, strict=True):
            _ = output | label >> collect
        return collects

    (sequences, invalid), _ = run(build, engine)

    assert [s.inputs[:, 0].tolist() for s in sequences.elements] == [[1, 2]]
    assert sorted((letter.key, letter.reason) for letter in invalid.elements) == [
        ("a", "x must be a number"),
        ("b", "the record has no field 't'"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": "value"}, r"columns must be a Columns, got 'value' \(str\)"),
        ({"length": 0}, "length must be a whole number of at least 1, got 0"),
        ({"length": 5, "stride": -1}, "stride must be a whole number of at least 1, got -1"),
        ({"stride": 5}, "stride=5 needs a length"),
        ({"fraction": "0.6"}, "fraction must be .* got '0.6'"),
        ({"fraction": 0}, r"fraction must be in \(0, 1\], got 0"),
        ({"fraction": 60}, r"fraction must be in \(0, 1\], got 60"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Sequences(**{"columns": COLUMNS} | arguments)


@pytest.mark.parametrize("horizon", [0, 2, (1, 4)])
@pytest.mark.parametrize("parts_of", [1, 3, 10, 1000])
def test_a_sequence_in_parts_has_the_steps_of_the_whole(horizon, parts_of):
    """Of pieces that end where nothing came, too; in any order, and twice."""
    columns = Columns(key="id", time="t", inputs=["x"], targets=["y"], horizon=horizon)
    records = encoded([*range(17), *range(100, 122), 500], columns)
    random.Random(0).shuffle(records)
    records += records[:9]
    idle = 50_000_000
    whole = cut("a", records, columns, fraction=0.9, idle_after=idle)

    parts = list(cut_in_parts("a", records, columns, parts_of, 0.9, idle))

    assert len({part.part.sequence for part in parts}) == len(whole) >= 2
    for sequence in whole:
        of_it = [p for p in parts if sequence.times[0] <= p.times[0] <= sequence.times[-1]]
        assert [p.part.number for p in of_it] == list(range(len(of_it)))
        assert {len(p.times) for p in of_it[:-1]} <= {parts_of}
        for name in ("times", "inputs", "targets"):
            together = np.concatenate([getattr(p, name) for p in of_it])
            np.testing.assert_array_equal(together, getattr(sequence, name))
        assert of_it[-1].until == sequence.until


def test_parts_of_sequences_that_begin_alike_in_two_windows_are_apart():
    columns = Columns(key="id", time="t", inputs=["x"], targets=["y"])
    records = [row(t) for t in range(8)]

    collect = Collect()
    run(
        lambda p: (
            p
            | beam.Create(records)
            | beam.Map(lambda r: TimestampedValue(r, r["t"] + 12))
            | beam.WindowInto(SlidingWindows(20, 10))
            | Sequences(columns, parts_of=4)
            | collect
        )
    )

    parts = collect.elements
    assert len({part.part.sequence for part in parts}) == 2
    assert sorted(part.part.number for part in parts) == [0, 0, 1, 1]


def test_sorting_on_disk_is_sorting():
    values = [bytes(random.Random(i).choices(range(4), k=i % 5)) for i in range(500)]
    for size in (1, 7, 500, 10_000):
        with sorted_on_disk(iter(values), size) as (ordered, count):
            found = list(ordered)
        assert found == sorted(set(values))
        assert count == len(found)
    with sorted_on_disk([]) as (ordered, count):
        assert (list(ordered), count) == ([], 0)


def test_the_error_for_arrow_batches_names_a_source_of_rows():
    columns = Columns(key="id", time="t", inputs=["x"])
    with (
        pytest.raises(ConfigurationError, match=r"Arrow batches .*ReadFromParquet"),
        beam.Pipeline(runner="FnApiRunner") as p,
    ):
        _ = p | beam.io.ReadFromParquetBatched("no/*.parquet", validate=False) | Sequences(columns)
