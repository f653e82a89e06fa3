"""What is trained: the cell, its sizes, the layers and the head.

A `Network` holds no numbers. Its parameters are a dict from name to array, in the order of
`Network.shapes`: `layers.0.W_x`, `layers.0.W_h`, `layers.0.b_x`, `layers.0.b_h`, the same
for each further layer, then `head.W_y` and `head.b_y`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.cells import CELLS, ELMAN, Array, Cell, CellParameters, product
from beam_rnn.errors import ConfigurationError

Parameters = Mapping[str, Array]
"""The parameters of a network by name."""


@dataclass(frozen=True)
class Network:
    """A stack of recurrent layers and a linear head on every step.

    h_t = cell(h_{t-1}, x_t) for each layer, the h of one being the x of the next, and
    y_t = W_y h_t + b_y.

        >>> Network("lstm", hidden=8, layers=2).shapes(inputs=3, outputs=1)["layers.1.W_x"]
        (8, 32)

    Args:
        cell: "rnn" (Elman), "gru" or "lstm".
        hidden: The size m of the hidden state of every layer.
        layers: How many layers are stacked.
        activation: The activation of the Elman cell: "sigmoid", "tanh" or "relu".
        residual: The head gives the change from the last value: y_t = x_t + W_y h_t + b_y,
            with as many of the first inputs as there are outputs. A forecast then follows
            a level that training never saw.

    Raises:
        ConfigurationError: A cell or activation that does not exist, a size below 1.
    """

    cell: str = "gru"
    hidden: int = 32
    layers: int = 1
    activation: str = "tanh"
    residual: bool = False

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ConfigurationError(f"cell must be one of {', '.join(CELLS)}, got {self.cell!r}")
        if self.activation not in ELMAN:
            raise ConfigurationError(
                f"activation must be one of {', '.join(ELMAN)}, got {self.activation!r}"
            )
        if self.activation != "tanh" and self.cell != "rnn":
            raise ConfigurationError(
                f"activation={self.activation!r} is for cell='rnn' alone: the gates of "
                f"cell={self.cell!r} have their own"
            )
        for name in ("hidden", "layers"):
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ConfigurationError(
                    f"{name} must be a whole number of at least 1, got {size!r}"
                )
        if not isinstance(self.residual, bool):
            raise ConfigurationError(f"residual must be True or False, got {self.residual!r}")

    @property
    def step_cell(self) -> Cell:
        """The pure functions of the cell."""
        return ELMAN[self.activation] if self.cell == "rnn" else CELLS[self.cell]

    @property
    def state_size(self) -> int:
        """How many numbers one key's hidden state has: h, and c for the LSTM, of all layers."""
        return self.layers * self.step_cell.states * self.hidden

    def shapes(self, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, in the order in which they are stored."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i in range(self.layers):
            cell_shapes = self.step_cell.shapes(inputs if i == 0 else self.hidden, self.hidden)
            for field, shape in zip(CellParameters._fields, cell_shapes, strict=True):
                shapes[f"layers.{i}.{field}"] = shape
        shapes["head.W_y"] = (self.hidden, outputs)
        shapes["head.b_y"] = (outputs,)
        return shapes

    def initialize(
        self, inputs: int, outputs: int, seed: int, dtype: DTypeLike = np.float32
    ) -> dict[str, Array]:
        """Parameters to start training from.

        W_x and W_y uniform after Glorot and Bengio (2010), each gate of W_h orthogonal
        (Saxe 2013), biases zero but the forget gate's, which is 1 (Gers 2000).

        Args:
            inputs: The size of x.
            outputs: The size of y.
            seed: The same seed gives the same parameters.
            dtype: float32 or float64.
        """
        random = np.random.default_rng(seed)
        parameters: dict[str, Array] = {}
        for name, shape in self.shapes(inputs, outputs).items():
            field = name.rsplit(".", 1)[1]
            if field in ("W_x", "W_y"):
                gates = self.step_cell.gates if field == "W_x" else 1
                bound = np.sqrt(6 / (shape[0] + shape[1] / gates))
                value = random.uniform(-bound, bound, shape)
            elif field == "W_h":
                gaussian = random.standard_normal((self.step_cell.gates, shape[0], shape[0]))
                value = np.concatenate([np.linalg.qr(gate)[0] for gate in gaussian], 1)
            else:
                value = np.zeros(shape)
                if self.cell == "lstm" and field == "b_x":
                    value[self.hidden : 2 * self.hidden] = 1
            parameters[name] = value.astype(dtype)
        return parameters

    def layer(self, parameters: Parameters, i: int) -> CellParameters:
        """The parameters of layer i."""
        return CellParameters(*(parameters[f"layers.{i}.{f}"] for f in CellParameters._fields))

    def sizes(self, parameters: Parameters) -> tuple[int, int]:
        """The sizes of x and y that parameters are for.

        Raises:
            ConfigurationError: The parameters are not those of this network.
        """
        try:
            inputs = parameters["layers.0.W_x"].shape[0]
            outputs = parameters["head.b_y"].shape[0]
        except (KeyError, IndexError) as error:
            raise ConfigurationError(
                f"parameters of {self} must name layers.0.W_x and head.b_y, got "
                f"{sorted(parameters)}"
            ) from error
        if self.residual and outputs > inputs:
            raise ConfigurationError(
                f"residual=True adds an input to each output, got {inputs} inputs for "
                f"{outputs} outputs"
            )
        expected = self.shapes(inputs, outputs)
        actual = {name: value.shape for name, value in parameters.items()}
        if actual != expected:
            wrong = {
                name: (actual.get(name), expected.get(name))
                for name in actual.keys() | expected.keys()
                if actual.get(name) != expected.get(name)
            }
            raise ConfigurationError(f"parameters do not fit {self}: (got, needed) shapes {wrong}")
        return inputs, outputs

    def head(self, parameters: Parameters, h: Array, x: Array) -> Array:
        """Y = W_y h + b_y, and x on top if residual; h (batch, hidden), x (batch, inputs)."""
        y = product(h, parameters["head.W_y"]) + parameters["head.b_y"]
        return y + x[:, : y.shape[1]] if self.residual else y

    def to_json(self) -> dict[str, Any]:
        """The network as JSON values; `Network(**values)` is its inverse."""
        return asdict(self)
