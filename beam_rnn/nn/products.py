"""Matrix products whose bits do not depend on the number of threads.

Above a certain size BLAS shares a product among threads, which changes the order of its additions.
So a larger product is computed here in blocks below that size, in a fixed order. The sizes are
those of OpenBLAS (`interface/gemv.c`, `interface/gemm.c`): they are lower for Neoverse processors
and before 0.3.27, the version in the wheels of numpy 1.
"""

import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

ARM = platform.machine() in ("arm64", "aarch64")
MOST_WEIGHTS = (
    9_000 if np.lib.NumpyVersion(np.__version__) < "2.0.0" else 24_000 if ARM else 460_000
)
"""The maximum number of weights that one thread multiplies by a vector."""
EDGE = 48 if ARM else 64
"""The edge up to which one thread multiplies two square matrices."""
DEEPEST, WIDEST = 8192, 4096
"""The maximum rows and columns of a block of weights: one thread adds up to 10,000 terms."""


def product(x: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Return x @ weights, where a row of x has the same bits in every batch.

    In BLAS the order of additions of a row depends on the size of the batch and on the place
    of the row. So each row is a separate product here: numpy makes one vector-matrix product
    of each matrix in a stack. Exact equality was observed for float32 and float64, 548 shapes,
    and the OpenBLAS kernels Prescott, Sandy Bridge, Haswell, Zen and SkylakeX, where the plain
    product differed on every one of them.

    Args:
        x: (batch, inputs).
        weights: (inputs, outputs).

    Returns:
        (batch, outputs).
    """
    rows = np.ascontiguousarray(x)[:, np.newaxis, :]
    inputs, outputs = weights.shape
    if weights.size <= MOST_WEIGHTS and inputs <= DEEPEST:
        return np.matmul(rows, weights)[:, 0, :]
    width = min(outputs, WIDEST)
    depth = min(MOST_WEIGHTS // width, DEEPEST)
    out = np.empty((len(x), 1, outputs), np.result_type(x, weights))
    for left in range(0, outputs, width):
        block = weights[:, left : left + width]
        columns = out[..., left : left + width]
        np.matmul(rows[..., :depth], block[:depth], out=columns)
        for top in range(depth, inputs, depth):
            columns += np.matmul(rows[..., top : top + depth], block[top : top + depth])
    return out[:, 0, :]


def matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return a @ b for the backward pass, where rows may have other bits in another batch.

    Args:
        a: (..., rows, inner).
        b: (inner, columns).

    Returns:
        (..., rows, columns).
    """
    if a.ndim > 2:
        return matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
    (rows, inner), columns = a.shape, b.shape[1]
    if rows == 1:
        return product(a, b)
    if columns == 1:
        return product(b.T, a.T).T
    if rows * inner * columns <= EDGE**3:
        return np.matmul(a, b)
    height, depth = min(rows, EDGE), min(inner, EDGE)
    width = min(columns, EDGE**3 // (height * depth))
    depth = min(inner, EDGE**3 // (height * width))
    height = min(rows, EDGE**3 // (depth * width))
    out = np.empty((rows, columns), np.result_type(a, b))
    for i in _parts(rows, height):
        for j in _parts(columns, width):
            block = out[i, j]
            first, *others = _parts(inner, depth)
            np.matmul(a[i, first], b[first, j], out=block)
            for k in others:
                block += np.matmul(a[i, k], b[k, j])
    return out


def _parts(size: int, most: int) -> Iterator[slice]:
    """Split a range into parts of about equal size, at most `most`."""
    parts = -(-size // most)
    for i in range(parts):
        yield slice(size * i // parts, size * (i + 1) // parts)
