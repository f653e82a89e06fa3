"""`Train(per_key=True)`: each key's model is trained on its sequences only."""

import logging
from urllib.parse import quote

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_rnn import (
    Bptt,
    Columns,
    KeyedModels,
    Network,
    ReadModel,
    Sequences,
    Train,
    Training,
    WriteModel,
)
from beam_rnn import weights as weights_file
from beam_rnn.errors import ConfigurationError
from beam_rnn.optim import Sgd
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.model_files import write_model
from beam_rnn.transforms.train_per_key import check_trained_where_it_lands
from tests.helpers.engines import ENGINES, Collect, run
from tests.helpers.sequences import wave
from tests.training.test_training import COLUMNS, NETWORK, QUICK, train, waves


def sequences(count=3):
    """As `Sequences` cuts `waves`, but two a key."""
    cut = Collect()
    run(lambda p: p | beam.Create(waves(count)) | Sequences(COLUMNS, length=30) | cut)
    return cut.elements


def train_each(some, training=QUICK, engine="fnapi", network=NETWORK, **settings):
    """The models, and the counters of the pipeline."""
    models = Collect()
    transform = Train(network, training, per_key=True, **settings)
    _, result = run(
        lambda p: p | beam.Create(list(some), reshuffle=False) | transform | models, engine
    )
    counters = result.metrics().query(MetricsFilter().with_namespace("beam_rnn"))["counters"]
    counted = {metric.key.metric.name: metric.result for metric in counters}
    (found,) = models.elements
    return found, counted


@pytest.mark.parametrize("engine", ENGINES)
def test_the_model_of_a_key_is_trained_on_its_sequences_only(engine):
    some = sequences()
    models, counted = train_each(some[::-1], engine=engine)

    assert isinstance(models, KeyedModels)
    assert list(models.models) == ["k0", "k1", "k2"]
    for key in models.models:
        alone = fit_sequences(NETWORK, [s for s in some if s.key == key], QUICK)
        assert models.of(key) == alone
        assert models.of(key).training == alone.training
        assert models.digests[key] == alone.digest
    assert models.fallback == fit_sequences(NETWORK, some, QUICK)
    assert models.of("never seen") == models.fallback
    if engine == "fnapi":
        assert counted == {"keys_with_model": 3}


def test_the_fallback_is_that_of_the_ordinary_training():
    models, _ = train_each(sequences())
    assert models.fallback == train(waves(), QUICK, length=30)


def test_the_order_of_sequences_changes_no_byte():
    some = sequences()
    forwards, backwards = (train_each(each)[0] for each in (some, some[::-1]))
    assert weights_file.to_bytes(forwards) == weights_file.to_bytes(backwards)


def test_without_a_fallback_other_keys_have_none():
    models, _ = train_each(sequences(), fallback=False)
    assert models.fallback is None
    assert models.of("never seen") is None


def spoilt(key, **changes):
    return wave(key=key)._replace(**changes)


HUGE = np.where(np.arange(40)[:, np.newaxis] == 7, 1e200, 1.0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (wave(key="bad")._replace(times=np.zeros(0, int)), "nothing to learn from: no sequence"),
        (spoilt("bad", weights=np.zeros((40, 1))), "every target has the weight 0"),
        (spoilt("bad", inputs=HUGE), "the numbers of 'x' of key 'bad' are too large to be scaled"),
    ],
    ids=["no step", "no weight", "huge"],
)
def test_a_key_without_usable_records_has_no_model_and_a_reason(bad, reason, caplog):
    """The others have theirs; the log says it once."""
    good = wave(key="good")
    if bad.weights is not None:
        good = good._replace(weights=np.ones((40, 1)))
    models, counted = train_each([good, bad], fallback=False)

    assert list(models.models) == ["good"]
    assert models.of("good") == fit_sequences(NETWORK, [good], QUICK)
    assert list(models.reasons) == ["bad"]
    assert reason in models.reasons["bad"]
    assert counted == {"keys_with_model": 1, "keys_without_model": 1}
    said = [r.message for r in caplog.records if reason in r.message]
    assert len(said) == 1
    assert said[0].startswith("1 keys have no model of their own, 'bad': ")


def test_an_unusable_key_for_the_fallback_is_an_error_that_names_it():
    with pytest.raises(Exception, match="the numbers of 'x' of key 'bad' are too large to be"):
        train_each([wave(key="good"), spoilt("bad", inputs=HUGE)])


def test_a_key_whose_training_diverges_is_kept_with_its_reason(tmp_path):
    """And is served by the fallback."""
    training = Training(epochs=50, optimizer=Sgd(0.05), clip_norm=None, scaler="none")
    network = Network("rnn", 4, activation="relu")
    wild, calm = wave(key="wild"), wave(key="calm")
    wild = wild._replace(inputs=1e18 * wild.inputs, targets=1e18 * wild.targets)
    shared = fit_sequences(NETWORK, [calm], QUICK)
    own, _ = train_each([wild, calm], training, network=network, fallback=False)

    assert list(own.models) == ["calm"]
    assert "lower the learning rate" in own.reasons["wild"]
    weights_file.save(KeyedModels.gathered({}, shared, own.reasons), tmp_path / "w.arrow")
    read = weights_file.load(tmp_path / "w.arrow")
    assert read.reasons == own.reasons
    assert read.of("wild") == shared


def test_many_keys_with_one_reason_are_one_line_of_the_log(caplog):
    none = [wave(key=f"k{i}")._replace(times=np.zeros(0, int)) for i in range(30)]
    with caplog.at_level(logging.WARNING, logger="beam_rnn.transforms.train_key_dofns"):
        models, _ = train_each([*none, wave(key="good")], fallback=False)

    assert len(models.reasons) == 30
    (line,) = [r.message for r in caplog.records if r.name == "beam_rnn.transforms.train_key_dofns"]
    assert line.startswith("30 keys have no model of their own, 'k0' and others: ")


def test_keys_that_never_change_are_learned():
    flat = wave(key="flat")._replace(inputs=np.full((40, 1), 5.0), targets=np.full((40, 1), 5.0))
    models, _ = train_each([flat, wave()])
    y = models.of("flat").forward(models.of("flat").scaled("flat", flat.inputs)[np.newaxis])

    assert models.of("flat").training["loss_curve"][-1] < 1
    assert np.isfinite(y).all()


@pytest.mark.parametrize("fallback", [True, False])
def test_a_key_of_one_record_is_not_trained(fallback):
    """`Sequences` counts it: it has no step with a target."""
    models, result = Collect(), None
    records = [*waves(1), {"id": "lone", "t": 0, "x": 1.0}]
    transform = Train(NETWORK, QUICK, per_key=True, fallback=fallback)
    _, result = run(lambda p: p | beam.Create(records) | Sequences(COLUMNS) | transform | models)

    found = result.metrics().query(MetricsFilter().with_name("keys_too_short"))
    assert [metric.result for metric in found["counters"]] == [1]
    assert list(models.elements[0].models) == ["k0"]
    assert models.elements[0].of("lone") == models.elements[0].fallback


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fallback", [True, False])
def test_an_empty_training_set_is_an_error(engine, fallback):
    with pytest.raises(Exception, match=r"nothing to learn from: no seq|There was no key"):
        train_each([], engine=engine, fallback=fallback)


def test_training_without_any_usable_key_is_an_error_with_a_reason():
    bad = wave(key="bad")._replace(times=np.zeros(0, int))
    with pytest.raises(Exception, match=r"no model: .* The first of 1 reasons: there is nothing"):
        train_each([bad], fallback=False)


def test_an_error_of_every_key_stops_the_pipeline():
    columns = Columns(key="id", time="t", inputs=["a", "b"], targets=["b"])
    values = np.zeros((9, 2))
    bad = wave()._replace(columns=columns, inputs=values, targets=values[:, :1])
    with pytest.raises(Exception, match="needs the targets to be the first inputs"):
        train_each([bad], network=Network("gru", residual=True), fallback=False)


def test_sequences_of_different_columns_are_refused():
    other = wave(key="b", columns=Columns(key="id", time="t", inputs=["z"]))
    with pytest.raises(Exception, match="the models have different networks or columns"):
        train_each([wave(), other], fallback=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_they_are_written_read_and_written_to_a_file_each(engine, tmp_path):
    paths, read = Collect(), Collect()
    path = tmp_path / "models.arrow"
    records = [{**r, "id": f"{r['id']}/ü"} for r in waves()]

    run(
        lambda p: (
            p
            | beam.Create(records)
            | Sequences(COLUMNS)
            | Train(NETWORK, QUICK, per_key=True)
            | WriteModel(path)
            | paths
        ),
        engine,
    )
    run(
        lambda p: (
            p
            | ReadModel(path)
            | beam.FlatMap(lambda models: models.models.items())
            | beam.MapTuple(lambda k, m: write_model(m, f"{tmp_path}/{quote(k, '')}.arrow") or k)
            | read
        ),
        engine,
    )

    assert paths.elements == [str(path)]
    models = weights_file.load(path)
    assert sorted(read.elements) == sorted(models.models)
    assert len(models.models) == 3
    for key in models.models:
        assert weights_file.load(tmp_path / f"{quote(key, '')}.arrow") == models.of(key)


def test_each_window_has_its_models():
    found = Collect()
    run(
        lambda p: (
            p
            | beam.Create(waves(1, 60))
            | beam.Map(lambda r: TimestampedValue(r, r["t"]))
            | beam.WindowInto(FixedWindows(30))
            | Sequences(COLUMNS)
            | Train(NETWORK, QUICK, per_key=True)
            | found
        )
    )
    first, second = found.elements
    assert first.models.keys() == second.models.keys() == {"k0"}
    assert first != second


def test_a_fallback_goes_with_per_key():
    with pytest.raises(ConfigurationError, match=r"fallback=False .* goes with per_key=True"):
        Train(NETWORK, fallback=False)


@pytest.mark.parametrize("given", [{"shards": 2}, {"checkpoints": "c"}, {"resume": "c-*.arrow"}])
def test_arguments_of_training_in_rounds_are_refused_with_per_key(given):
    """`Train` gives all its other arguments."""
    left_out = {"shards": 1, "rounds": None, "checkpoints": None, "resume": None}
    check_trained_where_it_lands(**left_out)
    (name,) = given
    with pytest.raises(
        ConfigurationError, match=rf"{name}=.* with per_key=True .* leave out {name}"
    ):
        check_trained_where_it_lands(**(left_out | given))


def test_validation_is_that_of_each_key():
    training = Training(epochs=3, bptt=Bptt(steps=10), validation=0.2, patience=1)
    some = sequences()
    models, _ = train_each(some, training)
    for key, model in models.models.items():
        assert model == fit_sequences(NETWORK, [s for s in some if s.key == key], training)
        assert "validation_curve" in model.training
