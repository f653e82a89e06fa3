"""Forecasts and true values; for classes, recall and precision."""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf

from beam_rnn.core.text import counted, number, percent, printable
from beam_rnn.models.model import Model
from beam_rnn.report.charts.marks import POINTS, Band, Line, Mark, Shade, Trace
from beam_rnn.report.charts.svg import Chart, figure
from beam_rnn.report.evaluation import CLOSE, Excerpt, predicts_classes, sees_targets
from beam_rnn.report.scores import Score, Summary
from beam_rnn.report.wording import ahead, text

CLASSES = 30
"""The maximum number of classes in the table."""


def main_figure(model: Model, summary: Summary) -> Iterator[str]:
    """Yield the mean error of the model, and that of a forecast without a model."""
    better, of = summary.better
    error, last = summary.error, summary.last_value
    on = "that it was trained on" if summary.trained_on else "that it was not trained on"
    keys = counted(summary.keys, "key")
    if predicts_classes(model):
        yield f"Accuracy {percent(1 - error)} over {keys}, on records {on}."
        baseline = "" if last is None else f"The class before is right for {percent(1 - last)}"
    else:
        yield (
            f"Mean absolute error {number(error)} standard deviations over {keys}, on records {on}."
        )
        baseline = "" if last is None else f"That of the last value is {number(last)}"
    if baseline:
        where = f" on {better} of {counted(of, 'key')}" if of > 1 else ""
        yield f"{baseline}; the model is {'better' if where or better else 'not better'}{where}."


def forecasts(
    model: Model, summary: Summary | None, excerpts: Mapping[str, Excerpt]
) -> Iterator[str]:
    """Yield forecasts and true values; for classes, only which records were evaluated."""
    yield f"<h2>{'Predicted classes' if predicts_classes(model) else 'Forecast and truth'}</h2>"
    if sees_targets(model):
        yield (
            "<p>Not shown: this network reads each sequence in both directions, so that every "
            "output depends on later records. It cannot forecast in a stream.</p>"
        )
        return
    if summary is None:
        yield "<p>Not shown: no key has a record to evaluate.</p>"
        return
    yield f"<p>{' '.join(_evaluated_on(model, summary))}</p>"
    if not predicts_classes(model):
        for what, each in summary.shown:
            yield from _of_key(model, what, each, excerpts[each.key])


def _evaluated_on(model: Model, summary: Summary) -> Iterator[str]:
    """Yield which records were evaluated, and how."""
    steps = f"{counted(summary.steps, 'record')} of {counted(summary.keys, 'key')}"
    if summary.trained_on:
        yield (
            f"<strong>The model was trained on these records</strong>: there are no others. Shown "
            f"are the last ones of each key, {steps}."
        )
    elif model.training.get("until"):
        yield (
            f"On the records after the training part of each key, {steps}. The hidden state starts "
            "with the first of them."
        )
    else:
        yield f"On all given records, {steps}."
    if summary.unknown:
        be = "is" if summary.unknown == 1 else "are"
        yield f"{counted(summary.unknown, 'key')} without training data {be} left out."
    if summary.left_out:
        yield f"{counted(summary.left_out, 'key')} had no records to evaluate."
    if model.network.bidirectional:
        yield (
            "The network reads each sequence in both directions: these are its outputs for whole "
            "sequences, not those of a stream."
        )
    horizons = (1,) if model.columns is None else model.columns.horizons
    if len(horizons) > 1:
        yield f"Errors and charts are of the nearest horizon, {ahead(horizons[:1])}."
    several = 0 if model.columns is None else len(model.columns.targets)
    if several > 1 and not predicts_classes(model):
        yield f"Errors are means over {several} targets, charts show the first."
    if not predicts_classes(model):
        yield "Errors are mean absolute errors, in units of each key's standard deviation."


def _of_key(model: Model, what: str, of: Score, shown: Excerpt) -> Iterator[str]:
    """Yield the charts of one key."""
    baseline = "" if of.last_value is None else f", last value {number(of.last_value)}"
    yield (
        f"<h3>{what.capitalize()} key: <bdi>{text(of.key)}</bdi> "
        f'<span class="note">error {number(of.error)}{baseline}</span></h3>'
    )
    target = "target" if model.columns is None else model.columns.target_names[0]
    thin = ", thinned: the extremes of each stretch are kept" if of.steps > POINTS else ""
    band = model.network.distribution.band
    marks = list(_marks(shown.whole, band))
    if shown.close:
        times = shown.close["truth"].x
        marks.insert(0, Shade(float(times[0]), float(times[-1]), "shown below"))
    yield from _chart(marks, f"{target}{thin}", of.key)
    if shown.close:
        close = list(_marks(shown.close, band))
        yield from _chart(close, f"{target}: the last {CLOSE} records", of.key)


def _chart(marks: SequenceOf[Mark], name: str, key: str) -> Iterator[str]:
    words = f"{name}, of {key}: truth and forecast by time"
    chart = Chart(marks, "time, UTC", printable(name), printable(words), x_axis="time")
    yield from figure(chart, height=210)


def _marks(lines: Mapping[str, Trace], band: SequenceOf[float]) -> Iterator[Mark]:
    """Yield band, forecast and truth of a key."""
    if "low" in lines:
        share = f"{100 * (band[1] - band[0]):.0f}"
        yield Band(lines["low"], lines["high"], f"band of {share} %")
    yield Line(lines["forecast"], "forecast", "second")
    yield Line(lines["truth"], "truth", "truth")


def classes(model: Model, summary: Summary | None) -> Iterator[str]:
    """Yield recall and precision of each class."""
    if summary is None or not summary.classes:
        return
    names = (
        [str(i) for i in range(len(summary.classes))]
        if model.columns is None
        else model.columns.target_names
    )
    yield "<h2>By class</h2>"
    yield (
        "<p>Recall is the share of a class that was predicted as it, precision the share of its "
        "predictions that are correct.</p>"
    )
    yield '<table class="figures">'
    yield "<tr><th>class</th><th>recall</th><th>precision</th><th>records</th></tr>"
    for name, (true, predicted, both) in list(zip(names, summary.classes, strict=True))[:CLASSES]:
        recall = percent(both / true) if true else "-"
        precision = percent(both / predicted) if predicted else "-"
        yield (
            f"<tr><td><bdi>{text(name)}</bdi></td><td>{recall}</td><td>{precision}</td>"
            f"<td>{true:,}</td></tr>"
        )
    yield "</table>"
    if len(summary.classes) > CLASSES:
        yield f'<p class="note">The first {CLASSES} of {len(summary.classes):,} classes.</p>'
