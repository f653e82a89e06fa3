import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn.data.sequences import Example, batch_of
from beam_rnn.errors import ConfigurationError
from beam_rnn.models.model import Model
from beam_rnn.nn.backprop import backward, forward, initial_states
from beam_rnn.nn.bptt import judged
from beam_rnn.nn.dropout import Dropout, draw
from beam_rnn.nn.losses import LOSSES, objective
from beam_rnn.nn.network import INITIAL_STATES, MERGES, OUTPUT_STEPS, Network
from beam_rnn.nn.output_functions import OUTPUTS
from beam_rnn.testing import projection_error

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
INPUTS, TARGETS = 3, 2
NO_DROPOUT, DROPOUT = Dropout(), Dropout(inputs=0.3, layers=0.4, recurrent=0.5)


HEADS = [(output, loss) for output, g in OUTPUTS.items() for loss in g.losses]
TYPES = {"float64": 1e-6, "float32": 1e-3}


def network_of(cell, direction="forward", **settings):
    return Network(**{"hidden": 4} | CELLS[cell] | DIRECTIONS[direction] | settings)


NUMBERS = [(np.float32, "numpy"), (np.float32, "fused"), (np.float64, "numpy")]


def noisy_model(network, seed=0, dtype=np.float64):
    """A model whose biases are not zero."""
    random = np.random.default_rng(seed)
    outputs = TARGETS * network.horizons * len(network.parts)
    parameters = network.initialize(INPUTS, outputs, seed, np.float64)
    noisy = {k: 0.8 * (v + 0.2 * random.standard_normal(v.shape)) for k, v in parameters.items()}
    return Model(network, {k: v.astype(dtype) for k, v in noisy.items()})


def batch_for(network, lengths, dtype, weighted):
    """Random sequences, with targets that any loss can compare with."""
    random = np.random.default_rng(1)
    examples = []
    for n in lengths:
        targets = random.dirichlet((1,) * TARGETS, (n, network.horizons))
        weights = random.integers(0, 3, (n, network.horizons)).astype(float) if weighted else None
        x = 0.5 * random.standard_normal(
            (n, INPUTS)
        )  # nothing saturates, which float32 cannot tell
        examples.append(Example(x, targets.reshape(n, -1), weights))
    return batch_of(examples, dtype)


def gradient_error(network, loss, *, lengths, weighted, dropout, dtype):
    """The error of the gradient of a whole network along a random direction."""
    model = noisy_model(network, dtype=dtype)
    batch = batch_for(network, lengths, dtype, weighted)
    counts = (np.arange(len(batch.x))[:, np.newaxis] < batch.lengths).astype(float)
    targets, weights = judged(network, batch, 0, len(batch.x), counts)
    random = np.random.default_rng(2)
    masks = draw(dropout, network, INPUTS, len(lengths), random, dtype)
    of_z = objective(network, loss)

    def run(at, x):
        states = initial_states(network, at, len(lengths))
        z, _, trace = forward(network, at, x, states, batch.lengths, masks)
        return *of_z(z, targets, weights), trace

    _, d_z, trace = run(model.parameters, batch.x)
    gradient = backward(network, model.parameters, trace, d_z)
    assert all(g.dtype == dtype for g in gradient.values())
    wide = batch.x.astype(np.float64)
    return projection_error(lambda at: run(at, wide)[0], gradient, model.parameters)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("hidden", [4, (3, 5)], ids=str)
def test_the_gradient_of_every_network_passes_the_projection_check(cell, direction, hidden):
    """Head and loss, on every step or the last, masks, dropout, type: all with all."""
    wrong = {}
    for choice in itertools.product(
        HEADS, OUTPUT_STEPS, ["full", "ragged and weighted"], [NO_DROPOUT, DROPOUT], TYPES
    ):
        (output, loss), output_steps, form, dropout, dtype = choice
        network = network_of(
            cell, direction, hidden=hidden, output=output, output_steps=output_steps
        )
        error = gradient_error(
            network,
            loss,
            lengths=(4, 4, 4) if form == "full" else (4, 3, 1),
            weighted=form != "full",
            dropout=dropout,
            dtype=dtype,
        )
        if not error < TYPES[dtype]:
            wrong[choice] = error
    assert not wrong


@pytest.mark.parametrize("output", [name for name, g in OUTPUTS.items() if g.scaled])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("output_steps", OUTPUT_STEPS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_with_several_horizons_and_layers(output, residual, output_steps, cell):
    network = network_of(
        cell,
        hidden=(4, 2, 3),
        output=output,
        residual=residual,
        output_steps=output_steps,
        horizons=3,
    )

    error = gradient_error(
        network, None, lengths=(6, 4, 1), weighted=True, dropout=DROPOUT, dtype="float64"
    )

    assert error < TYPES["float64"]


@settings(deadline=None, max_examples=60)
@given(
    cell=st.sampled_from(list(CELLS)),
    initial_state=st.sampled_from(INITIAL_STATES),
    layers=st.integers(1, 2),
    hidden=st.integers(1, 40),
    numbers=st.sampled_from(NUMBERS),
    cuts=st.lists(st.integers(1, 11), max_size=4, unique=True),
)
def test_a_sequence_cut_anywhere_and_carried_on_has_the_bits_of_the_whole(
    cell, initial_state, layers, hidden, numbers, cuts
):
    dtype, kernel = numbers
    network = network_of(cell, layers=layers, hidden=hidden, initial_state=initial_state)
    model = noisy_model(network, dtype=dtype).with_kernel(kernel)
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
    numbers=st.sampled_from(NUMBERS),
    output=st.sampled_from(list(OUTPUTS)),
    horizons=st.integers(1, 5),
)
def test_neighbours_order_and_padding_change_no_bit(
    cell, direction, hidden, lengths, padding, garbage, numbers, output, horizons
):
    dtype, kernel = numbers
    network = network_of(cell, direction, layers=2, hidden=hidden, output=output, horizons=horizons)
    model = noisy_model(network, dtype=dtype).with_kernel(kernel)
    of_last = replace(model, network=replace(network, output_steps="last"))
    random = np.random.default_rng(len(lengths))
    time = max(lengths) + padding
    x = np.full((len(lengths), time, INPUTS), garbage, dtype)
    for row, n in zip(x, lengths, strict=True):
        row[:n] = random.standard_normal((n, INPUTS))

    together, states = model.run(x, lengths)
    ends, _ = of_last.run(x, lengths)

    for i, n in enumerate(lengths):
        alone, state = model.run(x[i : i + 1, :n])
        end, _ = of_last.run(x[i : i + 1, :n])
        np.testing.assert_array_equal(ends[i], end[0])
        if n and not network.bidirectional:
            np.testing.assert_array_equal(end[0], alone[0, -1])
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
        Example(random.standard_normal((n, INPUTS)), random.standard_normal((n, TARGETS)))
        for n in (7, 3)
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
@pytest.mark.parametrize(("dtype", "kernel"), NUMBERS)
def test_step_has_the_bits_of_the_forward_pass(cell, dtype, kernel):
    network = network_of(cell, hidden=(17, 9), residual=True)
    model = noisy_model(network, dtype=dtype).with_kernel(kernel)
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
    with pytest.raises(ConfigurationError, match="needs whole sequences and cannot step"):
        model.step(model.initial_state(), np.zeros((1, INPUTS)))
