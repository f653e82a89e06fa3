"""What is trained: the cell, its sizes, the layers, their directions, the head and its outputs.

A `Network` holds no numbers. Its parameters are a dict from name to array, in the order of
`Network.shapes`: `embedding.0.E` and the like where there are symbols, `layers.0.W_x`,
`layers.0.W_h`, `layers.0.b_x`, `layers.0.b_h`, in a bidirectional network the same of
`layers.0.reverse`, then the further layers, `head.W_y` and `head.b_y`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_choice, check_number, check_true_or_false, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.vocabulary import UNKNOWN
from beam_rnn.nn.cells import CELLS, ELMAN, GRU_RESET_BEFORE, Cell, CellParameters, linear
from beam_rnn.nn.output_functions import OUTPUTS

Parameters = Mapping[str, Array]
"""The parameters of a network by name."""

INITIAL_STATES = ("zero", "learned")
"""The state before a sequence: h_0 = 0, or parameters h_0 (and c_0) of each layer, which start
at 0 and are learned."""

HEADS = ("linear", "none")
"""What stands on the last layer: z = W_y h + b_y, or nothing, so that z is its output."""

OUTPUT_STEPS = ("every", "last")
"""Where the head stands: on every step, or on each sequence's last one, where it sees the last
state of each direction (many-to-one)."""

MERGES = ("concat", "sum", "mul", "ave")
"""How the two directions of a bidirectional layer become one output: side by side, added,
multiplied, or averaged."""

KEEPING = ("gru", "lstm")
"""The cells with a gate that keeps a state; it is the second one of both."""


@dataclass(frozen=True)
class Network:
    """A stack of recurrent layers and a head.

    h_t = cell(h_{t-1}, x_t) for each layer, the h of one being the x of the next, then
    z_t = W_y h_t + b_y and y_t = g(z_t).

        >>> Network("lstm", hidden=8, layers=2).shapes(inputs=3, outputs=1)["layers.1.W_x"]
        (8, 32)
        >>> Network("gru", hidden=(8, 4), bidirectional=True).state_size
        24
        >>> Network("gru", output="quantiles", quantiles=(0.1, 0.9)).parts
        ('q0.1', 'q0.9')

    Args:
        cell: "rnn" (Elman), "gru", "lstm", or another that was put into
            `beam_rnn.nn.cells.CELLS`.
        hidden: The size m of the hidden state of every layer, or one size for each.
        layers: How many layers are stacked; left out where `hidden` lists them.
        activation: The activation of the Elman cell: "sigmoid", "tanh" or "relu".
        residual: The head gives the change from the last value: z_t = x_t + W_y h_t + b_y,
            with as many of the first inputs as there are targets. A forecast then follows
            a level that training never saw. None: it does where `Train` finds that the first
            inputs are forecast, in their unit and step by step.
        reset_after: Whether the GRU's reset gate comes after the recurrent product, as in
            PyTorch, or before it, as in Cho 2014.
        bidirectional: Each layer runs over the sequence in both directions: for whole
            sequences, since the future is needed. Truncated BPTT lets the reverse direction
            see its window alone.
        merge: How the outputs of both directions become one: see `MERGES`.
        head: What stands on the last layer: see `HEADS`.
        initial_state: The state before a sequence: see `INITIAL_STATES`.
        output: The output function g: "identity", "sigmoid", "tanh", "relu", "softmax" (over
            the targets: classes), "quantiles" of each target, or "gaussian" (mean and standard
            deviation of each target).
        quantiles: The levels of output="quantiles", each between 0 and 1.
        output_steps: Where the head stands: see `OUTPUT_STEPS`.
        horizons: How many horizons the outputs hold, one after another; `Train` takes it from
            the columns.
        embedding: The size of the vector that stands for a symbol, or one for each field of
            `Columns(symbols=...)`; (), if there are none. It takes the place of the index in x.
        carry: Carry the hidden state from step to step. False for one-to-one: every step begins
            at the initial state, and sees its own record alone.
        remember: Before training gates keep a state for 1 to so many steps, for dependences that
            lie so far back (Tallec and Ollivier 2018); None for gates that keep it for about two.
        embedding_deviation: The standard deviation of the vectors of symbols before training. A
            small one, such as 0.1, where most symbols are rare, as words are: what is learned of
            one then soon outweighs what chance gave it.

    Raises:
        ConfigurationError: A name that does not exist, a size below 1, or settings that do not
            go together.
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
        choices_of = {
            "cell": CELLS,
            "activation": ELMAN,
            "merge": MERGES,
            "head": HEADS,
            "initial_state": INITIAL_STATES,
            "output": OUTPUTS,
            "output_steps": OUTPUT_STEPS,
        }
        for name, choices in choices_of.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("residual", "reset_after", "bidirectional", "carry"):
            if (name, getattr(self, name)) != ("residual", None):
                check_true_or_false(name, getattr(self, name))
        if isinstance(self.embedding, Sequence) and not isinstance(self.embedding, str):
            object.__setattr__(self, "embedding", tuple(self.embedding))
        else:
            object.__setattr__(self, "embedding", (self.embedding,))
        object.__setattr__(self, "quantiles", _levels(self.quantiles))
        self._check_combinations()
        self._check_sizes()

    def _check_combinations(self) -> None:
        if self.activation != "tanh" and self.cell != "rnn":
            raise ConfigurationError(
                f"activation={self.activation!r} is for cell='rnn' alone: the gates of "
                f"cell={self.cell!r} have their own"
            )
        if not self.reset_after and self.cell != "gru":
            raise ConfigurationError(
                f"reset_after=False is for cell='gru' alone, got cell={self.cell!r}"
            )
        if self.merge != "concat" and not self.bidirectional:
            raise ConfigurationError(f"merge={self.merge!r} needs bidirectional=True")
        if self.quantiles != Network.quantiles and self.output != "quantiles":
            raise ConfigurationError(f"quantiles={self.quantiles!r} needs output='quantiles'")
        if not self.carry and (self.bidirectional or self.output_steps == "last"):
            raise ConfigurationError(
                "carry=False lets every step see its own record alone: that does not go with "
                f"bidirectional={self.bidirectional} or output_steps={self.output_steps!r}"
            )
        check_number("embedding_deviation", self.embedding_deviation)
        if self.embedding_deviation != 1 and not self.embedding_sizes:
            raise ConfigurationError(
                f"embedding_deviation={self.embedding_deviation!r} is that of the vectors of "
                "symbols: it needs an embedding"
            )
        if self.remember is not None:
            check_whole("remember", self.remember, least=2)
            if self.cell not in KEEPING:
                raise ConfigurationError(
                    f"remember={self.remember} is for the gates of cell='gru' and 'lstm', got "
                    f"cell={self.cell!r}"
                )
        if self.residual and not OUTPUTS[self.output].scaled:
            raise ConfigurationError(
                f"residual=True adds the last value to a forecast, which output={self.output!r} "
                "is not"
            )

    def _check_sizes(self) -> None:
        if isinstance(self.hidden, Sequence) and not isinstance(self.hidden, str):
            object.__setattr__(self, "hidden", tuple(self.hidden))
            if self.layers not in (1, len(self._hidden_sizes())):
                raise ConfigurationError(
                    f"hidden={self.hidden} lists {len(self._hidden_sizes())} layers, got "
                    f"layers={self.layers!r}"
                )
            object.__setattr__(self, "layers", len(self._hidden_sizes()))
        sizes_of = {
            "layers": (self.layers,),
            "hidden": self._hidden_sizes(),
            "horizons": (self.horizons,),
            "embedding": self.embedding_sizes,
        }
        for name, sizes in sizes_of.items():
            for size in sizes:
                check_whole(name, size)

    def _hidden_sizes(self) -> tuple[int, ...]:
        return self.hidden if isinstance(self.hidden, tuple) else (self.hidden,)

    @property
    def embedding_sizes(self) -> tuple[int, ...]:
        """The size of the vector that stands for a symbol, for each field of symbols."""
        assert isinstance(self.embedding, tuple), "it was made one"
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
        """The pure functions of the cell."""
        if self.cell == "rnn":
            return ELMAN[self.activation]
        return CELLS[self.cell] if self.reset_after else GRU_RESET_BEFORE

    @property
    def state_size(self) -> int:
        """How many numbers the hidden state has: h, and c for the LSTM, of all layers."""
        return sum(self.sizes) * self.step_cell.states * self.directions

    @cached_property
    def state_places(self) -> tuple[tuple[slice, ...], ...]:
        """Where the arrays of each layer stand in a state (batch, state_size)."""
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
        return steps and self.head == "linear" and OUTPUTS[self.output].scaled

    @property
    def parts(self) -> tuple[str, ...]:
        """What the outputs hold for one target at one horizon, side by side."""
        if self.output == "quantiles":
            return tuple(f"q{level:g}" for level in self.quantiles)
        return OUTPUTS[self.output].parts

    def output_size(self, i: int) -> int:
        """The size of the output of layer i, its directions merged."""
        return self.sizes[i] * (self.directions if self.merge == "concat" else 1)

    def shapes(
        self, inputs: int, outputs: int, symbols: Sequence[int] = ()
    ) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, in the order in which they are stored.

        Args:
            inputs: The size of x, in which a symbol is one number: its index.
            outputs: The size of y.
            symbols: How many symbols there are in each vocabulary, with the unknown one.
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
        """Parameters to start training from.

        W_x and W_y uniform after Glorot and Bengio (2010), each gate of W_h orthogonal
        (Saxe 2013), biases zero but the forget gate's, which is 1 (Gers 2000), and those of
        gates that are to `remember`. The vectors of symbols are normal; that of the unknown
        symbol is zero.

        Args:
            inputs: The size of x.
            outputs: The size of y.
            seed: The same seed gives the same parameters.
            dtype: float32 or float64.
            symbols: How many symbols there are in each vocabulary, with the unknown one.
        """
        random = np.random.default_rng(seed)
        parameters: dict[str, Array] = {}
        for name, shape in self.shapes(inputs, outputs, symbols).items():
            field = name.rsplit(".", 1)[1]
            if field == "E":
                value = self.embedding_deviation * random.standard_normal(shape)
                value[UNKNOWN] = 0
            elif field in ("W_x", "W_y"):
                gates = self.step_cell.gates if field == "W_x" else 1
                bound = np.sqrt(6 / (shape[0] + shape[1] / gates))
                value = random.uniform(-bound, bound, shape)
            elif field == "W_h":
                gaussian = random.standard_normal((self.step_cell.gates, shape[0], shape[0]))
                value = np.concatenate([np.linalg.qr(gate)[0] for gate in gaussian], 1)
            else:
                value = np.zeros(shape)
                if field == "b_x":
                    self._set_gates(value, random)
            parameters[name] = value.astype(dtype)
        return parameters

    def _set_gates(self, b_x: Array, random: np.random.Generator) -> None:
        """The biases of the gates that keep a state: the update gate, or the forget gate.

        A gate of u / (1 + u) keeps a state for about 1 + u steps; its bias is log u.
        """
        if self.cell not in KEEPING:
            return
        hidden = len(b_x) // self.step_cell.gates
        keeps = b_x[hidden : 2 * hidden]
        if self.remember is not None:
            keeps[:] = np.log(random.uniform(1, self.remember - 1, hidden))
            if self.cell == "lstm":  # what is kept leaves as much less room for what is new
                b_x[:hidden] = -keeps
        elif self.cell == "lstm":
            keeps[:] = 1

    def layer(self, parameters: Parameters, i: int) -> tuple[CellParameters, ...]:
        """The parameters of layer i, one set for each direction."""
        return tuple(
            CellParameters(*(parameters[f"{prefix}.{f}"] for f in CellParameters._fields))
            for prefix in self._prefixes(i)
        )

    def before_first_step(self, parameters: Parameters, i: int, batch: int) -> tuple[Array, ...]:
        """The state of layer i before a sequence, of its forward direction, then its reverse."""
        dtype = parameters["layers.0.W_x"].dtype
        if self.initial_state == "zero":
            return self.step_cell.initial_state(batch, self.sizes[i], dtype) * self.directions
        names = [f"{prefix}.{name}" for prefix in self._prefixes(i) for name in self._state_names]
        return tuple(np.tile(parameters[name], (batch, 1)) for name in names)

    def initial_gradient(self, i: int, d_state: Sequence[Array]) -> dict[str, Array]:
        """The gradient of `before_first_step`, by name; empty if nothing is learned there."""
        if self.initial_state == "zero":
            return {}
        names = [f"{prefix}.{name}" for prefix in self._prefixes(i) for name in self._state_names]
        return {name: d.sum(0) for name, d in zip(names, d_state, strict=True)}

    def named(self, i: int, gradients: Sequence[CellParameters]) -> dict[str, Array]:
        """The inverse of `layer`: what belongs to layer i, by name."""
        return {
            f"{prefix}.{field}": value
            for prefix, gradient in zip(self._prefixes(i), gradients, strict=True)
            for field, value in gradient._asdict().items()
        }

    def inputs_and_outputs(self, parameters: Parameters) -> tuple[int, int]:
        """The sizes of x and y that parameters are for.

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
                f"each target has {each} outputs ({self.horizons} horizons of {self.parts}), got "
                f"{outputs}"
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
        """What the head gives: z = W_y h + b_y, and the last values x on top if residual.

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
        """The last value of each target at the place of each of its outputs; 0 for deviations."""
        each = len(self.parts)
        values = x[:, : outputs // (self.horizons * each)]
        if each > 1:
            values = np.repeat(values, each, 1)
            values[
                :, [i for i in range(values.shape[1]) if self.parts[i % each] == "deviation"]
            ] = 0
        return np.concatenate([values] * self.horizons, 1) if self.horizons > 1 else values

    def output_of(self, z: Array) -> Array:
        """The output function, y = g(z), for z of shape (..., outputs)."""
        if self.output == "identity":
            return z
        one = z.shape[-1] // self.horizons  # softmax is over one horizon
        groups = z.reshape(*z.shape[:-1], self.horizons, one)
        return OUTPUTS[self.output].forward(groups).reshape(z.shape)

    def to_json(self) -> dict[str, Any]:
        """The network as JSON values; `Network(**values)` is its inverse.

        What is at its default is left out, so that a later version with more settings gives
        the models of today the same digest. Cell and sizes are always there.
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


def _levels(quantiles: object) -> tuple[float, ...]:
    """The levels of quantiles, checked."""
    levels = tuple(quantiles) if isinstance(quantiles, (list, tuple)) else ()
    numbers = all(isinstance(level, (int, float)) and 0 < level < 1 for level in levels)
    if not levels or not numbers or sorted(set(levels)) != list(levels):
        raise ConfigurationError(
            f"quantiles must be rising numbers between 0 and 1, got {quantiles!r}"
        )
    return levels


def is_state(name: str) -> bool:
    """Whether a parameter of that name is a learned initial state."""
    return name.endswith((".h_0", ".c_0"))
