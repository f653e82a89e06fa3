import math

import numpy as np
import pytest

from beam_rnn.errors import ConfigurationError
from beam_rnn.nn.optimizers import (
    Adam,
    AdamW,
    RmsProp,
    Sgd,
    clip_by_global_norm,
    clip_by_value,
    global_norm,
)
from beam_rnn.nn.schedules import StepDecay

OPTIMIZERS = [
    Sgd(0.02),
    Sgd(0.005, momentum=0.9),
    Sgd(0.005, momentum=0.9, nesterov=True),
    RmsProp(StepDecay(0.1, every=100)),
    RmsProp(StepDecay(0.02, every=100), momentum=0.8),
    Adam(0.1),
    AdamW(0.1, weight_decay=0.0),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_finds_the_minimum_and_keeps_the_type(optimizer, dtype):
    """The minimum of (w - 3)^2 + 10 (v + 1)^2."""
    parameters = {"w": np.zeros(1, dtype), "v": np.zeros(1, dtype)}
    state = optimizer.init(parameters)
    for _ in range(600):
        gradients = {"w": 2 * (parameters["w"] - 3), "v": 20 * (parameters["v"] + 1)}
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
        (lambda: Sgd(-1), "learning_rate must be a number of at least 0 or a schedule, got -1"),
        (lambda: Sgd(float("nan")), "got nan"),
        (lambda: Sgd("fast"), "got 'fast'"),
        (lambda: Sgd(0.1, nesterov=True), "nesterov=True needs a momentum above 0"),
        (lambda: RmsProp(decay=1.0), r"decay must be in \[0, 1\), got 1.0"),
        (lambda: AdamW(weight_decay=-0.1), r"weight_decay must be in \[0, inf\), got -0.1"),
        (lambda: Sgd(0.1, momentum=1), r"momentum must be in \[0, 1\), got 1"),
        (lambda: Adam(beta2=1.5), "beta2 must be in"),
    ],
)
def test_settings_outside_their_range_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


GRADIENTS = [1.0, -0.5, 2.0, 0.25, -1.5]


def by_hand(kind, eta=0.1, mu=0.9, decay=0.2, rho=0.95, epsilon=1e-8):
    """One parameter through five updates, its equations written out number by number."""
    w, v, s, m = 1.0, 0.0, 0.0, 0.0
    for t, gradient in enumerate(GRADIENTS, 1):
        g = gradient + decay * w
        if kind == "nesterov":
            v = mu * v + g
            w -= eta * (g + mu * v)
        elif kind == "rmsprop":
            s = rho * s + (1 - rho) * g**2
            v = mu * v + g / (math.sqrt(s) + epsilon)
            w -= eta * v
        elif kind == "adam":
            m = 0.9 * m + 0.1 * g
            s = 0.999 * s + 0.001 * g**2
            w -= eta * (m / (1 - 0.9**t)) / (math.sqrt(s / (1 - 0.999**t)) + epsilon)
        else:
            w -= eta * decay * w
            m = 0.9 * m + 0.1 * gradient
            s = 0.999 * s + 0.001 * gradient**2
            w -= eta * (m / (1 - 0.9**t)) / (math.sqrt(s / (1 - 0.999**t)) + epsilon)
    return w


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [
        ("nesterov", Sgd(0.1, momentum=0.9, nesterov=True, weight_decay=0.2)),
        ("rmsprop", RmsProp(0.1, decay=0.95, momentum=0.9, weight_decay=0.2)),
        ("adam", Adam(0.1, weight_decay=0.2)),
        ("adamw", AdamW(0.1, weight_decay=0.2)),
    ],
)
def test_the_updates_are_the_equations(kind, optimizer):
    parameters = {"w": np.array([1.0])}
    state = optimizer.init(parameters)
    for g in GRADIENTS:
        parameters, state = optimizer.update({"w": np.array([g])}, state, parameters)

    assert parameters["w"][0] == pytest.approx(by_hand(kind), rel=1e-12)


@pytest.mark.parametrize(
    "make", [Sgd, RmsProp, Adam, AdamW, lambda rate: Sgd(rate, momentum=0.5, nesterov=True)]
)
def test_a_schedule_gives_the_rate_of_each_update(make):
    """Where the rate is 0 nothing moves, and the count goes on."""
    optimizer = make(lambda update: 0.0 if update < 2 else 0.1)
    parameters = {"w": np.array([1.0])}
    state = optimizer.init(parameters)
    path = []
    for _ in range(4):
        parameters, state = optimizer.update({"w": np.array([1.0])}, state, parameters)
        path.append(float(parameters["w"][0]))

    assert path[:2] == [1, 1]
    assert path[2] < 1
    assert path[3] < path[2]


def test_clipping_by_value():
    clipped = clip_by_value({"a": np.array([-3.0, 0.5, 2.0])}, 1.0)

    np.testing.assert_array_equal(clipped["a"], [-1, 0.5, 1])


def test_clipping_by_global_norm():
    gradients = {"a": np.array([3.0]), "b": np.array([[4.0]])}

    assert global_norm(gradients) == 5
    assert global_norm(clip_by_global_norm(gradients, 1)) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(clip_by_global_norm(gradients, 6)["b"], gradients["b"])


def test_the_norm_of_large_float32_gradients_does_not_overflow():
    assert global_norm({"a": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30)
