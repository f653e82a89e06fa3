"""Plain parameters, and rows that every language of Beam can read."""

import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Optional

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.coders import RowCoder, registry
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import schema_from_element_type
from apache_beam.utils.timestamp import Timestamp

from beam_rnn import (
    Bptt,
    Columns,
    Generate,
    LossCurve,
    Network,
    Predict,
    PredictAndLearn,
    PredictSequences,
    ScoreAnomalies,
    Sequences,
    Smooth,
    Train,
    Training,
    Vocabulary,
    WriteModel,
)
from beam_rnn import weights as weights_file
from beam_rnn.errors import ConfigurationError
from beam_rnn.models.model import Model
from beam_rnn.online import Surprise
from beam_rnn.optim import Adam, Sgd, Warmup
from beam_rnn.pairs import Transduce
from beam_rnn.portable import (
    RnnAnomalies,
    RnnGenerate,
    RnnPredict,
    RnnPredictSequences,
    RnnSequences,
    RnnTrain,
)
from beam_rnn.portable.arguments import OPTIMIZERS, chosen, made
from beam_rnn.portable.error_rows import RefusedRecord
from beam_rnn.portable.generate import GeneratedRow
from beam_rnn.portable.prediction_rows import prediction_row
from beam_rnn.portable.schemas import time_text
from beam_rnn.portable.sequences import SequenceRow, row_of, sequence_of
from beam_rnn.portable.train import WrittenModel
from beam_rnn.records.result_columns import prediction_columns
from beam_rnn.testing import oracle
from tests.helpers.engines import Collect, elements, predict, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.helpers.streams import START, stream
from tests.transforms.test_generate import model_of as singer
from tests.transforms.test_learn import LEARNING
from tests.transforms.test_transduce import random_model as translator

PLAIN = {"key": "id", "time": "t", "inputs": ["x", "y"], "targets": ["x"]}
RECORDS = [
    {"id": key, "t": t, "x": (t % 7) / 3 - i, "y": t / 9}
    for t in range(20)
    for i, key in enumerate("ab")
]
NO_NUMBER = {**RECORDS[5], "x": None}


def collected(transform, records, *names, windowing=None):
    """The elements of each output by its name; of the only one without names."""

    def build(p):
        stamped = [TimestampedValue(record, 0) for record in records]
        pcoll = p | beam.Create(stamped, reshuffle=False)
        if isinstance(records[0], beam.Row):
            fields = [(name, type(value)) for name, value in records[0].as_dict().items()]
            kind = RowTypeConstraint.from_fields(fields)
            pcoll |= "Typed" >> beam.Map(lambda row: row).with_output_types(kind)
        if windowing is not None:
            pcoll |= beam.WindowInto(windowing)
        outputs = pcoll | transform
        collects = {name: Collect() for name in names or ("only",)}
        for name, collect in collects.items():
            _ = (outputs[name] if names else outputs) | f"Collect-{name}" >> collect
        return collects

    collects, _ = run(build)
    found = {name: collect.elements for name, collect in collects.items()}
    return found if names else found["only"]


# Plain values.


def test_mappings_become_the_classes_of_python():
    given = {
        "epochs": 3,
        "bptt": {"steps": 8, "stride": 2},
        "optimizer": {"type": "adam", "learning_rate": {"type": "warmup", "steps": 9, "then": 0.1}},
        "class_weights": {"yes": 2.0},
        "vocabulary": {"at_least": 2},
    }
    assert made(Training, "training", given) == Training(
        epochs=3,
        bptt=Bptt(steps=8, stride=2),
        optimizer=Adam(Warmup(9, 0.1)),
        class_weights={"yes": 2.0},
        vocabulary=Vocabulary(at_least=2),
    )
    assert made(Network, "network", {"hidden": [8, 4]}) == Network(hidden=(8, 4))
    assert made(Surprise, "surprise", None) == Surprise()
    assert chosen(OPTIMIZERS, "outer", {"type": "sgd", "learning_rate": 1.0}) == Sgd(1.0)
    assert made(Columns, "columns", {**PLAIN, "vectors": {"x": 3}}).input_size == 4


def test_rows_are_accepted_as_mappings():
    """Other languages have rows instead of mappings."""
    row = beam.Row(epochs=3, bptt=beam.Row(steps=8))
    made_of_rows = made(Training, "training", row._asdict() | {"bptt": _named(steps=8)})
    assert made_of_rows == Training(epochs=3, bptt=Bptt(steps=8))
    columns = made(Columns, "columns", {**PLAIN, "vectors": _named(x=3)})
    assert columns.input_size == 4


def _named(**fields):
    """A row as a coder gives it."""
    coder = RowCoder(
        schema_from_element_type(
            RowTypeConstraint.from_fields([(name, type(value)) for name, value in fields.items()])
        )
    )
    return coder.decode(coder.encode(beam.Row(**fields)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            partial(made, Network, "network", {"hiden": 8}),
            "network has no 'hiden': it takes cell, hidden, layers",
        ),
        (
            partial(made, Network, "network", {"hidden": 0}),
            "network: hidden must be a whole number of at least 1, got 0",
        ),
        (partial(made, Network, "network", [8]), "network must be a mapping, got [8]"),
        (
            partial(made, Columns, "columns", {"key": "id", "inputs": 7}),
            "columns cannot be made of {'key': 'id', 'inputs': 7}",
        ),
        (
            partial(made, Columns, "columns", {"inputs": ["x"]}),
            "columns needs 'key', got {'inputs': ['x']}",
        ),
        (
            partial(made, Training, "training", {"bptt": {"steps": 0}}),
            "training.bptt: steps must be a whole number of at least 1, got 0",
        ),
        (
            partial(made, Training, "training", {"optimizer": {"learning_rate": 0.1}}),
            "training.optimizer.type must be one of adam, adamw, rmsprop, sgd, got None",
        ),
        (
            partial(
                made, Training, "training", {"optimizer": {"type": "adam", "learning_rate": "3e-3"}}
            ),
            "learning_rate must be a number, got the text '3e-3': YAML reads such a number as text",
        ),
        (
            partial(made, Training, "training", {"clip_norm": "3e-05"}),
            "write 0.00003",
        ),
        (
            partial(made, Network, "network", {"hidden": "32"}),
            "network.hidden must be a number, got the text '32': write 32, without quotes; in a t",
        ),
        (
            partial(made, Training, "training", {"bptt": 24}),
            "training.bptt must be a mapping, such as {steps: 24}, got 24",
        ),
        (
            partial(made, Training, "training", {"optimizer": "sgd"}),
            "training.optimizer must be a mapping, such as {type: sgd, learning_rate: 0.003}",
        ),
        (
            partial(
                made, Training, "training", {"optimizer": {"type": "adam", "learning_rate": "x"}}
            ),
            "learning_rate must be a mapping, such as {type: cosine, ...}, got 'x'",
        ),
        (
            partial(RnnTrain, "w.arrow", epochs=3),
            "RnnTrain has no 'epochs', which training has: it",
        ),
        (
            partial(RnnTrain, "w.arrow", steps=3),
            "has no 'steps', which training.bptt has: it takes",
        ),
        (partial(RnnTrain, "w.arrow", learning_rate=3), "which training.optimizer has"),
        (partial(RnnPredict, wait=3), "RnnPredict needs 'weights', got wait"),
        (
            partial(RnnPredict, "w.arrow", epochs=3),
            "RnnPredict has no 'epochs': it takes weights, ",
        ),
        (partial(RnnTrain, "w.arrow", network={"cell": "gnu"}), "cell must be one of"),
        (partial(RnnTrain, "w.arrow", length=8), "length: 8 is for records, which need columns"),
        (
            partial(RnnTrain, "w.arrow", columns=PLAIN, error_handling={"output": "good"}),
            "error_handling must be {output: NAME}",
        ),
        (
            partial(RnnSequences, PLAIN, error_handling={"to": "bad"}),
            "got {'to': 'bad'}",
        ),
        (partial(RnnSequences, PLAIN, error_handling="bad"), "must be a mapping, got 'bad'"),
        (partial(RnnPredict, "no.arrow"), "there is no weights file 'no.arrow'"),
        (partial(RnnAnomalies, "no.arrow"), "there is no weights file 'no.arrow'"),
        (partial(RnnPredictSequences, "no.arrow"), "there is no weights file 'no.arrow'"),
        (partial(RnnPredict, 7), "weights must be the path of a file, got 7"),
    ],
)
def test_invalid_arguments_are_refused_before_a_pipeline_is_built(make, message):
    with pytest.raises(ConfigurationError) as error:
        make()
    assert message in str(error.value)


# Training.


def test_training_in_one_step_and_in_two_gives_the_bits_of_python(tmp_path):
    network, training = {"cell": "gru", "hidden": 4}, {"epochs": 2, "batch_size": 2}
    plain = {"network": network, "training": training}
    cut = {"length": 6, "stride": 3, "fraction": 0.9}
    paths = [str(tmp_path / f"{name}.arrow") for name in ("python", "one", "two")]

    def build(p):
        records = p | beam.Create(RECORDS)
        rows = [Collect(), Collect()]
        _ = (
            records
            | Sequences(COLUMNS, **cut)
            | Train(Network("gru", hidden=4), Training(epochs=2, batch_size=2))
            | WriteModel(paths[0])
        )
        _ = records | "One" >> RnnTrain(paths[1], PLAIN, **plain, **cut) | "RowOne" >> rows[0]
        sequences = records | RnnSequences(PLAIN, **cut)
        _ = sequences | "Two" >> RnnTrain(paths[2], **plain) | "RowTwo" >> rows[1]
        return rows

    (one, two), _ = run(build)

    expected = weights_file.load(paths[0])
    curve = expected.training["loss_curve"]
    for path, rows in zip(paths[1:], (one, two), strict=True):
        assert weights_file.load(path) == expected
        assert rows.elements == [WrittenModel(path, expected.digest, 2, curve[-1], None)]


def test_a_model_for_each_key(tmp_path):
    path = str(tmp_path / "w.arrow")
    transform = RnnTrain(path, PLAIN, {"hidden": 2}, {"epochs": 1}, per_key=True, fallback=False)
    (row,) = collected(transform, RECORDS)

    models = weights_file.load(path)
    assert set(models.models) == {"a", "b"}
    assert row == WrittenModel(path, models.digest, None, None, None)


@pytest.mark.parametrize(
    "columns",
    [
        COLUMNS,
        Columns(key="id", time="t", inputs=["x", "y"], horizon=(1, 3), weight="y"),
        Columns(key="id", time="t", inputs=["x"], missing="carry"),
        Columns(key="id", time="t", symbols=["id"], targets=["x"]),
        Columns(key="id", time="t", symbols=["id"], targets=["x"], vocabularies={"id": "ab"}),
    ],
    ids=["plain", "weights", "missing", "symbols", "vocabulary"],
)
@pytest.mark.parametrize("parts_of", [None, 4])
def test_sequences_keep_their_bits_as_rows(columns, parts_of):
    records = [*RECORDS, NO_NUMBER] if columns.missing == "carry" else RECORDS
    sequences = collected(Sequences(columns, parts_of=parts_of), records)
    coder = registry.get_coder(SequenceRow)
    assert sequences
    for sequence in sequences:
        again = sequence_of(coder.decode(coder.encode(row_of(sequence))))
        for name, before in sequence._asdict().items():
            after = getattr(again, name)
            if isinstance(before, np.ndarray):
                assert after.dtype == before.dtype
                assert after.shape == before.shape
                assert after.tobytes() == before.tobytes()
            else:
                assert after == before


def test_rows_that_are_no_sequences_need_columns(tmp_path):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    rows = pipeline | beam.Create([beam.Row(id="a", x=1.0)])
    with pytest.raises(ConfigurationError, match=r"needs columns.* fields \['id', 'x'\]"):
        _ = rows | RnnTrain(str(tmp_path / "w.arrow"))


# Predictions.


def test_predictions_have_a_field_for_each_output(tmp_path):
    network = Network("gru", hidden=4, output="quantiles", horizons=2)
    columns = Columns(key="id", time="t", sequence="n", inputs=["x", "y"], horizon=(1, 3))
    random = np.random.default_rng(0)
    model = Model(network, network.initialize(2, 12, seed=0), columns)
    records = [{**r, "n": 7 + int(random.integers(9))} for r in RECORDS]
    rows = collected(RnnPredict(saved(model, tmp_path)), records)

    names = [
        f"{x}_{h}_q{q}_prediction" for h in (1, 3) for x in "xy" for q in ("0_1", "0_5", "0_9")
    ]
    assert sorted(tuple(row.as_dict().values()) for row in rows) == sorted(
        (p.key, time_text(p.time), p.sequence, *p.outputs, p.step, p.model, p.kernel)
        for p in oracle(model, records).predictions
    )
    about = [f"prediction_{name}" for name in ("step", "model", "kernel")]
    assert list(rows[0].as_dict()) == ["key", "time", "sequence", *names, *about]


@pytest.mark.parametrize("windowing", [None, FixedWindows(3600)])
def test_fields_of_the_record_are_kept_beside_its_prediction(windowing, tmp_path):
    rows = [beam.Row(**r, key=f"{r['id']}{r['t']}", site=r["t"] % 3) for r in RECORDS]
    weights = saved(random_model(), tmp_path)
    found = collected(RnnPredict(weights, keep=["site", "key"]), rows, windowing=windowing)
    expected = collected(RnnPredict(weights), rows)
    at = {time_text(r["t"] * 10**6): r["t"] for r in RECORDS}
    assert sorted(tuple(row.as_dict().items()) for row in found) == sorted(
        (
            *row.as_dict().items(),
            ("site", at[row.time] % 3),
            ("record_key", f"{row.key}{at[row.time]}"),
        )
        for row in expected
    )


def test_a_kept_field_is_null_if_records_cannot_be_distinguished(tmp_path):
    rows = [beam.Row(id="a", t=5, x=x, y=0.0, end=True, site=7) for x in (0.0, 1.0)]
    columns = Columns(key="id", time="t", inputs=["x", "y"], end="end")
    transform = RnnPredict(saved(random_model(columns=columns), tmp_path), keep=["site"])
    assert [row.site for row in collected(transform, rows)] == [None, None]


def test_an_unknown_field_in_keep_is_refused(tmp_path):
    weights = saved(random_model(), tmp_path)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    rows = pipeline | "Rows" >> beam.Create([beam.Row(**RECORDS[0])])
    with pytest.raises(ConfigurationError, match=r"no field 'site' \(keep names it\); it has id"):
        _ = rows | RnnPredict(weights, keep=["site"])
    dicts = pipeline | "Dicts" >> beam.Create(RECORDS)
    with pytest.raises(ConfigurationError, match=r"keep=\['site'\] needs rows with a schema"):
        _ = dicts | "OfDicts" >> RnnPredict(weights, keep=["site"])
    for bad in ("site", ["x", "x"], [7]):
        with pytest.raises(ConfigurationError, match="keep must be a list of different names"):
            RnnPredict(weights, keep=bad)


def test_a_model_for_each_key_predicts(tmp_path):
    models = keyed_models()
    rows = collected(RnnPredict(saved(models, tmp_path)), RECORDS)
    assert {row.prediction_model for row in rows} == set(models.digests.values())


def test_the_last_file_by_name_names_the_outputs(tmp_path):
    for i, target in enumerate(("x", "y")):
        columns = Columns(key="id", time="t", inputs=["x", "y"], targets=[target])
        weights_file.save(random_model(columns=columns, seed=i), tmp_path / f"w{i}.arrow")
    row = collected(RnnPredict(str(tmp_path / "w*.arrow")), RECORDS)[0]
    assert "y_prediction" in row.as_dict()


TYPES = {
    "int32": (np.int32, 3),
    "int64": (int, 3),
    "float": (np.float32, 0.5),
    "double": (float, 0.3),
    "nullable": (Optional[float], 0.3),
    "boolean": (bool, True),
}


@pytest.mark.parametrize("kind", TYPES)
def test_rows_of_every_numeric_type_are_read(kind, tmp_path):
    """As a coder of another language's rows gives them."""
    of_field, value = TYPES[kind]
    model = random_model()
    row_type = RowTypeConstraint.from_fields(
        [("id", str), ("t", Timestamp), ("x", of_field), ("y", np.int16)]
    )
    coder = RowCoder(schema_from_element_type(row_type))
    row = beam.Row(id="a", t=Timestamp(5), x=value, y=2)
    (found,) = collected(RnnPredict(saved(model, tmp_path)), [coder.decode(coder.encode(row))])

    record = {"id": "a", "t": 5, "x": float(np.float32(value)) if kind == "float" else value}
    (expected,) = oracle(model, [{**record, "y": 2}]).predictions
    assert (found.time, found.x_prediction) == ("1970-01-01T00:00:05Z", expected.outputs[0])


@pytest.mark.parametrize(
    "kind", ["predict", "anomalies", "whole", "generate", "sequences", "train"]
)
def test_invalid_records_stop_the_pipeline_or_are_an_output(kind, tmp_path):
    weights = saved(random_model(), tmp_path)
    if kind == "generate":
        weights = saved(singer("numbers"), tmp_path)
    transform = {
        "predict": partial(RnnPredict, weights),
        "anomalies": partial(RnnAnomalies, weights),
        "whole": partial(RnnPredictSequences, weights),
        "generate": partial(RnnGenerate, weights, length=2),
        "sequences": partial(RnnSequences, PLAIN),
        "train": partial(RnnTrain, str(tmp_path / "w.arrow"), PLAIN, training={"epochs": 1}),
    }[kind]
    records = [*RECORDS, NO_NUMBER]
    with pytest.raises(Exception, match=r"x is missing, got None in the record .*: correct it"):
        collected(transform(), records)

    outputs = collected(transform(error_handling={"output": "bad"}), records, "good", "bad")
    assert outputs["bad"] == [
        RefusedRecord(
            json.dumps(NO_NUMBER), "x is missing, got None", "", NO_NUMBER["id"], late=False
        )
    ]
    assert outputs["good"] == collected(transform(), RECORDS)


@pytest.mark.parametrize("dropped", [True, False])
def test_late_records_are_dropped_or_an_output(dropped, tmp_path):
    records = [{**RECORDS[0], "t": START + t} for t in (5, 3)]
    handling = None if dropped else {"output": "late"}
    transform = RnnPredict(saved(random_model(), tmp_path), error_handling=handling)

    def build(p):
        outputs = p | stream([records[0]], 6, [records[1]], 20) | transform
        outputs = {"good": outputs} if dropped else outputs
        collects = {name: Collect() for name in outputs}
        for name, collect in collects.items():
            _ = outputs[name] | f"Collect-{name}" >> collect
        return collects

    collects, _ = run(build, "bundle_based", "--streaming")

    assert [row.time for row in collects["good"].elements] == [time_text((START + 5) * 10**6)]
    if not dropped:
        at = time_text((START + 3) * 10**6)
        msg = f"late by 2 s: the hidden state of its key had passed {at}"
        assert collects["late"].elements == [RefusedRecord("[0.0, 0.0]", msg, "", "a", late=True)]


@pytest.mark.parametrize("kind", ["sequences", "train"])
def test_missing_values_are_dropped_where_the_columns_say_so(kind, tmp_path):
    columns = {**PLAIN, "missing": "drop"}
    transform = {
        "sequences": partial(RnnSequences, columns),
        "train": partial(RnnTrain, str(tmp_path / "w.arrow"), columns, training={"epochs": 1}),
    }[kind]
    missing = [NO_NUMBER, {**NO_NUMBER, "x": math.nan}, {**NO_NUMBER, "x": np.float32("nan")}]

    dropped = collected(transform(), [*RECORDS, *missing])
    assert dropped == collected(transform(), RECORDS)
    outputs = collected(transform(error_handling={"output": "bad"}), [*RECORDS, *missing], "bad")
    assert len(outputs["bad"]) == 3
    with pytest.raises(Exception, match=r"x must be a number, got 'None' in the record"):
        collected(transform(), [*RECORDS, {**NO_NUMBER, "x": "None"}])


def test_text_in_a_column_of_numbers_has_a_remedy(tmp_path, caplog):
    transform = RnnPredict(saved(random_model(), tmp_path), error_handling={"output": "bad"})
    bad = [{**RECORDS[0], "x": x} for x in ("59.36", "1,5", "broken")]
    rows = collected(transform, bad, "bad")["bad"]

    remedy = ": the column was read as text: see docs/yaml.md"
    assert {row.msg for row in rows} == {
        f"x must be a number, got '59.36'{remedy}",
        f"x must be a number, got '1,5'{remedy}",
        "x must be a number, got 'broken'",
    }
    (line,) = (message for message in caplog.messages if message.startswith("refused"))
    assert line.startswith("refused, the first of its bundle: x must be a number, got '59.36'")


def test_an_element_without_a_time_has_a_remedy(tmp_path):
    model = random_model(columns=Columns(key="id", inputs=["x", "y"], targets=["x"]))
    with pytest.raises(Exception, match="name the field of the time in columns, or put Assign"):
        elements(RnnPredict(saved(model, tmp_path)), RECORDS[:1])


@pytest.mark.parametrize("handling", [None, {"output": "bad"}])
@pytest.mark.parametrize("name", ["id", "t", "y", "x"])
def test_a_missing_field_is_an_error_before_the_pipeline_runs(name, handling, tmp_path):
    columns = Columns(key="id", time="t", inputs=["y"], targets=["x"])
    weights = saved(random_model(columns=columns), tmp_path)
    pipeline = beam.Pipeline(runner="FnApiRunner")
    there = [(each, float) for each in ("id", "t", "x", "y", "other") if each != name]
    kind = RowTypeConstraint.from_fields(there)
    rows = pipeline | beam.Create([]) | beam.Map(lambda row: row).with_output_types(kind)

    for why, transform in {
        f"{weights} reads it": RnnPredict(weights, error_handling=handling),
        f"{weights} reads it ": RnnPredictSequences(weights, error_handling=handling),
        f"{weights} reads it  ": RnnAnomalies(weights, error_handling=handling),
        "columns name it": RnnTrain("w.arrow", PLAIN, error_handling=handling),
        "columns name it ": RnnSequences(PLAIN, error_handling=handling),
    }.items():
        called = type(transform).__name__
        if name == "x" and called.startswith("RnnPredict"):  # which does without targets
            _ = rows | transform
            continue
        with pytest.raises(ConfigurationError) as error:
            _ = rows | transform
        assert str(error.value) == (
            f"the input of {called} has no field {name!r} ({why.strip()}); it has "
            f"{', '.join(each for each, _ in there)}"
        )


def test_sessions_are_for_whole_sequences(tmp_path):
    weights = saved(random_model(), tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"across Sessions\(gap_size=300 s\): .*RnnPredictS"
    ):
        collected(RnnPredict(weights), RECORDS, windowing=Sessions(300))

    rows = collected(RnnPredictSequences(weights), RECORDS, windowing=Sessions(300))
    expected = predict(PredictSequences(weights), RECORDS).predictions
    assert sorted(tuple(row.as_dict().values()) for row in rows) == sorted(
        (p.key, time_text(p.time), *p.outputs, p.step, p.model, p.kernel) for p in expected
    )


def test_a_newer_model_with_other_outputs_is_an_error():
    (said, *_) = oracle(random_model(), RECORDS).predictions
    with pytest.raises(Exception, match=r"has 1 outputs, .*\['x_prediction', 'y_.*build it again"):
        prediction_row(said, list(prediction_columns(["x", "y"])), has_sequence=False)


def test_anomalies_and_generated_sequences_are_those_of_python(tmp_path):
    weights = saved(random_model(), tmp_path)
    rows = collected(RnnAnomalies(weights, surprise={"memory": 10}), RECORDS)
    scores = predict(ScoreAnomalies(weights, surprise=Surprise(memory=10)), RECORDS).scores
    assert sorted(map(repr, rows)) == sorted(
        repr(
            beam.Row(
                key=s.key,
                time=time_text(s.time),
                x_value=s.values[0],
                x_expected=s.predictions[0] if s.predictions else None,
                anomaly_step=s.step,
                anomaly_score=s.score,
                anomaly_probability=s.probability,
                anomaly_model=s.model,
                anomaly_kernel=s.kernel,
            )
        )
        for s in scores
    )

    weights = saved(singer("letters"), tmp_path)
    records = [{"id": "a", "t": t, "c": "abc"[t]} for t in range(3)]
    rows = collected(RnnGenerate(weights, 5, samples=2, seed=3), records)
    generated = predict(Generate(weights, 5, samples=2, seed=3), records).generated
    assert sorted(rows) == sorted(
        GeneratedRow(
            g.key,
            g.sample,
            time_text(g.time),
            g.values,
            g.symbols,
            g.log_probability,
            g.reason,
            g.model,
        )
        for g in generated
    )
    assert len(rows) == 2


# Schemas.


BOTH = Network("gru", hidden=4, bidirectional=True)
GIVING_ROWS = {
    "Predict": lambda path: Predict(saved(random_model(), path)),
    "PredictAndLearn": lambda path: PredictAndLearn(saved(random_model(), path), LEARNING),
    "ScoreAnomalies": lambda path: ScoreAnomalies(saved(random_model(), path)),
    "Smooth": lambda path: Smooth(saved(random_model(BOTH), path), lag=2),
    "PredictSequences": lambda path: PredictSequences(saved(random_model(BOTH), path)),
    "Generate": lambda path: Generate(saved(singer("letters"), path), length=5),
    "Transduce": lambda path: Transduce(saved(translator("attention"), path)),
    "LossCurve": lambda _: LossCurve(),
    "RnnPredict": lambda path: RnnPredict(
        saved(random_model(), path), error_handling={"output": "bad"}
    ),
    "RnnAnomalies": lambda path: RnnAnomalies(
        saved(random_model(), path), error_handling={"output": "bad"}
    ),
    "RnnPredictSequences": lambda path: RnnPredictSequences(
        saved(random_model(BOTH), path), error_handling={"output": "bad"}
    ),
    "RnnGenerate": lambda path: RnnGenerate(
        saved(singer("letters"), path), 5, error_handling={"output": "bad"}
    ),
    "RnnSequences": lambda _: RnnSequences(PLAIN, error_handling={"output": "bad"}),
    "RnnTrain": lambda path: RnnTrain(
        str(path / "w.arrow"), PLAIN, error_handling={"output": "bad"}
    ),
}


@pytest.mark.parametrize("name", GIVING_ROWS)
def test_every_output_has_a_schema_that_all_languages_read(name, tmp_path):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    outputs = pipeline | beam.Create([]) | GIVING_ROWS[name](tmp_path)
    if isinstance(outputs, beam.PCollection):
        outputs = {"only": outputs}
    outputs = outputs if isinstance(outputs, dict) else outputs._asdict()
    assert outputs
    outputs.pop("models", None)  # of PredictAndLearn: those of Python
    for output, pcoll in outputs.items():
        coder = registry.get_coder(pcoll.element_type)
        assert isinstance(coder, RowCoder), output
        assert "pythonsdk_any" not in str(coder.schema), output
        assert coder.schema.fields


def test_windows_are_separate(tmp_path):
    rows = collected(
        RnnPredict(saved(random_model(), tmp_path)), RECORDS, windowing=FixedWindows(10)
    )
    assert sorted(row.prediction_step for row in rows) == sorted([*range(1, 21)] * 2)


def test_the_docs_show_the_shipped_program():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "other-languages.md").read_text()
    program = (root / "pipelines" / "java" / "src" / "main" / "java" / "Predict.java").read_text()
    (shown,) = re.findall(r"^```java\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown in program
