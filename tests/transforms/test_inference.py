"""`RnnModelHandler` in Beam's RunInference: the bits of `Predict` for all batch sizes."""

import json
import pickle
import random
from dataclasses import replace

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.ml.inference.base import (
    KeyedModelHandler,
    KeyModelMapping,
    ModelMetadata,
    RunInference,
)
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_rnn import Columns, Model, Network, Predict, PredictSequences, RnnModelHandler, Sequences
from beam_rnn.errors import ConfigurationError, RecordError, WeightsError
from beam_rnn.nn.kernels import fused_is_installed
from beam_rnn.transforms import inference_model as module
from beam_rnn.transforms.inference_model import LoadedModel
from beam_rnn.transforms.run_inference import steps_of
from tests.helpers.engines import ENGINES, Collect, predict, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.helpers.sequences import wave
from tests.streaming.test_smoothing import poisoned_model
from tests.transforms.test_predict import START, row

KERNELS = ["numpy", *(["fused"] if fused_is_installed() else [])]
LENGTHS = {"a": 20, "b": 1, "c": 7, "never seen": 3}
RECORDS = {key: [row(t, key) for t in range(n)] for key, n in LENGTHS.items()}
ALL = [record for records in RECORDS.values() for record in records]


def inferred(handler, examples):
    """The inference of each example, without a pipeline."""
    return [r.inference for r in handler.run_inference(examples, handler.load_model())]


def results(transform, examples, engine="fnapi"):
    """Return the results of RunInference in a pipeline."""
    collect = Collect()
    _, result = run(lambda p: p | beam.Create(examples) | transform | collect, engine)
    return collect.elements, result


def said(predictions):
    """{(key, time in seconds): outputs}"""
    return {(p.key, p.time // 10**6): list(p.outputs) for p in predictions}


def as_said(found):
    """The same of results."""
    return {
        (record["id"], record["t"]): outputs
        for result in found
        for record, outputs in zip(result.example, result.inference.tolist(), strict=True)
    }


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "network",
    [
        Network("rnn", 5),
        Network("gru", 33, residual=True),
        Network("lstm", (9, 5), initial_state="learned"),
        Network("gru", 5, layers=2, bidirectional=True),
    ],
    ids=lambda network: str(network.to_json()),
)
def test_the_bits_are_those_of_predict(network, kernel, tmp_path):
    """All together and each alone, in any order."""
    weights = saved(random_model(network), tmp_path)
    transforms = [PredictSequences(weights, kernel=kernel)]
    if not network.bidirectional:
        transforms.append(Predict(weights, kernel=kernel))
    handler = RnnModelHandler(weights, kernel=kernel)
    shuffled = [random.Random(1).sample(rows, len(rows)) for rows in RECORDS.values()]

    found = handler.run_inference(shuffled, handler.load_model())

    for transform in transforms:
        assert as_said(found) == said(predict(transform, ALL).predictions)
    for result in found:
        (alone,) = inferred(handler, [result.example])
        np.testing.assert_array_equal(result.inference, alone)


@pytest.mark.parametrize("engine", ENGINES)
def test_in_a_pipeline(engine, tmp_path):
    model = random_model()
    weights = saved(model, tmp_path)

    found, _ = results(RunInference(RnnModelHandler(weights)), list(RECORDS.values()), engine)

    assert as_said(found) == said(predict(Predict(weights), ALL).predictions)
    assert {each.model_id for each in found} == {model.digest}


def test_the_metrics_of_run_inference(tmp_path):
    handler = RnnModelHandler(saved(random_model(), tmp_path))

    _, result = results(RunInference(handler), list(RECORDS.values()))

    counts = result.metrics().query(MetricsFilter().with_namespace("beam_rnn"))
    counters = {each.key.metric.name: each.committed for each in counts["counters"]}
    assert counters["num_inferences"] == len(RECORDS)
    assert {each.key.metric.name for each in counts["distributions"]} >= {
        "inference_batch_latency_micro_secs",
        "inference_request_batch_byte_size",
        "load_model_latency_milli_secs",
        "model_byte_size",
    }


def test_the_last_output_alone(tmp_path):
    network = Network("lstm", 4, output_steps="last")
    every = RnnModelHandler(saved(random_model(network), tmp_path))
    (tmp_path / "other").mkdir()
    weights = saved(random_model(), tmp_path / "other")
    last = RnnModelHandler(weights, emit="last")

    for one in inferred(every, list(RECORDS.values())):
        assert one.shape == (1,)
    whole = inferred(RnnModelHandler(weights), list(RECORDS.values()))
    for one, rows in zip(inferred(last, list(RECORDS.values())), whole, strict=True):
        np.testing.assert_array_equal(one, rows[-1])


def test_sequences_are_examples(tmp_path):
    model = random_model()
    weights = saved(model, tmp_path)
    cut = Collect()

    run(lambda p: p | beam.Create(ALL) | Sequences(replace(COLUMNS, horizon=0)) | cut)

    handler = RnnModelHandler(weights)
    found = handler.run_inference(cut.elements, handler.load_model())
    assert {
        (r.example.key, time // 10**6): outputs
        for r in found
        for time, outputs in zip(r.example.times.tolist(), r.inference.tolist(), strict=True)
    } == said(predict(Predict(weights), ALL).predictions)
    assert handler.get_num_bytes(cut.elements) == 8 * 2 * len(ALL)


SEEN = {
    "symbols": Columns(
        key="id", time="t", inputs=["x"], symbols=["word"], vocabularies={"word": ["odd", "even"]}
    ),
    "missing": Columns(key="id", time="t", inputs=["x", "y"], missing="carry", calendar=["day"]),
}


@pytest.mark.parametrize("columns", SEEN.values(), ids=SEEN)
def test_inference_supports_every_kind_of_input(columns, tmp_path):
    """Lists have it, and sequences whose columns know no vocabulary yet."""
    network = Network("gru", 4, embedding=(2,) * len(columns.symbols))
    sizes = columns.input_size, columns.target_size
    parameters = network.initialize(*sizes, seed=0, symbols=columns.vocabulary_sizes)
    weights = saved(Model(network, parameters, columns), tmp_path)
    rows = [row(t, word=["even", "odd", "new"][t % 3]) for t in range(12)]
    rows[4]["x"] = None if columns.missing == "carry" else 0.5
    wanted = said(predict(Predict(weights), rows).predictions)
    cut = Collect()
    run(
        lambda p: (
            p | beam.Create(rows) | Sequences(replace(columns, vocabularies=(), horizon=0)) | cut
        )
    )

    for example in (rows, *cut.elements):
        (found,) = inferred(RnnModelHandler(weights), [example])
        assert found.tolist() == [wanted["a", record["t"]] for record in rows]


def test_equal_records_count_once_and_grouped_ones_need_no_list(tmp_path):
    handler = RnnModelHandler(saved(random_model(), tmp_path))
    rows = RECORDS["c"]

    (once,) = inferred(handler, [rows])
    (twice,) = inferred(handler, [(record for record in rows + rows[2:4])])

    np.testing.assert_array_equal(twice, np.concatenate([once, once[2:4]]))


def test_records_without_a_time_stand_in_their_order(tmp_path):
    timed = random_model()
    (tmp_path / "other").mkdir()
    untimed = replace(timed, columns=replace(COLUMNS, time=None))
    numbered = replace(timed, columns=replace(COLUMNS, time=None, sequence="t"))
    rows = RECORDS["a"]
    (wanted,) = inferred(RnnModelHandler(saved(timed, tmp_path)), [rows])

    (found,) = inferred(RnnModelHandler(saved(untimed, tmp_path / "other")), [rows])
    handler = RnnModelHandler(saved(numbered, tmp_path / "other"))
    (backwards,) = inferred(handler, [rows[::-1]])

    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(backwards, wanted[::-1])


@pytest.mark.parametrize("at_once", [1, 10, 10_000])
def test_the_batch_size_does_not_affect_inference(at_once, monkeypatch, tmp_path):
    handler = RnnModelHandler(saved(random_model(), tmp_path))
    wanted = inferred(handler, list(RECORDS.values()))
    monkeypatch.setattr(module, "STEPS_AT_ONCE", at_once)

    for one, other in zip(inferred(handler, list(RECORDS.values())), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_beam_makes_batches_of_examples_that_are_about_as_long(tmp_path):
    """Its batches across bundles, by the keys of the handler around it."""
    weights = saved(random_model(), tmp_path)
    handler = RnnModelHandler(
        weights, batch_bucket_boundaries=[5, 10], max_batch_duration_secs=1, max_batch_size=9
    )
    assert handler.batch_elements_kwargs()["length_fn"] is steps_of
    examples = list(RECORDS.items()) * 3

    found, _ = results(RunInference(KeyedModelHandler(handler)), examples)

    assert len(found) == len(examples)
    wanted = said(predict(Predict(weights), ALL).predictions)
    assert as_said(result for _, result in found) == wanted
    assert {key for key, result in found} == set(RECORDS)


BAD = [
    [*RECORDS["a"][:3], row(9, x="much")],
    [],
    [row(1), row(2, "b")],
    row(1),
    7,
    np.zeros((3, 2)),
]


def test_an_example_that_cannot_be_used_is_a_dead_letter_of_its_own(tmp_path):
    weights = saved(random_model(), tmp_path)
    handler = RnnModelHandler(weights)
    transform = RunInference(handler.with_preprocess_fn(handler.checked)).with_exception_handling()
    good, bad = Collect(), Collect()

    def build(p):
        results, letters = p | beam.Create([*RECORDS.values(), *BAD]) | transform
        _ = results | "Good" >> good
        _ = letters.failed_preprocessing[0] | bad

    run(build)

    assert as_said(good.elements) == said(predict(Predict(weights), ALL).predictions)
    assert sorted(str(facts[1]) for _, facts in bad.elements) == sorted(
        repr(message)
        for message in [
            RecordError("x must be a number", "much"),
            RecordError("an example must have at least one record", []),
            RecordError("an example must have one key", ["a", "b"]),
            *(
                RecordError("an example must be a Sequence or a list of records", each)
                for each in BAD[3:]
            ),
        ]
    )


def test_without_a_check_its_batch_is_the_dead_letter(tmp_path):
    handler = RnnModelHandler(saved(random_model(), tmp_path), min_batch_size=2, max_batch_size=2)
    transform = RunInference(handler).with_exception_handling()
    good, bad = Collect(), Collect()

    def build(p):
        examples = [RECORDS["a"], BAD[0], RECORDS["b"], RECORDS["c"]]
        results, letters = p | beam.Create(examples, reshuffle=False) | transform
        _ = results | "Good" >> good
        _ = letters.failed_inferences | bad

    run(build)

    assert [result.example for result in good.elements] == [RECORDS["b"], RECORDS["c"]]
    ((batch, _),) = bad.elements
    assert batch == [RECORDS["a"], BAD[0]]


@pytest.mark.parametrize("value", [1e300, 3e38])
def test_numbers_out_of_range_are_named(value, tmp_path):
    handler = RnnModelHandler(saved(poisoned_model(COLUMNS), tmp_path), kernel="numpy")
    rows = [row(0), row(1, x=value), row(2)]

    with pytest.raises(RecordError, match="step 2 of a sequence of key 'a' overflows"):
        inferred(handler, [rows])


def test_per_key_models_in_one_file(tmp_path):
    models = keyed_models("ab", fallback=False)
    weights = saved(models, tmp_path)
    handler = RnnModelHandler(weights)
    rows = [RECORDS["a"], RECORDS["b"]]

    found, _ = results(RunInference(handler), rows)

    wanted = predict(Predict(weights), [*rows[0], *rows[1]]).predictions
    assert as_said(found) == said(wanted)
    assert {each.model_id for each in found} == {models.of("a").digest, models.of("b").digest}
    with pytest.raises(RecordError, match="the key has no model, and there is no fallback, got 'c"):
        inferred(handler, [RECORDS["c"]])


def two_files(tmp_path):
    """Two models, and their files."""
    models = [random_model(seed=seed) for seed in (1, 2)]
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    return models, [
        saved(model, tmp_path / name) for model, name in zip(models, ("old", "new"), strict=True)
    ]


def test_inference_with_a_handler_per_key(tmp_path):
    """`KeyModelMapping`: Beam holds each model for other processes, behind a proxy."""
    models, files = two_files(tmp_path)
    mapping = [
        KeyModelMapping([name], RnnModelHandler(path))
        for name, path in zip(("one", "two"), files, strict=True)
    ]
    examples = [(name, RECORDS[key]) for name in ("one", "two") for key in "ac"]

    found, _ = results(RunInference(KeyedModelHandler(mapping)), examples)

    for name, model, path in zip(("one", "two"), models, files, strict=True):
        of_name = [result for key, result in found if key == name]
        assert {result.model_id for result in of_name} == {model.digest}
        wanted = predict(Predict(path), [*RECORDS["a"], *RECORDS["c"]]).predictions
        assert as_said(of_name) == said(wanted)


@pytest.mark.parametrize("copies", [{"large_model": True}, {"model_copies": 2}], ids=str)
def test_processes_share_a_model(copies, tmp_path):
    weights = saved(random_model(), tmp_path)
    handler = RnnModelHandler(weights, **copies)
    assert handler.share_model_across_processes()

    found, _ = results(RunInference(handler), list(RECORDS.values()))

    assert as_said(found) == said(predict(Predict(weights), ALL).predictions)


def test_the_model_changes_by_a_side_input(tmp_path):
    """Each window has the model that its side input names."""
    models, files = two_files(tmp_path)
    times = [START, START + 100]
    metadata = [ModelMetadata(path, name) for path, name in zip(files, "12", strict=True)]
    collect = Collect()

    def at(p, label, values):
        stamp = beam.MapTuple(TimestampedValue).with_output_types(type(values[0]))
        pairs = p | label >> beam.Create(list(zip(values, times, strict=True)))
        stamped = pairs | f"{label} at" >> stamp
        return stamped | f"{label} in" >> beam.WindowInto(FixedWindows(9))

    def build(p):
        newest = at(p, "Models", metadata)
        examples = at(p, "Examples", [RECORDS["a"], RECORDS["c"]])
        handler = RnnModelHandler(files[0])
        _ = examples | RunInference(handler, model_metadata_pcoll=newest) | collect

    run(build)

    found = {result.example[0]["id"]: result for result in collect.elements}
    for key, model, path in zip("ac", models, files, strict=True):
        assert found[key].model_id == model.digest
        wanted = predict(Predict(path), RECORDS[key]).predictions
        assert as_said([found[key]]) == said(wanted)


def test_a_path_replaces_the_one_before(tmp_path):
    models, files = two_files(tmp_path)
    handler = RnnModelHandler(files[0])

    for path, model in ((None, models[0]), (files[1], models[1]), ("", models[1])):
        handler.update_model_path(path)
        (result,) = handler.run_inference([RECORDS["a"]], handler.load_model())
        assert result.model_id == model.digest


def test_it_is_small_where_it_travels(tmp_path):
    handler = RnnModelHandler(saved(random_model(), tmp_path))
    handler.checked(RECORDS["a"])

    assert len(pickle.dumps(handler)) < 1000
    assert json.dumps(str(handler)).count("0x") == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RnnModelHandler(7), "weights must be the path of a file, got 7"),
        (lambda: RnnModelHandler("w", emit="all"), "emit must be one of every, last, got 'all'"),
        (lambda: RnnModelHandler("w", kernel="gpu"), "kernel must be one of"),
        (
            lambda: RnnModelHandler("w", batch_bucket_boundaries=[5]),
            r"boundaries=\[5\] and a batch_length_fn need max_batch_duration_secs",
        ),
        (
            lambda: (
                beam.Pipeline()
                | beam.Create([[]])
                | RunInference(RnnModelHandler("w"), inference_args={"emit": "last"})
            ),
            "takes no inference_args, got {'emit': 'last'}",
        ),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_files_and_sequences_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="names no columns"):
        LoadedModel(saved(replace(random_model(), columns=None, scaler=None), tmp_path), "auto")
    other = wave(columns=Columns(key="id", time="t", inputs=["x"]))
    marked = replace(COLUMNS, end="last", calendar=["day"], time=None)
    (tmp_path / "marked").mkdir()
    network = Network("gru", 3)
    parameters = network.initialize(marked.input_size, 1, seed=0)
    model = random_model()
    by_marks = replace(model, columns=replace(COLUMNS, end="last"))
    by_clock = replace(model, network=network, parameters=parameters, columns=marked, scaler=None)

    with pytest.raises(RecordError, match="must be read by the columns of the model"):
        inferred(RnnModelHandler(saved(model, tmp_path)), [other])
    rows = [row(t, last=t == 1) for t in range(3)]
    with pytest.raises(RecordError, match="in key 'a' another begins by 'last'"):
        inferred(RnnModelHandler(saved(by_marks, tmp_path / "marked")), [rows])
    with pytest.raises(RecordError, match="records of a list do not have"):
        inferred(RnnModelHandler(saved(by_clock, tmp_path / "marked")), [[row(1, last=True)]])


def test_a_part_of_a_sequence_is_refused(tmp_path):
    cut = Collect()
    run(lambda p: p | beam.Create(RECORDS["a"]) | Sequences(COLUMNS, parts_of=5) | cut)

    with pytest.raises(RecordError, match="must be a whole sequence, not a part"):
        inferred(RnnModelHandler(saved(random_model(), tmp_path)), cut.elements)
