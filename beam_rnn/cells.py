"""The recurrent cells, and what a cell of your own is built from; add it to `CELLS`."""

from beam_rnn.nn.cells import (
    CELLS,
    Cell,
    CellParameters,
    StepGradient,
    linear,
    project,
    relu,
    sigmoid,
)
from beam_rnn.nn.products import product

__all__ = [
    "CELLS",
    "Cell",
    "CellParameters",
    "StepGradient",
    "linear",
    "product",
    "project",
    "relu",
    "sigmoid",
]
