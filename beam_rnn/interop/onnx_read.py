"""ONNX import: graphs of RNN, GRU or LSTM nodes, as written by exporters and by `to_onnx`."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import InteropError
from beam_rnn.interop.layer_chain import Chain
from beam_rnn.interop.onnx_graph import Graph, Node, read_graph
from beam_rnn.interop.onnx_values import (
    BATCH,
    CELLS_OF_ONNX,
    DIRECTIONS,
    FEATURES,
    ONE,
    RECURRENT,
    TIME,
    SideValue,
    Signal,
    Value,
    Values,
    direction,
    integers,
    padded,
    side_value,
)
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CELLS

_ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu", "Sigmoid": "sigmoid"}
_DEFAULTS = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lstm": ("Sigmoid", "Tanh", "Tanh")}
_GEMM: Mapping[str, float] = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def from_onnx(path: str | os.PathLike[str]) -> Model:
    """Return the model of an ONNX file.

    The graph must be a chain of RNN, GRU or LSTM nodes of one kind with constant weights, an
    initial state of zero and whole sequences, then at most one linear layer (MatMul and Add, or
    Gemm) on every step or on the last state (Y_h), then at most one Sigmoid, Tanh, Relu or Softmax.
    Identity, Transpose, Squeeze, Gather and Reshape are allowed if they change no value and no
    order. The graph has one input, (batch, time, inputs), and one output, and may also return the
    last states of its layers. Every node is checked; unknown nodes are refused.

    Args:
        path: The file. It must contain the weights: external data is not read.

    Raises:
        InteropError: The graph contains something else; the error names the node.
    """
    return _Reader(read_graph(path), Chain(os.fspath(path))).model()


_Read = Callable[["_Reader", Node, Values], list[Value]]


class _Reader:
    """Determines the value of each name in a graph, node by node.

    ONNX stores nodes in topological order, so one pass is enough.
    """

    def __init__(self, graph: Graph, chain: Chain):
        self._graph = graph
        self._chain = chain
        self._values: dict[str, Value] = dict(graph.constants)
        self._stage = 0
        self._product = -1  # the stage of a MatMul, whose bias may follow

    def model(self) -> Model:
        """Return the model."""
        self._values[self._graph.input_name()] = Signal((BATCH, TIME, FEATURES))
        for node in self._graph.nodes:
            self._visit(node)
        self._check_outputs()
        self._graph.check_used()
        return self._chain.model()

    def _visit(self, node: Node) -> None:
        """Record the outputs of a node."""
        if node.kind not in self._OPERATORS:
            raise InteropError(f"{node}: a {node.kind or 'foreign operator'} is not supported")
        read, allowed = self._OPERATORS[node.kind]
        for name, value in node.attributes.items():
            if not isinstance(value, allowed.get(name, ())):
                raise InteropError(f"{node}: {name}={value!r} is not supported")
        for name in node.inputs:
            if name and name not in self._values:
                raise InteropError(f"{node}: no earlier node returns its input {name!r}")
        values = [self._values[name] if name else None for name in node.inputs]
        if node.kind != "Constant" and (not values or values[0] is None):
            raise InteropError(f"{node} has no input")
        given = read(self, node, values)
        for name, value in zip(node.outputs, given, strict=False):
            if name in self._values:
                raise InteropError(f"{node} returns {name!r}, which already exists")
            if name:
                self._values[name] = value

    def _check_outputs(self) -> None:
        """Check that the graph returns the output of the chain, and otherwise only last states.

        Raises:
            InteropError: It returns something else.
        """
        names = self._graph.outputs
        if not names:
            raise InteropError("the graph has no output")
        first = self._values.get(names[0])
        if not (
            isinstance(first, Signal)
            and first.stage == self._stage
            and first.axes == ((BATCH, FEATURES) if first.last else (BATCH, TIME, FEATURES))
        ):
            axes = f", with the axes {', '.join(first.axes)}" if isinstance(first, Signal) else ""
            raise InteropError(
                f"the output {names[0]!r} is not supported{axes}: it must be every step of the "
                "last layer, with the axes batch, time, features, or its last state, with the axes "
                "batch, features"
            )
        for name in names[1:]:
            if side_value(self._values.get(name)) is not SideValue.STATE:
                raise InteropError(
                    f"the output {name!r} is not supported in addition to {names[0]!r}: remove it"
                )
        if first.last:
            self._chain.last_step()

    # One method for each kind of operator. A node of the chain must take the output of the chain
    # so far, so that there is only one path.

    def _chain_input(self, node: Node, value: Value | None) -> Signal:
        """Return the input of a node of the chain."""
        if not isinstance(value, Signal) or value.stage != self._stage:
            raise InteropError(
                f"{node} does not take the output of the node before it: the layers must form a "
                "chain, without a residual connection (`beam-rnn train --no-residual`)"
            )
        if DIRECTIONS in value.axes:
            raise InteropError(f"{node} takes two directions that are not concatenated")
        return value

    def _next(self, signal: Signal) -> list[Value]:
        self._stage += 1
        return [Signal(signal.axes, self._stage, signal.last)]

    def _weights(self, node: Node, value: Value | None, *ranks: int) -> Array:
        """Return a constant of floats."""
        if not isinstance(value, np.ndarray):
            raise InteropError(f"{node}: one of its weights is not constant")
        if value.dtype.kind != "f" or value.ndim not in ranks:
            raise InteropError(f"{node}: {value.dtype} {value.shape} is not supported as a weight")
        return value

    def _recurrent(self, node: Node, values: Values) -> list[Value]:
        cell, name = CELLS_OF_ONNX[node.kind], str(node)
        x, w, r, b, lengths, initial_h, initial_c, peepholes = padded(values, 8)
        axes = self._chain_input(node, x).axes
        if axes != (TIME, BATCH, FEATURES):
            raise InteropError(
                f"{name} takes the axes {', '.join(axes)}, it must be time, batch, features: "
                "export a batch-first model, whose graph transposes its input"
            )
        if lengths is not None:
            raise InteropError(
                f"{name}: sequence_lens is not supported: export it for whole sequences"
            )
        for value, what in ((initial_h, "initial_h"), (initial_c, "initial_c")):
            if value is not None and side_value(value) is not SideValue.ZERO:
                raise InteropError(f"{name}: only zero is supported as {what}")
        if peepholes is not None:
            raise InteropError(f"{name}: peepholes are not supported")
        settings = self._settings(node, cell)
        W, R = self._weights(node, w, 3), self._weights(node, r, 3)
        directions, gates = 2 if settings["bidirectional"] else 1, CELLS[cell].gates
        hidden = R.shape[2]
        B = np.zeros((directions, 2 * gates * hidden), W.dtype)
        if b is not None:
            B = self._weights(node, b, 2)
        needed = (directions, gates * hidden)
        if (
            W.shape[:2] != needed
            or R.shape[:2] != needed
            or B.shape != (directions, 2 * gates * hidden)
            or node.attributes.get("hidden_size", hidden) != hidden
        ):
            raise InteropError(
                f"{name}: weights of the shapes {W.shape}, {R.shape} and {B.shape} do not fit "
                f"{directions} direction(s) with hidden_size={node.attributes.get('hidden_size')}"
            )
        self._chain.recurrent(
            name, settings, [direction(cell, *each) for each in zip(W, R, B, strict=True)]
        )
        self._stage += 1
        side = DIRECTIONS if directions == 2 else ONE
        return [
            Signal((TIME, side, BATCH, FEATURES), self._stage),
            Signal((side, BATCH, FEATURES), self._stage, last=True),
            SideValue.STATE,
        ]

    def _settings(self, node: Node, cell: str) -> dict[str, Any]:
        """Return the arguments of `Network` for a recurrent node."""
        attributes = node.attributes
        for other in ("clip", "activation_alpha", "activation_beta"):
            if other in attributes:
                raise InteropError(f"{node}: {other}={attributes[other]!r} is not supported")
        resets = CELLS[cell].reset_after is not None
        zeros = ["layout", "input_forget", *([] if resets else ["linear_before_reset"])]
        for other in zeros:
            if attributes.get(other, 0) != 0:
                raise InteropError(f"{node}: {other}={attributes[other]!r} is not supported")
        direction = attributes.get("direction", "forward")
        if direction not in ("forward", "bidirectional"):
            raise InteropError(f"{node}: direction={direction!r} is not supported")
        bidirectional = direction == "bidirectional"
        defaults = _DEFAULTS[cell] * (1 + bidirectional)
        found = tuple(attributes.get("activations", defaults))
        settings: dict[str, Any] = {"cell": cell, "bidirectional": bidirectional}
        if CELLS[cell].activation and found and found[0] in _ACTIVATIONS:
            settings["activation"] = _ACTIVATIONS[found[0]]
            defaults = found[:1] * len(defaults)
        if found != defaults:
            raise InteropError(f"{node}: activations={list(found)} are not supported")
        if resets:
            settings["reset_after"] = attributes.get("linear_before_reset", 0) != 0
        return settings

    def _linear(self, node: Node, values: Values) -> list[Value]:
        """Read a MatMul, whose bias may follow, or a Gemm."""
        x, w, b = padded(values, 3)
        signal = self._chain_input(node, x)
        weight = self._weights(node, w, 2)
        if node.attributes.get("transB", 0):
            weight = weight.T
        for name, default in _GEMM.items():
            if node.attributes.get(name, default) != default:
                raise InteropError(
                    f"{node}: {name}={node.attributes[name]!r} is not supported, only {default!r}"
                )
        if signal.axes[-1] != FEATURES or (node.kind == "Gemm" and len(signal.axes) != 2):
            raise InteropError(f"{node} takes the axes {', '.join(signal.axes)}")
        bias = None if b is None else self._bias_of(node, b, weight.shape[1], 2)
        self._chain.linear(str(node), weight, bias)
        given = self._next(signal)
        if node.kind == "MatMul":
            self._product = self._stage
        return given

    def _bias_of(self, node: Node, value: Value | None, size: int, most: int) -> Array:
        """Return a bias: one number per feature, broadcast over the other axes."""
        bias = self._weights(node, value, *range(1, most + 1))
        if bias.size != size or bias.shape[-1] != size:
            raise InteropError(
                f"{node}: {bias.shape} is not supported as the bias of {size} outputs"
            )
        return bias.reshape(-1)

    def _add(self, node: Node, values: Values) -> list[Value]:
        """Read the bias right after a MatMul."""
        signals = [value for value in values if isinstance(value, Signal)]
        others = [value for value in values if not isinstance(value, Signal)]
        if len(signals) != 1 or len(others) != 1 or self._product != self._stage:
            raise InteropError(f"{node}: an Add is only supported as a bias")
        signal = self._chain_input(node, signals[0])
        if signal.axes[-1] != FEATURES:
            raise InteropError(f"{node} takes the axes {', '.join(signal.axes)}")
        size = self._chain.outputs
        self._chain.add_bias(self._bias_of(node, others[0], size, len(signal.axes)))
        return self._next(signal)

    def _output_function(self, node: Node, values: Values) -> list[Value]:
        """Read an output function."""
        signal = self._chain_input(node, values[0])
        if node.kind == "Softmax":
            # before opset 13 it is over all axes from `axis` on
            axis = node.attributes.get("axis", 1 if self._graph.opset < 13 else -1)
            rank = len(signal.axes)
            if signal.axes[-1] != FEATURES or axis not in (-1, rank - 1):
                raise InteropError(
                    f"{node}: axis={axis} of the axes {', '.join(signal.axes)} is not supported, "
                    "only the features as the last axis"
                )
        self._chain.output(str(node), node.kind.lower())
        return self._next(signal)

    def _transpose(self, node: Node, values: Values) -> list[Value]:
        signal = self._signal(node, values)
        reverse = list(reversed(range(len(signal.axes))))
        order = integers(node.attributes.get("perm", reverse))
        if sorted(order) != list(range(len(signal.axes))):
            raise InteropError(f"{node}: perm={order} of {len(signal.axes)} axes")
        axes = tuple(signal.axes[i] for i in order)
        return [Signal(axes, signal.stage, signal.last)]

    def _squeeze(self, node: Node, values: Values) -> list[Value]:
        signal = values[0]
        if not isinstance(signal, Signal):
            return self._side_value(node, values)
        given = values[1] if len(values) > 1 else node.attributes.get("axes")
        return [self._drop_axes(node, signal, integers(given))]

    def _gather(self, node: Node, values: Values) -> list[Value]:
        """Read the selection from an axis of size 1, as in `h[-1]`, or from a shape."""
        signal, index = values[0], values[1] if len(values) > 1 else None
        if not isinstance(signal, Signal):
            return self._side_value(node, values)
        if not isinstance(index, np.ndarray) or index.ndim or integers(index) not in ([0], [-1]):
            raise InteropError(
                f"{node}: a Gather is only supported with one constant index, 0 or -1"
            )
        return [self._drop_axes(node, signal, [node.attributes.get("axis", 0)])]

    def _drop_axes(self, node: Node, signal: Signal, dropped: Sequence[int]) -> Signal:
        """Return a signal without these axes, which must have size 1."""
        rank = len(signal.axes)
        places = {i % rank for i in dropped if -rank <= i < rank}
        if not dropped or len(places) != len(dropped) or any(signal.axes[i] != ONE for i in places):
            raise InteropError(
                f"{node}: a {node.kind} of {list(dropped)} is not supported: of the axes "
                f"{', '.join(signal.axes)} only one of size 1 can be removed"
            )
        axes = tuple(axis for i, axis in enumerate(signal.axes) if i not in places)
        return Signal(axes, signal.stage, signal.last)

    def _reshape(self, node: Node, values: Values) -> list[Value]:
        """Read the concatenation of directions: (..., directions, features) as (..., -1)."""
        signal = self._signal(node, values)
        shape = integers(values[1] if len(values) > 1 else None)
        kept = len(shape) - 1
        joined = signal.axes[kept:]
        if (
            node.attributes.get("allowzero", 0)
            or shape != [*[0] * kept, -1]
            or joined not in ((DIRECTIONS, FEATURES), (ONE, FEATURES), (FEATURES,))
        ):
            raise InteropError(
                f"{node}: a Reshape to {shape} of the axes {', '.join(signal.axes)} is not "
                "supported, only one that concatenates the features of two directions"
            )
        return [Signal((*signal.axes[:kept], FEATURES), signal.stage, signal.last)]

    def _signal(self, node: Node, values: Values) -> Signal:
        if not isinstance(values[0], Signal):
            raise InteropError(f"{node}: a {node.kind} is only supported in the chain of layers")
        return values[0]

    def _identity(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # unchanged
        return [value for value in values[:1] if value is not None]

    def _constant(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # no inputs
        if "value" not in node.attributes:
            raise InteropError(f"{node} has no tensor")
        return [node.attributes["value"]]

    def _shape(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # any value has one
        return [SideValue.SIZES]

    def _zeros(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # of any shape
        """Read a ConstantOfShape."""
        value = node.attributes.get("value", np.zeros(1, np.float32))
        if value.any():
            raise InteropError(f"{node}: only zero is supported, got {value}")
        return [SideValue.ZERO]

    def _side_value(self, node: Node, values: Values) -> list[Value]:
        """Read an operator that returns the kind of value that it takes: zeros, sizes or states."""
        taken = values if node.kind == "Concat" else values[:1]
        kinds = {side_value(value) for value in taken}
        if len(kinds) != 1 or None in kinds:
            raise InteropError(f"{node}: a {node.kind} is not supported")
        return [kind for kind in kinds if kind is not None]

    _OPERATORS: ClassVar[Mapping[str, tuple[_Read, Mapping[str, type]]]] = {
        **dict.fromkeys(CELLS_OF_ONNX, (_recurrent, RECURRENT)),
        **dict.fromkeys(("Relu", "Sigmoid", "Tanh"), (_output_function, {})),
        "Softmax": (_output_function, {"axis": int}),
        "MatMul": (_linear, {}),
        "Gemm": (_linear, {"alpha": float, "beta": float, "transA": int, "transB": int}),
        "Add": (_add, {}),
        "Identity": (_identity, {}),
        "Transpose": (_transpose, {"perm": list}),
        "Squeeze": (_squeeze, {"axes": list}),
        "Reshape": (_reshape, {"allowzero": int}),
        "Gather": (_gather, {"axis": int}),
        "Constant": (_constant, {"value": np.ndarray}),
        "Shape": (_shape, {"start": int, "end": int}),
        "ConstantOfShape": (_zeros, {"value": np.ndarray}),
        "Cast": (_side_value, {"to": int, "saturate": int}),
        "Concat": (_side_value, {"axis": int}),
        "Expand": (_side_value, {}),
        "Slice": (_side_value, {"starts": list, "ends": list, "axes": list}),
        "Unsqueeze": (_side_value, {"axes": list}),
    }
    """The method for each operator, and its supported attributes with their types."""
