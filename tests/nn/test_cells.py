import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn.cells import CellParameters, project, sigmoid
from beam_rnn.nn.cells import ELMAN
from beam_rnn.nn.output_functions import OUTPUTS
from beam_rnn.nn.products import product

INPUTS, HIDDEN = 3, 5


def random_parameters(cell, seed=0):
    random = np.random.default_rng(seed)
    return CellParameters(*(0.5 * random.standard_normal(s) for s in cell.shapes(INPUTS, HIDDEN)))


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sigmoid_saturates_without_a_warning(dtype):
    x = np.array([-1e30, -800, -30, 0, 30, 800, 1e30], dtype)

    with np.errstate(all="raise", under="ignore"):
        y = sigmoid(x)

    np.testing.assert_allclose(y, [0, 0, 0, 0.5, 1, 1, 1], atol=1e-7)
    assert y.dtype == dtype


@settings(deadline=None, max_examples=100)
@given(
    length=st.integers(1, 70),
    before=st.integers(0, 20),
    stride=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
)
@pytest.mark.parametrize("function", [np.exp, np.tanh, np.log1p, sigmoid])
def test_an_activation_has_the_same_bits_at_every_position(function, length, before, stride, dtype):
    """Vectorised values and the remainder of a row are computed in the same way."""
    numbers = np.abs(3 * np.random.default_rng(length).standard_normal(length)).astype(dtype)
    rows = np.zeros((2, stride * length + before), dtype)
    rows[1, before::stride] = numbers

    alone = [function(np.array([number], dtype))[0] for number in numbers]
    np.testing.assert_array_equal(function(rows[:, before::stride])[1], alone)


@pytest.mark.parametrize("classes", [9, 17, 130])
def test_the_layout_of_a_batch_changes_no_bit_of_a_softmax(classes):
    z = np.random.default_rng(classes).standard_normal((40, classes)).astype(np.float32)
    softmax = OUTPUTS["softmax"].forward

    alone = np.concatenate([softmax(row[np.newaxis]) for row in z])
    np.testing.assert_array_equal(softmax(z), alone)
    np.testing.assert_array_equal(softmax(np.asfortranarray(z)), alone)
