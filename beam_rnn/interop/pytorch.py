"""PyTorch: state_dicts of an `nn.RNN`, `nn.GRU` or `nn.LSTM` followed by a linear layer."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.atomic_files import replace_file
from beam_rnn.core.errors import InteropError, shown
from beam_rnn.interop.layer_chain import Chain, package
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CellParameters

_CELL_OF_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
_NAMES = {"W_x": "weight_ih", "W_h": "weight_hh", "b_x": "bias_ih", "b_h": "bias_hh"}
_FIRST_WEIGHT = re.compile(r"(?P<prefix>.*)weight_ih_l0$")
_TYPES = {"F32": "<f4", "F64": "<f8"}
"""The supported types of safetensors, and their names in numpy."""
SAVE = 'safetensors.torch.save_file(net.float().state_dict(), "model.safetensors")'


def from_torch(
    path: str | os.PathLike[str], *, activation: str | None = None, head: str | None = None
) -> Model:
    """Return a model from a PyTorch state_dict.

    The state_dict must contain one recurrent module, stacked or bidirectional, and at most one
    linear module. It does not contain the code of `forward`: the linear module is assumed to be
    applied to every output step of the recurrent module, with nothing in between or after it. If
    its shape would also fit before the recurrent module, its name must be `head`, or be passed.

    Args:
        path: A `.safetensors` file. Files of `torch.save` are not read, since they are pickles:
            save the state_dict with `safetensors.torch.save_file`.
        activation: The nonlinearity of an `nn.RNN`, "tanh" or "relu", which a state_dict does not
            contain; None for a GRU or an LSTM.
        head: The name of the linear module, as in the state_dict.

    Raises:
        InteropError: The state_dict contains something else as well, or something that this
            library does not support, or it is ambiguous.
    """
    left = _read(os.fspath(path))
    prefixes = [match["prefix"] for name in left if (match := _FIRST_WEIGHT.match(name))]
    if len(prefixes) != 1:
        raise InteropError(
            f"{os.fspath(path)!r} must contain one nn.RNN, nn.GRU or nn.LSTM, it contains "
            f"{len(prefixes)}: {shown(sorted(left))}"
        )
    (prefix,) = prefixes
    if any(name.startswith(f"{prefix}weight_hr_l") for name in left):
        raise InteropError(f"{prefix}weight_hr_l0: projections (proj_size) are not supported")
    suffixes = ["", "_reverse"] if f"{prefix}weight_ih_l0_reverse" in left else [""]
    has_bias = f"{prefix}bias_ih_l0" in left
    chain = Chain(os.fspath(path))
    inputs = left[f"{prefix}weight_ih_l0"].shape[-1:]
    i = 0
    while f"{prefix}weight_ih_l{i}" in left:
        name = f"{prefix}weight_ih_l{i}"
        layer = [_layer(left, prefix, f"l{i}{suffix}", has_bias) for suffix in suffixes]
        gates = layer[0].W_h.shape[1] // layer[0].W_h.shape[0]
        settings = {"cell": _CELL_OF_GATES[gates], "bidirectional": len(suffixes) == 2}
        if gates == 1:
            settings["activation"] = _nonlinearity(name, activation)
        elif activation not in (None, "tanh"):
            raise InteropError(f"{name}: activation={activation!r} is only for an nn.RNN")
        chain.recurrent(name, settings, layer)
        i += 1
    _linear(left, chain, os.fspath(path), head, inputs)
    return chain.model()


def _nonlinearity(name: str, activation: str | None) -> str:
    if activation not in ("tanh", "relu"):
        raise InteropError(
            f"{name}: a state_dict does not contain the nonlinearity of an nn.RNN: set "
            f"activation='tanh' or 'relu', got {activation!r}"
        )
    return activation


def _read(path: str) -> dict[str, Array]:
    """Return the tensors of a file."""
    if not path.endswith(".safetensors"):
        raise InteropError(
            f"a state_dict is read from a .safetensors file, got {path!r}: save it with {SAVE}"
        )
    safetensors = package("safetensors")
    try:
        found = safetensors.deserialize(Path(path).read_bytes())
    except safetensors.SafetensorError as error:
        raise InteropError(f"{path!r} is not a .safetensors file: {error}") from error
    return {name: _array(name, tensor) for name, tensor in found}


def _array(name: str, tensor: Mapping[str, Any]) -> Array:
    if tensor["dtype"] not in _TYPES:
        raise InteropError(
            f"{name} is {tensor['dtype']}: only F32 and F64 are supported, save it with {SAVE}"
        )
    values = np.frombuffer(bytes(tensor["data"]), _TYPES[tensor["dtype"]])
    return values.reshape(tensor["shape"])


def _layer(left: dict[str, Array], prefix: str, suffix: str, has_bias: bool) -> CellParameters:
    """Remove one direction of one layer from the remaining tensors and return it."""
    try:
        W_x = left.pop(f"{prefix}weight_ih_{suffix}")
        W_h = left.pop(f"{prefix}weight_hh_{suffix}")
        b_x: Array = np.zeros(W_x.shape[:1], W_x.dtype)
        b_h = b_x
        if has_bias:
            b_x = left.pop(f"{prefix}bias_ih_{suffix}")
            b_h = left.pop(f"{prefix}bias_hh_{suffix}")
    except KeyError as error:
        raise InteropError(f"the state_dict has no {error.args[0]!r}") from error
    hidden = W_h.shape[-1] if W_h.ndim == 2 else 0
    wide = len(W_h) if hidden else 0
    if (
        wide not in [gates * hidden for gates in _CELL_OF_GATES]
        or not wide
        or W_x.shape != (wide, *W_x.shape[1:2])
        or not b_x.shape == b_h.shape == (wide,)
    ):
        raise InteropError(
            f"{prefix}weight_ih_{suffix}: {W_x.shape}, {W_h.shape}, {b_x.shape} and {b_h.shape} "
            "are not the shapes of an nn.RNN, nn.GRU or nn.LSTM"
        )
    return CellParameters(np.ascontiguousarray(W_x.T), np.ascontiguousarray(W_h.T), b_x, b_h)


def _linear(
    left: dict[str, Array], chain: Chain, path: str, head: str | None, inputs: tuple[int, ...]
) -> None:
    """Read the linear layer from the remaining tensors, which must contain nothing else.

    A Linear(n, inputs), like an Embedding(n, inputs), could also be before the recurrent module.
    """
    weights = [name for name, value in left.items() if value.ndim == 2 and name.endswith("weight")]
    module = weights[0].rpartition(".")[0] if len(weights) == 1 else None
    known = {f"{module}.weight", f"{module}.bias"} if module else {"weight", "bias"}
    if not left and head is None:
        return
    if module is None or not left.keys() <= known or (head is not None and head != module):
        raise InteropError(
            f"{path!r} contains more than a recurrent module and one linear layer"
            f"{'' if head is None else f' {head!r}'}: {shown(sorted(left))}"
        )
    weight = left[weights[0]]
    bias = left.get(weights[0].removesuffix("weight") + "bias")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InteropError(
            f"{weights[0]}: a bias of the shape {bias.shape} does not fit {weight.shape}"
        )
    before = (*weight.shape[:1],) == inputs or (bias is None and weight.shape[1:] == inputs)
    if before and head is None and module.rpartition(".")[2] != "head":
        raise InteropError(
            f"{weights[0]} has the shape {weight.shape}, which fits before and after the recurrent "
            f"module, and a state_dict does not contain their order: set head={module!r} if it is "
            "after it"
        )
    chain.linear(weights[0], weight.T, bias)


def to_torch(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model as a PyTorch state_dict, a `.safetensors` file.

    The recurrent module is `rnn`, the linear layer `head`:

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn = torch.nn.GRU(inputs, hidden, layers, batch_first=True)
                self.head = torch.nn.Linear(hidden, outputs)

    Args:
        model: The model. Its columns and its scaler are not exported.
        path: The file.

    Raises:
        InteropError: PyTorch's modules do not support the network.
    """
    network = model.network
    for refused, why in {
        f"cell={network.cell!r}": network.cell not in _CELL_OF_GATES.values(),
        "a sigmoid activation": network.activation == "sigmoid",
        "the reset gate before the product": not network.reset_after,
        f"merge={network.merge!r}": network.merge != "concat",
        "layers of different sizes": len(set(network.sizes)) > 1,
        "a residual head": network.residual,
        "a learned initial state": network.initial_state == "learned",
        "an embedding": network.embedding_sizes != (),
        "carry=False": not network.carry,
        f"output={network.output!r} (output='identity' returns its logits)": (
            not network.distribution.is_linear or len(network.parts) > 1
        ),
        "output_steps='last'": network.output_steps != "every",
    }.items():
        if why:
            raise InteropError(f"PyTorch's {network.cell} module does not support {refused}")
    if not os.fspath(path).endswith(".safetensors"):
        raise InteropError(f"a state_dict is written as .safetensors, got {os.fspath(path)!r}")
    tensors: dict[str, Any] = {}
    for i in range(network.layers):
        for reverse, p in zip(("", "_reverse"), network.layer(model.parameters, i), strict=False):
            for ours, theirs in _NAMES.items():
                tensors[f"rnn.{theirs}_l{i}{reverse}"] = np.ascontiguousarray(getattr(p, ours).T)
    if network.head == "linear":
        tensors["head.weight"] = np.ascontiguousarray(model.parameters["head.W_y"].T)
        tensors["head.bias"] = model.parameters["head.b_y"]
    data = package("safetensors.numpy").save(tensors, metadata={"format": "pt"})
    replace_file(path, data)
