"""Models of PyTorch, Keras and ONNX: read, written, and held to those frameworks' own numbers."""

import io
import itertools
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

os.environ.setdefault("KERAS_BACKEND", "numpy")
import keras
from keras import layers as kl

from beam_rnn import interop
from beam_rnn.cells import CELLS
from beam_rnn.errors import InteropError
from beam_rnn.models.model import Model
from beam_rnn.nn.network import MERGES, Network
from beam_rnn.nn.output_functions import OUTPUTS
from tests.helpers.minimal_gated_unit import MINIMAL_GATED_UNIT

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden"
TORCH = sorted(path.name for path in GOLDEN.glob("torch-*"))
KERAS = sorted(path.name for path in GOLDEN.glob("keras-*"))

NETWORKS = [
    Network("rnn", 4, activation="sigmoid"),
    Network("rnn", 4, layers=2, activation="relu", bidirectional=True, merge="sum"),
    Network("gru", (5, 3), reset_after=False),
    Network("gru", 6, layers=2, residual=True),
    Network("gru", 3, head="none"),
    *(Network("lstm", (4, 2), bidirectional=True, merge=merge) for merge in MERGES),
    *(
        Network("gru", 4, layers=2, output_steps="last", bidirectional=merge != "none", **more)
        for merge, more in (("none", {}), *((merge, {"merge": merge}) for merge in MERGES))
    ),
    Network("lstm", 3, output_steps="last", residual=True, horizons=2),
    Network("gru", 3, head="none", output="tanh"),
    *(Network("gru", 4, output=output) for output in OUTPUTS),
    Network("rnn", 4, output="softmax", horizons=3),
    Network("rnn", 4, output="softmax", horizons=3, output_steps="last"),
    Network("gru", 4, output="gaussian", horizons=3, residual=True),
    Network("gru", 4, output="quantiles", quantiles=(0.2, 0.8), residual=True),
]
READ_BACK = [
    network
    for network in NETWORKS
    if network.merge == "concat"
    and not network.residual
    and network.horizons == 1
    and network.output not in ("quantiles", "gaussian")
]


def arrays(name):
    with np.load(GOLDEN / name / "arrays.npz") as file:
        return {key: file[key] for key in file}


def activation(name):
    return "relu" if "relu" in name else "tanh"


def random_model(network, inputs=2, outputs=2, seed=0):
    random = np.random.default_rng(seed)
    outputs *= network.horizons * len(network.parts)
    outputs = outputs if network.head == "linear" else network.output_size(network.layers - 1)
    shapes = network.shapes(inputs, outputs)
    values = {k: 0.5 * random.standard_normal(s) for k, s in shapes.items()}
    return Model(network, {k: v.astype(np.float32) for k, v in values.items()})


def batch(inputs=2):
    random = np.random.default_rng(1)
    return random.standard_normal((4, 9, inputs)).astype(np.float32), np.array([9, 1, 5, 8])


@pytest.mark.parametrize("name", TORCH)
def test_a_state_dict_of_pytorch(name):
    golden = arrays(name)
    model = interop.from_torch(GOLDEN / name / "model.safetensors", activation=activation(name))

    outputs = model.forward(golden["x"])
    np.testing.assert_allclose(outputs, golden["full/prediction"], rtol=0, atol=1e-5)
    for theirs, value in load_file(GOLDEN / name / "model.safetensors").items():
        assert any(
            value.T.shape == ours.shape and np.array_equal(value.T, ours)
            for ours in model.parameters.values()
        ), theirs


@pytest.mark.parametrize("name", TORCH)
def test_an_onnx_file_of_pytorch(name):
    golden = arrays(name)
    model = interop.from_onnx(GOLDEN / name / "model.onnx")

    assert model.network.head == "none"
    outputs = model.forward(golden["x"])
    np.testing.assert_allclose(outputs, golden["full/output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", KERAS)
def test_a_keras_file(name):
    golden = arrays(name)
    model = interop.from_keras(GOLDEN / name / "model.keras")

    np.testing.assert_allclose(model.forward(golden["x"]), golden["prediction"], rtol=0, atol=1e-5)


def saved_by_keras(layers, path, functional=False):
    """A model with random weights, saved, and what Keras says of the batch."""
    if functional:
        x = y = kl.Input((None, 2))
        for layer in layers:
            y = layer(y)
        model = keras.Model(x, y)
    else:
        model = keras.Sequential([kl.Input((None, 2)), *layers])
    random = np.random.default_rng(2)
    model.set_weights([0.5 * random.standard_normal(w.shape) for w in model.get_weights()])
    model.save(path)
    return np.asarray(model.predict(batch()[0], verbose=0))


def chains():
    def both(layer, merge="concat"):
        return kl.Bidirectional(layer, merge_mode=merge)

    def gru(units, **more):
        return kl.GRU(units, return_sequences=True, **more)

    lstm = kl.LSTM
    return {
        "no bias, no head": [
            kl.SimpleRNN(4, activation="relu", use_bias=False, return_sequences=True)
        ],
        "sigmoid cell": [kl.SimpleRNN(4, activation="sigmoid", return_sequences=True), kl.Dense(1)],
        "before": [both(gru(5, reset_after=False)), kl.Dense(3)],
        "sum": [both(gru(5), "sum"), both(gru(3), "sum"), kl.Dense(3, use_bias=False)],
        "mul": [both(lstm(4, return_sequences=True), "mul"), kl.Dense(2)],
        "ave, dropout": [
            both(lstm(4, return_sequences=True, dropout=0.2), "ave"),
            kl.Dropout(0.3),
            both(lstm(3, return_sequences=True, recurrent_dropout=0.1), "ave"),
            kl.TimeDistributed(kl.Dense(2)),
        ],
        "last": [gru(5), kl.GRU(4), kl.Dense(3, activation="softmax")],
        "last, both": [both(gru(4)), both(kl.GRU(3)), kl.Dense(1, activation="sigmoid")],
        "last, both, sum": [both(kl.GRU(3), "sum"), kl.Dense(1)],
        "last, no head": [kl.SimpleRNN(3)],
        "function after the head": [gru(3), kl.Dense(2), kl.Activation("tanh")],
        "function, no head": [gru(3), kl.Activation("relu")],
        **{
            activation: [lstm(3, return_sequences=True), kl.Dense(3, activation=activation)]
            for activation in ("sigmoid", "tanh", "relu", "softmax")
        },
    }


@pytest.mark.parametrize("functional", [False, True], ids=["sequential", "functional"])
@pytest.mark.parametrize("name", chains())
def test_what_keras_saves_gives_what_keras_says(name, functional, tmp_path):
    path = tmp_path / "model.keras"
    said = saved_by_keras(chains()[name], path, functional)

    ours = interop.from_keras(path).forward(batch()[0])

    np.testing.assert_allclose(ours, said, rtol=0, atol=1e-5)


IN_KERAS = [
    network
    for network in NETWORKS
    if not network.residual
    and network.output != "gaussian"
    and not (network.output == "softmax" and network.horizons > 1)
]


@pytest.mark.parametrize("network", IN_KERAS, ids=lambda network: str(network.to_json()))
def test_keras_says_the_same_of_what_we_write(network, tmp_path):
    model, (x, _) = random_model(network), batch()
    path = tmp_path / "model.keras"
    interop.to_keras(model, path)

    theirs = keras.models.load_model(path)
    said = np.asarray(theirs.predict(x, verbose=0))

    np.testing.assert_allclose(said, model.forward(x), rtol=0, atol=1e-5)


def is_of_one_bias(network):
    return network.cell != "gru" or not network.reset_after


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("network", IN_KERAS, ids=lambda network: str(network.to_json()))
def test_what_we_write_for_keras_is_read_back_bit_for_bit(network, dtype, tmp_path):
    """Our second bias is zero where Keras has but one: then nothing is rounded."""
    model = random_model(network).astype(dtype)
    if is_of_one_bias(network):
        ours = {
            name: np.zeros_like(value) if name.endswith("b_h") else value
            for name, value in model.parameters.items()
        }
        model = Model(network, ours)
    interop.to_keras(model, tmp_path / "model.keras")

    back = interop.from_keras(tmp_path / "model.keras")

    assert back.parameters.keys() == model.parameters.keys()
    for name, value in model.parameters.items():
        np.testing.assert_array_equal(back.parameters[name], value, name)
    if network.output != "quantiles":
        assert back.network == model.network


@pytest.mark.parametrize("name", KERAS)
def test_a_keras_file_goes_there_and_back_bit_for_bit(name, tmp_path):
    model = interop.from_keras(GOLDEN / name / "model.keras")
    first, second = tmp_path / "first.keras", tmp_path / "second.keras"

    interop.to_keras(model, first)
    interop.to_keras(interop.from_keras(first), second)

    assert interop.from_keras(first) == model
    assert first.read_bytes() == second.read_bytes()
    theirs = [keras.models.load_model(path) for path in (GOLDEN / name / "model.keras", first)]
    for golden, ours in zip(*(each.get_weights() for each in theirs), strict=True):
        np.testing.assert_array_equal(ours, golden)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network("gru", 3, residual=True), "does not support a residual head"),
        (Network("gru", 3, initial_state="learned"), "does not support a learned initial state"),
        (Network("gru", 3, carry=False), "does not support carry=False"),
        (Network("gru", 3, output="gaussian"), "does not support output='gaussian'"),
        (Network("rnn", 4, output="softmax", horizons=3), "output='softmax' with several horizons"),
    ],
)
def test_what_keras_has_no_layers_for_is_refused(network, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        interop.to_keras(random_model(network), tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_keras_s_older_format_is_not_written(tmp_path):
    with pytest.raises(InteropError, match=r"is written as \.keras, got .*model\.h5"):
        interop.to_keras(random_model(Network("gru", 3)), tmp_path / "model.h5")


@pytest.mark.parametrize("write", [interop.to_keras, interop.to_onnx, interop.to_torch])
def test_a_cell_of_ones_own_has_no_form_elsewhere(write, tmp_path, monkeypatch):
    monkeypatch.setitem(CELLS, "mgu", MINIMAL_GATED_UNIT)
    with pytest.raises(InteropError, match=r"does not support cell='mgu'"):
        write(random_model(Network("mgu", 3)), tmp_path / "model")


def run_onnx(path, **inputs):
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: str(network.to_json()))
def test_onnxruntime_says_the_same_of_what_we_export(network, tmp_path, capfd):
    model, (x, lengths) = random_model(network), batch()
    path, with_lengths = tmp_path / "model.onnx", tmp_path / "lengths.onnx"
    interop.to_onnx(model, path)
    interop.to_onnx(model, with_lengths, lengths=True)

    whole = run_onnx(path, x=x)
    ragged = run_onnx(with_lengths, x=x, lengths=lengths.astype(np.int32))
    alone = run_onnx(path, x=x[:1, :4])

    np.testing.assert_allclose(whole, model.forward(x), rtol=0, atol=1e-5)
    np.testing.assert_allclose(ragged, model.forward(x, lengths), rtol=0, atol=1e-5)
    np.testing.assert_allclose(alone, model.forward(x[:1, :4]), rtol=0, atol=1e-5)
    assert capfd.readouterr().err == ""  # the runtime warns of what a graph has too much of


@pytest.mark.parametrize("network", READ_BACK, ids=lambda network: str(network.to_json()))
def test_what_we_export_to_onnx_is_read_back_bit_for_bit(network, tmp_path):
    model = random_model(network)
    interop.to_onnx(model, tmp_path / "model.onnx")

    assert interop.from_onnx(tmp_path / "model.onnx").digest == model.digest


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_dict_goes_there_and_back_bit_for_bit(name, dtype, tmp_path):
    source = GOLDEN / name / "model.safetensors"
    model = interop.from_torch(source, activation=activation(name)).astype(dtype)
    path = tmp_path / "model.safetensors"

    interop.to_torch(model, path)

    assert interop.from_torch(path, activation=activation(name)) == model
    written = load_file(path)
    assert written.keys() == load_file(source).keys()
    for key, value in load_file(source).items():
        np.testing.assert_array_equal(written[key], value.astype(dtype))


def state_dict(tmp_path, **changes):
    """The one-layer GRU's state_dict with tensors changed, or taken out where None."""
    tensors = load_file(GOLDEN / "torch-gru-l1" / "model.safetensors") | changes
    path = tmp_path / "model.safetensors"
    save_file({k.replace("__", "."): v for k, v in tensors.items() if v is not None}, path)
    return path


def test_modules_may_have_any_name_and_no_bias(tmp_path):
    original = load_file(GOLDEN / "torch-gru-l1" / "model.safetensors")
    renamed = {
        k.replace("rnn.", "encoder.gru.").replace("head.", "fc."): v
        for k, v in original.items()
        if "bias" not in k
    }
    path = tmp_path / "model.safetensors"
    save_file(renamed, path)

    model = interop.from_torch(path)

    np.testing.assert_array_equal(model.parameters["layers.0.b_h"], 0)
    np.testing.assert_array_equal(model.parameters["head.b_y"], 0)
    np.testing.assert_array_equal(model.parameters["head.W_y"], original["head.weight"].T)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rnn.weight_hr_l0": np.zeros((2, 7))}, "projections"),
        ({"conv.weight": np.zeros((2, 2, 2))}, "more than a recurrent module and one linear layer"),
        ({"other.weight": np.zeros((2, 3))}, "more than a recurrent module and one linear layer"),
        ({"rnn.weight_hh_l0": None}, "no 'rnn.weight_hh_l0'"),
        ({"rnn.weight_ih_l0": None}, "must contain one nn.RNN, nn.GRU or nn.LSTM, it contains 0"),
        ({"b.weight_ih_l0": np.zeros((3, 1))}, "it contains 2"),
    ],
)
def test_a_state_dict_of_something_else_is_refused(changes, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        interop.from_torch(state_dict(tmp_path, **changes))


@pytest.mark.parametrize("suffix", ["pkl", "pt", "pth"])
def test_a_pickle_is_never_read(suffix, tmp_path):
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(
        InteropError, match=r"from a \.safetensors file, .* save it with .*save_file"
    ):
        interop.from_torch(path)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network("rnn", 3, activation="sigmoid"), "does not support a sigmoid activation"),
        (
            Network("gru", 3, reset_after=False),
            "does not support the reset gate before the product",
        ),
        (Network("gru", 3, bidirectional=True, merge="ave"), "does not support merge='ave'"),
        (Network("lstm", (3, 4)), "does not support layers of different sizes"),
        (Network("gru", 3, residual=True), "does not support a residual head"),
        (Network("gru", 3, initial_state="learned"), "does not support a learned initial state"),
        (Network("gru", 3, carry=False), "does not support carry=False"),
        (
            Network("gru", 3, output="softmax"),
            r"output='softmax' \(output='identity' returns its logi",
        ),
        (Network("gru", 3, output_steps="last"), "does not support output_steps='last'"),
    ],
)
def test_what_pytorch_has_no_module_for_is_refused(network, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        interop.to_torch(random_model(network), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def keras_file(tmp_path, edit):
    """The LSTM of Keras with its settings edited."""
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(GOLDEN / "keras-lstm" / "model.keras") as source:
        config = json.loads(source.read("config.json"))
        edit(config["config"]["layers"])
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("config.json", json.dumps(config))
            target.writestr("model.weights.h5", source.read("model.weights.h5"))
    return path


def setting(i, **values):
    return lambda layers: layers[i]["config"].update(values)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (setting(1, return_sequences=False), "layer 'lstm_1': a recurrent layer after the output"),
        (setting(2, go_backwards=True), "layer 'lstm_1': go_backwards=True is not supported"),
        (setting(1, activation="relu"), "layer 'lstm': activation='relu' is not supported"),
        (setting(1, recurrent_activation="hard_sigmoid"), "recurrent_activation='hard_sigmoid'"),
        (setting(3, activation="gelu"), "layer 'dense_3': activation='gelu' is not supported"),
        (
            lambda layers: layers[1].update(class_name="ConvLSTM1D"),
            "layer 'lstm': a ConvLSTM1D layer is not supported",
        ),
    ],
)
def test_a_keras_layer_that_has_no_form_is_named(edit, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        interop.from_keras(keras_file(tmp_path, edit))


def test_a_keras_graph_that_is_no_chain_is_refused(tmp_path):
    x = kl.Input((None, 2))
    first = kl.GRU(3, return_sequences=True)(x)
    second = kl.GRU(3, return_sequences=True)(x)
    keras.Model(x, kl.Add()([first, second])).save(tmp_path / "model.keras")

    with pytest.raises(InteropError, match="in a chain it must take the first output"):
        interop.from_keras(tmp_path / "model.keras")


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_what_is_no_keras_file_is_refused(content, tmp_path):
    path = tmp_path / "model.keras"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("other.txt", "x")
    path.write_bytes(data.getvalue() if content is None else content)
    with pytest.raises(InteropError, match=r"is not a \.keras file"):
        interop.from_keras(path)


def edited_onnx(tmp_path, edit):
    model = onnx.load(GOLDEN / "torch-lstm-l1" / "model.onnx")
    edit(model.graph)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def node_of(graph, kind):
    return next(node for node in graph.node if node.op_type == kind)


def last_step_alone(graph):
    """As exporters write y[:, -1]."""
    transpose = node_of(graph, "Squeeze")
    gather = onnx.helper.make_node("Gather", [transpose.output[0], "i"], ["last"], name="last_step")
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(-1), "i"))
    graph.node.append(gather)


def head_on_a_concatenation_of_states(graph):
    """As exporters write torch.cat([h, c], -1) with a linear layer after it."""
    states = node_of(graph, "LSTM").output[1:3]
    graph.node.append(onnx.helper.make_node("Concat", states, ["both"], axis=-1))
    graph.node.append(onnx.helper.make_node("MatMul", ["both", "w"], ["scores"]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((14, 2), np.float32), "w"))
    graph.output[0].name = "scores"


def softmax_over_time(graph):
    softmax = onnx.helper.make_node(
        "Softmax", [graph.output[0].name], ["p"], axis=1, name="over_time"
    )
    graph.node.append(softmax)
    graph.output[0].name = "p"


def other_initial_state(graph):
    zeros = node_of(graph, "ConstantOfShape")
    zeros.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32)))


def lstm_attribute(**attributes):
    def edit(graph):
        for name, value in attributes.items():
            node_of(graph, "LSTM").attribute.append(onnx.helper.make_attribute(name, value))

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (last_step_alone, "node 'last_step': a Gather of .* only one of size 1"),
        (other_initial_state, r"node '/ConstantOfShape': only zero is supported, got \[1.\]"),
        (lstm_attribute(clip=3.0), "clip=3.0 is not supported"),
        (lstm_attribute(input_forget=1), "input_forget=1 is not supported"),
        (lstm_attribute(layout=1), "layout=1 is not supported"),
        (lstm_attribute(direction="reverse"), "direction='reverse' is not supported"),
        (lstm_attribute(activations=["Sigmoid", "Relu", "Tanh"]), "Relu.* are not supported"),
        (
            lambda graph: graph.node.remove(node_of(graph, "LSTM")),
            "node '/Squeeze': no earlier node returns its input '/LSTM_output_0'",
        ),
        (
            head_on_a_concatenation_of_states,
            "node 'scores' does not take the output of the node before",
        ),
        (softmax_over_time, "node 'over_time': axis=1 of the axes batch, time, features is not"),
    ],
)
def test_an_onnx_graph_that_has_no_form_is_refused(edit, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        interop.from_onnx(edited_onnx(tmp_path, edit))


def test_what_is_no_onnx_file_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a protobuf at all")
    with pytest.raises(InteropError, match="is not an ONNX file"):
        interop.from_onnx(path)


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"initial_state": "learned"}, "learned initial state"), ({"carry": False}, "carry=False")],
)
def test_what_has_no_form_is_not_exported_to_onnx(tmp_path, settings, why):
    model = random_model(Network("gru", 3, **settings))
    with pytest.raises(InteropError, match=why):
        interop.to_onnx(model, tmp_path / "model.onnx")


def test_float64_is_not_exported_to_onnx(tmp_path):
    model = random_model(Network("gru", 3)).astype("float64")
    with pytest.raises(InteropError, match="need float32, the parameters are float64"):
        interop.to_onnx(model, tmp_path / "model.onnx")


def test_a_package_that_is_missing_is_named_with_the_remedy():
    from beam_rnn.interop.layer_chain import package

    with pytest.raises(InteropError, match=r"'no_such_package': pip install 'beam-rnn\[interop\]'"):
        package("no_such_package")


def test_the_order_of_gates_is_told_apart():
    """A model whose gates were mixed up would not pass by symmetry."""
    model = random_model(Network("lstm", 3))
    W_h = model.parameters["layers.0.W_h"]
    blocks = np.split(W_h, 4, axis=1)
    x, _ = batch()
    said = model.forward(x)
    for order in itertools.permutations(range(4)):
        mixed = {**model.parameters, "layers.0.W_h": np.concatenate([blocks[i] for i in order], 1)}
        if order != (0, 1, 2, 3):
            assert np.abs(Model(model.network, mixed).forward(x) - said).max() > 1e-3


def of_states(which, sequences):
    """A Dense on one of the outputs of an LSTM that gives its states too."""
    x = kl.Input((None, 2))
    outputs = kl.LSTM(3, return_sequences=sequences, return_state=True)(x)
    return keras.Model(x, kl.Dense(2)(outputs[which]))


def two_outputs():
    x = kl.Input((None, 2))
    h = kl.GRU(3, return_sequences=True)(x)
    return keras.Model(x, [kl.Dense(2)(h), kl.Dense(1)(h)])


def the_first_of_two():
    x = kl.Input((None, 2))
    h = kl.GRU(3, return_sequences=True)(x)
    return keras.Model(x, [h, kl.GRU(3, return_sequences=True)(h)])


def used_twice():
    x, layer = kl.Input((None, 2)), kl.GRU(2, return_sequences=True)
    return keras.Model(x, layer(layer(x)))


def with_initial_state():
    x, state = kl.Input((None, 2)), kl.Input((3,))
    return keras.Model([x, state], kl.GRU(3)(x, initial_state=state))


def always_training():
    x = kl.Input((None, 2))
    dropped = kl.Dropout(0.5)(x, training=True)
    return keras.Model(x, kl.GRU(3)(dropped))


def chain_of(*layers):
    return keras.Sequential([kl.Input((None, 2)), *layers])


NO_CHAINS = {
    "the state h": (lambda: of_states(1, sequences=True), r"takes \[\[\['lstm\w*', 0, 1\]\]\]"),
    "the state c": (lambda: of_states(2, sequences=False), r"takes \[\[\['lstm\w*', 0, 2\]\]\]"),
    "two outputs": (two_outputs, "in a chain it must take the first output"),
    "an output in between": (
        the_first_of_two,
        "only the output of the last layer, .* is supported",
    ),
    "a layer used twice": (used_twice, "in a chain it must take the first output"),
    "an initial state": (with_initial_state, "in a chain it must take the first output"),
    "dropout for ever": (always_training, "in a chain it must take the first output"),
    "a mask": (lambda: chain_of(kl.Masking(), kl.GRU(3)), "a Masking layer is not supported"),
    "state between batches": (
        lambda: keras.Sequential([kl.Input((None, 2), batch_size=1), kl.GRU(3, stateful=True)]),
        "stateful=True is not supported, only False",
    ),
    "half precision": (
        lambda: chain_of(kl.GRU(3, dtype="mixed_float16")),
        "dtype='mixed_float16' is not supported",
    ),
    "a scale first": (
        lambda: chain_of(kl.Rescaling(0.1), kl.GRU(3)),
        "a Rescaling layer is not supported",
    ),
    "a Dense first": (
        lambda: chain_of(kl.Dense(3), kl.GRU(3)),
        "only one linear layer is supported, after the recurrent layers",
    ),
    "a model in it": (lambda: chain_of(chain_of(kl.GRU(3))), "a Sequential layer is not supported"),
    "directions apart": (
        lambda: chain_of(
            kl.Bidirectional(
                kl.GRU(3),
                merge_mode="concat",
                backward_layer=kl.GRU(3, go_backwards=True, use_bias=False),
            )
        ),
        "its two directions have different settings",
    ),
    "backwards": (
        lambda: chain_of(kl.GRU(3, go_backwards=True)),
        "go_backwards=True is not supported",
    ),
    "a Dense of all steps": (
        lambda: keras.Sequential(
            [kl.Input((4, 2)), kl.GRU(3, return_sequences=True), kl.Flatten(), kl.Dense(1)]
        ),
        "a Flatten layer is not supported",
    ),
}


@pytest.mark.parametrize("name", NO_CHAINS)
def test_a_model_of_keras_that_would_not_be_the_same_is_refused(name, tmp_path):
    make, message = NO_CHAINS[name]
    make().save(tmp_path / "model.keras")
    with pytest.raises(InteropError, match=message):
        interop.from_keras(tmp_path / "model.keras")


def test_the_first_of_the_outputs_of_a_layer_of_keras_is_read(tmp_path):
    of_states(0, sequences=True).save(tmp_path / "model.keras")
    x = batch()[0]
    said = keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0)

    ours = interop.from_keras(tmp_path / "model.keras").forward(x)

    np.testing.assert_allclose(ours, said, rtol=0, atol=1e-5)


def gru_with(tmp_path, **tensors):
    """A GRU of 3 inputs and 4 units, and other tensors beside it."""
    random = np.random.default_rng(0)
    gru = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": 12, "bias_hh_l0": 12}
    named = {f"rnn.{name}": random.standard_normal(shape, "f4") for name, shape in gru.items()}
    path = tmp_path / "model.safetensors"
    named |= {name.replace("__", "."): np.zeros(shape, "f4") for name, shape in tensors.items()}
    save_file(named, path)
    return path


@pytest.mark.parametrize(
    "tensors",
    [
        {"inp__weight": (3, 4), "inp__bias": 3},  # a Linear(4, 3) before, or after
        {"symbols__weight": (4, 3)},  # an Embedding(4, 3) before; a Linear(3, 4) would not fit
        {"symbols__weight": (3, 4)},
    ],
)
def test_a_linear_module_that_may_stand_before_the_recurrent_one_is_asked_for(tensors, tmp_path):
    (module,) = {name.split("__")[0] for name in tensors}
    with pytest.raises(InteropError, match=f"set head='{module}' if it is after"):
        interop.from_torch(gru_with(tmp_path, **tensors))


@pytest.mark.parametrize(
    ("name", "head"), [("inp", "inp"), ("head", None), ("net.head", None), ("net.out", "net.out")]
)
def test_a_linear_module_is_the_head_where_its_name_says_so(name, head, tmp_path):
    tensors = {f"{name}.weight": (3, 4), f"{name}.bias": 3}
    model = interop.from_torch(gru_with(tmp_path, **tensors), head=head)
    assert model.outputs == 3


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"head__weight": (2, 5), "head__bias": 2}, "do not fit together"),
        ({"head__weight": (2, 4), "head__bias": 3}, r"a bias of the shape \(3,\)"),
        ({"norm__weight": 4, "norm__bias": 4}, "more than a recurrent module and one linear"),
        ({"rnn__weight_ih_l2": (12, 4)}, "more than a recurrent module and one linear"),
        ({"rnn__weight_ih_l1": (12, 4), "rnn__weight_hh_l1": (12, 4)}, "no 'rnn.bias_ih_l1'"),
        ({"rnn__weight_ih_l0": (8, 3)}, "are not the shapes of an nn.RNN, nn.GRU or nn.LSTM"),
        ({"rnn__weight_hh_l0": (12, 0)}, "are not the shapes of an nn.RNN, nn.GRU or nn.LSTM"),
        ({"rnn__bias_hh_l0": (12, 1)}, "are not the shapes of an nn.RNN, nn.GRU or nn.LSTM"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors, message, tmp_path):
    with pytest.raises(InteropError, match=message):
        interop.from_torch(gru_with(tmp_path, **tensors))


def test_a_head_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InteropError, match="one linear layer 'fc'"):
        interop.from_torch(gru_with(tmp_path), head="fc")


@pytest.mark.parametrize("kind", ["BF16", "F16", "I64"])
def test_other_types_than_float32_and_float64_are_refused_with_the_remedy(kind, tmp_path):
    path = gru_with(tmp_path)
    size = {"BF16": 2, "F16": 2, "I64": 8}[kind]
    tensor = {"dtype": kind, "shape": [3], "data_offsets": [0, 3 * size]}
    header = json.dumps({"rnn.weight_ih_l0": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(3 * size))

    with pytest.raises(
        InteropError, match=rf"rnn.weight_ih_l0 is {kind}: only F32 .*net.float\(\)"
    ):
        interop.from_torch(path)


def test_the_nonlinearity_of_an_nn_rnn_must_be_said():
    path = GOLDEN / "torch-rnn_tanh-l1" / "model.safetensors"
    with pytest.raises(InteropError, match=r"set activation='tanh' or 'relu', got None"):
        interop.from_torch(path)


def test_a_gru_has_no_other_nonlinearity():
    path = GOLDEN / "torch-gru-l1" / "model.safetensors"
    with pytest.raises(InteropError, match=r"activation=.relu. is only for an nn.RNN"):
        interop.from_torch(path, activation="relu")
