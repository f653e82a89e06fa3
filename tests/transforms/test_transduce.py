"""Sequence-to-sequence models: encoder, decoder, attention."""

from dataclasses import replace
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_rnn import (
    Columns,
    Dropout,
    Generate,
    Network,
    Predict,
    ReadModel,
    Sequences,
    Train,
    Training,
    Vocabulary,
    WriteModel,
)
from beam_rnn.data.sequences import Example
from beam_rnn.errors import ConfigurationError, RecordError, TrainingError
from beam_rnn.models.beam_search import Decoder
from beam_rnn.models.model import Model
from beam_rnn.nn.dropout import draw
from beam_rnn.nn.encoder_decoder import part_of
from beam_rnn.nn.kernels import kernel_of
from beam_rnn.nn.seq2seq import UNWRITABLE, backward, batch_of_pairs, forward, loss_of
from beam_rnn.optim import Adam
from beam_rnn.pairs import EncoderDecoder, Pair, PairColumns, Pairs, Transduce, Transducer
from beam_rnn.records.pair_reader import PairReader
from beam_rnn.testing import projection_error
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.settings import Rounds
from beam_rnn.weights import load, save
from tests.helpers.engines import ENGINES, Collect, Outputs, elements, predict, run

COLUMNS = PairColumns(key="id", source="said", target="meant")
NETWORKS = {
    "plain": {"cell": "gru"},
    "elman": {"cell": "rnn", "layers": 2},
    "both directions": {"cell": "lstm", "bidirectional": True},
    "attention": {"cell": "gru", "attention": "additive", "layers": 2},
    "all": {"cell": "lstm", "attention": "additive", "bidirectional": True},
}
SOURCES, TARGETS = 6, 4  # symbols, with 0


def network_of(case, **settings):
    return EncoderDecoder(**{"hidden": 5, "embedding": 3} | NETWORKS[case] | settings)


def noisy(network, dtype=np.float64):
    random = np.random.default_rng(0)
    parameters = network.initialize(SOURCES, TARGETS, 0, np.float64)
    return {
        name: (value + 0.2 * random.standard_normal(value.shape)).astype(dtype)
        for name, value in parameters.items()
    }


def examples(lengths, seed=1):
    random = np.random.default_rng(seed)
    return [
        Example(
            random.integers(0, SOURCES, (n, 1)).astype(np.float32),
            random.integers(1, TARGETS, (m, 1)).astype(np.float32),
        )
        for n, m in lengths
    ]


RAGGED = [(3, 1), (5, 4), (1, 6), (5, 0)]


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("dropout", [Dropout(), Dropout(0.3, 0.3, 0.3)], ids=["all", "dropout"])
def test_the_gradient_passes_through_decoder_attention_and_encoder(case, dropout):
    network, parameters = network_of(case), noisy(network_of(case))
    batch = batch_of_pairs(examples(RAGGED), np.dtype(np.float64))
    random = np.random.default_rng(2)
    masks = tuple(
        draw(dropout, of, len(part_of(parameters, part)["layers.0.W_x"]), 4, random, np.float64)
        for of, part in ((network.encoder, "encoder"), (network.decoder, "decoder"))
    )

    def loss(at):
        z, trace = forward(network, at, batch, masks)
        return *loss_of(z, batch), trace

    _, d_z, trace = loss(parameters)
    gradient = backward(network, parameters, batch, trace, d_z)
    assert gradient.keys() == parameters.keys()
    assert all(np.abs(g).sum() > 0 for g in gradient.values())
    assert projection_error(lambda at: loss(at)[0], gradient, parameters) < 1e-6


@pytest.mark.parametrize("case", NETWORKS)
def test_the_loss_of_a_batch_is_that_of_its_pairs(case):
    network, parameters = network_of(case), noisy(network_of(case))
    dtype = np.dtype(np.float64)

    def total(some):
        batch = batch_of_pairs(some, dtype)
        return loss_of(forward(network, parameters, batch)[0], batch)[0] * batch.weights.sum()

    together = examples(RAGGED)
    assert total(together) == pytest.approx(sum(total([each]) for each in together), rel=1e-12)


def test_an_unwritable_target_symbol_has_weight_zero():
    network, parameters = network_of("plain"), noisy(network_of("plain"))
    x = np.ones((2, 1), np.float32)
    written = np.array([[1], [UNWRITABLE], [2]], np.float32)
    batch = batch_of_pairs([Example(x, written)], np.dtype(np.float64))
    assert batch.weights.ravel().tolist() == [1, 0, 1, 1]
    assert np.isfinite(loss_of(forward(network, parameters, batch)[0], batch)[0])


def by_hand(model, source, written):
    """log p of a target and its end, by the forward pass of training."""
    indices = model.columns.vocabularies[1].index
    target = np.array([[indices(symbol) + 1] for symbol in written], np.float32).reshape(-1, 1)
    example = Example(model.indices(source)[:, np.newaxis].astype(np.float32), target)
    batch = batch_of_pairs([example], np.dtype(np.float64))
    parameters = {name: value.astype(np.float64) for name, value in model.parameters.items()}
    z = forward(model.network, parameters, batch)[0]
    value, _ = loss_of(z, batch)
    return -value * (len(written) + 1)


def random_model(case="all", kernel="auto"):
    network = network_of(case)
    columns = replace(COLUMNS, source_vocabulary="abcde", target_vocabulary="xyz")
    return Transducer(network, noisy(network, np.float32), columns, kernel=kernel)


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
@pytest.mark.parametrize("beam", [1, 3])
def test_an_output_text_has_the_log_probability_of_the_model(case, kernel, beam):
    model = random_model(case, kernel)
    for source, written in zip(SAID, model.transduce(SAID, beam, limit=40), strict=True):
        if written.ended:
            expected = by_hand(model, source, written.symbols)
            assert written.log_probability == pytest.approx(expected, abs=1e-4)


SAID = ["abc", "e", "deadbeef", "cab", "ee"]


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
@pytest.mark.parametrize("beam", [1, 4])
def test_an_output_text_does_not_depend_on_the_batch(case, kernel, beam):
    model = random_model(case, kernel)
    together = model.transduce(SAID, beam, limit=9)
    alone = [model.transduce([source], beam, limit=9)[0] for source in SAID]
    assert together == alone
    assert model.transduce(SAID[::-1], beam, limit=9) == together[::-1]


def test_a_wide_beam_finds_the_likeliest_of_all():
    model = random_model("attention")
    decoder = Decoder(model.network, model.parameters, kernel_of(model.kernel))
    limit = 3
    (found,) = decoder.decode([model.indices("abc")], TARGETS**limit, limit)
    every = [()]
    for _ in range(limit - 1):
        every += [(*each, i) for each in every for i in range(1, TARGETS)]
    ended = {each: by_hand(model, "abc", ["xyz"[i - 1] for i in each]) for each in set(every)}
    best = max(ended, key=ended.get)
    cut_off = not found.ended and found.log_probability > ended[best]
    assert cut_off or found.indices == best
    greedy = model.transduce(["abc"], limit=limit)[0]
    assert found.log_probability >= greedy.log_probability


def spelled(n=300, seed=0):
    """Texts and the same in capitals backwards: a target needs the whole source."""
    random = np.random.default_rng(seed)
    for i in range(n):
        text = "".join("abc"[j] for j in random.integers(0, 3, random.integers(1, 5)))
        yield {"id": i, "said": text, "meant": text[::-1].upper()}


NETWORK = EncoderDecoder("gru", hidden=32, embedding=8, attention="additive")
TRAINING = Training(epochs=30, optimizer=Adam(1e-2), batch_size=16)


@pytest.fixture(scope="module")
def model():
    return fit_sequences(NETWORK, pairs(), TRAINING)


def pairs(columns=COLUMNS, **settings):
    reader = PairReader(columns)
    return [reader.read(record) for record in spelled(**settings)]


def test_it_learns_to_spell_backwards(model):
    fresh = {record["said"]: record["meant"] for record in spelled(100, seed=1)}
    written = model.transduce(list(fresh))
    right = [w.symbols == tuple(meant) for w, meant in zip(written, fresh.values(), strict=True)]
    assert np.mean(right) > 0.95
    assert all(w.ended for w in written)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pipeline_learns_and_writes(model, engine, tmp_path):
    path = str(tmp_path / "weights.arrow")
    records = list(spelled())
    shuffled = [records[i] for i in np.random.default_rng(3).permutation(len(records))]

    def train(p):
        learned = p | beam.Create(shuffled) | Pairs(COLUMNS) | Train(NETWORK, TRAINING)
        return learned | WriteModel(path)

    run(train, engine)
    assert load(path) == model
    read = Collect()
    run(lambda p: p | ReadModel(path) | read, engine)
    assert read.elements == [model]
    fresh = [{"id": i, "said": s} for i, s in enumerate(["abca", "", "b", None, "zzz"])]
    outputs = predict(Transduce(path), fresh, engine)
    written = {row.key: row for row in outputs.written}
    assert written["0"].text == "ACBA"
    assert written["2"] == ("2", ["B"], written["2"].log_probability, True, model.digest, "fused")
    assert {row.key: row.reason for row in outputs.invalid} == {
        "1": "said must hold at least one symbol",
        "3": "said must be a text or a list of symbols",
    }
    assert set(written) == {"0", "2", "4"}


def test_shards_give_the_same_weights_in_a_pipeline_and_on_one_machine(tmp_path):
    path = str(tmp_path / "weights.arrow")
    training = replace(TRAINING, epochs=2, validation=0.25)

    def train(p):
        sequences = p | beam.Create(list(spelled(60))) | Pairs(COLUMNS)
        checkpoints = str(tmp_path / "after")
        return (
            sequences
            | Train(NETWORK, training, shards=3, checkpoints=checkpoints)
            | WriteModel(path)
        )

    run(train)
    trained = load(path)
    assert trained == fit_sequences(NETWORK, pairs(n=60), training, rounds=Rounds(3))
    assert len(trained.training["validation_curve"]) == 2

    def resume(p):
        sequences = p | beam.Create(list(spelled(60))) | Pairs(COLUMNS)
        again = Train(NETWORK, training, shards=3, resume=str(tmp_path / "after-00001.arrow"))
        return sequences | again | WriteModel(path)

    run(resume)
    assert load(path) == trained


class Lists(NamedTuple):
    """An output with a name, as `Outputs` takes it."""

    lists: object


def test_a_result_has_the_time_and_the_window_of_its_record(model, tmp_path):
    save(model, tmp_path / "weights.arrow")
    records = [TimestampedValue({"id": i, "said": "ab"}, 10 * i) for i in range(6)]

    def build(p):
        written = (
            p
            | beam.Create(records)
            | beam.WindowInto(FixedWindows(30))
            | Transduce(tmp_path / "weights.arrow", beam=2)
        ).written
        counted = (
            written
            | beam.Map(lambda row, t=beam.DoFn.TimestampParam: (float(t), row.key))
            | beam.combiners.ToList().without_defaults()
        )
        return Outputs(Lists(counted))

    built, _ = run(build)
    found = sorted(sorted(each) for each in built.lists)
    assert found == [[(10.0 * i, f"{i}") for i in w] for w in ([0, 1, 2], [3, 4, 5])]


def test_a_transducer_is_saved_and_loaded(model, tmp_path):
    save(model, tmp_path / "weights.arrow")
    again = load(tmp_path / "weights.arrow")
    assert again == model
    assert again.columns == model.columns
    assert again.training == model.training
    assert again.transduce(["abc"]) == model.transduce(["abc"])


def test_predict_and_transduce_refuse_each_others_files(model, tmp_path):
    save(model, tmp_path / "pairs.arrow")
    network = Network("rnn", 2)
    columns = Columns(key="id", time="t", inputs=["x"])
    save(Model(network, network.initialize(1, 1, 0), columns), tmp_path / "plain.arrow")
    with pytest.raises(Exception, match=r"holds an encoder-decoder, .*use Transduce"):
        predict(Predict(tmp_path / "pairs.arrow"), [{"id": 1, "said": "a"}])
    with pytest.raises(Exception, match="not an encoder-decoder: use Predict"):
        predict(Transduce(tmp_path / "plain.arrow"), [{"id": 1, "said": "a"}])


def test_the_vocabulary_of_targets_has_all_training_targets():
    training = replace(TRAINING, epochs=1, vocabulary=Vocabulary(at_least=200))
    trained = fit_sequences(NETWORK, pairs(), training)
    source, target = trained.columns.vocabularies
    assert set(target) == set("ABC")
    assert set(source) <= set("abc")
    known = PairReader(trained.columns)
    with pytest.raises(RecordError, match="meant has an unknown symbol"):
        known.read({"id": 1, "said": "zz", "meant": "AX"})


def test_words_are_symbols_too():
    columns = PairColumns(key="id", source="a", target="b")
    pair = PairReader(columns).read({"id": b"k", "a": ["two", 3], "b": np.array(["x"])})
    assert pair == Pair(columns, "k", ("two", "3"), ("x",))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "said must be a text or a list of symbols"),
        ([["a"]], "said must be a text or a list of symbols"),
        ([1.5], r"said\[0\] must be text or a whole number to be a symbol"),
        ("\ud800", "said must be valid Unicode"),
        ([], "said must hold at least one symbol"),
    ],
)
def test_a_bad_source_is_refused(value, reason):
    with pytest.raises(RecordError, match=reason):
        PairReader(COLUMNS, target=False).read({"id": 1, "said": value})


def test_a_bad_record_stops_training_or_is_a_dead_letter():
    records = [*spelled(3), {"id": 9, "said": 4, "meant": ""}]
    with pytest.raises(Exception, match="said must be a text or a list of symbols, got 4"):
        elements(Pairs(COLUMNS), records)
    built, _ = run(
        lambda p: Outputs(p | beam.Create(records) | Pairs(COLUMNS).with_exception_handling())
    )
    assert len(built.pairs) == 3
    assert [row.key for row in built.invalid] == ["9"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EncoderDecoder(attention="dot"), "attention must be one of none, additive"),
        (lambda: EncoderDecoder(hidden=0), "hidden must be a whole number of at least 1, got 0"),
        (lambda: EncoderDecoder(cell="gpu"), "cell must be one of rnn, gru, lstm"),
        (lambda: PairColumns(key="id", source="a", target="a"), "source and target both name 'a'"),
        (lambda: PairColumns(key="", source="a", target="b"), "key must be the name of a column"),
        (lambda: Transduce("w.arrow", beam=0), "beam must be a whole number of at least 1, got 0"),
        (lambda: Transduce("w.arrow", limit=0), "limit must be a whole number of at least 1"),
        (lambda: Transduce(7), "weights must be the path of a file, got 7"),
        (lambda: Pairs("said"), "columns must be a PairColumns, got 'said'"),
        (lambda: Train(NETWORK, per_key=True), "per_key=True is for a Network on sequences"),
        (
            lambda: Train(NETWORK, Training(class_weights={"a": 1})),
            "learns by loss='cross_entropy' without class_weights",
        ),
    ],
)
def test_contradicting_arguments_are_refused_before_the_pipeline_runs(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_pairs_need_an_encoder_decoder_and_sequences_do_not():
    with pytest.raises(
        ConfigurationError, match="Network does not learn from items with PairColumns"
    ):
        fit_sequences(Network("gru"), pairs(), TRAINING)
    numbers = [{"id": "a", "t": t, "x": t} for t in range(9)]
    columns = Columns(key="id", time="t", inputs=["x"])
    sequences = elements(Sequences(columns), numbers)
    with pytest.raises(
        ConfigurationError, match="EncoderDecoder does not learn from items with Columns"
    ):
        fit_sequences(NETWORK, sequences, TRAINING)
    with pytest.raises(TrainingError, match="there is nothing to learn from"):
        fit_sequences(NETWORK, [], TRAINING)


def test_parameters_of_another_network_are_refused(model):
    with pytest.raises(ConfigurationError, match="parameters do not fit"):
        Transducer(replace(NETWORK, hidden=31), model.parameters, model.columns)
    columns = replace(model.columns, target_vocabulary="AB")
    with pytest.raises(ConfigurationError, match="the vocabularies of the columns have"):
        Transducer(NETWORK, model.parameters, columns)


def test_the_display_data_shows_the_arguments():
    shown = Transduce("w.arrow", beam=4, limit=9).display_data()
    assert (shown["weights"], shown["beam"], shown["limit"]) == ("w.arrow", 4, 9)
    assert Transduce("w.arrow").display_data()["limit"] == "twice the longest target in training"
    shown = Generate("w.arrow", length=5, stop="end").display_data()
    assert (shown["length"], shown["stop"], shown["temperature"]) == (5, "end", 1.0)
    assert "top_k" not in shown
