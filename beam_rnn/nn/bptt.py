"""Truncated back-propagation through time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_whole
from beam_rnn.core.errors import ConfigurationError, DivergenceError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.sequences import Batch
from beam_rnn.nn.backprop import States, backward, first_rows, forward, initial_states
from beam_rnn.nn.dropout import LayerMask, nothing_left_out
from beam_rnn.nn.initialization import is_initial_state
from beam_rnn.nn.kernels import NUMPY, Kernel
from beam_rnn.nn.losses import Loss
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.nn.optimizers import Optimizer, OptimizerState, clipped


@dataclass(frozen=True)
class Bptt:
    """BPTT(k): back-propagation through the last k steps.

    A window of `steps` moves along the sequence by `stride`. For each window: a forward pass
    from the carried hidden state, the loss, the gradient back to the start of the window, and an
    update of the parameters. Then the hidden state is carried forward by `stride` steps.

    | | |
    |---|---|
    | the loop of textbooks | `Bptt(steps=k, stride=1, loss="last")` |
    | truncated BPTT as in frameworks | `Bptt(steps=k)`: stride k, loss on every step |
    | full BPTT | `Bptt()`, or k at least the length of the sequence |

    With loss="last" only the last step of the window has a loss, and the hidden state is
    computed anew with the updated parameters. With loss="every" and windows that do not overlap
    the last state of the forward pass is carried.

        >>> list(Bptt(steps=3, stride=2).windows(length=6))
        [(0, 3), (2, 5), (4, 6)]

    Args:
        steps: k, the number of steps of back-propagation; None for the whole sequence.
        stride: The number of steps between updates; None for `steps`.
        loss: "every" or "last" step of the window.

    Raises:
        ConfigurationError: A number below 1, a stride above `steps`, or another loss.
    """

    steps: int | None = None
    stride: int | None = None
    loss: str = "every"

    def __post_init__(self) -> None:
        for name in ("steps", "stride"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        if self.stride is not None and (self.steps is None or self.stride > self.steps):
            raise ConfigurationError(
                f"stride={self.stride!r} goes beyond steps={self.steps!r}: the steps between "
                "two windows would never be learned from"
            )
        if self.loss not in ("every", "last"):
            raise ConfigurationError(f"loss must be 'every' or 'last', got {self.loss!r}")

    def windows(self, length: int) -> Iterator[tuple[int, int]]:
        """Yield the (start, stop) of each window over a sequence of that length."""
        steps = self.steps or length
        stride = self.stride or steps
        for start in range(0, length, stride):
            if self.loss == "last" and start > 0 and start + steps > length:
                return  # no room for another whole window
            yield start, min(start + steps, length)
            if start + steps >= length:
                return

    def weights(self, start: int, stop: int, lengths: Array, *, begins: bool = True) -> Array:
        """Return which steps of a window have a loss: (stop - start, batch) of 0 and 1.

        With loss="last" it is the last step of the window for sequences that fill the window. A
        sequence shorter than `steps` has its loss on its own last step, if it `begins` here and
        is not the continuation of a sequence.
        """
        time = np.arange(start, stop)[:, np.newaxis]
        if self.loss == "every":
            return (time < lengths).astype(float)
        fills = (lengths >= stop) | (start == 0 and begins)
        return ((time == np.minimum(lengths, stop) - 1) & fills).astype(float)


class Learner(NamedTuple):
    """The parameters, and the state of the optimizer."""

    parameters: Parameters
    optimizer_state: OptimizerState


class WindowLoss(NamedTuple):
    """The loss of one window before its update, and the sum of its weights."""

    loss: float
    weight: float


def judged(
    network: Network, batch: Batch, start: int, stop: int, counts: Array
) -> tuple[Array, Array]:
    """Return the targets of a window, and the weight of each.

    Args:
        network: The network.
        batch: The sequences.
        start: The first step of the window.
        stop: The step after its last.
        counts: (stop - start, rows), 1 for each step with a loss, of the first rows.

    Returns:
        Targets (stop - start, rows, horizons * targets) and weights (stop - start, rows,
        horizons); only of the last step of each sequence if the network has
        output_steps="last".
    """
    rows = counts.shape[1]
    targets = batch.targets[start:stop, :rows]
    weights = np.repeat(counts[..., np.newaxis], network.horizons, 2)
    if batch.weights is not None:
        weights *= batch.weights[start:stop, :rows]
    if network.output_steps == "every":
        return targets, weights
    last = batch.lengths[:rows] - 1 - start
    ends_here = (last >= 0) & (last < stop - start)
    at = last.clip(0, stop - start - 1), np.arange(rows)
    return targets[at][np.newaxis], (weights[at] * ends_here[:, np.newaxis])[np.newaxis]


class Learned(NamedTuple):
    """The result of a pass over a batch."""

    learner: Learner
    losses: list[WindowLoss]
    states: States  # after each sequence's last step, of the sequences that run to the end


def updated(
    network: Network,
    learner: Learner,
    gradients: Parameters,
    *,
    begins: bool,
    optimizer: Optimizer,
    clip_norm: float | None,
    clip_value: float | None,
) -> Learner:
    """Return a learner after the update by the gradient of one window.

    Args:
        network: The network.
        learner: Before the update.
        gradients: The gradient of the window.
        begins: Whether the window starts the sequence. If not, the state before it was carried,
            and is not a parameter.
        optimizer: The optimizer.
        clip_norm: The maximum global norm of a gradient; None for no limit.
        clip_value: The maximum absolute value of a gradient; None for no limit.
    """
    if not begins and network.carry and network.initial_state == "learned":
        gradients = {
            k: np.zeros_like(g) if is_initial_state(k) else g for k, g in gradients.items()
        }
    gradients = clipped(gradients, clip_value, clip_norm)
    return Learner(*optimizer.update(gradients, learner.optimizer_state, learner.parameters))


@default_arithmetic()  # an overflow raises DivergenceError
def learn(
    network: Network,
    learner: Learner,
    batch: Batch,
    *,
    bptt: Bptt,
    loss: Loss,
    optimizer: Optimizer,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    masks: Sequence[LayerMask] | None = None,
    kernel: Kernel = NUMPY,
    states: States | None = None,
    hand_on: bool = False,
) -> Learned:
    """Run truncated BPTT over a batch of sequences, once.

    A window without weights makes no update.

    Args:
        network: The network.
        learner: The parameters and the state of the optimizer to start from.
        batch: The sequences.
        bptt: The windows.
        loss: (z, targets, weights) -> (loss, gradient): see `beam_rnn.nn.losses.objective`.
        optimizer: The optimizer.
        clip_norm: The maximum global norm of a gradient; None for no limit.
        clip_value: The maximum absolute value of a gradient; None for no limit.
        masks: The dropout masks of each layer and sequence; None for no dropout.
        kernel: The kernel that computes the layers.
        states: The hidden states before the batch, if it continues sequences; None for the
            initial states.
        hand_on: Compute the states after the batch, for its continuation.

    Raises:
        DivergenceError: The loss, or a parameter, is not finite.
    """
    parameters, optimizer_state = learner
    masks = masks or nothing_left_out(network)
    begins = states is None
    before = initial_states(network, parameters, len(batch.lengths)) if states is None else states
    losses = []
    reached = 0  # the step after which the states are
    for start, stop in bptt.windows(len(batch.x)):
        left = batch.lengths - start
        n = int((left > 0).sum())
        masks = [mask.rows(n) for mask in masks]
        before = first_rows(before, n)
        x = batch.x[start:stop, :n]
        counts = bptt.weights(start, stop, batch.lengths[:n], begins=begins)
        targets, weights = judged(network, batch, start, stop, counts)

        running = left[:n].clip(0, stop - start)
        z, last, trace = forward(network, parameters, x, before, running, masks, kernel=kernel)
        value, d_z = loss(z, targets, weights)
        if not np.isfinite(value):
            raise _diverged(value, start, z, targets, weights)
        losses.append(WindowLoss(value, float(weights.sum())))
        if weights.any():
            parameters, optimizer_state = updated(
                network,
                Learner(parameters, optimizer_state),
                backward(network, parameters, trace, d_z, kernel=kernel),
                begins=begins and start == 0,
                optimizer=optimizer,
                clip_norm=clip_norm,
                clip_value=clip_value,
            )

        carried = bptt.stride or stop - start
        if bptt.loss == "last" or carried < stop - start:
            passed = left[:n].clip(0, carried)
            if start == 0 and begins:
                before = initial_states(network, parameters, n)
            _, last, _ = forward(
                network, parameters, x[:carried], before, passed, masks, kernel=kernel, keep=False
            )
        before, reached = last, start + carried
    if not all(np.isfinite(value).all() for value in parameters.values()):
        raise DivergenceError("the parameters overflowed in an update")
    if hand_on and reached < len(batch.x):  # the steps after the last window or stride
        left = batch.lengths - reached
        n = int((left > 0).sum())
        _, before, _ = forward(
            network,
            parameters,
            batch.x[reached:, :n],
            first_rows(before, n),
            left[:n],
            [mask.rows(n) for mask in masks],
            kernel=kernel,
            keep=False,
        )
    return Learned(Learner(parameters, optimizer_state), losses, before)


def _diverged(loss: float, start: int, z: Array, targets: Array, weights: Array) -> DivergenceError:
    """Return the error of a loss that is not finite, with its first such step and sequence."""
    error = np.abs(z).sum(-1) + np.abs(targets).sum(-1)
    counts = weights.any(-1)
    finite = np.isfinite(error)
    worst = ~finite & counts if (~finite & counts).any() else error >= error[finite].max(initial=0)
    step, row = (int(at[0]) for at in np.nonzero(worst))
    return DivergenceError(f"the loss became {loss}", row, start + step)
