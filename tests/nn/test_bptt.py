import numpy as np
import pytest

from beam_rnn.data.sequences import Example, batch_of
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.nn.bptt import Bptt, Learner, learn
from beam_rnn.nn.losses import objective
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Adam, Sgd

INPUTS, HIDDEN, OUTPUTS = 2, 4, 1


def sequences(*lengths, seed=0):
    random = np.random.default_rng(seed)
    return [
        Example(random.standard_normal((n, INPUTS)), random.standard_normal((n, OUTPUTS)))
        for n in lengths
    ]


def trained(network, pairs, bptt, optimizer, dtype=np.float64, **arguments):
    parameters = network.initialize(INPUTS, OUTPUTS, seed=3, dtype=dtype)
    return learn(
        network,
        Learner(parameters, optimizer.init(parameters)),
        batch_of(pairs, dtype),
        bptt=bptt,
        loss=objective(network, "mse"),
        optimizer=optimizer,
        **arguments,
    )[:2]


def textbook(parameters, a, y, k, rate):
    """The textbook's loop over one sequence of an Elman network with f = tanh, literally.

    x := 0; for t from 0 to n - k: set the network inputs to x, a[t], ..., a[t+k-1];
    p := forward through the unfolded network; e := y[t+k] - p; back-propagate e through the
    k instances of f, sum their weight changes, update f and g; x := f(x, a[t]).

    y[t] is what the network should say after a[t-1], so targets are counted from 1. The loss
    is e^2, so its gradient with respect to p is -2 e.
    """
    w = {name: value.copy() for name, value in parameters.items()}
    n = len(a)

    def f(x, a_t):
        return np.tanh(
            a_t @ w["layers.0.W_x"] + w["layers.0.b_x"] + x @ w["layers.0.W_h"] + w["layers.0.b_h"]
        )

    losses = []
    x = np.zeros(HIDDEN)
    for t in range(n - k + 1):
        contexts = [x]
        for i in range(k):
            contexts.append(f(contexts[-1], a[t + i]))
        p = contexts[-1] @ w["head.W_y"] + w["head.b_y"]
        e = y[t + k] - p
        losses.append(float(e @ e))

        change = {name: np.zeros_like(value) for name, value in w.items()}
        change["head.W_y"] += np.outer(contexts[-1], -2 * e)
        change["head.b_y"] += -2 * e
        delta = w["head.W_y"] @ (-2 * e)
        for i in reversed(range(k)):
            before = delta * (1 - contexts[i + 1] ** 2)
            change["layers.0.W_x"] += np.outer(a[t + i], before)
            change["layers.0.W_h"] += np.outer(contexts[i], before)
            change["layers.0.b_x"] += before
            change["layers.0.b_h"] += before
            delta = w["layers.0.W_h"] @ before
        for name in w:
            w[name] -= rate * change[name]
        x = f(x, a[t])
    return w, losses


@pytest.mark.parametrize("k", [1, 2, 3, 5, 12])
def test_the_textbook_loop_is_one_setting(k):
    network = Network("rnn", HIDDEN)
    ((a, target, _),) = pairs = sequences(12)
    y = np.concatenate([np.full((1, OUTPUTS), np.nan), target])
    start = network.initialize(INPUTS, OUTPUTS, seed=3, dtype=np.float64)

    expected, losses = textbook(start, a, y, k, rate=0.05)
    learner, windows = trained(network, pairs, Bptt(k, stride=1, loss="last"), Sgd(0.05))

    assert len(windows) == 12 - k + 1
    np.testing.assert_allclose([w.loss for w in windows], losses, rtol=1e-12)
    for name, value in expected.items():
        np.testing.assert_allclose(learner.parameters[name], value, atol=1e-12)
        assert k == 12 or not np.allclose(value, start[name])  # it has learned something


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [9, 10, 1000])
def test_k_of_the_length_or_more_is_full_bptt_to_the_last_bit(cell, dtype, steps):
    pairs = sequences(9, 9, 4)
    network = Network(cell, HIDDEN, layers=2)

    full, full_losses = trained(network, pairs, Bptt(), Adam(0.1), dtype)
    truncated, losses = trained(network, pairs, Bptt(steps), Adam(0.1), dtype)

    assert losses == full_losses
    for name, value in full.parameters.items():
        np.testing.assert_array_equal(truncated.parameters[name], value)


def test_the_gradient_is_cut_and_the_state_is_carried():
    """With no learning, two windows have the loss of one forward pass, not its gradient."""
    network = Network("gru", HIDDEN)
    pairs = sequences(8)

    _, (whole,) = trained(network, pairs, Bptt(), Sgd(0.0))
    _, (first, second) = trained(network, pairs, Bptt(steps=4), Sgd(0.0))
    assert (first.loss + second.loss) / 2 == pytest.approx(whole.loss, rel=1e-12)

    far, _ = trained(network, pairs, Bptt(), Sgd(0.1))
    near, _ = trained(network, pairs, Bptt(steps=4), Sgd(0.1))
    assert not np.allclose(far.parameters["layers.0.W_h"], near.parameters["layers.0.W_h"])


def test_clipping_bounds_the_step():
    """Plain gradient descent with rate 1 moves each parameter by the clipped gradient."""
    network = Network("gru", HIDDEN)
    start = network.initialize(INPUTS, OUTPUTS, seed=3, dtype=np.float64)
    for limits in ({"clip_value": 1e-3}, {"clip_norm": 1e-3}, {}):
        learner, _ = trained(network, sequences(8), Bptt(), Sgd(1.0), **limits)
        moves = np.concatenate([(learner.parameters[k] - start[k]).ravel() for k in start])
        if "clip_value" in limits:
            assert np.abs(moves).max() == pytest.approx(1e-3)
        elif "clip_norm" in limits:
            assert np.linalg.norm(moves) == pytest.approx(1e-3, rel=1e-3)
        else:
            assert np.abs(moves).max() > 1e-2


def test_only_the_first_window_learns_the_initial_state():
    network = Network("lstm", HIDDEN, initial_state="learned")
    ((inputs, targets, _),) = sequences(8)

    both, _ = trained(network, [Example(inputs, targets)], Bptt(steps=4), Sgd(0.1))
    first, _ = trained(network, [Example(inputs[:4], targets[:4])], Bptt(steps=4), Sgd(0.1))

    for name in ("layers.0.h_0", "layers.0.c_0"):
        np.testing.assert_array_equal(both.parameters[name], first.parameters[name])
        assert both.parameters[name].any()
    assert not np.array_equal(both.parameters["layers.0.W_h"], first.parameters["layers.0.W_h"])


def test_sequences_of_different_lengths_leave_when_they_end():
    bptt = Bptt(steps=3)
    _, windows = trained(Network("gru", HIDDEN), sequences(8, 4, 3), bptt, Sgd(0.1))

    assert [w.weight for w in windows] == [9, 4, 2]


def test_a_sequence_shorter_than_k_has_its_last_loss_where_it_ends():
    weights = Bptt(steps=5, stride=1, loss="last").weights(0, 5, np.array([7, 5, 2]))

    np.testing.assert_array_equal(weights.argmax(0), [4, 4, 1])
    np.testing.assert_array_equal(weights.sum(0), 1)
    later = Bptt(steps=5, stride=1, loss="last").weights(1, 6, np.array([7, 5, 2]))
    np.testing.assert_array_equal(later.sum(0), [1, 0, 0])


@pytest.mark.parametrize(
    ("bptt", "length", "windows"),
    [
        (Bptt(), 5, [(0, 5)]),
        (Bptt(2), 5, [(0, 2), (2, 4), (4, 5)]),
        (Bptt(4, 2), 8, [(0, 4), (2, 6), (4, 8)]),
        (Bptt(3, 1, "last"), 5, [(0, 3), (1, 4), (2, 5)]),
        (Bptt(3, 2, "last"), 6, [(0, 3), (2, 5)]),
        (Bptt(9, 1, "last"), 5, [(0, 5)]),
    ],
)
def test_windows(bptt, length, windows):
    assert list(bptt.windows(length)) == windows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 2.5}, "got 2.5"),
        ({"steps": 3, "stride": 4}, "stride=4 goes beyond steps=3"),
        ({"stride": 4}, "stride=4 goes beyond steps=None"),
        ({"loss": "first"}, "loss must be 'every' or 'last', got 'first'"),
    ],
)
def test_invalid_settings_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        Bptt(**arguments)


def test_a_loss_that_is_not_finite_stops_with_the_place():
    pairs = sequences(4)
    pairs[0][1][2] = 1e200

    with pytest.raises(TrainingError, match="the loss became inf: lower the learning rate"):
        trained(Network("gru", HIDDEN), pairs, Bptt(), Sgd(0.1))
