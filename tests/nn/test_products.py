"""Products have the same bits with any number of threads."""

import os
import subprocess
import sys

import numpy as np
import pytest

from beam_rnn import Network
from beam_rnn.nn import kernels
from beam_rnn.nn.backprop import backward, forward, initial_states
from beam_rnn.nn.products import EDGE, matmul, product

SHAPES = [(1, 500, 1500), (3, 2000, 300), (2, 100, 5000), (2, 30_000, 16), (2, 500_001, 1)]
BACKWARD = [(64, 2000, 192), (1000, 32, 700), (65, 65, 65), (1, 3200, 192), (700, 900, 1)]


def matrices(rows, inner, columns, dtype=np.float32):
    random = np.random.default_rng(rows + inner + columns)
    a, b = random.standard_normal((rows, inner)), random.standard_normal((inner, columns))
    return a.astype(dtype), b.astype(dtype)


def of_threads(threads, code):
    """What code prints in a process whose BLAS has so many threads."""
    limits = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"from tests.nn.test_products import *\n{code}"],
        env=os.environ | limits,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


def gradient(kernel):
    """The gradient of a network whose products are larger than one thread makes."""
    network = Network("gru", hidden=64)
    parameters = network.initialize(inputs=3, outputs=1, seed=0)
    x, _ = matrices(90 * 32, 3, 1)
    x, lengths = x.reshape(90, 32, 3), np.full(32, 90)
    states = initial_states(network, parameters, 32)
    kernel = kernels.kernel_of(kernel)
    z, _, trace = forward(network, parameters, x, states, lengths, kernel=kernel)
    return backward(network, parameters, trace, np.ones_like(z), kernel=kernel)


@pytest.mark.parametrize(
    "code",
    [
        "for shape in SHAPES:\n    print(product(*matrices(*shape)).tobytes().hex())",
        "for shape in BACKWARD:\n    print(matmul(*matrices(*shape)).tobytes().hex())",
        "for name, value in gradient('numpy').items():\n    print(name, value.tobytes().hex())",
        "for name, value in gradient('fused').items():\n    print(name, value.tobytes().hex())",
    ],
    ids=["forward", "backward", "gradient by numpy", "gradient by the fused kernel"],
)
def test_the_number_of_threads_changes_no_bit(code):
    assert of_threads("1", code) == of_threads("3", code) != ""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES + BACKWARD)
def test_blocks_give_the_product(shape, dtype):
    a, b = matrices(*shape, dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = (1e-6 if dtype == "float32" else 1e-14) * shape[1]

    for compute in (product, matmul):
        result = compute(a, b)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, exact, atol=bound)


def test_a_row_of_a_large_product_has_the_same_bits_in_every_batch():
    x, weights = matrices(40, 500, 1500)
    rows = [7, 0, 39, 7]

    np.testing.assert_array_equal(product(x[rows], weights), product(x, weights)[rows])


def test_transposed_matrices_and_further_axes_are_multiplied_too():
    a, b = matrices(3 * EDGE, 2 * EDGE, 4 * EDGE)

    np.testing.assert_allclose(matmul(b.T, a.T), (a @ b).T, atol=1e-4)
    np.testing.assert_allclose(
        matmul(a.reshape(3, EDGE, -1), b)[1, 2], (a @ b)[EDGE + 2], atol=1e-4
    )
    assert matmul(a[:0], b).shape == (0, 4 * EDGE)
