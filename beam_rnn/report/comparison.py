"""Forecasts beside what came: how well a model does on each key, and beside the last value.

A key is judged by its records after the training part, as `model.training["until"]` has it. The
hidden state begins with them. A key that has no such record is judged by the last of those that
were trained on, and its score says so.
"""

import math
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np

from beam_rnn.batches import Sequence, place_of
from beam_rnn.cells import Array
from beam_rnn.missing import carry_through
from beam_rnn.model import Model
from beam_rnn.report.charts import Trace, thinned
from beam_rnn.report.scores import Score
from beam_rnn.sequence_examples import with_indices

TRAINED_ON = 0.2
"""The share of a key's steps, its last ones, that is looked at if all were trained on."""
CLOSE = 150
"""So many of a key's last records are shown one by one."""
GAP = 20.0
"""A line is broken where no record came for so many times the usual interval."""
RECENT = 512
"""So many of a key's last inputs are kept to measure gradients on."""


class Excerpt(NamedTuple):
    """What is shown of a key.

    Attributes:
        key: The key.
        whole: What was judged, thinned: "truth", "forecast", and with a band "low" and "high"; of
            the first target, at the nearest horizon. Times are those of the target's record.
        close: The last `CLOSE` of these, one by one; empty if `whole` is no more than that.
        recent: (at most RECENT, inputs), the last inputs of the longest sequence, scaled.
    """

    key: str
    whole: Mapping[str, Trace]
    close: Mapping[str, Trace]
    recent: Array


class _Judged(NamedTuple):
    """The steps of a key that are judged; of one target and the nearest horizon each."""

    times: Array  # (steps,) of the targets, in microseconds
    truth: Array  # (steps, targets)
    outputs: Array  # (steps, targets, parts)
    last: Array  # (steps, targets), the last value; NaN if it is not known
    seen: Array  # (steps before, targets)
    trained_on: bool = False


def tells_classes(model: Model) -> bool:
    """Whether the outputs are the probabilities of classes, or of labels that are 0 or 1."""
    loss = model.training.get("settings", {}).get("loss")
    return model.network.output == "softmax" or loss == "binary_cross_entropy"


def sees_ahead(model: Model) -> bool:
    """Whether the outputs of whole sequences have seen the targets, and are no forecasts."""
    horizons = (1,) if model.columns is None else model.columns.horizons
    network = model.network
    return network.bidirectional and network.output_steps == "every" and horizons[0] > 0


def nominal(model: Model) -> float:
    """The share of targets that should lie within the band: 0 if the outputs have none.

    That of quantiles is from the lowest to the highest; that of a normal distribution holds 80 %.
    """
    network = model.network
    if network.output == "gaussian":
        return 0.8
    if network.output == "quantiles" and len(network.quantiles) > 1:
        return network.quantiles[-1] - network.quantiles[0]
    return 0.0


DEVIATIONS = 1.2815515655446004
"""So many standard deviations on each side of the mean hold 80 % of a normal distribution."""


def score(model: Model, sequences: Iterable[Sequence]) -> Score | None:
    """The score of one key; None if there is nothing to judge it by, or no forecast: `sees_ahead`.

    Args:
        model: The model.
        sequences: Those of the key, in any order: all of its records, the part that was trained
            on and what came after.
    """
    ordered = in_order(sequences)
    judged = None if sees_ahead(model) else _judged(model, ordered)
    if judged is None:
        return None
    key, steps = ordered[0].key, len(judged.truth)
    if tells_classes(model):
        return _score_classes(key, judged, exclusive=model.network.output == "softmax")
    scale = _deviation(judged)
    with np.errstate(over="ignore", invalid="ignore"):
        error = float((np.abs(point_forecast(model, judged.outputs) - judged.truth) / scale).mean())
        errors = np.abs(judged.last - judged.truth) / scale
    known = errors[~np.isnan(errors)]
    covered = None
    if nominal(model):
        low, high = band(model, judged.outputs)
        covered = int(((low <= judged.truth) & (judged.truth <= high)).all(1).sum())
    return Score(
        key,
        error if math.isfinite(error) else math.inf,
        float(known.mean()) if len(known) else None,
        steps,
        covered,
        trained_on=judged.trained_on,
    )


def _score_classes(key: str, judged: _Judged, *, exclusive: bool) -> Score:
    """The score of classes, one of which is the right one, or of labels that stand for themselves.

    Args:
        key: The key.
        judged: Its steps.
        exclusive: Whether just one of the classes is the right one.
    """

    def told(probabilities: Array) -> Array:
        if not exclusive:
            return probabilities >= 0.5
        return np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(1)]

    def wrong(told: Array, truth: Array) -> float:
        different = told != truth
        return float((different.any(1) if exclusive else different).mean())

    truth, said = told(judged.truth), told(judged.outputs[:, :, 0])
    known = ~np.isnan(judged.last).any(1)
    columns = truth.sum(0), said.sum(0), (truth & said).sum(0)
    return Score(
        key,
        wrong(said, truth),
        wrong(told(judged.last[known]), truth[known]) if known.any() else None,
        len(truth),
        classes=tuple((int(a), int(b), int(c)) for a, b, c in zip(*columns, strict=True)),
        trained_on=judged.trained_on,
    )


def excerpt(model: Model, sequences: Iterable[Sequence]) -> Excerpt:
    """What is shown of one key.

    Args:
        model: The model.
        sequences: As for `score`.
    """
    ordered = in_order(sequences)
    longest = max(ordered, key=lambda sequence: len(sequence.times))
    recent = model.scaled(longest.key, longest.inputs)
    if model.carried:
        recent = carry_through(recent, model.carried)
    recent = recent[-RECENT:]
    judged = None if tells_classes(model) else _judged(model, ordered)
    if judged is None:
        return Excerpt(longest.key, {}, {}, recent)
    lines = {"truth": judged.truth, "forecast": point_forecast(model, judged.outputs)}
    if nominal(model):
        lines["low"], lines["high"] = band(model, judged.outputs)
    intervals = np.diff(judged.times)
    gap = GAP * float(np.median(intervals)) if len(intervals) else math.inf

    def last(steps: int) -> dict[str, Trace]:
        return {
            name: thinned(judged.times[-steps:], line[-steps:, 0], gap=gap or math.inf)
            for name, line in lines.items()
        }

    steps = len(judged.times)
    return Excerpt(longest.key, last(steps), last(CLOSE) if steps > CLOSE else {}, recent)


def in_order(sequences: Iterable[Sequence]) -> list[Sequence]:
    """The sequences of a key in an order that does not depend on how they come."""
    given = [sequence for sequence in sequences if len(sequence.times)]
    return sorted(given, key=lambda each: (int(each.times[0]), each.until, place_of(each)))


def point_forecast(model: Model, outputs: Array) -> Array:
    """One number a target: of a distribution its mean, or the middle quantile.

    Args:
        model: The model.
        outputs: (..., targets, parts).
    """
    parts = model.network.parts
    return outputs[..., 0 if "mean" in parts else len(parts) // 2]


def band(model: Model, outputs: Array) -> tuple[Array, Array]:
    """The lower and the upper end of the band, each (steps, targets)."""
    if model.network.output == "gaussian":
        mean, deviation = outputs[..., 0], outputs[..., 1]
        return mean - DEVIATIONS * deviation, mean + DEVIATIONS * deviation
    return outputs[..., 0], outputs[..., -1]


def _judged(model: Model, ordered: SequenceOf[Sequence]) -> _Judged | None:
    """The steps of a key that are judged: those after the training part, or its last ones."""
    until = model.training.get("until", {}).get(ordered[0].key, -1) if ordered else -1
    firsts = [int(np.searchsorted(each.times, until, "right")) for each in ordered]
    unseen = [
        _run(model, each, first, begin=first)
        for each, first in zip(ordered, firsts, strict=True)
        if first < len(each.times)
    ]
    found = _together([each for each in unseen if len(each.truth)])
    if found is not None:
        seen = [each.targets[:first] for each, first in zip(ordered, firsts, strict=True)]
        size = found.truth.shape[1]
        return found._replace(seen=np.concatenate(seen)[:, :size])
    if not ordered:
        return None
    last = ordered[-1]
    first = len(last.times) - max(1, int(len(last.times) * TRAINED_ON))
    judged = _together([_run(model, last, first, begin=0)])
    if judged is None:
        return None
    size = judged.truth.shape[1]
    seen_by_all = np.concatenate([each.targets for each in ordered])[:, :size]
    return judged._replace(seen=seen_by_all, trained_on=True)


def _together(judged: SequenceOf[_Judged]) -> _Judged | None:
    """The judged steps of several sequences, one after the other; None if there are none."""
    if not sum(len(each.truth) for each in judged):
        return None
    times, truth, outputs, last, seen = (
        np.concatenate([each[i] for each in judged]) for i in range(5)
    )
    return _Judged(times, truth, outputs, last, seen)


def _run(model: Model, sequence: Sequence, first: int, begin: int) -> _Judged:
    """What a model says of the steps of a sequence from `first` on.

    Args:
        model: The model.
        sequence: The sequence.
        first: The first step that is judged.
        begin: The step with which the hidden state begins.
    """
    network = model.network
    if model.columns is not None:
        sequence = with_indices(sequence, model.columns)
    columns = sequence.columns
    x = model.scaled(sequence.key, sequence.inputs[begin:])[np.newaxis]
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is scored as such
        y = model.restored(sequence.key, model.forward(x)[0])
    if network.output_steps == "last":
        first = len(sequence.times) - 1
    outputs = np.atleast_2d(y)[first - begin if network.output_steps == "every" else 0 :]
    size, nearest = columns.target_size, columns.horizons[0]
    truth = sequence.targets[first:, :size]
    outputs = outputs[:, : size * len(network.parts)].reshape(len(truth), size, -1)
    weights = np.ones(len(truth)) if sequence.weights is None else sequence.weights[first:, 0]
    times = _target_times(sequence, nearest)[first:]
    last = _last_values(sequence, nearest)[first:]
    counts = weights > 0
    return _Judged(times[counts], truth[counts], outputs[counts], last[counts], truth[:0])


def _target_times(sequence: Sequence, horizon: int) -> Array:
    """The times of the records that the targets are of, as far as they are known.

    That of the last ones may not be: then it is that of the last record that went in.
    """
    beyond = np.full(min(horizon, len(sequence.times)), sequence.until)
    return np.concatenate([sequence.times[horizon:], beyond])


def _last_values(sequence: Sequence, horizon: int) -> Array:
    """What each target was when it was forecast: (steps, targets), NaN where that is not known.

    With horizon 0, where the record's own target is told, that of the record before.
    """
    columns, size = sequence.columns, sequence.columns.target_size
    lag = max(1, horizon)
    values = np.full((len(sequence.times), size), np.nan)
    values[lag:] = sequence.targets[: max(0, len(values) - lag), :size]
    if horizon > 0:
        for i, place in columns.targets_in_inputs():
            values[:, i] = sequence.inputs[:, place]
    return values


def _deviation(judged: _Judged) -> Array:
    """The standard deviation of each target in training; 1 for one that never changed.

    Of a key that training never saw, that of what is judged.
    """
    seen = judged.seen[~np.isnan(judged.seen).any(1)]
    values = seen if len(seen) else judged.truth
    deviation = values.std(0)
    return np.where(deviation > 1e-12 * np.abs(values.mean(0)), deviation, 1.0)
