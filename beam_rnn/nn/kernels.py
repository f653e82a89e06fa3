"""The kernels that compute the layers of a network: numpy, or fused loops compiled by numba.

The kernel is chosen once, by an option or by what is installed, and stored next to the digest of
the model: the two kernels agree to 4e-7, not to the bit.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_choice
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.nn.cells import FUSED_CELLS, Cell, CellParameters, State, linear, project
from beam_rnn.nn.layers import LayerTrace, layer_backward, layer_forward
from beam_rnn.nn.network import Network, Parameters

KERNELS = ("auto", "numpy", "fused")
"""The names of the kernels; "auto" is "fused" if it is available, else "numpy"."""

Advance = Callable[[Array, Array, Array, bool], tuple[Array, Array]]
"""All steps of packed sequences.

Packed: the rows of all first steps, then the rows of all second steps, and so on, longest sequence
first.

Args:
    state: (batch, state_size), the state before the first step.
    x: (rows, inputs).
    running: (steps,), the number of sequences that run at each step; decreasing.
    every: Return the state after each step; if False, only after the last step of each sequence.

Returns:
    z (rows, outputs), and the states: (rows, state_size), or (batch, state_size).
"""


class Kernel(NamedTuple):
    """A kernel.

    Attributes:
        name: "numpy" or "fused".
        linear: (x, weights, bias) -> x W + b, where a row has the same bits in every batch.
        layer_forward: As `beam_rnn.nn.layers.layer_forward`.
        layer_backward: As `beam_rnn.nn.layers.layer_backward`.
        advance: (network, parameters) -> `Advance`, for a network of one direction.
    """

    name: str
    linear: Callable[[Array, Array, Array], Array]
    layer_forward: Callable[..., tuple[Array, State, LayerTrace]]
    layer_backward: Callable[
        [Cell, CellParameters, LayerTrace, Array, State, Array],
        tuple[CellParameters, Array, State],
    ]
    advance: Callable[[Network, Parameters], Advance]


def advance(network: Network, parameters: Parameters) -> Advance:
    """Return a function that runs packed sequences step by step."""
    cell = network.step_cell
    layers = [network.layer(parameters, i)[0] for i in range(network.layers)]
    places = network.state_places

    def run(state: Array, x: Array, running: Array, every: bool) -> tuple[Array, Array]:
        outputs, states = [], []
        last = state.copy()
        start = 0
        for n in running:
            h = first = x[start : start + n]
            parts: list[Array] = []
            for p, layer_places in zip(layers, places, strict=True):
                before = tuple(state[:n, place] for place in layer_places)
                following, _ = cell.forward(p, before, project(p, h))
                h = following[0]
                parts.extend(following)
            state = np.concatenate(parts, 1)
            if every:
                states.append(state)
            last[:n] = state
            outputs.append(network.read_out(parameters, h, first))
            start += n
        z = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
        return z, np.concatenate(states) if every else last

    return run


NUMPY = Kernel("numpy", linear, layer_forward, layer_backward, advance)


@functools.cache
def fused_is_installed() -> bool:
    """Return True if numba is installed."""
    return importlib.util.find_spec("numba") is not None


def kernel_name(network: Network, dtype: DTypeLike, name: str = "auto") -> str:
    """Return the name of the kernel that computes a network: "numpy" or "fused".

        >>> kernel_name(Network("gru"), np.float64)
        'numpy'

    Args:
        network: The network.
        dtype: The type of its parameters.
        name: See `KERNELS`.

    Raises:
        ConfigurationError: The fused kernel is requested, but cannot compute the network here.
    """
    check_choice("kernel", name, KERNELS)
    problem = ""
    if not fused_is_installed():
        problem = "numba, of the extra 'fast', which is not installed: pip install 'beam-rnn[fast]'"
    elif np.dtype(dtype) != np.float32:
        problem = f"float32 parameters, got {np.dtype(dtype)}"
    elif network.step_cell not in FUSED_CELLS:
        problem = f"one of the cells that it has, got cell={network.cell!r}"
    if name == "fused" and problem:
        raise ConfigurationError(f"kernel='fused' needs {problem}; or say kernel='numpy'")
    return "numpy" if name == "numpy" or problem else "fused"


@functools.cache
def kernel_of(name: str) -> Kernel:
    """Return the kernel "numpy" or "fused"; numba is imported by the first call that needs it."""
    if name == "numpy":
        return NUMPY
    from beam_rnn.nn.fused import layers  # noqa: PLC0415  # an extra; takes half a second

    return Kernel(
        "fused", layers.linear, layers.layer_forward, layers.layer_backward, layers.advance
    )
