import logging
import random
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.transforms.window import FixedWindows

from beam_rnn import (
    Bptt,
    Columns,
    Network,
    Predict,
    ReadModel,
    Sequences,
    Train,
    Training,
    WriteModel,
)
from beam_rnn import weights as weights_file
from beam_rnn.data.sequences import Sequence
from beam_rnn.errors import ConfigurationError, TrainingError
from beam_rnn.optim import Adam, Sgd
from beam_rnn.training.fit import fit_sequences
from tests.helpers.engines import ENGINES, Collect, run
from tests.helpers.sequences import wave

COLUMNS = Columns(key="id", time="t", inputs=["x"])
NETWORK = Network("gru", hidden=8)
QUICK = Training(epochs=2, bptt=Bptt(steps=10))


def waves(count=3, length=60):
    """Sine waves of different periods and levels."""
    return [
        {"id": f"k{i}", "t": t, "x": 10 * i + np.sin(2 * np.pi * t / (8 + i))}
        for i in range(count)
        for t in range(length)
    ]


def train(records, training, engine="fnapi", network=NETWORK, length=20):
    collect = Collect()
    run(
        lambda p: (
            p
            | beam.Create(records, reshuffle=False)
            | Sequences(COLUMNS, length=length)
            | Train(network, training)
            | collect
        ),
        engine,
    )
    (model,) = collect.elements
    return model


def test_it_learns_to_forecast():
    training = Training(epochs=60, optimizer=Adam(1e-2), bptt=Bptt(steps=20), batch_size=2)
    model = train(waves(), training, network=Network("gru", hidden=16))

    assert model.training["loss_curve"][-1] < 0.1 * model.training["loss_curve"][0]
    for i in range(3):
        truth = np.array([r["x"] for r in waves(length=200) if r["id"] == f"k{i}"])
        scaling = model.scaler.of(f"k{i}")
        y = model.forward(scaling.scale_inputs(truth[:-1, np.newaxis])[np.newaxis])
        error = np.abs(scaling.restore_targets(y)[0, 60:, 0] - truth[61:]).mean()
        last_value = np.abs(np.diff(truth[60:])).mean()
        assert error < 0.5 * last_value


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_records_and_seed_give_the_same_weights_on_every_engine(engine):
    records = waves()
    digest = train(records, QUICK, engine).digest
    random.Random(1).shuffle(records)

    assert train(records, QUICK).digest == digest


def test_sequences_of_one_key_and_time_have_one_order_too():
    """As sliding windows give them."""
    same_start = [wave(), *(wave()._replace(inputs=wave().inputs + i) for i in (1, 2, 3))]
    training = Training(epochs=2, bptt=Bptt(steps=10), batch_size=2)

    forwards = fit_sequences(NETWORK, same_start, training)

    assert fit_sequences(NETWORK, same_start[::-1], training).digest == forwards.digest


def test_another_seed_gives_other_weights():
    other = Training(epochs=2, bptt=Bptt(steps=10), seed=1)

    assert train(waves(), QUICK).digest != train(waves(), other).digest


def test_a_model_records_its_training_settings():
    model = train(waves(length=30), QUICK)

    assert model.network == replace(NETWORK, residual=True)  # it forecasts its inputs
    assert model.columns == COLUMNS
    assert model.training["until"] == dict.fromkeys(("k0", "k1", "k2"), 29_000_000)
    assert model.training["records"] == 3 * 29
    assert model.training["sequences"] == 6
    assert len(model.training["loss_curve"]) == 2
    assert model.training["settings"]["bptt"] == {"steps": 10, "stride": None, "loss": "every"}
    assert model.training["settings"]["optimizer"].startswith("Adam(")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_is_written_and_read_back(engine, tmp_path):
    path = tmp_path / "weights.arrow"
    written, read = Collect(), Collect()
    run(
        lambda p: (
            p
            | beam.Create(waves())
            | Sequences(COLUMNS)
            | Train(NETWORK, QUICK)
            | WriteModel(path)
            | written
        ),
        engine,
    )
    run(lambda p: p | ReadModel(tmp_path / "*.arrow") | read, engine)

    assert written.elements == [str(path)]
    assert [model.digest for model in read.elements] == [weights_file.load(path).digest]
    assert read.elements[0].training["records"] == 3 * 59


@pytest.mark.parametrize("engine", ENGINES)
def test_training_without_records_is_an_error(engine, tmp_path):
    for records in ([], waves(length=1)):
        with pytest.raises(Exception, match="nothing to learn from: no sequence has a step"):
            run(
                lambda p, records=records: (
                    p
                    | beam.Create(records)
                    | Sequences(COLUMNS)
                    | Train(NETWORK, QUICK)
                    | WriteModel(tmp_path / "weights.arrow")
                ),
                engine,
            )
    assert not list(tmp_path.iterdir())


def test_two_models_for_one_path_are_an_error(tmp_path):
    def build(p):
        models = [
            p
            | f"Create{i}" >> beam.Create(waves(i))
            | f"Sequences{i}" >> Sequences(COLUMNS)
            | f"Train{i}" >> Train(NETWORK, QUICK)
            for i in (1, 2)
        ]
        return models | beam.Flatten() | WriteModel(tmp_path / "weights.arrow")

    with pytest.raises(Exception, match=r"2 models .* would overwrite each other"):
        run(build)
    assert not list(tmp_path.iterdir())


def test_models_of_several_windows_do_not_overwrite_each_other(tmp_path):
    def build(p):
        windows = p | beam.Create(waves()) | beam.WindowInto(FixedWindows(25))
        return windows | Sequences(COLUMNS) | Train(NETWORK) | WriteModel(tmp_path / "w.arrow")

    with pytest.raises(ConfigurationError, match=r"would overwrite each other in .*w\.arrow"):
        run(build)


def test_missing_folders_are_created(tmp_path):
    path = tmp_path / "new" / "folder" / "weights.arrow"
    run(lambda p: p | beam.Create([fit_sequences(NETWORK, [wave()], QUICK)]) | WriteModel(path))
    assert weights_file.load(path).columns == COLUMNS


def test_a_number_too_great_to_be_scaled_is_named():
    spoilt = wave(key="b")
    spoilt.inputs[7] = 1e200
    with pytest.raises(TrainingError, match="the numbers of 'x' of key 'b' are too large to be"):
        fit_sequences(NETWORK, [wave(), spoilt], QUICK)


def test_keys_with_too_few_records_are_counted():
    columns = Columns(key="id", time="t", inputs=["x"], horizon=3)
    records = [*waves(count=2), *({"id": "short", "t": t, "x": 1.0} for t in range(3))]
    _, result = run(lambda p: p | beam.Create(records) | Sequences(columns) | Collect())

    found = result.metrics().query(MetricsFilter().with_name("keys_too_short"))
    assert [metric.result for metric in found["counters"]] == [1]


def test_no_file_for_a_pattern_is_an_error():
    with pytest.raises(Exception, match="nowhere"):
        run(lambda p: p | ReadModel("/nowhere/*.arrow"))


def test_an_altered_file_is_an_error(tmp_path):
    path = tmp_path / "weights.arrow"
    weights_file.save(fit_sequences(NETWORK, [wave()], QUICK), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        Exception, match=r"weights\.arrow' cannot be used, it is truncated, altered"
    ):
        run(lambda p: p | ReadModel(path))


def test_training_logs_its_progress(caplog):
    with caplog.at_level(logging.INFO, logger="beam_rnn.transforms.train_round_dofns"):
        model = train(waves(), QUICK)

    messages = [
        r.message for r in caplog.records if r.name == "beam_rnn.transforms.train_round_dofns"
    ]
    assert messages[0].startswith("epoch 1/2  loss ")
    assert messages[1].startswith("epoch 2/2  loss ")
    assert messages[-1].endswith(f"digest {model.digest[:12]}")


def test_training_that_diverges_stops_with_the_reason():
    training = Training(epochs=50, optimizer=Sgd(1e30), clip_norm=None)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        fit_sequences(Network("rnn", 4, activation="relu"), [wave()], training)


@pytest.mark.parametrize("kind", ["per_key", "global", "none"])
def test_constant_and_huge_series_can_be_trained_on(kind):
    flat = Sequence(COLUMNS, "flat", np.arange(9), np.full((9, 1), 5.0), np.full((9, 1), 5.0), 9)
    huge = Sequence(COLUMNS, "huge", np.arange(9), np.full((9, 1), 1e9), np.full((9, 1), 1e9), 9)

    model = fit_sequences(NETWORK, [flat, huge, wave()], Training(epochs=1, scaler=kind))

    assert np.isfinite(model.training["loss_curve"]).all()


def test_the_textbook_s_loop_trains_in_a_pipeline():
    training = Training(epochs=2, bptt=Bptt(steps=5, stride=1, loss="last"), optimizer=Sgd(0.05))

    curve = train(waves(), training, network=Network("rnn", 8)).training["loss_curve"]

    assert curve[1] < curve[0]


def test_a_residual_network_needs_its_targets_first():
    columns = Columns(key="id", inputs=["a", "b"], targets=["b"])
    values = np.zeros((9, 2))
    sequence = Sequence(columns, "a", np.arange(9), values, values[:, :1], 9)
    with pytest.raises(ConfigurationError, match="needs the targets to be the first inputs"):
        fit_sequences(Network("gru", residual=True), [sequence], QUICK)


def test_sequences_of_different_columns_are_refused():
    other = wave()._replace(columns=Columns(key="id", time="t", inputs=["z"]))
    with pytest.raises(TrainingError, match="sequences are of different columns"):
        fit_sequences(NETWORK, [wave(), other], QUICK)


@pytest.mark.parametrize("engine", ENGINES)
def test_classes_are_learned_and_streamed(engine, tmp_path):
    """Whether a pump hums slowly or fast, said after every reading."""
    columns = Columns(
        key="id", time="t", inputs=["x"], targets=["mode"], classes=["slow", "fast"], horizon=0
    )
    records = [
        {"id": f"k{i}", "t": t, "x": np.sin(t / (3 - 2 * (i % 2))), "mode": ("slow", "fast")[i % 2]}
        for i in range(6)
        for t in range(40)
    ]
    broken = {**records[0], "t": 50, "mode": "loud"}
    network = Network("gru", hidden=8, output="softmax")
    training = Training(epochs=15, optimizer=Adam(0.03), bptt=Bptt(20), validation=0.25)
    path = tmp_path / "weights.arrow"
    predictions, invalid = Collect(), Collect()

    def learn(p):
        good, bad = (
            p | beam.Create([*records, broken]) | Sequences(columns).with_exception_handling()
        )
        _ = bad | "Bad" >> invalid
        return good | Train(network, training) | WriteModel(path)

    run(learn, engine)
    unlabelled = [{k: v for k, v in record.items() if k != "mode"} for record in records]
    run(
        lambda p: (p | beam.Create(unlabelled) | Predict(path)).predictions | predictions,
        engine,
    )

    (letter,) = invalid.elements
    assert letter.reason == "mode must be one of the classes slow, fast"
    assert letter.value == "'loud'"
    assert weights_file.load(path).output_names == ("slow", "fast")
    assert weights_file.load(path).training["settings"]["loss"] == "cross_entropy"
    last = {row.key: row.outputs for row in predictions.elements if row.step == 40}
    for i in range(6):
        assert sum(last[f"k{i}"]) == pytest.approx(1, abs=1e-6)
        assert np.argmax(last[f"k{i}"]) == i % 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Train(Network(output="softmax"), Training(loss="mae", class_weights={"a": -1})),
            r"class_weights\['a'\] must be in \[0, inf\), got -1",
        ),
        (
            lambda: Train(Network(), Training(loss="cross_entropy")),
            r"'cross_entropy' does not fit .* output='identity': .* or Network\(output='softmax'\)",
        ),
        (lambda: Training(loss="l1"), "loss must be one of mse, mae, huber, .*, got 'l1'"),
        (lambda: Training(scaler="robust"), "scaler must be one of .* got 'robust'"),
        (lambda: Training(epochs=0), "epochs must be a whole number of at least 1, got 0"),
        (lambda: Training(batch_size=1.5), "batch_size must be .* got 1.5"),
        (lambda: Training(seed=-1), "seed must be a whole number of at least 0, got -1"),
        (lambda: Training(clip_norm=0), "clip_norm must be above 0 or None, got 0"),
        (lambda: Training(clip_value=-1), "clip_value must be above 0 or None, got -1"),
        (lambda: Training(clip_norm="1"), "clip_norm must be above 0 or None, got '1'"),
        (lambda: Training(bptt=24), "bptt must be a Bptt, got 24"),
        (
            lambda: Training(optimizer="adam"),
            r"optimizer must be one such as Adam\(1e-3\), got 'ad",
        ),
        (lambda: Train("gru"), r"network must be a Network or EncoderDecoder, got 'gru' \(str\)"),
        (lambda: Train(NETWORK, 20), r"training must be a Training, got 20 \(int\)"),
        (lambda: WriteModel(None), "path must be the path of a file, got None"),
        (lambda: ReadModel(""), "pattern must be the path of a file, got ''"),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
