"""Tables that are predicted without a pipeline, and sessions: the bits of the transforms."""

import itertools
import subprocess
import sys

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn import Columns, ImportStates, Model, Network, Predict
from beam_rnn.engine import table_prediction
from beam_rnn.errors import ConfigurationError, RecordError, StateError
from tests.helpers.engines import Collect, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved

START = 1_500_000_000
NUMBERED = Columns(key="id", time="t", sequence="n", inputs=["x", "y"], targets=["x"])


def rows(count=60, keys="abc"):
    return [
        {"id": keys[i % len(keys)], "t": START + i // 2, "x": np.sin(i), "y": np.cos(3 * i)}
        for i in range(count)
    ]


def by_record(table):
    """The predictions of a table, by the record."""
    return {
        (row["id"], row["t"], row["x"], row["y"]): (
            row["prediction_step"],
            row["x_prediction"],
            row["prediction_model"],
            row["prediction_kernel"],
        )
        for row in table.to_pylist()
    }


def of_pipeline(records, weights, **settings):
    """The predictions of the transform over Arrow batches, by the record."""
    batch = pa.Table.from_pylist(records)
    collect = Collect()

    def build(p):
        batches = p | beam.Create([batch]).with_output_types(pa.Table)
        _ = (batches | Predict(weights, **settings)).predictions | collect

    run(build)
    return by_record(pa.concat_tables(collect.elements))


@pytest.mark.parametrize(
    "settings",
    [{}, {"order": "arrival"}, {"idle_after": 5}, {"order": "sequence"}],
    ids=str,
)
@pytest.mark.parametrize("keyed", [False, True], ids=["one model", "a model a key"])
def test_the_predictions_of_a_table_are_those_of_the_transform(keyed, settings, tmp_path):
    columns = NUMBERED if settings.get("order") == "sequence" else COLUMNS
    model = keyed_models(columns=columns) if keyed else random_model(columns=columns)
    weights = saved(model, tmp_path)
    records = [row | {"n": i} for i, row in enumerate(rows())]
    if settings.get("order") != "arrival":
        np.random.default_rng(0).shuffle(records)

    table = model.predict(records, **settings)

    assert table.column_names[:5] == ["id", "t", "x", "y", "n"]
    assert [row["t"] for row in table.to_pylist()] == [row["t"] for row in records]
    assert by_record(table) == of_pipeline(records, weights, **settings)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), at_once=st.sampled_from([1, 7, 1000]))
def test_a_table_in_any_order_and_in_any_parts_has_the_same_bits(data, at_once):
    model, records = random_model(), rows()
    expected = by_record(model.predict(records))
    shuffled = data.draw(st.permutations(records))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_prediction, "RECORDS_AT_ONCE", at_once)
        assert by_record(model.predict(shuffled)) == expected


def test_tables_of_any_library_are_taken():
    model, records = random_model(), rows(20)
    expected = model.predict(records)
    table = pa.Table.from_pylist(records)
    columns = {name: table[name].to_numpy() for name in table.column_names}

    class Capsule:
        """As a table of polars or DuckDB."""

        def __arrow_c_stream__(self, requested_schema=None):
            return table.__arrow_c_stream__(requested_schema)

    for data in (table, table.to_batches()[0], columns, Capsule()):
        assert model.predict(data).equals(expected)
    with pytest.raises(ConfigurationError, match=r"data must be a table .*, got str"):
        model.predict("records.csv")
    with pytest.raises(ConfigurationError, match="the data do not form a table"):
        model.predict({"id": ["a"], "t": [1, 2]})
    with pytest.raises(ConfigurationError, match="the values of 'x' do not form a column"):
        model.predict([*records, records[0] | {"x": "high"}])
    later = [{"id": "a", "t": START, "x": 0.5, "y": 0.5}, records[1] | {"site": "Bern"}]
    assert model.predict(later)["site"].to_pylist() == [None, "Bern"]


def test_a_record_that_cannot_be_used_is_an_error_or_null():
    model, records = random_model(), rows(6)
    records[3]["x"] = None
    with pytest.raises(RecordError, match="row 3: x is missing, got None"):
        model.predict(records)
    records[5]["y"] = float("inf")
    with pytest.raises(
        RecordError, match="row 3: x is missing, got None; 1 more record cannot be used"
    ):
        model.predict(records)

    table = model.predict(records, invalid="null")

    assert [step is None for step in table["prediction_step"].to_pylist()] == [
        i in {3, 5} for i in range(6)
    ]
    good = [records[i] for i in (0, 1, 2, 4)]
    assert table.filter(pa.array([True] * 3 + [False, True, False]))[
        "x_prediction"
    ].to_pylist() == (model.predict(good)["x_prediction"].to_pylist())


def test_of_equal_records_the_first_is_predicted():
    model, records = random_model(), rows(6)
    table = model.predict([*records, records[0], *records[:2]])
    assert table["prediction_step"].to_pylist()[6:] == [None] * 3
    assert table.slice(0, 6).equals(model.predict(records))


def test_what_cannot_be_predicted_is_refused():
    network = Network("gru", 4)
    bare = Model(network, network.initialize(1, 1, 0))
    with pytest.raises(ConfigurationError, match="the model has no columns"):
        bare.predict([{"x": 1.0}])
    with pytest.raises(ConfigurationError, match="the network is bidirectional"):
        random_model(Network("gru", 4, bidirectional=True)).predict(rows(2))
    with pytest.raises(ConfigurationError, match=r"order must be one of event_time, .*'time'"):
        random_model().predict(rows(2), order="time")
    with pytest.raises(ConfigurationError, match="already, which Predict adds"):
        random_model().predict([row | {"x_prediction": 0.0} for row in rows(2)])


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(1, 59), max_size=8))
def test_a_session_has_the_bits_of_one_table(cuts):
    model, records = random_model(), rows()
    session, parts = model.session(), []
    bounds = [0, *sorted(set(cuts)), len(records)]
    for start, end in itertools.pairwise(bounds):
        parts.append(session.step(records[start:end]))

    assert pa.concat_tables(parts).to_pylist() == (
        model.predict(records, order="arrival").to_pylist()
    )
    assert session.keys == ["a", "b", "c"]


def test_the_states_of_a_session_go_on_in_a_session_and_in_a_pipeline(tmp_path):
    model, records = random_model(), rows()
    weights = saved(model, tmp_path)
    expected = model.predict(records)
    session = model.session()
    session.step(records[:30])
    session.save(tmp_path / "states.parquet")

    later = model.session(states=tmp_path / "states.parquet").step(records[30:])
    collect = Collect()

    def build(p):
        states = p | ImportStates(tmp_path / "states.parquet")
        streamed = p | beam.Create(records[30:]) | Predict(weights, states=states)
        _ = streamed.predictions | collect

    run(build)

    found = later["x_prediction"].to_pylist()
    assert found == expected["x_prediction"].to_pylist()[30:]
    assert sorted(row.outputs[0] for row in collect.elements) == sorted(found)
    with pytest.raises(StateError, match="the state was made by the model"):
        random_model(seed=1).session(states=tmp_path / "states.parquet").step(records[30:])


def test_nothing_of_it_imports_beam():
    code = """
import sys
from beam_rnn import Columns, Model, Network
network = Network("gru", hidden=4)
columns = Columns(key="id", time="t", inputs=["x"], targets=["x"])
model = Model(network, network.initialize(1, 1, seed=0), columns)
table = {"id": ["a", "b"], "t": [0, 0], "x": [0.5, 0.25]}
assert model.predict(table).num_rows == 2
assert model.session().step(table).num_rows == 2
assert "apache_beam" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
