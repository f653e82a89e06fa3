"""`ScoreAnomalies`: the same bits for all orders of arrival, no look-ahead, ends, stored bytes."""

import math
import random
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.transforms.window import Sessions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_rnn import AnomalyScore, Bptt, Columns, Model, Network, ScoreAnomalies
from beam_rnn.engine.steppers.score import Scorer
from beam_rnn.errors import ConfigurationError, StateError
from beam_rnn.models.error_tail import NO_ERRORS, Tail, observed, tail_probability
from beam_rnn.models.error_tail_format import Scored, decode_scored, encode_scored
from beam_rnn.models.state_format import last_step
from beam_rnn.online import Learning, Surprise, Untrained
from beam_rnn.optim import Adam
from beam_rnn.records.record_format import decode_record
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.training.online.prequential import Prequential
from tests.helpers.engines import ENGINES as BATCH_ENGINES
from tests.helpers.engines import predict
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.helpers.oracle import expected as predicted
from tests.helpers.streams import ENGINES, START, predict_stream
from tests.transforms.test_predict import row

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden" / "scored-v83.hex"
TWO = Columns(key="id", time="t", inputs=["x", "y"])
SURPRISE = Surprise(memory=20, peaks=0.1)
LEARNING = Learning(Bptt(steps=3, stride=2), optimizer=Adam(0.05))
BASE = Untrained(Network("gru", hidden=3, residual=True), COLUMNS, seed=4)


def scores(forecasts, values, surprise=SURPRISE):
    """(predictions, probability) of each record, by the functions of `tails` in a plain loop.

    Args:
        forecasts: What was said at each record of the next one, a number a target.
        values: Of each record.
        surprise: How errors are judged.
    """
    tails, said, found = [NO_ERRORS] * len(values[0]), [], []
    for forecast, truth in zip(forecasts, values, strict=True):
        probability = 1.0
        if said:
            errors = [value - one for value, one in zip(truth, said, strict=True)]
            each = list(zip(tails, errors, strict=True))
            probability = min(1.0, len(each) * min(tail_probability(*pair) for pair in each))
            tails = [observed(tail, error, surprise) for tail, error in each]
        found.append((said, probability))
        said = list(forecast)
    return found


def expected(model, records):
    """{key: [(time, predictions, probability)]} of `Predict`'s own model."""
    found = {}
    for key, steps in predicted(model, records)[0].items():
        values = values_of(records, model.columns, key)
        judged = scores([outputs for _, outputs in steps], values)
        found[key] = [(time, *pair) for (time, _), pair in zip(steps, judged, strict=True)]
    return found


def values_of(records, columns, key):
    """The targets of a key's records, in order."""
    reader = RecordReader(columns, targets=True)
    data = sorted({reader.read(record).data for record in records if record["id"] == key})
    n = columns.target_size
    return [decode_record(each).numbers[-n:].tolist() for each in data]


def streamed(rows):
    """The same of rows that came out."""
    found = {}
    for each in sorted(rows, key=lambda each: (each.time, each.step)):
        assert each.score == 1 - each.probability
        part = (each.time, list(each.predictions), each.probability)
        found.setdefault(each.key, []).append(part)
    return found


@pytest.mark.parametrize("engine", BATCH_ENGINES)
@pytest.mark.parametrize("columns", [COLUMNS, TWO], ids=["one target", "two targets"])
def test_shuffled_records_are_scored_in_order(engine, columns, tmp_path):
    model = random_model(columns=columns)
    records = [row(t, key) for t in range(30) for key in ("a", "b", "never seen")]
    shuffled = random.Random(0).sample(records, len(records))

    outputs = predict(ScoreAnomalies(saved(model, tmp_path), None, SURPRISE), shuffled, engine)

    assert streamed(outputs.scores) == expected(model, records)
    assert {type(each) for each in outputs.scores} == {AnomalyScore}
    assert {each.model for each in outputs.scores} == {model.digest}
    assert {each.reason for each in outputs.ended} == {"window"}
    assert {each.probability for each in outputs.scores} > {1.0}


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 25), st.integers(-2, 2)),
        min_size=1,
        max_size=40,
    ),
    cuts=st.sets(st.integers(1, 39), max_size=5),
    chance=st.randoms(use_true_random=False),
    learns=st.booleans(),
)
def test_the_same_records_give_the_same_bits_however_they_arrive(
    rows, cuts, chance, learns, tmp_path_factory
):
    """Late by up to the wait, in bundles of any size, with duplicates and ties."""
    records = [row(t, key, x=x / 3) for key, t, x in rows]
    arrivals = [(r["t"] - START + chance.choice([0, 0, 3, 7]), r) for r in records]
    arrivals.sort(key=lambda pair: pair[0])
    events, bundle = [], []
    for clock, record in arrivals:
        if bundle and any(bundle[-1]["at"] - START < cut <= clock for cut in cuts):
            events += [bundle, clock]
            bundle = []
        bundle.append(record | {"at": START + clock})
    events.append(bundle)
    model = random_model()
    base = BASE if learns else saved(model, tmp_path_factory.mktemp("weights"))
    transform = ScoreAnomalies(base, LEARNING if learns else None, SURPRISE, wait=8)

    outputs = predict_stream(transform, *events, time="at")

    assert not outputs.late
    wanted = learned_scores(records) if learns else expected(model, records)
    assert streamed(outputs.scores) == wanted


def learned_scores(records):
    """As `expected`, of what learns in the stream."""
    prequential, found = Prequential(BASE.model(), LEARNING), {}
    reader = RecordReader(COLUMNS, targets=True)
    for key in sorted({record["id"] for record in records}):
        data = sorted({reader.read(record).data for record in records if record["id"] == key})
        state, said = prequential.begin(), []
        for each in map(decode_record, data):
            state = prequential.take(state, key, each.numbers)
            said.append(state.outputs.tolist())
        judged = scores(said, values_of(records, COLUMNS, key))
        times = [decode_record(each).time for each in data]
        found[key] = [(time, *pair) for time, pair in zip(times, judged, strict=True)]
    return found


@pytest.mark.parametrize("learns", [False, True], ids=["weights", "learning"])
def test_a_score_does_not_depend_on_later_records(learns, tmp_path):
    base = BASE if learns else saved(random_model(), tmp_path)
    transform = ScoreAnomalies(base, LEARNING if learns else None)
    records = [row(t) for t in range(40)]
    others = [*records[:25], *(row(t, x=1e3) for t in range(25, 40))]

    one, other = (
        sorted(predict(transform, each).scores, key=lambda each: each.step)
        for each in (records, others)
    )

    assert one[:25] == other[:25]
    assert one[25].predictions == other[25].predictions
    assert one[25].probability > 100 * other[25].probability


def test_each_key_has_its_own_model(tmp_path):
    models = keyed_models("ab")
    records = [row(t, key) for t in range(12) for key in "abc"]

    outputs = predict(ScoreAnomalies(saved(models, tmp_path), None, SURPRISE), records)

    for key in "abc":
        model = models.of(key)
        of_key = [record for record in records if record["id"] == key]
        assert streamed(outputs.scores)[key] == expected(model, of_key)[key]


@pytest.mark.parametrize(
    ("network", "at"), [({"output": "gaussian"}, 0), ({"output": "quantiles"}, 1)], ids=str
)
def test_the_prediction_of_a_distribution_is_its_center(network, at, tmp_path):
    model = random_model(Network("gru", hidden=4, **network))
    records = [row(t) for t in range(9)]

    outputs = predict(ScoreAnomalies(saved(model, tmp_path)), records)

    said = [outputs[at] for _, outputs in predicted(model, records)[0]["a"]]
    rows = sorted(outputs.scores, key=lambda each: each.step)
    assert [list(each.predictions) for each in rows] == [[], *([one] for one in said[:-1])]


def stepper(base=BASE, surprise=SURPRISE, **settings):
    return ScoreAnomalies(base, LEARNING, surprise, **settings)._source.stepper()


def encoded(records, columns=COLUMNS):
    reader = RecordReader(columns, targets=True)
    return [reader.read(record).data for record in records]


@pytest.mark.parametrize("cut", [1, 2, 17, 39])
@pytest.mark.parametrize("learns", [False, True], ids=["weights", "learning"])
def test_a_restart_between_any_two_records_has_no_effect(cut, learns, tmp_path):
    base = BASE if learns else saved(random_model(), tmp_path)
    source = ScoreAnomalies(base, LEARNING if learns else None, SURPRISE)._source
    records = encoded([row(t) for t in range(40)])

    whole, results = source.stepper().step("a", None, records)
    state, before = source.stepper().step("a", None, records[:cut])
    state, after = source.stepper().step("a", bytes(state), records[cut:])

    assert state == whole
    assert [step.result for step in before + after] == [step.result for step in results]
    assert last_step(state) == ((START + 39) * 1_000_000, 0)


def test_the_state_does_not_grow():
    state, sizes = None, []
    for record in encoded([row(t) for t in range(60)]):
        state, _ = stepper().step("a", state, [record])
        sizes.append(len(state))

    assert max(sizes[10:]) <= max(sizes[:10])


def test_stored_bytes_stay_readable():
    """What a running job knows of errors: a change here loses it."""
    tails = (Tail(9.5, 3.25, 0.5, 2.0, 1.5, 1.75, -0.25), NO_ERRORS)
    scored = Scored(b"\x01 what predicts", (0.5, -2.0), tails)
    data = bytes.fromhex(GOLDEN.read_text())

    assert encode_scored(scored) == data
    assert decode_scored(data, targets=2) == scored


def test_unusable_state_is_refused():
    state, _ = stepper().step("a", None, encoded([row(0)]))

    with pytest.raises(StateError, match="has format version 82, this beam_rnn reads 83"):
        decode_scored(b"\x82" + state[1:], 1)
    with pytest.raises(StateError, match="with 8 numbers of errors, 2 targets have 16"):
        decode_scored(state, 2)
    with pytest.raises(StateError, match="has 9 bytes with 0 numbers"):
        decode_scored(state[:9], 1)


def test_a_sequence_has_no_prediction_before_its_first_record_and_idleness_forgets_errors():
    columns = replace(COLUMNS, start="first", end="last")
    base = replace(BASE, columns=columns)
    records = [row(t, first=t == 10, last=t == 19) for t in range(30)]
    records += [row(t + 100, first=False, last=False) for t in range(10)]

    outputs = predict(ScoreAnomalies(base, LEARNING, SURPRISE, idle_after=50), records)

    rows = sorted(outputs.scores, key=lambda each: each.time)
    assert [i for i, each in enumerate(rows) if not each.predictions] == [0, 10, 20, 30]
    assert all(each.score == 0 for each in rows if not each.predictions)
    known = [each.probability for each in rows if each.step == 2]
    # After the first error of a key nothing is known yet; after a mark what was known stays.
    assert [probability == 1 for probability in known] == [True, False, False, True]
    assert sorted(each.reason for each in outputs.ended) == ["end", "idle", "idle", "start"]


def test_invalid_records_are_dead_letters_and_do_not_affect_the_scores(tmp_path):
    model = random_model()
    good = [row(t) for t in range(20)]
    bad = [row(3.5, x=math.nan), row(4.5, x=None), row(5.5, x=1e300), {"id": "a"}]

    outputs = predict(ScoreAnomalies(saved(model, tmp_path), None, SURPRISE), [*good, *bad])

    assert streamed(outputs.scores) == expected(model, good)
    assert sorted(letter.reason for letter in outputs.invalid) == [
        "the record has no field 't'",
        "the step overflowed; the state before it was kept",
        "x is missing",
        "x must be finite",
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_in_a_live_stream_a_late_record_is_not_scored(engine):
    events = [row(t) | {"at": START + t} for t in (2, 0, 1)], 3, [row(1) | {"at": START + 3}], 9

    outputs = predict_stream(ScoreAnomalies(BASE, LEARNING), *events, engine=engine)

    assert sorted(each.step for each in outputs.scores) == [1, 2, 3]
    assert len(outputs.late) == 1


def test_only_online_learning_requires_a_weight(tmp_path):
    columns = replace(COLUMNS, weight="w")
    records = [row(t) for t in range(5)]

    outputs = predict(ScoreAnomalies(saved(random_model(columns=columns), tmp_path)), records)
    learned = predict(ScoreAnomalies(replace(BASE, columns=columns)), records)

    assert len(outputs.scores) == len(learned.invalid) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScoreAnomalies(7), "base must be the path of a file, got 7"),
        (lambda: ScoreAnomalies(BASE, "fast"), "learning must be a Learning, got 'fast'"),
        (lambda: ScoreAnomalies(BASE, None, 0.9), "surprise must be a Surprise, got 0.9"),
        (lambda: ScoreAnomalies(BASE, order="time"), "order must be one of"),
        (lambda: ScoreAnomalies(BASE, kernel="gpu"), "kernel must be one of"),
        (
            lambda: ScoreAnomalies(replace(BASE, network=Network("gru", output="sigmoid"))),
            "needs forecasts of numbers, .* output='sigmoid'",
        ),
        (
            lambda: ScoreAnomalies(replace(BASE, columns=replace(COLUMNS, horizon=(2, 3)))),
            r"needs a forecast of the next record, horizon=1; got horizon=\(2, 3\)",
        ),
    ],
)
def test_invalid_arguments_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_values_that_may_be_missing_are_refused():
    columns = replace(COLUMNS, missing="carry")
    network = Network("gru", hidden=3)
    model = Model(network, network.initialize(columns.input_size, 1, seed=0), columns)

    with pytest.raises(ConfigurationError, match="what is scored needs every value"):
        Scorer(model, SURPRISE)


def test_one_of_several_horizons_is_enough(tmp_path):
    columns = replace(COLUMNS, horizon=(1, 4))
    network = Network("gru", hidden=3, horizons=2)
    model = Model(network, network.initialize(inputs=2, outputs=2, seed=0), columns)
    records = [row(t) for t in range(6)]

    outputs = predict(ScoreAnomalies(saved(model, tmp_path)), records)

    said = [outputs[:1] for _, outputs in predicted(model, records)[0]["a"]]
    rows = sorted(outputs.scores, key=lambda each: each.step)
    assert [list(each.predictions) for each in rows] == [[], *said[:-1]]


def test_windows_that_merge_are_refused():
    pipeline = beam.Pipeline()
    records = pipeline | beam.Create([{}]) | beam.WindowInto(Sessions(10))
    with pytest.raises(ConfigurationError, match="ScoreAnomalies cannot carry a state across"):
        _ = records | ScoreAnomalies(BASE)
