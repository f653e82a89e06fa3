"""The matrix product of the fused cells, with a fixed order of additions.

out[i, j] = (...((out[i, j] + x[i, 0] w[0, j]) + x[i, 1] w[1, j]) + ...), each multiplication and
addition rounded once (fused multiply-add, IEEE 754). The order does not depend on the number
of rows, the place of a row, or the width of the vectors of the machine: a row has the same bits in
every batch and on every machine. A BLAS guarantees neither.

It is fast because a tile of rows x columns of `out` stays in vector registers while k runs (Goto
and van de Geijn 2008). The tile is written in LLVM instructions, since a compiler does not derive
it from loops over arrays.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable

from beam_rnn.core.arrays import Array
from beam_rnn.nn.fused.compile import compiled
from beam_rnn.nn.fused.simd import FLOAT, LANES, address_of

PANEL = 2 * LANES
"""Columns of a tile: as many as two vectors hold."""
ROWS = 12 if LANES == 16 else 6
"""Rows of a tile: its sums, a row of w and a number of x fill the vector registers."""
_DEPTH = 512  # of k before the next rows: this part of a panel stays in the L1 cache


def _tile(rows: int, panels: int = 1) -> Any:
    """Return the compiled function of a tile of that many rows and panels of columns."""

    @intrinsic
    def tile(_, x, across, down, w, stride, further, out, to, k):
        """out[:rows] += x[:rows, :k] w[:k]: addresses, and strides in numbers.

        From x, `across` to the next k and `down` to the next row; from w, `stride` to the next
        k and `further` to the next panel; from out, `to` the next row.
        """
        address = number = types.intp
        signature = types.void(
            address, number, number, address, number, number, address, number, number
        )

        def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
            _write_tile(builder, rows, panels, *arguments)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _write_tile(
    b: ir.IRBuilder, rows: int, panels: int, x: Any, across: Any, down: Any, w: Any, stride: Any,
    further: Any, out: Any, to: Any, k: Any,
) -> None:  # fmt: skip
    """Write the instructions of a tile: load its sums, add the products for each k, store."""
    whole, number = ir.IntType(64), ir.FloatType()
    vector = ir.VectorType(number, LANES)
    places = ir.VectorType(ir.IntType(32), LANES)
    fma = cgutils.get_or_insert_function(
        b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32"
    )
    columns = [(panel, part) for panel in range(panels) for part in range(PANEL // LANES)]
    tile = [(row, column) for row in range(rows) for column in range(len(columns))]

    def at(base: Any, index: Any, kind: Any) -> Any:
        address = b.add(base, b.mul(index, whole(FLOAT)))
        return b.inttoptr(address, kind.as_pointer())

    def everywhere(value: Any) -> Any:
        first = b.insert_element(vector(ir.Undefined), value, ir.IntType(32)(0))
        return b.shuffle_vector(first, vector(ir.Undefined), places([0] * LANES))

    targets = [
        at(out, b.add(b.mul(whole(row), to), whole(column * LANES)), vector) for row, column in tile
    ]
    before = [b.load(target, align=FLOAT) for target in targets]
    entry, loop, done = b.block, b.append_basic_block("k"), b.append_basic_block("done")
    b.cbranch(b.icmp_signed(">", k, whole(0)), loop, done)

    b.position_at_end(loop)
    i = b.phi(whole)
    sums = [b.phi(vector) for _ in tile]
    row_of_w = b.mul(i, stride)
    of_w = []
    for panel, part in columns:
        place = b.add(row_of_w, b.add(b.mul(whole(panel), further), whole(part * LANES)))
        of_w.append(b.load(at(w, place, vector), align=FLOAT))
    column_of_x = b.mul(i, across)
    of_x = [
        everywhere(b.load(at(x, b.add(b.mul(whole(row), down), column_of_x), number)))
        for row in range(rows)
    ]
    added = [
        b.call(fma, [of_x[row], of_w[column], total])
        for (row, column), total in zip(tile, sums, strict=True)
    ]
    following = b.add(i, whole(1))
    b.cbranch(b.icmp_signed("<", following, k), loop, done)
    i.add_incoming(whole(0), entry)
    i.add_incoming(following, loop)
    for total, start, after in zip(sums, before, added, strict=True):
        total.add_incoming(start, entry)
        total.add_incoming(after, loop)

    b.position_at_end(done)
    results = []
    for start, after in zip(before, added, strict=True):
        result = b.phi(vector)
        result.add_incoming(start, entry)
        result.add_incoming(after, loop)
        results.append(result)
    for result, target in zip(results, targets, strict=True):
        b.store(result, target, align=FLOAT)


_tile_of_many, _tile_of_four, _tile_of_one = _tile(ROWS), _tile(4), _tile(1)
_wide_tile_of_one = _tile(1, panels=4)  # enough independent sums to hide their latency


@compiled
def _add(x, across, down, w, stride, further, out, to, rows, k, panels):
    """Add the product tile by tile; the arguments are those of a tile."""
    blocked = rows // ROWS * ROWS
    fours = blocked + (rows - blocked) // 4 * 4
    for panel in range(panels):
        of_w, of_out = w + panel * further * 4, out + panel * PANEL * 4
        for i in range(0, blocked, ROWS):
            _tile_of_many(
                x + i * down * 4, across, down, of_w, stride, 0, of_out + i * to * 4, to, k
            )
        for i in range(blocked, fours, 4):
            _tile_of_four(
                x + i * down * 4, across, down, of_w, stride, 0, of_out + i * to * 4, to, k
            )
    for i in range(fours, rows):
        of_x, of_out = x + i * down * 4, out + i * to * 4
        panel = 0
        while panel + 4 <= panels:
            of_w = w + panel * further * 4
            _wide_tile_of_one(
                of_x, across, down, of_w, stride, further, of_out + panel * PANEL * 4, to, k
            )
            panel += 4
        while panel < panels:
            of_w = w + panel * further * 4
            _tile_of_one(of_x, across, down, of_w, stride, 0, of_out + panel * PANEL * 4, to, k)
            panel += 1


@compiled
def add_product(x, panels, out, rows):
    """Add to out[:rows] the product x[:rows] W, where `panels` is `in_panels(W)`.

    Args:
        x: (n, k) float32, each row contiguous.
        panels: (panels, k, PANEL).
        out: (n, panels * PANEL) float32, each row contiguous.
        rows: The number of rows.
    """
    k = panels.shape[1]
    down, to = x.strides[0] // 4, out.strides[0] // 4
    for start in range(0, k, _DEPTH):
        w = address_of(panels) + start * PANEL * 4
        depth = min(_DEPTH, k - start)
        _add(
            address_of(x) + start * 4, 1, down, w, PANEL, k * PANEL, address_of(out), to,
            rows, depth, panels.shape[0],
        )  # fmt: skip


@compiled
def add_transposed_product(x, w, out):
    """Add x^T w to out, over many rows: the gradient of a weight.

    Args:
        x: (n, rows) float32, each row contiguous.
        w: (n, columns) float32, each row contiguous; columns a multiple of PANEL.
        out: (rows, columns) float32.
    """
    n, rows = x.shape
    across, stride, to = x.strides[0] // 4, w.strides[0] // 4, out.strides[0] // 4
    for start in range(0, n, _DEPTH // 2):
        depth = min(_DEPTH // 2, n - start)
        _add(
            address_of(x) + start * across * 4, across, 1, address_of(w) + start * stride * 4,
            stride, PANEL, address_of(out), to, rows, depth, w.shape[1] // PANEL,
        )  # fmt: skip


@register_jitable
def padded(columns: int) -> int:
    """Return a number of columns, rounded up to whole panels."""
    return -(-columns // PANEL) * PANEL


def in_panels(weights: Array) -> Array:
    """Return weights (k, columns) as panels for `add_product`: (panels, k, PANEL), zero-padded."""
    k, columns = weights.shape
    panels = np.zeros((padded(columns) // PANEL, k, PANEL), np.float32)
    for panel, start in zip(panels, range(0, columns, PANEL), strict=True):
        panel[:, : columns - start] = weights[:, start : start + PANEL]
    return panels
