"""The loss curve, and how far back the gradient reaches."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.text import counted, number, percent
from beam_rnn.models.model import Model
from beam_rnn.report.charts.marks import Dot, Line, Mark, Rule, thinned
from beam_rnn.report.charts.svg import Chart, figure
from beam_rnn.report.evaluation import Excerpt
from beam_rnn.report.scores import Summary
from beam_rnn.report.sections.training_facts import best_of, bptt_steps, loss_name
from beam_rnn.report.wording import text
from beam_rnn.training.gradient_horizon import REACHED, GradientHorizon, gradient_horizon

LOG_FROM = 10.0
"""The ratio of the largest to the smallest loss from which the axis is logarithmic."""
LOOK_BACK, MOST_STEPS = 128, 256
"""The minimum and the maximum number of steps back over which the gradient is measured."""
LEAST_NORM = 1e-6
"""Gradients below this are not drawn."""


def loss_curve(model: Model) -> Iterator[str]:
    """Yield the loss curve."""
    curve, validation = (
        np.array(model.training.get(name) or [], float)
        for name in ("loss_curve", "validation_curve")
    )
    yield "<h2>Loss</h2>"
    if not len(curve):
        yield "<p>There is no loss curve: the model was not trained here, or for no epoch.</p>"
        return
    every = (model.training.get("rounds") or {}).get("local_epochs", 1)
    epochs, judged = (
        step * np.arange(1, len(y) + 1) for step, y in ((1, curve), (every, validation))
    )
    marks: list[Mark] = [Line(thinned(epochs, curve), "training", "first")]
    if len(validation):
        marks.append(Line(thinned(judged, validation), "validation", "second"))
        best = _lowest(judged, validation, "second")
        epoch = f"epoch {best.x:,.0f}, with the lowest validation loss"
        yield f"<p>The weights are those of {epoch}.</p>"
    else:
        best = _lowest(epochs, curve, "first")
        yield (
            f"<p>The weights are those of the last epoch, {len(curve):,}. There was no validation "
            "set to choose the best epoch.</p>"
        )
    marks += [best] if math.isfinite(best.y) else []
    log = _falls_far(np.concatenate([curve, validation]))
    name, scale = loss_name(model), "log" if log else "number"
    words = f"{name} by epoch, from {number(curve[0])} to {number(curve[-1])}"
    y_name = name + (", logarithmic" if log else "")
    yield from figure(Chart(marks, "epoch", y_name, words, y_axis=scale), height=260)


def _lowest(epochs: Array, curve: Array, style: str) -> Dot:
    """Return the mark of the lowest loss."""
    best = best_of(list(curve))
    return Dot(float(epochs[best]), float(curve[best]), f"lowest: epoch {epochs[best]}", style)


def _falls_far(losses: Array) -> bool:
    """Return True if losses need a logarithmic axis and are all positive."""
    losses = losses[np.isfinite(losses)]
    return len(losses) > 0 and losses.min() > 0 and losses.max() / losses.min() >= LOG_FROM


def reach(model: Model, recent: Array) -> GradientHorizon | None:
    """Return how far back gradients reach on the last inputs; None if it cannot be measured.

    Args:
        model: The model.
        recent: (steps, inputs), scaled.
    """
    k = bptt_steps(model) or 0
    steps = min(max(LOOK_BACK, 2 * k), MOST_STEPS, len(recent) - 1)
    if not carries_forward(model) or steps < 2:
        return None
    return gradient_horizon(model, recent[np.newaxis], steps=steps, places=16)


def carries_forward(model: Model) -> bool:
    """Return True if the state is carried from step to step, in one direction only."""
    return model.network.carry and not model.network.bidirectional


def gradient_reach(
    model: Model, summary: Summary | None, excerpts: Mapping[str, Excerpt]
) -> Iterator[str]:
    """Yield how far back the gradient reaches, compared with the k of BPTT."""
    yield "<h2>How far back the gradient reaches</h2>"
    if not carries_forward(model):
        yield (
            "<p>Not measured: the network must carry its state from step to step, in one direction "
            "only.</p>"
        )
        return
    key, measured = None, None
    if summary is not None:
        _, middle = summary.shown[len(summary.shown) // 2]
        key = middle.key
        measured = reach(model, excerpts[key].recent) if key in excerpts else None
    if measured is None or not np.isfinite(measured.norms).all():
        yield "<p>Not measured: no sequence is long enough, or a gradient is not finite.</p>"
        return
    norms, k = measured.norms, bptt_steps(model)
    far = len(norms) - 1
    gone = measured.recommended_steps if (norms < REACHED).any() else None
    yield f"<p>{_reaches(norms, gone)}{_verdict(norms, gone, k) if model.training else '.'}</p>"
    steps = np.arange(len(norms))
    marks: list[Mark] = [Rule("1 % is left", "limit", y=REACHED)]
    if k is not None and k <= far:
        marks.append(Rule(f"k = {k} of BPTT", "second", x=k))
    drawn = np.where(norms >= LEAST_NORM, norms, np.nan)
    marks.append(Line(thinned(steps, drawn), "gradient", "first"))
    if gone is not None and norms[gone] >= LEAST_NORM:
        marks.append(Dot(gone, float(norms[gone]), f"below 1 %: {gone} steps back", "first"))
    yield from figure(
        Chart(
            marks,
            "steps back",
            "share of the gradient that is left, logarithmic",
            f"The gradient by steps back, from 1 to {norms[-1]:.2g} after {far}",
            y_axis="log",
        ),
        height=240,
    )
    yield (
        '<p class="note">The norm of dh(t) / ds(t - k), the root mean square over several of the '
        f"last records of <bdi>{text(key)}</bdi>.</p>"
    )


def _reaches(norms: Array, gone: int | None) -> str:
    if gone is None:
        return f"After {len(norms) - 1} steps {percent(norms[-1])} of the gradient is left"
    return f"Less than 1 % of the gradient is left after {counted(gone, 'step')}"


def _verdict(norms: Array, gone: int | None, k: int | None) -> str:
    """Return the end of the sentence, about the k of the training."""
    if k is None:
        return ". It was not truncated: training went back through whole sequences."
    if gone is not None and k >= gone:
        return f": k = {k} is enough."
    if k >= len(norms):
        return f"; training truncated it at k = {k}."
    return (
        f", and training truncated it at k = {k}, where {percent(norms[k])} is left: a larger k "
        "could learn from further back."
    )
