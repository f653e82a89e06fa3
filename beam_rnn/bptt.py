"""Truncated back-propagation through time: which steps a gradient passes through."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_rnn.backprop import backward, forward, initial_states
from beam_rnn.batches import Batch
from beam_rnn.cells import Array
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.losses import Loss
from beam_rnn.network import Network, Parameters, is_state
from beam_rnn.optimizers import Optimizer, OptimizerState, clip_by_global_norm, clip_by_value


@dataclass(frozen=True)
class Bptt:
    """BPTT(k): back-propagation through the last k steps.

    A window of `steps` moves along the sequence by `stride`. In each place: forward through
    the window from the hidden state carried so far, the loss, the gradient back through the
    window and no further, an update of the parameters. Then the hidden state is carried on
    by `stride` steps.

    | | |
    |---|---|
    | the textbook's loop | `Bptt(steps=k, stride=1, loss="last")` |
    | truncated BPTT as frameworks do it | `Bptt(steps=k)`: stride k, loss on every step |
    | full BPTT | `Bptt()`, or any k of at least the sequence's length |

    With loss="last" only the window's last step has a loss, and the hidden state is carried
    on with the updated parameters, both as in the textbook. With loss="every" and windows
    that do not overlap it is the one that the forward pass reached.

        >>> list(Bptt(steps=3, stride=2).windows(length=6))
        [(0, 3), (2, 5), (4, 6)]

    Args:
        steps: k, how many steps back the gradient goes; None for the whole sequence.
        stride: An update after each so many steps; None for `steps`.
        loss: "every" or "last" step of the window.

    Raises:
        ConfigurationError: A number below 1, a stride beyond `steps`, another loss.
    """

    steps: int | None = None
    stride: int | None = None
    loss: str = "every"

    def __post_init__(self) -> None:
        for name in ("steps", "stride"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                raise ConfigurationError(
                    f"{name} must be a whole number of at least 1, got {value!r}"
                )
        if self.stride is not None and (self.steps is None or self.stride > self.steps):
            raise ConfigurationError(
                f"stride={self.stride!r} goes beyond steps={self.steps!r}: the steps between "
                "two windows would never be learned from"
            )
        if self.loss not in ("every", "last"):
            raise ConfigurationError(f"loss must be 'every' or 'last', got {self.loss!r}")

    def windows(self, length: int) -> Iterator[tuple[int, int]]:
        """The (start, stop) of each window over a sequence of that length."""
        steps = self.steps or length
        stride = self.stride or steps
        for start in range(0, length, stride):
            if self.loss == "last" and start > 0 and start + steps > length:
                return  # no room for another whole window
            yield start, min(start + steps, length)
            if start + steps >= length:
                return

    def weights(self, start: int, stop: int, lengths: Array) -> Array:
        """Which steps of a window have a loss: (stop - start, batch) of 0 and 1.

        With loss="last" that is the last step of the window for the sequences that fill it;
        one that is shorter than `steps` as a whole has its loss on its own last step.
        """
        time = np.arange(start, stop)[:, np.newaxis]
        if self.loss == "every":
            return (time < lengths).astype(float)
        fills = (lengths >= stop) | (start == 0)
        return ((time == np.minimum(lengths, stop) - 1) & fills).astype(float)


class Learner(NamedTuple):
    """What training changes."""

    parameters: Parameters
    optimizer_state: OptimizerState


class WindowLoss(NamedTuple):
    """The loss of one window, before its update, and how many steps it is the mean of."""

    loss: float
    weight: float


@np.errstate(over="ignore", invalid="ignore")  # numbers out of range are an error of their own
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
) -> tuple[Learner, list[WindowLoss]]:
    """One pass of truncated BPTT over a batch of sequences.

    Args:
        network: The network.
        learner: The parameters and the optimiser's state to start from.
        batch: The sequences.
        bptt: Which steps the gradient passes through.
        loss: (outputs, targets, weights) -> (loss, gradient).
        optimizer: How a gradient changes the parameters.
        clip_norm: The greatest global norm of a gradient; None for no limit.
        clip_value: The greatest size of each number of a gradient; None for no limit.

    Raises:
        TrainingError: The loss, or a parameter, is not finite.
    """
    parameters, optimizer_state = learner
    states = initial_states(network, parameters, len(batch.lengths))
    losses = []
    for start, stop in bptt.windows(len(batch.x)):
        left = batch.lengths - start
        n = int((left > 0).sum())
        states = tuple(tuple(s[:n] for s in state) for state in states)
        x, targets = batch.x[start:stop, :n], batch.targets[start:stop, :n]
        weights = bptt.weights(start, stop, batch.lengths[:n])

        y, last, trace = forward(network, parameters, x, states, left[:n].clip(0, stop - start))
        value, d_y = loss(y, targets, weights)
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at steps {start} to {stop} of a batch: lower the "
                "learning rate, clip the gradient, or look for huge values in the data"
            )
        gradients = backward(network, parameters, trace, d_y)
        if start > 0:  # the carried state is no parameter
            gradients |= {k: np.zeros_like(g) for k, g in gradients.items() if is_state(k)}
        if clip_value is not None:
            gradients = clip_by_value(gradients, clip_value)
        if clip_norm is not None:
            gradients = clip_by_global_norm(gradients, clip_norm)
        parameters, optimizer_state = optimizer.update(gradients, optimizer_state, parameters)
        losses.append(WindowLoss(value, float(weights.sum())))

        carried = bptt.stride or stop - start
        if bptt.loss == "last" or carried < stop - start:
            passed = left[:n].clip(0, carried)
            if start == 0:
                states = initial_states(network, parameters, n)
            _, last, _ = forward(network, parameters, x[:carried], states, passed)
        states = last
    if not all(np.isfinite(value).all() for value in parameters.values()):
        raise TrainingError(
            "the parameters left the range of numbers in an update: lower the learning rate, "
            "clip the gradient, or look for huge values in the data"
        )
    return Learner(parameters, optimizer_state), losses
