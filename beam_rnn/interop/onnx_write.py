"""ONNX export: graphs for any ONNX runtime."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.atomic_files import replace_file
from beam_rnn.core.errors import InteropError
from beam_rnn.interop.layer_chain import in_order, package
from beam_rnn.interop.onnx_values import CELLS_OF_ONNX, GATES_OF_ONNX
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CellParameters
from beam_rnn.nn.output_functions import LEAST_DEVIATION, LINEAR

_OPSET, _IR_VERSION = 17, 8


def to_onnx(model: Model, path: str | os.PathLike[str], *, lengths: bool = False) -> None:
    """Write a model as an ONNX file.

    The graph takes `x` (batch, time, inputs) and returns `y`, the same as `Model.forward`:
    (batch, time, outputs), or (batch, outputs) of the last step.

    Args:
        model: The model, with float32 parameters. Its columns and scaler are not exported.
        path: The file.
        lengths: If True, the graph also takes `lengths` (batch,) int32, the number of steps of each
            sequence: y is zero after a sequence's end. `from_onnx` does not read such a file.

    Raises:
        InteropError: The parameters are not float32, or the network is not supported.
    """
    network = model.network
    for refused, why in {
        f"cell={network.cell!r}": network.cell not in GATES_OF_ONNX,
        "a learned initial state": network.initial_state == "learned",
        "an embedding": network.embedding_sizes != (),
        "carry=False": not network.carry,
        f"output={network.output!r}": not network.distribution.activation.onnx,
    }.items():
        if why:
            raise InteropError(f"the ONNX export does not support {refused}")
    if model.dtype != np.float32:
        raise InteropError(f"ONNX runtimes need float32, the parameters are {model.dtype}")
    onnx = package("onnx")
    graph = _Writer(model, onnx, lengths).graph()
    opset = onnx.helper.make_opsetid("", _OPSET)
    exported = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    onnx.checker.check_model(exported)
    replace_file(path, exported.SerializeToString())


class _Writer:
    """Builds the graph of a model, node by node."""

    def __init__(self, model: Model, onnx: Any, lengths: bool):
        self._model = model
        self._onnx = onnx
        self._has_lengths = lengths
        self._nodes: list[Any] = []
        self._constants: dict[str, Array] = {}

    def graph(self) -> Any:
        """Return the graph."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        model, network = self._model, self._model.network
        last = network.output_steps == "last"
        inputs = [helper.make_tensor_value_info("x", types.FLOAT, ["batch", "time", model.inputs])]
        if self._has_lengths:
            inputs.append(helper.make_tensor_value_info("lengths", types.INT32, ["batch"]))
            self._lengths(last)
        h = self._node("Transpose", ["x"], "time_first", perm=[1, 0, 2])
        for i in range(network.layers):
            h = self._layer(i, h, of_last_step=last and i == network.layers - 1)
        z = h if last else self._node("Transpose", [h], "batch_first", perm=[1, 0, 2])
        if network.head == "linear":
            z = self._node("MatMul", [z, self._constant("W_y", model.parameters["head.W_y"])])
            z = self._node("Add", [z, self._constant("b_y", model.parameters["head.b_y"])])
        if network.residual:
            z = self._node("Add", [z, self._last_values()])
        y = self._output(z)
        if self._has_lengths:
            zero = self._constant("zero", np.zeros((), np.float32))
            y = self._node("Where", ["valid", y, zero])
        self._nodes[-1].output[0] = "y"
        tensors = [self._onnx.numpy_helper.from_array(v, k) for k, v in self._constants.items()]
        time = [] if last else ["time"]
        outputs = helper.make_tensor_value_info("y", types.FLOAT, ["batch", *time, model.outputs])
        return helper.make_graph(self._nodes, "beam_rnn", inputs, [outputs], tensors)

    def _last_values(self) -> str:
        """Compute what a residual network adds: x times the matrix of `Network.last_values`."""
        model, x = self._model, "x"
        last = model.network.output_steps == "last"
        if last and not self._has_lengths:
            x = self._node("Gather", ["x", self._constant("last", np.array(-1))], axis=1)
        elif last:
            one = self._constant("step", np.int32(1))
            place = self._node("Sub", ["sequence_lens", one])
            place = self._node("Cast", [place], to=self._onnx.TensorProto.INT64)
            column = self._node("Unsqueeze", [place, self._integers("one", [1])])
            x = self._node("GatherND", ["x", column], batch_dims=1)
        copies = model.network.last_values(np.eye(model.inputs, dtype=np.float32), model.outputs)
        return self._node("MatMul", [x, self._constant("last_values", copies)])

    def _output(self, z: str) -> str:
        """Apply the output function."""
        network = self._model.network
        y = self._activation(z)
        if not any(part.positive for part in network.parts):
            return y
        positive = np.array([part.positive for part in network.parts], np.float32)
        positive = np.tile(positive, self._model.outputs // len(positive))
        least = self._constant("least", np.array(LEAST_DEVIATION, np.float32))
        above = self._node("Add", [self._node("Softplus", [y]), least])
        s = self._node("Mul", [above, self._constant("is_deviation", positive)])
        m = self._node("Mul", [y, self._constant("is_mean", 1 - positive)])
        return self._node("Add", [m, s])

    def _activation(self, z: str) -> str:
        """Apply the activation of the output; positive parts are not yet made positive."""
        network = self._model.network
        function = network.distribution.activation
        if function is LINEAR:
            return z
        if not function.joint:
            return self._node(function.onnx, [z])
        if network.horizons == 1:
            return self._node(function.onnx, [z], axis=-1)
        kept = [0] if network.output_steps == "last" else [0, 0]
        by_horizon = self._integers("by_horizon", [*kept, network.horizons, -1])
        y = self._node(function.onnx, [self._node("Reshape", [z, by_horizon])], axis=-1)
        return self._node("Reshape", [y, self._integers("flat", [*kept, -1])])

    def _lengths(self, last: bool) -> None:
        """Add `sequence_lens` (batch,), and `valid`: (batch, time, 1), or (batch, 1) if `last`."""
        one = self._integers("one", [1])
        shape = self._node("Shape", ["x"])
        time = self._node("Slice", [shape, one, self._integers("two", [2])])
        time = self._node("Cast", [time], to=self._onnx.TensorProto.INT32)
        self._node("Min", ["lengths", time], "sequence_lens")
        column = self._node("Unsqueeze", ["sequence_lens", one])
        start = self._constant("start", np.zeros((), np.int32))
        if last:
            self._node("Less", [start, column], "valid")
            return
        scalars = [start, self._node("Squeeze", [time]), self._constant("step", np.int32(1))]
        running = self._node("Less", [self._node("Range", scalars), column])
        self._node("Unsqueeze", [running, self._integers("two", [2])], "valid")

    def _layer(self, i: int, x: str, *, of_last_step: bool) -> str:
        """Add a recurrent node with merged directions: (time, batch, output_size).

        With `of_last_step` its last state, (batch, output_size).
        """
        network, name = self._model.network, f"layers.{i}"
        cell = network.step_cell
        order = GATES_OF_ONNX[network.cell]
        layer = [
            CellParameters(*(in_order(v, cell.order, order, -1) for v in p))
            for p in network.layer(self._model.parameters, i)
        ]
        W = np.stack([p.W_x.T for p in layer])
        R = np.stack([p.W_h.T for p in layer])
        B = np.stack([np.concatenate([p.b_x, p.b_h]) for p in layer])
        weights = [self._constant(f"{name}.{k}", v) for k, v in (("W", W), ("R", R), ("B", B))]
        attributes: dict[str, Any] = {"hidden_size": network.sizes[i]}
        attributes["direction"] = "bidirectional" if network.bidirectional else "forward"
        if cell.activation:
            attributes["activations"] = [cell.activation.capitalize()] * network.directions
        if cell.reset_after is not None:
            attributes["linear_before_reset"] = int(cell.reset_after)
        operator = next(kind for kind, each in CELLS_OF_ONNX.items() if each == network.cell)
        # Y is (time, directions, batch, hidden), Y_h the same without time
        outputs, axis, kept_axes = [f"{name}.Y"], 1, [0, 0]
        if of_last_step:
            outputs, axis, kept_axes = ["", f"{name}.Y_h"], 0, [0]
        y = outputs[-1]
        lengths = ["sequence_lens"] if self._has_lengths else []
        self._nodes.append(
            self._onnx.helper.make_node(
                operator, [x, *weights, *lengths], outputs, name=name, **attributes
            )
        )
        if not network.bidirectional:
            return self._node("Squeeze", [y, self._integers(f"axis_{axis}", [axis])])
        if network.merge == "concat":
            perm = [1, 0, 2] if of_last_step else [0, 2, 1, 3]
            side_by_side = self._node("Transpose", [y], perm=perm)
            merged = self._integers(f"merged_{axis}", [*kept_axes, -1])
            return self._node("Reshape", [side_by_side, merged])
        if network.merge == "sum":
            axes = self._integers(f"axis_{axis}", [axis])
            return self._node("ReduceSum", [y, axes], keepdims=0)
        kind = {"mul": "ReduceProd", "ave": "ReduceMean"}[network.merge]
        return self._node(kind, [y], axes=[axis], keepdims=0)

    def _node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{kind}_{len(self._nodes)}"
        node = self._onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
        self._nodes.append(node)
        return output

    def _constant(self, name: str, value: Array) -> str:
        self._constants[name] = np.asarray(value, order="C")
        return name

    def _integers(self, name: str, values: Sequence[int]) -> str:
        return self._constant(name, np.array(values, np.int64))
