"""Moving hidden states from one job to another."""

import io

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.transforms.window import FixedWindows

from beam_rnn import Columns, ExportStates, ImportStates, Network, Predict
from beam_rnn.engine.exported_states import SCHEMA, digest_of_row, read_states, to_row
from beam_rnn.engine.order_format import imported, order_header_of
from beam_rnn.errors import ConfigurationError, StateError
from beam_rnn.models.state_format import decode_state
from beam_rnn.records.results import EndedSequence
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.testing import oracle
from tests.helpers.engines import Outputs, prism, run
from tests.helpers.models import random_model, saved
from tests.helpers.streams import START
from tests.transforms.test_predict import row

COLUMNS = Columns(key="id", time="t", inputs=["x", "y"], targets=["x"], sequence="n", end="last")


@pytest.fixture
def model():
    return random_model(Network("lstm", 5, layers=2), columns=COLUMNS)


@pytest.fixture
def weights(model, tmp_path):
    return saved(model, tmp_path)


def records(start, stop):
    return [
        row(t, key, n=t, last=key == "c" and t == 29) for t in range(start, stop) for key in "abc"
    ]


def export(weights, folder, history, engine, **settings):
    def build(p):
        outputs = p | beam.Create(history) | Predict(weights, with_state=True, **settings)
        return outputs.ended | ExportStates(folder / "states")

    run(build, engine)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("order", ["event_time", "sequence"])
@pytest.mark.parametrize(
    ("engine", "idle_after"),
    [
        ("fnapi", None),
        ("fnapi", 60),
        ("bundle_based", None),
        ("embed", None),
        pytest.param("prism", None, marks=prism),
    ],
)
def test_a_stream_that_starts_from_a_replayed_history_has_the_bits_of_the_whole(
    engine, order, idle_after, model, weights, tmp_path
):
    settings = {"order": order, "idle_after": idle_after}
    # BundleBasedDirectRunner cannot group what a timer gave, in a batch.
    exporter = "fnapi" if engine == "bundle_based" else engine
    export(weights, tmp_path, records(0, 30), exporter, **settings)

    def build(p):
        states = p | "States" >> ImportStates(tmp_path / "states*")
        live = Predict(weights, with_state=True, states=states, **settings)
        return Outputs(p | beam.Create([*records(30, 60), row(7, n=7, last=False)]) | live)

    outputs, _ = run(build, engine)

    whole = oracle(model, records(0, 60), with_state=True, **settings)
    wanted = [p for p in whole.predictions if p.sequence >= 30]
    assert sorted(outputs.predictions) == sorted(wanted)
    assert [(r.key, r.sequence) for r in outputs.late] == [("a", 7)]
    assert {p.step for p in outputs.predictions if p.key == "c"} == set(range(1, 31))


@pytest.mark.usefixtures("each_way")
def test_the_table_is_one_that_others_can_read(model, weights, tmp_path):
    export(weights, tmp_path, records(0, 10), "fnapi")

    table = pq.read_table(list(tmp_path.glob("states*")))
    assert table.column_names == [
        "key",
        "steps",
        "first_time",
        "time",
        "sequence",
        "model",
        "outputs",
        "state",
        "kernel",
        "history",
        "begun",
        "digest",
    ]
    rows = sorted(table.to_pylist(), key=lambda r: r["key"])
    assert [(r["key"], r["steps"], r["sequence"]) for r in rows] == [(k, 10, 9) for k in "abc"]
    assert {len(r["state"]) for r in rows} == {model.network.state_size}


@pytest.mark.usefixtures("each_way")
def test_states_need_an_order_and_the_global_window(weights):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    states = pipeline | "States" >> beam.Create([("a", b"")])
    with pytest.raises(ConfigurationError, match="states need order='event_time' or 'sequence'"):
        Predict(weights, order="arrival", states=states)
    windows = pipeline | beam.Create([row(1)]) | beam.WindowInto(FixedWindows(10))
    with pytest.raises(ConfigurationError, match="states are those of the global window"):
        _ = windows | Predict(weights, states=states)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_a_state_that_another_kernel_computed_is_no_state_of_this_one(kernel, weights, tmp_path):
    other = {"numpy": "fused", "fused": "numpy"}[kernel]
    export(weights, tmp_path, records(0, 10), "fnapi", kernel=other)

    def live(policy):
        def build(p):
            states = p | "States" >> ImportStates(tmp_path / "states*")
            settings = {"kernel": kernel, "states": states, "on_model_change": policy}
            return Outputs(p | beam.Create(records(10, 20)) | Predict(weights, **settings))

        outputs, _ = run(build, "fnapi")
        return outputs

    with pytest.raises(StateError, match=f"with the kernel {other}, the model here .* {kernel}"):
        live("error")
    kept, begun = live("keep"), live("reset")
    assert {(p.kernel, p.step > 10) for p in kept.predictions if p.key == "a"} == {(other, True)}
    assert {(p.kernel, p.step > 10) for p in begun.predictions} == {(kernel, False)}
    assert {ended.reason for ended in begun.ended} == {"model", "window"}


@pytest.mark.usefixtures("each_way")
def test_a_state_of_another_kernel_leaves_the_model_at_work_as_it_is(weights):
    library = ModelLoader(weights, kernel="fused").library()

    other = library.made_by(library.newest.digest, "numpy")
    library.refresh(0)

    assert (other.kernel, library.newest.kernel) == ("numpy", "fused")


def test_sequences_without_their_states_are_refused(tmp_path):
    weights = saved(random_model(), tmp_path)
    records = [{"id": "a", "t": t, "x": 0.5, "y": 0.1} for t in range(3)]

    with pytest.raises(StateError, match=r"'a' ended without its hidden state.*with_state=True"):
        run(
            lambda p: (
                (p | beam.Create(records) | Predict(weights)).ended | ExportStates(tmp_path / "s")
            )
        )


@pytest.mark.parametrize("prefix", ["st*", "s?", "s[1]", "runs/"])
def test_a_prefix_that_would_name_other_files_is_refused(prefix):
    with pytest.raises(ConfigurationError, match=r"must not contain \*, \? or \[|is a folder: add"):
        ExportStates(prefix)


def exported(key="a", **changed):
    """A row as it is exported."""
    state = np.array([0.1, -0.0, 1e-45], np.float32)
    fields = {
        "steps": 3,
        "first_time": -7_000_001,
        "last_time": 2**53 + 1,
        "outputs": [0.1, -1e300],
        "reason": "window",
        "model": "3f" * 32,
        "state": state.tobytes(),
        "sequence": -(2**63),
        "kernel": "fused",
        "begun": -5,
    }
    return to_row(EndedSequence(key=key, **{**fields, **changed}))


def parquet(rows, schema=SCHEMA, **settings):
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA).cast(schema), file, **settings)
    return file.getvalue()


def read(data, name="states.parquet"):
    return dict(read_states(io.BytesIO(data), len(data), name))


def test_a_state_comes_back_bit_for_bit_also_from_a_file_that_another_program_wrote():
    """It left a row out, compressed the rest, and has its own types."""
    large = {"key": pa.large_string(), "state": pa.large_list(pa.float64())}
    theirs = pa.schema([field.with_type(large.get(field.name, field.type)) for field in SCHEMA])
    for data in (
        parquet([exported("a"), exported("é")]),
        parquet([exported("é")], theirs, compression="zstd"),
    ):
        _, begun, state = order_header_of(imported(read(data)["é"]))
        assert begun == -5
        state = decode_state(state)
        assert state.values.tobytes() == np.array([0.1, -0.0, 1e-45], np.float32).tobytes()
        assert state.outputs.tolist() == [0.1, -1e300]
        assert state[:6] == ("3f" * 32, "fused", 3, -7_000_001, 2**53 + 1, -(2**63))


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_row_that_is_altered_in_any_column_is_refused(column):
    other = exported(
        "b", steps=4, first_time=1, last_time=5, outputs=[0.1], model="4f" * 32, state=bytes(12),
        history=bytes(8),
        sequence=9, kernel="numpy", begun=6,
    )  # fmt: skip
    row = {**exported(), column: other[column]}
    key = row["key"]

    with pytest.raises(StateError, match=f"state of key '{key}' in 'states.parquet' is altered"):
        read(parquet([exported("z"), row]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"state": [float("nan")]}, r"cannot be continued.* values \[nan\]"),
        ({"outputs": [float("inf")]}, r"cannot be continued.* outputs \[inf\]"),
        ({"steps": 0}, "after 0 steps"),
        ({"model": "z" * 64}, "truncated, altered or of another format"),
        ({"model": "3f"}, "cannot be continued: of the model '3f'"),
        ({"kernel": "other"}, "truncated, altered or of another format"),
    ],
)
def test_an_invalid_state_is_refused_even_with_a_valid_digest(changed, message):
    row = {**exported(), **changed}
    data = parquet([{**row, "digest": digest_of_row(row)}])
    with pytest.raises(StateError, match=message):
        read(data)


def test_a_file_of_something_else_and_one_without_digests_are_refused():
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([exported()], SCHEMA).drop_columns(["digest"]), file)

    with pytest.raises(StateError, match=r"it has no column digest\. Export the states again"):
        read(file.getvalue())
    with pytest.raises(StateError, match="truncated, altered or of another format"):
        read(b"key,steps")


def test_a_file_that_claims_more_rows_than_it_can_hold_is_refused_before_they_are_read():
    data = parquet([exported()] * 100_000, compression="zstd")
    with pytest.raises(StateError, match=rf"it claims 100000 rows in {len(data)} bytes"):
        read(data)


@pytest.mark.usefixtures("each_way")
def test_an_altered_state_stops_the_job(weights, tmp_path):
    export(weights, tmp_path, records(0, 10), "fnapi")
    (path,) = tmp_path.glob("states*")
    table = pq.read_table(path)
    state = pa.array([[0.5] * len(row) for row in table.column("state").to_pylist()])
    at = table.column_names.index("state")
    pq.write_table(
        table.set_column(at, SCHEMA.field("state"), state.cast(SCHEMA.field(at).type)), path
    )

    with pytest.raises(StateError, match=f"state of key '.' in '{path}' is altered"):
        run(
            lambda p: Outputs(
                p
                | beam.Create(records(10, 12))
                | Predict(weights, states=p | "States" >> ImportStates(tmp_path / "states*"))
            )
        )


def test_no_file_is_an_error_before_the_pipeline_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*nowhere"):
        _ = beam.Pipeline() | ImportStates(tmp_path / "nowhere*")


def moved(old, new, tmp_path, exported, imported):
    """Predict the second half with a model that replays the exported inputs."""
    for name, model in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        saved(model, tmp_path / name)
    export(tmp_path / "old" / "weights.arrow", tmp_path, records(0, 20), "fnapi", **exported)

    def build(p):
        states = p | "States" >> ImportStates(tmp_path / "states*")
        live = Predict(tmp_path / "new" / "weights.arrow", states=states, **imported)
        return Outputs(p | beam.Create(records(20, 25)) | live)

    outputs, result = run(build, "fnapi")
    changes = result.metrics().query(MetricsFilter().with_name("model_changes"))["counters"]
    return outputs, sum(metric.committed for metric in changes)


REPLAY = {"on_model_change": "replay", "replay": 6}


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("kept", [6, 9])
def test_exported_inputs_are_replayed_by_another_model(kept, model, tmp_path):
    new = random_model(model.network, columns=COLUMNS, seed=5)

    outputs, changes = moved(model, new, tmp_path, REPLAY | {"replay": kept}, REPLAY)

    said = oracle(new, records(14, 25)).predictions
    wanted = {(r.key, r.time): r.outputs for r in said}
    assert {(r.key, r.time): r.outputs for r in outputs.predictions} == {
        place: wanted[place] for place in wanted if place[1] >= (START + 20) * 1_000_000
    }
    assert {r.step for r in outputs.predictions} == {*range(21, 26)}
    assert changes == 3


@pytest.mark.usefixtures("each_way")
def test_without_the_inputs_a_sequence_of_another_model_ends(model, tmp_path):
    """It does not go on from nothing under the number of its steps."""
    new = random_model(model.network, columns=COLUMNS, seed=5)

    outputs, changes = moved(model, new, tmp_path, {}, REPLAY)

    assert {r.step for r in outputs.predictions} == {*range(1, 6)}
    ended = [(r.key, r.steps, r.model) for r in outputs.ended if r.reason == "model"]
    assert sorted(ended) == [(key, 20, model.digest) for key in "abc"]
    assert changes == 3
