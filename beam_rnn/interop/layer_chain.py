"""What the formats share: the chain of layers of a foreign model, its gates in our order."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError, InteropError
from beam_rnn.models.model import Model
from beam_rnn.nn.cells import CellParameters
from beam_rnn.nn.network import Network


def package(name: str) -> Any:
    """A package of the extra `interop`, imported when it is first needed.

    Raises:
        InteropError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InteropError(
            f"this needs the package {error.name!r}: pip install 'beam-rnn[interop]'"
        ) from error


def in_order(value: Array, theirs: str, ours: str, axis: int) -> Array:
    """The blocks of an array in another order.

        >>> in_order(np.array([1, 2, 3]), "zrn", "rzn", axis=0)
        array([2, 1, 3])

    Args:
        value: The gates side by side along `axis`.
        theirs: The order in which they stand, a letter each.
        ours: The order in which they should.
        axis: Where the gates stand.
    """
    blocks = dict(zip(theirs, np.split(value, len(theirs), axis), strict=True))
    return np.ascontiguousarray(np.concatenate([blocks[gate] for gate in ours], axis))


class Chain:
    """The layers of a foreign model, one after another, as they are found.

    Args:
        source: What the model was read from, for errors.
    """

    def __init__(self, source: str):
        self._source = source
        self._settings: dict[str, Any] = {}
        self._layers: list[Sequence[CellParameters]] = []
        self._head: dict[str, Array] = {}
        self._output: dict[str, Any] = {}

    def recurrent(
        self, name: str, settings: dict[str, Any], directions: Sequence[CellParameters]
    ) -> None:
        """A recurrent layer: what `Network` says of it, and the parameters of each direction."""
        if self._head or self._output:
            raise InteropError(f"{name}: no recurrent layer may follow the output of the last")
        if self._settings and settings != self._settings:
            raise InteropError(
                f"{name} is {settings}, those before it are {self._settings}: all recurrent "
                "layers must be alike"
            )
        self._settings = settings
        self._layers.append(directions)

    def linear(self, name: str, W_y: Array, b_y: Array | None) -> None:
        """The linear layer."""
        if self._head or "output" in self._output or not self._layers:
            raise InteropError(f"{name}: one linear layer may stand after the recurrent ones")
        b_y = np.zeros(W_y.shape[1], W_y.dtype) if b_y is None else b_y
        self._head = {"head.W_y": np.ascontiguousarray(W_y), "head.b_y": b_y}

    @property
    def outputs(self) -> int:
        """How many outputs the linear layer has."""
        return int(self._head["head.W_y"].shape[1])

    def add_bias(self, b_y: Array) -> None:
        """The bias of the linear layer, where it comes as a step of its own."""
        self._head["head.b_y"] = self._head["head.b_y"] + b_y

    def last_step(self) -> None:
        """What follows sees the last step of each sequence alone."""
        self._output["output_steps"] = "last"

    def output(self, name: str, function: str) -> None:
        """Set the output, by its name in `beam_rnn.nn.output_functions.OUTPUTS`."""
        if "output" in self._output or not self._layers:
            raise InteropError(f"{name}: one output function may stand at the end")
        self._output["output"] = function

    def model(self) -> Model:
        """The whole model.

        Raises:
            InteropError: There is no recurrent layer, or what was found does not fit together.
        """
        if not self._layers:
            raise InteropError(f"{self._source!r} holds no recurrent layer")
        sizes = [layer[0].W_h.shape[0] for layer in self._layers]
        try:
            network = Network(
                hidden=sizes[0] if len(set(sizes)) == 1 else sizes,
                layers=len(sizes),
                head="linear" if self._head else "none",
                **self._settings,
                **self._output,
            )
            parameters: dict[str, Array] = {}
            for i, layer in enumerate(self._layers):
                parameters |= network.named(i, layer)
            return Model(network, parameters | self._head)
        except ConfigurationError as error:
            raise InteropError(f"{self._source!r} holds what does not fit: {error}") from error
