"""Bidirectional networks over packed sequences: whole ones, and the windows of a stream.

In a stream the future of a step is unknown. With a lag of L the output of a step is emitted L steps
later, from a pass over the window of that step and the next L. The forward directions continue from
their state after the previous step, the backward ones start from their initial state. This is the
latency-controlled BLSTM of Zhang (2016, "Highway long short-term memory RNNs for distant speech
recognition") with blocks of one step.

Sequences are packed: see `beam_rnn.core.packed_sequences`.
"""

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.packed_sequences import last_rows, offsets_of, rows_of, running_at
from beam_rnn.data.missing_values import carry_forward
from beam_rnn.models.model import Model
from beam_rnn.nn.backprop import merge
from beam_rnn.nn.embedding import embed
from beam_rnn.nn.kernels import Advance, kernel_of
from beam_rnn.nn.network import Network


class Layer(NamedTuple):
    """The two directions of a layer, each with its initial state."""

    forward: Advance
    backward: Advance
    forward_begin: Array  # (1, states * hidden)
    backward_begin: Array


class Windows(NamedTuple):
    """The results of the windows that end with new steps.

    Attributes:
        y: (rows, outputs), scaled, of all steps of all windows; those that are complete, with their
            whole lag, come first.
        given: The number of complete outputs.
        state: (state_size,), the state after the last of them.
        finite: Whether no number overflowed in any window.
    """

    y: Array
    given: int
    state: Array
    finite: bool


class BothDirections:
    """Runs a bidirectional model over packed sequences.

        >>> network = Network("gru", hidden=4, bidirectional=True)
        >>> model = Model(network, network.initialize(inputs=1, outputs=1, seed=0))
        >>> x = np.ones((5, 1), np.float32)
        >>> y, finite = BothDirections(model).run(x, np.ones(5, np.int64))
        >>> bool((y == model.forward(x[np.newaxis])[0]).all()), finite
        (True, array([ True]))

    A row has the same bits in every batch. The state is that of the forward directions only: layer
    by layer, then the carried values of missing fields.

    Args:
        model: The model.
    """

    def __init__(self, model: Model):
        self._model = model
        self._layers = [_layer(model, i) for i in range(model.network.layers)]

    @cached_property
    def initial_state(self) -> Array:
        """The state before a sequence: (state_size,)."""
        begin = [layer.forward_begin[0] for layer in self._layers]
        return np.concatenate([*begin, np.zeros(self._model.carried, np.float32)])

    def run(self, x: Array, running: Array, state: Array | None = None) -> tuple[Array, Array]:
        """Run packed sequences, each to its end.

        Args:
            x: (rows, inputs), scaled.
            running: (steps,), the number of sequences that run at each step; decreasing.
            state: (batch, state_size), the state before the first step of each; None for the
                initial state.

        Returns:
            y, scaled, (rows, outputs), or (batch, outputs) of a network with output_steps="last";
            and whether each sequence stayed finite, (batch,).
        """
        batch = int(running[0])
        before = np.repeat(self.initial_state[np.newaxis], batch, 0) if state is None else state
        _, sequences = rows_of(running)
        lengths = np.bincount(sequences)
        turned = _reversed_rows(running, lengths)
        *parts, carried = self._split_state(before)
        x, _ = self._filled(carried, x, running)
        finite = np.isfinite(x).all(1)
        h = ends = self._embedded(x)
        for layer, begin in zip(self._layers, parts, strict=True):
            forwards, kept = layer.forward(begin, h, running, True)
            backwards, good = self._backwards(layer, h, running, turned)
            finite &= np.isfinite(kept).all(1) & good
            h = self._merged(forwards, backwards)
            ends = self._merged(forwards[last_rows(lengths, running)], backwards[:batch])
        each = np.bincount(sequences[~finite], minlength=batch) == 0
        if self._model.network.output_steps == "last":
            y = self._read_out(ends, x[last_rows(lengths, running)])
            return y, each & np.isfinite(y).all(1)
        y = self._read_out(h, x)
        return y, each & (np.bincount(sequences[~np.isfinite(y).all(1)], minlength=batch) == 0)

    def windows(self, state: Array, x: Array, waiting: int, lag: int) -> Windows:
        """Run the windows that end with the new steps of a sequence, one for each.

        All layers run over each window. The first layer's forward direction has the same input in
        all of them, so it runs once. The forward direction of a later layer starts from its state
        after the first step of the previous window.

        Args:
            state: (state_size,), the state after the last step whose output was emitted.
            x: (steps, inputs), scaled: all steps since then.
            waiting: The number of steps that are not new; those beyond `lag` count as new.
            lag: The number of further steps that an output waits for.
        """
        given = max(len(x) - lag, 0)
        *parts, carried = self._split_state(state[np.newaxis])
        chain = np.ones(len(x), np.int64)
        x, carries = self._filled(carried, x, chain)
        start, running, row, turned = _windows(min(waiting, lag), len(x), lag)
        finite = [np.isfinite(x).all()]
        seen = self._embedded(x)
        h, after = seen[row], []
        for i, (layer, before) in enumerate(zip(self._layers, parts, strict=True)):
            if i == 0:
                forwards, kept = layer.forward(before, seen, chain, True)
                forwards, states = forwards[row], kept[:given]
            else:
                states = _states_after(layer.forward, before, h[:given])
                begin = np.concatenate([before, states])[start]
                forwards, kept = layer.forward(begin, h, running, True)
            backwards, good = self._backwards(layer, h, running, turned)
            finite += [np.isfinite(kept).all(), good.all()]
            h = self._merged(forwards, backwards)
            after.append(states[-1] if given else before[0])
        after.append(carries[given - 1] if given else carried[0])
        y = self._read_out(h, x[row])
        finite.append(np.isfinite(y).all())
        return Windows(y, given, np.concatenate(after), all(finite))

    def _backwards(
        self, layer: Layer, h: Array, running: Array, turned: Array
    ) -> tuple[Array, Array]:
        """Run a layer's backward direction: (rows, hidden), and whether each row is finite."""
        begin = np.repeat(layer.backward_begin, running[0], 0)
        outputs, states = layer.backward(begin, h[turned], running, True)
        good: Array = np.asarray(np.isfinite(states).all(1))
        return outputs[turned], good[turned]

    def _merged(self, forwards: Array, backwards: Array) -> Array:
        both = forwards[np.newaxis], backwards[np.newaxis]
        return merge(self._model.network.merge, both)[0]

    def _read_out(self, h: Array, x: Array) -> Array:
        """Return y = g(z), scaled, of rows."""
        network, linear = self._model.network, kernel_of(self._model.kernel).linear
        z = network.read_out(self._model.parameters, h, x, linear=linear)
        return network.output_of(z)

    def _filled(self, carried: Array, x: Array, running: Array) -> tuple[Array, Array]:
        """Return x without missing values, and the carried values after each row."""
        if not self._model.carried:
            return x, np.zeros((len(x), 0), np.float32)
        return carry_forward(carried, x, running)

    def _embedded(self, x: Array) -> Array:
        """Return the input of the first layer: x with symbols replaced by their vectors."""
        return embed(self._model.network, self._model.parameters, x)

    def _split_state(self, state: Array) -> list[Array]:
        """Split a state (batch, state_size) into the state of each layer and the carried values."""
        ends = np.cumsum([layer.forward_begin.shape[1] for layer in self._layers])
        return [np.ascontiguousarray(part) for part in np.split(state, ends, axis=1)]


def both_directions(model: Model) -> BothDirections:
    """Return the `BothDirections` of a model, cached for the last 256 models."""
    return _both_directions(model, model.kernel)  # models of two kernels are equal


@lru_cache(256)
def _both_directions(model: Model, kernel: str) -> BothDirections:  # noqa: ARG001
    return BothDirections(model)


def _layer(model: Model, i: int) -> Layer:
    """Return layer i as two networks of one direction each."""
    network = model.network
    alone = Network(
        network.cell,
        network.sizes[i],
        activation=network.activation,
        reset_after=network.reset_after,
        head="none",
    )
    advance = kernel_of(model.kernel).advance
    forward, backward = (
        advance(alone, {f"layers.0.{name}": value for name, value in p._asdict().items()})
        for p in network.layer(model.parameters, i)
    )
    before = network.before_first_step(model.parameters, i, 1)
    each = network.step_cell.states
    begin = np.concatenate(before[:each], 1), np.concatenate(before[each:], 1)
    return Layer(forward, backward, *begin)


class _Packed(NamedTuple):
    """The windows that end with new steps, those with the whole lag first."""

    start: Array  # (windows,), the first step of each
    running: Array  # (steps,), the number of windows that run at each of their steps
    row: Array  # (rows,), the step of the sequence
    turned: Array  # (rows,), from `_reversed_rows`


def _windows(waiting: int, steps: int, lag: int) -> _Packed:
    """Return a window for each step after the first `waiting`."""
    last = np.arange(waiting, steps)
    lengths = np.minimum(last, lag) + 1
    order = np.argsort(-lengths, kind="stable")
    start, lengths = (last + 1 - lengths)[order], lengths[order]
    running = running_at(lengths, int(lengths[0]))
    step, window = rows_of(running)
    return _Packed(start, running, start[window] + step, _reversed_rows(running, lengths))


def _states_after(advance: Advance, before: Array, x: Array) -> Array:
    """Return the state after each step of one sequence: (steps, size)."""
    if not len(x):
        return before[:0]
    return advance(before, x, np.ones(len(x), np.int64), True)[1]


def _reversed_rows(running: Array, lengths: Array) -> Array:
    """Return the row at the place of each row when every sequence is reversed."""
    steps, sequences = rows_of(running)
    return offsets_of(running)[lengths[sequences] - 1 - steps] + sequences
