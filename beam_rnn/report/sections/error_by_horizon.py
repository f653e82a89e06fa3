"""The error at each horizon, compared with the last value."""

from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf

import numpy as np

from beam_rnn.core.text import counted
from beam_rnn.models.model import Model
from beam_rnn.report.charts.marks import Dot, Line, Mark, thinned
from beam_rnn.report.charts.svg import Chart, figure
from beam_rnn.report.evaluation import predicts_classes
from beam_rnn.report.scores import Summary
from beam_rnn.report.wording import Measure, measure

DOTS = 30
"""The maximum number of horizons that are drawn with dots."""


def errors_by_horizon(model: Model, summary: Summary | None) -> Iterator[str]:
    """Yield the error at each horizon; nothing for one horizon."""
    horizons = () if model.columns is None else model.columns.horizons
    if summary is None or len(horizons) < 2:
        return
    how = measure(classes=predicts_classes(model))
    own, last = (
        np.array([np.nan if error is None else how.value(error) for error in errors])
        for errors in zip(*summary.by_horizon, strict=True)
    )
    yield f"<h2>{how.name.capitalize()} by horizon</h2>"
    yield f"<p>{' '.join(_in_words(how, horizons, summary.by_horizon))}</p>"
    at = np.array(horizons, float)
    marks: list[Mark] = []
    if np.isfinite(last).any():
        marks.append(Line(thinned(at, last), how.last_value, "base"))
    if np.isfinite(own).any():
        marks.append(Line(thinned(at, own), "model", "second"))
    if len(horizons) <= DOTS:
        marks += [
            Dot(x, y, "", "second")
            for x, y in zip(at.tolist(), own.tolist(), strict=True)
            if np.isfinite(y)
        ]
    words = f"{how.name} from {horizons[0]} to {horizons[-1]} records ahead"
    chart = Chart(marks, "records ahead", how.axis, words, from_zero=True)
    yield from figure(chart, height=230)
    yield from _table(how, horizons, summary.by_horizon)


Errors = SequenceOf[tuple[float | None, float | None]]


def _in_words(how: Measure, horizons: SequenceOf[int], errors: Errors) -> Iterator[str]:
    """Yield the first and the last error, and the number of horizons where the model is better."""
    first, last = errors[0][0], errors[-1][0]
    yield (
        f"The {how.name} is {how.text(first)} at {counted(horizons[0], 'record')} ahead and "
        f"{how.text(last)} at {horizons[-1]:,}, as the mean over the keys."
    )
    both = [(own, other) for own, other in errors if own is not None and other is not None]
    better = sum(own < other for own, other in both)
    if both:
        some = f"{better} of {counted(len(both), 'horizon')}"
        where = {len(both): f"all {len(both)} horizons", 0: "no horizon"}.get(better, some)
        yield f"The model is better than the {how.last_value} at {where}."


def _table(how: Measure, horizons: SequenceOf[int], errors: Errors) -> Iterator[str]:
    """Yield a table of the errors, collapsed."""
    yield "<details><summary>The figures</summary>"
    yield '<table class="figures">'
    yield f"<tr><th>records ahead</th><th>model</th><th>{how.last_value}</th></tr>"
    for horizon, (own, other) in zip(horizons, errors, strict=True):
        yield f"<tr><td>{horizon:,}</td><td>{how.text(own)}</td><td>{how.text(other)}</td></tr>"
    yield "</table></details>"
