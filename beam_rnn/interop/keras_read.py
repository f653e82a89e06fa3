"""Keras import: SimpleRNN, GRU or LSTM layers, then a Dense layer."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import InteropError, shown
from beam_rnn.interop.keras_file import read_keras_file
from beam_rnn.interop.layer_chain import Chain, in_order
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CELLS, CellParameters
from beam_rnn.nn.output_functions import OUTPUTS

CELLS_OF_KERAS = {"SimpleRNN": "rnn", "GRU": "gru", "LSTM": "lstm"}
GATES_OF_KERAS = {"rnn": "h", "gru": "zrn", "lstm": "ifgo"}
_OUTPUTS = tuple({output.keras: None for output in OUTPUTS.values() if output.keras})
_NO_EFFECT = ("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout")
"""Layers that have an effect only in training."""
_BOTH = (False, True)
_KNOWN: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "InputLayer": {"sparse": (False,), "ragged": (False,)},
    "SimpleRNN": {"activation": ("tanh", "relu", "sigmoid")},
    "GRU": {"activation": ("tanh",), "recurrent_activation": ("sigmoid",), "reset_after": _BOTH},
    "LSTM": {"activation": ("tanh",), "recurrent_activation": ("sigmoid",)},
    "Bidirectional": {"merge_mode": ("concat", "sum", "mul", "ave")},
    "TimeDistributed": {},
    "Dense": {"activation": _OUTPUTS, "use_bias": _BOTH, "quantization_config": (None,)},
    "Activation": {"activation": _OUTPUTS},
    **{kind: {} for kind in _NO_EFFECT},
}
"""The settings of each layer that affect its result, and their supported values."""
_OF_RECURRENT: Mapping[str, tuple[object, ...]] = {
    "use_bias": _BOTH,
    "return_sequences": _BOTH,
    "return_state": _BOTH,
    "go_backwards": (False,),
    "stateful": (False,),
}
_FREE = re.compile(
    r"name|trainable|dtype|units|(\w+_)?(initializer|regularizer|constraint)|unit_forget_bias"
    r"|dropout|recurrent_dropout|seed|unroll|implementation|zero_output_for_mask"
    r"|batch_shape|optional|layer|backward_layer|rate|noise_shape|stddev"
)
"""Settings of these layers that do not affect the result, or that are checked elsewhere. Masks are
not supported."""
_OPTIONAL = ("return_state", "stateful", "quantization_config", "sparse", "ragged")
"""Settings that older files do not have; they are off in these."""

Config = Mapping[str, Any]


def from_keras(path: str | os.PathLike[str]) -> Model:
    """Return the model of a `.keras` file of Keras 3.

    The model must be a chain with one output: recurrent layers of one kind, optionally in a
    `Bidirectional`, all but the last returning sequences, then at most one `Dense`, optionally in a
    `TimeDistributed`, with one of the activations in `beam_rnn.nn.output_functions.OUTPUTS`, which
    may also be a separate `Activation`. Layers that have an effect only in training, such as
    `Dropout`, are skipped. Every setting of every layer is checked; unknown settings are refused.

    Args:
        path: The file.

    Raises:
        InteropError: The file contains something else, or something that this library does not
            support; the error names the layer.
    """
    config, tensors = read_keras_file(path)
    chain = Chain(os.fspath(path))
    counts: dict[str, int] = {}
    for kind, layer in _layers(config):
        where, group = f"layer {layer['name']!r}", group_of(kind, counts)
        if kind in ("Dense", "TimeDistributed"):
            _add_dense(chain, where, kind, layer, group, tensors)
        elif kind == "Activation":
            chain.output(where, layer["activation"])
        elif kind not in ("InputLayer", *_NO_EFFECT):
            _add_recurrent(chain, where, kind, layer, group, tensors)
    if tensors:
        raise InteropError(f"no layer uses the tensors {shown(sorted(tensors))}")
    return chain.model()


def group_of(kind: str, counts: dict[str, int]) -> str:
    """Return the path of the weights of the next layer of a class: gru, gru_1, and so on."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
    count = counts[snake] = counts.get(snake, -1) + 1
    return f"layers/{snake}" + (f"_{count}" if count else "")


def _layers(model: Any) -> Iterator[tuple[str, Config]]:
    """Yield class and settings of each layer; the layers must form a chain with one output."""
    kind = _get(model, "class_name", str, "the model")
    if kind not in ("Sequential", "Functional"):
        raise InteropError(
            f"a {kind} model is not supported, only a Sequential or a chain of layers"
        )
    config = _get(model, "config", dict, "the model")
    entries = _get(config, "layers", list, "the model")
    previous = None
    for entry in entries:
        layer_kind, layer = _layer(entry)
        if kind == "Functional":
            _check_source(entry, layer["name"], previous)
        elif "inbound_nodes" in entry:
            raise InteropError(
                f"layer {layer['name']!r}: a layer of a Sequential must have no inbound_nodes"
            )
        if layer_kind == "InputLayer" and previous is not None:
            raise InteropError(f"layer {layer['name']!r}: only one input is supported")
        previous = layer["name"]
        yield layer_kind, layer
    if kind == "Functional":
        outputs = _get(config, "output_layers", list, "the model")
        if outputs not in ([previous, 0, 0], [[previous, 0, 0]]):
            raise InteropError(
                f"the outputs of the model are {outputs}: only the output of the last layer, "
                f"{previous!r}, is supported"
            )


def _check_source(entry: Config, name: str, previous: str | None) -> None:
    """Check that a layer of a functional model takes the output of the previous layer, once."""
    calls = _get(entry, "inbound_nodes", list, f"layer {name!r}")
    if previous is None and calls == []:
        return
    taken = [_taken(call) for call in calls]
    if taken != [[[previous, 0, 0]]]:
        raise InteropError(
            f"layer {name!r} takes {taken}: in a chain it must take the first output of the "
            f"previous layer, once: [[[{previous!r}, 0, 0]]]"
        )


def _taken(call: Any) -> Any:
    """Return the arguments of the call of a layer: layer, call and output of each tensor.

    Return the call itself if it has an initial state, a mask, or is a training call.
    """
    try:
        tensors = [argument["config"]["keras_history"] for argument in call["args"]]
        settings = call["kwargs"].values()
    except (TypeError, KeyError, AttributeError):
        return call
    return tensors if all(value in (None, False) for value in settings) else call


def _is_dict(value: object) -> bool:
    return isinstance(value, dict)


def _get(config: Any, name: str, kind: type, where: str) -> Any:
    """Return a required setting."""
    value = config.get(name) if _is_dict(config) else None
    if not isinstance(value, kind):
        raise InteropError(f"{where}: {name}={value!r} is not what Keras writes")
    return value


def _layer(entry: Any, *, backwards: bool = False) -> tuple[str, Config]:
    """Return class and settings of a supported layer.

    Raises:
        InteropError: The layer or one of its settings is not supported.
    """
    kind = _get(entry, "class_name", str, "a layer")
    layer = _get(entry, "config", dict, f"a {kind} layer")
    where = f"layer {_get(layer, 'name', str, f'a {kind} layer')!r}"
    foreign = entry.get("module") != "keras.layers" or entry.get("registered_name") is not None
    if kind not in _KNOWN or foreign:
        raise InteropError(f"{where}: a {kind} layer is not supported")
    known = dict(_KNOWN[kind])
    if kind in CELLS_OF_KERAS:
        known |= {**_OF_RECURRENT, "go_backwards": (backwards,)}
    for name, values in known.items():
        value = layer.get(name, False if name in _OPTIONAL else "nothing")
        if name in _OPTIONAL and not value and value is not None:
            value = values[0]
        if not any(type(value) is type(each) and value == each for each in values):
            raise InteropError(
                f"{where}: {name}={value!r} is not supported, only "
                f"{', '.join(repr(each) for each in values)}"
            )
    for name, value in layer.items():
        if name not in known and not _FREE.fullmatch(name):
            raise InteropError(f"{where}: {name}={value!r} is not supported")
    _check_type(where, layer.get("dtype"))
    return kind, layer


def _check_type(where: str, dtype: Any) -> None:
    """Check that a layer computes in the type of its weights."""
    name = dtype
    if _is_dict(dtype):
        inner = dtype.get("config")
        plain = dtype.get("class_name") == "DTypePolicy" and _is_dict(inner)
        name = inner.get("name") if plain else dtype
    if name not in ("float32", "float64"):
        raise InteropError(f"{where}: dtype={name!r} is not supported, only float32 and float64")


def _add_recurrent(
    chain: Chain, where: str, kind: str, layer: Config, group: str, tensors: dict[str, Array]
) -> None:
    if kind == "Bidirectional":
        kind, inner = _layer(layer.get("layer"))
        settings = _settings(where, kind, inner)
        if layer.get("backward_layer") is not None:
            other = _layer(layer["backward_layer"], backwards=True)
            same = _settings(where, *other) == settings
            for name in ("units", "use_bias", "return_sequences"):
                same = same and other[1].get(name) == inner.get(name)
            if not same:
                raise InteropError(f"{where}: its two directions have different settings")
        settings |= {"bidirectional": True, "merge": layer["merge_mode"]}
        groups = [f"{group}/forward_layer", f"{group}/backward_layer"]
        layer = inner
    else:
        settings, groups = _settings(where, kind, layer), [group]
    cell = settings["cell"]
    chain.recurrent(where, settings, [_cell(where, cell, layer, g, tensors) for g in groups])
    if not layer["return_sequences"]:
        chain.last_step()


def _settings(where: str, kind: str, layer: Config) -> dict[str, Any]:
    """Return the arguments of `Network` for a recurrent layer."""
    if kind not in CELLS_OF_KERAS:
        raise InteropError(f"{where}: a Bidirectional {kind} is not supported")
    settings: dict[str, Any] = {"cell": CELLS_OF_KERAS[kind]}
    cell = CELLS[settings["cell"]]
    if cell.activation:
        settings["activation"] = layer["activation"]
    if cell.reset_after is not None:
        settings["reset_after"] = layer["reset_after"]
    return settings


def _cell(
    where: str, cell: str, layer: Config, group: str, tensors: dict[str, Array]
) -> CellParameters:
    """Return the parameters of one direction; its one or two biases become two."""
    units, order = layer.get("units"), CELLS[cell].order
    kernel = _pop(where, f"{group}/cell/vars/0", tensors)
    recurrent = _pop(where, f"{group}/cell/vars/1", tensors)
    wide = len(order) * recurrent.shape[0]
    b_x = b_h = np.zeros(wide, kernel.dtype)
    two = CELLS[cell].reset_after is not None and layer["reset_after"]
    fits = kernel.shape[1:] == (wide,) and recurrent.shape == (units, wide)
    if layer["use_bias"]:
        bias = _pop(where, f"{group}/cell/vars/2", tensors)
        fits = fits and bias.shape == ((2, wide) if two else (wide,))
        b_x, b_h = bias if two and fits else (bias, b_h)
    if not fits:
        raise InteropError(f"{where}: the shapes of its weights do not fit units={units!r}")
    return CellParameters(
        *(in_order(v, GATES_OF_KERAS[cell], order, -1) for v in (kernel, recurrent, b_x, b_h))
    )


def _add_dense(
    chain: Chain, where: str, kind: str, layer: Config, group: str, tensors: dict[str, Array]
) -> None:
    """Add the linear layer and its activation."""
    if kind == "TimeDistributed":
        kind, layer = _layer(layer.get("layer"))
        group += "/layer"
        if kind != "Dense":
            raise InteropError(f"{where}: a TimeDistributed {kind} is not supported")
    W_y = _pop(where, f"{group}/vars/0", tensors)
    b_y = _pop(where, f"{group}/vars/1", tensors) if layer["use_bias"] else None
    units = layer.get("units")
    if W_y.shape[1:] != (units,) or (b_y is not None and b_y.shape != (units,)):
        raise InteropError(f"{where}: the shapes of its weights do not fit units={units!r}")
    chain.linear(where, W_y, b_y)
    if layer["activation"] != "linear":
        chain.output(where, layer["activation"])


def _pop(where: str, path: str, tensors: dict[str, Array]) -> Array:
    """Remove a tensor from the remaining ones and return it."""
    if path not in tensors or tensors[path].ndim == 0:
        raise InteropError(f"{where} has no weights at {path!r}")
    return tensors.pop(path)
