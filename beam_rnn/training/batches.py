"""What learning from a batch needs, whatever it is a batch of."""

from collections.abc import Sequence

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.nn.dropout import LayerMask, draw, draw_symbols, without_symbols
from beam_rnn.nn.kernels import Kernel, kernel_name, kernel_of
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.training.example_store import Examples
from beam_rnn.training.settings import Training

DTYPE = np.dtype(np.float32)
"""The type of every number in training."""


def kernel_for(network: Network, training: Training) -> Kernel:
    """Return the kernel that trains a network on this machine."""
    return kernel_of(kernel_name(network, DTYPE, training.kernel))


def draw_masks(
    network: Network,
    parameters: Parameters,
    batch: int,
    training: Training,
    random: np.random.Generator,
) -> list[LayerMask]:
    """Draw the dropout masks of a batch."""
    inputs = len(parameters["layers.0.W_x"])
    return draw(training.dropout, network, inputs, batch, random, DTYPE)


def draw_dropped_symbols(
    network: Network,
    parameters: Parameters,
    batch: int,
    training: Training,
    random: np.random.Generator,
) -> list[Array]:
    """Draw which symbols each sequence of a batch does without; after its masks."""
    if not training.dropout.symbols:
        return []
    sizes = [len(parameters[name]) for name in network.embedding_names]
    return draw_symbols(training.dropout.symbols, sizes, batch, random)


def drop_symbols(x: Array, dropped: list[Array]) -> Array:
    """Return inputs (time, batch, inputs) without the symbols that were drawn."""
    return without_symbols(x, dropped) if dropped else x


def place_in(examples: Examples, rows: Sequence[int]) -> str:
    """Return the end of an error message: the keys of a batch."""
    keys = ", ".join(repr(examples.key(i)) for i in rows[:3])
    return f" in a batch of keys {keys}" + (" and others" if len(rows) > 3 else "")
