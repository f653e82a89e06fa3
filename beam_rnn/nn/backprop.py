"""The forward pass of a network over sequences, and back-propagation through time.

Functions come in pairs: `merge` with `unmerge`, `forward_layers` with `backward_layers`, and
`forward` with `backward`, which include the head. Arrays are as in `beam_rnn.nn.layers`: (time,
batch, features), longest sequence first.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.packed_sequences import running_at
from beam_rnn.nn.cells import State
from beam_rnn.nn.dropout import LayerMask, drop_state, nothing_left_out
from beam_rnn.nn.embedding import embed, embed_backward
from beam_rnn.nn.kernels import NUMPY, Kernel
from beam_rnn.nn.layers import LayerTrace
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.nn.products import matmul

States = tuple[State, ...]
"""The state of every layer: that of its forward direction, then that of its reverse direction."""


class Trace(NamedTuple):
    """The arrays that a forward pass keeps for the backward pass."""

    x: Array  # (time, batch, inputs)
    layers: list[tuple[LayerTrace, ...]]  # one for each direction of each layer
    last: States  # after each sequence's last step
    h: Array  # (time, batch, output_size): the output of the last layer, as the head saw it
    lengths: Array  # (batch,)
    masks: Sequence[LayerMask]


def reverse(x: Array, lengths: Array) -> Array:
    """Reverse each sequence of (time, batch, features); the padding stays at the end."""
    time = np.arange(len(x))[:, np.newaxis]
    return x[np.where(time < lengths, lengths - 1 - time, time), np.arange(x.shape[1])]


def merge(how: str, outputs: Sequence[Array]) -> Array:
    """Combine the outputs of the directions of a layer; see `beam_rnn.nn.network.MERGES`."""
    if len(outputs) == 1:
        return outputs[0]
    forwards, backwards = outputs
    if how == "concat":
        return np.concatenate([forwards, backwards], 2)
    if how == "mul":
        return forwards * backwards
    total = forwards + backwards
    return total / 2 if how == "ave" else total


def unmerge(how: str, outputs: Sequence[Array], d_merged: Array) -> Sequence[Array]:
    """Return the gradient of `merge` with respect to the output of each direction."""
    if len(outputs) == 1:
        return (d_merged,)
    if how == "concat":
        return np.split(d_merged, 2, axis=2)
    if how == "mul":
        return d_merged * outputs[1], d_merged * outputs[0]
    share = d_merged / 2 if how == "ave" else d_merged
    return share, share


def first_rows(states: States, n: int) -> States:
    """Return the states of the first n sequences of a batch."""
    return tuple(tuple(s[:n] for s in state) for state in states)


def initial_states(network: Network, parameters: Parameters, batch: int) -> States:
    """Return the state of every layer before a sequence."""
    return tuple(network.before_first_step(parameters, i, batch) for i in range(network.layers))


def _by_direction(network: Network, state: State) -> list[State]:
    """Return the state of a layer, split by direction."""
    each = network.step_cell.states
    return [state[i : i + each] for i in range(0, len(state), each)]


def forward_layers(
    network: Network,
    parameters: Parameters,
    x: Array,
    states: States,
    lengths: Array,
    masks: Sequence[LayerMask] | None = None,
    *,
    kernel: Kernel = NUMPY,
    keep: bool = True,
) -> tuple[Array, States, Trace]:
    """Run a batch of sequences through the embedding and all layers.

    Args:
        network: The network.
        parameters: Its parameters.
        x: (time, batch, inputs), longest sequence first, zero after a sequence's end; a symbol is
            its index.
        states: The state of every layer before the first step; of a reverse direction, before
            the last one.
        lengths: (batch,), decreasing.
        masks: The dropout masks of each layer; None for no dropout.
        kernel: The kernel that computes the layers.
        keep: Keep what the backward pass needs.

    Returns:
        The output of the last layer (time, batch, output_size), zero where a sequence has ended;
        the states after each sequence's last step; the trace for `backward_layers`.
    """
    masks = masks or nothing_left_out(network)
    running = running_at(lengths, len(x))
    layers, last = [], []
    h = embed(network, parameters, x)
    for i, state in enumerate(states):
        mask = masks[i]
        h = h if mask.inputs is None else h * mask.inputs
        outputs, traces = [], []
        ends: list[Array] = []
        directions = zip(network.layer(parameters, i), _by_direction(network, state), strict=True)
        for backwards, (p, begin) in enumerate(directions):
            cell = drop_state(network.step_cell, mask.recurrent[backwards])
            seen = reverse(h, lengths) if backwards else h
            output, end, trace = kernel.layer_forward(cell, p, seen, begin, running, keep=keep)
            outputs.append(reverse(output, lengths) if backwards else output)
            ends.extend(end)
            traces.append(trace)
        h = merge(network.merge, outputs)
        layers.append(tuple(traces))
        last.append(tuple(ends))
    return h, tuple(last), Trace(x, layers, tuple(last), h, lengths, masks)


def backward_layers(
    network: Network,
    parameters: Parameters,
    trace: Trace,
    d_h: Array | None,
    d_last: States,
    *,
    kernel: Kernel = NUMPY,
) -> tuple[dict[str, Array], States]:
    """Return the gradient of `forward_layers`.

    Args:
        network: The network.
        parameters: Its parameters.
        trace: From `forward_layers`.
        d_h: The gradient with respect to the output of the last layer, of the same shape; None for
            zero.
        d_last: The gradient with respect to the states after each sequence's last step.
        kernel: The kernel of the forward pass.

    Returns:
        The gradients with respect to the parameters of embedding and layers, by name, and to the
        states before the first step.
    """
    running = running_at(trace.lengths, len(trace.x))
    gradients: dict[str, Array] = {}
    d_begin: list[State] = []
    for i in reversed(range(network.layers)):
        traces, mask = trace.layers[i], trace.masks[i]
        if d_h is None:
            d_outputs: Sequence[Array] = [np.zeros_like(t.h) for t in traces]
        else:
            outputs = [reverse(t.h, trace.lengths) if d else t.h for d, t in enumerate(traces)]
            d_outputs = unmerge(network.merge, outputs, d_h)
        d_inputs, of_layer = [], []
        d_states: list[Array] = []
        d_ends = _by_direction(network, d_last[i])
        for backwards, p in enumerate(network.layer(parameters, i)):
            d_output = d_outputs[backwards]
            gradient, d_input, d_state = kernel.layer_backward(
                drop_state(network.step_cell, mask.recurrent[backwards]),
                p,
                traces[backwards],
                reverse(d_output, trace.lengths) if backwards else d_output,
                d_ends[backwards],
                running,
            )
            d_inputs.append(reverse(d_input, trace.lengths) if backwards else d_input)
            of_layer.append(gradient)
            d_states.extend(d_state)
        gradients |= network.named(i, of_layer) | network.initial_gradient(i, d_states)
        d_begin.insert(0, tuple(d_states))
        d_h = sum(d_inputs[1:], d_inputs[0])
        d_h = d_h if mask.inputs is None else d_h * mask.inputs
    assert d_h is not None, "there is a layer"
    return gradients | embed_backward(network, parameters, trace.x, d_h), tuple(d_begin)


def forward(
    network: Network,
    parameters: Parameters,
    x: Array,
    states: States,
    lengths: Array,
    masks: Sequence[LayerMask] | None = None,
    *,
    kernel: Kernel = NUMPY,
    keep: bool = True,
) -> tuple[Array, States, Trace]:
    """Run a batch of sequences through all layers and the head.

    Args:
        network: The network.
        parameters: Its parameters.
        x: As for `forward_layers`.
        states: The same.
        lengths: The same.
        masks: The same.
        kernel: The same.
        keep: The same.

    Returns:
        The raw outputs z of every step (time, batch, outputs), zero where a sequence has ended,
        or of the last step only (1, batch, outputs); the states after each sequence's
        last step; the trace for `backward`.
    """
    if not network.carry:
        return _each_alone(network, parameters, x, lengths, masks, kernel=kernel, keep=keep)
    h, last, trace = forward_layers(
        network, parameters, x, states, lengths, masks, kernel=kernel, keep=keep
    )
    ended = np.arange(len(x))[:, np.newaxis] >= lengths
    if network.output_steps == "last":
        h = merge(network.merge, _last_h(network, last[-1]))
        none = np.zeros((1, *x.shape[1:]), x.dtype)
        x = np.concatenate([none, x])[lengths, np.arange(len(lengths))][np.newaxis]
        ended = (lengths == 0)[np.newaxis]
    rows = h.reshape(-1, h.shape[2]), x.reshape(-1, x.shape[2])
    z = network.read_out(parameters, *rows, linear=kernel.linear)
    z = np.where(ended[..., np.newaxis], 0, z.reshape(*ended.shape, z.shape[1]))
    return z, last, trace._replace(h=h)


def _each_alone(
    network: Network,
    parameters: Parameters,
    x: Array,
    lengths: Array,
    masks: Sequence[LayerMask] | None,
    *,
    kernel: Kernel,
    keep: bool,
) -> tuple[Array, States, Trace]:
    """Run `forward` with carry=False: each step is a separate sequence."""
    steps, batch, inputs = x.shape
    alone = replace(network, carry=True)
    z, _, trace = forward(
        alone,
        parameters,
        x.reshape(1, steps * batch, inputs),
        initial_states(network, parameters, steps * batch),
        np.ones(steps * batch, int),
        None if masks is None else [mask.repeated(steps) for mask in masks],
        kernel=kernel,
        keep=keep,
    )
    ended = np.arange(steps)[:, np.newaxis] >= lengths
    z = np.where(ended[..., np.newaxis], 0, z.reshape(steps, batch, -1))
    return z, initial_states(network, parameters, batch), trace


def _last_h(network: Network, state: State) -> list[Array]:
    """Return the output of each direction of a layer in its last state: (1, batch, hidden)."""
    return [of_direction[0][np.newaxis] for of_direction in _by_direction(network, state)]


def backward(
    network: Network, parameters: Parameters, trace: Trace, d_z: Array, *, kernel: Kernel = NUMPY
) -> dict[str, Array]:
    """Return the gradient of `forward`: of the loss with respect to every parameter.

    Args:
        network: The network.
        parameters: Its parameters.
        trace: From `forward`.
        d_z: The gradient with respect to z, of the same shape; zero where a sequence has ended.
        kernel: The kernel of the forward pass.

    The gradient of a learned initial state is that of the states before the first step: it is
    valid only for a pass that starts at the initial state.
    """
    batch = len(trace.lengths)
    d_z = d_z.reshape(*trace.h.shape[:2], -1)  # of steps that were separate sequences
    gradients: dict[str, Array] = {}
    d_h: Array | None = d_z
    if network.head == "linear":
        rows = d_z.reshape(-1, d_z.shape[2])
        gradients["head.W_y"] = matmul(trace.h.reshape(-1, trace.h.shape[2]).T, rows)
        gradients["head.b_y"] = rows.sum(0)
        d_h = matmul(rows, parameters["head.W_y"].T).reshape(trace.h.shape)
    assert d_h is not None, "the gradient of the input of the head"
    cell, directions = network.step_cell, range(network.directions)
    d_last = [
        tuple(d for _ in directions for d in cell.initial_state(batch, size, d_h.dtype))
        for size in network.sizes
    ]
    if network.output_steps == "last":
        d_ends = unmerge(network.merge, _last_h(network, trace.last[-1]), d_h)
        of_directions = _by_direction(network, d_last[-1])
        for (of_h, *_), d_end in zip(of_directions, d_ends, strict=True):
            of_h[:] = d_end[0]
        d_h = None
    below, _ = backward_layers(network, parameters, trace, d_h, tuple(d_last), kernel=kernel)
    gradients |= below
    return {name: gradients[name] for name in parameters}
