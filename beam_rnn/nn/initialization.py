"""The values of parameters before training."""

from collections.abc import Mapping

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.data.vocabulary import UNKNOWN
from beam_rnn.nn.cells import Cell


def initial_values(
    shapes: Mapping[str, tuple[int, ...]],
    cell: Cell,
    random: np.random.Generator,
    *,
    remember: int | None,
    embedding_deviation: float,
) -> dict[str, Array]:
    """Return values to start training from: see `Network.initialize`.

    Args:
        shapes: The shape of each parameter, by name.
        cell: The cell.
        random: The source of random numbers.
        remember: See `Network`.
        embedding_deviation: See `Network`.
    """
    values: dict[str, Array] = {}
    for name, shape in shapes.items():
        field = name.rsplit(".", 1)[1]
        if field == "E":
            value = embedding_deviation * random.standard_normal(shape)
            value[UNKNOWN] = 0
        elif field in ("W_x", "W_y"):
            gates = cell.gates if field == "W_x" else 1
            bound = np.sqrt(6 / (shape[0] + shape[1] / gates))
            value = random.uniform(-bound, bound, shape)
        elif field == "W_h":
            normal = random.standard_normal((cell.gates, shape[0], shape[0]))
            value = np.concatenate([np.linalg.qr(gate)[0] for gate in normal], 1)
        else:
            value = np.zeros(shape)
            if field == "b_x":
                _set_gate_biases(value, cell, remember, random)
        values[name] = value
    return values


def _set_gate_biases(
    b_x: Array, cell: Cell, remember: int | None, random: np.random.Generator
) -> None:
    """Set the bias of the gate that keeps the state, in place.

    A gate of u / (1 + u) keeps a state for about 1 + u steps; its bias is log u.
    """
    if cell.keep_gate is None:
        return
    gates = b_x.reshape(cell.gates, -1)  # a view
    if remember is None:
        gates[cell.keep_gate] = cell.keep_bias
        return
    gates[cell.keep_gate] = np.log(random.uniform(1, remember - 1, gates.shape[1]))
    if cell.add_gate is not None:  # the more is kept, the less is added
        gates[cell.add_gate] = -gates[cell.keep_gate]


def is_initial_state(name: str) -> bool:
    """Return True if a parameter of that name is a learned initial state."""
    return name.endswith((".h_0", ".c_0"))
