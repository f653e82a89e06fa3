"""Keras: a `.keras` file with SimpleRNN, GRU or LSTM layers and a Dense layer after them."""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beam_rnn.cells import Array, CellParameters
from beam_rnn.errors import InteropError
from beam_rnn.interop.chain import GATES, Chain, in_order, package
from beam_rnn.model import Model

_CELLS = {"SimpleRNN": "rnn", "GRU": "gru", "LSTM": "lstm"}
_GATES = {"rnn": "h", "gru": "zrn", "lstm": "ifgo"}
_OUTPUTS = ("linear", "sigmoid", "tanh", "relu", "softmax")
_NO_EFFECT = ("InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout")
"""Layers that change nothing when a network is used."""

Config = Mapping[str, Any]


def from_keras(path: str | os.PathLike[str]) -> Model:
    """A model from a `.keras` file of Keras 3.

    The model is a chain: recurrent layers of one kind, each of them perhaps in a
    `Bidirectional`, all but the last returning sequences, then at most one `Dense`, perhaps in
    a `TimeDistributed`, with one of the activations in `beam_rnn.outputs.OUTPUTS`. Layers that
    act in training alone, such as `Dropout`, are left out.

    Args:
        path: The file.

    Raises:
        InteropError: The file holds something else, or something that this library has no
            form for; the error names the layer.
    """
    name = os.fspath(path)
    try:
        with zipfile.ZipFile(name) as archive:
            config = json.loads(archive.read("config.json"))
            weights = io.BytesIO(archive.read("model.weights.h5"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InteropError(f"{name!r} is no .keras file: {error}") from error
    chain = Chain(name)
    with package("h5py").File(weights) as file:
        for kind, layer, group in _layers(config, file):
            where = f"layer {layer['name']!r}"
            if kind in ("Dense", "TimeDistributed"):
                W_y, b_y, output = _dense(kind, layer, group)
                chain.linear(where, W_y, b_y)
                if output != "linear":
                    chain.output(where, output)
            else:
                chain.recurrent(where, *_recurrent(kind, layer, group))
                inner = layer["layer"]["config"] if kind == "Bidirectional" else layer
                if not inner["return_sequences"]:
                    chain.last_step()
    return chain.model()


def _layers(config: Config, file: Any) -> Iterator[tuple[str, Config, Any]]:
    """Kind, settings and weights of each layer that acts, which must form a chain."""
    if config["class_name"] not in ("Sequential", "Functional"):
        raise InteropError(
            f"a {config['class_name']} model has no form here: only a Sequential or a chain of "
            "layers"
        )
    counts: dict[str, int] = {}
    previous = None
    for entry in config["config"]["layers"]:
        kind, layer = entry["class_name"], entry["config"]
        sources = re.findall(r"\"keras_history\": \[\"([^\"]+)\"", json.dumps(entry))
        if sources and sources != [previous]:
            raise InteropError(
                f"layer {layer['name']!r} takes {sources}: a chain of layers takes the one before, "
                f"{previous!r}"
            )
        previous = layer["name"]
        # Keras names a layer's weights by its class, counted: gru, gru_1, and so on.
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
        count = counts[snake] = counts.get(snake, -1) + 1
        if kind in _NO_EFFECT:
            continue
        group = f"layers/{snake}" + (f"_{count}" if count else "")
        if group not in file:
            raise InteropError(f"layer {layer['name']!r} ({kind}) has no weights at {group!r}")
        yield kind, layer, file[group]


def _recurrent(kind: str, layer: Config, group: Any) -> tuple[dict[str, Any], list[CellParameters]]:
    """The settings of a recurrent layer, and the parameters of each direction."""
    if kind != "Bidirectional":
        settings = _settings(kind, layer)
        return settings, [_cell(settings["cell"], layer, group)]
    inner, backwards = layer["layer"], layer.get("backward_layer")
    settings = _settings(inner["class_name"], inner["config"])
    same = ("units", "activation", "use_bias", "recurrent_activation", "reset_after")
    if backwards is not None and any(
        backwards["config"].get(k) != inner["config"].get(k) for k in same
    ):
        raise InteropError(f"layer {layer['name']!r}: its two directions are not alike")
    if layer["merge_mode"] not in ("concat", "sum", "mul", "ave"):
        raise InteropError(
            f"layer {layer['name']!r}: merge_mode={layer['merge_mode']!r} has no form here"
        )
    settings |= {"bidirectional": True, "merge": layer["merge_mode"]}
    cell = settings["cell"]
    return settings, [
        _cell(cell, inner["config"], group[name]) for name in ("forward_layer", "backward_layer")
    ]


def _settings(kind: str, layer: Config) -> dict[str, Any]:
    """What `Network` says of a recurrent layer."""
    if kind not in _CELLS:
        raise InteropError(f"layer {layer['name']!r}: a {kind} layer has no form here")
    cell = _CELLS[kind]
    needed: dict[str, Any] = {"go_backwards": False}
    if cell != "rnn":
        needed |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
    for name, value in needed.items():
        if layer.get(name) != value:
            raise InteropError(
                f"layer {layer['name']!r}: {name}={layer.get(name)!r} has no form here, only "
                f"{value!r}"
            )
    settings: dict[str, Any] = {"cell": cell}
    if cell == "rnn":
        if layer["activation"] not in ("tanh", "relu", "sigmoid"):
            raise InteropError(
                f"layer {layer['name']!r}: activation={layer['activation']!r} has no form here"
            )
        settings["activation"] = layer["activation"]
    if cell == "gru":
        settings["reset_after"] = layer["reset_after"]
    return settings


def _cell(cell: str, layer: Config, group: Any) -> CellParameters:
    """The parameters of one direction, its one or two biases as our two."""
    values = [group[f"cell/vars/{i}"][()] for i in range(3 if layer["use_bias"] else 2)]
    kernel, recurrent = values[:2]
    b_x = b_h = np.zeros(kernel.shape[1], kernel.dtype)
    if layer["use_bias"]:
        b_x, b_h = values[2] if values[2].ndim == 2 else (values[2], b_h)
    return CellParameters(
        *(in_order(v, _GATES[cell], GATES[cell], -1) for v in (kernel, recurrent, b_x, b_h))
    )


def _dense(kind: str, layer: Config, group: Any) -> tuple[Array, Array | None, str]:
    """The weights and the bias of the linear layer, and its activation."""
    if kind == "TimeDistributed":
        if layer["layer"]["class_name"] != "Dense":
            raise InteropError(
                f"layer {layer['name']!r}: a {layer['layer']['class_name']} on every step has no "
                "form here"
            )
        layer, group = layer["layer"]["config"], group["layer"]
    if layer["activation"] not in _OUTPUTS:
        raise InteropError(
            f"layer {layer['name']!r}: activation={layer['activation']!r} has no form here, only "
            f"{', '.join(_OUTPUTS)}"
        )
    bias = group["vars/1"][()] if layer["use_bias"] else None
    return group["vars/0"][()], bias, layer["activation"]
