"""ONNX, read: graphs of RNN, GRU or LSTM nodes, as exporters write them, and ours."""

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
    Beside,
    Signal,
    Value,
    Values,
    beside,
    direction,
    integers,
    padded,
)
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CELLS

_ACTIVATIONS = {"Tanh": "tanh", "Relu": "relu", "Sigmoid": "sigmoid"}
_DEFAULTS = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lstm": ("Sigmoid", "Tanh", "Tanh")}
_GEMM: Mapping[str, float] = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def from_onnx(path: str | os.PathLike[str]) -> Model:
    """A model from an ONNX file.

    The graph is a chain of RNN, GRU or LSTM nodes of one kind with constant weights, an initial
    state of zero and whole sequences, then at most one linear layer (MatMul and Add, or Gemm) on
    every step or on the last state (Y_h), then at most one Sigmoid, Tanh, Relu or Softmax.
    Identity, Transpose, Squeeze, Gather and Reshape are allowed where they change no number and no
    order. The graph has one input, (batch, time, inputs), and one output, and may also give the
    last states of its layers. Every node is checked; unknown ones are refused.

    Args:
        path: The file. Its weights are in it, not beside it.

    Raises:
        InteropError: The graph holds something else; the error names the node.
    """
    return _Reader(read_graph(path), Chain(os.fspath(path))).model()


_Read = Callable[["_Reader", Node, Values], list[Value]]


class _Reader:
    """Says of each name in a graph what it holds, node by node.

    Nodes stand in the order in which they are computed, as ONNX has it, so each is seen once.
    """

    def __init__(self, graph: Graph, chain: Chain):
        self._graph = graph
        self._chain = chain
        self._values: dict[str, Value] = dict(graph.constants)
        self._stage = 0
        self._product = -1  # the stage of a MatMul, whose bias may follow

    def model(self) -> Model:
        """The whole model."""
        self._values[self._graph.input_name()] = Signal((BATCH, TIME, FEATURES))
        for node in self._graph.nodes:
            self._visit(node)
        self._check_outputs()
        self._graph.check_used()
        return self._chain.model()

    def _visit(self, node: Node) -> None:
        """Say what a node gives."""
        if node.kind not in self._OPERATORS:
            raise InteropError(f"{node}: a {node.kind or 'foreign operator'} has no form here")
        read, allowed = self._OPERATORS[node.kind]
        for name, value in node.attributes.items():
            if not isinstance(value, allowed.get(name, ())):
                raise InteropError(f"{node}: {name}={value!r} has no form here")
        for name in node.inputs:
            if name and name not in self._values:
                raise InteropError(f"{node} takes {name!r}, which no node before it gives")
        values = [self._values[name] if name else None for name in node.inputs]
        if node.kind != "Constant" and (not values or values[0] is None):
            raise InteropError(f"{node} takes nothing")
        given = read(self, node, values)
        for name, value in zip(node.outputs, given, strict=False):
            if name in self._values:
                raise InteropError(f"{node} gives {name!r}, which is there already")
            if name:
                self._values[name] = value

    def _check_outputs(self) -> None:
        """The graph gives what the chain does, and beside it at most last states.

        Raises:
            InteropError: It gives something else.
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
                f"the output {names[0]!r} has no form here{axes}: it must be every step of the "
                "last layer, with the axes batch, time, features, or its last state, with the axes "
                "batch, features"
            )
        for name in names[1:]:
            if beside(self._values.get(name)) is not Beside.STATE:
                raise InteropError(
                    f"the output {name!r} has no form here beside {names[0]!r}: take it out"
                )
        if first.last:
            self._chain.last_step()

    # What each operator gives. A signal that is changed must be the newest: so the nodes are a
    # chain.

    def _changed(self, node: Node, value: Value | None) -> Signal:
        """The signal that a node of the chain takes."""
        if not isinstance(value, Signal) or value.stage != self._stage:
            raise InteropError(
                f"{node} does not take what the node before it gives: a network is read that is a "
                "chain, without a residual path, which `train` adds by default (--no-residual)"
            )
        if DIRECTIONS in value.axes:
            raise InteropError(f"{node} takes two directions that are not side by side")
        return value

    def _next(self, signal: Signal) -> list[Value]:
        self._stage += 1
        return [Signal(signal.axes, self._stage, signal.last)]

    def _weights(self, node: Node, value: Value | None, *ranks: int) -> Array:
        """A constant of floats."""
        if not isinstance(value, np.ndarray):
            raise InteropError(f"{node}: a weight of it is no constant")
        if value.dtype.kind != "f" or value.ndim not in ranks:
            raise InteropError(f"{node}: {value.dtype} {value.shape} has no form here as a weight")
        return value

    def _recurrent(self, node: Node, values: Values) -> list[Value]:
        cell, name = CELLS_OF_ONNX[node.kind], str(node)
        x, w, r, b, lengths, initial_h, initial_c, peepholes = padded(values, 8)
        axes = self._changed(node, x).axes
        if axes != (TIME, BATCH, FEATURES):
            raise InteropError(
                f"{name} takes the axes {', '.join(axes)}, where ONNX has time, batch, features: "
                "export a graph that takes batch first, and transposes it"
            )
        if lengths is not None:
            raise InteropError(
                f"{name}: sequence_lens has no form here: export it for whole sequences"
            )
        for value, what in ((initial_h, "initial_h"), (initial_c, "initial_c")):
            if value is not None and beside(value) is not Beside.ZERO:
                raise InteropError(f"{name}: only zero has a form here as {what}")
        if peepholes is not None:
            raise InteropError(f"{name}: peepholes have no form here")
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
                f"{name}: weights of the shapes {W.shape}, {R.shape} and {B.shape} are none of "
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
            Beside.STATE,
        ]

    def _settings(self, node: Node, cell: str) -> dict[str, Any]:
        """What `Network` says of a recurrent node."""
        attributes = node.attributes
        for other in ("clip", "activation_alpha", "activation_beta"):
            if other in attributes:
                raise InteropError(f"{node}: {other}={attributes[other]!r} has no form here")
        resets = CELLS[cell].reset_after is not None
        zeros = ["layout", "input_forget", *([] if resets else ["linear_before_reset"])]
        for other in zeros:
            if attributes.get(other, 0) != 0:
                raise InteropError(f"{node}: {other}={attributes[other]!r} has no form here")
        direction = attributes.get("direction", "forward")
        if direction not in ("forward", "bidirectional"):
            raise InteropError(f"{node}: direction={direction!r} has no form here")
        bidirectional = direction == "bidirectional"
        defaults = _DEFAULTS[cell] * (1 + bidirectional)
        found = tuple(attributes.get("activations", defaults))
        settings: dict[str, Any] = {"cell": cell, "bidirectional": bidirectional}
        if CELLS[cell].activation and found and found[0] in _ACTIVATIONS:
            settings["activation"] = _ACTIVATIONS[found[0]]
            defaults = found[:1] * len(defaults)
        if found != defaults:
            raise InteropError(f"{node}: activations={list(found)} have no form here")
        if resets:
            settings["reset_after"] = attributes.get("linear_before_reset", 0) != 0
        return settings

    def _linear(self, node: Node, values: Values) -> list[Value]:
        """A MatMul, whose bias may follow, or a Gemm."""
        x, w, b = padded(values, 3)
        signal = self._changed(node, x)
        weight = self._weights(node, w, 2)
        if node.attributes.get("transB", 0):
            weight = weight.T
        for name, default in _GEMM.items():
            if node.attributes.get(name, default) != default:
                raise InteropError(
                    f"{node}: {name}={node.attributes[name]!r} has no form here, only {default!r}"
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
        """A bias: one number for each feature, the same for all else."""
        bias = self._weights(node, value, *range(1, most + 1))
        if bias.size != size or bias.shape[-1] != size:
            raise InteropError(
                f"{node}: {bias.shape} has no form here as the bias of {size} outputs"
            )
        return bias.reshape(-1)

    def _add(self, node: Node, values: Values) -> list[Value]:
        """The bias right after a MatMul."""
        signals = [value for value in values if isinstance(value, Signal)]
        others = [value for value in values if not isinstance(value, Signal)]
        if len(signals) != 1 or len(others) != 1 or self._product != self._stage:
            raise InteropError(f"{node}: an Add has no form here but as a bias")
        signal = self._changed(node, signals[0])
        if signal.axes[-1] != FEATURES:
            raise InteropError(f"{node} takes the axes {', '.join(signal.axes)}")
        size = self._chain.outputs
        self._chain.add_bias(self._bias_of(node, others[0], size, len(signal.axes)))
        return self._next(signal)

    def _function(self, node: Node, values: Values) -> list[Value]:
        """An output function."""
        signal = self._changed(node, values[0])
        if node.kind == "Softmax":
            # Before opset 13 it is over all axes from `axis` on.
            axis = node.attributes.get("axis", 1 if self._graph.opset < 13 else -1)
            rank = len(signal.axes)
            if signal.axes[-1] != FEATURES or axis not in (-1, rank - 1):
                raise InteropError(
                    f"{node}: axis={axis} of the axes {', '.join(signal.axes)} has no form here, "
                    "only the features as the last"
                )
        self._chain.output(str(node), node.kind.lower())
        return self._next(signal)

    def _transpose(self, node: Node, values: Values) -> list[Value]:
        signal = self._moved(node, values)
        reverse = list(reversed(range(len(signal.axes))))
        order = integers(node.attributes.get("perm", reverse))
        if sorted(order) != list(range(len(signal.axes))):
            raise InteropError(f"{node}: perm={order} of {len(signal.axes)} axes")
        axes = tuple(signal.axes[i] for i in order)
        return [Signal(axes, signal.stage, signal.last)]

    def _squeeze(self, node: Node, values: Values) -> list[Value]:
        signal = values[0]
        if not isinstance(signal, Signal):
            return self._select(node, values)
        given = values[1] if len(values) > 1 else node.attributes.get("axes")
        return [self._without(node, signal, integers(given))]

    def _gather(self, node: Node, values: Values) -> list[Value]:
        """The one of an axis of size 1, as in `h[-1]`; or one of the sizes."""
        signal, index = values[0], values[1] if len(values) > 1 else None
        if not isinstance(signal, Signal):
            return self._select(node, values)
        if not isinstance(index, np.ndarray) or index.ndim or integers(index) not in ([0], [-1]):
            raise InteropError(f"{node}: a Gather has no form here but of the one of an axis")
        return [self._without(node, signal, [node.attributes.get("axis", 0)])]

    def _without(self, node: Node, signal: Signal, dropped: Sequence[int]) -> Signal:
        """A signal without axes of size 1."""
        rank = len(signal.axes)
        places = {i % rank for i in dropped if -rank <= i < rank}
        if not dropped or len(places) != len(dropped) or any(signal.axes[i] != ONE for i in places):
            raise InteropError(
                f"{node}: a {node.kind} of {list(dropped)} has no form here: of the axes "
                f"{', '.join(signal.axes)} only one of size 1 may go"
            )
        axes = tuple(axis for i, axis in enumerate(signal.axes) if i not in places)
        return Signal(axes, signal.stage, signal.last)

    def _reshape(self, node: Node, values: Values) -> list[Value]:
        """The directions side by side: (..., directions, features) as (..., -1)."""
        signal = self._moved(node, values)
        shape = integers(values[1] if len(values) > 1 else None)
        kept = len(shape) - 1
        joined = signal.axes[kept:]
        if (
            node.attributes.get("allowzero", 0)
            or shape != [*[0] * kept, -1]
            or joined not in ((DIRECTIONS, FEATURES), (ONE, FEATURES), (FEATURES,))
        ):
            raise InteropError(
                f"{node}: a Reshape to {shape} of the axes {', '.join(signal.axes)} has no "
                "form here: only features of two directions side by side"
            )
        return [Signal((*signal.axes[:kept], FEATURES), signal.stage, signal.last)]

    def _moved(self, node: Node, values: Values) -> Signal:
        if not isinstance(values[0], Signal):
            raise InteropError(f"{node}: a {node.kind} has no form here but in the chain")
        return values[0]

    def _identity(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # as it is
        return [value for value in values[:1] if value is not None]

    def _constant(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # it takes none
        if "value" not in node.attributes:
            raise InteropError(f"{node} holds no tensor")
        return [node.attributes["value"]]

    def _sizes(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # of anything
        return [Beside.SIZES]

    def _zeros(self, node: Node, values: Values) -> list[Value]:  # noqa: ARG002  # of any shape
        """A ConstantOfShape."""
        value = node.attributes.get("value", np.zeros(1, np.float32))
        if value.any():
            raise InteropError(f"{node}: only zero has a form here, not {value}")
        return [Beside.ZERO]

    def _select(self, node: Node, values: Values) -> list[Value]:
        """Zeros of zeros, sizes of sizes, states of states."""
        moved = values if node.kind == "Concat" else values[:1]
        kinds = {beside(value) for value in moved}
        if len(kinds) != 1 or None in kinds:
            raise InteropError(f"{node}: a {node.kind} has no form here")
        return [kind for kind in kinds if kind is not None]

    _OPERATORS: ClassVar[Mapping[str, tuple[_Read, Mapping[str, type]]]] = {
        **dict.fromkeys(CELLS_OF_ONNX, (_recurrent, RECURRENT)),
        **dict.fromkeys(("Relu", "Sigmoid", "Tanh"), (_function, {})),
        "Softmax": (_function, {"axis": int}),
        "MatMul": (_linear, {}),
        "Gemm": (_linear, {"alpha": float, "beta": float, "transA": int, "transB": int}),
        "Add": (_add, {}),
        "Identity": (_identity, {}),
        "Transpose": (_transpose, {"perm": list}),
        "Squeeze": (_squeeze, {"axes": list}),
        "Reshape": (_reshape, {"allowzero": int}),
        "Gather": (_gather, {"axis": int}),
        "Constant": (_constant, {"value": np.ndarray}),
        "Shape": (_sizes, {"start": int, "end": int}),
        "ConstantOfShape": (_zeros, {"value": np.ndarray}),
        "Cast": (_select, {"to": int, "saturate": int}),
        "Concat": (_select, {"axis": int}),
        "Expand": (_select, {}),
        "Slice": (_select, {"starts": list, "ends": list, "axes": list}),
        "Unsqueeze": (_select, {"axes": list}),
    }
    """What reads each operator, and the attributes that it knows, with their types."""
