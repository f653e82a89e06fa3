import apache_beam as beam
import numpy as np
import pytest

from beam_rnn import Columns, Network, Predict, Sequences, Train, Training, WriteModel, weights
from beam_rnn.cells import CELLS
from beam_rnn.errors import ConfigurationError, WeightsError
from beam_rnn.nn.cells import ELMAN, GRU_RESET_BEFORE
from beam_rnn.testing import CELL_CHECKS, check_cell
from tests.helpers.engines import Collect, run
from tests.helpers.minimal_gated_unit import MINIMAL_GATED_UNIT
from tests.helpers.oracle import expected, streamed

ALL = {f"rnn-{name}": cell for name, cell in ELMAN.items()} | {
    "gru": CELLS["gru"],
    "gru-reset-before": GRU_RESET_BEFORE,
    "lstm": CELLS["lstm"],
    "a user's": MINIMAL_GATED_UNIT,
}
GRU = CELLS["gru"]


@pytest.mark.parametrize("cell", ALL)
@pytest.mark.parametrize("check", CELL_CHECKS)
def test_every_cell_conforms(cell, check):
    CELL_CHECKS[check](ALL[cell])


def forward_with(change):
    def forward(p, state, a):
        following, cache = GRU.forward(p, state, a)
        return change(following, state, a), cache

    return GRU._replace(forward=forward)


def backward_with(change):
    return GRU._replace(backward=lambda p, cache, d: change(GRU.backward(p, cache, d)))


def write_into_the_state(following, state, _):
    state[0][:] = following[0]
    return following


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            forward_with(lambda after, _, a: (after[0].astype(np.float64),)),
            r"the state is .*float64.* not .*float32",
        ),
        (GRU._replace(states=2, forward=lambda p, s, a: GRU.forward(p, s[:1], a)), "the state is"),
        (forward_with(write_into_the_state), "writes into an argument"),
        (forward_with(lambda after, _, a: (after[0] - after[0].mean(0),)), "have other bits"),
        (
            forward_with(lambda after, _, a: (after[0] + 0 * np.exp(a[:, : after[0].shape[1]]),)),
            "a = 10000: overflow",
        ),
        (backward_with(lambda step: step._replace(a=step.a * 1.001)), "the gradient is wrong by"),
        (backward_with(lambda step: step._replace(W_h=step.W_h * 0)), "the gradient is wrong by"),
    ],
    ids=["type", "states", "writes", "mixes rows", "overflows", "gradient of a", "of W_h"],
)
def test_check_cell_names_the_broken_requirement(cell, message):
    with pytest.raises(AssertionError, match=message):
        check_cell(cell)


def test_a_user_s_cell_is_trained_stored_and_streamed(monkeypatch, tmp_path):
    monkeypatch.setitem(CELLS, "mgu", MINIMAL_GATED_UNIT)
    columns = Columns(key="id", time="t", inputs=["x"])
    records = [{"id": f"k{t % 3}", "t": t, "x": np.sin(t / 4) + t % 3} for t in range(150)]
    path = tmp_path / "weights.arrow"
    predictions = Collect()

    run(
        lambda p: (
            p
            | beam.Create(records)
            | Sequences(columns, length=20)
            | Train(Network("mgu", hidden=6, layers=2), Training(epochs=3))
            | WriteModel(path)
        )
    )
    run(
        lambda p: (
            (p | beam.Create(records) | Predict(path, with_state=True)).predictions | predictions
        )
    )

    model = weights.load(path)
    curve = model.training["loss_curve"]
    assert curve[-1] < curve[0]
    assert streamed(predictions.elements) == expected(model, records)

    monkeypatch.delitem(CELLS, "mgu")
    with pytest.raises(ConfigurationError, match="cell must be one of rnn, gru, lstm, got 'mgu'"):
        Network("mgu")
    with pytest.raises(WeightsError, match=r"the cell 'mgu', .* import the module that"):
        weights.load(path)
