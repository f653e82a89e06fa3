"""What is trained: the cell, its sizes, the layers, their directions, the head and its outputs.

A `Network` holds settings and no parameters. Its parameters are a dict from name to array, in the
order of `Network.shapes`: `embedding.0.E` and so on if there are symbols, `layers.0.W_x`,
`layers.0.W_h`, `layers.0.b_x`, `layers.0.b_h`, in a bidirectional network the same of
`layers.0.reverse`, then the other layers, `head.W_y` and `head.b_y`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.output_parts import Part
from beam_rnn.nn.cells import Cell, CellParameters, cell_of, linear
from beam_rnn.nn.initialization import initial_values
from beam_rnn.nn.network_checks import (
    HEADS,
    INITIAL_STATES,
    MERGES,
    OUTPUT_STEPS,
    check_choices,
    check_combinations,
    check_sizes,
    checked_levels,
)
from beam_rnn.nn.output_functions import OUTPUTS, Output

__all__ = ["HEADS", "INITIAL_STATES", "MERGES", "OUTPUT_STEPS", "Network", "Parameters"]

Parameters = Mapping[str, Array]
"""The parameters of a network by name."""


@dataclass(frozen=True)
class Network:
    """A stack of recurrent layers and a head.

    h_t = cell(h_{t-1}, x_t) for each layer, the h of one being the x of the next, then
    z_t = W_y h_t + b_y and y_t = g(z_t).

        >>> Network("lstm", hidden=8, layers=2).shapes(inputs=3, outputs=1)["layers.1.W_x"]
        (8, 32)
        >>> Network("gru", hidden=(8, 4), bidirectional=True).state_size
        24
        >>> [part.name for part in Network("gru", output="gaussian").parts]
        ['mean', 'deviation']

    Args:
        cell: "rnn" (Elman), "gru", "lstm", or another key of `beam_rnn.cells.CELLS`.
        hidden: The size m of the hidden state of every layer, or one size for each.
        layers: The number of layers; not needed if `hidden` lists their sizes.
        activation: The activation of the Elman cell: "sigmoid", "tanh" or "relu".
        residual: The head gives the change from the last value: z_t = x_t + W_y h_t + b_y,
            with as many of the first inputs as there are targets. A forecast can then follow
            a level that did not occur in training. None: `Train` decides; it is residual if the
            first inputs are forecast, in their unit and step by step.
        reset_after: Whether the reset gate of the GRU comes after the recurrent product, as in
            PyTorch, or before it, as in Cho 2014.
        bidirectional: Run each layer over the sequence in both directions. This needs whole
            sequences. With truncated BPTT the reverse direction sees only its window.
        merge: How the outputs of both directions are combined: see `MERGES`.
        head: What follows the last layer: see `HEADS`.
        initial_state: The state before a sequence: see `INITIAL_STATES`.
        output: The output: "identity", "sigmoid", "tanh", "relu", "softmax" (over the targets:
            classes), "quantiles" of each target, or "gaussian" (mean and standard deviation of
            each target).
        quantiles: The levels of output="quantiles", each between 0 and 1.
        output_steps: The steps with an output: see `OUTPUT_STEPS`.
        horizons: The number of horizons that the outputs hold, one after another; `Train` takes
            it from the columns.
        embedding: The size of the vector of a symbol, or one size for each field of
            `Columns(symbols=...)`; () without symbols. The vector replaces the index in x.
        carry: Carry the hidden state from step to step. If False, every step starts at the
            initial state and sees only its own record (one-to-one).
        remember: Initialize the gates so that they keep a state for 1 to this many steps, for
            long-term dependencies (Tallec and Ollivier 2018); None to keep it for about two.
        embedding_deviation: The standard deviation of the vectors of symbols before training. A
            small one, such as 0.1, suits symbols that are mostly rare, as words are: what is
            learned of a rare symbol then soon outweighs its random start.

    Raises:
        ConfigurationError: A name that does not exist, a size below 1, or settings that cannot
            be combined.
    """

    cell: str = "gru"
    hidden: int | Sequence[int] = 32
    layers: int = 1
    activation: str = "tanh"
    residual: bool | None = None
    reset_after: bool = True
    bidirectional: bool = False
    merge: str = "concat"
    head: str = "linear"
    initial_state: str = "zero"
    output: str = "identity"
    quantiles: Sequence[float] = (0.1, 0.5, 0.9)
    output_steps: str = "every"
    horizons: int = 1
    embedding: int | Sequence[int] = ()
    carry: bool = True
    remember: int | None = None
    embedding_deviation: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        embedding = self.embedding if _is_list(self.embedding) else (self.embedding,)
        object.__setattr__(self, "embedding", tuple(embedding))
        object.__setattr__(self, "quantiles", checked_levels(self.quantiles))
        check_combinations(self)
        if _is_list(self.hidden):
            self._set_layers(tuple(self.hidden))
        check_sizes(self)

    def _set_layers(self, hidden: tuple[int, ...]) -> None:
        if self.layers not in (1, len(hidden)):
            raise ConfigurationError(
                f"hidden={hidden} lists {len(hidden)} layers, got layers={self.layers!r}"
            )
        object.__setattr__(self, "hidden", hidden)
        object.__setattr__(self, "layers", len(hidden))

    def _hidden_sizes(self) -> tuple[int, ...]:
        return self.hidden if isinstance(self.hidden, tuple) else (self.hidden,)

    @property
    def embedding_sizes(self) -> tuple[int, ...]:
        """The size of the vectors of symbols, for each field of symbols."""
        assert isinstance(self.embedding, tuple), "set in __post_init__"
        return self.embedding

    @property
    def sizes(self) -> tuple[int, ...]:
        """The size of the hidden state of each layer, in one direction."""
        sizes = self._hidden_sizes()
        return sizes if len(sizes) == self.layers else sizes * self.layers

    @property
    def directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def step_cell(self) -> Cell:
        """The cell."""
        return cell_of(self.cell, self.activation, reset_after=self.reset_after)

    @property
    def distribution(self) -> Output:
        """What the outputs say of a target: the record of `output`, with its quantiles."""
        return OUTPUTS[self.output].with_levels(self.quantiles)

    @property
    def state_size(self) -> int:
        """The size of the hidden state: h, and c for the LSTM, of all layers."""
        return sum(self.sizes) * self.step_cell.states * self.directions

    @cached_property
    def state_places(self) -> tuple[tuple[slice, ...], ...]:
        """The columns of each layer's arrays in a state (batch, state_size)."""
        each = self.step_cell.states * self.directions
        places, start = [], 0
        for size in self.sizes:
            starts = range(start, start + each * size, size)
            places.append(tuple(slice(at, at + size) for at in starts))
            start += each * size
        return tuple(places)

    @property
    def can_be_residual(self) -> bool:
        """Return True if the head gives a number for each target at every step, in its unit."""
        steps = self.output_steps == "every" and not self.bidirectional
        return steps and self.head == "linear" and self.distribution.scaled

    @property
    def parts(self) -> tuple[Part, ...]:
        """The numbers that the outputs hold for one target at one horizon, side by side."""
        return self.distribution.parts

    def output_size(self, i: int) -> int:
        """Return the size of the output of layer i, its directions merged."""
        return self.sizes[i] * (self.directions if self.merge == "concat" else 1)

    def shapes(
        self, inputs: int, outputs: int, symbols: Sequence[int] = ()
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter, in the order in which they are stored.

        Args:
            inputs: The size of x, where a symbol is one number: its index.
            outputs: The size of y.
            symbols: The number of symbols in each vocabulary, with the unknown one.
        """
        shapes: dict[str, tuple[int, ...]] = {
            name: (rows, size)
            for name, rows, size in zip(
                self.embedding_names, symbols, self.embedding_sizes, strict=True
            )
        }
        size = inputs - len(self.embedding_sizes) + sum(self.embedding_sizes)
        for i, hidden in enumerate(self.sizes):
            for prefix in self._prefixes(i):
                cell_shapes = self.step_cell.shapes(size, hidden)
                for field, shape in zip(CellParameters._fields, cell_shapes, strict=True):
                    shapes[f"{prefix}.{field}"] = shape
                if self.initial_state == "learned":
                    shapes |= {f"{prefix}.{name}": (hidden,) for name in self._state_names}
            size = self.output_size(i)
        if self.head == "linear":
            shapes |= {"head.W_y": (size, outputs), "head.b_y": (outputs,)}
        elif outputs != size:
            raise ConfigurationError(
                f"without a head the outputs are the {size} of the last layer, not {outputs}"
            )
        return shapes

    @property
    def embedding_names(self) -> tuple[str, ...]:
        """The names of the embeddings among the parameters."""
        return tuple(f"embedding.{i}.E" for i in range(len(self.embedding_sizes)))

    @property
    def _state_names(self) -> tuple[str, ...]:
        return ("h_0", "c_0")[: self.step_cell.states]

    def _prefixes(self, i: int) -> tuple[str, ...]:
        return (f"layers.{i}", f"layers.{i}.reverse")[: self.directions]

    def initialize(
        self,
        inputs: int,
        outputs: int,
        seed: int | Sequence[int],
        dtype: DTypeLike = np.float32,
        symbols: Sequence[int] = (),
    ) -> dict[str, Array]:
        """Return parameters to start training from.

        W_x and W_y are uniform (Glorot and Bengio 2010), each gate of W_h is orthogonal (Saxe
        2013), biases are zero, except that of the forget gate, which is 1 (Gers 2000), and those
        set by `remember`. The vectors of symbols are normal; that of the unknown symbol is zero.

        Args:
            inputs: The size of x.
            outputs: The size of y.
            seed: The same seed gives the same parameters.
            dtype: float32 or float64.
            symbols: The number of symbols in each vocabulary, with the unknown one.
        """
        values = initial_values(
            self.shapes(inputs, outputs, symbols),
            self.step_cell,
            np.random.default_rng(seed),
            remember=self.remember,
            embedding_deviation=self.embedding_deviation,
        )
        return {name: value.astype(dtype) for name, value in values.items()}

    def layer(self, parameters: Parameters, i: int) -> tuple[CellParameters, ...]:
        """Return the parameters of layer i, one set for each direction."""
        return tuple(
            CellParameters(*(parameters[f"{prefix}.{f}"] for f in CellParameters._fields))
            for prefix in self._prefixes(i)
        )

    def before_first_step(self, parameters: Parameters, i: int, batch: int) -> tuple[Array, ...]:
        """Return the state of layer i before a sequence: forward direction, then reverse."""
        dtype = parameters["layers.0.W_x"].dtype
        if self.initial_state == "zero":
            return self.step_cell.initial_state(batch, self.sizes[i], dtype) * self.directions
        names = [f"{prefix}.{name}" for prefix in self._prefixes(i) for name in self._state_names]
        return tuple(np.tile(parameters[name], (batch, 1)) for name in names)

    def initial_gradient(self, i: int, d_state: Sequence[Array]) -> dict[str, Array]:
        """Return the gradient of `before_first_step`, by name; empty if it is not learned."""
        if self.initial_state == "zero":
            return {}
        names = [f"{prefix}.{name}" for prefix in self._prefixes(i) for name in self._state_names]
        return {name: d.sum(0) for name, d in zip(names, d_state, strict=True)}

    def named(self, i: int, gradients: Sequence[CellParameters]) -> dict[str, Array]:
        """Return the parameters or gradients of layer i by name: the inverse of `layer`."""
        return {
            f"{prefix}.{field}": value
            for prefix, gradient in zip(self._prefixes(i), gradients, strict=True)
            for field, value in gradient._asdict().items()
        }

    def inputs_and_outputs(self, parameters: Parameters) -> tuple[int, int]:
        """Return the sizes of x and y that parameters are for.

        Raises:
            ConfigurationError: The parameters are not those of this network.
        """
        try:
            symbols = [parameters[name].shape[0] for name in self.embedding_names]
            inputs = parameters["layers.0.W_x"].shape[0]
            inputs += len(symbols) - sum(self.embedding_sizes)
            last = self.output_size(self.layers - 1)
            outputs = parameters["head.b_y"].shape[0] if self.head == "linear" else last
        except (KeyError, IndexError) as error:
            raise ConfigurationError(
                f"parameters of {self} must name layers.0.W_x and head.b_y, got "
                f"{sorted(parameters)}"
            ) from error
        each = self.horizons * len(self.parts)
        if outputs % each:
            raise ConfigurationError(
                f"each target has {each} outputs ({self.horizons} horizons of "
                f"{[part.name for part in self.parts]}), got {outputs}"
            )
        numbers = inputs - len(symbols)
        if self.residual and outputs // each > numbers:
            raise ConfigurationError(
                f"residual=True adds an input to each target, got {numbers} inputs for "
                f"{outputs // each} targets"
            )
        expected = self.shapes(inputs, outputs, symbols)
        actual = {name: value.shape for name, value in parameters.items()}
        if actual != expected:
            wrong = {
                name: (actual.get(name), expected.get(name))
                for name in actual.keys() | expected.keys()
                if actual.get(name) != expected.get(name)
            }
            raise ConfigurationError(f"parameters do not fit {self}: (got, needed) shapes {wrong}")
        return inputs, outputs

    def read_out(
        self,
        parameters: Parameters,
        h: Array,
        x: Array,
        linear: Callable[[Array, Array, Array], Array] = linear,
    ) -> Array:
        """Return the raw outputs z = W_y h + b_y, plus the last values of x if residual.

        Args:
            parameters: The parameters.
            h: (batch, hidden), the output of the last layer.
            x: (batch, inputs), the input of the same step.
            linear: Computes h W_y + b_y.
        """
        z = h
        if self.head == "linear":
            z = linear(h, parameters["head.W_y"], parameters["head.b_y"])
        return z + self.last_values(x, z.shape[1]) if self.residual else z

    def last_values(self, x: Array, outputs: int) -> Array:
        """Return the last value of each target for each of its outputs; 0 if not centered."""
        each = len(self.parts)
        values = x[:, : outputs // (self.horizons * each)]
        if each > 1:
            values = np.repeat(values, each, 1)
            for i, part in enumerate(self.parts):
                if not part.centered:
                    values[:, i::each] = 0
        return np.concatenate([values] * self.horizons, 1) if self.horizons > 1 else values

    def output_of(self, z: Array) -> Array:
        """Return the outputs y = g(z), for z of shape (..., outputs)."""
        output = self.distribution
        if output.is_linear:
            return z
        one = z.shape[-1] // self.horizons  # softmax is over one horizon
        groups = z.reshape(*z.shape[:-1], self.horizons, one)
        return output.forward(groups).reshape(z.shape)

    def to_json(self) -> dict[str, Any]:
        """Return the network as JSON values; `Network(**values)` is its inverse.

        Settings at their default are left out, so that the digest of a model stays the same when
        a later version adds settings. The cell and its sizes are always included.
        """
        values: dict[str, Any] = {"cell": self.cell, "hidden": self.hidden}
        if isinstance(self.hidden, tuple):
            return values | {"hidden": list(self.hidden)} | self._beyond_default("layers")
        return values | self._beyond_default()

    def _beyond_default(self, *without: str) -> dict[str, Any]:
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if field.name not in ("cell", "hidden", *without)
            and (value := getattr(self, field.name)) != field.default
            and (field.name, value) != ("residual", False)  # as in files without it
        }


def _is_list(value: object) -> TypeGuard[Sequence[int]]:
    return isinstance(value, Sequence) and not isinstance(value, str)
