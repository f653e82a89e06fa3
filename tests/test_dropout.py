import numpy as np
import pytest

from beam_rnn import Bptt, Dropout, Network, Sgd, Training
from beam_rnn.backprop import forward, initial_states
from beam_rnn.batches import Example, batch_of
from beam_rnn.bptt import Learner, learn
from beam_rnn.dropout import draw
from beam_rnn.errors import ConfigurationError
from beam_rnn.fit import fit
from beam_rnn.objective import objective
from tests.sequences import wave

BATCH = 5


def masks_for(network, dropout, inputs=4, batch=BATCH, seed=0):
    return draw(dropout, network, inputs, batch, np.random.default_rng(seed), np.float64)


def test_masks_leave_out_with_the_probability_and_scale_what_stays():
    dropout = Dropout(inputs=0.25, layers=0.5, recurrent=0.75)
    network = Network("lstm", hidden=(40, 30), bidirectional=True)

    first, second = masks_for(network, dropout, inputs=60, batch=500)

    for mask, size, p in (
        (first.inputs, 60, 0.25),
        (second.inputs, 80, 0.5),
        *((mask, 40, 0.75) for mask in first.recurrent),
        *((mask, 30, 0.75) for mask in second.recurrent),
    ):
        assert mask.shape == (500, size)
        assert set(np.unique(mask)) == {0, 1 / (1 - p)}
        assert (mask == 0).mean() == pytest.approx(p, abs=0.02)
    assert not np.array_equal(*first.recurrent)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_what_is_left_out_is_not_seen_at_any_step(cell):
    """A network with those units taken out and the other weights scaled has the same outputs."""
    network = Network(cell, hidden=6)
    parameters = network.initialize(4, 2, seed=0, dtype=np.float64)
    x = np.random.default_rng(1).standard_normal((7, 1, 4))
    dropout = Dropout(inputs=0.5, recurrent=0.5)
    (mask,) = masks = masks_for(network, dropout, batch=1, seed=3)
    gone_inputs, gone_units = mask.inputs[0] == 0, mask.recurrent[0][0] == 0
    assert gone_inputs.any()
    assert gone_units.any()
    assert not gone_units.all()

    def outputs(parameters, x, masks):
        z, _, _ = forward(
            network, parameters, x, initial_states(network, parameters, 1), np.array([7]), masks
        )
        return z

    thinned = dict(parameters)
    thinned["layers.0.W_x"] = 2 * np.where(gone_inputs[:, np.newaxis], 0, thinned["layers.0.W_x"])
    thinned["layers.0.W_h"] = 2 * np.where(gone_units[:, np.newaxis], 0, thinned["layers.0.W_h"])
    masked = outputs(parameters, x, masks)
    other_x = np.where(gone_inputs, 1e6, x)

    np.testing.assert_array_equal(outputs(parameters, other_x, masks), masked)
    if cell != "gru":  # whose update gate would still carry the units that are left out
        np.testing.assert_allclose(outputs(thinned, x, None), masked, atol=1e-12)


def test_a_state_that_a_gate_keeps_does_not_grow():
    """With h_t = h_{t-1}, a factor of 1 / (1 - p) a step would be 2^200."""
    network = Network("gru", hidden=3, initial_state="learned")
    parameters = {k: np.zeros_like(v) for k, v in network.initialize(1, 1, 0, np.float64).items()}
    parameters["layers.0.b_x"] = np.array([0.0] * 3 + [1e9] * 3 + [0.0] * 3)  # z = 1
    parameters["layers.0.h_0"] = np.ones(3)
    states = initial_states(network, parameters, BATCH)
    masks = masks_for(network, Dropout(recurrent=0.5), inputs=1)

    _, ((h,),), _ = forward(
        network, parameters, np.zeros((200, BATCH, 1)), states, np.full(BATCH, 200), masks
    )

    assert set(np.unique(h)) == {0, 1}


def test_the_mask_is_the_same_in_every_window_of_a_sequence():
    """Without learning, the losses of two windows are those of one pass with one mask."""
    network = Network("lstm", hidden=(4, 3))
    random = np.random.default_rng(0)
    examples = [
        Example(random.standard_normal((n, 4)), random.standard_normal((n, 1))) for n in (9, 9, 6)
    ]
    batch = batch_of(examples, np.float64)
    dropout = Dropout(inputs=0.3, layers=0.3, recurrent=0.3)
    parameters = network.initialize(4, 1, 0, np.float64)

    def losses(bptt):
        optimizer = Sgd(0.0)
        _, windows, _ = learn(
            network,
            Learner(parameters, optimizer.init(parameters)),
            batch,
            bptt=bptt,
            loss=objective(network),
            optimizer=optimizer,
            masks=masks_for(network, dropout, batch=3),
        )
        return sum(w.loss * w.weight for w in windows) / sum(w.weight for w in windows)

    assert losses(Bptt(steps=2)) == pytest.approx(losses(Bptt()), rel=1e-12)


def test_the_seed_decides_what_is_left_out():
    def digest(**settings):
        return fit(Network("gru", 4, layers=2), [wave()], Training(epochs=2, **settings)).digest

    dropout = Dropout(0.1, 0.2, 0.3)
    assert digest(dropout=dropout) == digest(dropout=dropout)
    assert digest(dropout=dropout) != digest()
    assert digest(dropout=Dropout()) == digest()


@pytest.mark.parametrize("name", ["inputs", "layers", "recurrent"])
@pytest.mark.parametrize("p", [1, -0.1, float("nan"), "0.5", True])
def test_a_probability_that_cannot_be_is_refused(name, p):
    with pytest.raises(ConfigurationError, match=rf"{name} must be in \[0, 1\), got"):
        Dropout(**{name: p})
