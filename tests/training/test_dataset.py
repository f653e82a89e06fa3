from dataclasses import replace

import numpy as np
import pytest

from beam_rnn import Bptt, Network, Training
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.optim import Adam
from beam_rnn.training.dataset import prepare
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.sequence_examples import class_weighted
from tests.helpers.sequences import COLUMNS, wave

LABELS = Columns(key="id", inputs=["x"], targets=["label"], classes=["low", "high"], horizon=0)
FLAG = Columns(key="id", inputs=["x"], targets=["flag"], horizon=0)
SOFTMAX = Network("gru", 4, output="softmax")


def of_values(columns, x, targets, key="a", weights=None):
    x, targets = (np.asarray(v, float).reshape(len(x), -1) for v in (x, targets))
    times = np.arange(len(x)) * 1_000_000
    return Sequence(columns, key, times, x, targets, int(times[-1]), weights)


def test_a_target_of_weight_zero_has_no_effect_on_training():
    """Two targets that differ only where the weight is 0 give the same model."""
    weights = (np.arange(40) % 3 > 0).astype(float)[:, np.newaxis]
    kept = wave()._replace(weights=weights)
    spoilt = kept._replace(targets=np.where(weights > 0, kept.targets, 7.0))
    training = Training(epochs=3, scaler="none", bptt=Bptt(steps=8))
    network = Network("gru", 4)

    assert fit_sequences(network, [spoilt], training).parameters.keys()
    for name, value in fit_sequences(network, [kept], training).parameters.items():
        np.testing.assert_array_equal(
            fit_sequences(network, [spoilt], training).parameters[name], value
        )


def test_a_weight_of_two_is_the_record_twice():
    """In a batch of sequences of one step each, so that nothing is carried."""
    columns = replace(COLUMNS, horizon=0)
    values = np.random.default_rng(0).standard_normal((6, 2))
    once = [of_values(columns, [x], [y], weights=np.ones((1, 1))) for x, y in values]
    training = Training(epochs=3, scaler="none", bptt=Bptt())
    network = Network("gru", 4)

    doubled = [once[0]._replace(weights=np.full((1, 1), 2.0)), *once[1:]]
    model, same = (
        fit_sequences(network, doubled, training),
        fit_sequences(network, [once[0], *once], training),
    )

    for name, value in same.parameters.items():
        np.testing.assert_allclose(model.parameters[name], value, atol=1e-6)


def test_classes_have_the_weights_that_they_are_given():
    x, labels = np.zeros(4), [[1, 0], [0, 1], [0, 1], [1, 0]]

    weighted = class_weighted(of_values(LABELS, x, labels), {"high": 3, "low": 0.5})
    np.testing.assert_array_equal(weighted.weights, [[0.5], [3], [3], [0.5]])

    both = of_values(LABELS, x, labels, weights=np.array([[1.0], [0], [2], [1]]))
    np.testing.assert_array_equal(
        class_weighted(both, {"high": 3, "low": 0.5}).weights, [[0.5], [0], [6], [0.5]]
    )
    flags = class_weighted(of_values(FLAG, x, [0, 1, 1, 0]), {0: 1, 1: 9})
    np.testing.assert_array_equal(flags.weights, [[1], [9], [9], [1]])


def test_class_weights_move_the_probability():
    """One flag in ten: weighted nine times, it is as likely as not."""
    flags = (np.arange(400) % 10 == 0).astype(float)
    sequence = of_values(FLAG, np.zeros(400), np.random.default_rng(0).permutation(flags))
    network = Network("rnn", 2, output="sigmoid")

    def probability(class_weights):
        training = Training(
            epochs=60, optimizer=Adam(0.05), bptt=Bptt(20), class_weights=class_weights
        )
        model = fit_sequences(network, [sequence], training)
        return float(model.forward(np.zeros((1, 50, 1)))[0, -1, 0])

    assert probability(None) == pytest.approx(0.1, abs=0.05)
    assert probability({0: 1, 1: 9}) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("output", "low", "high"), [("quantiles", 0.1, 0.9), ("gaussian", None, None)]
)
def test_a_trained_distribution_matches_the_targets(output, low, high):
    """Noise of deviation 3 around 50, in the target's own unit."""
    random = np.random.default_rng(0)
    noise = random.normal(50, 3, 2000)
    sequence = of_values(replace(COLUMNS, horizon=0), np.zeros(2000), noise)
    training = Training(epochs=40, optimizer=Adam(0.02), bptt=Bptt(50))

    model = fit_sequences(Network("rnn", 2, output=output), [sequence], training)
    outputs = model.restored("a", model.forward(np.zeros((1, 20, 1)))[0, -1])

    if output == "gaussian":
        assert outputs == pytest.approx([50, 3], abs=0.5)
    else:
        assert outputs == pytest.approx(np.quantile(noise, [low, 0.5, high]), abs=0.7)


def test_several_horizons_are_each_their_own():
    columns = Columns(key="id", time="t", inputs=["x"], horizon=(1, 5, 12))
    training = Training(epochs=60, optimizer=Adam(0.02), bptt=Bptt(20))

    model = fit_sequences(Network("gru", 12), [wave(300, columns=columns)], training)
    held = wave(100, columns=columns, start=500)
    y = model.restored("a", model.forward(model.scaled("a", held.inputs)[np.newaxis])[0])

    assert model.outputs == 3
    errors = np.abs(y - held.targets)[20:].mean(0)
    assert (errors < 0.2).all(), errors


def test_many_to_one_trains_on_the_last_step_only():
    """Whether the first input was above zero, asked after 12 steps of noise."""
    random = np.random.default_rng(0)

    def example(i):
        x = random.standard_normal(12)
        labels = np.full((12, 2), 0.5)  # nobody looks at those of the steps before the last
        labels[-1] = x[0] <= 0, x[0] > 0
        return of_values(LABELS, x, labels, key=f"k{i}")

    sequences = [example(i) for i in range(300)]
    network = Network("gru", 12, output="softmax", output_steps="last")
    training = Training(epochs=30, optimizer=Adam(0.02), bptt=Bptt(), scaler="global")
    model = fit_sequences(network, sequences[:200], training)

    x = np.stack([model.scaled(s.key, s.inputs) for s in sequences[200:]])
    y = model.forward(x)
    assert y.shape == (100, 2)
    np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
    right = y.argmax(1) == [s.targets[-1].argmax() for s in sequences[200:]]
    assert right.mean() > 0.9


@pytest.mark.parametrize(
    ("network", "sequence", "message"),
    [
        (
            Network(output="sigmoid"),
            of_values(FLAG, [0.0], [2.0]),
            "compares with probabilities, key 'a' has the target 2: give targets of 0 and 1",
        ),
        (
            SOFTMAX,
            of_values(Columns(key="id", inputs=["x"], targets=["p", "q"]), [0.0], [[1.0, 1.0]]),
            "needs one class a step, key 'a' has targets with the sum 2",
        ),
    ],
)
def test_targets_that_a_loss_cannot_compare_with_are_an_error(network, sequence, message):
    with pytest.raises(TrainingError, match=message):
        prepare(network, [sequence], Training())


@pytest.mark.parametrize(
    ("network", "columns", "message"),
    [
        (SOFTMAX, FLAG, "is for two classes or more, the columns have the one target 'flag'"),
        (Network(), LABELS, r"'label' is a class: that needs Network\(output='softmax'\)"),
        (Network(horizons=2), COLUMNS, "has horizons=2, the columns name 1"),
        (Network(residual=True), FLAG, "needs the targets to be the first inputs"),
    ],
)
def test_a_network_that_does_not_fit_the_columns_is_an_error(network, columns, message):
    sequence = of_values(columns, [0.0], [[1.0, 0.0][: columns.target_size]])
    with pytest.raises(ConfigurationError, match=message):
        prepare(network, [sequence], Training())


def test_a_class_without_a_weight_is_an_error():
    with pytest.raises(TrainingError, match=r"no weight for high, which key 'a'"):
        prepare(SOFTMAX, [of_values(LABELS, [0.0], [[1, 0]])], Training(class_weights={"low": 1}))
    with pytest.raises(TrainingError, match=r"no weight for 0.5, which key 'a'"):
        prepare(Network(), [of_values(FLAG, [0.0], [0.5])], Training(class_weights={0: 1, 1: 1}))


def test_weights_of_zero_everywhere_are_an_error():
    with pytest.raises(TrainingError, match="every target has the weight 0"):
        fit_sequences(Network(), [wave()._replace(weights=np.zeros((40, 1)))], Training(epochs=1))
