"""Training of an encoder and a decoder on pairs: forward pass, gradients, and one update.

The decoder takes the true symbols (teacher forcing): for a target of m symbols its inputs are 0
and the symbols, and its targets are the symbols and 0, in m + 1 steps. Index 0 is the border.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import DivergenceError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.sequences import Example, pad
from beam_rnn.nn.attention import AttentionTrace, attend, attend_backward
from beam_rnn.nn.backprop import States, Trace, backward_layers, forward_layers, initial_states
from beam_rnn.nn.bptt import Learner, WindowLoss, updated
from beam_rnn.nn.dropout import LayerMask
from beam_rnn.nn.encoder_decoder import EncoderDecoder, part_of, under
from beam_rnn.nn.kernels import NUMPY, Kernel
from beam_rnn.nn.losses import cross_entropy
from beam_rnn.nn.network import Parameters
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.nn.products import matmul

BORDER = 0
"""The input of the decoder before the first symbol, and its output after the last."""


class PairBatch(NamedTuple):
    """A batch of pairs; S is the longest source, T the longest target with its end.

    Attributes:
        x: (S, batch, 1), the indices of the sources, longest first.
        lengths: (batch,), decreasing.
        seen: (T, batch, 1), the inputs of the decoder, longest target first.
        written: (T, batch) integers, the targets of the decoder.
        steps: (batch,), the lengths of the targets, decreasing.
        order: (batch,), the source of each target.
    """

    x: Array
    lengths: Array
    seen: Array
    written: Array
    steps: Array
    order: Array

    @property
    def weights(self) -> Array:
        """1 for each step of a target, 0 for padding: (T, batch)."""
        there = np.arange(len(self.seen))[:, np.newaxis] < self.steps
        return (there & (self.written != UNWRITABLE)).astype(float)


UNWRITABLE = -1
"""The index of a target symbol that is not in the vocabulary: it is ignored in training."""


def batch_of_pairs(examples: Sequence[Example], dtype: np.dtype) -> PairBatch:
    """Return a batch of examples: x (source steps, 1), targets (target steps, 1), both indices."""
    by_source = np.argsort([-len(example.x) for example in examples], kind="stable")
    by_target = np.argsort([-len(example.targets) for example in examples], kind="stable")
    border = np.full((1, 1), BORDER)
    targets = [examples[i].targets for i in by_target]
    seen = [np.concatenate([border, target.clip(BORDER)]) for target in targets]
    written = [np.concatenate([target, border]) for target in targets]
    row = np.empty(len(examples), int)
    row[by_source] = np.arange(len(examples))
    return PairBatch(
        pad([examples[i].x for i in by_source], dtype),
        np.array([len(examples[i].x) for i in by_source]),
        pad(seen, dtype),
        pad(written, np.int64)[..., 0],
        np.array([len(target) + 1 for target in targets]),
        row[by_target],
    )


class PairTrace(NamedTuple):
    """The arrays that `forward` keeps for `backward`."""

    encoder: Trace
    decoder: Trace
    attention: AttentionTrace | None
    features: Array  # (T, batch, m), the input of the output layer


def bridged(network: EncoderDecoder, last: States) -> States:
    """Return the state of the decoder before its first step: the sum of both directions."""
    if not network.bidirectional:
        return last
    n = network.step_cell.states
    return tuple(tuple(a + b for a, b in zip(state[:n], state[n:], strict=True)) for state in last)


def bridged_backward(network: EncoderDecoder, d_begin: States) -> States:
    """Return the gradient of `bridged`."""
    return tuple(state * 2 for state in d_begin) if network.bidirectional else d_begin


def rows_in_order(states: States, order: Array) -> States:
    """Return the states of the sequences in another order."""
    return tuple(tuple(s[order] for s in state) for state in states)


def forward(
    network: EncoderDecoder,
    parameters: Parameters,
    batch: PairBatch,
    masks: tuple[Sequence[LayerMask], Sequence[LayerMask]] | None = None,
    *,
    kernel: Kernel = NUMPY,
    keep: bool = True,
) -> tuple[Array, PairTrace]:
    """Run a batch of pairs through encoder and decoder.

    Args:
        network: The network.
        parameters: Its parameters.
        batch: The pairs.
        masks: The dropout masks of encoder and decoder; None for no dropout.
        kernel: The kernel that computes the layers.
        keep: Keep what the backward pass needs.

    Returns:
        The logits of each target symbol (T, batch, targets), and the trace.
    """
    encoder, decoder = (part_of(parameters, part) for part in ("encoder", "decoder"))
    of_encoder, of_decoder = masks or (None, None)
    begin = initial_states(network.encoder, encoder, len(batch.lengths))
    read, last, read_trace = forward_layers(
        network.encoder,
        encoder,
        batch.x,
        begin,
        batch.lengths,
        of_encoder,
        kernel=kernel,
        keep=keep,
    )
    state = rows_in_order(bridged(network, last), batch.order)
    features, _, trace = forward_layers(
        network.decoder,
        decoder,
        batch.seen,
        state,
        batch.steps,
        of_decoder,
        kernel=kernel,
        keep=keep,
    )
    attention = None
    if network.attention == "additive":
        p = part_of(parameters, "attention")
        keys, lengths = read[:, batch.order], batch.lengths[batch.order]
        features, attention = attend(p, features, keys, lengths, kernel.linear)
    z = logits(parameters, features, kernel)
    return z, PairTrace(read_trace, trace, attention, features)


def logits(parameters: Parameters, features: Array, kernel: Kernel = NUMPY) -> Array:
    """Return W_y f + b_y for features (time, batch, m)."""
    rows = features.reshape(-1, features.shape[2])
    z = kernel.linear(rows, parameters["output.W_y"], parameters["output.b_y"])
    return z.reshape(*features.shape[:2], -1)


def backward(
    network: EncoderDecoder,
    parameters: Parameters,
    batch: PairBatch,
    trace: PairTrace,
    d_z: Array,
    *,
    kernel: Kernel = NUMPY,
) -> dict[str, Array]:
    """Return the gradient of `forward` with respect to every parameter."""
    encoder, decoder = (part_of(parameters, part) for part in ("encoder", "decoder"))
    rows = d_z.reshape(-1, d_z.shape[2])
    features = trace.features.reshape(len(rows), -1)
    gradients = {"output.W_y": matmul(features.T, rows), "output.b_y": rows.sum(0)}
    d_h = matmul(rows, parameters["output.W_y"].T).reshape(trace.features.shape)
    d_read = None
    if trace.attention is not None:
        p = part_of(parameters, "attention")
        of_attention, d_h, d_keys = attend_backward(p, trace.attention, d_h)
        gradients |= under("attention", of_attention)
        d_read = np.empty_like(d_keys)
        d_read[:, batch.order] = d_keys
    ends = initial_states(network.decoder, decoder, len(batch.steps))  # all zero
    below, d_begin = backward_layers(
        network.decoder, decoder, trace.decoder, d_h, ends, kernel=kernel
    )
    gradients |= under("decoder", below)
    back = np.empty_like(batch.order)
    back[batch.order] = np.arange(len(back))
    d_last: States = rows_in_order(bridged_backward(network, d_begin), back)
    below, _ = backward_layers(
        network.encoder, encoder, trace.encoder, d_read, d_last, kernel=kernel
    )
    gradients |= under("encoder", below)
    return {name: gradients[name] for name in parameters}


def loss_of(z: Array, batch: PairBatch) -> tuple[float, Array]:
    """Return the cross-entropy of the targets, and its gradient with respect to z."""
    return cross_entropy(z, one_hot(batch.written, z.shape[2], z.dtype), batch.weights)


def one_hot(index: Array, n: int, dtype: np.dtype) -> Array:
    """Return (..., n), 1 at each index; all 0 for an index below 0."""
    return (index[..., np.newaxis] == np.arange(n)).astype(dtype)


@default_arithmetic()  # an overflow raises DivergenceError
def learn_pairs(
    network: EncoderDecoder,
    learner: Learner,
    batch: PairBatch,
    *,
    optimizer: Optimizer,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    masks: tuple[Sequence[LayerMask], Sequence[LayerMask]] | None = None,
    kernel: Kernel = NUMPY,
) -> tuple[Learner, WindowLoss]:
    """Make one update by a batch of pairs, with full back-propagation.

    Raises:
        DivergenceError: The loss, or a parameter, is not finite.
    """
    z, trace = forward(network, learner.parameters, batch, masks, kernel=kernel)
    value, d_z = loss_of(z, batch)
    if not np.isfinite(value):
        raise DivergenceError(f"the loss became {value}")
    weight = float(batch.weights.sum())
    if weight:
        learner = updated(
            network.encoder,  # its initial states are not parameters
            learner,
            backward(network, learner.parameters, batch, trace, d_z, kernel=kernel),
            begins=True,
            optimizer=optimizer,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
    if not all(np.isfinite(w).all() for w in learner.parameters.values()):
        raise DivergenceError("the parameters overflowed in an update")
    return learner, WindowLoss(value, weight)


def loss_of_pairs(
    network: EncoderDecoder, parameters: Parameters, batch: PairBatch, kernel: Kernel = NUMPY
) -> tuple[float, float]:
    """Return the sum of the losses of all steps, and the number of steps."""
    z, _ = forward(network, parameters, batch, kernel=kernel, keep=False)
    weight = float(batch.weights.sum())
    return loss_of(z, batch)[0] * weight, weight
