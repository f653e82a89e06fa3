"""Shared by all formats: the chain of layers of an imported model, and gate orders."""

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
    """Import a package of the extra `interop` when it is first needed.

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
    """Return the blocks of an array in another order.

        >>> in_order(np.array([1, 2, 3]), "zrn", "rzn", axis=0)
        array([2, 1, 3])

    Args:
        value: The blocks of all gates, concatenated along `axis`.
        theirs: The order of the gates, one letter each.
        ours: The order to return.
        axis: The axis of the gates.
    """
    blocks = dict(zip(theirs, np.split(value, len(theirs), axis), strict=True))
    return np.ascontiguousarray(np.concatenate([blocks[gate] for gate in ours], axis))


class Chain:
    """The layers of an imported model, collected one by one.

    Args:
        source: The file of the model, for errors.
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
        """Add a recurrent layer: its arguments of `Network`, and parameters by direction."""
        if self._head or self._output:
            raise InteropError(f"{name}: a recurrent layer after the output layer is not supported")
        if self._settings and settings != self._settings:
            raise InteropError(
                f"{name} has {settings}, the layers before it have {self._settings}: all "
                "recurrent layers must have the same settings"
            )
        self._settings = settings
        self._layers.append(directions)

    def linear(self, name: str, W_y: Array, b_y: Array | None) -> None:
        """Add the linear layer."""
        if self._head or "output" in self._output or not self._layers:
            raise InteropError(
                f"{name}: only one linear layer is supported, after the recurrent layers"
            )
        b_y = np.zeros(W_y.shape[1], W_y.dtype) if b_y is None else b_y
        self._head = {"head.W_y": np.ascontiguousarray(W_y), "head.b_y": b_y}

    @property
    def outputs(self) -> int:
        """The number of outputs of the linear layer."""
        return int(self._head["head.W_y"].shape[1])

    def add_bias(self, b_y: Array) -> None:
        """Add the bias of the linear layer if it is a node of its own."""
        self._head["head.b_y"] = self._head["head.b_y"] + b_y

    def last_step(self) -> None:
        """Keep only the last step of each sequence for the layers after this one."""
        self._output["output_steps"] = "last"

    def output(self, name: str, function: str) -> None:
        """Set the output, by its name in `beam_rnn.nn.output_functions.OUTPUTS`."""
        if "output" in self._output or not self._layers:
            raise InteropError(f"{name}: only one output function is supported, at the end")
        self._output["output"] = function

    def model(self) -> Model:
        """Return the model.

        Raises:
            InteropError: There is no recurrent layer, or the layers do not fit together.
        """
        if not self._layers:
            raise InteropError(f"{self._source!r} has no recurrent layer")
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
            raise InteropError(
                f"the layers of {self._source!r} do not fit together: {error}"
            ) from error
