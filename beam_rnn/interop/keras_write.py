"""Keras export: files for `keras.models.load_model`."""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.atomic_files import replace_file
from beam_rnn.core.errors import InteropError
from beam_rnn.interop.keras_read import CELLS_OF_KERAS, GATES_OF_KERAS, group_of
from beam_rnn.interop.layer_chain import in_order, package
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CellParameters
from beam_rnn.nn.network import Network

Config = Mapping[str, Any]


def to_keras(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model as a `.keras` file, which `keras.models.load_model` reads.

    It is a `Sequential` of recurrent layers, in a `Bidirectional` if needed, and a `Dense`. A GRU
    with reset_after has two biases for each gate in Keras, as here; other layers have one, which is
    the sum of our two.

    Args:
        model: The model. Its columns and its scaler are not exported.
        path: The file.

    Raises:
        InteropError: A chain of Keras layers does not support the network.
    """
    network, name = model.network, os.fspath(path)
    _check_supported(network)
    if not name.endswith(".keras"):
        raise InteropError(f"a Keras model is written as .keras, got {name!r}")
    layers: list[Config] = [
        _entry("InputLayer", "inputs", model, batch_shape=[None, None, model.inputs])
    ]
    weights = io.BytesIO()
    counts: dict[str, int] = {}
    with package("h5py").File(weights, "w") as file:
        file.create_group("vars")

        def add(entry: Config, values: Mapping[str, Array]) -> None:
            layers.append(entry)
            group = file.create_group(group_of(entry["class_name"], counts))
            group.create_group("vars")
            for place, value in values.items():
                group[place] = value

        for i in range(network.layers):
            add(*_written_layer(model, i))
        activation = network.distribution.keras
        if network.head == "linear":
            W_y, b_y = model.parameters["head.W_y"], model.parameters["head.b_y"]
            settings = {"units": model.outputs, "activation": activation, "use_bias": True}
            add(_entry("Dense", "head", model, **settings), {"vars/0": W_y, "vars/1": b_y})
        elif not network.distribution.is_linear:
            add(_entry("Activation", "output", model, activation=activation), {})
    config = _entry("Sequential", "beam_rnn", model, layers=layers)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for member, content in {
            "metadata.json": json.dumps({"keras_version": "3.0.0"}).encode(),
            "config.json": json.dumps({**config, "module": "keras"}).encode(),
            "model.weights.h5": weights.getvalue(),
        }.items():
            archive.writestr(
                zipfile.ZipInfo(member), content
            )  # without a timestamp: same model, same bytes
    replace_file(name, data.getvalue())


def _check_supported(network: Network) -> None:
    """Check that a chain of Keras layers supports a network."""
    output, several = network.distribution, network.horizons > 1
    for refused, why in {
        f"cell={network.cell!r}": network.cell not in GATES_OF_KERAS,
        "a residual head": network.residual,
        "a learned initial state": network.initial_state == "learned",
        "an embedding": network.embedding_sizes != (),
        "carry=False": not network.carry,
        f"output={network.output!r}": not output.keras,
        f"output={network.output!r} with several horizons": several and output.activation.joint,
    }.items():
        if why:
            raise InteropError(f"a chain of Keras layers does not support {refused}")


def _entry(kind: str, name: str, model: Model, **settings: Any) -> dict[str, Any]:
    """Return a layer as Keras writes it, without default values."""
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "dtype": model.dtype.name, **settings},
        "registered_name": None,
    }


def _written_layer(model: Model, i: int) -> tuple[Config, Mapping[str, Array]]:
    """Return a recurrent layer, and its weights by their paths in its group."""
    network, cell = model.network, model.network.step_cell
    last = network.output_steps == "last" and i == network.layers - 1
    settings: dict[str, Any] = {"units": network.sizes[i], "return_sequences": not last}
    settings["activation"] = network.activation
    if not cell.activation:
        settings["recurrent_activation"] = "sigmoid"
    if cell.reset_after is not None:
        settings["reset_after"] = cell.reset_after
    settings |= {"use_bias": True, "go_backwards": False}
    (kind,) = (kind for kind, name in CELLS_OF_KERAS.items() if name == network.cell)
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
    """Return the weights of one direction; our two biases become one or two."""
    order = GATES_OF_KERAS[network.cell]
    W_x, W_h, b_x, b_h = (in_order(v, network.step_cell.order, order, -1) for v in p)
    bias = np.stack([b_x, b_h]) if network.step_cell.reset_after else b_x + b_h
    return {f"cell/vars/{j}": value for j, value in enumerate((W_x, W_h, bias))}
