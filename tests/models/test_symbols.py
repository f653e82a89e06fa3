"""Symbols, vectors and numbers as inputs, and steps that carry nothing."""

from itertools import product

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn import (
    Columns,
    Network,
    Predict,
    PredictSequences,
    Sequences,
    Smooth,
    Train,
    Training,
    WriteModel,
)
from beam_rnn.data.vocabulary import Vocabulary
from beam_rnn.errors import ConfigurationError, RecordError, TrainingError
from beam_rnn.models.model import Model
from beam_rnn.nn.backprop import backward, forward, initial_states
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.embedding import embed
from beam_rnn.nn.losses import mse
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.cutting import cut
from beam_rnn.records.record_format import decode_record
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.testing import projection_error
from beam_rnn.training.fit import fit
from beam_rnn.weights import load, save
from tests.helpers.engines import predict, run

WORDS = ("the", "film", "is", "good", "bad")
MIXED = Columns(
    key="id",
    time="t",
    inputs=["roll", "x"],
    targets=["x"],
    vectors={"roll": 3},
    symbols=["word", "day"],
    vocabularies={"word": WORDS, "day": range(7)},
    calendar=["day"],
)


def mixed(i=0, **changes):
    return {
        "id": "a",
        "t": i,
        "roll": [0, 1, i % 2],
        "x": i / 2,
        "word": WORDS[i % 5],
        "day": i % 7,
    } | changes


def numbers_of(columns, record):
    return decode_record(RecordReader(columns).read(record).data).numbers.tolist()


def test_x_is_numbers_then_the_calendar_then_an_index_for_each_symbol():
    assert MIXED.number_names == (
        "roll[0]", "roll[1]", "roll[2]", "x", "day sine", "day cosine", "word", "day",
    )  # fmt: skip
    read = numbers_of(MIXED, mixed(0, x=2.5, word="is", day=6))
    assert read == [0, 1, 0, 2.5, 0, 1, 3, 7]
    assert numbers_of(MIXED, mixed(0, word="plot", day=99))[-2:] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"roll": [0, 1]}, "roll must be 3 numbers, not 2"),
        ({"roll": 5}, "roll must be a list of 3 numbers"),
        ({"roll": [0, "1", 0]}, r"roll\[1\] must be a number"),
        ({"roll": [[0, 1, 0]]}, "roll must be a list of 3 numbers"),
        ({"roll": None}, "roll is missing"),
        ({"word": None}, "word must be text or a whole number to be a symbol"),
        ({"word": True}, "word must be text or a whole number to be a symbol"),
        ({"word": "\ud800"}, "word must be valid Unicode to be a symbol"),
        ({"word": "w" * 2000}, "word must have at most 1024 bytes to be a symbol"),
    ],
)
def test_a_bad_vector_or_symbol_is_told(changes, reason):
    with pytest.raises(RecordError, match=reason):
        RecordReader(MIXED).read(mixed(**changes))


ROLLS = [
    [0, 1, 0],
    (1.0, 0.5, 2),
    np.array([0, 1, 1]),
    [0, 1],
    None,
    7,
    ["1", 0, 0],
    [0, float("nan"), 0],
]
SYMBOLS = ["good", "unseen", "", 3, None, True, 1.5, "\ud800"]
ROWS = st.tuples(st.integers(0, 9), st.sampled_from(ROLLS), st.sampled_from(SYMBOLS))
rows = st.lists(ROWS.map(lambda row: mixed(row[0], roll=row[1], word=row[2])), min_size=1)


def read_alone(record):
    """The record, or why it cannot be used."""
    try:
        return tuple(RecordReader(MIXED).read(record))
    except RecordError as error:
        return error.reason


@given(rows)
def test_records_read_by_the_column_are_records_read_alone(records):
    read = ColumnReader(MIXED).read(records, np.zeros(len(records), np.int64))
    letters = dict(read.invalid)
    for i, record in enumerate(records):
        here = letters[i].reason if i in letters else (read.keys[i], read.data[i])
        assert here == read_alone(record)


@pytest.mark.parametrize(
    "rolls",
    [
        pa.array([[0, 1, 0], None, [1, 2], [3, None, 1], [0.5, 1, 1]], pa.list_(pa.float64())),
        pa.array([[0, 1, 0], None, [1, 2, 3], [3, 0, 1], [1, 1, 1]], pa.list_(pa.int8(), 3)),
        pa.array([1, 2, 3, 4, 5]),
    ],
)
@pytest.mark.parametrize(
    "words", [["good", "unseen", None, "the", "is"], [1, 2, 3, 4, 5]], ids=["text", "whole"]
)
@pytest.mark.parametrize("coded", [False, True])
def test_a_batch_is_read_as_its_rows(rolls, words, coded):
    words = pa.array(words)
    table = pa.table(
        {
            "id": ["a"] * 5,
            "t": range(5),
            "x": [1.0] * 5,
            "roll": rolls,
            "word": words.dictionary_encode() if coded else words,
            "day": range(5),
        }
    )
    block, invalid = BatchReader(MIXED).read(table, np.zeros(5, np.int64))
    letters = dict(invalid)
    found = dict(zip(block.row.tolist(), block.numbers.tolist(), strict=True))
    for i, record in enumerate(table.to_pylist()):
        alone = read_alone(record)
        if isinstance(alone, str):
            assert letters[i].reason == alone
        else:
            assert found[i] == decode_record(alone[1]).numbers.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"symbols": ["word"], "targets": []}, r"symbols=\['word'\] without inputs"),
        ({"symbols": ["y"], "inputs": ["y"]}, "inputs and symbols both name y"),
        ({"symbols": ["w"], "missing": "carry", "inputs": ["x"]}, "missing='carry' is for numbers"),
        ({"inputs": ["x"], "vocabularies": {"w": "ab"}}, "name 'w', which is not in symbols="),
        ({"symbols": ["w"], "vocabularies": {"w": []}}, r"must be a list of symbols, got \[\]"),
        ({"symbols": ["w"], "vocabularies": {"w": ["a", "a"]}}, "has 'a' twice"),
        ({"symbols": ["w"], "vocabularies": {"w": [1.5]}}, "text or a whole number, got 1.5"),
        ({"symbols": ["w"], "vocabularies": 5}, "must be a mapping from fields, got 5"),
        ({"inputs": ["x"], "vectors": {"z": 3}}, "vectors name 'z'"),
        ({"inputs": ["x"], "vectors": {"x": 0}}, "must be a whole number of at least 1, got 0"),
    ],
)  # fmt: skip
def test_columns_that_do_not_go_together_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Columns(**{"key": "id", "targets": ["y"]} | settings)


def test_columns_survive_json():
    assert Columns(**MIXED.to_json()) == MIXED
    assert Columns(**MIXED.to_json()).fingerprint == MIXED.fingerprint
    assert MIXED.with_vocabularies({"word": ["other"]}) == MIXED  # known ones stay


EMBEDDED = {
    "forward": {"cell": "gru"},
    "stack": {"cell": "lstm", "hidden": (4, 3)},
    "both": {"cell": "rnn", "bidirectional": True},
    "last": {"cell": "gru", "output_steps": "last"},
    "residual": {"cell": "gru", "residual": True},
    "alone": {"cell": "lstm", "carry": False, "initial_state": "learned"},
}
STEPPING = [case for case in EMBEDDED if case not in ("both", "last")]


def embedded(case, dtype=np.float64):
    network = Network(**{"hidden": 4, "embedding": (3, 2)} | EMBEDDED[case])
    parameters = network.initialize(4, 1, 0, np.float64, symbols=(5, 3))
    random = np.random.default_rng(0)
    return network, {
        name: (value + 0.3 * random.standard_normal(value.shape)).astype(dtype)
        for name, value in parameters.items()
    }


def symbol_batch(lengths, random):
    """(time, batch, 2 numbers + 2 indices), and targets."""
    steps = max(lengths)
    x = random.standard_normal((steps, len(lengths), 4))
    x[..., 2] = random.integers(0, 5, x.shape[:2])
    x[..., 3] = random.integers(0, 3, x.shape[:2])
    return x, random.standard_normal((steps, len(lengths), 1))


@pytest.mark.parametrize("case", EMBEDDED)
def test_the_gradient_reaches_the_vectors_of_symbols(case):
    network, parameters = embedded(case)
    lengths = np.array([6, 4, 1])
    x, targets = symbol_batch(lengths, np.random.default_rng(1))
    weights = (np.arange(6)[:, np.newaxis] < lengths).astype(float)
    if network.output_steps == "last":
        targets, weights = targets[:1], weights[:1]

    def loss(at):
        states = initial_states(network, at, 3)
        z, _, trace = forward(network, at, x, states, lengths)
        return *mse(z, targets, weights), trace

    _, d_z, trace = loss(parameters)
    gradient = backward(network, parameters, trace, d_z)
    assert np.abs(gradient["embedding.0.E"]).sum() > 0
    assert projection_error(lambda at: loss(at)[0], gradient, parameters) < 1e-6


@pytest.mark.parametrize(("case", "kernel"), list(product(STEPPING, ["numpy", "fused"])))
def test_a_step_has_the_bits_that_it_has_in_a_sequence(case, kernel):
    network, parameters = embedded(case, np.float32)
    model = Model(network, parameters, kernel=kernel)
    x, _ = symbol_batch([7, 7, 7], np.random.default_rng(1))
    x = x.swapaxes(0, 1).astype(np.float32)
    whole = model.forward(x)
    state = model.initial_state(3)
    for t in range(7):
        state, y = model.step(state, x[:, t])
        np.testing.assert_array_equal(y, whole[:, t])
    alone = model.forward(x[1:2, :4])
    np.testing.assert_array_equal(alone[0], whole[1, :4])


def test_without_carry_a_step_sees_its_own_record_alone():
    network, parameters = embedded("alone", np.float32)
    model = Model(network, parameters)
    x, _ = symbol_batch([5], np.random.default_rng(1))
    x = x.swapaxes(0, 1).astype(np.float32)
    shuffled = [3, 0, 4, 2, 1]
    np.testing.assert_array_equal(model.forward(x)[:, shuffled], model.forward(x[:, shuffled]))
    elsewhere = model.step(np.full((1, model.state_size), 7, np.float32), x[:, 2])[1]
    np.testing.assert_array_equal(elsewhere, model.forward(x)[:, 2])


@pytest.mark.parametrize("other", [{"bidirectional": True}, {"output_steps": "last"}])
def test_one_to_one_is_no_whole_sequence(other):
    with pytest.raises(ConfigurationError, match="carry=False lets every step see its own record"):
        Network(carry=False, **other)


SENTENCES = {
    f"{i}": f"the film is {'good' if i % 2 else 'bad'} {rare}".split()
    for i, rare in enumerate(["a", "b", "c", "d", "e", "f", "g", "h"])
}
COLUMNS = Columns(
    key="id", time="t", symbols=["word"], targets=["label"], classes=["bad", "good"], horizon=0
)
NETWORK = Network("gru", hidden=4, output="softmax", output_steps="last", embedding=3)
TRAINING = Training(epochs=25, scaler="none", vocabulary=Vocabulary(at_least=2), batch_size=4)


def spoken(sentences=SENTENCES):
    for key, words in sentences.items():
        for t, word in enumerate(words):
            yield {"id": key, "t": t, "word": word, "label": "good" if int(key) % 2 else "bad"}


def sequences_of(records, columns=COLUMNS):
    reader = RecordReader(columns, targets=True)
    by_key = {}
    for record in records:
        key, data = reader.read(record)
        by_key.setdefault(key, []).append(data)
    return [s for key, data in by_key.items() for s in cut(key, data, columns)]


def test_a_vocabulary_is_made_of_what_is_learned_from():
    model = fit(NETWORK, sequences_of(spoken()), TRAINING)
    assert model.columns.vocabulary("word") == ("film", "is", "the", "bad", "good")
    assert model.training["settings"]["vocabulary"] == {"at_least": 2, "at_most": None}
    held_back = fit(
        NETWORK, sequences_of(spoken()), Training(epochs=1, scaler="none", validation=0.25)
    )
    words = held_back.columns.vocabulary("word")
    assert len(set("abcdefgh") & set(words)) == 6  # two sentences are held back


def test_a_pipeline_learns_symbols_and_tells_them(tmp_path):
    path = str(tmp_path / "weights.arrow")
    records = list(spoken())
    random = np.random.default_rng(0)

    def train(p):
        shuffled = [records[i] for i in random.permutation(len(records))]
        sequences = p | beam.Create(shuffled) | Sequences(COLUMNS)
        return sequences | Train(NETWORK, TRAINING) | WriteModel(path)

    run(train)
    model = load(path)
    assert model == fit(NETWORK, sequences_of(records), TRAINING)
    fresh = {"10": ["the", "film", "is", "bad", "z"], "11": ["the", "film", "is", "good", "z"]}
    said = predict(Predict(path, emit="last"), [r | {"label": None} for r in spoken(fresh)])
    assert {p.key: int(np.argmax(p.outputs)) for p in said.predictions} == {"10": 0, "11": 1}
    (letter,) = predict(Predict(path), [{"id": "1", "t": 0, "word": None}]).invalid
    assert letter.reason == "word must be text or a whole number to be a symbol"


def test_the_unknown_symbol_is_nothing_where_training_saw_none():
    columns = Columns(key="id", time="t", symbols=["word"], targets=["x"], inputs=["x"])
    records = [{"id": "a", "t": t, "word": "ab"[t % 2], "x": t % 2} for t in range(40)]
    network = Network("gru", hidden=4, embedding=3)
    model = fit(network, sequences_of(records, columns), Training(epochs=2))
    E = model.parameters["embedding.0.E"]
    assert not E[0].any()
    assert E[1:].all()
    x = embed(network, model.parameters, np.array([[0.5, 0.0]], np.float32))
    np.testing.assert_array_equal(x, np.array([[0.5, 0, 0, 0]], np.float32))


def test_numbers_beside_symbols_are_scaled_and_indices_are_not():
    columns = Columns(key="id", time="t", symbols=["word"], inputs=["x"])
    records = [{"id": "a", "t": t, "word": "abc"[t % 3], "x": 100 + t % 3} for t in range(40)]
    model = fit(Network(hidden=4, embedding=2), sequences_of(records, columns), Training(epochs=1))
    scaled = model.scaled("a", np.array([[100.0, 3.0], [102.0, 0.0]]))
    assert scaled[:, 1].tolist() == [3, 0]
    assert scaled[0, 0] == -scaled[1, 0] or abs(scaled).max() < 3
    load_and_save = model.training["settings"]
    assert load_and_save["scaler"] == "per_key"


def test_a_model_with_symbols_is_the_same_from_a_file(tmp_path):
    model = fit(NETWORK, sequences_of(spoken()), TRAINING)
    save(model, tmp_path / "weights.arrow")
    again = load(tmp_path / "weights.arrow")
    assert again == model
    assert again.columns == model.columns
    assert again.network.embedding == (3,)


@pytest.mark.parametrize(
    ("network", "columns", "message"),
    [
        (Network(output="softmax"), COLUMNS, "such as Network"),
        (
            Network(embedding=3),
            Columns(key="id", time="t", inputs=["x"]),
            r"symbols=\[\], the network has embedding=\(3,\)",
        ),
    ],
)
def test_symbols_need_an_embedding_and_an_embedding_symbols(network, columns, message):
    records = [r | {"x": 1.0} for r in spoken()]
    with pytest.raises(ConfigurationError, match=message):
        fit(network, sequences_of(records, columns), Training(epochs=1))


def test_a_vocabulary_without_a_symbol_is_an_error():
    training = Training(epochs=1, scaler="none", vocabulary=Vocabulary(at_least=100))
    with pytest.raises(TrainingError, match=r"no symbol of 'word' is in Vocabulary\(at_least=100"):
        fit(NETWORK, sequences_of(spoken()), training)


def test_a_vector_is_forecast_as_a_vector():
    columns = Columns(key="id", time="t", inputs=["roll"], vectors={"roll": 3})
    assert columns.target_names == ("roll[0]", "roll[1]", "roll[2]")
    pattern = np.eye(3)
    records = [{"id": "a", "t": t, "roll": pattern[t % 3].tolist()} for t in range(60)]
    network = Network("rnn", hidden=8, output="sigmoid")
    training = Training(epochs=120, scaler="none", bptt=Bptt(steps=8))
    model = fit(network, sequences_of(records, columns), training)
    outputs = model.forward(np.eye(3, dtype=np.float32)[np.newaxis])
    np.testing.assert_array_equal(outputs[0].argmax(1), [1, 2, 0])


def talk(n, key="a"):
    """Records with random words."""
    random = np.random.default_rng(n)
    return [
        mixed(i, id=key, word=WORDS[random.integers(5)], x=float(random.standard_normal()))
        for i in range(n)
    ]


@pytest.mark.parametrize("output_steps", ["every", "last"])
def test_whole_sequences_of_symbols_have_the_bits_of_the_forward_pass(output_steps, tmp_path):
    """In both directions, in two layers: each of the three transforms that has a use for them."""
    network = Network("gru", 4, 2, bidirectional=True, embedding=(3, 2), output_steps=output_steps)
    parameters = network.initialize(8, 1, 0, symbols=MIXED.vocabulary_sizes)
    model = Model(network, parameters, MIXED, kernel="numpy")
    path = tmp_path / "w.arrow"
    save(model, path)
    records = {key: talk(n, key) for key, n in (("a", 9), ("b", 2), ("c", 5))}
    shuffled = [record for i in range(9) for rows in records.values() for record in rows[8 - i :]]

    outputs = predict(PredictSequences(path, kernel="numpy"), shuffled)

    assert not outputs.invalid
    for key, rows in records.items():
        x = np.array([numbers_of(MIXED, row) for row in rows], np.float32)
        ordered = sorted((p.time, p.outputs) for p in outputs.predictions if p.key == key)
        expected = model.forward(x[np.newaxis])
        expected = expected if output_steps == "last" else expected[0]
        assert [said for _, said in ordered] == expected.tolist()
    if output_steps == "every":  # with a lag beyond its end, a sequence is whole
        smoothed = predict(Smooth(path, lag=20, kernel="numpy"), shuffled)
        assert sorted(p[:4] for p in smoothed.predictions) == sorted(
            p[:4] for p in outputs.predictions
        )
