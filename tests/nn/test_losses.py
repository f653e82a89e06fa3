import math

import numpy as np
import pytest

from beam_rnn.nn.losses import (
    LOSSES,
    binary_cross_entropy,
    cross_entropy,
    gaussian_nll,
    huber,
    mae,
    mse,
    quantile,
)
from beam_rnn.testing import projection_error

ALL = LOSSES | {"quantile": quantile((0.1, 0.5, 0.9))}
NUMBERS_OF_A_TARGET = {"gaussian_nll": 2, "quantile": 3}


def outputs_for(name, *shape, dtype=np.float64, seed=0):
    """Random outputs; the standard deviations among them are above zero."""
    each = NUMBERS_OF_A_TARGET.get(name, 1)
    outputs = np.random.default_rng(seed).standard_normal((*shape[:-1], shape[-1] * each))
    if name == "gaussian_nll":
        outputs[..., 1::2] = np.exp(outputs[..., 1::2])
    return outputs.astype(dtype)


def targets_for(*shape):
    """Probabilities that sum to 1, which every loss can compare with."""
    return np.random.default_rng(1).dirichlet((1,) * shape[-1], shape[:-1])


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_passes_the_projection_check(name):
    outputs, targets = outputs_for(name, 5, 4, 3), targets_for(5, 4, 3)
    weights = np.random.default_rng(2).uniform(0, 2, (5, 4))

    _, gradient = ALL[name](outputs, targets, weights)

    def value(at):
        return ALL[name](at["outputs"], targets, weights)[0]

    assert projection_error(value, {"outputs": gradient}, {"outputs": outputs}) < 1e-6


def test_the_values_are_weighted_means():
    outputs = np.array([[1.0, 2.0], [0.0, 0.0]])
    targets = np.array([[0.0, 5.0], [4.0, 0.0]])
    weights = np.array([3.0, 1.0])

    assert mse(outputs, targets, weights)[0] == pytest.approx((3 * (1 + 9) + 1 * (16 + 0)) / 8)
    assert mae(outputs, targets, weights)[0] == pytest.approx((3 * (1 + 3) + 1 * (4 + 0)) / 8)
    huber_losses = 3 * (0.5 + 2.5) + 1 * (3.5 + 0)
    assert huber(outputs, targets, weights)[0] == pytest.approx(huber_losses / 8)


def test_cross_entropies_are_those_of_the_probabilities():
    z, y = outputs_for("cross_entropy", 6, 3), targets_for(6, 3)
    weights = np.arange(6.0)

    p = 1 / (1 + np.exp(-z))
    binary = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(1)
    assert binary_cross_entropy(z, y, weights)[0] == pytest.approx(np.average(binary, 0, weights))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    categorical = -(y * np.log(p)).sum(1)
    assert cross_entropy(z, y, weights)[0] == pytest.approx(np.average(categorical, 0, weights))


@pytest.mark.parametrize("loss", [binary_cross_entropy, cross_entropy])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropies_of_great_logits_stay_finite(loss, dtype):
    right = np.array([[3e4, -3e4], [-3e4, 3e4]], dtype)
    targets = np.array([[1.0, 0.0], [0.0, 1.0]], dtype)

    with np.errstate(over="raise", invalid="raise"):
        good, gradient = loss(right, targets, np.ones(2))
        bad, other = loss(right[::-1].copy(), targets, np.ones(2))

    assert good == 0
    assert bad > 1e4
    assert np.isfinite(gradient).all()
    assert np.isfinite(other).all()


def test_the_pinball_loss_is_least_at_the_quantile():
    targets = np.random.default_rng(0).gamma(2, size=(4001, 1))
    weights = np.ones(len(targets))
    grid = np.linspace(0, 8, 801)
    for level in (0.1, 0.5, 0.9):
        losses = [quantile([level])(np.full((4001, 1), y), targets, weights)[0] for y in grid]
        assert grid[np.argmin(losses)] == pytest.approx(np.quantile(targets, level), abs=0.01)


def test_quantile_levels_are_adjacent_for_each_target():
    outputs = np.array([[1.0, 2.0, 10.0, 20.0]])  # two targets, two levels each
    targets = np.array([[0.0, 30.0]])

    value, gradient = quantile((0.25, 0.75))(outputs, targets, np.ones(1))

    assert value == pytest.approx((0.75 * 1 + 0.25 * 2 + 0.25 * 20 + 0.75 * 10) / 4)
    np.testing.assert_allclose(gradient, [[0.75 / 4, 0.25 / 4, -0.25 / 4, -0.75 / 4]])


def test_the_gaussian_likelihood_is_that_of_the_density():
    outputs, targets = np.array([[1.0, 2.0]]), np.array([[4.0]])
    density = math.exp(-((4 - 1) ** 2) / (2 * 2**2)) / (2 * math.sqrt(2 * math.pi))

    assert gaussian_nll(outputs, targets, np.ones(1))[0] == pytest.approx(-math.log(density))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_of_weight_zero_does_not_affect_the_loss(name, garbage, dtype):
    outputs = outputs_for(name, 2, 3, dtype=dtype)
    targets = targets_for(2, 3).astype(dtype)
    alone, gradient_alone = ALL[name](outputs[:1], targets[:1], np.ones(1))
    with np.errstate(over="ignore"):
        targets[1] = garbage

    value, gradient = ALL[name](outputs, targets, np.array([1.0, 0.0]))

    assert value == pytest.approx(alone, rel=1e-6)
    np.testing.assert_allclose(gradient[:1], gradient_alone, rtol=1e-6)
    assert not gradient[1].any()
    assert gradient.dtype == dtype


@pytest.mark.parametrize("name", ALL)
def test_the_loss_is_zero_if_all_weights_are_zero(name):
    targets = np.full((2, 3), np.nan)

    value, gradient = ALL[name](outputs_for(name, 2, 3), targets, np.zeros(2))

    assert value == 0
    assert not gradient.any()
