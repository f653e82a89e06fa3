import json

import numpy as np
import pytest

from beam_rnn.errors import ConfigurationError
from beam_rnn.nn.backprop import initial_states
from beam_rnn.nn.network import Network


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
        ({"hidden": (8, 0)}, "hidden must be a whole number of at least 1, got 0"),
        ({"hidden": (8, 4), "layers": 3}, r"hidden=\(8, 4\) lists 2 layers, got layers=3"),
        ({"hidden": "32"}, "hidden must be a whole number of at least 1, got '32'"),
        ({"cell": "lstm", "reset_after": False}, "is for cell='gru' alone, got cell='lstm'"),
        ({"head": "conv"}, "head must be one of linear, none, got 'conv'"),
        ({"initial_state": "random"}, "initial_state must be one of .* got 'random'"),
        ({"merge": "sum"}, "merge='sum' needs bidirectional=True"),
        ({"merge": "max", "bidirectional": True}, "merge must be one of .* got 'max'"),
    ],
)
def test_an_invalid_network_is_refused(arguments, message):
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


@pytest.mark.parametrize(
    "network",
    [
        Network("lstm", hidden=4),
        Network("lstm", hidden=[3, 5], bidirectional=True),
        Network("rnn", hidden=4, layers=2, bidirectional=True, merge="mul"),
    ],
    ids=str,
)
def test_the_state_has_room_for_every_direction_of_every_layer(network):
    states = initial_states(network, network.initialize(1, 1, seed=0), batch=2)

    arrays = [array for state in states for array in state]
    assert sum(array.shape[1] for array in arrays) == network.state_size
    cells = 2 if network.cell == "lstm" else 1
    assert len(arrays) == network.layers * network.directions * cells


@pytest.mark.parametrize(
    ("network", "values"),
    [
        (Network("gru", 8), {"cell": "gru", "hidden": 8}),
        (Network("rnn", 8, layers=2), {"cell": "rnn", "hidden": 8, "layers": 2}),
        (Network("gru", (8, 4)), {"cell": "gru", "hidden": [8, 4]}),
        (
            Network("rnn", 4, activation="relu", bidirectional=True, merge="ave", residual=True),
            {
                "cell": "rnn",
                "hidden": 4,
                "activation": "relu",
                "residual": True,
                "bidirectional": True,
                "merge": "ave",
            },
        ),
    ],
)
def test_json_omits_defaults(network, values):
    """So that a setting that is added later changes no digest."""
    assert network.to_json() == values
    assert Network(**json.loads(json.dumps(values))) == network


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

    assert Network("gru", hidden=5).inputs_and_outputs(parameters) == (2, 1)
    with pytest.raises(ConfigurationError, match=r"layers.0.W_h': \(\(5, 15\), \(6, 18\)\)"):
        Network("gru", hidden=6).inputs_and_outputs(parameters)
    with pytest.raises(ConfigurationError, match=r"must name layers\.0\.W_x and head\.b_y, got"):
        Network("gru").inputs_and_outputs({"weight": np.zeros(3)})


def test_a_residual_network_needs_an_input_for_each_target():
    network = Network("gru", hidden=5, residual=True)

    with pytest.raises(ConfigurationError, match="got 1 inputs for 2 targets"):
        network.inputs_and_outputs(network.initialize(1, 2, seed=0))


def test_the_residual_head_adds_the_input():
    plain, residual = Network("gru", hidden=3), Network("gru", hidden=3, residual=True)
    parameters = plain.initialize(2, 1, seed=0, dtype=np.float64)
    h, x = np.ones((4, 3)), np.arange(8.0).reshape(4, 2)

    change = residual.read_out(parameters, h, x) - plain.read_out(parameters, h, x)

    np.testing.assert_allclose(change, x[:, :1])


def test_the_initial_size_of_symbol_vectors_can_be_set():
    sizes = {"inputs": 2, "outputs": 1, "seed": 0, "symbols": [400]}
    E = Network(embedding=32).initialize(**sizes)["embedding.0.E"]
    small = Network(embedding=32, embedding_deviation=0.1).initialize(**sizes)["embedding.0.E"]

    assert E[1:].std() == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(small, 0.1 * E, rtol=1e-6)
    assert not E[0].any()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gates_that_are_to_remember_keep_a_state_for_as_many_steps(cell):
    network = Network(cell, (40, 32), bidirectional=True, remember=100)
    parameters = network.initialize(2, 1, seed=0)
    gates = network.step_cell.gates

    for name, value in parameters.items():
        if not name.endswith("b_x"):
            continue
        of_gates = value.reshape(gates, -1)
        steps = 1 + np.exp(of_gates[1])  # 1 / (1 - sigmoid(b))
        assert 2 <= steps.min() < 15
        assert 85 < steps.max() < 100
        np.testing.assert_array_equal(of_gates[0], -of_gates[1] if cell == "lstm" else 0)
        assert not of_gates[2:].any()
    assert network.to_json()["remember"] == 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "rnn", "remember": 9}, "remember=9 is for the gates of cell='gru' and 'lstm'"),
        ({"remember": 1}, "remember must be a whole number of at least 2, got 1"),
        ({"embedding_deviation": 0.1}, "it needs an embedding"),
        ({"embedding": 3, "embedding_deviation": -1}, "embedding_deviation must be in"),
    ],
)
def test_settings_of_the_start_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Network(**settings)
