"""Keras: `.keras` files with SimpleRNN, GRU or LSTM layers and a Dense layer after them."""

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn.cells import Array, CellParameters
from beam_rnn.errors import InteropError
from beam_rnn.interop.chain import GATES, Chain, in_order, package
from beam_rnn.model import Model
from beam_rnn.network import Network

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
    a `TimeDistributed`, with one of the activations in `beam_rnn.outputs.OUTPUTS`, which may
    stand after it in an `Activation`. Layers that act in training alone, such as `Dropout`, are
    left out.

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
            elif kind == "Activation":
                chain.output(where, _activation(layer))
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
        group = _group(kind, counts)
        if kind in _NO_EFFECT:
            continue
        if group not in file:
            raise InteropError(f"layer {layer['name']!r} ({kind}) has no weights at {group!r}")
        yield kind, layer, file[group]


def _group(kind: str, counts: dict[str, int]) -> str:
    """Where the weights of the next layer of a class are: gru, gru_1, and so on."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
    count = counts[snake] = counts.get(snake, -1) + 1
    return f"layers/{snake}" + (f"_{count}" if count else "")


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
    bias = group["vars/1"][()] if layer["use_bias"] else None
    return group["vars/0"][()], bias, _activation(layer)


def _activation(layer: Config) -> str:
    """The output function of a layer."""
    if layer["activation"] not in _OUTPUTS:
        raise InteropError(
            f"layer {layer['name']!r}: activation={layer['activation']!r} has no form here, only "
            f"{', '.join(_OUTPUTS)}"
        )
    return layer["activation"]


def to_keras(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model as a `.keras` file, which `keras.models.load_model` reads.

    It is a `Sequential` of recurrent layers, each perhaps in a `Bidirectional`, and a `Dense`.
    In a GRU with reset_after Keras has two biases for each gate, as we do; elsewhere one, which is
    the sum of our two.

    Args:
        model: The model. Its columns and its scaler have no place in such a file.
        path: The file.

    Raises:
        InteropError: The network has no form in a chain of Keras's layers.
    """
    network, name = model.network, os.fspath(path)
    _check_form(network)
    if not name.endswith(".keras"):
        raise InteropError(f"a model of Keras is written as .keras, got {name!r}")
    layers: list[Config] = [
        _entry("InputLayer", "inputs", model, batch_shape=[None, None, model.inputs])
    ]
    weights = io.BytesIO()
    counts: dict[str, int] = {}
    with package("h5py").File(weights, "w") as file:
        file.create_group("vars")

        def add(entry: Config, values: Mapping[str, Array]) -> None:
            layers.append(entry)
            group = file.create_group(_group(entry["class_name"], counts))
            group.create_group("vars")
            for place, value in values.items():
                group[place] = value

        for i in range(network.layers):
            add(*_written_layer(model, i))
        as_they_are = network.output in ("identity", "quantiles")
        activation = "linear" if as_they_are else network.output
        if network.head == "linear":
            W_y, b_y = model.parameters["head.W_y"], model.parameters["head.b_y"]
            settings = {"units": model.outputs, "activation": activation, "use_bias": True}
            add(_entry("Dense", "head", model, **settings), {"vars/0": W_y, "vars/1": b_y})
        elif activation != "linear":
            add(_entry("Activation", "output", model, activation=activation), {})
    config = _entry("Sequential", "beam_rnn", model, layers=layers)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for member, content in {
            "metadata.json": json.dumps({"keras_version": "3.0.0"}).encode(),
            "config.json": json.dumps({**config, "module": "keras"}).encode(),
            "model.weights.h5": weights.getvalue(),
        }.items():
            archive.writestr(zipfile.ZipInfo(member), content)  # no time: same model, same bytes
    Path(name).write_bytes(data.getvalue())


def _check_form(network: Network) -> None:
    """That a network is a chain of Keras's layers."""
    several = network.output == "softmax" and network.horizons > 1
    for refused, why in {
        f"cell={network.cell!r}": network.cell not in GATES,
        "a residual head": network.residual,
        "a learned initial state": network.initial_state == "learned",
        "an embedding": network.embedding_sizes != (),
        "carry=False": not network.carry,
        "output='gaussian'": network.output == "gaussian",
        "output='softmax' of several horizons": several,
    }.items():
        if why:
            raise InteropError(f"a chain of Keras's layers has no form for {refused}")


def _entry(kind: str, name: str, model: Model, **settings: Any) -> dict[str, Any]:
    """A layer as Keras writes it; what is at its default is left out."""
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "dtype": model.dtype.name, **settings},
        "registered_name": None,
    }


def _written_layer(model: Model, i: int) -> tuple[Config, Mapping[str, Array]]:
    """A recurrent layer, and its weights by their places in its group."""
    network = model.network
    last = network.output_steps == "last" and i == network.layers - 1
    settings: dict[str, Any] = {"units": network.sizes[i], "return_sequences": not last}
    settings["activation"] = network.activation
    if network.cell != "rnn":
        settings["recurrent_activation"] = "sigmoid"
    if network.cell == "gru":
        settings["reset_after"] = network.reset_after
    settings |= {"use_bias": True, "go_backwards": False}
    (kind,) = (kind for kind, cell in _CELLS.items() if cell == network.cell)
    directions = network.layer(model.parameters, i)
    if not network.bidirectional:
        return _entry(kind, f"recurrent_{i}", model, **settings), _variables(network, directions[0])
    inner = [
        _entry(kind, f"{name}_{i}", model, **{**settings, "go_backwards": name == "backward"})
        for name in ("forward", "backward")
    ]
    both = dict(zip(("layer", "backward_layer"), inner, strict=True))
    variables = {
        f"{name}_layer/{place}": value
        for name, p in zip(("forward", "backward"), directions, strict=True)
        for place, value in _variables(network, p).items()
    }
    entry = _entry("Bidirectional", f"recurrent_{i}", model, merge_mode=network.merge, **both)
    return entry, variables


def _variables(network: Network, p: CellParameters) -> dict[str, Array]:
    """The weights of one direction, our two biases as its one or two."""
    cell = network.cell
    W_x, W_h, b_x, b_h = (in_order(v, GATES[cell], _GATES[cell], -1) for v in p)
    two = cell == "gru" and network.reset_after
    bias = np.stack([b_x, b_h]) if two else b_x + b_h
    return {f"cell/vars/{j}": value for j, value in enumerate((W_x, W_h, bias))}
