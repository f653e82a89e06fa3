"""Arrow batches: they are read like rows, and returned with predictions."""

import decimal
import random
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn import Columns, Network, Predict, prediction_schema
from beam_rnn import weights as weights_file
from beam_rnn.engine.payloads import Payloads
from beam_rnn.errors import ConfigurationError, RecordError
from beam_rnn.records.arrow_batches import from_bytes, to_bytes, to_dicts
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.record_format import decode_record
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.streaming import emission
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.testing import oracle
from tests.helpers.batches import KINDS, batch_of, predictions_in
from tests.helpers.engines import ENGINES, Collect, Outputs, predict, run
from tests.helpers.models import COLUMNS, random_model, saved
from tests.helpers.streams import predict_stream
from tests.transforms.test_predict import START, row

ALL = Columns(key="id", time="t", inputs=["x", "y"], sequence="n", start="first", end="last")
KEYS = st.one_of(
    st.lists(st.sampled_from(["a", "b", "", None, "é", "k" * 1025]), min_size=1, max_size=8).map(
        lambda values: pa.array(values, pa.string())
    ),
    st.lists(st.sampled_from([7, -1, None]), min_size=1, max_size=8).map(
        lambda values: pa.array(values, pa.int32())
    ),
    st.lists(st.sampled_from([b"a", b"\xff", None]), min_size=1, max_size=8).map(
        lambda values: pa.array(values, pa.binary())
    ),
    st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=8).map(
        lambda values: pa.array(values, pa.string()).dictionary_encode()
    ),
    st.lists(st.sampled_from([True, None]), min_size=1, max_size=8).map(pa.array),
    st.lists(st.sampled_from([["a"], None]), min_size=1, max_size=8).map(
        lambda values: pa.array(values, pa.list_(pa.string()))
    ),
)
TIMES = {
    pa.int64(): [0, 5, -1, 10**12, None],
    pa.uint32(): [0, 5, None],
    pa.float64(): [0.5, 5.25, -1.0, float("nan"), 1e11, None],
    pa.timestamp("s"): [0, 5, -1, 2**62, None],
    pa.timestamp("ms", "UTC"): [0, 1_500_000_000_123, None],
    pa.timestamp("us"): [0, 7, -7, 10**16, 2**63 - 1, None],
    pa.timestamp("us", "UTC"): [0, 2**62, None],
    pa.timestamp("us", "Europe/Zurich"): [-62_135_596_800_000_000, 253_402_300_799_999_999, 1],
    pa.timestamp("ns", "Europe/Zurich"): [0, 1_000, 999_001, -1, -(2**62), None],
    pa.date32(): [0, 18000, -1, 2**31 - 1, None],
    pa.date64(): [0, 86_400_000 * 18000, 2**62 // 86_400_000 * 86_400_000, None],
    pa.duration("s"): [5, None],
    pa.time32("s"): [5, None],
    pa.string(): [
        *("2020-01-01", "2020-01-01T00:00:00+02:00", "soon", "12.5", "", None),
        *("2020-01-01 00:00:59", "1969-12-31T23:59:59Z", "2020-02-30 00:00:00", "1404172800"),
        *("2020-01-01 00:00:00.5", "1969-12-31T23:59:59.000001Z", "0000-01-01 00:00:00"),
        *("9999-12-31 23:59:59.999999", "99999999999", "999999999999", "2020-01-01 24:00:00"),
    ],
    pa.bool_(): [True, None],
}
NUMBERS = {
    pa.float64(): [0.5, -0.0, float("nan"), float("inf"), None],
    pa.float32(): [0.1, None],
    pa.float16(): [np.float16(0.5), None],
    pa.int64(): [3, 2**62 + 1, None],
    pa.uint64(): [2**64 - 1, None],
    pa.bool_(): [True, False, None],
    pa.string(): ["1", None],
    pa.decimal128(5, 2): [decimal.Decimal("1.25"), None],
    pa.list_(pa.float64()): [[1.0], None],
}
WHOLES = {
    pa.int64(): [0, -5, 2**63 - 1, -(2**63), None],
    pa.uint64(): [2**63, 5, None],
    pa.float64(): [1.0, None],
    pa.bool_(): [True, None],
}
MARKS = {
    pa.bool_(): [True, False, None],
    pa.int8(): [0, 1, 2, None],
    pa.float64(): [0.0, 1.0, 0.5, float("nan"), None],
    pa.string(): ["yes", None],
}


CLASSES = {
    pa.string(): ["up", "1", "no", "", None],
    pa.dictionary(pa.int8(), pa.string()): ["up", None],
    pa.int64(): [1, 2, None],
    pa.float64(): [1.0, 1.5, float("nan"), None],
    pa.bool_(): [True, None],
}
READ_BY = [
    ALL,
    replace(ALL, latest="1970-01-01"),
    replace(ALL, time_format="milliseconds"),
    replace(ALL, time_format="%Y-%m-%d"),
]
LEARNED_FROM = [
    replace(ALL, targets=("y",)),
    replace(ALL, targets=("y", "x"), weight="w"),
    replace(ALL, targets=("label",), classes=("up", "1")),
]


def column(data, kinds, n):
    kind = data.draw(st.sampled_from(list(kinds)))
    values = data.draw(st.lists(st.sampled_from(kinds[kind]), min_size=n, max_size=n))
    return pa.array(values, kind)


def read_alone(reader, record):
    try:
        key, encoded = reader.read(record)
    except RecordError as error:
        return reader.invalid(record, error)
    read = decode_record(encoded)
    return key, *read[:4], read.numbers.tolist()


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_batch_is_read_as_its_rows_are_one_by_one(data):
    keys = data.draw(KEYS)
    n = len(keys)
    kinds = {"t": TIMES, "x": NUMBERS, "y": NUMBERS, "n": WHOLES, "first": MARKS, "last": MARKS}
    kinds |= {"w": NUMBERS, "label": CLASSES}
    columns = {"id": keys, **{name: column(data, kind, n) for name, kind in kinds.items()}}
    missing = data.draw(st.sampled_from([None, None, None, *columns]))
    batch = pa.table({name: values for name, values in columns.items() if name != missing})
    chunked = pa.concat_tables([batch.slice(0, n // 2), batch.slice(n // 2)])

    read_by = data.draw(st.sampled_from(READ_BY + LEARNED_FROM))
    targets = read_by in LEARNED_FROM
    reader = BatchReader(read_by, targets=targets)
    block, invalid = reader.read(chunked, np.zeros(n, np.int64))

    reader = RecordReader(read_by, targets)
    expected = [read_alone(reader, record) for record in to_dicts(batch)]
    letters = dict(invalid)
    found = [letters.get(i) for i in range(n)]
    for i, at in enumerate(block.row.tolist()):
        found[at] = (
            block.keys[block.of_key[i]],
            int(block.time[i]),
            int(block.sequence[i]),
            bool(block.marks[i] & 1 == 0),
            bool(block.marks[i] >= 2),
            block.numbers[i].tolist(),
        )
    assert found == expected


def test_duplicate_columns_are_a_dead_letter():
    batch = pa.table([["a"], [1], [0.5], [7.5]], names=["id", "t", "x", "x"])
    columns = Columns(key="id", time="t", inputs=["x"])

    block, ((row, letter),) = BatchReader(columns).read(batch, np.zeros(1, np.int64))

    assert (block.records, row, letter.key) == (0, 0, "a")
    assert letter.reason == "there are several columns 'x'"


def test_nanoseconds_are_rounded_down_before_1970_too():
    table = pa.table({"t": pa.array([-1, 1, None], pa.timestamp("ns"))})

    assert [str(row["t"]) for row in to_dicts(table)] == [
        "1969-12-31 23:59:59.999999",
        "1970-01-01 00:00:00",
        "None",
    ]


def test_a_plain_batch_is_read_without_an_object_for_each_row(monkeypatch):
    """So that the test above compares two ways, and not one with itself."""
    monkeypatch.setattr(RecordReader, "read", None)
    batch = pa.table({"id": ["a", "b"], "t": [1, 2], "x": [0.5, 1], "y": [1, 2]})

    block, invalid = BatchReader(COLUMNS).read(batch, np.zeros(2, np.int64))

    assert block.records == 2
    assert not invalid


def test_without_a_time_column_the_time_is_that_of_the_batch():
    columns = Columns(key="id", inputs=["x"])

    block, _ = BatchReader(columns).read(pa.table({"id": ["a"], "x": [1.0]}), np.array([7_000_000]))

    assert block.time.tolist() == [7_000_000]


RECORDS = [{**row(t, key), "site": f"{key}/{t}"} for t in range(30) for key in ("a", "b", "new")]


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_batches_in_batches_out_with_the_bits_of_rows(engine, kind, model, weights):
    shuffled = random.Random(0).sample(RECORDS, len(RECORDS))
    batches = [batch_of(shuffled[i : i + 20], kind) for i in range(0, len(shuffled), 20)]

    outputs = predict(Predict(weights, with_state=True), batches, engine)

    expected = oracle(model, RECORDS, with_state=True)
    assert {type(batch) for batch in outputs.predictions} == {kind}
    found = predictions_in(outputs.predictions, model.columns, model.output_names)
    assert sorted(found) == sorted(expected.predictions)
    assert sorted(outputs.ended) == sorted(expected.ended)
    rows = [r for batch in outputs.predictions for r in batch.to_pylist()]
    assert sorted(r["site"] for r in rows) == sorted(r["site"] for r in RECORDS)
    assert all(r["site"] == f"{r['id']}/{r['t'] - 1_500_000_000}" for r in rows)


def test_parquet_in_parquet_out(model, weights, tmp_path):
    """By Beam's own transforms, as they are."""
    batch = batch_of(RECORDS)
    pq.write_table(batch, tmp_path / "in.parquet", row_group_size=25)
    schema = prediction_schema(batch.schema, model.output_names)

    run(
        lambda p: (
            (
                p
                | beam.io.ReadFromParquetBatched(str(tmp_path / "in.parquet"))
                | Predict(weights, order="arrival")
            ).predictions
            | beam.io.WriteToParquetBatched(str(tmp_path / "out"), schema)
        )
    )

    found = pq.read_table(sorted(tmp_path.glob("out*")))
    assert found.schema.names == schema.names
    rows = predictions_in([found], model.columns, model.output_names)
    assert sorted(rows) == sorted(oracle(model, RECORDS).predictions)


def test_late_and_invalid_rows_of_batches_ordered_by_number(tmp_path):
    columns = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"], sequence="n")
    model = random_model(columns=columns)
    good = [{**row(t), "n": t} for t in range(20) if t not in (4, 5)]
    bad = [{**row(30), "n": None}, {**row(31, x=float("nan")), "n": 31}, {**row(2), "n": 2}]

    outputs = predict(
        Predict(saved(model, tmp_path), order="sequence", with_state=True),
        [batch_of(good[10:] + bad), batch_of(good[:10])],
    )

    expected = oracle(model, good, order="sequence", with_state=True)
    found = predictions_in(outputs.predictions, columns, model.output_names)
    assert sorted(found) == sorted(expected.predictions)
    assert sorted(letter.reason for letter in outputs.invalid) == [
        "n must be a whole number",
        "x must be finite",
    ]
    assert [(gap.first, gap.last) for gap in outputs.gaps] == [(4, 5)]


def test_an_overflowing_row_is_removed_from_its_batch(model, weights):
    records = [row(1), row(2, x=1e300), row(3)]

    outputs = predict(Predict(weights, order="arrival"), [batch_of(records)])

    (batch,) = outputs.predictions
    assert batch.column("t").to_pylist() == [r["t"] for r in (records[0], records[2])]
    assert [letter.reason for letter in outputs.invalid] == [
        "the step overflowed; the state before it was kept"
    ]


def test_several_outputs_have_a_column_each(tmp_path):
    model = random_model(Network("gru", 4, output="gaussian"))
    outputs = predict(Predict(saved(model, tmp_path), order="arrival"), [batch_of(RECORDS)])

    names = outputs.predictions[0].schema.names
    assert [name for name in names if name.endswith("_prediction")] == [
        "x mean_prediction",
        "x deviation_prediction",
    ]


@pytest.mark.parametrize("name", ["x_prediction", "prediction_step", "prediction_state"])
def test_rows_with_a_column_that_is_added_are_dead_letters_that_name_it(name, weights):
    """And the job continues with the other batches."""
    batches = [batch_of([{**row(t), name: 1} for t in (1, 2)]), batch_of([row(3)])]

    outputs = predict(Predict(weights, with_state=True), batches)

    assert {letter.reason for letter in outputs.invalid} == {
        f"the batches have a column {name!r} already, which Predict adds: rename it"
    }
    assert [letter.key for letter in outputs.invalid] == ["a", "a"]
    assert [batch.num_rows for batch in outputs.predictions] == [1]
    with pytest.raises(ConfigurationError, match=f"have a column {name!r} already"):
        prediction_schema(batches[0].schema, ["x"], state_size=1)


def test_rows_with_two_columns_of_a_name_that_is_added_are_dead_letters(weights):
    batch = batch_of([row(1)])
    for _ in range(2):
        batch = batch.append_column("x_prediction", pa.array([1.0]))

    outputs = predict(Predict(weights), [batch])

    (letter,) = outputs.invalid
    assert "'x_prediction' already" in letter.reason


@pytest.mark.parametrize("shards", [None, 2])
def test_undeclared_arrow_batches_are_an_error_with_the_remedy(shards, weights):
    def build(p):
        batches = p | beam.Create([1]) | beam.Map(lambda _: batch_of(RECORDS))
        return Outputs(batches | Predict(weights, shards=shards))

    with pytest.raises(Exception, match=r"with_output_types\(pa.Table\)"):
        run(build)


@pytest.mark.parametrize(
    ("settings", "remedy"), [({"emit": "last"}, ".ended"), ({"timestamps": "event"}, "say 'due'")]
)
def test_settings_for_rows_only_are_refused_with_arrow_batches(settings, remedy, weights):
    with pytest.raises(ConfigurationError, match=remedy):
        predict(Predict(weights, **settings), [batch_of(RECORDS)])


def test_the_number_of_shards_that_was_chosen_is_logged(weights, caplog):
    with caplog.at_level("INFO"):
        predict(Predict(weights), [batch_of(RECORDS)])

    assert "in 16 shards, since shards= was not given" in caplog.text


def test_an_empty_batch_gives_no_rows(weights):
    empty = batch_of(RECORDS).slice(0, 0)

    outputs = predict(Predict(weights), [empty, batch_of(RECORDS[:3]), empty])

    assert sum(batch.num_rows for batch in outputs.predictions) == 3


def test_the_timestamp_of_a_batch_is_when_its_last_record_was_due(weights):
    """However many are due in one turn."""
    said = Collect()

    def stamp(batch, timestamp=beam.DoFn.TimestampParam):
        return batch.column("t").to_pylist(), float(timestamp)

    run(
        lambda p: (
            (p | beam.Create([batch_of([row(3), row(7)])]) | Predict(weights, wait=2)).predictions
            | beam.Map(stamp)
            | said
        )
    )

    assert sorted(t for times, _ in said.elements for t in times) == [START + 3, START + 7]
    assert all(timestamp == max(times) + 2.5 for times, timestamp in said.elements)


def test_a_payload_keeps_every_type():
    batch = pa.table(
        {
            "text": pa.array(["a", None]).dictionary_encode(),
            "nested": pa.array([{"a": [1, 2]}, None]),
            "at": pa.array([1, 2], pa.timestamp("ns", "UTC")),
        }
    )

    assert from_bytes(to_bytes(batch)).equals(batch)


def test_models_of_other_sizes_have_nulls_where_they_have_no_number(tmp_path):
    """A key keeps to the model that began it, another begins with the next one."""
    small = random_model(Network("gru", 3), replace(COLUMNS, targets=["x"]))
    large = random_model(Network("gru", 5), replace(COLUMNS, targets=["x", "y"]), seed=1)
    path = tmp_path / "w-1.arrow"
    weights_file.save(small, path)

    class Swap(beam.DoFn):
        def process(self, batch):
            if batch.column("t")[0].as_py() > START + 5:
                weights_file.save(large, tmp_path / "w-2.arrow")
            yield batch

    class Swapped(beam.PTransform):
        def expand(self, pcoll):
            transform = Predict(
                tmp_path / "w-*.arrow",
                order="arrival",
                watch=0,
                on_model_change="keep",
                with_state=True,
                shards=1,
            )
            return pcoll | beam.ParDo(Swap()).with_output_types(pa.Table) | transform

    first, second = [row(1)], [row(7), row(7, "b")]
    events = [batch_of(first)], 2, [batch_of(second[:1])], 8, [batch_of(second)], 9

    outputs = predict_stream(
        Swapped(), *events, time=lambda b: b.column("t")[0].as_py(), kind=pa.Table
    )

    rows = {(r["id"], r["prediction_step"]): r for b in outputs.predictions for r in b.to_pylist()}
    of_b = next(p for p in oracle(large, second).predictions if p.key == "b")
    assert [rows["b", 1]["x_prediction"], rows["b", 1]["y_prediction"]] == list(of_b.outputs)
    assert len(rows["b", 1]["prediction_state"]) == 5
    kept = rows["a", 3]
    assert kept["prediction_model"] == small.digest
    assert kept["x_prediction"] is not None
    assert kept["y_prediction"] is None
    assert kept["prediction_state"] is None


def test_a_model_change_does_not_affect_the_batch_in_progress(tmp_path, monkeypatch):
    """Another thread may look for a newer one, whose column the batch has already."""
    small = random_model(Network("gru", 3), replace(COLUMNS, targets=["x"]))
    large = random_model(Network("gru", 3), replace(COLUMNS, targets=["x", "y"]), seed=1)
    rows_by_schema, library, seen = emission.rows_by_schema, ModelLoader.library, []

    def noted(loader):
        seen.append(library(loader))
        return seen[-1]

    def changing(*arguments):
        seen[-1].newest = large
        return rows_by_schema(*arguments)

    monkeypatch.setattr(ModelLoader, "library", noted)
    monkeypatch.setattr(emission, "rows_by_schema", changing)
    batch = batch_of([{**row(1), "y_prediction": 7.0}])

    outputs = predict(Predict(saved(small, tmp_path), shards=1), [batch])

    (made,) = (r for b in outputs.predictions for r in b.to_pylist())
    assert [made["x_prediction"]] == list(oracle(small, [row(1)]).predictions[0].outputs)
    assert made["y_prediction"] == 7.0


PLAIN = batch_of([{**row(t), "note": f"n{t}"} for t in (1, 2)])
SMALL = pa.dictionary(pa.int8(), pa.string())
OTHERS = {
    "a column of nulls": batch_of([{**row(t), "note": None} for t in (3, 4)]),
    "a further column": batch_of([{**row(t), "note": "n", "site": "s"} for t in (3, 4)]),
    "fewer columns": batch_of([row(t) for t in (3, 4)]),
    "another order": batch_of([{**row(t), "note": "n"} for t in (3, 4)]).select(
        ["note", "y", "x", "t", "id"]
    ),
    "large text": batch_of([{**row(t), "note": "n"} for t in (3, 4)]).cast(
        pa.schema([PLAIN.schema.field(n) for n in PLAIN.schema.names[:-1]]).append(
            pa.field("note", pa.large_string())
        )
    ),
    "float32": batch_of([row(t, x=0.5, y=0.25) for t in (3, 4)]).set_column(
        2, "x", pa.array([0.5, 0.25], pa.float32())
    ),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("grid", [0.5, 60], ids=["in turn", "together"])
def test_rows_of_batches_with_other_columns_keep_their_columns(name, grid, model, weights):
    """Whatever becomes due with them: the same bits, each row with the columns that it had."""
    other = OTHERS[name]
    records = PLAIN.to_pylist() + other.to_pylist()

    outputs = predict_stream(
        Predict(weights, shards=1, grid=grid),
        [PLAIN],
        *([2.9] if grid == 0.5 else []),
        [other],
        time=lambda batch: min(batch["t"].to_pylist()),
        kind=pa.Table,
    )

    found = predictions_in(outputs.predictions, model.columns, model.output_names)
    assert sorted(found) == sorted(oracle(model, records).predictions)
    for came in (PLAIN, other):
        schema = prediction_schema(came.schema, model.output_names)
        rows = [b for b in outputs.predictions if b.schema.equals(schema)]
        together = pa.concat_tables(rows).sort_by("t")
        assert together.select(came.schema.names).equals(came)


def test_dictionaries_that_do_not_fit_one_another(model, weights):
    """Of one type, whose indices are too small for the values of both."""
    records = [{**row(t), "note": f"n{t}"} for t in range(200)]
    batches = [batch_of(records[:100]), batch_of(records[100:])]
    types = pa.schema([*batches[0].schema][:-1]).append(pa.field("note", SMALL))

    outputs = predict(Predict(weights, shards=1), [batch.cast(types) for batch in batches])

    found = predictions_in(outputs.predictions, model.columns, model.output_names)
    assert sorted(found) == sorted(oracle(model, records).predictions)
    notes = {r["t"]: r["note"] for b in outputs.predictions for r in b.to_pylist()}
    assert notes == {r["t"]: r["note"] for r in records}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"note": "first"}, {"note": "second"}),
        ({"note": None}, {"note": "second"}),
        ({"note": [1.0, float("nan")]}, {"note": [float("nan")]}),
        ({"note": "first"}, {"note": "first", "site": "s"}),
    ],
    ids=str,
)
def test_the_choice_between_equal_records_does_not_depend_on_arrival(one, other, weights):
    """They are distinguished by the columns that the model does not read."""
    batches = [batch_of([{**row(1), **more}]) for more in (one, other)]
    ways = [batches, batches[::-1]]
    if one.keys() == other.keys():
        ways += [[batch_of([b.to_pylist()[0] for b in way])] for way in (batches, batches[::-1])]

    came_out = set()
    for way in ways:
        (batch,) = predict(Predict(weights, shards=1), way).predictions
        came_out.add(str(batch.to_pylist()))

    assert len(came_out) == 1


def test_a_row_that_waits_for_long_keeps_its_own_bytes():
    """Of the rows and of the dictionaries that it came with."""
    n = 1000
    long = pa.array([f"{i:0200}" for i in range(n)])
    table = pa.table({"note": long, "kind": long.dictionary_encode()})
    payloads = Payloads()
    payloads.add(0, to_bytes(table))

    assert payloads.too_large([0], {0: 501}) == []
    assert payloads.too_large([0], {0: 500}) == [0]
    payloads.keep(0, np.array([7, 3]))

    (payload,) = payloads
    assert len(payload.data) < 3000
    rows = payload.table().take(payload.places(np.array([7])))
    assert rows.to_pylist() == table.slice(7, 1).to_pylist()
    payloads.keep(0, np.zeros(0, np.int32))
    assert len(payloads) == 0
