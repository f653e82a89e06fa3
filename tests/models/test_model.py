import pickle
from dataclasses import replace

import numpy as np
import pytest

from beam_rnn.data.columns import Columns
from beam_rnn.data.scaling import Scaler
from beam_rnn.errors import ConfigurationError
from beam_rnn.models.model import Model
from beam_rnn.nn.network import Network

NETWORK = Network("gru", hidden=4)
COLUMNS = Columns(key="id", inputs=["a", "b"], targets=["a"])


def model(**changes):
    arguments = {
        "network": NETWORK,
        "parameters": NETWORK.initialize(2, 1, seed=0),
        "columns": COLUMNS,
        "scaler": Scaler.identity(2, 1),
        "training": {"loss_curve": [1.0]},
    }
    return Model(**arguments | changes)


def test_the_digest_says_all_that_decides_a_prediction():
    other_parameters = NETWORK.initialize(2, 1, seed=0)
    other_parameters["head.b_y"] = np.full(1, 1e-30, np.float32)
    twice = Scaler(Scaler.identity(2, 1).default._replace(targets_scale=np.full(1, 2.0)), {})

    changed = [
        model(parameters=other_parameters),
        model(network=replace(NETWORK, residual=True)),
        model(columns=replace(COLUMNS, horizon=2)),
        model(scaler=twice),
        model(scaler=None),
        model().astype("float64"),
    ]

    digests = {m.digest for m in changed}
    assert len(digests) == len(changed)
    assert model().digest not in digests
    assert model().digest == model(training={}).digest
    assert model() == model(training={})
    assert model() != changed[0]


def test_parameters_cannot_be_changed():
    m = model()
    with pytest.raises(ValueError, match="read-only"):
        m.parameters["head.b_y"][0] = 1


def test_a_pickled_model_is_the_same_model():
    assert pickle.loads(pickle.dumps(model())).digest == model().digest  # noqa: S301


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": Columns(key="id", inputs=["a"])}, "for 2 inputs and 1 targets, but columns"),
        ({"scaler": Scaler.identity(3, 1)}, "but the scaler is for 3 and 1"),
        ({"network": Network("gru", hidden=5)}, "parameters do not fit"),
        (
            {
                "network": replace(NETWORK, residual=True),
                "columns": replace(COLUMNS, targets=["b"]),
            },
            "needs the targets to be the first inputs",
        ),
        ({"parameters": NETWORK.initialize(2, 1, 0, np.float16)}, r"got \['float16'\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        model(**changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 2)),), r"x must have the shape \(batch, time, 2\), got \(3, 2\)"),
        ((np.zeros((3, 5, 4)),), r"got \(3, 5, 4\)"),
        ((np.zeros((2, 5, 2)), [5, 6]), r"2 whole numbers from 0 to 5, got \[5 6\]"),
        ((np.zeros((2, 5, 2)), [5]), r"got \[5\]"),
        ((np.zeros((2, 5, 2)), None, np.zeros((2, 3))), r"shape \(2, 4\), got \(2, 3\)"),
    ],
)
def test_arrays_of_the_wrong_shape_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        model().forward(*arguments)


def test_outputs_have_the_type_of_the_parameters():
    x = np.zeros((1, 2, 2), np.float64)

    assert model().forward(x).dtype == np.float32
    assert model().astype(np.float64).forward(x).dtype == np.float64
