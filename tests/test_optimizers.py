import numpy as np
import pytest

from beam_rnn.errors import ConfigurationError
from beam_rnn.optimizers import Adam, Sgd, clip_by_global_norm, global_norm

OPTIMIZERS = [Sgd(0.1), Sgd(0.05, momentum=0.9), Adam(0.1)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_finds_the_minimum_and_keeps_the_type(optimizer, dtype):
    """The minimum of (w - 3)^2 + 10 (v + 1)^2."""
    parameters = {"w": np.zeros(1, dtype), "v": np.zeros(1, dtype)}
    state = optimizer.init(parameters)
    for _ in range(600):
        gradients = {"w": 2 * (parameters["w"] - 3), "v": 20 * (parameters["v"] + 1)}
        if isinstance(optimizer, Sgd):
            gradients = {k: g * dtype(0.1) for k, g in gradients.items()}
        parameters, state = optimizer.update(gradients, state, parameters)

    np.testing.assert_allclose(parameters["w"], 3, atol=1e-3)
    np.testing.assert_allclose(parameters["v"], -1, atol=1e-3)
    assert parameters["w"].dtype == dtype


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_an_update_changes_none_of_its_arguments(optimizer):
    parameters = {"w": np.ones(3)}
    gradients = {"w": np.full(3, 2.0)}
    for array in (*parameters.values(), *gradients.values()):
        array.flags.writeable = False
    state = optimizer.init(parameters)

    first, after = optimizer.update(gradients, state, parameters)
    again, _ = optimizer.update(gradients, state, parameters)
    optimizer.update(gradients, after, first)

    np.testing.assert_array_equal(first["w"], again["w"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sgd(-1), r"learning_rate must be in \[0, inf\), got -1"),
        (lambda: Sgd(float("nan")), "got nan"),
        (lambda: Sgd(0.1, momentum=1), r"momentum must be in \[0, 1\), got 1"),
        (lambda: Adam(beta2=1.5), "beta2 must be in"),
    ],
)
def test_settings_outside_their_range_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_clipping_by_global_norm():
    gradients = {"a": np.array([3.0]), "b": np.array([[4.0]])}

    assert global_norm(gradients) == 5
    assert global_norm(clip_by_global_norm(gradients, 1)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(clip_by_global_norm(gradients, 6)["b"], gradients["b"])


def test_the_norm_of_large_float32_gradients_does_not_overflow():
    assert global_norm({"a": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30)
