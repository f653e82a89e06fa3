"""Damaged models, checkpoints and states: the library's own error, or the original."""

import io
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_rnn import Bptt, Columns, Network, weights
from beam_rnn.core import sealed_format as sealed
from beam_rnn.engine.exported_states import SCHEMA, read_states, to_row
from beam_rnn.errors import BeamRnnError, CheckpointError, StateError, WeightsError
from beam_rnn.models.error_tail import NO_ERRORS
from beam_rnn.models.error_tail_format import Scored, decode_scored, encode_scored
from beam_rnn.models.state_format import KeyState, decode_kept, decode_state, encode_state
from beam_rnn.online import Learning
from beam_rnn.records.results import EndedSequence
from beam_rnn.training import checkpoint_format as checkpoints
from beam_rnn.training.dataset import prepare
from beam_rnn.training.online.learned_format import Place, decode_learned, encode_learned
from beam_rnn.training.online.prequential import Prequential
from beam_rnn.training.online.settings import Untrained
from beam_rnn.training.rounds import begin
from beam_rnn.training.settings import Rounds, Training
from tests.helpers.models import keyed_models, random_model
from tests.helpers.mutations import COUNTS, mutated
from tests.helpers.sequences import wave


class Reader(NamedTuple):
    """A reader, and the bytes of something good."""

    data: bytes
    read: Any
    error: type[BeamRnnError]


def models_of(data):
    """What is in a weights file, of keys every model."""
    models = weights.from_buffer(data)
    return {key: models.of(key) for key in (*models.models, "never seen")}


def checkpoint():
    training, network = Training(epochs=1), Network("gru", 3)
    plan = prepare(network, [wave()], training).plan
    return checkpoints.to_bytes(begin(plan, training, Rounds()), plan, training, Rounds())


def states():
    rows = [
        to_row(
            EndedSequence(
                key, 3, 0, 10**6 * i, [0.1 * i], "window", "3f" * 32, b"abcd" * 5, i, "numpy"
            )
        )
        for i, key in enumerate(["a", "é", "pump 7"])
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, compression="none")
    return file.getvalue()


def states_of(data):
    return dict(read_states(io.BytesIO(data), len(data), "states.parquet"))


SEALED = {
    "weights": Reader(weights.to_bytes(random_model()), weights.from_buffer, WeightsError),
    "keyed weights": Reader(weights.to_bytes(keyed_models()), models_of, WeightsError),
    "checkpoint": Reader(
        checkpoint(), lambda data: checkpoints.from_bytes(data).model, CheckpointError
    ),
}
EXPORTED = Reader(states(), states_of, StateError)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("what", SEALED)
def test_a_damaged_file_is_refused(what, count):
    data, read, error = SEALED[what]
    for damaged in mutated(data, count):
        with pytest.raises(error):
            read(damaged)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("what", SEALED)
def test_a_crafted_file_is_refused_or_equal_to_the_original(what, count):
    """Its seal is right: the rest must hold as well. Of a checkpoint the numbers may be others."""
    data, read, error = SEALED[what]
    written, refused = read(data), 0
    for damaged in mutated(data, count):
        try:
            found = read(sealed_anew(damaged))
        except error:
            refused += 1
        else:
            assert what == "checkpoint" or found == written
    assert refused > count / 2


def sealed_anew(data):
    found = sealed._SEAL.search(data)  # what an attacker would do
    if found is None:
        return data
    zeros = found[0][:-64] + b"0" * 64
    return sealed.seal(pa.py_buffer(data.replace(found[0], zeros)))


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_exported_states_are_refused_or_equal_to_the_originals(count):
    """The statistics and unread parts of a Parquet file may change."""
    data, read, error = EXPORTED
    written, refused = read(data), 0
    for damaged in mutated(data, count):
        try:
            found = read(damaged)
        except error:
            refused += 1
        else:
            assert found.items() <= written.items()
    assert refused > count / 4


def learned():
    base = Untrained(Network("gru", hidden=2), Columns(key="id", inputs=["x"])).model()
    prequential = Prequential(base, Learning(Bptt(steps=3)))
    state, place = prequential.begin(), Place(base.digest, base.kernel, b"settings", 1, 2, 3)
    for x in range(5):
        state = prequential.take(state, "a", np.array([float(x), float(x)]))
    return Reader(
        encode_learned(place, state),
        lambda data: decode_learned(data, prequential.begin(), place),
        StateError,
    )


STATE = KeyState("3f" * 32, "numpy", 3, 1, 2, 3, np.ones(4, np.float32), np.ones(1), np.ones(2))
STORED = {
    "state": Reader(encode_state(STATE), decode_state, StateError),
    "history": Reader(
        np.ones(12).tobytes(),
        lambda data: decode_kept(np.frombuffer(data[: len(data) // 8 * 8]), 2),
        StateError,
    ),
    "scored": Reader(
        encode_scored(Scored(encode_state(STATE), (0.5, 1.5), (NO_ERRORS,) * 2)),
        lambda data: decode_scored(data, 2),
        StateError,
    ),
    "learned": learned(),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("what", STORED)
def test_damaged_state_of_a_key_is_refused_or_has_other_numbers(what, count):
    """It has no digest, since a runner keeps it: another length or version is refused."""
    data, read, error = STORED[what]
    read(data)
    refused = 0
    for damaged in mutated(data, count):
        try:
            read(damaged)
        except error:
            refused += 1
    assert refused > count / 4
