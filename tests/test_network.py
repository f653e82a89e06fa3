import numpy as np
import pytest

from beam_rnn.errors import ConfigurationError
from beam_rnn.network import Network


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "transformer"}, "cell must be one of rnn, gru, lstm, got 'transformer'"),
        ({"cell": "rnn", "activation": "gelu"}, "activation must be one of .* got 'gelu'"),
        ({"cell": "gru", "activation": "relu"}, "activation='relu' is for cell='rnn' alone"),
        ({"hidden": 0}, "hidden must be a whole number of at least 1, got 0"),
        ({"hidden": 8.0}, "got 8.0"),
        ({"layers": True}, "layers must be a whole number of at least 1, got True"),
        ({"residual": 1}, "residual must be True or False, got 1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Network(**arguments)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_recurrent_weights_start_orthogonal_gate_by_gate(cell):
    network = Network(cell, hidden=16, layers=2)
    parameters = network.initialize(3, 1, seed=1, dtype=np.float64)

    for i in range(2):
        W_h = parameters[f"layers.{i}.W_h"]
        for gate in np.split(W_h, network.step_cell.gates, axis=1):
            np.testing.assert_allclose(gate @ gate.T, np.eye(16), atol=1e-12)


def test_the_forget_gate_starts_open_and_other_biases_at_zero():
    parameters = Network("lstm", hidden=4).initialize(2, 1, seed=0)

    np.testing.assert_array_equal(parameters["layers.0.b_x"], [0] * 4 + [1] * 4 + [0] * 8)
    np.testing.assert_array_equal(parameters["layers.0.b_h"], 0)


def test_the_seed_decides_the_parameters():
    network = Network("gru", hidden=5)

    first, same, other = (network.initialize(2, 1, seed) for seed in (7, 7, 8))

    assert all(np.array_equal(first[k], same[k]) for k in first)
    assert not np.array_equal(first["layers.0.W_x"], other["layers.0.W_x"])


def test_parameters_of_another_network_are_refused_with_the_shapes():
    parameters = Network("gru", hidden=5).initialize(2, 1, seed=0)

    assert Network("gru", hidden=5).sizes(parameters) == (2, 1)
    with pytest.raises(ConfigurationError, match=r"layers.0.W_h': \(\(5, 15\), \(6, 18\)\)"):
        Network("gru", hidden=6).sizes(parameters)
    with pytest.raises(ConfigurationError, match=r"must name layers\.0\.W_x and head\.b_y, got"):
        Network("gru").sizes({"weight": np.zeros(3)})


def test_a_residual_network_needs_an_input_for_each_output():
    network = Network("gru", hidden=5, residual=True)

    with pytest.raises(ConfigurationError, match="got 1 inputs for 2 outputs"):
        network.sizes(network.initialize(1, 2, seed=0))


def test_the_residual_head_adds_the_input():
    plain, residual = Network("gru", hidden=3), Network("gru", hidden=3, residual=True)
    parameters = plain.initialize(2, 1, seed=0, dtype=np.float64)
    h, x = np.ones((4, 3)), np.arange(8.0).reshape(4, 2)

    change = residual.head(parameters, h, x) - plain.head(parameters, h, x)

    np.testing.assert_allclose(change, x[:, :1])
