"""The fused kernel: the results of numpy, with the same bits in every batch and machine."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from beam_rnn import Model, Network, Training
from beam_rnn.cells import CellParameters
from beam_rnn.core.packed_sequences import running_at
from beam_rnn.errors import ConfigurationError
from beam_rnn.nn import kernels
from beam_rnn.nn.cells import ELMAN, FUSED_CELLS
from beam_rnn.nn.fused import activations
from beam_rnn.nn.fused import compile as compiling
from beam_rnn.nn.fused.layers import KINDS, linear
from beam_rnn.nn.fused.simd import address_of, rowwise
from beam_rnn.nn.kernels import kernel_name, kernel_of
from beam_rnn.training.fit import fit_sequences
from tests.helpers.sequences import wave

ROOT = Path(__file__).parents[2]
CELLS = sorted(KINDS, key=KINDS.get)
SHAPES = [(3, 5, [4, 4]), (4, 40, [9, 6, 6, 2, 1]), (1, 33, [3, 2, 0]), (8, 64, [5] * 130)]


def layer(cell, inputs, hidden, lengths):
    """Parameters, inputs, a state before, and how many run at each step."""
    random = np.random.default_rng(hidden)
    p = CellParameters(
        *(
            (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
            for shape in cell.shapes(inputs, hidden)
        )
    )
    steps = max(lengths)
    running = running_at(np.array(lengths), steps)
    ended = np.arange(steps)[:, np.newaxis] >= lengths
    x = random.standard_normal((steps, len(lengths), inputs)).astype(np.float32)
    x[ended] = 0
    state = tuple(
        (random.standard_normal((len(lengths), hidden)) / 2).astype(np.float32)
        for _ in range(cell.states)
    )
    d_h = random.standard_normal((steps, len(lengths), hidden)).astype(np.float32)
    d_h[ended] = 0
    return p, x, state, running, d_h


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: str(KINDS[cell]))
@pytest.mark.parametrize(("inputs", "hidden", "lengths"), SHAPES)
def test_a_fused_layer_computes_what_the_plain_one_does(cell, inputs, hidden, lengths):
    p, x, state, running, d_h = layer(cell, inputs, hidden, lengths)
    d_last = tuple(np.ones_like(s) for s in state)

    def run(kernel):
        h, last, trace = kernel.layer_forward(cell, p, x, state, running)
        gradient = kernel.layer_backward(cell, p, trace, d_h, d_last, running)
        return [h, *last], [*gradient[0], gradient[1], *gradient[2]]

    plain, fused = run(kernel_of("numpy")), run(kernel_of("fused"))

    if cell is not ELMAN["relu"]:  # which has no bound
        assert np.abs(fused[0][0] - plain[0][0]).max() < 1e-6
    for all_plain, all_fused in zip(plain, fused, strict=True):
        for expected, actual in zip(all_plain, all_fused, strict=True):
            assert np.linalg.norm(actual - expected) <= 2e-6 * np.linalg.norm(expected)


@settings(deadline=None, max_examples=100)
@given(
    rows=st.integers(1, 60),
    inputs=st.integers(0, 600),
    columns=st.integers(1, 200),
    row=st.integers(0, 59),
)
def test_a_row_of_a_product_has_the_same_bits_in_every_batch(rows, inputs, columns, row):
    random = np.random.default_rng(inputs)
    x = random.standard_normal((rows, inputs)).astype(np.float32)
    W = random.standard_normal((inputs, columns)).astype(np.float32)
    b = random.standard_normal(columns).astype(np.float32)
    row %= rows

    together = linear(x, W, b)

    np.testing.assert_array_equal(together[row], linear(x[row : row + 1], W, b)[0])
    bound = (inputs + 1) * 6e-8 * (np.abs(x) @ np.abs(W) + np.abs(b))  # Higham 2002, section 3.1
    assert (np.abs(together - (x.astype(np.float64) @ W + b)) <= bound).all()


def test_the_order_of_additions_is_the_one_that_is_promised():
    """1 is rounded away next to 1e8, so every other order gives another sum."""
    x = np.array([[1e8, 1, -1e8, 1]], np.float32)

    assert linear(x, np.ones((4, 1), np.float32), np.zeros(1, np.float32)) == 1
    assert linear(x[:, ::-1], np.ones((4, 1), np.float32), np.zeros(1, np.float32)) == 0


def test_tanh_and_sigmoid_are_right_to_4e_7():
    x = np.linspace(-20, 20, 1_000_001).astype(np.float32)

    def error(function, expected):
        return np.abs(over_a_row(function)(x) - expected(x.astype(np.float64))).max()

    assert error(activations.tanh, np.tanh) < 4e-7
    assert error(activations.sigmoid, lambda v: 1 / (1 + np.exp(-v))) < 4e-7


def test_tanh_of_nan_is_nan():
    tanh = over_a_row(activations.tanh)
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1e-30], np.float32)

    y = tanh(x)

    assert np.isnan(y[0])
    np.testing.assert_allclose(y[1:], [1, -1, 0, 0, 1e-30], rtol=1e-6)
    np.testing.assert_array_equal(tanh(-x[1:]), -y[1:])


def over_a_row(function):
    row = rowwise(lambda x: (function(x),), inputs=1, outputs=1)

    @njit
    def each(x, y):
        row((address_of(x), address_of(y)), len(x))

    def apply(x):
        y = np.empty_like(x)
        each(x, y)
        return y

    return apply


def test_the_end_of_a_row_has_the_bits_of_its_middle():
    tanh = over_a_row(activations.tanh)
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)

    for length in range(1, 50):
        np.testing.assert_array_equal(tanh(x[:length].copy()), tanh(x)[:length])


BITS = """
import hashlib, sys
import llvmlite.binding as llvm
if sys.argv[1] != "native":
    features = llvm.get_host_cpu_features()
    llvm.get_host_cpu_features = lambda: {**features, "avx512f": False}
import numpy as np
from beam_rnn import Model, Network
from beam_rnn.nn.fused.simd import LANES
random = np.random.default_rng(0)
sha = hashlib.sha256()
for cell in ("gru",):
    network = Network(cell, (40, 33))
    model = Model(network, network.initialize(5, 2, seed=1), kernel="fused")
    for array in model.run(random.standard_normal((9, 20, 5)), np.arange(9) + 3):
        sha.update(array.tobytes())
print(LANES, sha.hexdigest())
"""


def test_a_machine_with_narrower_vectors_gives_the_same_bits(tmp_path):
    def bits(machine, **settings):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / machine), **settings}
        result = subprocess.run(  # noqa: S603
            [sys.executable, "-c", BITS, machine],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stdout.split()

    _, native = bits("native")
    lanes, haswell = bits("haswell", NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx2,+fma")

    assert lanes == "8"
    assert haswell == native


def test_the_best_available_kernel_is_chosen(monkeypatch):
    gru = Network("gru")
    assert kernel_name(gru, np.float32) == "fused"
    assert kernel_name(gru, np.float64) == "numpy"
    assert kernel_name(gru, np.float32, "numpy") == "numpy"
    with pytest.raises(ConfigurationError, match="needs float32 parameters, got float64"):
        kernel_name(gru, np.float64, "fused")
    with pytest.raises(ConfigurationError, match="kernel must be one of"):
        kernel_name(gru, np.float32, "cuda")

    monkeypatch.setattr(kernels, "fused_is_installed", lambda: False)
    assert kernel_name(gru, np.float32) == "numpy"
    with pytest.raises(ConfigurationError, match="pip install 'beam-rnn\\[fast\\]'"):
        kernel_name(gru, np.float32, "fused")


def test_a_custom_cell_uses_the_numpy_kernel(monkeypatch):
    from beam_rnn import cells
    from tests.helpers.minimal_gated_unit import MINIMAL_GATED_UNIT

    monkeypatch.setitem(cells.CELLS, "mgu", MINIMAL_GATED_UNIT)
    assert kernel_name(Network("mgu"), np.float32) == "numpy"
    with pytest.raises(ConfigurationError, match="one of the cells that it has, got cell='mgu'"):
        kernel_name(Network("mgu"), np.float32, "fused")


def test_the_cells_that_have_a_fused_form_are_known_without_numba():
    assert frozenset(KINDS) == FUSED_CELLS


def test_without_a_folder_to_write_to_functions_are_compiled_all_the_same(monkeypatch):
    def nowhere(**settings):
        if settings.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling, "njit", nowhere)

    assert compiling.compiled(abs) is abs


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_training_with_either_kernel_learns_the_same(cell):
    def trained(kernel):
        training = Training(epochs=3, batch_size=2, kernel=kernel)
        return fit_sequences(Network(cell, 6), [wave(), wave(key="b")], training)

    plain, fused = trained("numpy"), trained("fused")

    assert (plain.training["kernel"], fused.training["kernel"]) == ("numpy", "fused")
    assert (plain.kernel, fused.kernel) == ("numpy", "fused")
    assert trained("fused").digest == fused.digest
    np.testing.assert_allclose(
        fused.training["loss_curve"], plain.training["loss_curve"], rtol=1e-4
    )


def test_a_model_changes_its_kernel_and_not_its_digest():
    network = Network("gru", 4)
    model = Model(network, network.initialize(1, 1, seed=0))

    assert (model.kernel, model.with_kernel("numpy").kernel) == ("fused", "numpy")
    assert model.digest == model.with_kernel("numpy").digest
    assert model.astype(np.float64).kernel == "numpy"
