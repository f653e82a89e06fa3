"""Rounds over shards: the same weights on every engine and after interruptions."""

import random
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.transforms.window import FixedWindows

from beam_rnn import Bptt, LossCurve, Network, Sequences, Train, Training
from beam_rnn.data.sequences import Part
from beam_rnn.errors import CheckpointError, ConfigurationError, DivergenceError, TrainingError
from beam_rnn.nn.bptt import WindowLoss
from beam_rnn.nn.dropout import Dropout
from beam_rnn.optim import Adam, Plateau, Sgd
from beam_rnn.training import checkpoint_format as checkpoints
from beam_rnn.training.dataset import prepare
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.model_files import read_model
from beam_rnn.training.rounds import Local, average, begin, learn_locally
from beam_rnn.training.settings import Rounds
from tests.helpers.engines import ENGINES, Collect, run
from tests.helpers.sequences import COLUMNS, wave

NETWORK = Network("gru", hidden=6)
TRAINING = Training(epochs=4, bptt=Bptt(steps=5), batch_size=2, dropout=Dropout(layers=0.1))
NESTEROV = Sgd(0.7, momentum=0.9, nesterov=True)
WAVES = [wave(n, key=f"k{i}", start=7 * i) for i, n in enumerate((30, 12, 25, 40, 8, 31, 20))]


def trained(sequences, training, engine="fnapi", flags=(), **arguments):
    collect = Collect()
    run(
        lambda p: (
            p
            | beam.Create(sequences, reshuffle=False)
            | Train(NETWORK, training, **arguments)
            | collect
        ),
        engine,
        *flags,
    )
    (model,) = collect.elements
    return model


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rounds", "training"),
    [
        (Rounds(), TRAINING),
        (Rounds(), replace(TRAINING, validation=0.25, patience=2, bucket=2)),
        (Rounds(3, rounds=2, local_epochs=2), TRAINING),
        (
            Rounds(3, rounds=3, outer=NESTEROV),
            replace(TRAINING, validation=0.25, plateau=Plateau(patience=1), scaling="robust"),
        ),
        (Rounds(64, rounds=2), replace(TRAINING, scaler="global", scaling="min_max")),
    ],
    ids=str,
)
def test_the_loop_and_the_pipeline_give_the_same_bits(engine, rounds, training):
    """Whatever the runner and the order of the sequences: the weights and all facts."""
    shuffled = random.Random(engine).sample(WAVES, len(WAVES))

    model = trained(shuffled, training, engine, **vars(rounds))
    expected = fit_sequences(NETWORK, WAVES, training, rounds=rounds)

    assert model.digest == expected.digest
    assert model.training == expected.training
    assert len(model.training["loss_curve"]) == rounds.epochs(training)


def test_workers_in_processes_of_their_own_give_the_same_bits(tmp_path):
    from beam_rnn import WriteModel, weights

    path = tmp_path / "weights.arrow"
    arguments = {"shards": 4, "rounds": 2, "outer": NESTEROV}
    run(
        lambda p: p | beam.Create(WAVES) | Train(NETWORK, TRAINING, **arguments) | WriteModel(path),
        "fnapi",
        "--direct_num_workers=2",
        "--direct_running_mode=multi_processing",
    )

    assert weights.load(path).digest == trained(WAVES, TRAINING, **arguments).digest


def test_the_shards_learn_together_what_one_learns():
    """On waves of one shape: a tenth of the first loss, after the same passes over the data."""
    waves = [wave(60, key=f"k{i}", start=5 * i) for i in range(16)]
    training = Training(
        epochs=30, bptt=Bptt(steps=20), optimizer=Adam(0.02), batch_size=4, loss="mse"
    )

    curve = fit_sequences(
        replace(NETWORK, residual=False), waves, training, rounds=Rounds(4)
    ).training["loss_curve"]

    assert curve[-1] < 0.1 * curve[0]


def test_the_average_weights_shards_by_their_training_steps():
    network, training = Network("rnn", 2), Training(epochs=1)
    plan = prepare(network, [wave(30), wave(10, "b")], training, 2).plan
    rounds = Rounds(2)
    standing = begin(plan, training, rounds)

    def local(shard, value, weight):
        parameters = {k: np.full_like(w, value) for k, w in standing.parameters.items()}
        return Local(
            shard,
            parameters,
            training.optimizer.init(parameters),
            (WindowLoss(2.0, weight),),
            1,
            0,
            1,
        )

    local_of = [local(0, 1.0, 30.0), local(1, 5.0, 10.0)]

    averaged = average(standing, local_of[::-1], rounds)

    for value in averaged.parameters.values():
        np.testing.assert_array_equal(value, np.float32(2.0))
    assert averaged.rounds == 1
    with_step = Rounds(2, outer=Sgd(1.0))
    plain = average(begin(plan, training, with_step), local_of, with_step)
    for name, value in plain.parameters.items():
        np.testing.assert_allclose(value, averaged.parameters[name], rtol=1e-6)


def in_parts(sequence, steps):
    return [
        sequence._replace(
            times=sequence.times[at : at + steps],
            inputs=sequence.inputs[at : at + steps],
            targets=sequence.targets[at : at + steps],
            part=Part(int(sequence.key[1:]) + 7, at // steps),
        )
        for at in range(0, len(sequence.times), steps)
    ]


@pytest.mark.parametrize("loss", ["every", "last"])
def test_training_on_parts_gives_the_model_of_the_whole_sequence(loss):
    """To the bit: parts of a multiple of k, cut where windows begin."""
    training = replace(TRAINING, bptt=Bptt(steps=5, loss=loss), batch_size=7)
    whole = [s._replace(part=Part(int(s.key[1:]) + 7, 0)) for s in WAVES]
    parts = [part for s in whole for part in in_parts(s, 10)]

    model, same = (
        fit_sequences(NETWORK, each, replace(training, scaler="none")) for each in (parts, whole)
    )

    for name, value in same.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert model.training["sequences"] == same.training["sequences"] == len(WAVES)


def test_the_hidden_state_is_carried_across_parts_whatever_the_windows():
    """Windows that overlap, or leave a rest: what the first part held is known in the second."""
    first_sign = [
        wave(20, f"k{i}")._replace(
            inputs=np.where(np.arange(20) == 0, (-1.0) ** i, 0.0)[:, np.newaxis],
            targets=np.full((20, 1), (-1.0) ** i),
        )
        for i in range(8)
    ]
    training = Training(
        epochs=60, bptt=Bptt(steps=6, stride=4), optimizer=Adam(0.03), scaler="none"
    )
    model = fit_sequences(NETWORK, [p for s in first_sign for p in in_parts(s, 10)], training)

    assert model.training["loss_curve"][-1] < 0.05


def test_parts_are_not_for_networks_that_need_whole_sequences():
    for network in (Network(output_steps="last"), Network(bidirectional=True)):
        with pytest.raises(ConfigurationError, match=r"key 'k0' comes in parts.*leave out"):
            fit_sequences(network, in_parts(WAVES[0], 10), TRAINING)


@pytest.mark.parametrize("shards", [1, 3])
def test_resuming_gives_the_bits_of_no_interruption(shards, tmp_path):
    training = replace(
        TRAINING,
        epochs=6,
        validation=0.25,
        plateau=Plateau(patience=1, factor=0.5),
        optimizer=Adam(0.05),
    )
    outer = NESTEROV if shards > 1 else None
    expected = trained(WAVES, training, shards=shards, outer=outer)

    prefix = tmp_path / "checkpoints" / "wave"
    short = replace(training, epochs=3)
    trained(WAVES, short, shards=shards, outer=outer, checkpoints=prefix)
    written = sorted(path.name for path in prefix.parent.iterdir())
    resumed = trained(WAVES[::-1], training, shards=shards, outer=outer, resume=f"{prefix}-*.arrow")

    assert written == ["wave-00001.arrow", "wave-00002.arrow", "wave-00003.arrow"]
    assert resumed.digest == expected.digest
    assert resumed.training == expected.training


def test_a_checkpoint_is_a_model_too(tmp_path):
    model = trained(WAVES, TRAINING, checkpoints=tmp_path / "c")

    assert read_model(str(tmp_path / "c-00004.arrow")).digest == model.digest
    assert read_model(str(tmp_path / "c-00001.arrow")).digest != model.digest


@pytest.mark.parametrize(
    ("network", "training", "sequences", "message"),
    [
        (Network("lstm", 6), TRAINING, WAVES, r"of network {'cell': 'gru'.*not .*'lstm'"),
        (NETWORK, replace(TRAINING, seed=5), WAVES, r"of settings {'seed': 0}, not {'seed': 5}"),
        (NETWORK, replace(TRAINING, optimizer=Sgd(0.1)), WAVES, r"'optimizer': .Adam\("),
        (NETWORK, TRAINING, WAVES[1:], "training on other records: its scaler differs"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    network, training, sequences, message, tmp_path
):
    trained(WAVES, TRAINING, checkpoints=tmp_path / "c")

    with pytest.raises(CheckpointError, match=message):
        run(
            lambda p: (
                p
                | beam.Create(sequences)
                | Train(network, training, resume=tmp_path / "c-00004.arrow")
            )
        )


def test_a_checkpoint_that_is_cut_altered_or_foreign_is_refused(tmp_path):
    trained(WAVES, replace(TRAINING, epochs=1), checkpoints=tmp_path / "c")
    path = tmp_path / "c-00001.arrow"
    data = path.read_bytes()
    altered = bytearray(data)
    altered[len(data) // 2] ^= 1
    for wrong in (data[:-200], bytes(altered), b"", b"weights"):
        with pytest.raises(CheckpointError, match=r"truncated, altered or of another|is altered"):
            checkpoints.from_bytes(wrong, "c")
    with pytest.raises(Exception, match=r"there is no file '.*nowhere"):
        trained(WAVES, TRAINING, resume=tmp_path / "nowhere-*.arrow")


def test_an_optimizer_state_of_any_shape_survives(tmp_path):
    """An empty one, counters, and arrays of float64."""
    from tests.training.test_validation import SignDescent

    plan = prepare(NETWORK, WAVES, TRAINING).plan
    for optimizer in (SignDescent(), Adam(), Sgd(0.1, momentum=0.5)):
        training = replace(TRAINING, optimizer=optimizer)
        standing = begin(plan, training, Rounds())
        standing = standing._replace(
            outer_state={"a": {"b": np.array(1.5), "n": 3}, "c": {}, "x": np.zeros((0, 2))}
        )
        data = checkpoints.to_bytes(standing, plan, training, Rounds())

        assert data == checkpoints.to_bytes(standing, plan, training, Rounds())
        found = checkpoints.from_bytes(data).standing
        assert found.outer_state["a"]["n"] == 3
        assert found.outer_state["c"] == {}
        assert found.outer_state["a"]["b"].dtype == np.float64
        assert found.outer_state["x"].shape == (0, 2)
        assert found.optimizer_state.keys() == standing.optimizer_state.keys()
        assert found._replace(
            parameters=0, best_parameters=0, outer_state=0, optimizer_state=0
        ) == standing._replace(parameters=0, best_parameters=0, outer_state=0, optimizer_state=0)


def test_fit_starts_from_a_model():
    model = fit_sequences(NETWORK, WAVES, TRAINING)
    still = replace(TRAINING, optimizer=Sgd(0.0))

    assert fit_sequences(NETWORK, WAVES, still, start=model) == model
    assert fit_sequences(NETWORK, WAVES, still) != model
    with pytest.raises(TrainingError, match="the model to start from is Network"):
        fit_sequences(Network("gru", 5), WAVES, still, start=model)


def test_training_starts_from_a_model(tmp_path):
    from beam_rnn import weights

    model = fit_sequences(NETWORK, WAVES, TRAINING)
    weights.save(model, tmp_path / "m-1.arrow")
    still = replace(TRAINING, epochs=1, optimizer=Sgd(0.0))

    same = trained(WAVES, still, start=tmp_path / "m-*.arrow")
    assert same.digest == model.digest
    with pytest.raises(TrainingError, match="the model to start from is Network"):
        run(
            lambda p: (
                p
                | beam.Create(WAVES)
                | Train(Network("gru", 5), still, start=tmp_path / "m-1.arrow")
            )
        )


BREAKS = wave(20, "broken")._replace(targets=np.where(np.arange(20) == 7, 1e30, 0.5)[:, np.newaxis])
"""Its eighth target is finite, and its square is not."""


@pytest.mark.parametrize("shards", [1, 3])
def test_divergence_is_placed_and_leaves_the_last_good_weights(shards, tmp_path):
    raw = replace(TRAINING, scaler="none", epochs=5, loss="mse")
    where = r"the loss became inf at step 8 of a sequence of key 'broken' in epoch 1, round 1"

    with pytest.raises(DivergenceError, match=where) as caught:
        fit_sequences(NETWORK, [*WAVES, BREAKS], raw, rounds=Rounds(shards))
    plan = prepare(NETWORK, [*WAVES, BREAKS], raw).plan
    initial = begin(plan, raw, Rounds()).parameters
    for name, value in caught.value.model.parameters.items():
        np.testing.assert_array_equal(value, initial[name])

    with pytest.raises(Exception, match=where):
        trained([*WAVES, BREAKS], raw, shards=shards, checkpoints=tmp_path / "c")


@pytest.mark.parametrize("shards", [1, 3])
def test_training_that_diverges_later_names_its_checkpoint_or_keeps_the_model(shards, tmp_path):
    """The rate rises with every update until the parameters overflow."""
    rising = replace(TRAINING, optimizer=Sgd(Rising()), epochs=30, clip_norm=None, scaler="none")
    network_error = r"round (\d+); the last good weights are in '.*c-(\d+).arrow'"

    with pytest.raises(Exception, match=network_error) as caught:
        trained(WAVES, rising, shards=shards, checkpoints=tmp_path / "c")
    last = max(tmp_path.iterdir())
    assert last.name in str(caught.value)
    kept = trained(WAVES, replace(rising, on_divergence="keep"), shards=shards)

    assert kept.digest == read_model(str(last)).digest
    assert "lower the learning rate" in kept.training["diverged"]
    assert all(np.isfinite(value).all() for value in kept.parameters.values())


class Rising:
    """A schedule of a user's."""

    def __call__(self, update):
        return 1e-3 * 1.1**update


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_windowed_collection_gives_a_model_a_window(shards, validation):
    records = [{"id": f"k{i}", "t": t, "x": np.sin(t)} for i in range(3) for t in range(60)]
    training = replace(TRAINING, epochs=2, validation=validation)

    def windowed(records, windows=True):
        collect = Collect()
        run(
            lambda p: (
                p
                | beam.Create(records)
                | beam.Map(lambda r: beam.window.TimestampedValue(r, r["t"]))
                | (beam.WindowInto(FixedWindows(20)) if windows else beam.Map(lambda r: r))
                | Sequences(COLUMNS)
                | Train(NETWORK, training, shards=shards)
                | collect
            )
        )
        return {model.digest for model in collect.elements}

    each = [windowed([r for r in records if r["t"] // 20 == i], windows=False) for i in range(3)]

    assert windowed(records) == set().union(*each)
    assert len(windowed(records)) == 3


@pytest.mark.parametrize("shards", [1, 4])
def test_the_training_sequences_are_checked(shards):
    flat = wave(9, "flat")._replace(inputs=np.full((9, 1), 5.0), targets=np.full((9, 1), 5.0))
    one = wave(1, "one")
    assert trained([flat], TRAINING, shards=shards).training["records"] == 9
    assert trained([one, WAVES[0]], TRAINING, shards=shards).training["sequences"] == 2
    nothing = WAVES[0]._replace(weights=np.zeros((30, 1)))
    with pytest.raises(Exception, match="every target has the weight 0"):
        trained([nothing], TRAINING, shards=shards)
    with pytest.raises(Exception, match="no sequence has a step"):
        trained([], TRAINING, shards=shards)


def test_a_shard_without_sequences_has_no_part_in_the_average():
    alone, many = (fit_sequences(NETWORK, WAVES[:1], TRAINING, rounds=Rounds(n)) for n in (1, 9))

    assert alone.digest == many.digest


def test_the_data_of_a_shard_are_read_lazily():
    """What a runner gives as an iterable is never held as a list."""
    from beam_rnn.data.sequences import Example
    from beam_rnn.training.example_store import Examples, Place, encode_example

    alive = 0

    class Counted(bytes):
        def __del__(self):
            nonlocal alive
            alive -= 1

    most = 0

    def encoded():
        nonlocal alive, most
        for i in range(50):
            example = Example(np.zeros((4, 1)), np.zeros((4, 1)))
            alive += 1
            most = max(most, alive)
            yield Counted(encode_example(Place(i, 0), "k", example))

    examples = Examples(encoded(), on_disk=True)
    plan = prepare(NETWORK, WAVES, TRAINING).plan
    standing = begin(plan, TRAINING, Rounds())

    assert len(examples) == 50
    assert most <= 3
    assert learn_locally(standing, 0, examples, TRAINING, Rounds()).steps == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shards": 0}, "shards must be a whole number of at least 1, got 0"),
        ({"rounds": 0}, "rounds must be .* got 0"),
        ({"local_epochs": 1.5}, "local_epochs must be .* got 1.5"),
        ({"outer": 0.7}, "outer must be one such as .* got 0.7"),
        ({"checkpoints": ""}, "checkpoints must be the path of a file, got ''"),
        ({"resume": 3}, "resume must be the path of a file, got 3"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        Train(NETWORK, TRAINING, **arguments)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_loss_curve_is_rows(engine):
    training = replace(TRAINING, validation=0.25)
    curve = Collect()
    run(
        lambda p: (
            p
            | beam.Create(WAVES)
            | Train(NETWORK, training, shards=2, rounds=2, local_epochs=2)
            | LossCurve()
            | curve
        ),
        engine,
    )

    model = fit_sequences(NETWORK, WAVES, training, rounds=Rounds(2, rounds=2, local_epochs=2))
    rows = sorted(curve.elements, key=lambda row: row.epoch)
    assert [row.loss for row in rows] == model.training["loss_curve"]
    first, last = model.training["validation_curve"]
    assert [row.validation_loss for row in rows] == [None, first, None, last]
    assert {row.model for row in rows} == {model.digest}
