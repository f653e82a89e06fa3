"""The vanishing gradient, measured: how far back in time a gradient reaches.

An error at step t changes the parameters by way of the states before it. How much of it is left
k steps back is the norm of dh_t / ds_{t-k}, where s is the state: h, and c for the LSTM, of all
layers. In an Elman network it shrinks by about the same factor with each step (Hochreiter 1991,
Bengio 1994); a gate that stays open keeps it. Truncation beyond the point where nothing is left
loses nothing: choose that k for `Bptt(steps=k)`.
"""

import os
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.atomic_files import replacing
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.sequences import Sequence
from beam_rnn.models.model import Model
from beam_rnn.nn.backprop import forward, initial_states
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.cells import State
from beam_rnn.nn.layers import LayerTrace
from beam_rnn.nn.network import Network
from beam_rnn.nn.products import matmul
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.settings import Training

REACHED = 0.01
"""The share of a gradient below which it counts as vanished."""


class GradientHorizon(NamedTuple):
    """The norm of a gradient k steps back.

    Attributes:
        norms: (steps + 1,), the root mean square over the sampled places of the Frobenius norm
            of dh_t / ds_{t-k}, for k = 0, 1, ...; divided by that of the identity, so that the
            first is 1.
        recommended_steps: The first k with a norm below `REACHED`; `steps` if there is none.
    """

    norms: Array
    recommended_steps: int


def gradient_horizon(
    model: Model, x: ArrayLike, steps: int = 64, places: int = 32
) -> GradientHorizon:
    """Return how far back in time the gradients of a model reach, on given sequences.

        >>> network = Network("rnn", hidden=8, activation="sigmoid")
        >>> model = Model(network, network.initialize(inputs=1, outputs=1, seed=0))
        >>> gradient_horizon(model, np.zeros((1, 50, 1)), steps=20).recommended_steps
        4

    Args:
        model: The model; one direction.
        x: (batch, time, inputs), scaled; all of full length.
        steps: The number of steps to look back.
        places: The number of places (sequence and step t), evenly spread, at which it is measured.

    Raises:
        ConfigurationError: The network is bidirectional, or the sequences are not longer than
            `steps`.
    """
    network = model.network
    if network.bidirectional or not network.carry:
        raise ConfigurationError(
            "a gradient horizon needs a network of one direction that carries its state, got "
            f"bidirectional={network.bidirectional}, carry={network.carry}"
        )
    x = np.asarray(x, model.dtype)
    if x.ndim != 3 or x.shape[1] <= steps or steps < 1:
        raise ConfigurationError(
            f"x must be (batch, time, inputs) with more than steps={steps} steps, got {x.shape}"
        )
    batch, time, _ = x.shape
    states = initial_states(network, model.parameters, batch)
    lengths = np.full(batch, time)
    _, _, trace = forward(network, model.parameters, x.swapaxes(0, 1), states, lengths)
    traces = [layer for (layer,) in trace.layers]
    last = [(row, t) for row in range(batch) for t in range(steps, time)]
    chosen = np.unique(np.linspace(0, len(last) - 1, min(places, len(last))).astype(int))
    places_chosen = [last[i] for i in chosen]
    squares = np.mean([_squares(model, traces, row, t, steps) for row, t in places_chosen], axis=0)
    norms = np.sqrt(squares / network.sizes[-1])
    gone = np.flatnonzero(norms < REACHED)
    return GradientHorizon(norms, int(gone[0]) if len(gone) else steps)


def _squares(
    model: Model, traces: SequenceOf[LayerTrace], row: int, t: int, steps: int
) -> list[float]:
    """Return the squared norm of dh_t / ds_{t-k} for k = 0, ..., steps, at one place.

    Each row of a gradient here is that of one number of h_t.
    """
    network = model.network
    cell, m = network.step_cell, network.sizes[-1]
    d_state: list[State] = [cell.initial_state(m, hidden, model.dtype) for hidden in network.sizes]
    d_state[-1][0][:] = np.eye(m)
    squares = [float(m)]
    for now in range(t, t - steps, -1):
        for i in reversed(range(network.layers)):
            (p,) = network.layer(model.parameters, i)
            cache = tuple(
                np.broadcast_to(value[row], (m, value.shape[1])) for value in traces[i].caches[now]
            )
            step = cell.backward(p, cache, d_state[i])
            d_state[i] = tuple(np.array(d) for d in step.state)
            if i > 0:  # the input of this layer is the h of the one below, at the same step
                d_state[i - 1][0][:] += matmul(step.a, p.W_x.T)
        squares.append(sum(float((d.astype(float) ** 2).sum()) for s in d_state for d in s))
    return squares


def loss_by_steps(
    network: Network,
    sequences: Iterable[Sequence],
    training: Training,
    steps: Iterable[int] = (1, 2, 4, 8, 16, 32, 64),
) -> dict[int, float]:
    """Return the last training loss for each k: the same training with `Bptt(steps=k)`.

    Args:
        network: The network to train.
        sequences: The training data.
        training: How to train; its `bptt` is replaced.
        steps: The k to try.
    """
    held = list(sequences)
    return {
        k: fit_sequences(network, held, replace(training, bptt=Bptt(steps=k))).training[
            "loss_curve"
        ][-1]
        for k in steps
    }


def plot_horizon(horizons: Mapping[str, GradientHorizon], path: str | os.PathLike[str]) -> None:
    """Draw gradient horizons in one picture; needs the extra `plot`.

    Args:
        horizons: The gradient horizons by name.
        path: The file, .png or .svg.
    """
    import matplotlib as mpl  # noqa: PLC0415  # of the extra `plot`

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axis = plt.subplots(figsize=(7, 4))
    for name, horizon in horizons.items():
        (line,) = axis.semilogy(horizon.norms, label=f"{name}: k = {horizon.recommended_steps}")
        axis.axvline(horizon.recommended_steps, color=line.get_color(), lw=0.8, ls=":")
    axis.axhline(REACHED, color="0.6", lw=0.8)
    axis.set(xlabel="k, steps back", ylabel="norm of dh(t) / ds(t - k)")
    top = max(float(horizon.norms.max()) for horizon in horizons.values())
    axis.set_ylim(REACHED**3, 2 * top)
    axis.legend(framealpha=1, edgecolor="none", loc="upper right")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format=Path(path).suffix.removeprefix(".") or None)
    plt.close(figure)
