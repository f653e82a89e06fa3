"""The training report for every kind of network."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest

from beam_rnn import Columns, Network, Training
from beam_rnn.models.model import Model
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.output_functions import LEAST_DEVIATION
from beam_rnn.optim import Adam
from beam_rnn.report import report
from beam_rnn.report.charts.axes import DAY, log_axis, number_axis, time_axis, utc, whole_axis
from beam_rnn.report.charts.marks import POINTS, Bars, Line, Trace, thinned
from beam_rnn.report.charts.svg import Chart, svg
from beam_rnn.report.evaluation import RECENT, excerpt, score
from beam_rnn.report.scores import FEW, WORST, Score, spread_of, summarize
from beam_rnn.report.sections.record_counts import Counts
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.settings import Rounds
from tests.helpers.models import random_model
from tests.helpers.sequences import wave

COLUMNS = Columns(key="id", time="t", inputs=["x"])
ONE_EPOCH = Training(epochs=1, bptt=Bptt(steps=8), optimizer=Adam(1e-2))
VOID = {"meta", "br", "hr", "img", "link", "input"}
HOSTILE = "</td><script>alert('1')</script>\" onload=\"x\u202e\0&amp;"


class Page(HTMLParser):
    """The elements of a page; complains of one that is closed where another is open."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts, self.tables = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def facts(self):
        (table,) = (table for table in self.tables if table[0][0] == "network")
        return dict(table)

    def rows(self, head):
        """The rows of the table under a head, by the first word of each."""
        (table,) = (table for table in self.tables if table[0][0] == head)
        return {row[0].split()[0]: row[1:] for row in table[1:]}


def first_part(sequence, steps):
    """What training sees of a whole sequence: no target lies beyond."""
    furthest = sequence.columns.horizons[-1]
    return sequence._replace(
        times=sequence.times[:steps],
        inputs=sequence.inputs[:steps],
        targets=sequence.targets[:steps],
        until=int(sequence.times[steps - 1 + furthest]),
    )


def series(keys="abc", length=60, columns=COLUMNS):
    """Whole waves, each a little noisier than the one before."""
    random = np.random.default_rng(0)
    whole = []
    for i, key in enumerate(keys):
        sequence = wave(length, key, columns)
        noise = i * 0.3 * random.standard_normal(sequence.inputs.shape)
        whole.append(sequence._replace(inputs=sequence.inputs + noise))
    return whole


def trained(network=None, sequences=None, training=ONE_EPOCH, **more):
    sequences = sequences or series()
    learned = [first_part(each, len(each.times) * 2 // 3) for each in sequences]
    return fit_sequences(network or Network("gru", hidden=4), learned, training, **more)


def test_the_page_is_whole_and_refers_to_nothing_outside():
    counts = Counts(5, 1, (("x must be finite", 1),), 3, 0)
    html = report(trained(), series(), "python -m pipelines.train --input 'a b'", counts)
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert not {"script", "img", "link", "iframe", "object", "a"} & set(page.tags)
    assert not {"src", "href", "srcset", "data", "action", "xlink:href"} & {
        name for name, _ in page.attributes
    }
    assert not re.search(r"https?:|url\(|@import", html)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "python -m pipelines.train --input 'a b'" in page.text
    assert len(html) < 300_000


def test_the_report_describes_the_training():
    training = Training(
        epochs=3, bptt=Bptt(steps=8), optimizer=Adam(1e-2), seed=7, validation=0.25, loss="huber"
    )
    model = trained(Network("lstm", hidden=(5, 4), residual=True), training=training)
    page = Page(report(model, series()))
    facts = page.facts

    count = sum(value.size for value in model.parameters.values())
    assert facts["network"].startswith("LSTM, 2 layers of 5 + 4 units; residual")
    assert f"{count:,} parameters" in facts["network"]
    assert facts["targets"] == "x, 1 record ahead"
    assert facts["digest"] == model.digest
    assert facts["trained on"].startswith(
        f"{model.training['records']} records of 3 keys in 3 sequences"
    )
    assert "seed 7" in facts["rounds"]
    assert facts["rounds"].startswith("3 epochs")
    assert "k = 8" in facts["back-propagation"]
    assert facts["optimiser"] == repr(training.optimizer)
    last, validation, least = map(float, re.findall(r"\d+\.\d+", facts["loss"]))
    curve = model.training["validation_curve"]
    assert last == pytest.approx(model.training["loss_curve"][-1], abs=6e-4)
    assert validation == pytest.approx(curve[-1], abs=6e-4)
    assert least == pytest.approx(min(curve), abs=6e-4)
    assert f"those of epoch {int(np.argmin(curve)) + 1}" in page.text


def test_the_report_shows_rounds_of_shards():
    model = trained(training=ONE_EPOCH, rounds=Rounds(shards=2, rounds=3, local_epochs=2))
    page = Page(report(model, series()))
    assert "6 epochs" in page.facts["rounds"]
    assert "2 shards, averaged after every 2 epochs" in page.facts["rounds"]


def test_the_figures_of_each_key_are_those_of_its_forecasts():
    sequences = series()
    model = trained(sequences=sequences)
    page = Page(report(model, sequences))
    rows = page.rows("key")
    errors = {}
    for sequence in sequences:
        first = 41  # 40 steps were trained on, the record after them was a target
        inputs, targets = sequence.inputs[first:], sequence.targets[first:]
        y = model.forward(model.scaled(sequence.key, inputs)[np.newaxis])[0]
        scale = sequence.targets[:first].std()
        error = np.abs(model.restored(sequence.key, y) - targets).mean() / scale
        last = np.abs(inputs - targets).mean() / scale
        shown = rows[sequence.key]
        assert [float(shown[0]), float(shown[1])] == pytest.approx([error, last], abs=6e-4)
        assert shown[2] == str(len(targets))
        errors[sequence.key] = error
    best, median, worst = sorted(errors, key=errors.get)
    assert f"Best key: {best}" in page.text.replace("  ", " ")
    assert f"Median key: {median}" in page.text.replace("  ", " ")
    assert f"Worst key: {worst}" in page.text.replace("  ", " ")
    assert float(rows["mean"][0]) == pytest.approx(np.mean(list(errors.values())), abs=6e-4)


def test_nothing_depends_on_the_order_of_sequences():
    model, sequences = trained(), series()
    assert report(model, sequences) == report(model, sequences[::-1])


def test_names_cannot_become_a_part_of_the_page():
    columns = Columns(key="<i>", time="t", inputs=["<b>x</b>"])
    sequences = series([HOSTILE, "b"], columns=columns)
    counts = Counts(1, 0, ((f"the record has no field {HOSTILE!r}<i>", 1),))
    html = report(trained(sequences=sequences), sequences, "--key '</pre><script>'", counts)
    page = Page(html)
    assert not {"script", "i", "b"} & set(page.tags)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert not {"\u202e", "\0"} & set(html)
    assert HOSTILE.replace("\u202e", r"\u202e").replace("\0", r"\x00") in page.text


@pytest.mark.parametrize("keys", ["a", "ab"])
def test_one_key_and_two(keys):
    page = Page(report(trained(sequences=series(keys)), series(keys)))
    assert ("Only key" if keys == "a" else "Worst key") in page.text
    assert "Median key" not in page.text


def test_a_constant_series_is_drawn():
    flat = wave(60)
    for array in (flat.inputs, flat.targets):
        array[:] = 5.0
    html = report(trained(sequences=[flat]), [flat])
    assert "nan" not in html.lower().replace("nance", "")
    assert Page(html).rows("key")["a"][1] == "0"


@pytest.mark.parametrize("length", [2, 3, 6])
def test_a_short_series(length):
    short = wave(length)
    html = report(trained(sequences=[short]), [short])
    assert ("Not measured" in Page(html).text) == (length < 3)
    assert not re.search(r"\b(nan|inf)\b", html)


def test_the_report_marks_records_that_were_trained_on():
    sequences = series()
    model = fit_sequences(Network("gru", hidden=4), sequences, ONE_EPOCH)
    page = Page(report(model, sequences))
    assert "The model was trained on these records" in page.text
    assert "on records that it was trained on" in page.text
    assert page.rows("key")["a"][2] == "12"


def test_keys_without_test_records_are_skipped_if_others_have_some():
    sequences = series()
    learned = [sequences[0], *(first_part(each, 40) for each in sequences[1:])]
    page = Page(report(fit_sequences(Network("gru", hidden=4), learned, ONE_EPOCH), sequences))
    assert "1 key had no records to evaluate" in page.text
    assert set(page.rows("key")) == {"b", "c", "mean"}


@pytest.mark.parametrize("output", ["gaussian", "quantiles"])
def test_a_distribution_has_a_band(output):
    columns = Columns(key="id", time="t", inputs=["x"], horizon=(1, 3))
    sequences = series(columns=columns)
    model = trained(Network("gru", hidden=4, output=output), sequences)
    html = report(model, sequences)
    page = Page(html)
    assert "of the nearest horizon, 1 record ahead" in page.text
    assert page.tags.count("polygon") == 2 * 3
    holds = float(
        re.search(r"should contain 80 % of the \d+ targets and contains (\S+) %", html)[1]
    )
    inside = total = 0
    for each in sequences:
        first = int(np.searchsorted(each.times, model.training["until"][each.key], "right"))
        y = model.forward(model.scaled(each.key, each.inputs[first:])[np.newaxis])[0]
        y = model.restored(each.key, y)
        low, high = y[:, 0], y[:, 2]
        if output == "gaussian":
            low, high = y[:, 0] - 1.28155 * y[:, 1], y[:, 0] + 1.28155 * y[:, 1]
        truth = each.targets[first:, 0]
        inside += int(((low <= truth) & (truth <= high)).sum())
        total += len(truth)
    assert holds == pytest.approx(100 * inside / total, abs=0.06)


def labelled(length=60, key="a"):
    columns = Columns(
        key="id", time="t", inputs=["x"], targets=["state"], classes=["<up>", "down"], horizon=0
    )
    values = np.sin(np.arange(length) / 3)[:, np.newaxis]
    targets = np.concatenate([values > 0, values <= 0], 1).astype(float)
    times = np.arange(length) * 1_000_000
    return wave(length, key)._replace(columns=columns, times=times, inputs=values, targets=targets)


def test_classes_have_an_accuracy():
    sequences = [labelled(key=key) for key in "ab"]
    model = trained(Network("gru", hidden=4, output="softmax"), sequences)
    html = report(model, sequences)
    page = Page(html)
    assert "Forecast and truth" not in page.text
    whole = sequences[0]
    first = 40
    y = model.forward(model.scaled("a", whole.inputs[first:])[np.newaxis])[0]
    truth = whole.targets[first:].argmax(1)
    right = y.argmax(1) == truth
    assert float(page.rows("key")["a"][0].split()[0]) == pytest.approx(100 * right.mean(), abs=0.06)
    before = whole.targets[first - 1 : -1].argmax(1) == truth
    assert float(page.rows("key")["a"][1].split()[0]) == pytest.approx(
        100 * before.mean(), abs=0.06
    )
    recall = page.rows("class")["<up>"][0]
    of_it = truth == 0
    assert float(recall.split()[0]) == pytest.approx(100 * right[of_it].mean(), abs=0.06)


def test_labels_have_an_accuracy_each():
    columns = Columns(key="id", time="t", inputs=["x"], targets=["wet", "cold"], horizon=0)
    whole = labelled()
    whole = whole._replace(columns=columns, targets=np.roll(whole.targets, 3, 0) * [[1, 0]])
    model = trained(Network("gru", hidden=4, output="sigmoid"), [whole])
    page = Page(report(model, [whole]))
    y = model.forward(model.scaled("a", whole.inputs[40:])[np.newaxis])[0]
    right = (y >= 0.5) == (whole.targets[40:] == 1)
    assert float(page.rows("key")["a"][0].split()[0]) == pytest.approx(100 * right.mean(), abs=0.06)
    assert page.rows("class")["cold"][2] == "0"


def test_several_targets_are_one_error():
    columns = Columns(key="id", time="t", inputs=["x", "y"])
    two = [
        each._replace(
            columns=columns,
            inputs=np.repeat(each.inputs, 2, 1) * [1, 50],
            targets=np.repeat(each.targets, 2, 1) * [1, 50],
        )
        for each in series()
    ]
    page = Page(report(trained(sequences=two), two))
    assert "Errors are means over 2 targets, charts show the first" in page.text
    first = two[0].targets[41:, 0]
    last = np.abs(two[0].inputs[41:, 0] - first).mean() / two[0].targets[:41, 0].std()
    assert float(page.rows("key")["a"][1]) == pytest.approx(last, abs=6e-4)


def test_a_network_of_both_directions_has_no_forecast():
    page = Page(report(trained(Network("gru", hidden=4, bidirectional=True)), series()))
    assert "It cannot forecast in a stream" in page.text
    assert "Not measured: the network must carry its state from step to step" in page.text
    assert page.tags.count("svg") == 2  # the loss curve
    assert "Mean absolute error 0" not in page.text


def test_both_directions_may_tell_the_record_itself():
    sequences = [labelled(key=key) for key in "ab"]
    network = Network("gru", hidden=4, output="softmax", bidirectional=True)
    page = Page(report(trained(network, sequences), sequences))
    assert "not those of a stream" in page.text
    assert page.rows("key").keys() >= {"a", "b"}


def test_one_output_a_sequence():
    sequences = [wave(20, key, start=start) for key in "ab" for start in (0, 30, 60)]
    first = [sequences[0], sequences[1], sequences[3]]
    model = fit_sequences(Network("gru", hidden=4, output_steps="last"), first, ONE_EPOCH)
    page = Page(report(model, sequences))
    assert page.rows("key")["a"][2] == "1"
    assert page.rows("key")["b"][2] == "2"


def test_the_report_counts_skipped_keys_that_training_did_not_see():
    sequences = series()
    model = trained(Network("gru", hidden=4), sequences[:2])
    page = Page(report(model, sequences))
    assert "1 key without training data are left out" not in page.text
    assert "1 key without training data is left out" in page.text
    assert set(page.rows("key")) == {"a", "b", "mean"}


def test_a_model_that_was_not_trained_here():
    model = random_model()
    columns = model.columns
    whole = wave(40, "a")
    two = np.repeat(whole.inputs, 2, 1)
    page = Page(report(model, [whole._replace(columns=columns, inputs=two)]))
    assert "There is no loss curve" in page.text
    assert "On all given records" in page.text


def test_without_sequences():
    page = Page(report(trained(), []))
    assert "no key has a record to evaluate" in page.text


def test_an_output_that_is_not_finite_is_the_worst():
    model = trained()
    broken = {**model.parameters, "head.b_y": np.full(1, np.inf, np.float32)}
    page = Page(
        report(
            Model(model.network, broken, model.columns, model.scaler, model.training), series("ab")
        )
    )
    assert page.rows("key")["a"][0] == "not finite"


def test_a_record_of_weight_zero_is_not_scored():
    whole = series("a")[0]
    model = trained(sequences=[whole])
    weights = np.ones((60, 1))
    weights[50:] = 0
    assert score(model, [whole]).steps == 19
    assert score(model, [whole._replace(weights=weights)]).steps == 9


def test_a_long_series_is_thinned_and_keeps_its_extremes():
    whole = wave(20_000)
    whole.targets[15_000] = 77.0
    model = trained(sequences=[whole])
    shown = excerpt(model, [whole])
    assert all(len(trace.x) <= POINTS for trace in shown.whole.values())
    assert shown.whole["truth"].y.max() == 77.0
    assert len(shown.close["truth"].x) == 150
    assert len(shown.recent) == RECENT
    html = report(model, [whole])
    assert len(html) < 150_000
    points = [value.split() for name, value in Page(html).attributes if name == "points"]
    assert max(map(len, points)) <= POINTS


def test_many_keys_are_not_listed():
    scores = [Score(f"key {i:03}", i / 100, 0.5, 10) for i in range(FEW + 1)]
    summary = summarize(scores)
    assert summary.few == ()
    assert [each.key for each in summary.worst] == [
        f"key {i:03}" for i in range(FEW, FEW - WORST, -1)
    ]
    assert [each.key for _, each in summary.shown] == ["key 000", "key 010", "key 020"]
    assert summarize(reversed(scores)) == summary


def test_the_page_of_many_keys_shows_how_they_are_spread_and_the_worst():
    sequences = series([f"key-{i:02}" for i in range(FEW + 5)])
    model = trained(sequences=sequences)
    html = report(model, sequences)
    page = Page(html)
    scores = sorted((score(model, [each]) for each in sequences), key=lambda each: each.error)
    errors = [each.error for each in scores]
    assert list(page.rows("key")) == [each.key for each in scores[: -WORST - 1 : -1]] + ["mean"]
    half = f"Half of the 25 keys have an error of at most {errors[12]:.3f}"
    assert f"{half}, one in ten above {errors[22]:.3f}" in page.text
    better = sum(each.error < each.last_value for each in scores)
    assert f"better than the last value on {better} of 25 keys" in page.text
    bins = np.count_nonzero(spread_of(errors, [each.last_value for each in scores]).model)
    assert page.attributes.count(("class", "bar")) == 2 * (bins + 1)  # one in the legend


def test_every_finite_error_is_in_a_bin():
    random = np.random.default_rng(0)
    for errors in (random.lognormal(0, 2, 1000), random.random(50), np.zeros(3), np.full(4, 0.7)):
        spread = spread_of([*errors, np.inf], errors[:2] / 2)
        assert sum(spread.model) == len(errors)
        assert sum(spread.last_value) == 2
        assert spread.not_finite == 1
        assert np.sum(errors <= spread.half) >= len(errors) / 2
        assert np.sum(errors <= spread.most) >= 0.9 * len(errors)
    assert spread_of([np.inf], []) is None


@pytest.mark.parametrize("output", ["identity", "gaussian", "softmax"])
def test_the_error_at_each_horizon(output):
    horizons = (1, 3, 8)
    sequences = series("ab", columns=Columns(key="id", time="t", inputs=["x"], horizon=horizons))
    if output == "softmax":
        columns = Columns(
            key="id", time="t", inputs=["x"], targets=["up"], classes=[0, 1], horizon=horizons
        )
        sequences = [
            each._replace(columns=columns, targets=np.repeat(each.targets > 0, 2, 1) == [0, 1] * 3)
            for each in sequences
        ]
        sequences = [each._replace(targets=each.targets.astype(float)) for each in sequences]
    model = trained(Network("gru", hidden=4, output=output), sequences)
    page = Page(report(model, sequences))
    expected = []
    for each in sequences:
        first = int(np.searchsorted(each.times, model.training["until"][each.key], "right"))
        y = model.forward(model.scaled(each.key, each.inputs[first:])[np.newaxis])[0]
        y = model.restored(each.key, y).reshape(len(y), 3, -1)
        truth = each.targets[first:].reshape(len(y), 3, -1)
        if output == "softmax":
            expected.append(100 * (y.argmax(2) == truth.argmax(2)).mean(0))
            continue
        scale = each.targets[:first, 0].std()
        errors = [np.abs(y[:, :, 0] - truth[:, :, 0]), np.abs(each.inputs[first:] - truth[:, :, 0])]
        expected.append([(error / scale).mean(0) for error in errors])
    rows = page.rows("records ahead")
    assert list(rows) == ["1", "3", "8"]
    shown = [[float(cell.split()[0]) for cell in row] for row in rows.values()]
    if output == "softmax":
        assert [row[0] for row in shown] == pytest.approx(np.mean(expected, 0), abs=0.06)
    else:
        assert pytest.approx(np.mean(expected, 0), abs=6e-4) == np.array(shown).T


def test_one_horizon_has_no_section_of_its_own():
    assert "by horizon" not in Page(report(trained(), series())).text


def says(output, b_y, horizon=1, targets=("x",), **network):
    """Return a model with constant outputs."""
    described = Network("rnn", hidden=2, output=output, **network)
    columns = Columns(key="id", time="t", inputs=["x"], targets=targets, horizon=horizon)
    parameters = described.initialize(1, len(b_y), seed=0)
    parameters = {name: np.zeros_like(value) for name, value in parameters.items()}
    parameters["head.b_y"] = np.array(b_y, np.float32)
    return Model(described, parameters, columns)


def uniform(columns, values):
    """A sequence whose targets are these values."""
    each = np.repeat(np.array(values)[:, np.newaxis], len(columns.horizons), 1)
    return wave(len(values), "a", columns)._replace(targets=each)


def test_the_report_shows_the_calibration_of_quantiles():
    model = says("quantiles", [0.1, 0.5, 0.9])
    values = np.arange(0.0005, 1, 0.001)
    page = Page(report(model, [uniform(model.columns, values)]))
    assert page.rows("quantile") == {"10": ["10.0 %"], "50": ["50.0 %"], "90": ["90.0 %"]}
    assert "should contain 80 % of the 1,000 targets and contains 80.0 %: as expected" in page.text
    assert "the forecasts are too" not in page.text

    page = Page(report(model, [uniform(model.columns, values / 2)]))
    assert page.rows("quantile") == {"10": ["20.0 %"], "50": ["100.0 %"], "90": ["100.0 %"]}
    assert "100.0 % lie below the quantile of 50 %: the forecasts are too high" in page.text
    assert "and contains 80.0 %" in page.text

    page = Page(report(model, [uniform(model.columns, values * 4 - 1.5)]))
    assert "contains 20.0 %: it is too narrow" in page.text


def test_the_report_shows_the_calibration_of_a_normal_distribution():
    deviation = np.log1p(np.exp(2.0)) + LEAST_DEVIATION
    model = says("gaussian", [7.0, 2.0])
    values = [NormalDist(7.0, deviation).inv_cdf(p) for p in np.arange(0.0005, 1, 0.001)]
    page = Page(report(model, [uniform(model.columns, values)]))
    rows = page.rows("quantile")
    assert len(rows) == 6
    assert all(float(row[0].split()[0]) == float(name) for name, row in rows.items())
    assert "and contains 80.0 %: as expected" in page.text
    wide = Page(report(model, [uniform(model.columns, np.array(values) / 4 + 5.25)]))
    assert "it is too wide" in wide.text


def test_the_furthest_horizon_is_calibrated_beside_the_nearest():
    model = says("quantiles", [0.1, 0.5, 0.9, 0.2, 0.3, 0.4], horizon=(1, 5), horizons=2)
    page = Page(report(model, [uniform(model.columns, np.arange(0.0005, 1, 0.001))]))
    assert page.rows("quantile")["10"] == ["10.0 %", "20.0 %"]
    assert page.rows("quantile")["90"] == ["90.0 %", "40.0 %"]
    assert "The band, 1 record ahead, should contain" in page.text


def test_every_target_counts_for_the_band():
    """Of two that are independent, both lie within it less often than each."""
    model = says("quantiles", [0.1, 0.5, 0.9] * 2, targets=("x", "y"))
    random = np.random.default_rng(0).random((5000, 2))
    whole = wave(5000, "a")._replace(columns=model.columns, targets=random)
    assert "of the 10,000 targets" in Page(report(model, [whole])).text
    holds = re.search(r"and contains (\S+) %: as expected", Page(report(model, [whole])).text)
    assert float(holds[1]) == pytest.approx(80, abs=1.5)


def test_the_records_are_accounted_for():
    counts = Counts(100, 7, (("x must be finite", 2), ("<x> is missing", 11)), 79, 1, 3600.0)
    page = Page(report(trained(), series(), counts=counts))
    assert (
        "100 records went through Predict as a stream, each up to 3,600 seconds late" in page.text
    )
    assert "Every one is accounted for" in page.text
    rows = page.rows("outcome")
    assert {name: row[0] for name, row in rows.items()} == {
        "predicted": "79",
        "duplicate": "7",
        "late": "1",
        "invalid": "13",
        "all": "100",
    }
    (reasons,) = (table for table in page.tables if table[0][0] == "reason")
    assert reasons[1:] == [["<x> is missing", "11"], ["x must be finite", "2"]]
    lost = Page(report(trained(), series(), counts=counts._replace(predicted=78)))
    assert "accounted" not in lost.text
    assert "outcome" not in Page(report(trained(), series())).text


def test_times_of_targets_between_the_last_step_and_the_furthest_horizon():
    columns = Columns(key="id", time="t", inputs=["x"], horizon=(2, 10))
    whole = wave(30, "a", columns)
    model = fit_sequences(Network("gru", hidden=4), [first_part(whole, 10)], ONE_EPOCH)
    shown = excerpt(model, [whole])
    assert np.diff(shown.whole["truth"].x).tolist() == [1e6] * (len(shown.whole["truth"].x) - 1)


def test_the_loss_is_logarithmic_where_it_falls_far():
    model = trained()

    def loss_of(curve):
        training = {**model.training, "loss_curve": curve}
        other = Model(model.network, model.parameters, model.columns, model.scaler, training)
        html = report(other, series())
        return html[html.index("<h2>Loss") : html.index("<h2>How far")]

    assert "logarithmic" in loss_of([5.0, 0.5, 0.01])
    assert "logarithmic" not in loss_of([0.5, 0.4, 0.3])
    assert "logarithmic" not in loss_of([5.0, 0.5, -0.3])
    assert "lowest: epoch 2" in loss_of([0.5, 0.3, float("nan"), 0.4])
    assert "nan" not in re.findall(r'points="([^"]*)"', loss_of([0.5, float("nan"), 0.4]))[0]


def test_the_report_compares_the_gradient_horizon_with_k():
    sequences = series(length=200)
    text = Page(report(trained(sequences=sequences), sequences)).text
    assert "k = 8 of BPTT" in text
    assert re.search(r"after \d+ steps: k = 8 is enough|training truncated it at k = 8", text)
    full = trained(sequences=sequences, training=Training(epochs=1, bptt=Bptt()))
    assert "It was not truncated" in Page(report(full, sequences)).text


def test_a_line_is_broken_where_no_records_came():
    whole = wave(200)
    times = whole.times.copy()
    times[180:] += 3_000_000_000
    whole = whole._replace(times=times, until=int(times[-1]) + 1_000_000)
    model = trained(sequences=[whole])
    trace = excerpt(model, [whole]).whole["truth"]
    assert np.isnan(trace.y).sum() == 1
    assert len(re.findall("<polyline", report(model, [whole]))) == 2 * (2 + 2 * 2)


# The picture module.


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.2, 7), (1e9, 1e9 + 1), (5, 5), (0, 0), (-1e-7, 1e-7), (0, 3e7)]
)
def test_ticks_are_round_and_inside(low, high):
    axis = number_axis(low, high, most=6)
    values = [tick.value for tick in axis.ticks]
    assert 2 <= len(values) <= 7
    assert all(axis.low <= value <= axis.high for value in values)
    steps = np.diff(values)
    assert steps == pytest.approx(steps[0], rel=1e-6)
    assert f"{steps[0]:.0e}"[0] in "125"
    labels = [tick.label for tick in axis.ticks]
    assert len(set(labels)) == len(labels)
    for tick in axis.ticks:
        assert float(tick.label.replace(",", "")) == pytest.approx(tick.value, abs=steps[0] / 2)


def test_logarithmic_ticks():
    axis = log_axis(0.003, 40.0, most=8)
    assert [tick.label for tick in axis.ticks] == [
        "0.01",
        "0.03",
        "0.1",
        "0.3",
        "1",
        "3",
        "10",
        "30",
    ] or [tick.label for tick in axis.ticks] == ["0.01", "0.1", "1", "10"]
    assert axis.place([axis.low, axis.high]).tolist() == [0, 1]
    assert log_axis(2.0, 2.0, most=5).ticks


def test_whole_ticks():
    assert [tick.label for tick in whole_axis(1, 1, most=8).ticks] == ["1"]
    assert all(tick.value == int(tick.value) for tick in whole_axis(1, 3, most=12).ticks)
    assert len(whole_axis(1, 100_000, most=8).ticks) <= 9


@pytest.mark.parametrize(
    ("length", "first"),
    [
        (3, None),
        (90_000_000, "00:00"),
        (5 * DAY, "1 Jan"),
        (25 * DAY, "1 Jan"),
        (60 * DAY, "5 Jan"),
        (300 * DAY, "Jan"),
        (40 * 366 * DAY, "1970"),
    ],
)
def test_times_have_round_ticks(length, first):
    axis = time_axis(0, length, most=8)
    assert 2 <= len(axis.ticks) <= 9
    assert all(0 <= tick.value <= length for tick in axis.ticks)
    if first:
        assert axis.ticks[0].label.startswith(first)


def test_the_end_of_time():
    end = (2**63 - 1) / 1000
    assert time_axis(0, end, most=8).ticks
    assert utc(end).year == 2262


def test_texts_do_not_overlap():
    """Of the x axis, each line of it: by the width of a letter."""
    for width in (372, 880):
        for days in (0.02, 0.7, 3, 40, 400, 4000):
            x = np.linspace(0, days * DAY, 50)
            chart = Chart([Line(Trace(x, np.sin(x)), "a")], "time, UTC", "y", "", x_axis="time")
            texts = re.findall(
                r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)<',
                svg(chart, width, 210),
            )
            rows = {}
            for at, y, anchor, text in texts:
                if float(y) > 180:
                    wide = 6 * len(text)
                    left = float(at) - {"start": 0, "middle": wide / 2, "end": wide}[anchor]
                    rows.setdefault(y, []).append((left, left + wide))
            for row in rows.values():
                row.sort()
                assert all(a[1] <= b[0] for a, b in pairwise(row)), (width, days)
                assert row[0][0] >= -1
                assert row[-1][1] <= width + 1


@pytest.mark.parametrize("kind", ["number", "log"])
def test_numbers_of_the_x_axis_do_not_overlap(kind):
    for width in (360, 880):
        for low, high in [(0.01, 0.09), (0.98765, 0.98768), (3, 4e4), (1.2e6, 9.9e6), (1e-5, 50)]:
            marks = [Bars(np.array([low, (low + high) / 2, high]), np.array([3, 0]), "keys")]
            chart = Chart(marks, "error", "keys", "", x_axis=kind, from_zero=True)
            drawn = svg(chart, width, 210)
            assert drawn.count('class="bar"') == 2  # one in the legend
            ticks = re.findall(r'<text x="([\d.]+)" y="189.0" text-anchor="middle">([^<]+)<', drawn)
            ends = [(float(at) - 3 * len(text), float(at) + 3 * len(text)) for at, text in ticks]
            assert len(ends) > 1
            assert all(a[1] < b[0] for a, b in pairwise(sorted(ends))), (width, low, high, ticks)


def test_values_that_are_not_finite_are_not_drawn():
    y = np.array([1.0, np.nan, np.inf, 2.0])
    assert thinned(np.arange(4), y).y.tolist() == [1.0, 2.0]
    chart = Chart([Line(thinned(np.arange(3), np.array([-1e308, 0, 1e308])), "a")], "x", "y", "")
    assert "nan" not in svg(chart, 400, 200)
    assert svg(Chart([], "x", "y", "nothing"), 400, 200)


def test_the_facts_are_json():
    """What the page is made from is what the weights file keeps."""
    model = trained()
    again = Model(
        model.network,
        model.parameters,
        model.columns,
        model.scaler,
        json.loads(json.dumps(model.training)),
    )
    assert report(again, series()) == report(model, series())
