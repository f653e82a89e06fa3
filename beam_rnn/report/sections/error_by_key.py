"""The error of each key; for many keys a histogram and a table of the worst."""

from collections.abc import Iterator

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.text import counted, percent
from beam_rnn.models.model import Model
from beam_rnn.report.charts.marks import Bars, Line, Mark, Trace
from beam_rnn.report.charts.svg import Chart, figure
from beam_rnn.report.evaluation import predicts_classes
from beam_rnn.report.scores import Spread, Summary
from beam_rnn.report.wording import Measure, measure, text


def errors_by_key(model: Model, summary: Summary | None) -> Iterator[str]:
    """Yield the errors of all keys, or a histogram and the worst keys."""
    if summary is None:
        return
    how = measure(classes=predicts_classes(model))
    if summary.keys > 1:
        yield f"<h2>{how.name.capitalize()} by key</h2>"
    if not summary.few and summary.spread is not None:
        yield from _spread(how, summary, summary.spread)
    yield from _table(how, summary)


def _spread(how: Measure, summary: Summary, spread: Spread) -> Iterator[str]:
    """Yield a histogram of the errors, described in words."""
    half, most = how.text(spread.half), how.text(spread.most)
    beyond = "below" if how.higher_is_better else "above"
    yield f"<p>{' '.join(_in_words(how, summary, spread))}</p>"
    edges = np.array([how.value(edge) for edge in spread.edges])
    order = slice(None, None, -1 if how.higher_is_better else 1)
    own, last = (np.array(counts)[order] for counts in (spread.model, spread.last_value))
    edges = edges[order]
    marks: list[Mark] = [Bars(edges, own, "model")]
    if any(last):
        marks.append(Line(_outline(edges, last), how.last_value, "base"))
    yield from figure(
        Chart(
            marks,
            how.axis + (", logarithmic" if spread.log else ""),
            "keys",
            f"The number of keys by {how.name}: half {half} or better, one in ten {beyond} {most}",
            x_axis="log" if spread.log else "number",
            from_zero=True,
        ),
        height=230,
    )


def _in_words(how: Measure, summary: Summary, spread: Spread) -> Iterator[str]:
    """Yield the median, the 90th percentile, and the number of keys where the model is better."""
    bound, beyond = ("at least", "below") if how.higher_is_better else ("at most", "above")
    yield (
        f"Half of the {counted(summary.keys, 'key')} have {how.with_article} of {bound} "
        f"{how.text(spread.half)}, one in ten {beyond} {how.text(spread.most)}."
    )
    better, of = summary.better
    if of:
        yield (
            f"The model is better than the {how.last_value} on {better:,} of {counted(of, 'key')}, "
            f"{percent(better / of)}."
        )
    if spread.not_finite:
        keys = f"{counted(spread.not_finite, 'key')} with an output that is not finite"
        yield f"{keys} cannot be drawn."


def _outline(edges: Array, heights: Array) -> Trace:
    """Return the outline of bars as a line."""
    high = np.repeat(heights, 2).astype(float)
    return Trace(np.repeat(edges, 2), np.concatenate([[0.0], high, [0.0]]))


def _table(how: Measure, summary: Summary) -> Iterator[str]:
    """Yield a table of the scores of all keys, or of the worst."""
    ranks = {each.key: what for what, each in summary.shown}
    if summary.keys > 1:
        few = bool(summary.few)
        yield f"<h3>{'All keys' if few else f'The {len(summary.worst)} worst keys'}</h3>"
    yield '<table class="figures">'
    yield (f"<tr><th>key</th><th>{how.name}</th><th>{how.last_value}</th><th>records</th></tr>")
    for each in summary.few or summary.worst:
        rank = f' <span class="note">{ranks[each.key]}</span>' if each.key in ranks else ""
        better = each.last_value is not None and each.error < each.last_value
        own = how.text(each.error)
        yield (
            f"<tr><td><bdi>{text(each.key)}</bdi>{rank}</td>"
            f"<td>{f'<strong>{own}</strong>' if better else own}</td>"
            f"<td>{how.text(each.last_value)}</td><td>{each.steps:,}</td></tr>"
        )
    if summary.keys > 1:
        yield (
            f"<tr><td>mean of {counted(summary.keys, 'key')}</td>"
            f"<td>{how.text(summary.error)}</td>"
            f"<td>{how.text(summary.last_value)}</td><td>{summary.steps:,}</td></tr>"
        )
    yield "</table>"
    yield f'<p class="note">Bold where the model is better than the {how.last_value}.</p>'
