"""The decoded graph of an ONNX file; `onnx_read` interprets its nodes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import InteropError
from beam_rnn.interop.layer_chain import package

_OLDEST_OPSET = 7
"""The first opset with today's inputs and outputs of recurrent nodes."""
_MOST = 10_000
"""The maximum number of nodes, and of constants: far more than a chain of layers has."""
_TYPES = ("FLOAT", "DOUBLE", "INT32", "INT64")
_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Node:
    """A node.

    Attributes:
        name: Its name in errors.
        kind: The operator; "" for one that is not part of ONNX.
        attributes: Numbers, texts, lists of these, or arrays.
        inputs: Names; "" for an omitted one.
        outputs: Names; "" for an omitted one.
    """

    name: str
    kind: str
    attributes: Mapping[str, Any]
    inputs: Sequence[str]
    outputs: Sequence[str]

    def __str__(self) -> str:
        return f"node {self.name!r}"


@dataclass(frozen=True)
class Graph:
    """A graph.

    Attributes:
        opset: The version of the operators.
        nodes: The nodes, in topological order.
        constants: The constants, by name.
        inputs: The names of the inputs that are not constants, and their ranks (None if unknown).
        outputs: The names of the outputs.
    """

    opset: int
    nodes: Sequence[Node]
    constants: Mapping[str, Array]
    inputs: Mapping[str, int | None]
    outputs: Sequence[str]

    def input_name(self) -> str:
        """Return the name of the one input that is not a constant."""
        inputs = self.inputs
        if len(inputs) != 1:
            raise InteropError(
                f"the graph must have one input, it has {list(inputs)}: export it without "
                "initial states, and for whole sequences"
            )
        ((name, rank),) = inputs.items()
        if rank not in (None, 3):
            raise InteropError(
                f"the input {name!r} has {rank} axes: it must have batch, time and inputs"
            )
        return name

    def check_used(self) -> None:
        """Raise if a constant or a node leads to no output."""
        used = set(self.outputs).union(*(node.inputs for node in self.nodes))
        for name in self.constants:
            if name not in used:
                raise InteropError(f"no node uses the constant {name!r}: remove it")
        for node in self.nodes:
            if used.isdisjoint(node.outputs):
                raise InteropError(f"{node} leads to no output: remove it")


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Return the graph of a file.

    Raises:
        InteropError: It is not an ONNX file, or contains something that is not supported.
    """
    try:
        return _Decoder(package("onnx")).graph(Path(path).read_bytes())
    except (DecodeError, UnicodeDecodeError) as error:
        raise InteropError(f"{os.fspath(path)!r} is not an ONNX file: {error}") from error


class _Decoder:
    def __init__(self, onnx: Any):
        self._onnx = onnx
        types = onnx.AttributeProto
        self._fields = {
            types.INT: "i",
            types.FLOAT: "f",
            types.STRING: "s",
            types.INTS: "ints",
            types.FLOATS: "floats",
            types.STRINGS: "strings",
            types.TENSOR: "t",
        }

    def graph(self, data: bytes) -> Graph:
        exported = self._onnx.ModelProto.FromString(data)
        graph = exported.graph
        for what, found in (
            ("functions", exported.functions),
            ("sparse constants", graph.sparse_initializer),
        ):
            if found:
                raise InteropError(f"{what} in an ONNX file are not supported")
        for what, found in (("nodes", graph.node), ("constants", graph.initializer)):
            if len(found) > _MOST:
                raise InteropError(f"the graph has {len(found)} {what}, more than {_MOST}")
        constants = {each.name: self._array(each) for each in graph.initializer}
        inputs = {each.name: _rank(each) for each in graph.input if each.name not in constants}
        return Graph(
            self._opset(exported),
            [self._node(each) for each in graph.node],
            constants,
            inputs,
            [each.name for each in graph.output],
        )

    def _opset(self, exported: Any) -> int:
        newest = self._onnx.defs.onnx_opset_version()
        found = [each.version for each in exported.opset_import if each.domain in _DOMAINS]
        if len(found) != 1 or not _OLDEST_OPSET <= found[0] <= newest:
            raise InteropError(
                f"the ONNX opset must be from {_OLDEST_OPSET} to {newest}, got {found}"
            )
        return int(found[0])

    def _node(self, node: Any) -> Node:
        name = node.name or ", ".join(node.output)
        attributes = {}
        for each in node.attribute:
            if each.type not in self._fields or each.ref_attr_name:
                raise InteropError(f"node {name!r}: {each.name!r} is not supported")
            attributes[each.name] = self._value(each.type, getattr(each, self._fields[each.type]))
        kind = node.op_type if node.domain in _DOMAINS else ""
        return Node(name, kind, attributes, list(node.input), list(node.output))

    def _value(self, kind: int, value: Any) -> Any:
        """Return the value of an attribute."""
        types = self._onnx.AttributeProto
        if kind == types.TENSOR:
            return self._array(value)
        if kind == types.STRING:
            return value.decode()
        if kind == types.STRINGS:
            return [each.decode() for each in value]
        return value if kind in (types.INT, types.FLOAT) else list(value)

    def _array(self, tensor: Any) -> Array:
        """Return a constant; nothing is read from another file."""
        types, what = self._onnx.TensorProto, f"the constant {tensor.name!r}"
        if tensor.external_data or tensor.data_location == types.EXTERNAL:
            raise InteropError(f"{what} is in another file: save the model as one file")
        names = {number: name for name, number in types.DataType.items()}
        name = names.get(tensor.data_type, tensor.data_type)
        if name not in _TYPES:
            raise InteropError(f"{what} is {name}: it must be one of {', '.join(_TYPES)}")
        try:
            value = np.asarray(self._onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError) as error:
            raise InteropError(f"{what} cannot be read: {error}") from error
        if value.shape != tuple(tensor.dims):
            raise InteropError(f"{what} cannot have the shape {list(tensor.dims)}")
        return value


def _rank(value: Any) -> int | None:
    tensor = value.type.tensor_type
    return len(tensor.shape.dim) if tensor.HasField("shape") else None
