"""ONNX: graphs of RNN, GRU or LSTM nodes, as exporters write them, and ours."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn.cells import Array, CellParameters
from beam_rnn.errors import InteropError
from beam_rnn.interop.chain import GATES, Chain, in_order, package
from beam_rnn.model import Model
from beam_rnn.outputs import LEAST_DEVIATION

_CELLS = {"RNN": "rnn", "GRU": "gru", "LSTM": "lstm"}
_GATES = {"rnn": "h", "gru": "zrn", "lstm": "iofg"}
_MOVES = ("Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Nodes that may stand between layers: they move all numbers about and change none."""
_SELECTS = ("Cast", "Concat", "Expand", "Slice", *_MOVES)
"""Nodes that make zeros of zeros."""
_OUTPUTS = ("Relu", "Sigmoid", "Softmax", "Tanh")
_ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu", "Sigmoid": "sigmoid"}
_DEFAULTS = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lstm": ("Sigmoid", "Tanh", "Tanh")}
_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}
_OPSET, _IR_VERSION = 17, 8


def from_onnx(path: str | os.PathLike[str]) -> Model:
    """A model from an ONNX file.

    The graph is a chain of RNN, GRU or LSTM nodes of one kind with constant weights and an
    initial state of zero, then at most one linear layer (MatMul and Add, or Gemm) on every step
    or on the last state (Y_h), then at most one Sigmoid, Tanh, Relu or Softmax. Nodes that only
    move numbers about may stand between them. The first output counts.

    Args:
        path: The file.

    Raises:
        InteropError: The graph holds something else; the error names the node.
    """
    onnx = package("onnx")
    try:
        graph = onnx.load(os.fspath(path)).graph
    except OSError:
        raise
    except Exception as error:  # protobuf has a class of its own for it
        raise InteropError(f"{os.fspath(path)!r} is no ONNX file: {error}") from error
    chain = Chain(os.fspath(path))
    reader = _Reader(graph, onnx, chain)
    for node in graph.node:
        reader.visit(node)
    reader.finish(graph.output[0].name)
    return chain.model()


class _Reader:
    """Follows `x` through a graph, node by node."""

    def __init__(self, graph: Any, onnx: Any, chain: Chain):
        self._onnx = onnx
        self._chain = chain
        self._producers = {output: node for node in graph.node for output in node.output}
        self._arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self._every = {graph.input[0].name}  # names that hold what the chain gives, on every step
        self._last: set[str] = set()  # the same, on the last step
        self._product: str | None = None  # the output of a MatMul, whose bias may follow

    def visit(self, node: Any) -> None:
        """Take one node into the chain, or refuse it."""
        kind = node.op_type
        if kind in _CELLS:
            self._recurrent(node)
            return
        steps = next((n for n in (self._every, self._last) if not n.isdisjoint(node.input)), None)
        if steps is None or kind == "Shape":
            return  # sizes, masks and initial states: what they mean is checked where they go
        if kind in ("MatMul", "Gemm"):
            self._linear(node)
            self._follow(node, steps)
        elif kind == "Add" and self._product is not None:
            self._bias(node)
            self._follow(node, steps)
        elif kind in _OUTPUTS:
            self._output(node, steps)
            self._follow(node, steps)
        elif kind == "Where" and not self.is_zero(node.input[2]):
            raise InteropError(f"node {node.name!r}: only zeros may stand after a sequence's end")
        elif kind in (*_MOVES, "Where"):
            steps.add(node.output[0])
        elif steps is self._every:
            raise InteropError(f"node {node.name!r}: a {kind} has no form here")

    def finish(self, output: str) -> None:
        """The graph's output must be that of the chain.

        Raises:
            InteropError: It is something else.
        """
        if output in self._last:
            self._chain.last_step()
        elif output not in self._every:
            raise InteropError(
                f"the output {output!r} has no form here: it is neither every step of the last "
                "layer nor its last state"
            )

    def _follow(self, node: Any, steps: set[str]) -> None:
        """What the chain gives is from now on the output of a node."""
        last = steps is self._last
        self._every, self._last = set(), set()
        (self._last if last else self._every).add(node.output[0])

    def _output(self, node: Any, steps: set[str]) -> None:
        """An output function."""
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        if node.op_type == "Softmax" and axis not in (-1, 1 if steps is self._last else 2):
            raise InteropError(f"node {node.name!r}: axis={axis} has no form here")
        self._chain.output(f"node {node.name!r}", node.op_type.lower())

    def array(self, name: str, of: str) -> Array:
        """A constant.

        Raises:
            InteropError: It is computed, or comes from outside.
        """
        if name not in self._arrays:
            node = self._producers.get(name)
            if node is None or node.op_type != "Constant":
                raise InteropError(f"node {of!r}: its weight {name!r} is no constant")
            self._arrays[name] = self._onnx.numpy_helper.to_array(node.attribute[0].t)
        return self._arrays[name]

    def is_zero(self, name: str) -> bool:
        """Whether all numbers of that name are zero, as far as the graph says."""
        if name in self._arrays:
            return not self._arrays[name].any()
        node = self._producers.get(name)
        if node is None:
            return False
        if node.op_type in ("Constant", "ConstantOfShape"):
            tensors = [a.t for a in node.attribute if a.name == "value"]
            return not any(self._onnx.numpy_helper.to_array(t).any() for t in tensors)
        moved = node.input if node.op_type == "Concat" else node.input[:1]
        return node.op_type in _SELECTS and all(self.is_zero(n) for n in moved)

    def _recurrent(self, node: Any) -> None:
        """A recurrent node."""
        if node.input[0] not in self._every:
            raise InteropError(f"node {node.name!r} does not take the output of every step")
        cell = _CELLS[node.op_type]
        attributes = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        settings = self._settings(node, cell, attributes)
        inputs = [*node.input, *[""] * (8 - len(node.input))]
        for name, what in ((inputs[5], "initial_h"), (inputs[6], "initial_c")):
            if name and not self.is_zero(name):
                raise InteropError(f"node {node.name!r}: only zero has a form here as {what}")
        if inputs[7]:
            raise InteropError(f"node {node.name!r}: peepholes have no form here")
        W, R = self.array(inputs[1], node.name), self.array(inputs[2], node.name)
        zeros = np.zeros((W.shape[0], 2 * W.shape[1]), W.dtype)
        B = self.array(inputs[3], node.name) if inputs[3] else zeros
        directions = []
        for w, r, b in zip(W, R, B, strict=True):
            b_x, b_h = np.split(b, 2)
            values = (w.T, r.T, b_x, b_h)
            directions.append(
                CellParameters(*(in_order(v, _GATES[cell], GATES[cell], -1) for v in values))
            )
        self._chain.recurrent(f"node {node.name!r}", settings, directions)
        self._every = {node.output[0]}
        self._last = set(node.output[1:2]) - {""}

    def _settings(self, node: Any, cell: str, attributes: dict[str, Any]) -> dict[str, Any]:
        """What `Network` says of a recurrent node."""
        direction = attributes.get("direction", b"forward").decode()
        directions = 2 if direction == "bidirectional" else 1
        if direction == "reverse":
            raise InteropError(f"node {node.name!r}: direction='reverse' has no form here")
        for name in ("clip", "layout", "input_forget", "activation_alpha", "activation_beta"):
            if attributes.get(name):
                raise InteropError(
                    f"node {node.name!r}: {name}={attributes[name]!r} has no form here"
                )
        defaults = _DEFAULTS[cell] * directions
        found = tuple(a.decode() for a in attributes.get("activations", ())) or defaults
        usual = (
            len(set(found)) == 1 and found[0] in _ACTIVATIONS
            if cell == "rnn"
            else (found == defaults)
        )
        if not usual:
            raise InteropError(f"node {node.name!r}: activations={found} have no form here")
        settings: dict[str, Any] = {"cell": cell, "bidirectional": directions == 2}
        if cell == "rnn":
            settings["activation"] = _ACTIVATIONS[found[0]]
        if cell == "gru":
            settings["reset_after"] = bool(attributes.get("linear_before_reset", 0))
        return settings

    def _linear(self, node: Any) -> None:
        """A MatMul, whose bias may follow, or a Gemm."""
        weight = self.array(node.input[1], node.name)
        attributes = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        if attributes.pop("transB", 0):
            weight = weight.T
        if any(attributes.get(name, default) != default for name, default in _GEMM.items()):
            raise InteropError(f"node {node.name!r}: {attributes} have no form here")
        bias = None
        if len(node.input) > 2:
            bias = self.array(node.input[2], node.name).reshape(-1)
        self._product = node.output[0]
        self._chain.linear(f"node {node.name!r}", weight, bias)

    def _bias(self, node: Any) -> None:
        """The Add right after a MatMul."""
        assert self._product is not None, "visit sends an Add here after a product alone"
        product = self._product
        sides = [name for name in node.input if name != product]
        if len(sides) != 1 or product not in node.input:
            raise InteropError(f"node {node.name!r}: an Add has no form here but as a bias")
        self._product = None
        self._chain.add_bias(self.array(sides[0], node.name).reshape(-1))


def to_onnx(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model as an ONNX file.

    The graph takes `x` (batch, time, inputs) and, if it is given, `lengths` (batch,) int32,
    and gives `y`, the same as `Model.forward`: (batch, time, outputs), zero after a sequence's
    end, or (batch, outputs) of the last step.

    Args:
        model: The model, its parameters float32. Its columns and scaler have no place in it.
        path: The file.

    Raises:
        InteropError: The parameters are not float32, or the network has no form here.
    """
    network = model.network
    for refused, why in {
        f"cell={network.cell!r}": network.cell not in GATES,
        "a learned initial state": network.initial_state == "learned",
        "an embedding": network.embedding_sizes != (),
        "carry=False": not network.carry,
    }.items():
        if why:
            raise InteropError(f"an ONNX file has no form here for {refused}")
    if model.dtype != np.float32:
        raise InteropError(f"ONNX runtimes want float32, the parameters are {model.dtype}")
    onnx = package("onnx")
    graph = _Writer(model, onnx).graph()
    opset = onnx.helper.make_opsetid("", _OPSET)
    exported = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    onnx.checker.check_model(exported)
    Path(path).write_bytes(exported.SerializeToString())


class _Writer:
    """Builds the graph of a model, node by node."""

    def __init__(self, model: Model, onnx: Any):
        self._model = model
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}

    def graph(self) -> Any:
        """The whole graph."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        model, network = self._model, self._model.network
        last = network.output_steps == "last"
        self._lengths()
        h = self._node("Transpose", ["x"], "time_first", perm=[1, 0, 2])
        for i in range(network.layers):
            h = self._layer(i, h, of_last_step=last and i == network.layers - 1)
        z = h if last else self._node("Transpose", [h], "batch_first", perm=[1, 0, 2])
        if network.head == "linear":
            z = self._node("MatMul", [z, self._constant("W_y", model.parameters["head.W_y"])])
            z = self._node("Add", [z, self._constant("b_y", model.parameters["head.b_y"])])
        if network.residual:
            z = self._node("Add", [z, self._last_values()])
        zero = self._constant("nothing", np.zeros((), np.float32))
        valid = "has_steps" if last else "valid"
        self._nodes.append(
            helper.make_node("Where", [valid, self._output(z), zero], ["y"], name="y")
        )
        tensors = [self._onnx.numpy_helper.from_array(v, k) for k, v in self._constants.items()]
        time = [] if last else ["time"]
        return helper.make_graph(
            self._nodes,
            "beam_rnn",
            [
                helper.make_tensor_value_info("x", types.FLOAT, ["batch", "time", model.inputs]),
                helper.make_tensor_value_info("lengths", types.INT32, ["lengths"]),
            ],
            [helper.make_tensor_value_info("y", types.FLOAT, ["batch", *time, model.outputs])],
            tensors,
        )

    def _last_values(self) -> str:
        """What a residual network adds: x by the 0 and 1 of `Network.last_values`."""
        model, x = self._model, "x"
        if model.network.output_steps == "last":
            one = self._constant("step", np.ones((), np.int32))
            place = self._node("Sub", ["sequence_lens", one])
            place = self._node("Cast", [place], to=self._onnx.TensorProto.INT64)
            column = self._node("Unsqueeze", [place, self._integers("one", [1])])
            x = self._node("GatherND", ["x", column], batch_dims=1)
        copies = model.network.last_values(np.eye(model.inputs, dtype=np.float32), model.outputs)
        return self._node("MatMul", [x, self._constant("last_values", copies)])

    def _output(self, z: str) -> str:
        """The output function."""
        network = self._model.network
        if network.output in ("identity", "quantiles"):
            return z
        if network.output == "gaussian":
            deviation = np.array([p == "deviation" for p in network.parts], np.float32)
            deviation = np.tile(deviation, self._model.outputs // 2)
            least = self._constant("least", np.array(LEAST_DEVIATION, np.float32))
            positive = self._node("Add", [self._node("Softplus", [z]), least])
            s = self._node("Mul", [positive, self._constant("is_deviation", deviation)])
            m = self._node("Mul", [z, self._constant("is_mean", 1 - deviation)])
            return self._node("Add", [m, s])
        if network.horizons == 1 or network.output != "softmax":
            axis: dict[str, Any] = {"axis": -1} if network.output == "softmax" else {}
            return self._node(network.output.capitalize(), [z], **axis)
        kept = [0] if network.output_steps == "last" else [0, 0]
        by_horizon = self._integers("by_horizon", [*kept, network.horizons, -1])
        y = self._node("Softmax", [self._node("Reshape", [z, by_horizon])], axis=-1)
        return self._node("Reshape", [y, self._integers("flat", [*kept, -1])])

    def _lengths(self) -> None:
        """`sequence_lens` (batch,), all of `time` unless given, and `valid` (batch, time, 1)."""
        self._constant("lengths", np.array([2**31 - 1], np.int32))
        shape = self._node("Shape", ["x"])
        batch = self._node(
            "Slice", [shape, self._integers("zero", [0]), self._integers("one", [1])]
        )
        time = self._node("Slice", [shape, self._integers("one", [1]), self._integers("two", [2])])
        time32 = self._node("Cast", [time], to=self._onnx.TensorProto.INT32)
        limited = self._node("Min", ["lengths", time32])
        self._node("Expand", [limited, batch], "sequence_lens")
        whole = self._node("Squeeze", [time32])
        scalars = [
            self._constant("start", np.zeros((), np.int32)),
            whole,
            self._constant("step", np.ones((), np.int32)),
        ]
        steps = self._node("Range", scalars)
        column = self._node("Unsqueeze", ["sequence_lens", self._integers("one", [1])])
        running = self._node("Less", [steps, column])
        self._node("Unsqueeze", [running, self._integers("two", [2])], "valid")
        self._node("Less", ["start", column], "has_steps")

    def _layer(self, i: int, x: str, *, of_last_step: bool) -> str:
        """A recurrent node, its directions merged: (time, batch, output_size).

        Of its last state, (batch, output_size), if that is asked for.
        """
        network, name = self._model.network, f"layers.{i}"
        order = _GATES[network.cell]
        layer = [
            CellParameters(*(in_order(v, GATES[network.cell], order, -1) for v in p))
            for p in network.layer(self._model.parameters, i)
        ]
        W = np.stack([p.W_x.T for p in layer])
        R = np.stack([p.W_h.T for p in layer])
        B = np.stack([np.concatenate([p.b_x, p.b_h]) for p in layer])
        weights = [self._constant(f"{name}.{k}", v) for k, v in (("W", W), ("R", R), ("B", B))]
        attributes: dict[str, Any] = {"hidden_size": network.sizes[i]}
        attributes["direction"] = "bidirectional" if network.bidirectional else "forward"
        if network.cell == "rnn":
            attributes["activations"] = [network.activation.capitalize()] * network.directions
        if network.cell == "gru":
            attributes["linear_before_reset"] = int(network.reset_after)
        operator = {cell: kind for kind, cell in _CELLS.items()}[network.cell]
        outputs = [f"{name}.Y", f"{name}.Y_h"]
        self._nodes.append(
            self._onnx.helper.make_node(
                operator, [x, *weights, "sequence_lens"], outputs, name=name, **attributes
            )
        )
        # Y is (time, directions, batch, hidden), Y_h the same without time
        y, axis, kept_axes = (outputs[1], 0, [0]) if of_last_step else (outputs[0], 1, [0, 0])
        directions = self._integers(f"directions_{axis}", [axis])
        if not network.bidirectional:
            return self._node("Squeeze", [y, directions])
        if network.merge == "concat":
            perm = [1, 0, 2] if of_last_step else [0, 2, 1, 3]
            side_by_side = self._node("Transpose", [y], perm=perm)
            merged = self._integers(f"merged_{axis}", [*kept_axes, -1])
            return self._node("Reshape", [side_by_side, merged])
        if network.merge == "sum":
            return self._node("ReduceSum", [y, directions], keepdims=0)
        kind = {"mul": "ReduceProd", "ave": "ReduceMean"}[network.merge]
        return self._node(kind, [y], axes=[axis], keepdims=0)

    def _node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def _constant(self, name: str, value: Array) -> str:
        self._constants[name] = np.ascontiguousarray(value)
        return name

    def _integers(self, name: str, values: Sequence[int]) -> str:
        return self._constant(name, np.array(values, np.int64))
