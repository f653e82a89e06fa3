"""A sweep gives the results of single steps."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn import Columns, InvalidRecord, Model, Network, Prediction
from beam_rnn import weights as weights_file
from beam_rnn.engine.steppers import predict as stepping
from beam_rnn.engine.steppers.predict import Policy, PredictStepper
from beam_rnn.models.state_format import KeyState, decode_state, encode_state
from beam_rnn.records.record_format import encode_record
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.sources import PredictSource
from tests.helpers.models import COLUMNS, random_model

SECOND = 1_000_000
NETWORKS = {
    "gru": Network("gru", 5),
    "lstm": Network("lstm", (4, 3), residual=True),
    "learned start": Network("gru", 4, initial_state="learned"),
    "quantiles": Network("rnn", 3, activation="relu", output="quantiles", quantiles=(0.1, 0.9)),
    "gaussian": Network("lstm", 3, output="gaussian"),
}


@pytest.fixture(scope="module", params=["numpy", "fused"])
def kernel(request):
    return request.param


@pytest.fixture(scope="module", params=NETWORKS)
def loader(request, kernel, tmp_path_factory):
    columns = replace(COLUMNS, start="first", end="last")
    model = random_model(NETWORKS[request.param], columns=columns)
    path = tmp_path_factory.mktemp("weights") / "weights.arrow"
    weights_file.save(model, path)
    return ModelLoader(str(path), kernel=kernel)


records = st.lists(
    st.tuples(
        st.integers(1, 9),  # seconds since the one before
        st.integers(-3, 3),
        st.sampled_from([0.0, 0.0, 0.0, 1e300]),  # beyond float32
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)


@settings(deadline=None, max_examples=60)
@given(
    rows=records,
    cut=st.integers(0, 20),
    emit=st.sampled_from(["every", "last"]),
    idle_after=st.sampled_from([None, 5 * SECOND]),
    replay=st.sampled_from([0, 3]),
    with_state=st.booleans(),
    key=st.sampled_from(["a", "never seen"]),
)
def test_a_sweep_has_the_bits_of_one_step_after_another(
    rows, cut, emit, idle_after, replay, with_state, key, loader
):
    change = "replay" if replay else "error"
    policy = Policy(emit, idle_after, change, replay, with_state)
    time, encoded = 0, []
    for i, (later, x, beyond, starts, ends) in enumerate(rows):
        time += later * SECOND
        numbers = np.array([x / 3, x + beyond])
        encoded.append(encode_record(time, i, numbers, starts=starts and x > 1, ends=ends))

    came_out = {}
    for swept_from, at_most in ((1, 1000), (1, 7), (1000, 1000)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stepping, "BATCHED_FROM", swept_from)
            patch.setattr(stepping, "BATCHED_AT_MOST", at_most)
            stepper = PredictSource(loader, policy).stepper()
            state, first = stepper.step(key, None, encoded[:cut])
            state, second = stepper.step(key, state, encoded[cut:])
            end = stepper.end(key, state, "window")
            came_out[swept_from, at_most] = state, first, second, end

    assert came_out[1, 1000] == came_out[1, 7] == came_out[1000, 1000]


def test_plain_records_are_stepped_as_a_batch(loader, monkeypatch):
    """So that the test above compares two ways, and not one with itself."""
    stepper = PredictSource(loader, Policy()).stepper()
    monkeypatch.setattr(PredictStepper, "_one_by_one", None)

    encoded = [encode_record(t * SECOND, 0, np.ones(2)) for t in range(8)]
    _, steps = stepper.step("a", None, encoded)

    assert [step.result.step for step in steps] == list(range(1, 9))


GROWS = Network("rnn", 1, activation="relu", output="sigmoid")


@pytest.fixture
def growing(tmp_path):
    """A model whose hidden state doubles beyond float32 while its outputs stay at 1."""
    columns = Columns(key="id", time="t", inputs=["x"], targets=["y"])
    parameters = {n: np.ones_like(v) for n, v in GROWS.initialize(1, 1, 0).items()}
    for name, value in parameters.items():
        if name.endswith("W_h"):
            value[:] = 2
    path = tmp_path / "weights.arrow"
    weights_file.save(Model(GROWS, parameters, columns), path)
    return ModelLoader(str(path))


@pytest.mark.parametrize("swept_from", [1, 1000])
def test_a_state_that_is_infinite_is_no_state(swept_from, growing, monkeypatch):
    """Though the outputs of its step are numbers."""
    monkeypatch.setattr(stepping, "BATCHED_FROM", swept_from)
    stepper = PredictSource(growing, Policy()).stepper()
    encoded = [encode_record(t * SECOND, 0, np.array([x])) for t, x in enumerate([3e38, 3e38, 1])]

    state, steps = stepper.step("a", None, encoded)

    assert [type(step.result) for step in steps] == [Prediction, InvalidRecord, InvalidRecord]
    assert np.isfinite(decode_state(state).values).all()


def test_replayed_inputs_are_checked_as_any_step_is(growing):
    """One that the new model cannot step is left out; without any the sequence ends."""
    stepper = PredictSource(growing, Policy(on_model_change="replay", replay=3)).stepper()
    record = encode_record(9 * SECOND, 0, np.array([1.0]))

    def left(*inputs):
        place = len(inputs), 0, 8 * SECOND, 0
        values, outputs = np.zeros(1, np.float32), np.zeros(1)
        return KeyState("ab" * 32, "numpy", *place, values, outputs, np.array(inputs))

    state, steps = stepper.step("a", encode_state(left(1.0, 1e300)), [record])
    plain, _ = stepper.step("a", encode_state(left(1.0)), [record])
    assert decode_state(state).values == decode_state(plain).values
    assert [step.result.step for step in steps] == [3]
    _, steps = stepper.step("a", encode_state(left(1e300)), [record])
    assert [getattr(s.result, "reason", s.result.model) for s in steps] == [
        "model",
        stepper.library.newest.digest,
    ]
