"""Layers computed by the fused cells, like those of `beam_rnn.nn.layers`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.packed_sequences import last_rows, offsets_of, rows_of
from beam_rnn.nn import layers as plain
from beam_rnn.nn.cells import FUSED_CELLS, Cell, CellParameters, State
from beam_rnn.nn.fused import cells
from beam_rnn.nn.fused.matmul import add_transposed_product, in_panels, padded
from beam_rnn.nn.layers import LayerTrace
from beam_rnn.nn.network import Network, Parameters

KINDS: dict[Cell, int] = {cell: getattr(cells, cell.fused) for cell in FUSED_CELLS}
"""The number of each fused cell in `beam_rnn.nn.fused.cells`."""


class Panels(NamedTuple):
    """The parameters of a layer as the fused cells read them."""

    kind: int
    hidden: int
    W_x: Array
    W_h: Array
    W_n: Array
    b_x: Array
    b_h: Array


def layer_panels(cell: Cell, p: CellParameters) -> Panels:
    """Return the parameters of a layer in panels."""
    kind, hidden = KINDS[cell], p.W_h.shape[0]
    split = 2 * hidden if kind == cells.GRU_RESET_BEFORE else p.W_h.shape[1]
    b_x = p.b_x if kind == cells.GRU else p.b_x + p.b_h
    return Panels(
        kind,
        hidden,
        in_panels(p.W_x),
        in_panels(p.W_h[:, :split]),
        in_panels(p.W_h[:, split:]),
        _wide(b_x),
        _wide(p.b_h),
    )


class Steps(NamedTuple):
    """The result of a layer for packed sequences."""

    h: Array  # (rows, hidden)
    c: Array  # the same for the LSTM; else no rows
    gates: Array
    kept: Array


def forward(
    layer: Panels, x: Array, offsets: Array, running: Array, state: State, *, keep: bool = False
) -> Steps:
    """Run all steps of a layer over packed sequences.

    Args:
        layer: The parameters.
        x: (rows, inputs).
        offsets: (steps,), the first row of each step.
        running: (steps,), the number of rows of each step.
        state: The state before the first step, arrays of (batch, hidden).
        keep: Keep what the backward pass needs.
    """
    rows = len(x)
    lstm = layer.kind == cells.LSTM
    h = np.empty((rows, layer.hidden), np.float32)
    c = np.empty((rows if lstm else 0, layer.hidden), np.float32)
    kept_rows = rows if keep else min(rows, cells.BLOCK)
    gates = np.empty((kept_rows, len(layer.b_x)), np.float32)
    kept = np.empty((kept_rows, layer.hidden), np.float32)
    h_0 = state[0]
    c_0 = state[1] if lstm else c
    cells.forward(
        layer.kind, x, offsets, running, h_0, c_0, layer.W_x, layer.W_h, layer.W_n, layer.b_x,
        layer.b_h, h, c, gates, kept,
    )  # fmt: skip
    return Steps(h, c, gates, kept)


class _Packing:
    """Converts padded sequences, (time, batch, features), to packed ones and back."""

    def __init__(self, running: Array, time: int, batch: int):
        self._shape = time, batch
        self._at = None
        if batch == 1:
            self.running = np.ones(int(running.sum()), np.int64)
            self.offsets = np.arange(len(self.running))
            whole = len(self.running) == time
        else:
            self.running = running[running > 0].astype(np.int64)
            self.offsets = offsets_of(self.running)
            whole = bool((running == batch).all())
        if not whole:
            self._at = rows_of(self.running)

    def last_rows(self) -> Array:
        """Return the row of the last step of each sequence."""
        if self._shape[1] == 1:
            return self.offsets[-1:]
        lengths = (self.running[:, np.newaxis] > np.arange(self.running[0])).sum(0)
        return last_rows(lengths, self.running)

    def pack(self, x: Array) -> Array:
        """Return packed rows (rows, features)."""
        return np.ascontiguousarray(x.reshape(-1, x.shape[2]) if self._at is None else x[self._at])

    def pad(self, rows: Array) -> Array:
        """Return (time, batch, features), zero after the end of a sequence."""
        if self._at is None:
            return rows.reshape(*self._shape, -1)
        x = np.zeros((*self._shape, rows.shape[1]), rows.dtype)
        x[self._at] = rows
        return x


def layer_forward(
    cell: Cell, p: CellParameters, x: Array, state: State, running: Array, *, keep: bool = True
) -> tuple[Array, State, LayerTrace]:
    """Run a layer: see `beam_rnn.nn.layers.layer_forward`, used for a cell without fused kernel."""
    if cell not in KINDS:
        return plain.layer_forward(cell, p, x, state, running, keep=keep)
    time, batch, _ = x.shape
    places = _Packing(running, time, batch)
    last = tuple(s.copy() for s in state)
    if not len(places.running):
        h = np.zeros((time, batch, p.W_h.shape[0]), np.float32)
        return h, last, LayerTrace(x, [], h)
    begin = tuple(np.ascontiguousarray(s) for s in state)
    packed = places.pack(x)
    steps = forward(layer_panels(cell, p), packed, places.offsets, places.running, begin, keep=keep)
    ends = places.last_rows()
    for kept, rows in zip(last, (steps.h, steps.c), strict=False):
        kept[: len(ends)] = rows[ends]
    h = places.pad(steps.h)
    return h, last, LayerTrace(x, [(packed, *begin), steps], h)


def layer_backward(
    cell: Cell,
    p: CellParameters,
    trace: LayerTrace,
    d_h: Array,
    d_last: State,
    running: Array,
) -> tuple[CellParameters, Array, State]:
    """Return the gradient: see `beam_rnn.nn.layers.layer_backward`. A trace can be used once."""
    if cell not in KINDS:
        return plain.layer_backward(cell, p, trace, d_h, d_last, running)
    time, batch, inputs = trace.x.shape
    if not trace.caches:
        return CellParameters(*map(np.zeros_like, p)), np.zeros_like(trace.x), d_last
    (x, h_0, *c_0), steps = trace.caches
    steps = Steps(*steps)
    kind, m, columns = KINDS[cell], *p.W_h.shape
    places = _Packing(running, time, batch)
    d_state = [_wide_rows(d) for d in d_last]
    wide = steps.gates.shape[1]
    d_u_rows = {cells.GRU: len(x), cells.GRU_RESET_BEFORE: batch}.get(kind, 0)
    d_u = np.zeros((d_u_rows, wide if kind == cells.GRU else padded(m)), np.float32)
    h_prev = np.empty_like(steps.h)
    split = 2 * m if kind == cells.GRU_RESET_BEFORE else columns
    cells.backward(
        kind, places.offsets, places.running, h_0, c_0[0] if c_0 else steps.c,
        in_panels(p.W_h[:, :split].T), in_panels(p.W_h[:, split:].T), steps.h, steps.c,
        steps.gates, steps.kept, places.pack(d_h), d_state[0], d_state[-1], d_u, h_prev,
    )  # fmt: skip
    d_a = steps.gates
    d_a[:, columns:] = 0
    W_h = transposed_product(h_prev, d_u if kind == cells.GRU else d_a)[:, :columns]
    if kind == cells.GRU_RESET_BEFORE:
        W_h[:, split:] = transposed_product(steps.kept, d_a)[:, split:columns]
    W_x = transposed_product(x, d_a)[:, :columns]
    b_x = d_a.sum(0)[:columns]
    b_h = d_u.sum(0)[:columns] if kind == cells.GRU else b_x.copy()
    d_x = np.empty((len(x), padded(inputs)), np.float32)
    cells.linear(d_a, in_panels(p.W_x.T), np.zeros(padded(inputs), np.float32), d_x)
    gradient = CellParameters(W_x, W_h, b_x, b_h)
    return gradient, places.pad(d_x[:, :inputs]), tuple(d[:, :m] for d in d_state)


def transposed_product(x: Array, w: Array) -> Array:
    """Return x^T w."""
    out = np.zeros((x.shape[1], w.shape[1]), np.float32)
    add_transposed_product(x, w, out)
    return out


def linear(x: Array, weights: Array, bias: Array) -> Array:
    """Return x W + b, where a row has the same bits in every batch."""
    return _linear_by(in_panels(weights), _wide(bias), len(bias))(np.ascontiguousarray(x))


def _wide(bias: Array) -> Array:
    wide = np.zeros(padded(len(bias)), np.float32)
    wide[: len(bias)] = bias
    return wide


def _wide_rows(x: Array) -> Array:
    wide = np.zeros((len(x), padded(x.shape[1])), np.float32)
    wide[:, : x.shape[1]] = x
    return wide


def _linear_by(panels: Array, bias: Array, columns: int) -> Callable[[Array], Array]:
    def compute(x: Array) -> Array:
        out = np.empty((len(x), len(bias)), np.float32)
        cells.linear(x, panels, bias, out)
        return out[:, :columns]

    return compute


def flattened(network: Network, parameters: Parameters) -> tuple[Array, Array]:
    """Return all parameters as one array, and its layout: see `fused.cells.advance`."""
    pieces, sizes = [], []
    for i in range(network.layers):
        (p,) = network.layer(parameters, i)
        layer = layer_panels(network.step_cell, p)
        pieces += [layer.W_x, layer.W_h, layer.W_n, layer.b_x, layer.b_h]
        sizes.append((layer.kind, len(p.W_x), layer.hidden))
    if network.head == "linear":
        W_y, b_y = parameters["head.W_y"], parameters["head.b_y"]
        pieces += [in_panels(W_y), _wide(b_y)]
        sizes.append((1, *W_y.shape))
    else:
        sizes.append((0, 0, 0))
    return np.array(sizes, np.int64), np.concatenate([piece.ravel() for piece in pieces])


def advance(network: Network, parameters: Parameters) -> Callable[..., tuple[Array, Array]]:
    """Return a function that runs packed sequences: see `beam_rnn.nn.kernels.Advance`."""
    sizes, flat = flattened(network, parameters)
    outputs = sizes[-1, 2] if sizes[-1, 0] else sizes[-2, 2]

    def run(state: Array, x: Array, running: Array, every: bool) -> tuple[Array, Array]:
        x = _own(x)
        z, states = cells.advance(sizes, flat, _own(state), x, running, every)
        z = z[:, :outputs]
        return z + network.last_values(x, outputs) if network.residual else z, states

    return run


def _own(x: Array) -> Array:
    """Return the array as the compiled code expects it: float32, contiguous, writable."""
    if x.flags.carray and x.dtype == np.float32:
        return x
    return np.array(x, np.float32, order="C")
