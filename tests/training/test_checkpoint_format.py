"""Checkpoints of earlier releases can be resumed; a training writes the same bytes today."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beam_rnn import Columns, Network, Sequence, Training
from beam_rnn.nn.schedules import Best, PlateauState
from beam_rnn.optim import AdamW, Plateau, Sgd
from beam_rnn.pairs import EncoderDecoder, Pair, PairColumns
from beam_rnn.training import checkpoint_format as checkpoints
from beam_rnn.training.dataset import prepare
from beam_rnn.training.rounds import begin
from beam_rnn.training.settings import Rounds

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden"
COLUMNS = Columns(key="id", time="t", inputs=["x"])
PAIRS = PairColumns(key="id", source="said", target="meant")
TRAINING = Training(epochs=4, optimizer=AdamW(0.01), kernel="numpy", seed=3)


def saw(key, steps):
    """A sequence of numbers that every machine scales to the same bits."""
    values = np.arange(steps + 1.0)[:, np.newaxis] % 4
    times = np.arange(steps) * 1_000_000
    return Sequence(COLUMNS, key, times, values[:-1], values[1:], steps * 1_000_000)


CASES = {
    "checkpoint-v1.arrow": (
        Network("lstm", 2, output="gaussian", residual=False),
        [saw("a", 9), saw("b", 5)],
        replace(TRAINING, validation=0.25, patience=2, plateau=Plateau()),
    ),
    "checkpoint-v1-pairs.arrow": (
        EncoderDecoder("gru", hidden=2, embedding=2, attention="additive"),
        [Pair(PAIRS, "1", ("a", "b"), ("x",)), Pair(PAIRS, "2", ("b",), ("x", "y", "x"))],
        TRAINING,
    ),
}
"""File -> what is trained, from what, and how."""


def made(name):
    """Return a training after two rounds, and its arguments."""
    network, given, training = CASES[name]
    rounds = Rounds(shards=2, outer=Sgd(1.0, momentum=0.5, nesterov=True))
    plan = prepare(network, given, training, rounds.shards).plan
    first = begin(plan, training, rounds)
    best = {
        name: np.arange(value.size, dtype=np.float32).reshape(value.shape) / 8
        for name, value in first.parameters.items()
    }  # those of a seed have bits that depend on the machine
    standing = first._replace(
        rounds=2,
        parameters={name: value + np.float32(0.5) for name, value in best.items()},
        best_parameters=best,
        rate=PlateauState(Best(0.25, 1), 0.5),
        best=Best(0.25, 1),
        loss_curve=(1.0, 0.5),
        validation_curve=(0.25, 0.75) if training.validation else (),
    )
    return standing, plan, training, rounds


@pytest.mark.parametrize("name", CASES)
def test_training_resumes_from_a_checkpoint_of_an_earlier_release(name):
    standing, plan, training, rounds = made(name)
    read = checkpoints.from_bytes((GOLDEN / name).read_bytes(), name)
    resumed = checkpoints.check_goes_on(read, plan, training, rounds, name)
    for tree in ("parameters", "best_parameters"):
        assert_same_arrays(getattr(resumed, tree), getattr(standing, tree))
    assert_same_arrays(read.model.parameters, standing.best_parameters)
    assert resumed[1] == standing[1]
    assert resumed[5:7] == standing[5:7]
    assert resumed[8:] == standing[8:]
    assert (read.model.columns, read.model.network) == (plan.columns, plan.network)


def assert_same_arrays(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        np.testing.assert_array_equal(actual[name], value)


@pytest.mark.parametrize("name", CASES)
def test_the_same_training_writes_the_same_bytes(name):
    assert checkpoints.to_bytes(*made(name)) == (GOLDEN / name).read_bytes()
