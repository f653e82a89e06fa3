import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn import weights
from beam_rnn.core import sealed_format as sealed
from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import PairColumns
from beam_rnn.data.scaling import Scaler
from beam_rnn.errors import NotWeightsError, WeightsError, WeightsVersionError
from beam_rnn.models.model import Model
from beam_rnn.models.transducer import Transducer
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden" / "weights-v1.arrow"


def model(cell="lstm", hidden=7, layers=1, seed=0, **settings):
    network = Network(cell, hidden, layers, **settings)
    columns = Columns(key="id", time="t", inputs=["a", "b", "c"], targets=["a", "b"], horizon=2)
    values = np.random.default_rng(seed).standard_normal((9, 5))
    scaler = Scaler.fit({"x": (values[:, :3], values[:, 3:])}, columns)
    parameters = network.initialize(3, 2, seed)
    return Model(network, parameters, columns, scaler, {"loss_curve": [0.1, 0.05]})


def of_pairs():
    """An encoder-decoder with everything that one can have."""
    network = EncoderDecoder(
        "lstm", hidden=2, layers=2, embedding=3, bidirectional=True, attention="additive"
    )
    columns = PairColumns(
        key="id", source="said", target="meant", source_vocabulary="ab", target_vocabulary=["x y"]
    )
    return Transducer(network, network.initialize(3, 2, seed=1), columns, {"longest_target": 4})


def with_symbols():
    """A network that sees numbers, a vector and symbols."""
    network = Network("gru", 3, embedding=(2, 4), carry=False)
    columns = Columns(
        key="id",
        inputs=["v"],
        vectors={"v": 2},
        symbols=["word", "day"],
        vocabularies={"word": ["the", "film"], "day": range(3)},
    )
    return Model(network, network.initialize(4, 2, seed=1, symbols=(3, 4)), columns)


def altered(data, rows=lambda rows: rows, compression=None, **metadata):
    """Return the file with other metadata or rows, and a valid seal."""
    with pa.ipc.open_file(data) as reader:
        table = reader.read_all()
    texts = {
        k.decode().removeprefix("beam_rnn."): v.decode() for k, v in table.schema.metadata.items()
    }
    texts = {**texts, **metadata}
    schema = sealed.schema_of(sealed.kind_of(data), table.schema, texts)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, schema, options=options) as writer:
        writer.write_table(pa.Table.from_pylist(rows(table.to_pylist()), schema))
    return sealed.seal(sink.getvalue())


@settings(deadline=None, max_examples=30)
@given(
    cell=st.sampled_from(["rnn", "gru", "lstm"]),
    hidden=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    bidirectional=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_round_trip_keeps_every_bit_and_every_fact(cell, hidden, bidirectional, seed):
    original = model(cell, hidden, seed=seed, bidirectional=bidirectional)

    read = weights.from_buffer(weights.to_bytes(original))

    assert read.digest == original.digest
    assert read.network == original.network
    assert read.columns == original.columns
    assert read.training == original.training
    for name, value in original.parameters.items():
        assert read.parameters[name].tobytes() == value.tobytes()
    np.testing.assert_array_equal(
        read.scaler.of("x").inputs_scale, original.scaler.of("x").inputs_scale
    )


def test_a_model_that_never_saw_records_is_kept_too(tmp_path):
    bare = Model(Network("rnn", 3), Network("rnn", 3).initialize(1, 1, 0))
    weights.save(bare, tmp_path / "bare.arrow")

    assert weights.load(tmp_path / "bare.arrow").columns is None


def test_the_parameters_are_aligned_views_of_one_buffer(tmp_path):
    path = tmp_path / "weights.arrow"
    weights.save(model(hidden=64), path)
    before = pa.total_allocated_bytes()

    read = weights.load(path)

    assert pa.total_allocated_bytes() - before < path.stat().st_size + 10_000  # 200 kB
    for value in read.parameters.values():
        assert value.ctypes.data % 64 == 0
        assert not value.flags.owndata
        assert not value.flags.writeable


def test_a_loaded_model_does_not_change_when_its_file_is_overwritten(tmp_path):
    path = tmp_path / "weights.arrow"
    weights.save(model(seed=1), path)
    read, inode = weights.load(path), path.stat().st_ino

    path.write_bytes(weights.to_bytes(model(seed=2)))
    after = {name: value.copy() for name, value in read.parameters.items()}
    path.write_bytes(b"")  # a memory map of it would end the process here

    assert path.stat().st_ino == inode
    for name, value in model(seed=1).parameters.items():
        assert after[name].tobytes() == value.tobytes()
        assert read.parameters[name].tobytes() == value.tobytes()


def test_a_file_that_is_half_overwritten_is_refused():
    one, two = weights.to_bytes(model(seed=1)), weights.to_bytes(model(seed=2))
    half = len(two) // 2

    with pytest.raises(NotWeightsError, match="its bytes have the digest"):
        weights.from_buffer(one[:half] + two[half:])


def test_any_arrow_library_can_read_it(tmp_path):
    path = tmp_path / "weights.arrow"
    weights.save(model(), path)

    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()

    assert table.schema.field("values").type == pa.list_(pa.float32())
    assert table.column("name").to_pylist() == list(model().parameters)
    assert json.loads(table.schema.metadata[b"beam_rnn.network"])["cell"] == "lstm"
    for name, shape, values in zip(*(table.column(i).to_pylist() for i in range(3)), strict=True):
        expected = model().parameters[name]
        assert shape == list(expected.shape)
        np.testing.assert_array_equal(np.array(values, np.float32).reshape(shape), expected)


def test_the_same_model_gives_the_same_bytes():
    assert weights.to_bytes(model()) == weights.to_bytes(model())


def test_a_file_is_replaced_in_one_move(tmp_path):
    path = tmp_path / "weights.arrow"
    weights.save(model(seed=1), path)
    held = weights.load(path)

    weights.save(model(seed=2), path)

    assert held.digest == model(seed=1).digest
    assert float(held.parameters["head.W_y"].sum()) == float(
        model(seed=1).parameters["head.W_y"].sum()
    )
    assert weights.load(path).digest == model(seed=2).digest
    assert [p.name for p in tmp_path.iterdir()] == ["weights.arrow"]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "weights.arrow").mkdir()
    with pytest.raises(OSError, match=r"weights\.arrow"):
        weights.save(model(), tmp_path / "weights.arrow")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.arrow"]


def test_a_truncated_file_is_an_error_at_every_length():
    data = weights.to_bytes(model(hidden=2, layers=1))
    for length in range(7, len(data), 7):
        with pytest.raises(NotWeightsError, match="truncated, altered or of another format"):
            weights.from_buffer(data[:length])


def test_an_altered_bit_is_an_error_at_every_position():
    """Also in the padding between the parts of the file, and in its footer."""
    data = weights.to_bytes(model(hidden=2, layers=1))
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(NotWeightsError, match="truncated, altered or of another format"):
            weights.from_buffer(bytes(changed))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.arrow", b"", "'.*empty.arrow' is empty, not a weights file"),
        ("text.arrow", b"id,value\n1,2\n" * 50, "truncated, altered or of another format"),
        ("pickle.pt", b"PK\x03\x04" + bytes(300), "truncated, altered or of another format"),
    ],
)
def test_a_foreign_file_is_an_error_that_names_it(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NotWeightsError, match=message):
        weights.load(tmp_path / name)


def test_an_arrow_file_of_something_else_is_an_error():
    sink = pa.BufferOutputStream()
    table = pa.table({"city": ["a"], "load": [1.0]})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)

    with pytest.raises(NotWeightsError, match="an Arrow file without the seal of beam_rnn"):
        weights.from_buffer(sink.getvalue())


def test_only_the_start_of_a_large_file_of_another_format_is_read(tmp_path):
    path = tmp_path / "records.csv"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: no disk is used

    with pytest.raises(NotWeightsError, match="it is not an Arrow file"):
        weights.load(path)


def test_a_newer_version_is_an_error_that_names_both():
    data = altered(weights.to_bytes(model()), format_version="3", network='{"cell": "new"}')

    with pytest.raises(WeightsVersionError, match="version 3, this beam_rnn reads up to 2"):
        weights.from_buffer(data)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"network": '{"cell": "gru"}'}, "parameters do not fit"),
        ({"network": '{"cell": "gru", "head": "conv"}'}, "head must be one of"),
        ({"network": "{"}, "truncated, altered or of another format"),
        ({"columns": '{"key": "id", "inputs": ["z", "b", "c"], "targets": ["a", "b"]}'}, "digest"),
        ({"training": "[0.0]"}, "facts about the training must be a mapping, got .0.0."),
        ({"digest": "0" * 64}, "were written with 0000"),
        ({"format_version": "one"}, "'one'"),
        ({"scaler": '{"default": [1], "keys": {}}'}, "AttributeError"),
        ({"scaler": '{"default": {"inputs_center": [1%s]}, "keys": {}}' % ("0" * 400)}, "Overflow"),
        ({"columns": "[" * 100_000}, "nested too deeply"),
        ({"columns": "[" * 100 + "]" * 100}, "nested deeper than 32 levels"),
        ({"network": '{"cell": "gru", "hidden": 7, "layers": 1000000000}'}, "layers=1000000000"),
        ({"network": '{"cell": "gru", "hidden": [7, 1000000000]}'}, "hidden=1000000000 needs more"),
        ({"columns": '{"key": "i", "inputs": ["v"], "vectors": {"v": 1000000000}}'}, "vectors=100"),
    ],
)
def test_altered_metadata_is_an_error(metadata, message):
    with pytest.raises(NotWeightsError, match=message):
        weights.from_buffer(altered(weights.to_bytes(model()), **metadata))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("values", None),
        ("values", []),
        ("shape", None),
        ("shape", [-1, -28]),
        ("shape", [10**18, 10**18]),
        ("name", None),
        ("name", "layers.9.W_x"),
    ],
)
def test_a_row_that_does_not_fit_is_an_error(field, value):
    def rows(rows):
        return [{**rows[0], field: value}, *rows[1:]]

    with pytest.raises(NotWeightsError, match="truncated, altered or of another format"):
        weights.from_buffer(altered(weights.to_bytes(model()), rows))


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_compressed_buffers_are_refused_before_they_are_decompressed(compression):
    """They are 4 MB of zeros."""

    def rows(rows):
        return [{**rows[0], "shape": [1 << 20], "values": [0.0] * (1 << 20)}]

    data = altered(weights.to_bytes(model()), rows, compression)
    before = pa.total_allocated_bytes()

    with pytest.raises(NotWeightsError, match="it holds a compressed batch"):
        weights.from_buffer(data)
    assert len(data) < 100_000
    assert pa.total_allocated_bytes() == before


def test_an_unknown_cell_is_named():
    with pytest.raises(WeightsError, match=r"has the cell 'mamba', but .* has rnn, gru, lstm"):
        weights.from_buffer(altered(weights.to_bytes(model()), network='{"cell": "mamba"}'))


def test_loading_a_missing_file_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.arrow"):
        weights.load("nowhere.arrow")


def test_float64_is_refused_with_the_remedy():
    with pytest.raises(WeightsError, match=r"float64: write model.astype\('float32'\)"):
        weights.to_bytes(model().astype("float64"))


def test_version_1_stays_readable():
    """The file was written by version 0.1.0; its parameters are i / 8 for i = 0, 1, ..."""
    read = weights.load(GOLDEN)

    assert read.network == Network("gru", hidden=2, residual=True)
    assert read.columns == Columns(key="id", time="t", inputs=["a"], sequence="n", horizon=3)
    assert read.scaler.of("x").inputs_center.tolist() == [1.5]
    assert read.scaler.of("other").inputs_scale.tolist() == [4.0]
    assert read.training == {"until": {"x": 1_400_000_000_000_000}}
    count = 0
    for value in read.parameters.values():
        np.testing.assert_array_equal(value.reshape(-1), np.arange(count, count + value.size) / 8)
        count += value.size
    assert read.digest == "163834d7afeb753eb3cb54000f5156c1e510630ce28575a11e0571cc90cdb779"


@pytest.mark.parametrize("make", [of_pairs, with_symbols])
def test_files_of_pairs_and_of_symbols_stay_readable(make):
    """The parameters are those of a seed, whose bits depend on the machine: the rest is held."""
    golden = {of_pairs: "weights-v1-pairs.arrow", with_symbols: "weights-v1-symbols.arrow"}[make]
    read, made = weights.load(GOLDEN.with_name(golden)), make()

    assert (read.network, read.columns, read.training) == (
        made.network,
        made.columns,
        made.training,
    )
    assert {k: v.shape for k, v in read.parameters.items()} == {
        k: v.shape for k, v in made.parameters.items()
    }
    assert read.to_json() == made.to_json()
    assert weights.from_buffer(weights.to_bytes(read)) == read
