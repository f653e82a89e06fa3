import numpy as np
import pytest

from beam_rnn import Bptt, Columns, Training
from beam_rnn.data.sequences import Sequence
from beam_rnn.errors import ConfigurationError
from beam_rnn.horizon import GradientHorizon, gradient_horizon, loss_by_steps, plot_horizon
from beam_rnn.models.model import Model
from beam_rnn.nn.network import Network


def model_of(network, inputs=2, seed=0, scale=None):
    parameters = network.initialize(inputs, 1, seed, np.float64)
    if scale is not None:
        parameters = {k: v * (scale if k.endswith("W_h") else 1) for k, v in parameters.items()}
    return Model(network, parameters)


def norms_by_differences(model, x, steps):
    """dh_t / ds_{t-k} column by column, from two runs on either side of each number of s."""
    time, m = x.shape[1], model.network.sizes[-1]
    each = model.network.step_cell.states
    h = slice(model.network.state_size - each * m, model.network.state_size - (each - 1) * m)
    norms = []
    for k in range(steps + 1):
        before = model.initial_state()
        if time - k:
            _, before = model.run(x[:, : time - k])
        square = 0.0
        for i in range(len(before[0])):
            ends = []
            for side in (1e-6, -1e-6):
                moved = before.copy()
                moved[0, i] += side
                end = model.run(x[:, time - k :], initial_state=moved)[1] if k else moved
                ends.append(end[0, h])
            square += (((ends[0] - ends[1]) / 2e-6) ** 2).sum()
        norms.append(np.sqrt(square / m))
    return norms


@pytest.mark.parametrize(
    "network",
    [
        Network("rnn", 4),
        Network("rnn", 4, activation="relu"),
        Network("gru", 5),
        Network("gru", 3, reset_after=False),
        Network("lstm", 4),
        Network("gru", (4, 3)),
        Network("lstm", (3, 5, 4)),
    ],
    ids=lambda network: str(network.to_json()),
)
def test_the_norms_are_those_of_finite_differences(network):
    model = model_of(network)
    x = np.random.default_rng(1).standard_normal((1, 9, 2))

    # Only one place has 8 steps before it: the last.
    horizon = gradient_horizon(model, x, steps=8)

    np.testing.assert_allclose(horizon.norms, norms_by_differences(model, x, 8), rtol=1e-5)


def test_an_orthogonal_linear_network_keeps_its_gradient_and_a_shrunk_one_loses_it():
    """ReLU units that are all on are linear: the gradient is the power of W_h."""
    network = Network("rnn", 6, activation="relu")
    x = np.zeros((1, 30, 1))

    def all_on(scale):
        parameters = network.initialize(1, 1, 0, np.float64)
        parameters["layers.0.W_h"] = scale * np.eye(6)
        parameters["layers.0.b_h"] = np.ones(6)
        return Model(network, parameters)

    kept = gradient_horizon(all_on(1.0), x, steps=20)
    shrunk = gradient_horizon(all_on(0.5), x, steps=20)

    np.testing.assert_allclose(kept.norms, 1)
    assert kept.recommended_steps == 20
    np.testing.assert_allclose(shrunk.norms, 0.5 ** np.arange(21))
    assert shrunk.recommended_steps == 7  # 2^-7 is the first below 1 %


def test_gates_reach_further_than_a_sigmoid():
    x = np.random.default_rng(0).standard_normal((4, 80, 2))
    reach = {
        cell: gradient_horizon(model_of(Network(cell, 16, activation=f)), x, steps=64)
        for cell, f in (("rnn", "sigmoid"), ("gru", "tanh"), ("lstm", "tanh"))
    }

    steps = {cell: horizon.recommended_steps for cell, horizon in reach.items()}
    assert steps["rnn"] < 8
    assert steps["gru"] > 2 * steps["rnn"]
    assert steps["lstm"] > 2 * steps["rnn"]


def test_the_loss_for_each_k():
    columns = Columns(key="id", inputs=["x"])
    values = np.sin(np.arange(61) / 3)[:, np.newaxis]
    sequence = Sequence(columns, "a", np.arange(60), values[:-1], values[1:], 60)
    training = Training(epochs=3, bptt=Bptt(steps=2))

    losses = loss_by_steps(Network("gru", 4), [sequence], training, steps=[1, 5, 60])

    assert list(losses) == [1, 5, 60]
    assert len(set(losses.values())) == 3
    assert all(loss > 0 for loss in losses.values())


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (Network("gru", 3, bidirectional=True), (1, 90, 2), "got bidirectional"),
        (Network("gru", 3), (1, 64, 2), r"more than steps=64 steps, got \(1, 64, 2\)"),
        (Network("gru", 3), (90, 2), r"got \(90, 2\)"),
    ],
)
def test_a_network_without_a_gradient_horizon_is_refused(network, shape, message):
    with pytest.raises(ConfigurationError, match=message):
        gradient_horizon(model_of(network), np.zeros(shape))


def test_a_picture(tmp_path):
    horizon = GradientHorizon(0.5 ** np.arange(10), 7)

    plot_horizon({"GRU": horizon, "Elman": horizon}, tmp_path / "horizon.png")

    assert (tmp_path / "horizon.png").read_bytes().startswith(b"\x89PNG")
