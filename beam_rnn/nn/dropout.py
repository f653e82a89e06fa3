"""Dropout with one mask per sequence (Gal and Ghahramani 2016).

A unit is dropped at every step of a sequence or at none, also across the windows of truncated
BPTT. The other units are scaled by 1 / (1 - p), so that prediction needs no change.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_number
from beam_rnn.data.vocabulary import UNKNOWN
from beam_rnn.nn.cells import Cache, Cell, CellParameters, State, StepGradient
from beam_rnn.nn.network import Network


@dataclass(frozen=True)
class Dropout:
    """The probabilities with which units are dropped in training.

    Args:
        inputs: For each input of the first layer.
        layers: For each input of the other layers: the outputs of the layer before.
        recurrent: For each unit of h that a cell takes from the step before.
        symbols: For each symbol of a vocabulary, at all its places in a sequence: it is replaced
            by the unknown symbol, whose vector is learned in this way. In pairs, only in sources.

    Raises:
        ConfigurationError: A probability outside [0, 1).
    """

    inputs: float = 0.0
    layers: float = 0.0
    recurrent: float = 0.0
    symbols: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(field.name, getattr(self, field.name), below=1)


class LayerMask(NamedTuple):
    """The dropout mask of one layer for each sequence; None for no dropout.

    Attributes:
        inputs: (batch, inputs), 0 where an input is dropped and 1 / (1 - p) elsewhere.
        recurrent: The same for h, (batch, hidden), for each direction.
    """

    inputs: Array | None
    recurrent: tuple[Array | None, ...]

    def rows(self, n: int) -> "LayerMask":
        """Return the mask of the first n sequences."""
        return LayerMask(
            None if self.inputs is None else self.inputs[:n],
            tuple(None if mask is None else mask[:n] for mask in self.recurrent),
        )

    def repeated(self, steps: int) -> "LayerMask":
        """Return the mask with each step as a separate sequence: (steps * batch, ...)."""
        return LayerMask(
            None if self.inputs is None else np.tile(self.inputs, (steps, 1)),
            tuple(None if m is None else np.tile(m, (steps, 1)) for m in self.recurrent),
        )


def nothing_left_out(network: Network) -> list[LayerMask]:
    """Return masks that drop nothing, one per layer."""
    return [LayerMask(None, (None,) * network.directions)] * network.layers


def draw(
    dropout: Dropout,
    network: Network,
    inputs: int,
    batch: int,
    random: np.random.Generator,
    dtype: DTypeLike,
) -> list[LayerMask]:
    """Draw the masks of a batch, one per layer.

    Args:
        dropout: The probabilities.
        network: The network.
        inputs: The number of inputs of the first layer: x with the vectors of symbols.
        batch: The number of sequences.
        random: The source of random numbers.
        dtype: The type of the parameters.
    """

    def mask(p: float, size: int) -> Array | None:
        if p == 0:
            return None
        return ((random.random((batch, size)) >= p) / (1 - p)).astype(dtype)

    masks = []
    size, p = inputs, dropout.inputs
    for i, hidden in enumerate(network.sizes):
        of_inputs = mask(p, size)
        of_states = tuple(mask(dropout.recurrent, hidden) for _ in range(network.directions))
        masks.append(LayerMask(of_inputs, of_states))
        size, p = network.output_size(i), dropout.layers
    return masks


def draw_symbols(
    p: float, sizes: Sequence[int], batch: int, random: np.random.Generator
) -> list[Array]:
    """Draw the dropped symbols of each sequence: (batch, symbols) for each field.

    Args:
        p: The probability.
        sizes: The number of symbols in each vocabulary, with the unknown one.
        batch: The number of sequences.
        random: The source of random numbers.
    """
    return [random.random((batch, size), np.float32) < p for size in sizes]


def without_symbols(x: Array, left_out: Sequence[Array]) -> Array:
    """Return x with the index of each dropped symbol replaced by that of the unknown symbol.

        >>> x = np.array([[[0.5, 1]], [[0.5, 2]]])
        >>> without_symbols(x, [np.array([[False, False, True]])])[:, 0]
        array([[0.5, 1. ],
               [0.5, 0. ]])

    Args:
        x: (time, batch, inputs): numbers, followed by an index for each field of symbols.
        left_out: From `draw_symbols`, for at least these sequences, in the same order.
    """
    x = x.copy()
    sequences = np.arange(x.shape[1])
    for at, gone in enumerate(left_out, x.shape[2] - len(left_out)):
        index = x[..., at].astype(np.intp)
        x[..., at] = np.where(gone[sequences, index], UNKNOWN, index)
    return x


def drop_state(cell: Cell, mask: Array | None) -> Cell:
    """Return a cell without the units of h that the mask drops in each sequence.

    W_h is scaled by 1 / (1 - p), and not the state: a gate that keeps h would otherwise make it
    grow with every step.

    Args:
        cell: The cell.
        mask: (batch, hidden), one row per sequence; None to return the cell unchanged.
    """
    if mask is None:
        return cell
    scale = mask.max(initial=1)
    kept = mask > 0

    def scaled(p: CellParameters) -> CellParameters:
        return p._replace(W_h=p.W_h * scale)

    def forward(p: CellParameters, state: State, a: Array) -> tuple[State, Cache]:
        h, *rest = state
        return cell.forward(scaled(p), (h * kept[: len(h)], *rest), a)

    def backward(p: CellParameters, cache: Cache, d_state: State) -> StepGradient:
        step = cell.backward(scaled(p), cache, d_state)
        d_h, *rest = step.state
        return step._replace(state=(d_h * kept[: len(d_h)], *rest), W_h=step.W_h * scale)

    return Cell(cell.gates, cell.states, forward, backward)
