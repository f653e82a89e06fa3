"""The models of a process: which are loaded, retried, skipped and released."""

import gc
import logging
import weakref
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import MetricsFilter

from beam_rnn import ExportStates, ImportStates, Network, Predict, weights
from beam_rnn.errors import ConfigurationError, StateError, WeightsError
from beam_rnn.streaming import model_library as loading
from beam_rnn.streaming.model_library import RETRY_AFTER, UNUSED_AFTER
from beam_rnn.streaming.model_loader import ModelLoader
from tests.helpers.engines import Outputs, run
from tests.helpers.models import keyed_models, random_model
from tests.models.test_weights import altered
from tests.transforms.test_predict import row

UNREADABLE = BeamIOError("open failed", {"a file": Exception("503")})


@pytest.fixture
def clock(monkeypatch):
    """The time of the module, which moves when a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(loading, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def folder(tmp_path):
    """A folder with the model m1."""
    weights.save(random_model(seed=1), tmp_path / "m1.arrow")
    return tmp_path


def put(folder, name, seed):
    path = folder / f"{name}.arrow"
    weights.save(random_model(seed=seed), path)
    return str(path)


def library_of(folder, pattern="m*.arrow"):
    return ModelLoader(str(folder / pattern), kernel="numpy").library()


def failing(monkeypatch, failures, path=""):
    """Let the next reads of files with this in their path fail; gives all paths that are read."""
    read, paths = loading.read_model, []

    def flaky(name):
        paths.append(name)
        if path in name and sum(path in each for each in paths) <= failures:
            raise UNREADABLE
        return read(name)

    monkeypatch.setattr(loading, "read_model", flaky)
    return paths


@pytest.mark.parametrize(
    "error", [UNREADABLE, PermissionError("no"), RuntimeError("the token expired")]
)
def test_a_listing_that_fails_leaves_the_model_and_is_repeated(error, folder, monkeypatch, caplog):
    library, match = library_of(folder), FileSystems.match
    put(folder, "m2", 2)

    def fail(_patterns):
        raise error

    monkeypatch.setattr(FileSystems, "match", fail)
    for _ in range(3):
        library.refresh(0)
        assert library.newest == random_model(seed=1)
    monkeypatch.setattr(FileSystems, "match", match)
    library.refresh(0)

    assert library.newest == random_model(seed=2)
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert type(error).__name__ in said[0].getMessage()


def test_a_read_that_fails_is_repeated_at_the_next_look(folder, clock, monkeypatch):
    library = library_of(folder)
    put(folder, "m2", 2)
    paths = failing(monkeypatch, 2, "m2")

    for expected, reads in ((1, 1), (1, 2), (2, 3), (2, 3)):
        clock.now += 60
        library.refresh(60)
        library.refresh(60)  # it is not time
        assert library.newest == random_model(seed=expected)
        assert len(paths) == reads


def test_the_first_model_that_cannot_be_read_is_an_error_not_an_older_model(folder, monkeypatch):
    put(folder, "m2", 2)
    failing(monkeypatch, 1, "m2")
    with pytest.raises(BeamIOError, match="503"):
        library_of(folder)


CRAFTED = {
    "a scaler that is a list": {"scaler": '{"default": [1], "keys": {}}'},
    "nested JSON": {"columns": "[" * 100_000},
    "a null": {"rows": lambda rows: [{**rows[0], "values": None}, *rows[1:]]},
    "a huge number": {"scaler": '{"default": {"inputs_center": [1%s]}, "keys": {}}' % ("0" * 400)},
    "no facts": {"training": "null"},
    "a billion layers": {"network": '{"cell": "gru", "hidden": 6, "layers": 1000000000}'},
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_file_is_skipped_and_read_once(what, folder, monkeypatch, caplog):
    library = library_of(folder)
    data = weights.to_bytes(random_model(seed=2))
    (folder / "m2.arrow").write_bytes(altered(data, **CRAFTED[what]))
    paths = failing(monkeypatch, 0)

    for _ in range(3):
        library.refresh(0)

    assert library.newest == random_model(seed=1)
    assert len(paths) == 1
    assert "cannot use the model in" in caplog.text


def test_a_file_that_was_refused_is_read_again_when_it_has_changed(folder):
    library = library_of(folder)
    path = folder / "m2.arrow"
    path.write_bytes(weights.to_bytes(random_model(seed=2))[:500])
    library.refresh(0)
    before = library.newest
    put(folder, "m2", 2)
    library.refresh(0)

    assert (before, library.newest) == (random_model(seed=1), random_model(seed=2))


@pytest.mark.parametrize("how", ["cut", "removed", "overwritten"])
def test_a_watched_file_at_work_that_is_cut_removed_or_overwritten(how, folder):
    """Only another good file takes its place."""
    put(folder, "m2", 2)
    library = library_of(folder)
    path = folder / "m2.arrow"
    if how == "removed":
        path.unlink()
    else:
        other = random_model(Network("gru", hidden=7), seed=3)
        path.write_bytes(weights.to_bytes(other)[: 500 if how == "cut" else None])
    for _ in range(2):
        library.refresh(0)

    assert library.newest == (other if how == "overwritten" else random_model(seed=2))


def test_the_newest_usable_model_of_the_given_paths_is_used(folder, clock, monkeypatch):
    """One that cannot is tried again, after ever longer times."""
    library = library_of(folder, "m1.arrow")
    given = [put(folder, "m2", 2), str(folder / "m3.arrow")]
    (folder / "m3.arrow").write_bytes(b"ARROW1, cut")
    paths = failing(monkeypatch, 0)

    for _ in range(5):
        library.use(reversed(given))
    assert library.newest == random_model(seed=2)
    assert sorted(paths) == given

    put(folder, "m3", 3)
    library.use(given)
    assert library.newest == random_model(seed=2)
    clock.now += RETRY_AFTER
    library.use(given)
    assert library.newest == random_model(seed=3)
    clock.now += 1e6
    library.use(given)
    assert len(paths) == 3


def test_a_given_path_that_stays_broken_is_read_ever_more_rarely(folder, clock, monkeypatch):
    library = library_of(folder, "m1.arrow")
    paths = failing(monkeypatch, 99, "m2")
    for _ in range(100):
        library.use([str(folder / "m2.arrow")])
        clock.now += RETRY_AFTER
    assert library.newest == random_model(seed=1)
    assert len(paths) == 7  # after 0, 1, 3, 7, 15, 31 and 63 times RETRY_AFTER


def test_a_state_finds_its_model_among_all_given_paths(folder):
    first, second, third = (random_model(seed=i) for i in (1, 2, 3))
    given = [put(folder, "m2", 2), put(folder, "m3", 3)]
    library = library_of(folder, "m1.arrow")
    library.use(given)

    for model in (first, second, third):
        assert library.made_by(model.digest, "numpy") == model
    assert library.made_by(second.digest, "fused").kernel == "fused"
    assert library.newest == third
    with pytest.raises(StateError, match=r"m1.arrow' and of the 2 paths of models= holds"):
        library.made_by(random_model(seed=4).digest, "numpy")


def test_models_that_no_sequence_asks_for_leave_the_memory(folder, clock):
    library = library_of(folder)
    gone = [weakref.ref(library.newest)]
    for i in range(2, 6):
        put(folder, f"m{i}", i)
        (folder / f"m{i - 1}.arrow").unlink()
        clock.now += 1
        library.refresh(0)
        gone.append(weakref.ref(library.newest))
    gc.collect()

    assert [reference() is None for reference in gone] == [True, True, True, False, False]
    assert library.made_by(random_model(seed=4).digest, "numpy") == random_model(seed=4)
    with pytest.raises(StateError, match="keep its file"):
        library.made_by(random_model(seed=3).digest, "numpy")


@pytest.mark.parametrize("keyed", [False, True])
def test_a_model_in_use_by_sequences_is_kept_and_reloaded(keyed, folder, clock, monkeypatch):
    make = keyed_models if keyed else random_model
    for i in range(1, 4):
        weights.save(make(seed=10 * i), folder / f"m{i}.arrow")
    library, old = library_of(folder), make(seed=10).of("a")
    paths = failing(monkeypatch, 0)

    for _ in range(5):
        assert library.made_by(old.digest, "numpy") == old
        clock.now += UNUSED_AFTER - 1
        library.refresh(0)
    reads = paths.count(str(folder / "m1.arrow"))
    clock.now += 2
    library.refresh(0)
    assert library.made_by(old.digest, "numpy") == old

    assert reads == 1
    assert paths.count(str(folder / "m1.arrow")) == 2
    assert library.newest == make(seed=30)


def test_none_that_can_be_used_is_the_error_of_the_newest(folder):
    (folder / "m1.arrow").write_bytes(b"old")
    (folder / "m2.arrow").write_bytes(b"new")
    with pytest.raises(WeightsError, match=r"m2\.arrow' cannot be used"):
        library_of(folder)


def test_a_watched_pattern_and_given_paths_exclude_each_other(folder):
    with pytest.raises(ConfigurationError, match=r"watch=60 takes the newest file of .*m1\.arrow"):
        Predict(folder / "m1.arrow", watch=60, models=beam.Pipeline() | beam.Create(["a"]))


@pytest.mark.usefixtures("each_way")
def test_a_restarted_job_keeps_the_models_of_its_sequences(folder):
    """Their model came over `models=`, and is not the newest any more."""
    given = [put(folder, "m2", 2), put(folder, "m3", 3)]

    def job(paths, records, *, states=False):
        def build(p):
            begun = p | ImportStates(folder / "states*") if states else None
            transform = Predict(
                folder / "m1.arrow",
                models=p | "Paths" >> beam.Create(paths),
                on_model_change="keep",
                with_state=True,
                states=begun,
            )
            outputs = p | "Records" >> beam.Create(records) | transform
            if not states:
                _ = outputs.ended | ExportStates(folder / "states")
            return Outputs(outputs)

        return run(build)[0].predictions

    before = job(given[:1], [row(t) for t in range(3)])
    after = job(given, [row(t) for t in range(3, 6)], states=True)

    assert sorted(p.step for p in (*before, *after)) == [1, 2, 3, 4, 5, 6]
    assert {p.model for p in (*before, *after)} == {random_model(seed=2).digest}


@pytest.mark.usefixtures("each_way")
def test_the_job_counts_unreadable_lines(folder):
    (folder / "m2.arrow").write_bytes(b"broken")
    given = [str(folder / "m2.arrow"), str(folder / "m3.arrow")]

    def build(p):
        paths = p | "Paths" >> beam.Create(given)
        records = p | beam.Create([row(t) for t in range(3)])
        # The metrics of a bundle are those of the bundles before it.
        return Outputs(records | Predict(folder / "m1.arrow", models=paths))

    outputs, result = run(build)

    assert {p.model for p in outputs.predictions} == {random_model(seed=1).digest}
    counted = {
        metric.key.metric.name: metric.committed
        for metric in result.metrics().query(MetricsFilter().with_namespace("beam_rnn"))["counters"]
    }
    assert counted["models_broken"] == 1
    assert counted["models_unreachable"] >= 1
