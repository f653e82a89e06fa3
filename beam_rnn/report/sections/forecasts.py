"""Forecasts beside what came; of classes, how many were told right."""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf

from beam_rnn.core.text import counted, number, percent, printable
from beam_rnn.models.model import Model
from beam_rnn.report.charts.marks import POINTS, Band, Line, Mark, Shade, Trace
from beam_rnn.report.charts.svg import Chart, figure
from beam_rnn.report.evaluation import CLOSE, Excerpt, sees_ahead, tells_classes
from beam_rnn.report.scores import Score, Summary
from beam_rnn.report.wording import ahead, text

CLASSES = 30
"""So many classes have a line of their own."""


def main_figure(model: Model, summary: Summary) -> Iterator[str]:
    """How well it does, beside a forecast that needs no model."""
    better, of = summary.better
    error, last = summary.error, summary.last_value
    on = "that it was trained on" if summary.trained_on else "that it was not trained on"
    keys = counted(summary.keys, "key")
    if tells_classes(model):
        yield f"Accuracy {percent(1 - error)} over {keys}, on records {on}."
        beside = "" if last is None else f"The class before is right for {percent(1 - last)}"
    else:
        yield (
            f"Mean absolute error {number(error)} standard deviations over {keys}, on records {on}."
        )
        beside = "" if last is None else f"That of the last value is {number(last)}"
    if beside:
        where = f" on {better} of {counted(of, 'key')}" if of > 1 else ""
        yield f"{beside}; the model is {'better' if where or better else 'not better'}{where}."


def forecasts(
    model: Model, summary: Summary | None, excerpts: Mapping[str, Excerpt]
) -> Iterator[str]:
    """Forecasts, or classes, beside what came."""
    yield f"<h2>{'Classes told' if tells_classes(model) else 'Forecast and truth'}</h2>"
    if sees_ahead(model):
        yield (
            "<p>Not shown: this network reads each sequence in both directions, so that every "
            "output has seen what came after it. It cannot forecast in a stream.</p>"
        )
        return
    if summary is None:
        yield "<p>Not shown: no key has a record to judge by.</p>"
        return
    yield f"<p>{' '.join(_judged_by(model, summary))}</p>"
    if not tells_classes(model):
        for what, each in summary.shown:
            yield from _of_key(model, what, each, excerpts[each.key])


def _judged_by(model: Model, summary: Summary) -> Iterator[str]:
    """On what records, and how."""
    steps = f"{counted(summary.steps, 'record')} of {counted(summary.keys, 'key')}"
    if summary.trained_on:
        yield (
            f"<strong>These records were trained on</strong>: the training took all there were. "
            f"What is shown are the last of each key, {steps}."
        )
    elif model.training.get("until"):
        yield (
            f"On the records after the training part of each key, {steps}, with which the hidden "
            "state begins."
        )
    else:
        yield f"On all records that were given, {steps}."
    if summary.strange:
        be = "is" if summary.strange == 1 else "are"
        yield f"{counted(summary.strange, 'key')} that training did not see {be} left out."
    if summary.left_out:
        yield f"{counted(summary.left_out, 'key')} had none to be judged by."
    if model.network.bidirectional:
        yield (
            "The network reads each sequence in both directions: these are its outputs for whole "
            "sequences, not those of a stream."
        )
    horizons = (1,) if model.columns is None else model.columns.horizons
    if len(horizons) > 1:
        yield f"Of the nearest horizon, {ahead(horizons[:1])}."
    several = 0 if model.columns is None else len(model.columns.targets)
    if several > 1 and not tells_classes(model):
        yield f"Errors are the mean of {several} targets, pictures show the first."
    if not tells_classes(model):
        yield "Errors are mean absolute errors, in units of each key's standard deviation."


def _of_key(model: Model, what: str, of: Score, shown: Excerpt) -> Iterator[str]:
    """The pictures of one key."""
    beside = "" if of.last_value is None else f", last value {number(of.last_value)}"
    yield (
        f"<h3>{what.capitalize()} key: <bdi>{text(of.key)}</bdi> "
        f'<span class="note">error {number(of.error)}{beside}</span></h3>'
    )
    target = "target" if model.columns is None else model.columns.target_names[0]
    thin = ", thinned: the extremes of each stretch are kept" if of.steps > POINTS else ""
    band = model.network.distribution.band
    marks = list(_marks(shown.whole, band))
    if shown.close:
        times = shown.close["truth"].x
        marks.insert(0, Shade(float(times[0]), float(times[-1]), "shown below"))
    yield from _picture(marks, f"{target}{thin}", of.key)
    if shown.close:
        close = list(_marks(shown.close, band))
        yield from _picture(close, f"{target}: the last {CLOSE} records", of.key)


def _picture(marks: SequenceOf[Mark], name: str, key: str) -> Iterator[str]:
    words = f"{name}, of {key}: truth and forecast by time"
    chart = Chart(marks, "time, UTC", printable(name), printable(words), x_axis="time")
    yield from figure(chart, height=210)


def _marks(lines: Mapping[str, Trace], band: SequenceOf[float]) -> Iterator[Mark]:
    """Band, truth and forecast of a key."""
    if "low" in lines:
        share = f"{100 * (band[1] - band[0]):.0f}"
        yield Band(lines["low"], lines["high"], f"band of {share} %")
    yield Line(lines["forecast"], "forecast", "second")
    yield Line(lines["truth"], "truth", "truth")


def classes(model: Model, summary: Summary | None) -> Iterator[str]:
    """For each class how many of it were found, and how often it was right to say it."""
    if summary is None or not summary.classes:
        return
    names = (
        [str(i) for i in range(len(summary.classes))]
        if model.columns is None
        else model.columns.target_names
    )
    yield "<h2>By class</h2>"
    yield (
        "<p>Recall is how many of a class were told as it, precision how many of those told as it "
        "were of it.</p>"
    )
    yield '<table class="figures">'
    yield "<tr><th>class</th><th>recall</th><th>precision</th><th>records</th></tr>"
    for name, (of_it, said, both) in list(zip(names, summary.classes, strict=True))[:CLASSES]:
        recall = percent(both / of_it) if of_it else "-"
        precision = percent(both / said) if said else "-"
        yield (
            f"<tr><td><bdi>{text(name)}</bdi></td><td>{recall}</td><td>{precision}</td>"
            f"<td>{of_it:,}</td></tr>"
        )
    yield "</table>"
    if len(summary.classes) > CLASSES:
        yield f'<p class="note">The first {CLASSES} of {len(summary.classes):,} classes.</p>'
