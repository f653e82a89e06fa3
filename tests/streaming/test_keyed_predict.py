"""`Predict` with per-key models: the bits of each model on its own, in every mode."""

import random
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.metrics import MetricsFilter

from beam_rnn import ExportStates, ImportStates, KeyedModels, Predict, prediction_schema
from beam_rnn import weights as weights_file
from beam_rnn.engine.log_format import encode_change, replay
from beam_rnn.engine.table import Maker
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.models.state_format import KeyState
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.testing import oracle
from tests.engine.test_shards import contents, new_shard
from tests.helpers.batches import predictions_in
from tests.helpers.engines import ENGINES, Collect, Outputs, predict, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.streaming.test_streaming import CHANGE, MARKED, changing, forward, tick
from tests.transforms.test_predict import START, row

SECOND = 1_000_000


@pytest.fixture(scope="module")
def models():
    return keyed_models("ab")


@pytest.fixture(scope="module")
def weights(models, tmp_path_factory):
    return saved(models, tmp_path_factory.mktemp("keyed"))


def records(length=40, keys=("a", "b", "never seen", "other")):
    return [row(t, key) for t in range(length) for key in keys]


def shuffled(some):
    some = list(some)
    random.Random(0).shuffle(some)
    return some


def alone(models, key, length=40):
    """Return the predictions of a key's model in one pass, and the final state."""
    model = models.of(key)
    x = np.array([[r["x"], r["y"]] for r in records(length, [key])])
    y, state = model.run(model.scaled(key, x)[np.newaxis])
    return model.restored(key, y[0]).tolist(), state[0].tobytes()


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_each_key_has_the_bits_of_its_model_alone(engine, kernel, models, weights):
    transform = Predict(weights, with_state=True, kernel=kernel)
    outputs = predict(transform, shuffled(records()), engine)

    assert not outputs.invalid
    for key in ("a", "b", "never seen", "other"):
        own = sorted((p for p in outputs.predictions if p.key == key), key=lambda p: p.step)
        said, state = alone(models.with_kernel(kernel), key)
        assert [p.outputs for p in own] == said
        assert own[-1].state == state
        assert {p.model for p in own} == {models.of(key).digest}
    assert len({p.model for p in outputs.predictions}) == 3


@pytest.mark.parametrize("order", ["event_time", "arrival"])
@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch])
def test_batches_have_the_bits_of_each_key_s_model_alone(kind, order, models, weights):
    some = records() if order == "arrival" else shuffled(records())
    batches = [kind.from_pylist(some[i : i + 50]) for i in range(0, len(some), 50)]
    predictions = Collect()
    run(
        lambda p: (
            (
                p
                | beam.Create(batches, reshuffle=False).with_output_types(kind)
                | Predict(weights, with_state=True, order=order)
            ).predictions
            | predictions
        )
    )

    rows = predictions_in(predictions.elements, COLUMNS, models.output_names)
    assert sorted(rows) == sorted(oracle(models, records(), with_state=True).predictions)
    size = models.network.state_size
    expected = prediction_schema(batches[0].schema, models.output_names, size)
    assert all(batch.schema == expected for batch in predictions.elements)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("emit", ["every", "last"])
def test_sequences_of_each_key_end_as_they_would_alone(engine, emit, tmp_path):
    models = keyed_models("ab", columns=MARKED)
    some = [
        {**r, "first": t % 13 == 0, "last": t == 30, "t": r["t"] + (500 if t > 34 else 0)}
        for t in range(40)
        for r in (row(t, key) for key in "abc")
    ]
    path = saved(models, tmp_path)
    transform = Predict(path, emit=emit, idle_after=60, with_state=True)
    outputs = predict(transform, shuffled(some), engine)

    expected = oracle(models, some, idle_after=60, with_state=True)
    assert sorted(outputs.ended) == sorted(expected.ended)
    ends = {(r.key, r.last_time) for r in expected.ended}
    wanted = [p for p in expected.predictions if emit == "every" or (p.key, p.time) in ends]
    assert sorted(outputs.predictions) == sorted(wanted)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order", ["event_time", "arrival"])
def test_without_a_fallback_a_record_of_another_key_is_a_dead_letter(engine, order, tmp_path):
    models = keyed_models("ab", fallback=False)
    path = saved(models, tmp_path)
    outputs = predict(Predict(path, order=order), records(10, "abc"), engine)

    expected = oracle(models, records(10, "abc"))
    assert sorted(outputs.predictions) == sorted(expected.predictions)
    assert expected.invalid == len(outputs.invalid) == 10
    for letter in outputs.invalid:
        assert letter.key == "c"
        assert letter.reason == "the key has no model, and there is no fallback"
    assert {r.key for r in outputs.ended} == {"a", "b"}


def test_dead_letters_of_batches_are_counted(tmp_path):
    path = saved(keyed_models("ab", fallback=False), tmp_path)
    batch = pa.Table.from_pylist(records(10, "abc"))
    outputs, result = run(lambda p: Outputs(p | beam.Create([batch]) | Predict(path)))

    assert sum(b.num_rows for b in outputs.predictions) == 20
    assert len(outputs.invalid) == 10
    counted = result.metrics().query(MetricsFilter().with_name("records_invalid"))["counters"]
    assert sum(metric.result for metric in counted) == 10


@pytest.fixture
def two_sets(tmp_path):
    """That of "b" and the fallback change, that of "a" does not; "c" has one from now on."""
    old = keyed_models("ab")
    new = keyed_models("abc", seed=50)
    new = KeyedModels.gathered({**new.models, "a": old.models["a"]}, new.fallback)
    files = {f"w-{i}.arrow": weights_file.to_bytes(m) for i, m in ((1, old), (2, new))}
    (tmp_path / "w-1.arrow").write_bytes(files["w-1.arrow"])
    return old, new, files


def both(*ticks):
    return [tick(t, key) for t in ticks for key in "abc"]


CHANGED = both(0, 1, 2), 3, [tick(4, file="w-2.arrow"), *both(4, 5)[1:]], 6, [tick(7, "d")], 20


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("policy", ["keep", "reset", "replay"])
def test_a_key_with_an_unchanged_model_continues(policy, two_sets, tmp_path):
    old, new, files = two_sets
    arguments = {"on_model_change": policy, "replay": 2 if policy == "replay" else 0}
    transform = Predict(tmp_path / "w-*.arrow", watch=0, **arguments)

    outputs = changing(transform, tmp_path, files, *CHANGED)

    rows = {(p.key, p.time // SECOND - START): p for p in outputs.predictions}
    first, second = (0, 1, 2), (4, 5)
    for key in "abc":
        said = [rows[key, t].outputs for t in (*first, *second)]
        digests = [rows[key, t].model for t in (*first, *second)]
        before, after = [tick(t, key) for t in first], [tick(t, key) for t in second]
        if key == "a" or policy == "keep":
            assert said == forward(old, before + after)
            assert digests == [old.of(key).digest] * 5
            assert [rows[key, t].step for t in (*first, *second)] == [1, 2, 3, 4, 5]
            continue
        assert digests == [old.of(key).digest] * 3 + [new.of(key).digest] * 2
        replayed = forward(new, before[1:] + after)[2:]
        assert said[3:] == (forward(new, after) if policy == "reset" else replayed)
    ended = sorted((r.key, r.steps) for r in outputs.ended if r.reason == "model")
    assert ended == ([("b", 3), ("c", 3)] if policy == "reset" else [])
    assert rows["d", 7].model == new.fallback.digest


@pytest.mark.usefixtures("each_way")
def test_a_new_file_with_unchanged_models_is_no_change(two_sets, tmp_path):
    """With the default, on_model_change="error"."""
    old, _, files = two_sets
    more = KeyedModels.gathered({**old.models, "d": random_model(seed=77)}, old.fallback)
    files["w-2.arrow"] = weights_file.to_bytes(more)
    outputs = changing(Predict(tmp_path / "w-*.arrow", watch=0), tmp_path, files, *CHANGED)

    assert len(outputs.predictions) == 16
    assert {p.model for p in outputs.predictions if p.key == "d"} == {more.of("d").digest}


@pytest.mark.usefixtures("each_way")
def test_a_change_of_one_key_s_model_is_an_error_by_default(two_sets, tmp_path):
    _, _, files = two_sets
    with pytest.raises(Exception, match=r"or say Predict\(on_model_change='keep'\)"):
        changing(Predict(tmp_path / "w-*.arrow", watch=0), tmp_path, files, *CHANGED)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("policy", ["reset", "replay"])
def test_a_key_whose_model_went_away_ends_and_its_records_are_dead_letters(
    policy, two_sets, tmp_path
):
    old, _, files = two_sets
    fewer = KeyedModels.gathered({"a": old.models["a"]})
    files["w-2.arrow"] = weights_file.to_bytes(fewer)
    arguments = {"on_model_change": policy, "replay": 2 if policy == "replay" else 0}
    transform = Predict(tmp_path / "w-*.arrow", watch=0, **arguments)

    outputs = changing(transform, tmp_path, files, *CHANGED)

    assert sorted(r.key for r in outputs.invalid) == ["b", "b", "c", "c", "d"]
    assert sorted((r.key, r.steps, r.reason) for r in outputs.ended) == [
        ("a", 5, "window"), ("b", 3, "model"), ("c", 3, "model"),
    ]  # fmt: skip


@pytest.mark.usefixtures("each_way")
def test_one_model_may_become_many_and_many_one(tmp_path):
    one, many = random_model(), keyed_models("ab")
    files = {f"w-{i}.arrow": weights_file.to_bytes(m) for i, m in ((1, one), (2, many), (3, one))}
    (tmp_path / "w-1.arrow").write_bytes(files["w-1.arrow"])
    events = *CHANGE[:-1], 8, [tick(9, file="w-3.arrow")], 20
    transform = Predict(tmp_path / "w-*.arrow", watch=0, on_model_change="reset")

    outputs = changing(transform, tmp_path, files, *events)

    of_a = [p.model for p in sorted(outputs.predictions, key=lambda p: p.time) if p.key == "a"]
    assert of_a == [one.digest] * 3 + [many.of("a").digest] * 2 + [one.digest]
    assert {p.model for p in outputs.predictions if p.key == "b"} == {many.of("b").digest}


@pytest.mark.usefixtures("each_way")
def test_model_files_arrive_as_a_side_input_of_paths(two_sets, tmp_path):
    _old, new, files = two_sets
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def build(p):
        paths = p | "Paths" >> beam.Create([str(tmp_path / name) for name in files])
        return Outputs(
            p | beam.Create(records(5, "abc")) | Predict(tmp_path / "w-1.arrow", models=paths)
        )

    outputs, _ = run(build)
    assert sorted(outputs.predictions) == sorted(oracle(new, records(5, "abc")).predictions)


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("engine", ["fnapi", "embed"])
def test_a_stream_continues_from_the_states_of_a_history(engine, models, weights, tmp_path):
    history, live = records(20), [r for r in records(40) if r["t"] >= START + 20]

    def export(p):
        outputs = p | beam.Create(history) | Predict(weights, with_state=True)
        return outputs.ended | ExportStates(tmp_path / "states")

    def go_on(p):
        states = p | "States" >> ImportStates(tmp_path / "states*")
        return Outputs(p | beam.Create(live) | Predict(weights, with_state=True, states=states))

    run(export, engine)
    outputs, _ = run(go_on, engine)

    whole = oracle(models, records(40), with_state=True).predictions
    wanted = [p for p in whole if p.time >= (START + 20) * SECOND]
    assert sorted(outputs.predictions) == sorted(wanted)


@pytest.mark.usefixtures("each_way")
def test_an_overflow_is_a_dead_letter_of_its_key_only(models, weights):
    bad = [row(t, key, x=1e300) for t, key in ((5, "a"), (6, "b"), (7, "c"))]
    some = [*records(5, "abc"), *bad, *(row(t, key) for t in range(8, 12) for key in "abc")]
    outputs = predict(Predict(weights, with_state=True), shuffled(some))

    good = [r for r in some if r not in bad]
    assert sorted(r.key for r in outputs.invalid) == ["a", "b", "c"]
    assert sorted(outputs.predictions) == sorted(oracle(models, good, with_state=True).predictions)


def test_models_of_absent_keys_are_not_created(weights, monkeypatch):
    made = []
    of = KeyedModels._with_shared_kernel
    monkeypatch.setattr(
        KeyedModels,
        "_with_shared_kernel",
        lambda self, model: made.append(model.digest) or of(self, model),
    )
    outputs = predict(Predict(weights), records(9, ["a"]))

    assert len(outputs.predictions) == 9
    models = weights_file.load(weights)
    assert set(made) == {models.of("a").digest, models.fallback.digest}


def test_a_model_is_found_by_the_digest_of_a_state(models, weights):
    library = ModelLoader(weights).library()
    for key in ("a", "b", "never seen"):
        own = models.of(key)
        assert library.made_by(own.digest, own.kernel) == own


def test_a_runner_s_page_shows_the_models(models, weights):
    shown = Predict(weights).display_data()
    assert (shown["model"], shown["keys"], shown["cell"]) == (models.digest, 2, "gru")


def test_states_of_many_models_are_one_piece_of_the_log(tmp_path):
    """And come back as they were; those of one model stay in the form that they had."""
    path = saved(keyed_models("abcdef"), tmp_path)
    shard = new_shard(path)
    for i, key in enumerate("abcdefgh"):
        made = Maker(f"{min(i, 6):02x}" * 32, "numpy", 4, 1)
        state = _state(made, i)
        shard.start_from(key, state, LONG_AGO)
    pieces = encode_change(shard.changes(), shard.table, 0)

    again = new_shard(path)
    replay(pieces, again)

    assert [piece[:2] for piece in pieces] == [b"\x04\x05"]
    assert contents(again) == contents(shard)
    assert again.table.state(int(again.table.rows(["c"])[0])).digest == "02" * 32


def test_the_mixed_log_of_an_earlier_release_is_read(tmp_path):
    golden = (
        (Path(__file__).parents[1] / "contracts" / "golden" / "shard-log-v4.hex")
        .read_text()
        .split()
    )
    shard = new_shard(saved(random_model(), tmp_path))

    replay([bytes.fromhex(line) for line in golden], shard)

    states, waiting = contents(shard)
    assert not waiting
    assert {key: (state[0], state[2], state[6]) for key, state in states.items()} == {
        "a": ("aa" * 32, 1, [1.0] * 4),
        "é": ("ab" * 32, 2, [2.0] * 4),
    }


def _state(made, i):
    values, outputs = np.full(made.values, float(i), np.float32), np.full(made.outputs, i / 2)
    return KeyState(made.digest, made.kernel, i + 1, 1, 2 + i, 3, values, outputs, np.zeros(0))


def test_more_keys_than_sixteen_bits_count(tmp_path):
    """A table numbers the models that made its states."""
    shard = new_shard(saved(random_model(), tmp_path))
    for i in range(40_000):
        shard.table.made_by(Maker(f"{i:064x}", "numpy", 1, 1))
    last = shard.table.made_by(Maker("f" * 64, "numpy", 1, 1))
    shard.start_from("a", _state(Maker("f" * 64, "numpy", 1, 1), 3), LONG_AGO)
    assert shard.table.maker[shard.table.rows(["a"])[0]] == last == 40_000
