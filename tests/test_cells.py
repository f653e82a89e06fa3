import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn.cells import CELLS, ELMAN, GRU_RESET_BEFORE, CellParameters, product, project, sigmoid
from tests.gradients import projection_error

ALL = {f"rnn-{name}": cell for name, cell in ELMAN.items()} | {
    **{name: cell for name, cell in CELLS.items() if name != "rnn"},
    "gru-reset-before": GRU_RESET_BEFORE,
}
INPUTS, HIDDEN, BATCH = 3, 5, 4


def random_parameters(cell, seed=0):
    random = np.random.default_rng(seed)
    return CellParameters(*(0.5 * random.standard_normal(s) for s in cell.shapes(INPUTS, HIDDEN)))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_of_a_step_passes_the_projection_check(name, seed):
    cell, random = ALL[name], np.random.default_rng(seed)
    p = random_parameters(cell, seed)
    state = tuple(random.standard_normal((BATCH, HIDDEN)) for _ in range(cell.states))
    a = random.standard_normal((BATCH, cell.gates * HIDDEN))
    weights = tuple(random.standard_normal((BATCH, HIDDEN)) for _ in range(cell.states))

    def value(at):
        given_state = tuple(at[f"state{i}"] for i in range(cell.states))
        moved = p._replace(W_h=at["W_h"], b_h=at["b_h"])
        following, _ = cell.forward(moved, given_state, at["a"])
        return sum(float((w * s).sum()) for w, s in zip(weights, following, strict=True))

    _, cache = cell.forward(p, state, a)
    step = cell.backward(p, cache, weights)
    at = {"a": a, "W_h": p.W_h, "b_h": p.b_h}
    at |= {f"state{i}": s for i, s in enumerate(state)}
    gradient = {"a": step.a, "W_h": step.W_h, "b_h": step.b_h}
    gradient |= {f"state{i}": s for i, s in enumerate(step.state)}

    assert projection_error(value, gradient, at, seed) < 1e-6


@pytest.mark.parametrize("name", ELMAN)
def test_the_elman_step_is_its_equation_number_by_number(name):
    """h = f(W_x x + b_x + W_h h + b_h), written as sums over single numbers."""
    cell = ELMAN[name]
    p = random_parameters(cell)
    random = np.random.default_rng(1)
    x, h = random.standard_normal(INPUTS), random.standard_normal(HIDDEN)
    f = {"sigmoid": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh, "relu": lambda v: max(v, 0.0)}

    expected = [
        f[name](
            sum(x[i] * p.W_x[i, j] for i in range(INPUTS))
            + sum(h[i] * p.W_h[i, j] for i in range(HIDDEN))
            + p.b_x[j]
            + p.b_h[j]
        )
        for j in range(HIDDEN)
    ]
    (actual,), _ = cell.forward(p, (h[np.newaxis],), project(p, x[np.newaxis]))

    np.testing.assert_allclose(actual[0], expected, atol=1e-14)


@settings(deadline=None, max_examples=150)
@given(
    inputs=st.integers(1, 130),
    outputs=st.integers(1, 200),
    batch=st.integers(1, 60),
    dtype=st.sampled_from(["float32", "float64"]),
    data=st.data(),
)
def test_a_row_of_a_product_has_the_same_bits_in_every_batch(inputs, outputs, batch, dtype, data):
    random = np.random.default_rng(inputs * outputs)
    x = random.standard_normal((batch, inputs)).astype(dtype)
    weights = random.standard_normal((inputs, outputs)).astype(dtype)
    rows = data.draw(st.lists(st.integers(0, batch - 1), min_size=1, max_size=20))

    np.testing.assert_array_equal(product(x[rows], weights), product(x, weights)[rows])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", [1, 5, 16, 33, 64])
def test_a_row_of_a_step_has_the_same_bits_in_every_batch(name, dtype, hidden):
    cell, random = ALL[name], np.random.default_rng(hidden)
    p = CellParameters(
        *(random.standard_normal(s).astype(dtype) for s in cell.shapes(INPUTS, hidden))
    )
    state = tuple(random.standard_normal((50, hidden)).astype(dtype) for _ in range(cell.states))
    x = random.standard_normal((50, INPUTS)).astype(dtype)

    whole, _ = cell.forward(p, state, project(p, x))
    for rows in ([0], [7], [49], [3, 1], list(range(11, 40))):
        part, _ = cell.forward(p, tuple(s[rows] for s in state), project(p, x[rows]))
        for w, s in zip(whole, part, strict=True):
            assert s.dtype == dtype
            np.testing.assert_array_equal(s, w[rows])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_saturates_without_a_warning(dtype):
    x = np.array([-1e30, -800, -30, 0, 30, 800, 1e30], dtype)

    with np.errstate(all="raise", under="ignore"):
        y = sigmoid(x)

    np.testing.assert_allclose(y, [0, 0, 0, 0.5, 1, 1, 1], atol=1e-7)
    assert y.dtype == dtype
