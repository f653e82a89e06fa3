"""The values in an ONNX graph: the output of the chain of layers, and values outside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.interop.layer_chain import in_order
from beam_rnn.nn.cells import CELLS, CellParameters

CELLS_OF_ONNX = {"RNN": "rnn", "GRU": "gru", "LSTM": "lstm"}
GATES_OF_ONNX = {"rnn": "h", "gru": "zrn", "lstm": "iofg"}

TIME, BATCH, FEATURES, DIRECTIONS, ONE = "time", "batch", "features", "directions", "1"
"""The axes of a signal."""

RECURRENT = {
    **dict.fromkeys(("activation_alpha", "activation_beta", "activations"), list),
    **dict.fromkeys(("hidden_size", "input_forget", "layout", "linear_before_reset"), int),
    "clip": float,
    "direction": str,
}
"""The attributes of recurrent nodes, and their types."""


class SideValue(Enum):
    """A value outside the chain, of which only the kind matters."""

    SIZES = "sizes"
    ZERO = "zeros"
    STATE = "states after the last step"


@dataclass(frozen=True)
class Signal:
    """The output of the chain of layers so far.

    Attributes:
        axes: The meaning of each axis.
        stage: The number of nodes that have changed the numbers so far.
        last: True if it holds only the last step.
    """

    axes: tuple[str, ...]
    stage: int = 0
    last: bool = False


Value = Signal | SideValue | Array
Values = Sequence[Value | None]
"""The inputs of a node; None for an omitted one."""


def padded(values: Values, count: int) -> Values:
    """Return this number of values; those omitted at the end are None."""
    return [values[i] if i < len(values) else None for i in range(count)]


def side_value(value: Value | None) -> SideValue | None:
    """Return the kind of a value outside the chain; None if it cannot be one."""
    if isinstance(value, Signal):
        return SideValue.STATE if value.last else None
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "i":
            return SideValue.SIZES
        return None if value.any() else SideValue.ZERO
    return value


def integers(value: object) -> list[int]:
    """Return constant axes, or a constant shape; empty if they are not constant."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "i":
        return [int(i) for i in value.reshape(-1)]
    return [i for i in value if isinstance(i, int)] if isinstance(value, list) else []


def direction(cell: str, W: Array, R: Array, B: Array) -> CellParameters:
    """Return the parameters of one direction of a layer, in our gate order."""
    values = (W.T, R.T, *np.split(B, 2))
    theirs, ours = GATES_OF_ONNX[cell], CELLS[cell].order
    return CellParameters(*(in_order(value, theirs, ours, -1) for value in values))
