"""PyTorch: the state_dict of an `nn.RNN`, `nn.GRU` or `nn.LSTM` with a linear layer after it."""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn.cells import Array, CellParameters
from beam_rnn.errors import InteropError
from beam_rnn.interop.chain import GATES, Chain, package
from beam_rnn.model import Model

_CELL_OF_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
_NAMES = {"W_x": "weight_ih", "W_h": "weight_hh", "b_x": "bias_ih", "b_h": "bias_hh"}
_FIRST_WEIGHT = re.compile(r"(?P<prefix>.*)weight_ih_l0$")


def from_torch(path: str | os.PathLike[str], *, activation: str = "tanh") -> Model:
    """A model from a PyTorch state_dict.

    The state_dict holds one recurrent module, stacked or bidirectional, and at most one
    linear module that stands on every step; their names do not matter.

    Args:
        path: A `.safetensors` file; or a `.pt` or `.pth` file, which is read by PyTorch's safe
            loading (it must be installed) and never unpickled.
        activation: The nonlinearity of an `nn.RNN`, "tanh" or "relu": a state_dict does not
            say which.

    Raises:
        InteropError: The state_dict holds something else as well, or something that this
            library has no form for.
    """
    tensors = _read(os.fspath(path))
    prefixes = [match["prefix"] for name in tensors if (match := _FIRST_WEIGHT.match(name))]
    if len(prefixes) != 1:
        raise InteropError(
            f"{os.fspath(path)!r} must hold one nn.RNN, nn.GRU or nn.LSTM, it holds "
            f"{len(prefixes)}: {sorted(tensors)}"
        )
    (prefix,) = prefixes
    left = dict(tensors)
    if any(name.startswith(f"{prefix}weight_hr_l") for name in left):
        raise InteropError(f"{prefix}weight_hr_l0: projections (proj_size) have no form here")
    directions = 2 if f"{prefix}weight_ih_l0_reverse" in left else 1
    chain = Chain(os.fspath(path))
    i = 0
    while f"{prefix}weight_ih_l{i}" in left:
        suffixes = [f"l{i}", f"l{i}_reverse"][:directions]
        layer = [_layer(left, prefix, suffix) for suffix in suffixes]
        gates = layer[0].W_h.shape[1] // layer[0].W_h.shape[0]
        settings = {"cell": _CELL_OF_GATES[gates], "bidirectional": directions == 2}
        if gates == 1:
            settings["activation"] = activation
        chain.recurrent(f"{prefix}weight_ih_l{i}", settings, layer)
        i += 1
    _linear(left, chain, os.fspath(path))
    return chain.model()


def _read(path: str) -> Mapping[str, Array]:
    if path.endswith(".safetensors"):
        safetensors = package("safetensors.numpy")
        try:
            return safetensors.load_file(path)
        except package("safetensors").SafetensorError as error:
            raise InteropError(f"{path!r} is no .safetensors file: {error}") from error
    if path.endswith((".pt", ".pth")):
        torch = package("torch", "pip install torch, or save the state_dict as .safetensors")
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            return {name: tensor.numpy() for name, tensor in loaded.items()}
        except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
            raise InteropError(f"{path!r} is no state_dict that loads safely: {error}") from error
    raise InteropError(f"a state_dict is a .safetensors, .pt or .pth file, got {path!r}")


def _layer(left: dict[str, Array], prefix: str, suffix: str) -> CellParameters:
    """One direction of one layer, taken out of what is left."""
    try:
        W_x = left.pop(f"{prefix}weight_ih_{suffix}")
        W_h = left.pop(f"{prefix}weight_hh_{suffix}")
    except KeyError as error:
        raise InteropError(f"the state_dict has no {error.args[0]!r}") from error
    zero = np.zeros(len(W_x), W_x.dtype)  # an nn.RNN(bias=False) has none
    b_x = left.pop(f"{prefix}bias_ih_{suffix}", zero)
    b_h = left.pop(f"{prefix}bias_hh_{suffix}", zero)
    return CellParameters(np.ascontiguousarray(W_x.T), np.ascontiguousarray(W_h.T), b_x, b_h)


def _linear(left: dict[str, Array], chain: Chain, path: str) -> None:
    """The linear layer, which must be all that is left."""
    if not left:
        return
    weights = [name for name, value in left.items() if value.ndim == 2]
    if len(weights) == 1 and weights[0].endswith("weight"):
        weight = left.pop(weights[0])
        bias = left.pop(weights[0].removesuffix("weight") + "bias", None)
        if not left:
            chain.linear(weights[0], weight.T, bias)
            return
    raise InteropError(
        f"{path!r} holds more than a recurrent module and one linear layer: {sorted(left)}"
    )


def to_torch(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model as a PyTorch state_dict, a `.safetensors` file.

    The recurrent module is `rnn`, the linear layer `head`:

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn = torch.nn.GRU(inputs, hidden, layers, batch_first=True)
                self.head = torch.nn.Linear(hidden, outputs)

    Args:
        model: The model. Its columns and its scaler have no place in a state_dict.
        path: The file.

    Raises:
        InteropError: The network has no form in PyTorch's modules.
    """
    network = model.network
    for refused, why in {
        f"cell={network.cell!r}": network.cell not in GATES,
        "a sigmoid activation": network.activation == "sigmoid",
        "the reset gate before the product": not network.reset_after,
        f"merge={network.merge!r}": network.merge != "concat",
        "layers of different sizes": len(set(network.sizes)) > 1,
        "a residual head": network.residual,
        "a learned initial state": network.initial_state == "learned",
        "an embedding": network.embedding_sizes != (),
        "carry=False": not network.carry,
        f"output={network.output!r} (output='identity' gives its logits)": (
            network.output != "identity"
        ),
        "output_steps='last'": network.output_steps != "every",
    }.items():
        if why:
            raise InteropError(f"PyTorch's {network.cell} module has no form for {refused}")
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
    Path(path).write_bytes(data)
