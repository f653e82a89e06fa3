"""Graphs of ONNX: read where ONNX Runtime says the same, otherwise refused by name."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.helper import make_node

from beam_rnn import interop
from beam_rnn.errors import InteropError
from beam_rnn.nn.network import Network
from tests.helpers.models import random_model

HIDDEN, INPUTS = 4, 3
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SWAP = make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2])
INTEGERS = {"zero": 0, "one": [1], "last": -1, "join": [0, 0, -1], "join_last": [0, -1]}


def weights(kind="LSTM", directions=1, prefix="", inputs=INPUTS):
    random, size = np.random.default_rng(5), GATES[kind] * HIDDEN
    shapes = {
        "W": (directions, size, inputs),
        "R": (directions, size, HIDDEN),
        "B": (directions, 2 * size),
    }
    return {
        prefix + name: random.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def floats(*shape):
    return np.random.default_rng(6).standard_normal(shape).astype(np.float32)


def cell(kind="LSTM", outputs=("Y", "h"), inputs=("t", "W", "R", "B"), **attributes):
    return make_node(kind, list(inputs), list(outputs), **{"hidden_size": HIDDEN, **attributes})


def every(source="Y", to="y"):
    """Y of one direction as (batch, time, features)."""
    return [
        make_node("Squeeze", [source, "one"], [f"{to}_squeezed"]),
        make_node("Transpose", [f"{to}_squeezed"], [to], perm=[1, 0, 2]),
    ]


def onnx_file(tmp_path, nodes, constants, outputs=("y",), opset=17, edit=None):
    """A graph of `nodes`; constants that no node takes are left out."""
    taken = {name for node in nodes for name in node.input}
    values = {k: np.array(v, np.int64) for k, v in INTEGERS.items()} | constants
    kept = {k: v for k, v in values.items() if k in taken or k == "unused"}
    tensor = onnx.TensorProto
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", tensor.FLOAT, ["b", "t", INPUTS])],
        [helper.make_tensor_value_info(name, tensor.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in kept.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if edit is not None:
        edit(model)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def stacked_and_joined():
    both = {"direction": "bidirectional"}
    nodes = [
        SWAP,
        cell("GRU", ["Y"], linear_before_reset=1, **both),
        make_node("Transpose", ["Y"], ["s"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["s", "join"], ["j"]),
        cell("GRU", ["", "h"], ["j", "2W", "2R", "2B"], linear_before_reset=1, **both),
        make_node("Transpose", ["h"], ["hs"], perm=[1, 0, 2]),
        make_node("Reshape", ["hs", "join_last"], ["hj"]),
        make_node("Gemm", ["hj", "V", "b"], ["y"], transB=1),
    ]
    constants = weights("GRU", 2) | weights("GRU", 2, "2", 2 * HIDDEN)
    return nodes, constants | {"V": floats(5, 2 * HIDDEN), "b": floats(1, 5)}


READ = {
    "every step": ([SWAP, cell(), *every()], weights()),
    "the state as h[-1]": ([SWAP, cell(), make_node("Gather", ["h", "last"], ["y"])], weights()),
    "two layers, both directions, the last step": stacked_and_joined(),
    "a head before axes are moved": (
        [
            SWAP,
            cell("RNN", ["Y"], activations=["Relu"]),
            make_node("MatMul", ["Y", "V"], ["p"]),
            make_node("Add", ["b", "p"], ["q"]),
            make_node("Softmax", ["q"], ["r"], axis=3),
            *every("r"),
        ],
        weights("RNN") | {"V": floats(HIDDEN, 5), "b": floats(1, 1, 5)},
    ),
    "zeros as a constant": (
        [SWAP, cell(inputs=("t", "W", "R", "B", "", "z", "z")), *every()],
        weights() | {"z": np.zeros((1, 2, HIDDEN), np.float32)},
    ),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_gives_what_onnxruntime_gives(name, tmp_path):
    path = onnx_file(tmp_path, *READ[name])
    x = floats(2, 6, INPUTS)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    ours = interop.from_onnx(path).forward(x)

    np.testing.assert_allclose(ours, session.run(None, {"x": x})[0], rtol=0, atol=1e-5)


def second_layer(source, *after):
    """Two recurrent layers, and something that takes what the first gives."""
    nodes = [SWAP, cell(), make_node("Squeeze", ["Y", "one"], ["s"])]
    nodes += [cell(outputs=["Z"], inputs=("s", "2W", "2R", "2B")), *every("Z", "z"), *after]
    return nodes, weights() | weights(prefix="2", inputs=HIDDEN), source


def refused():
    plain, plus = [SWAP, cell(), *every("Y", "z")], weights()
    both = [SWAP, cell(direction="bidirectional")]
    head = {"V": floats(HIDDEN, HIDDEN), "b": floats(HIDDEN)}
    gemm = [SWAP, cell(), make_node("Squeeze", ["h", "zeros"], ["z"])]
    return {
        "lengths that are constant": (
            [SWAP, cell(inputs=("t", "W", "R", "B", "L")), *every()],
            plus | {"L": np.array([3, 3], np.int32)},
            "node 'Y, h': sequence_lens is not supported",
        ),
        "directions interleaved": (
            [
                *both,
                make_node("Transpose", ["Y"], ["s"], perm=[2, 0, 3, 1]),
                make_node("Reshape", ["s", "join"], ["y"]),
            ],
            weights(directions=2),
            "node 'y': a Reshape to .* of the axes batch, time, features, directions",
        ),
        "directions left apart": (
            both,
            weights(directions=2),
            "the output 'Y' is not supported",
            ["Y"],
        ),
        "a softmax over the batch": (
            [SWAP, cell(), make_node("Softmax", ["Y"], ["p"], axis=2), *every("p")],
            plus,
            "node 'p': axis=2 of the axes time, 1, batch, features is not supported",
        ),
        "batch first, where ONNX has time": (
            [cell(inputs=("x", "W", "R", "B")), *every()],
            plus,
            "takes the axes batch, time, features, it must be time, batch, features",
        ),
        "time first as output": (
            [SWAP, cell(), make_node("Squeeze", ["Y", "one"], ["y"])],
            plus,
            "the output 'y' is not supported, with the axes time, batch, features",
        ),
        "steps cut out": (
            [*plain, make_node("Slice", ["z", "one", "two"], ["y"])],
            plus | {"two": np.array([2])},
            "node 'y': a Slice is not supported",
        ),
        "every size of one squeezed": (
            [SWAP, cell(), make_node("Squeeze", ["h"], ["y"])],
            plus,
            r"node 'y': a Squeeze of \[\] is not supported",
        ),
        "a residual": (
            [
                SWAP,
                cell(inputs=("t", "W", "R", "B")),
                *every("Y", "z"),
                make_node("Add", ["z", "x"], ["y"]),
            ],
            plus,
            "node 'y': an Add is only supported as a bias",
        ),
        "a bias for each step": (
            [*plain, make_node("MatMul", ["z", "V"], ["p"]), make_node("Add", ["p", "s"], ["y"])],
            plus | head | {"s": floats(6, 1)},
            r"node 'y': \(6, 1\) is not supported as the bias of 4 outputs",
        ),
        "a product from the left": (
            [*plain, make_node("MatMul", ["V", "z"], ["y"])],
            plus | head,
            "node 'y' does not take the output of the node before it",
        ),
        "alpha": (
            [*gemm, make_node("Gemm", ["z", "V", "b"], ["y"], alpha=0.5)],
            plus | head | {"zeros": np.array([0])},
            "node 'y': alpha=0.5 is not supported, only 1.0",
        ),
        "beta": (
            [*gemm, make_node("Gemm", ["z", "V", "b"], ["y"], beta=2.0)],
            plus | head | {"zeros": np.array([0])},
            "node 'y': beta=2.0 is not supported",
        ),
        "the cell state": (
            [
                SWAP,
                cell(outputs=["", "", "c"]),
                make_node("Gather", ["c", "zero"], ["z"]),
                make_node("MatMul", ["z", "V"], ["y"]),
            ],
            plus | head,
            "node 'y' does not take the output of the node before it",
        ),
        "an output of the first of two layers": (
            *second_layer("")[:2],
            "the output 'h' is not supported",
            ["h", "z"],
        ),
        "a head on the first of two layers": (
            [*second_layer("")[0], *every("Y", "w"), make_node("MatMul", ["w", "V"], ["y"])],
            second_layer("")[1] | head,
            "node 'y' does not take the output of the node before it",
            ["y", "z"],
        ),
        "a second output": (
            [*plain, make_node("MatMul", ["z", "V"], ["y"])],
            plus | head,
            "the output 'z' is not supported in addition to 'y'",
            ["y", "z"],
        ),
        "a constant that nothing takes": (
            [SWAP, cell(), *every()],
            plus | {"unused": floats(2)},
            "no node uses the constant 'unused'",
        ),
        "a node that leads nowhere": (
            [SWAP, cell(), *every(), make_node("Identity", ["h"], ["nowhere"])],
            plus,
            "node 'nowhere' leads to no output",
        ),
        "half precision": (
            [SWAP, cell(), *every()],
            {name: value.astype(np.float16) for name, value in plus.items()},
            "the constant 'W' is FLOAT16: it must be one of FLOAT, DOUBLE",
        ),
        "another's operator": (
            [SWAP, make_node("LSTM", ["t", "W", "R"], ["Y"], domain="com.example"), *every()],
            plus,
            "node 'Y': a foreign operator is not supported",
        ),
        "no clipping, but said": (
            [SWAP, cell(clip=0.0), *every()],
            plus,
            "clip=0.0 is not supported",
        ),
        "parameters of an activation": (
            [SWAP, cell(activation_alpha=[0.5]), *every()],
            plus,
            "activation_alpha=.* is not supported",
        ),
        "an attribute that is not ONNX's": (
            [SWAP, cell(output_sequence=1), *every()],
            plus,
            "output_sequence=1 is not supported",
        ),
        "weights of another size": (
            [SWAP, cell(hidden_size=5), *every()],
            plus,
            "do not fit 1 direction.* with hidden_size=5",
        ),
        "peepholes": (
            [SWAP, cell(inputs=("t", "W", "R", "B", "", "", "", "P")), *every()],
            plus | {"P": floats(1, 3 * HIDDEN)},
            "peepholes are not supported",
        ),
        "an initial state": (
            [SWAP, cell(inputs=("t", "W", "R", "B", "", "s")), *every()],
            plus | {"s": floats(1, 2, HIDDEN)},
            "only zero is supported as initial_h",
        ),
        "a cycle": (
            [
                SWAP,
                make_node("Identity", ["b"], ["a"]),
                make_node("Identity", ["a"], ["b"]),
                cell(inputs=("t", "W", "R", "B", "", "a")),
                *every(),
            ],
            plus,
            "node 'a': no earlier node returns its input 'b'",
        ),
        "two functions": (
            [*plain, make_node("Tanh", ["z"], ["p"]), make_node("Sigmoid", ["p"], ["y"])],
            plus,
            "node 'y': only one output function is supported, at the end",
        ),
    }


@pytest.mark.parametrize("name", refused())
def test_a_graph_that_would_not_be_the_same_is_refused(name, tmp_path):
    nodes, constants, message, *outputs = refused()[name]
    path = onnx_file(tmp_path, nodes, constants, *outputs)
    with pytest.raises(InteropError, match=message):
        interop.from_onnx(path)


def older_softmax(model):
    model.opset_import[0].version = 11


def two_inputs(model):
    extra = helper.make_tensor_value_info("h0", onnx.TensorProto.FLOAT, [1, "b", HIDDEN])
    model.graph.input.append(extra)


def weights_elsewhere(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def function(model):
    model.functions.add(name="Transpose")


def too_many_nodes(model):
    for i in range(10_001):
        model.graph.node.add(op_type="Identity", input=["x"], output=[f"i{i}"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (two_inputs, r"must have one input, it has \['x', 'h0'\]"),
        (weights_elsewhere, "the constant 'one' is in another file"),
        (function, "functions in an ONNX file are not supported"),
        (too_many_nodes, "the graph has 1000. nodes, more than 10000"),
        (lambda model: model.opset_import.add(domain="", version=9), r"got \[17, 9\]"),
        (lambda model: model.graph.ClearField("output"), "the graph has no output"),
        (lambda model: model.graph.initializer[0].dims.append(10**12), "'one' cannot be read"),
    ],
)
def test_a_file_with_something_else_in_it_is_refused(edit, message, tmp_path):
    path = onnx_file(tmp_path, [SWAP, cell(), *every()], weights(), edit=edit)
    with pytest.raises(InteropError, match=message):
        interop.from_onnx(path)


def test_before_opset_13_a_softmax_is_over_all_axes_from_its_own_on(tmp_path):
    nodes = [SWAP, cell(), make_node("Squeeze", ["Y"], ["s"], axes=[1])]
    nodes += [make_node("Transpose", ["s"], ["z"], perm=[1, 0, 2])]
    last = onnx_file(tmp_path, [*nodes, make_node("Softmax", ["z"], ["y"], axis=2)], weights())
    model = onnx.load(last)
    older_softmax(model)
    last.write_bytes(model.SerializeToString())
    assert interop.from_onnx(last).network.output == "softmax"

    del model.graph.node[-1].attribute[:]
    last.write_bytes(model.SerializeToString())
    with pytest.raises(InteropError, match="node 'y': axis=1 of the axes batch, time, features"):
        interop.from_onnx(last)


def test_each_node_is_looked_at_once(tmp_path):
    """Zeros of zeros, doubled sixty times: a walk back along all ways would not end."""
    nodes = [make_node("Concat", [f"z{i}"] * 2, [f"z{i + 1}"], axis=2) for i in range(60)]
    nodes += [SWAP, cell(inputs=("t", "W", "R", "B", "", "z60")), *every()]
    zeros = {"z0": np.zeros((1, 1, 1), np.float32)}

    model = interop.from_onnx(onnx_file(tmp_path, nodes, weights() | zeros))

    assert model.network.cell == "lstm"


def one_node(random, source, to, rank):
    """A node at random, its constants, and the rank of what it gives."""
    kind = random.choice(["Transpose", "Squeeze", "Reshape", "Softmax", "MatMul", "Gather", "Relu"])
    axis = int(random.integers(-1, rank))
    if kind == "Transpose":
        order = [int(i) for i in random.permutation(rank)]
        return make_node(kind, [source], [to], perm=order), {}, rank
    if kind == "Squeeze":
        return make_node(kind, [source, f"{to}_axes"], [to]), {f"{to}_axes": [axis]}, rank - 1
    if kind == "Reshape":
        shape = [0] * int(random.integers(0, rank)) + [-1]
        return make_node(kind, [source, f"{to}_as"], [to]), {f"{to}_as": shape}, len(shape)
    if kind == "MatMul":
        weight = floats(HIDDEN * random.choice([1, 2]), 3)
        return make_node(kind, [source, f"{to}_w"], [to]), {f"{to}_w": weight}, rank
    if kind == "Gather":
        index = np.array(random.choice([0, -1]))
        return make_node(kind, [source, f"{to}_i"], [to], axis=axis), {f"{to}_i": index}, rank - 1
    return (
        make_node(kind, [source], [to], **({"axis": axis} if kind == "Softmax" else {})),
        {},
        rank,
    )


def a_graph(random):
    """A cell, and what puts its axes in order, now and then with another node in between."""
    kind, directions = random.choice(list(GATES)), int(random.integers(1, 3))
    attributes = {"direction": "bidirectional"} if directions == 2 else {}
    source, rank, order = random.choice(
        np.array([("h", 3, [1, 0, 2]), ("Y", 4, [2, 0, 1, 3])], dtype=object)
    )
    nodes, constants = [SWAP, cell(kind, **attributes)], weights(kind, directions)
    for step in ("order", "join", "more", "most"):
        to = f"to_{step}"
        if step == "order" and random.random() < 0.9:
            nodes.append(make_node("Transpose", [source], [to], perm=order))
        elif step == "join" and random.random() < 0.9:
            constants["axes"] = np.array([0] * (rank - 2) + [-1])
            nodes.append(make_node("Reshape", [source, "axes"], [to]))
            rank -= 1
        elif random.random() < 0.4:
            node, more, rank = one_node(random, source, to, rank)
            nodes.append(node)
            constants |= {name: np.asarray(value) for name, value in more.items()}
        else:
            continue
        source = to
        if rank < 3:
            break
    return nodes, constants, [source]


@pytest.mark.parametrize(
    "count", [200, pytest.param(2_000, marks=pytest.mark.slow)], ids=["200", "2000"]
)
def test_of_graphs_at_random_those_that_are_read_are_the_same(count, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it says of some that they cannot be
    read, x = 0, floats(2, 5, INPUTS)
    for seed in range(count):
        path = onnx_file(tmp_path, *a_graph(np.random.default_rng(seed)))
        try:
            ours = interop.from_onnx(path).forward(x)
        except InteropError:
            continue
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(ours, session.run(None, {"x": x})[0], rtol=0, atol=1e-5)
        read += 1
    assert 0.1 * count < read < 0.9 * count


def test_our_own_file_with_a_residual_path_is_refused_with_its_reason(tmp_path):
    model = random_model(Network("gru", 3, residual=True))
    interop.to_onnx(model, tmp_path / "m.onnx")

    with pytest.raises(InteropError, match=r"chain, without a residual connection.*--no-residual"):
        interop.from_onnx(tmp_path / "m.onnx")
