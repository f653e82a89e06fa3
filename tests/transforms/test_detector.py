"""`ForecastDetector` in Beam's anomaly API: the scores of `ScoreAnomalies`, for rows in order."""

import csv
import math
import pickle
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.coders import CloudpickleCoder
from apache_beam.metrics import MetricsFilter
from apache_beam.ml.anomaly.aggregations import AnyVote, MaxScore
from apache_beam.ml.anomaly.base import EnsembleAnomalyDetector
from apache_beam.ml.anomaly.detectors.zscore import ZScore
from apache_beam.ml.anomaly.specifiable import Specifiable
from apache_beam.ml.anomaly.thresholds import FixedThreshold, QuantileThreshold
from apache_beam.ml.anomaly.transforms import AnomalyDetection

from beam_rnn import Columns, ForecastDetector, Model, Network, ScoreAnomalies
from beam_rnn.data.scaling import Scaler
from beam_rnn.errors import ConfigurationError, StateError, WeightsError
from tests.helpers.engines import Collect, predict, run
from tests.helpers.models import COLUMNS, keyed_models, random_model, saved
from tests.transforms.test_predict import row

NAB = Path(__file__).parents[2] / "pipelines" / "data" / "nab"
NAMED = Columns(key="filename", time="timestamp", inputs=["value"])
ROWS = 90
BY_FILE = {
    path.name: [
        beam.Row(filename=path.name, timestamp=line["timestamp"], value=float(line["value"]))
        for line, _ in zip(csv.DictReader(path.open()), range(ROWS), strict=False)
    ]
    for path in sorted(NAB.glob("*.csv"))
}


@pytest.fixture
def of_nab(tmp_path):
    """A weights file for the series of pipelines/anomaly.py."""
    network = Network("gru", hidden=8, residual=True)
    values = {name: np.array([[row.value] for row in rows]) for name, rows in BY_FILE.items()}
    scaler = Scaler.fit({name: (each, each) for name, each in values.items()}, NAMED)
    return saved(Model(network, network.initialize(1, 1, seed=0), NAMED, scaler), tmp_path)


def detected(detector, pairs, engine="fnapi"):
    """The results for pairs of a key and a row, and those of the pipeline."""
    collect = Collect()
    _, result = run(
        lambda p: (
            p
            | beam.Create(pairs, reshuffle=False).with_output_types(tuple[str, beam.Row])
            | AnomalyDetection(detector)
            | collect
        ),
        engine,
    )
    return collect.elements, result


def by_itself(detector, rows):
    """The score of each row, without a pipeline; pickled after each, as Beam does."""
    scores, coder = [], CloudpickleCoder()
    for each in rows:
        scores.append(detector.score_one(each))
        detector.learn_one(each)
        detector = coder.decode(coder.encode(detector))
    return scores


def wanted(weights, rows, **settings):
    """{(key, time in microseconds): score} of `ScoreAnomalies`; NaN where nothing had been said."""
    scores = predict(ScoreAnomalies(weights, **settings), rows).scores
    return {(s.key, s.time): s.score if s.predictions else math.nan for s in scores}


def beside(scores):
    """Scores that can be compared, NaN too."""
    return [repr(score) for score in scores]


def rows_of(records):
    return [beam.Row(**record) for record in records]


@pytest.mark.parametrize("engine", ["fnapi", "embed"])  # these keep the order of rows
def test_scores_are_those_of_score_anomalies(engine, of_nab):
    pairs = [pair for rows in zip(*BY_FILE.values(), strict=True) for pair in rows]
    pairs = [(each.filename, each) for each in pairs]

    found, _ = detected(ForecastDetector(of_nab), pairs, engine)

    scores = wanted(of_nab, [each for _, each in pairs])
    assert len(scores) == len(found) == 8 * ROWS
    for name in BY_FILE:
        in_order = [score for (key, _), score in sorted(scores.items()) if key == name]
        of_name = [result for key, result in found if key == name]
        of_name.sort(key=lambda result: result.example.timestamp)
        assert beside(r.predictions[0].score for r in of_name) == beside(in_order)
    assert any(score > 0.95 for score in scores.values())


def test_thresholds_aggregations_and_ensembles_work_on_top(of_nab):
    name = "nyc_taxi.csv"
    pairs = [(name, each) for each in BY_FILE[name]]
    ours = ForecastDetector(of_nab, threshold_criterion=FixedThreshold(0.9), model_id="rnn")
    other = ZScore(features=["value"], threshold_criterion=QuantileThreshold(0.95))

    alone, _ = detected(ours, pairs)
    voted, _ = detected(EnsembleAnomalyDetector([ours, other], AnyVote()), pairs)
    largest, _ = detected(
        EnsembleAnomalyDetector(
            [ForecastDetector(of_nab), ForecastDetector(of_nab, memory=50)],
            MaxScore(),
            threshold_criterion=QuantileThreshold(0.9),
        ),
        pairs,
    )

    labels = [r.predictions[0].label for _, r in alone]
    scores = [r.predictions[0].score for _, r in alone]
    assert labels == [-2, *(int(score >= 0.9) for score in scores[1:])]
    assert set(labels) == {-2, 0, 1}
    assert {r.predictions[0].model_id for _, r in alone} == {"rnn"}
    by_time = {r.example.timestamp: r.predictions[0].label for _, r in voted}
    assert all(by_time[r.example.timestamp] == 1 for _, r in alone if r.predictions[0].label == 1)
    each = [
        by_itself(ForecastDetector(of_nab, **how), BY_FILE[name]) for how in ({}, {"memory": 50})
    ]
    found = {r.example.timestamp: r.predictions[0].score for _, r in largest}
    for at, one, two in zip(BY_FILE[name][1:], *(scores[1:] for scores in each), strict=True):
        assert found[at.timestamp] == max(one, two)
    assert {r.predictions[0].label for _, r in largest} == {-2, 0, 1}


def test_a_model_a_key_ends_of_sequences_and_several_targets(tmp_path):
    columns = Columns(key="id", time="t", inputs=["x", "y"], start="first")
    models = keyed_models("ab", columns=columns)
    weights = saved(models, tmp_path)
    for key in "abc":
        records = [row(t, key, first=t == 10) for t in range(30)]
        records += [row(t + 100, key, first=False) for t in range(30)]
        settings = {"idle_after": 50}

        scores = by_itself(ForecastDetector(weights, **settings), rows_of(records))

        in_order = sorted(wanted(weights, records, **settings).items())
        assert beside(scores) == beside(score for _, score in in_order)
        assert [i for i, score in enumerate(scores) if math.isnan(score)] == [0, 10, 30]


def test_the_state_is_small_and_holds_no_weights(tmp_path):
    model = random_model(Network("gru", hidden=64))
    detector = ForecastDetector(saved(model, tmp_path))
    sizes = []
    for each in rows_of([row(t) for t in range(20)]):
        detector.score_one(each)
        detector.learn_one(each)
        sizes.append(len(CloudpickleCoder().encode(detector)))

    assert max(sizes) < 4 * model.state_size + 1000 < model.nbytes / 10


def test_a_spec_makes_the_same_detector(tmp_path):
    weights = saved(random_model(), tmp_path)
    threshold = FixedThreshold(0.5)
    detector = ForecastDetector(
        weights, 20, 0.1, idle_after=60, kernel="numpy", threshold_criterion=threshold
    )
    rows = rows_of([row(t) for t in range(40)])

    spec = pickle.loads(pickle.dumps(detector.to_spec()))  # noqa: S301
    again = Specifiable.from_spec(spec)

    assert spec.type == "ForecastDetector"
    assert again.to_spec() == detector.to_spec()
    assert again._threshold_criterion.threshold == 0.5
    assert beside(by_itself(again, rows)) == beside(by_itself(detector, rows))


def test_scoring_has_no_side_effect_and_learning_needs_no_score(tmp_path):
    weights = saved(random_model(), tmp_path)
    rows = rows_of([row(t) for t in range(20)])
    scores = by_itself(ForecastDetector(weights), rows)
    detector = ForecastDetector(weights)
    for each in rows[:-1]:
        detector.learn_one(each)

    detector.score_one(rows[3])
    assert detector.score_one(rows[-1]) == detector.score_one(rows[-1]) == scores[-1]


def test_an_invalid_row_has_no_score_and_does_not_affect_the_others(tmp_path, caplog):
    weights = saved(random_model(), tmp_path)
    good = [row(t) for t in range(12)]
    mixed = [*good[:5], row(4.5, x=None), row(4.6, y=1e300), {"id": "a"}, *good[5:]]

    found, result = detected(
        ForecastDetector(weights, threshold_criterion=FixedThreshold(0.9)),
        [("a", each) for each in rows_of(mixed)],
    )

    scores = [r.predictions[0].score for _, r in found]
    assert scores[5:8] == [None] * 3
    assert [r.predictions[0].label for _, r in found][5:8] == [None] * 3
    assert beside([*scores[:5], *scores[8:]]) == beside(
        score for _, score in sorted(wanted(weights, good).items())
    )
    for reason in ("x is missing, got None", "overflowed", "has no field 't'"):
        assert reason in caplog.text
    counts = result.metrics().query(MetricsFilter().with_name("records_invalid"))["counters"]
    assert sum(count.committed for count in counts) == 3


def test_rows_out_of_order_are_counted(tmp_path):
    rows = [("a", each) for each in rows_of([row(t) for t in (0, 2, 1, 1, 3)])]

    found, result = detected(ForecastDetector(saved(random_model(), tmp_path)), rows)

    assert len(found) == 5
    (count,) = result.metrics().query(MetricsFilter().with_name("records_out_of_order"))["counters"]
    assert count.committed == 2


def test_rows_of_two_keys_in_one_state_are_refused(tmp_path):
    detector = ForecastDetector(saved(random_model(), tmp_path))

    with pytest.raises(ConfigurationError, match="rows of 'a' and of 'b': give AnomalyDetection"):
        by_itself(detector, rows_of([row(0), row(1, "b")]))


def test_another_model_at_the_path_of_a_state_is_refused(tmp_path):
    from beam_rnn.transforms import anomaly_detector as module

    detector = ForecastDetector(saved(random_model(), tmp_path))
    first, second = rows_of([row(0), row(1)])
    detector.learn_one(first)
    saved(random_model(seed=1), tmp_path)
    module._on_this_worker.cache_clear()  # as in another process

    with pytest.raises(StateError, match="was made by the model"):
        detector.score_one(second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ForecastDetector(7), "weights must be the path of a file, got 7"),
        (lambda: ForecastDetector("w", memory=0), "memory must be in"),
        (lambda: ForecastDetector("w", peaks=1), "peaks must be in"),
        (lambda: ForecastDetector("w", kernel="gpu"), "kernel must be one of"),
        (lambda: ForecastDetector("w", idle_after=-1), "idle_after, in seconds, must be in"),
        (lambda: ForecastDetector("w", features=["x"]), r"features=\['x'\] is not for Forecast"),
        (lambda: ForecastDetector("w", target="x"), "target='x' is not for ForecastDetector"),
    ],
)
def test_arguments_that_cannot_work_are_refused_where_they_are_given(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_files_that_cannot_be_used_are_refused(tmp_path):
    untimed = replace(random_model(), columns=replace(COLUMNS, time=None))
    far = replace(random_model(), columns=replace(COLUMNS, horizon=2))
    each = beam.Row(**row(0))
    for folder, model in (("untimed", untimed), ("far", far)):
        (tmp_path / folder).mkdir()
        saved(model, tmp_path / folder)

    with pytest.raises(FileNotFoundError, match="no weights file 'nowhere"):
        ForecastDetector("nowhere.arrow").score_one(each)
    weights = str(tmp_path / "untimed" / "weights.arrow")
    assert math.isnan(ForecastDetector(weights).score_one(each))
    with pytest.raises(WeightsError, match=r"idle_after=9000000 and .* need a time column"):
        ForecastDetector(weights, idle_after=9).score_one(each)
    with pytest.raises(ConfigurationError, match="needs a forecast of the next record"):
        ForecastDetector(str(tmp_path / "far" / "weights.arrow")).score_one(each)
