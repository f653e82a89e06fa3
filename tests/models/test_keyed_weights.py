"""The Arrow file of many models, and `KeyedModels`."""

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beam_rnn import Columns, KeyedModels, Network, weights
from beam_rnn.errors import ConfigurationError, NotWeightsError, WeightsError, WeightsVersionError
from beam_rnn.models.keyed_weights_format import StoredModels
from beam_rnn.models.model import Model
from tests.helpers.models import COLUMNS, keyed_models, random_model
from tests.models.test_weights import altered

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden" / "weights-v2.arrow"


@pytest.fixture(scope="module")
def models():
    """Keys that need UTF-8, in no order; facts of which one is common to all."""
    named = {
        key: Model(
            *_parts(random_model(seed=i)),
            {"settings": {"epochs": 2}, "loss_curve": [0.1 * i]},
        )
        for i, key in enumerate(["pump", "é", "a/b", "a", "名"])
    }
    fallback = Model(*_parts(random_model(seed=9)), {"settings": {"epochs": 2}, "loss_curve": []})
    return KeyedModels.gathered(named, fallback, {"short": "too few records"})


def _parts(model):
    return model.network, model.parameters, model.columns, model.scaler


def test_a_round_trip_keeps_every_bit_and_every_fact(models, tmp_path):
    weights.save(models, tmp_path / "models.arrow")
    read = weights.load(tmp_path / "models.arrow")

    assert read == models
    assert read.models.keys() == models.models.keys()
    assert (read.network, read.columns) == (models.network, models.columns)
    assert read.reasons == models.reasons
    assert read.fallback.training == models.fallback.training
    for key, original in models.models.items():
        assert read.of(key) == original
        assert read.digests[key] == original.digest
        assert read.of(key).training == original.training
        for name, value in original.parameters.items():
            assert read.of(key).parameters[name].tobytes() == value.tobytes()
    assert read.of("never seen") == models.fallback
    assert [p.name for p in tmp_path.iterdir()] == ["models.arrow"]


@pytest.mark.parametrize("fallback", [True, False])
def test_with_a_fallback_and_without(fallback):
    read = weights.from_buffer(weights.to_bytes(keyed_models(fallback=fallback)))
    assert (read.of("z") is not None) == fallback
    assert (read.fallback is not None) == fallback


def test_a_fallback_alone_is_kept_too():
    only = KeyedModels.gathered({}, random_model(), {"a": "too few"})
    read = weights.from_buffer(weights.to_bytes(only))
    assert read == only
    assert read.of("a") == random_model()


def test_the_same_models_give_the_same_bytes_and_a_file_its_own(models):
    data = weights.to_bytes(models)
    backwards = KeyedModels.gathered(
        dict(reversed(models.models.items())), models.fallback, models.reasons
    )
    assert weights.to_bytes(backwards) == data
    assert weights.to_bytes(weights.from_buffer(data)) == data
    assert pickle.loads(pickle.dumps(weights.from_buffer(data))) == models  # noqa: S301


def test_changes_after_loading_are_written(models):
    read = weights.from_buffer(weights.to_bytes(models))
    fewer = KeyedModels.gathered(read.models, None)
    assert weights.from_buffer(weights.to_bytes(fewer)) == fewer
    assert fewer != models


def test_the_digest_says_what_decides_a_prediction(models):
    same = KeyedModels.gathered(dict(models.models), models.fallback, {"other": "reason"})
    assert same.digest == models.digest
    assert hash(same) == hash(models)
    swapped = dict(models.models)
    swapped["a"], swapped["pump"] = swapped["pump"], swapped["a"]
    for other in (
        KeyedModels.gathered(models.models, None),
        KeyedModels.gathered(swapped, models.fallback),
        KeyedModels.gathered({"a": models.models["a"]}, models.fallback),
    ):
        assert other.digest != models.digest


def test_a_model_is_made_when_it_is_asked_for_and_is_a_view_of_one_buffer(tmp_path, monkeypatch):
    path = tmp_path / "models.arrow"
    network = Network("gru", hidden=64)
    columns = Columns(key="id", inputs=["x"])
    many = {
        f"k{i}": Model(network, network.initialize(1, 1, i, np.float32), columns) for i in range(50)
    }
    weights.save(KeyedModels.gathered(many), path)
    made = []
    make = StoredModels._model
    monkeypatch.setattr(
        StoredModels, "_model", lambda self, row: made.append(row) or make(self, row)
    )
    before = pa.total_allocated_bytes()

    read = weights.load(path)
    assert not made
    for _ in range(3):
        assert read.of("k7") == many["k7"]
        assert read.of("k8") is not read.of("k7")

    assert len(made) == 2
    assert read.of("k7") is read.of("k7")
    assert pa.total_allocated_bytes() - before < path.stat().st_size + 10_000  # 2.6 MB
    for value in read.of("k7").parameters.values():
        assert not value.flags.owndata
        assert not value.flags.writeable


def test_the_kernel_is_that_of_all(models):
    read = weights.from_buffer(weights.to_bytes(models)).with_kernel("numpy")
    assert read.kernel == read.of("a").kernel == read.of("z").kernel == "numpy"
    assert read == models


@pytest.mark.parametrize("kernel", ["numpy", "fused"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_view_has_the_same_bits_at_every_address(kernel, cell):
    """A row may begin at any multiple of 4 bytes."""
    network = Network(cell, hidden=(8, 5))
    own = {f"{i:02}": random_model(network, seed=i) for i in range(17)}
    read = weights.from_buffer(weights.to_bytes(KeyedModels.gathered(own))).with_kernel(kernel)
    x = np.random.default_rng(0).standard_normal((3, 40, 2)).astype(np.float32)
    addresses = {m.parameters["layers.0.W_x"].ctypes.data % 64 for m in map(read.of, own)}

    assert len(addresses) >= 8
    for key, model in own.items():
        ours, theirs = read.of(key).run(x), model.with_kernel(kernel).run(x)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(ours, theirs, strict=True))


def test_any_arrow_library_can_read_it(models, tmp_path):
    path = tmp_path / "models.arrow"
    weights.save(models, path)
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        table = file.read_all()

    assert file.num_record_batches == 1
    assert table.schema.field("values").type == pa.list_(pa.float32())
    keys = table.column("key").to_pylist()
    assert keys == [None, "a", "a/b", "pump", "short", "é", "名"]
    shapes = json.loads(table.schema.metadata[b"beam_rnn.shapes"])
    assert json.loads(table.schema.metadata[b"beam_rnn.network"])["cell"] == "gru"
    assert json.loads(table.schema.metadata[b"beam_rnn.training"]) == {"settings": {"epochs": 2}}
    numbers = np.array(table.column("values")[3].as_py(), np.float32)
    for name, shape in shapes:
        size = int(np.prod(shape))
        np.testing.assert_array_equal(
            numbers[:size].reshape(shape), models.models["pump"].parameters[name]
        )
        numbers = numbers[size:]
    assert not len(numbers)
    assert table.column("reason").to_pylist()[4] == "too few records"
    assert table.column("digest")[4].as_py() is None


def test_a_file_of_several_batches_is_one(models, monkeypatch):
    monkeypatch.setattr("beam_rnn.models.keyed_weights_format.ROWS_IN_A_BATCH", 2)
    data = weights.to_bytes(models)
    assert pa.ipc.open_file(data).num_record_batches == 4
    read = weights.from_buffer(data)
    assert read == models
    assert all(read.of(key) == model for key, model in models.models.items())


def test_a_truncated_file_is_an_error_at_every_length(models):
    data = weights.to_bytes(models)
    for length in range(101, len(data), 101):
        with pytest.raises(NotWeightsError, match="truncated, altered or of another format"):
            weights.from_buffer(data[:length])


def test_an_altered_bit_is_an_error_at_every_position():
    data = weights.to_bytes(keyed_models())
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(NotWeightsError, match="truncated, altered or of another format"):
            weights.from_buffer(bytes(changed))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"network": '{"cell": "gru", "hidden": 9}'},
            "truncated, altered or of another|has the digest",
        ),
        ({"network": "{"}, "truncated, altered or of another"),
        ({"columns": '{"key": "id", "inputs": ["z", "y"], "targets": ["z"]}'}, "digest"),
        ({"shapes": "[]"}, "a row does not have the 0 parameters"),
        ({"shapes": '[["head.W_y", [6, -1]]]'}, "a row does not have the -6 parameters"),
        ({"training": "[9]"}, "truncated, altered or of another"),
        ({"digest": "0" * 64}, "were written with 0000"),
        ({"format_version": "1"}, r"its columns are \['key', .*, not \['name'"),
    ],
)
def test_altered_metadata_is_an_error(metadata, message, models):
    with pytest.raises(NotWeightsError, match=message):
        weights.from_buffer(altered(weights.to_bytes(models), **metadata))


def test_a_newer_version_is_an_error_that_names_both(models):
    with pytest.raises(WeightsVersionError, match="version 3, this beam_rnn reads up to 2"):
        weights.from_buffer(altered(weights.to_bytes(models), format_version="3"))


def test_an_unknown_cell_is_named(models):
    data = altered(weights.to_bytes(models), network='{"cell": "mamba"}')
    with pytest.raises(WeightsError, match=r"has the cell 'mamba', but .* has rnn, gru, lstm"):
        weights.from_buffer(data)


def test_float64_is_refused_with_the_remedy():
    models = KeyedModels.gathered({"a": random_model().astype("float64")})
    with pytest.raises(WeightsError, match=r"float64: write model.astype\('float32'\)"):
        weights.to_bytes(models)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({}, "needs a model of a key or a fallback"),
        (
            {"a": random_model(), "b": random_model(Network("rnn", 3))},
            "must have the same network and columns, got Network",
        ),
        ({"a": Model(Network("rnn", 3), Network("rnn", 3).initialize(1, 1, 0))}, "need columns"),
    ],
)
def test_models_that_do_not_go_together_are_refused(models, message):
    with pytest.raises(ConfigurationError, match=message):
        KeyedModels.gathered(models)


def test_version_2_stays_readable():
    """The file was written by version 0.1.0; parameters are i / 8, from i = 0, 100 and 200 on."""
    read = weights.load(GOLDEN)

    assert read.network == Network("gru", hidden=2, residual=True)
    assert read.columns == Columns(key="id", time="t", inputs=["a"], sequence="n", horizon=3)
    assert list(read.models) == ["x", "é"]
    assert read.reasons == {"short": "too few"}
    for model, count, center in ((read.of("x"), 0, 1.5), (read.of("é"), 100, 2.5),
                                 (read.of("short"), 200, 3.5)):  # fmt: skip
        assert model.scaler.of("x").inputs_center.tolist() == [center]
        assert model.training["settings"] == {"epochs": 2}
        for value in model.parameters.values():
            flat = value.reshape(-1)
            np.testing.assert_array_equal(flat, np.arange(count, count + flat.size) / 8)
            count += flat.size  # noqa: PLW2901
    assert read.of("é").training["until"] == {"é": 1_400_000_000_000_000}
    assert read.digest == "9c37eec08cefe01921c081306a8805195bdfe19c97dfdbe74485a9f6207560cd"


def test_the_columns_are_those_of_every_model():
    assert keyed_models().columns == COLUMNS
    assert keyed_models().output_names == random_model().output_names
    assert keyed_models().nbytes == 3 * random_model().nbytes
