import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn.backprop import backward, forward, initial_states
from beam_rnn.batches import batch_of
from beam_rnn.errors import ConfigurationError
from beam_rnn.losses import LOSSES
from beam_rnn.model import Model
from beam_rnn.network import INITIAL_STATES, MERGES, Network
from tests.gradients import projection_error

CELLS = {
    "rnn-sigmoid": {"cell": "rnn", "activation": "sigmoid"},
    "rnn-tanh": {"cell": "rnn"},
    "rnn-relu": {"cell": "rnn", "activation": "relu"},
    "gru": {"cell": "gru"},
    "gru-reset-before": {"cell": "gru", "reset_after": False},
    "lstm": {"cell": "lstm"},
}
DIRECTIONS = {
    "forward": {},
    **{merge: {"bidirectional": True, "merge": merge} for merge in MERGES},
    "learned": {"initial_state": "learned"},
    "learned-both": {"initial_state": "learned", "bidirectional": True},
}
INPUTS, OUTPUTS = 3, 2


def network_of(cell, direction="forward", **settings):
    return Network(**{"hidden": 4} | CELLS[cell] | DIRECTIONS[direction] | settings)


def noisy_model(network, seed=0, dtype=np.float64):
    """A model whose biases are not zero."""
    random = np.random.default_rng(seed)
    parameters = network.initialize(INPUTS, OUTPUTS, seed, np.float64)
    noisy = {k: (v + 0.3 * random.standard_normal(v.shape)) for k, v in parameters.items()}
    return Model(network, {k: v.astype(dtype) for k, v in noisy.items()})


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("hidden", [4, (3, 5), (4, 2, 3)], ids=str)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lengths", [(6, 6, 6), (6, 4, 1)], ids=["full", "ragged"])
def test_the_gradient_through_time_passes_the_projection_check(
    cell, direction, hidden, residual, loss, lengths
):
    network = network_of(cell, direction, hidden=hidden, residual=residual)
    parameters = noisy_model(network).parameters
    random = np.random.default_rng(1)
    batch = batch_of(
        [
            (random.standard_normal((n, INPUTS)), random.standard_normal((n, OUTPUTS)))
            for n in lengths
        ],
        np.float64,
    )
    weights = (np.arange(6)[:, np.newaxis] < batch.lengths).astype(float)

    def value(at):
        y, _, _ = forward(network, at, batch.x, initial_states(network, at, 3), batch.lengths)
        return LOSSES[loss](y, batch.targets, weights)[0]

    states = initial_states(network, parameters, 3)
    y, _, trace = forward(network, parameters, batch.x, states, batch.lengths)
    _, d_y = LOSSES[loss](y, batch.targets, weights)
    gradient = backward(network, parameters, trace, d_y)

    assert projection_error(value, gradient, parameters) < 1e-6


@settings(deadline=None, max_examples=60)
@given(
    cell=st.sampled_from(list(CELLS)),
    initial_state=st.sampled_from(INITIAL_STATES),
    layers=st.integers(1, 2),
    hidden=st.integers(1, 40),
    dtype=st.sampled_from([np.float32, np.float64]),
    cuts=st.lists(st.integers(1, 11), max_size=4, unique=True),
)
def test_a_sequence_cut_anywhere_and_carried_on_has_the_bits_of_the_whole(
    cell, initial_state, layers, hidden, dtype, cuts
):
    network = network_of(cell, layers=layers, hidden=hidden, initial_state=initial_state)
    model = noisy_model(network, dtype=dtype)
    x = np.random.default_rng(hidden).standard_normal((3, 12, INPUTS)).astype(dtype)
    whole, last = model.run(x)

    state, parts = model.initial_state(3), []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 12]):
        part, state = model.run(x[:, start:stop], initial_state=state)
        parts.append(part)

    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)
    np.testing.assert_array_equal(state, last)


@settings(deadline=None, max_examples=60)
@given(
    cell=st.sampled_from(list(CELLS)),
    direction=st.sampled_from(list(DIRECTIONS)),
    hidden=st.integers(1, 40),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    padding=st.integers(0, 5),
    garbage=st.sampled_from([0.0, 1e30, np.nan, np.inf]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_neighbours_order_and_padding_change_no_bit(
    cell, direction, hidden, lengths, padding, garbage, dtype
):
    model = noisy_model(network_of(cell, direction, layers=2, hidden=hidden), dtype=dtype)
    random = np.random.default_rng(len(lengths))
    time = max(lengths) + padding
    x = np.full((len(lengths), time, INPUTS), garbage, dtype)
    for row, n in zip(x, lengths, strict=True):
        row[:n] = random.standard_normal((n, INPUTS))

    together, states = model.run(x, lengths)

    for i, n in enumerate(lengths):
        alone, state = model.run(x[i : i + 1, :n])
        np.testing.assert_array_equal(together[i, :n], alone[0])
        np.testing.assert_array_equal(together[i, n:], 0)
        np.testing.assert_array_equal(states[i], state[0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_padding_changes_no_gradient(cell, direction):
    network = network_of(cell, direction, layers=2)
    parameters = noisy_model(network).parameters
    random = np.random.default_rng(0)
    pairs = [
        (random.standard_normal((n, INPUTS)), random.standard_normal((n, OUTPUTS))) for n in (7, 3)
    ]

    def gradient(batch):
        weights = (np.arange(len(batch.x))[:, np.newaxis] < batch.lengths).astype(float)
        states = initial_states(network, parameters, len(batch.lengths))
        y, _, trace = forward(network, parameters, batch.x, states, batch.lengths)
        value, d_y = LOSSES["mse"](y, batch.targets, weights)
        return value * weights.sum(), backward(network, parameters, trace, d_y * weights.sum())

    total, together = gradient(batch_of(pairs, np.float64))
    alone = [gradient(batch_of([pair], np.float64)) for pair in pairs]

    assert total == pytest.approx(sum(value for value, _ in alone), abs=1e-12)
    for name in parameters:
        np.testing.assert_allclose(together[name], sum(g[name] for _, g in alone), atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_step_has_the_bits_of_the_forward_pass(cell, dtype):
    network = network_of(cell, hidden=(17, 9), residual=True)
    model = noisy_model(network, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((5, 8, INPUTS)).astype(dtype)
    outputs, last = model.run(x)

    for i in range(5):
        state = model.initial_state()
        for t in range(8):
            state, y = model.step(state, x[i : i + 1, t])
            np.testing.assert_array_equal(y[0], outputs[i, t])
        np.testing.assert_array_equal(state[0], last[i])


def test_the_reverse_direction_sees_each_sequence_backwards():
    """One layer backwards over x is the same layer forwards over x turned round."""
    network = network_of("gru", "concat", hidden=5)
    model = noisy_model(network)
    same = {k: model.parameters[k.replace("reverse.", "")] for k in model.parameters}
    model = Model(network, same)
    x = np.random.default_rng(0).standard_normal((2, 7, INPUTS))
    lengths = np.array([7, 4])
    turned = x.copy()
    for row, n in zip(turned, lengths, strict=True):
        row[:n] = row[:n][::-1]

    _, states = model.run(x, lengths)
    _, states_turned = model.run(turned, lengths)

    np.testing.assert_array_equal(states[:, :5], states_turned[:, 5:])
    np.testing.assert_array_equal(states[:, 5:], states_turned[:, :5])


def test_a_bidirectional_network_does_not_step():
    model = noisy_model(network_of("gru", "sum"))
    with pytest.raises(ConfigurationError, match="cannot step: it needs the whole sequence"):
        model.step(model.initial_state(), np.zeros((1, INPUTS)))
