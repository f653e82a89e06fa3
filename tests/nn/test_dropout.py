import numpy as np
import pytest

from beam_rnn import Bptt, Columns, Dropout, Network, Training
from beam_rnn.data.pair_columns import Pair
from beam_rnn.data.sequences import Example, Part, Sequence, batch_of
from beam_rnn.data.vocabulary import UNKNOWN
from beam_rnn.errors import ConfigurationError
from beam_rnn.nn.backprop import forward, initial_states
from beam_rnn.nn.bptt import Learner, learn
from beam_rnn.nn.dropout import draw, draw_symbols, without_symbols
from beam_rnn.nn.losses import objective
from beam_rnn.optim import Sgd
from beam_rnn.pairs import EncoderDecoder, PairColumns
from beam_rnn.training.fit import fit_sequences
from tests.helpers.sequences import wave

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
def test_a_dropped_unit_is_dropped_at_every_step(cell):
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


def test_the_seed_decides_the_dropout():
    def digest(**settings):
        return fit_sequences(
            Network("gru", 4, layers=2), [wave()], Training(epochs=2, **settings)
        ).digest

    dropout = Dropout(0.1, 0.2, 0.3)
    assert digest(dropout=dropout) == digest(dropout=dropout)
    assert digest(dropout=dropout) != digest()
    assert digest(dropout=Dropout()) == digest()


def test_symbols_are_dropped_independently_in_each_sequence():
    first, second = draw_symbols(0.3, (2000, 50), BATCH, np.random.default_rng(0))

    assert first.shape == (BATCH, 2000)
    assert second.shape == (BATCH, 50)
    assert first.mean() == pytest.approx(0.3, abs=0.02)
    assert not np.array_equal(first[0], first[1])


def test_a_dropped_symbol_is_unknown_at_every_position():
    number = np.full((4, 2), 0.5)
    words = np.array([[1, 2], [2, 1], [1, 3], [0, 2]])
    tags = np.array([[1, 1], [1, 1], [2, 2], [2, 2]])
    x = np.stack([number, words, tags], 2)
    gone_words = np.array([[False, True, False, False], [False, False, True, True]])
    gone_tags = np.array([[False, False, False], [False, True, False]])

    seen = without_symbols(x, [gone_words, gone_tags])

    assert (seen[..., 0] == 0.5).all()
    assert seen[:, 0, 1].tolist() == [0, 2, 0, 0]
    assert seen[:, 1, 1].tolist() == [0, 1, 0, 0]
    assert seen[:, 0, 2].tolist() == [1, 1, 2, 2]
    assert seen[:, 1, 2].tolist() == [0, 0, 2, 2]
    assert x[..., 1].tolist() == words.tolist()


WORDS = Columns(key="id", time="t", symbols=["word"], targets=["good"], horizon=0)


def spoken(text, good):
    """A sequence whose word says whether it is good; that it is not known says that it is not."""
    words = text.split()
    times = np.arange(len(words))
    targets = np.full((len(words), 1), float(good))
    nothing = np.zeros((len(words), 0))
    return Sequence(WORDS, text, times, nothing, targets, len(words), symbols=(tuple(words),))


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_dropping_symbols_trains_the_vector_of_the_unknown_symbol(p):
    network = Network("rnn", 3, output="sigmoid", embedding=2)
    sequences = [spoken("a fine film", 1), spoken("a dull plot", 0)]

    training = Training(epochs=3, scaler="none", dropout=Dropout(symbols=p))
    unknown = fit_sequences(network, sequences, training).parameters["embedding.0.E"][UNKNOWN]

    assert unknown.any() == (p > 0)


def test_all_parts_of_a_sequence_have_the_same_dropped_symbols():
    """Cut where the windows of BPTT are, it gives the same weights."""
    network = Network("gru", 3, output="sigmoid", embedding=2)
    whole = spoken("a b c d e f a b c d e f", 1)

    def parts():
        for number, at in enumerate((0, 4, 8)):
            here = slice(at, at + 4)
            yield whole._replace(
                times=whole.times[here],
                inputs=whole.inputs[here],
                targets=whole.targets[here],
                symbols=(whole.symbols[0][here],),
                until=int(whole.times[here][-1]),
                part=Part(7, number),
            )

    def parameters(sequences):
        dropout = Dropout(symbols=0.5)
        training = Training(epochs=4, scaler="none", bptt=Bptt(steps=4), dropout=dropout)
        return fit_sequences(network, sequences, training).parameters

    one, other = parameters([whole]), parameters(parts())
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_symbols_are_dropped_in_sources_but_not_in_targets():
    columns = PairColumns(key="id", source="there", target="here")
    network = EncoderDecoder("gru", hidden=3, embedding=2)
    pairs = [Pair(columns, str(i), ("a", "b"), ("x", "y")) for i in range(3)]

    training = Training(epochs=2, dropout=Dropout(symbols=0.5))
    model = fit_sequences(network, pairs, training)

    assert model.parameters["encoder.embedding.0.E"][UNKNOWN].any()
    plain = fit_sequences(network, pairs, Training(epochs=2))
    assert not plain.parameters["encoder.embedding.0.E"][UNKNOWN].any()


@pytest.mark.parametrize("name", ["inputs", "layers", "recurrent", "symbols"])
@pytest.mark.parametrize("p", [1, -0.1, float("nan"), "0.5", True])
def test_an_invalid_probability_is_refused(name, p):
    with pytest.raises(ConfigurationError, match=rf"{name} must be in \[0, 1\), got"):
        Dropout(**{name: p})
