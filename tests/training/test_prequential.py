"""Test, then train: compared with an explicit loop; the rules of the gate and of scaling."""

from statistics import NormalDist

import numpy as np
import pytest

from beam_rnn import Bptt, Columns, Network
from beam_rnn.data.sequences import Batch
from beam_rnn.errors import ConfigurationError, StateError
from beam_rnn.nn.backprop import initial_states
from beam_rnn.nn.bptt import Learner, learn
from beam_rnn.nn.kernels import kernel_of
from beam_rnn.nn.losses import objective
from beam_rnn.nn.optimizers import clipped
from beam_rnn.online import Gate, Learning, Running, Untrained
from beam_rnn.optim import Adam, Sgd
from beam_rnn.training.online.flat_parameters import Layout
from beam_rnn.training.online.gate import NO_EVIDENCE, following
from beam_rnn.training.online.learned_format import Place, decode_learned, encode_learned, name_of
from beam_rnn.training.online.prequential import Prequential
from tests.helpers.models import COLUMNS, random_model

WINDOWS = [Bptt(steps=4), Bptt(steps=4, stride=1, loss="last"), Bptt(steps=5, stride=2)]
SERIES = np.cumsum(np.random.default_rng(0).standard_normal((60, 1)), 0)


def taken(prequential, numbers, key="a", state=None):
    """The state after each record."""
    states = [state or prequential.begin()]
    for row in numbers:
        states.append(prequential.take(states[-1], key, row))
    return states[1:]


def both(x):
    """Records whose one input is their target."""
    return np.concatenate([x, x], 1)


def forecaster(learning, horizon=1, **network):
    columns = Columns(key="id", inputs=["x"], horizon=horizon)
    settings = {"cell": "gru", "hidden": 5, "residual": True} | network
    return Prequential(Untrained(Network(**settings), columns).model(), learning)


@pytest.mark.parametrize("bptt", WINDOWS, ids=str)
@pytest.mark.parametrize(
    "network",
    [Network("lstm", hidden=3, initial_state="learned"), Network("gru", hidden=(4, 3))],
    ids=["lstm", "gru"],
)
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_online_learning_equals_training_on_the_sequence_so_far(network, bptt, kernel):
    """After every record the parameters are those of one pass over the steps that are complete."""
    base = random_model(network).with_kernel(kernel)
    optimizer = Adam(0.01)
    learning = Learning(bptt, optimizer=optimizer, gate=None)
    prequential = Prequential(base, learning)
    random = np.random.default_rng(1)
    numbers = random.normal(2, 1, (23, 2))
    numbers = np.concatenate([numbers, numbers[:, :1]], 1)

    states = taken(prequential, numbers)

    x = base.scaled("a", numbers[:, :2]).astype(np.float32)
    targets = base.scaler.of("a").scale_targets(numbers[:, 2:]).astype(np.float32)
    for n, state in enumerate([*states, prequential.finish(states[-1])], 1):
        complete = min(n, len(numbers)) - 1  # of horizon 1
        whole = complete if n > len(numbers) else whole_windows(bptt, complete)
        learner = Learner(base.parameters, optimizer.init(base.parameters))
        if whole:
            batch = Batch(x[:whole, None], targets[1 : whole + 1, None], np.array([whole]))
            learner, *_ = learn(
                base.network,
                learner,
                batch,
                bptt=bptt,
                loss=objective(base.network),
                optimizer=optimizer,
                clip_norm=1.0,
                kernel=kernel_of(kernel),
            )
        for name, value in learner.parameters.items():
            np.testing.assert_array_equal(prequential.parameters(state)[name], value)


def whole_windows(bptt, steps):
    """The steps that windows of full length cover, of so many."""
    stride = bptt.stride or bptt.steps
    return 0 if steps < bptt.steps else (steps - bptt.steps) // stride * stride + bptt.steps


@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_predicts_with_what_was_learned_before_the_record(kernel):
    """Step by step with the parameters so far, then, and only then, the update."""
    base = random_model().with_kernel(kernel)
    prequential = Prequential(base, Learning(Bptt(steps=3), optimizer=Sgd(0.1), gate=None))
    numbers = np.random.default_rng(2).normal(0, 1, (12, 3))
    numbers[:, 2] = numbers[:, 0]

    states = taken(prequential, numbers)

    h = np.concatenate([part for s in initial_states(base.network, base.parameters, 1)
                        for part in s], 1)  # fmt: skip
    parameters = base.parameters
    for row, state in zip(numbers, states, strict=True):
        model = type(base)(base.network, parameters, base.columns, base.scaler, {}, kernel)
        h, y = model.step(h, base.scaled("a", row[None, :2]).astype(np.float32))
        np.testing.assert_array_equal(state.outputs, base.restored("a", y[0]))
        parameters = prequential.parameters(state)
    assert states[-1].updates == 3
    assert [s.made_by for s in states] == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]


def test_a_prediction_does_not_depend_on_later_records():
    prequential = forecaster(Learning(Bptt(steps=4, stride=2)), horizon=(1, 3))
    other = SERIES.copy()
    other[40:] += 1e3

    for one, two in zip(*(taken(prequential, both(s))[:40] for s in (SERIES, other)), strict=True):
        np.testing.assert_array_equal(one.outputs, two.outputs)


def test_the_state_of_an_endless_sequence_does_not_grow():
    prequential = forecaster(
        Learning(Bptt(steps=6, stride=2), scaler=Running(difference=9)), horizon=(1, 3)
    )
    states = taken(prequential, both(np.tile(SERIES, (4, 1))))
    sizes = [len(encode_learned(place(prequential), state)) for state in states]

    assert max(sizes[30:]) <= max(sizes[:30])


def place(prequential):
    return Place(prequential.base.digest, prequential.base.kernel, b"settings", 1, 2, 3)


@pytest.mark.parametrize("optimizer", [Adam(), Sgd(0.1, momentum=0.9)])
def test_the_bytes_hold_all(optimizer):
    learning = Learning(Bptt(steps=6, stride=2), optimizer=optimizer, scaler=Running(difference=9))
    prequential = forecaster(learning, horizon=(1, 3))
    here = place(prequential)
    through = prequential.begin()
    for row, state in zip(both(SERIES), taken(prequential, both(SERIES)), strict=True):
        data = encode_learned(here, prequential.take(through, "a", row))
        assert data == encode_learned(here, state)
        read, through = decode_learned(data, prequential.begin(), here)
        assert read == here
    assert through.updates > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"\x01" + data[1:], "has format version 01, this beam_rnn reads 82"),
        (lambda data: data[:20], "has 20 bytes, its header alone has 90"),
        (lambda data: data[:-1], r"has \d+ bytes, one of 3 steps and 3 records has \d+"),
        (lambda data: data[:2] + b"x" * 32 + data[34:], "was learned from the model 7878.*go on"),
    ],
)
def test_unreadable_bytes_are_refused(change, message):
    prequential = forecaster(Learning(Bptt(steps=6)))
    state = taken(prequential, both(SERIES[:3]))[-1]
    data = change(encode_learned(place(prequential), state))

    with pytest.raises(StateError, match=message):
        decode_learned(data, prequential.begin(), place(prequential))


def test_targets_are_scaled_by_what_was_known_when_they_were_predicted():
    prequential = forecaster(Learning(Bptt(steps=100)))
    states = taken(prequential, both(SERIES))

    for n in (2, 7, 59):
        so_far = SERIES[: n + 1]
        x, offset, scale = (part[-1] for part in states[n].recent[:3])
        np.testing.assert_allclose(offset, so_far.mean(0))
        np.testing.assert_allclose(scale, so_far.std(0))
        np.testing.assert_allclose(x, (SERIES[n] - so_far.mean(0)) / so_far.std(0), rtol=1e-5)


def test_a_decay_forgets():
    decay = 0.9
    prequential = forecaster(Learning(Bptt(steps=100), scaler=Running(decay)))
    state = taken(prequential, both(SERIES))[-1]
    weights = decay ** np.arange(len(SERIES))[::-1]
    mean = np.average(SERIES[:, 0], weights=weights)

    assert state.recent.offset[-1] == pytest.approx(mean)
    deviation = np.sqrt(np.average((SERIES[:, 0] - mean) ** 2, weights=weights))
    assert state.recent.scale[-1] == pytest.approx(deviation)


def test_an_untrained_forecast_is_the_last_value_or_a_season_before_with_its_growth():
    growing = np.exp(0.1 * np.arange(40.0) + np.sin(np.arange(40) * np.pi / 2))[:, None]
    never = Learning(Bptt(steps=100), scaler=Running(log=True, difference=4), gate=None)

    seasonal = taken(forecaster(never, horizon=(1, 2)), both(growing))
    last_value = taken(forecaster(Learning(Bptt(steps=100), gate=None)), both(growing))

    for n in range(8, 38):
        np.testing.assert_allclose(seasonal[n].outputs, growing[n + 1 : n + 3, 0], rtol=1e-5)
        np.testing.assert_allclose(last_value[n].outputs, growing[n], rtol=1e-5)


def test_the_gate_uses_the_learned_model_while_it_is_better():
    up_and_down = both(np.tile([[1.0], [-1.0]], (60, 1)))
    learning = Learning(Bptt(steps=4), optimizer=Adam(0.02), gate=Gate(0.8))

    states = taken(forecaster(learning), up_and_down)

    assert not any(state.made_by for state in states[:5])
    assert states[-1].made_by == states[-1].updates == 29
    assert states[-1].evidence.trusts
    assert abs(states[-1].outputs[0] - 1) < 0.2


@pytest.mark.parametrize(("limit", "max_norm"), [(None, None), (0.5, None), (None, 1), (0.5, 1)])
def test_a_vector_of_gradients_is_clipped_to_the_same_bits(limit, max_norm):
    like = Network("lstm", hidden=5, initial_state="learned").initialize(3, 2, seed=0)
    random = np.random.default_rng(0)
    gradients = {k: random.standard_normal(v.shape, np.float32) for k, v in like.items()}
    layout = Layout(like)

    parts = layout.parts(layout.clipped(layout.joined(gradients), limit, max_norm))

    assert list(parts) == list(like)
    for name, value in clipped(gradients, limit, max_norm).items():
        np.testing.assert_array_equal(parts[name], value)


def evidence_of(gate, differences, horizon=1, chosen=None):
    """The evidence after each difference."""
    evidence = [NO_EVIDENCE]
    for d in differences:
        choice = evidence[-1].chooses if chosen is None else chosen
        evidence.append(following(gate, evidence[-1], d, choice, horizon))
    return evidence[1:]


def test_the_evidence_of_the_gate_is_a_t_statistic():
    """Without decay, as a t-test has it: p of t = 2.5 with 9 degrees of freedom is 0.0170."""
    d = np.random.default_rng(0).standard_normal(10)
    d += 2.5 * d.std() / 3 - d.mean()
    one_sided = NormalDist().inv_cdf(1 - 0.0170)

    for standard_errors, enough in ((one_sided - 0.01, True), (one_sided + 0.01, False)):
        gate = Gate(1 - 1e-12, 1 - 1e-12, standard_errors)
        so_far = evidence_of(gate, d[:-1], chosen=True)[-1]._replace(proven=0)
        assert following(gate, so_far, d[-1], True).trusts == enough
        assert bool(evidence_of(gate, -d)[-1].worse) == enough


@pytest.mark.parametrize("horizon", [1, 4])
def test_noise_seldom_opens_a_gate(horizon):
    """Losses of forecasts that reach some steps ahead have as many changes in common."""
    random = np.random.default_rng(0)
    opened = []
    for _ in range(100):
        shocks = random.standard_normal(150 + horizon - 1)
        d = np.convolve(shocks, np.ones(horizon), "valid")
        opened.append(evidence_of(Gate(), d, horizon, chosen=True)[-1].proven)

    assert np.mean(opened) < 0.2


def test_a_gate_is_open_while_its_choice_is_better():
    noise = np.random.default_rng(0).standard_normal(300) / 10
    better, worse = noise[:100] + 1, noise[100:200] - 1
    evidence = evidence_of(Gate(), [*better, *worse])

    assert all(e.trusts for e in evidence[20:100])
    assert not any(e.trusts for e in evidence[120:])
    assert all(e.proven for e in evidence[120:])  # the choice of the base model was right


def test_a_late_choice_of_the_gate_has_no_effect():
    """What was learned is better once in a while, and the choice when that is over."""
    evidence = evidence_of(Gate(), np.tile([10.0] + [-0.6] * 20, 10))

    assert any(e.chooses for e in evidence)
    assert not any(e.trusts for e in evidence)


def test_a_model_that_stays_worse_is_restarted():
    learning = Learning(Bptt(steps=2), optimizer=Sgd(300.0), gate=Gate(0.8, patience=5))
    prequential = forecaster(learning)

    states = taken(prequential, both(SERIES))

    assert not any(state.made_by for state in states[:9])
    begin = prequential.base.parameters
    assert states[-1].restarts > 1
    anew = [n for n in range(1, 60) if states[n].restarts > states[n - 1].restarts]
    for n in anew:
        for name, value in prequential.parameters(states[n]).items():
            np.testing.assert_array_equal(value, begin[name])
        np.testing.assert_array_equal(states[n].h, states[n].base_h)
        kept = states[n].evidence
        assert kept.learned.weight == kept.worse == 0
        assert kept.choice.weight > states[n - 1].evidence.choice.weight
    assert states[-1].updates > max(states[n].updates for n in anew[:1])  # the count goes on


@pytest.mark.parametrize("gate", [None, Gate()])
def test_an_update_out_of_range_is_refused(gate):
    """The last good parameters stay, and all goes on."""
    columns = Columns(key="id", inputs=["x"], targets=["y"])
    base = Untrained(Network("gru", hidden=3), columns).model()
    prequential = Prequential(
        base, Learning(Bptt(steps=2), clip_norm=None, optimizer=Sgd(1e30), gate=gate)
    )
    numbers = np.concatenate([SERIES, 10 * SERIES], 1)

    states = taken(prequential, numbers)

    assert states[-1].refused + states[-1].restarts > 0
    for state in states:
        assert all(np.isfinite(v).all() for v in prequential.parameters(state).values())
        assert np.isfinite(state.outputs).all()
        assert np.isfinite(state.h).all()


def test_a_step_out_of_range_leaves_the_state_as_it_was():
    prequential = forecaster(Learning(Bptt(steps=2), scaler=Running(log=True)))
    state = taken(prequential, both(np.abs(SERIES) + 1))[-1]

    assert prequential.take(state, "a", np.array([-1.0, -1.0])) is None
    assert prequential.rescaling.problem(np.array([-1.0, -1.0])) == (
        "targets must be above 0 for Running(log=True)"
    )


def test_a_record_counts_as_much_as_its_weight_says():
    columns = Columns(key="id", inputs=["x"], weight="w")
    base = Untrained(Network("gru", hidden=3), columns).model()
    prequential = Prequential(base, Learning(Bptt(steps=2), gate=None))
    nothing = np.concatenate([both(SERIES), np.zeros((60, 1))], 1)

    assert taken(prequential, nothing)[-1].updates == 0
    nothing[20:30, 2] = 2.0
    assert taken(prequential, nothing)[-1].updates == 6


def test_a_restarted_sequence_keeps_its_learned_model():
    prequential = forecaster(Learning(Bptt(steps=4), gate=None))
    first = taken(prequential, both(SERIES[:20]))[-1]
    again = prequential.new_sequence(prequential.finish(first))

    assert again.updates == first.updates + 1  # the rest of its last window
    assert (again.steps, len(again.recent.x), len(again.recent.values)) == (0, 0, 0)
    np.testing.assert_array_equal(again.h, prequential.begin().h)
    assert again.statistics is first.statistics


def test_a_checkpoint_predicts_as_it_was_learned():
    prequential = forecaster(Learning(Bptt(steps=4, stride=1), gate=None))
    *_, before, after = taken(prequential, both(SERIES))
    model = prequential.checkpoint(before)

    x = model.scaled("b", SERIES[-1:]).astype(np.float32)
    _, y = model.step(before.h[None], x)
    scale = model.scaler.default.targets_scale
    assert (
        abs(model.restored("b", y[0]) - after.outputs) < 0.3 * scale
    )  # the scaling moved a little
    assert model.training == {"learned_from": prequential.base.digest, "updates": before.updates}


def test_classes_are_learned_without_scaling_them():
    columns = Columns(key="id", inputs=["x"], targets=["y"], classes=["no", "yes"], horizon=0)
    base = Untrained(Network("gru", hidden=4, output="softmax"), columns).model()
    prequential = Prequential(base, Learning(Bptt(steps=4), optimizer=Adam(0.05)))
    yes = SERIES[:, 0] > SERIES.mean()
    numbers = np.stack([SERIES[:, 0], ~yes, yes], 1).astype(float)

    states = taken(prequential, np.tile(numbers, (4, 1)))

    right = [state.outputs.argmax() == y for state, y in zip(states[-60:], yes, strict=True)]
    assert np.mean(right) > 0.9
    np.testing.assert_allclose(states[-1].outputs.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Learning(Bptt()), "a stream has no end: give a number of steps"),
        (lambda: Learning(bptt=4), "bptt must be a Bptt, got 4"),
        (lambda: Learning(gate=True), "gate must be a Gate, got True"),
        (lambda: Learning(clip_norm=0), "clip_norm must be above 0 or None, got 0"),
        (lambda: Learning(optimizer="adam"), "optimizer must be one such as"),
        (lambda: Learning(loss="mean"), "loss must be one of"),
        (lambda: Gate(1.0), "decay must be in"),
        (lambda: Gate(standard_errors=-1), "standard_errors must be in"),
        (lambda: Gate(patience=0), "patience must be a whole number of at least 1, got 0"),
        (lambda: Running(0.0), r"decay must be in \(0, 1\], got 0.0"),
        (lambda: Running(difference=0), "difference must be a whole number"),
        (lambda: Untrained("gru", COLUMNS), "network must be a Network, got 'gru'"),
        (lambda: Untrained(Network("gru"), COLUMNS, seed=-1), "seed must be a whole number"),
        (
            lambda: forecaster(Learning(scaler=Running(log=True)), output="gaussian"),
            "has no deviation in the unit of the targets",
        ),
        (
            lambda: forecaster(Learning(scaler=Running(difference=2)), horizon=(0, 1)),
            "needs horizons of at least 1, got 0",
        ),
        (
            lambda: forecaster(Learning(), bidirectional=True),
            "step by step: it needs .*bidirectional",
        ),
        (lambda: forecaster(Learning(), output_steps="last"), "step by step"),
    ],
)
def test_invalid_settings_of_online_learning_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_a_learned_model_is_named_by_its_base_and_its_updates():
    assert (name_of("3f", 0), name_of("3f", 7)) == ("3f", "3f+7")
