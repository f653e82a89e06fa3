import numpy as np
import pytest

from beam_rnn.losses import LOSSES, huber, mae, mse
from tests.gradients import projection_error


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_passes_the_projection_check(name):
    random = np.random.default_rng(0)
    outputs, targets = random.standard_normal((2, 5, 4, 3))
    weights = random.uniform(0, 2, (5, 4))

    _, gradient = LOSSES[name](outputs, targets, weights)

    def value(at):
        return LOSSES[name](at["outputs"], targets, weights)[0]

    assert projection_error(value, {"outputs": gradient}, {"outputs": outputs}) < 1e-6


def test_the_values_are_weighted_means():
    outputs = np.array([[1.0, 2.0], [0.0, 0.0]])
    targets = np.array([[0.0, 5.0], [4.0, 0.0]])
    weights = np.array([3.0, 1.0])

    assert mse(outputs, targets, weights)[0] == pytest.approx((3 * (1 + 9) + 1 * (16 + 0)) / 8)
    assert mae(outputs, targets, weights)[0] == pytest.approx((3 * (1 + 3) + 1 * (4 + 0)) / 8)
    huber_losses = 3 * (0.5 + 2.5) + 1 * (3.5 + 0)
    assert huber(outputs, targets, weights)[0] == pytest.approx(huber_losses / 8)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_has_no_weight_counts_for_nothing(name, garbage, dtype):
    outputs = np.array([[1.0], [2.0]], dtype)
    with np.errstate(over="ignore"):
        targets = np.array([[0.0], [garbage]]).astype(dtype)

    value, gradient = LOSSES[name](outputs, targets, np.array([1.0, 0.0]))

    assert value == (0.5 if name == "huber" else 1)
    assert gradient[1] == 0
    assert gradient.dtype == dtype
