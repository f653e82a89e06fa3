"""The loss curve, and how far back the gradient reaches."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from beam_rnn.cells import Array
from beam_rnn.horizon import REACHED, GradientHorizon, gradient_horizon
from beam_rnn.model import Model
from beam_rnn.report.charts import Chart, Dot, Line, Mark, Rule, Trace, svg, thinned
from beam_rnn.report.comparison import Excerpt
from beam_rnn.report.facts import best_of, bptt_steps, loss_name
from beam_rnn.report.scores import Summary
from beam_rnn.report.words import counted, number, percent, text

WIDE, NARROW = 880, 372
"""How wide the two forms of a chart are, in pixels."""
LOG_FROM = 10.0
"""Losses of which the greatest is so many times the least have a logarithmic axis."""
LOOK_BACK, MOST_STEPS = 128, 256
"""How many steps back the gradient is looked at: at least, and at the most."""
LEAST_NORM = 1e-6
"""Gradients below this are drawn as if they were this."""


def figure(chart: Chart, height: int) -> Iterator[str]:
    """A chart in its two forms."""
    yield f'<div class="wide">{svg(chart, WIDE, height)}</div>'
    yield f'<div class="narrow">{svg(chart, NARROW, min(height + 20, 260))}</div>'


def loss_curve(model: Model) -> Iterator[str]:
    """The loss curve."""
    training = model.training
    curve = np.array(training.get("loss_curve") or [], float)
    yield "<h2>Loss</h2>"
    if not len(curve):
        yield "<p>There is no loss curve: no epoch was trained, or not here.</p>"
        return
    validation = np.array(training.get("validation_curve") or [], float)
    every = (training.get("rounds") or {}).get("local_epochs", 1)
    epochs = np.arange(1, len(curve) + 1)
    marks: list[Mark] = [Line(thinned(epochs, curve), "training", "first")]
    kept = len(curve)
    if len(validation):
        judged = every * np.arange(1, len(validation) + 1)
        marks.append(Line(thinned(judged, validation), "validation", "second"))
        best = best_of(list(validation))
        kept = int(judged[best])
        name = f"least: epoch {kept}"
        marks.append(Dot(kept, float(validation[best]), name, "second"))
        yield f"<p>The weights are those of epoch {kept:,}, of the least validation loss.</p>"
    else:
        best = best_of(list(curve))
        name = f"least: epoch {best + 1}"
        marks.append(Dot(best + 1, float(curve[best]), name, "first"))
        yield (
            f"<p>The weights are those of the last epoch, {kept:,}. Nothing was held back to "
            "choose another by.</p>"
        )
    values = np.concatenate([curve, validation])
    values = values[np.isfinite(values)]
    log = len(values) > 0 and values.min() > 0 and values.max() / values.min() >= LOG_FROM
    name = loss_name(model)
    words = f"{name} by epoch, from {number(curve[0])} to {number(curve[-1])}"
    yield from figure(
        Chart(
            [mark for mark in marks if not isinstance(mark, Dot) or math.isfinite(mark.y)],
            "epoch",
            name + (", logarithmic" if log else ""),
            words,
            y_axis="log" if log else "number",
        ),
        height=260,
    )


def reach(model: Model, recent: Array) -> GradientHorizon | None:
    """How far back gradients reach on the last inputs of a key; None if that cannot be measured.

    Args:
        model: The model.
        recent: (steps, inputs), scaled.
    """
    k = bptt_steps(model) or 0
    steps = min(max(LOOK_BACK, 2 * k), MOST_STEPS, len(recent) - 1)
    if model.network.bidirectional or steps < 2:
        return None
    return gradient_horizon(model, recent[np.newaxis], steps=steps, places=16)


def gradient_reach(
    model: Model, summary: Summary | None, excerpts: Mapping[str, Excerpt]
) -> Iterator[str]:
    """How far back the gradient reaches, beside the k of BPTT."""
    yield "<h2>How far back the gradient reaches</h2>"
    if model.network.bidirectional:
        yield (
            "<p>Not measured: this network reads each sequence in both directions, and the measure "
            "is that of one.</p>"
        )
        return
    key, measured = None, None
    if summary is not None:
        _, middle = summary.shown[len(summary.shown) // 2]
        key = middle.key
        measured = reach(model, excerpts[key].recent) if key in excerpts else None
    if measured is None or not np.isfinite(measured.norms).all():
        yield "<p>Not measured: there is no sequence that is long enough.</p>"
        return
    norms, k = measured.norms, bptt_steps(model)
    far = len(norms) - 1
    gone = measured.recommended_steps if (norms < REACHED).any() else None
    yield f"<p>{_verdict(norms, gone, k)}</p>"
    steps = np.arange(len(norms))
    marks: list[Mark] = [Rule("1 % is left", "limit", y=REACHED)]
    if k is not None and k <= far:
        marks.append(Rule(f"k = {k} of BPTT", "second", x=k))
    marks.append(Line(Trace(steps.astype(float), norms), "gradient", "first"))
    if gone is not None:
        marks.append(Dot(gone, float(norms[gone]), f"below 1 %: {gone} steps back", "first"))
    yield from figure(
        Chart(
            marks,
            "steps back",
            "share of the gradient that is left, logarithmic",
            f"The gradient by steps back, from 1 to {norms[-1]:.2g} after {far}",
            y_axis="log",
            least=LEAST_NORM,
        ),
        height=240,
    )
    yield (
        '<p class="note">The norm of dh(t) / ds(t - k), the root mean square over places of the '
        f"last records of <bdi>{text(key)}</bdi>.</p>"
    )


def _verdict(norms: Array, gone: int | None, k: int | None) -> str:
    """What follows from how far the gradient reaches."""
    far = len(norms) - 1
    if gone is None:
        reaches = f"After {far} steps {percent(norms[-1])} of the gradient is left"
    else:
        reaches = f"Less than 1 % of the gradient is left after {counted(gone, 'step')}"
    if k is None:
        return f"{reaches}. It was not cut: training went back through whole sequences."
    if gone is not None and k >= gone:
        return f"{reaches}: k = {k} cuts off nothing that could be learned from."
    if k > far:
        return f"{reaches}; training cut it at k = {k}."
    return (
        f"{reaches}, and training cut it at k = {k}, where {percent(norms[k])} was: a greater k "
        "could learn from further back."
    )
