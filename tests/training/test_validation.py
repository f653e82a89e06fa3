import itertools
from dataclasses import replace

import numpy as np
import pytest

from beam_rnn import Bptt, Network, Training
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.nn.losses import objective
from beam_rnn.optim import Adam, Plateau, Sgd
from beam_rnn.training.dataset import prepare
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.validation import validation_loss
from tests.helpers.sequences import COLUMNS, hold_back, wave

NETWORK = Network("gru", 4)
SECOND = 1_000_000


@pytest.mark.parametrize("horizon", [0, 1, 3, (1, 4)])
@pytest.mark.parametrize("cuts", [[0, 40], [0, 10, 20, 30, 40], [0, 33, 40]])
def test_no_validation_target_is_trained_on(horizon, cuts):
    columns = replace(COLUMNS, horizon=horizon)
    sequences = [wave(b - a, columns=columns, start=a) for a, b in itertools.pairwise(cuts)]

    learned, held_back = hold_back(sequences, 0.25, NETWORK)

    split = 30 * SECOND  # three quarters of the 40 steps
    assert max(s.until for s in learned) < split
    assert sum(len(s.times) for s in learned) >= 30 - columns.horizons[-1] * (len(cuts) - 1)
    for sequence in held_back:
        counts = sequence.weights.any(1)
        np.testing.assert_array_equal(counts, sequence.times >= split)
    judged = np.concatenate([s.times[s.weights.any(1)] for s in held_back])
    np.testing.assert_array_equal(np.sort(judged), np.arange(30, 40) * SECOND)


def test_each_key_is_split_at_its_own_time():
    learned, held_back = hold_back([wave(40, "a"), wave(8, "b", start=100)], 0.25, NETWORK)

    assert {s.key: s.until for s in learned} == {"a": 29 * SECOND, "b": 105 * SECOND}
    assert {s.key for s in held_back} == {"a", "b"}


def test_a_many_to_one_network_validates_on_whole_sequences():
    network = Network("gru", 4, output_steps="last")
    sequences = [wave(10, f"k{i}", start=5 * i) for i in range(8)]
    reaching_in = wave(10, "k7", start=33)

    learned, held_back = hold_back(sequences, 0.25, network)
    assert [s.key for s in held_back] == ["k6", "k7"]
    assert [s.key for s in learned] == [f"k{i}" for i in range(6)]

    learned, held_back = hold_back([*sequences, reaching_in], 1 / 9, network)
    assert [s.key for s in held_back] == ["k7"]
    assert [s.key for s in learned] == [f"k{i}" for i in range(7)]


def mean_loss(network, parameters, examples, size):
    total, weight = validation_loss(network, parameters, examples, objective(network), size)
    return total / weight


def test_the_loss_is_that_of_the_steps_that_count():
    """One batch or many, padded or not: the same mean over the same steps."""
    sequences = [wave(40, "a"), wave(12, "b")]
    (held_back,) = prepare(NETWORK, sequences, Training(validation=0.25)).held_back
    parameters = NETWORK.initialize(1, 1, 0, np.float64)

    one, two = (mean_loss(NETWORK, parameters, held_back, size) for size in (1, 2))

    assert one == pytest.approx(two, rel=1e-12)
    _, weight = validation_loss(NETWORK, parameters, held_back, objective(NETWORK), 1)
    assert weight == 10 + 3
    assert sum((held_back.example(i).weights > 0).sum() for i in (0, 1)) == 10 + 3


def noisy(seed=0):
    """Little data and much noise: training longer makes the unseen part worse."""
    values = np.random.default_rng(seed).standard_normal((41, 1))
    return Sequence(COLUMNS, "a", np.arange(40) * SECOND, values[:-1], values[1:], 40 * SECOND)


def test_early_stopping_gives_the_best_weights():
    training = Training(
        bptt=Bptt(), optimizer=Adam(0.02), epochs=300, validation=0.3, patience=10, batch_size=1
    )
    network = Network("gru", 16)

    model = fit_sequences(network, [noisy()], training)

    curve = model.training["validation_curve"]
    best = int(np.argmin(curve))
    assert len(curve) == best + 11 < 300
    assert curve[-1] > curve[best]
    (held_back,) = prepare(network, [noisy()], training).held_back
    loss = mean_loss(model.network, model.parameters, held_back, 1)
    assert loss == pytest.approx(curve[best], rel=1e-6)
    shorter = fit_sequences(network, [noisy()], replace(training, epochs=best + 1, patience=None))
    assert shorter.digest == model.digest


def test_without_validation_the_last_weights_are_the_result():
    rising = Training(epochs=12, optimizer=Sgd(2.0), bptt=Bptt(steps=4))
    one_less = replace(rising, epochs=11)

    model = fit_sequences(NETWORK, [noisy()], rising)

    curve = model.training["loss_curve"]
    assert curve[-1] > min(curve)
    assert "validation_curve" not in model.training
    assert model.digest != fit_sequences(NETWORK, [noisy()], one_less).digest


def test_the_rate_falls_on_a_plateau():
    """Past the plateau a rate of 0 moves nothing: the loss stays what it is."""
    training = Training(
        bptt=Bptt(), optimizer=Sgd(0.5), epochs=40, plateau=Plateau(patience=2, factor=0.0)
    )

    curve = fit_sequences(NETWORK, [noisy()], replace(training, optimizer=Sgd(20.0))).training[
        "loss_curve"
    ]
    stays = [i for i in range(1, 40) if curve[i] == curve[i - 1]]

    assert stays == list(range(stays[0], 40))
    before = curve[: stays[0]]
    assert min(before) < before[-1]  # it had stopped falling for two epochs
    falling = fit_sequences(NETWORK, [wave()], replace(training, epochs=5)).training["loss_curve"]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) == 5


class SignDescent:
    """An optimiser of a user's, without a rate."""

    def init(self, parameters):
        return {}

    def update(self, gradients, state, parameters):
        return {k: w - 0.01 * np.sign(gradients[k]) for k, w in parameters.items()}, state


def test_an_optimizer_of_a_user_trains():
    model = fit_sequences(NETWORK, [wave()], Training(epochs=5, optimizer=SignDescent()))
    curve = model.training["loss_curve"]
    assert curve[-1] < curve[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"validation": 1.0}, r"validation must be in \[0, 1\), got 1.0"),
        ({"patience": 3}, "patience=3 needs a validation loss: give the share"),
        ({"validation": 0.1, "patience": 0}, "patience must be .* at least 1, got 0"),
        ({"plateau": 3}, "plateau must be a Plateau, got 3"),
        ({"plateau": Plateau(), "optimizer": SignDescent()}, "needs a learning_rate to lower"),
        ({"dropout": 0.5}, "dropout must be a Dropout, got 0.5"),
    ],
)
def test_invalid_settings_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Training(**arguments)


def test_too_little_to_hold_something_back_is_an_error():
    with pytest.raises(TrainingError, match="leaves 0 sequences to learn from and 1"):
        fit_sequences(NETWORK, [wave(1)], Training(epochs=1, validation=0.5))


def test_columns_of_the_kept_model_are_those_of_the_sequences():
    columns = Columns(key="id", time="t", inputs=["x"], horizon=(1, 2))
    model = fit_sequences(NETWORK, [wave(30, columns=columns)], Training(epochs=1, validation=0.2))

    assert model.columns == columns
    assert model.network.horizons == 2
    assert model.output_names == ("x+1", "x+2")
