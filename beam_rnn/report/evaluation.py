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

from beam_rnn.core.arrays import Array
from beam_rnn.data.event_times import BEFORE_ALL
from beam_rnn.data.missing_values import carry_through
from beam_rnn.data.scaling import CONSTANT
from beam_rnn.data.sequences import Sequence, place_of
from beam_rnn.models.model import Model
from beam_rnn.report.charts.marks import Trace, thinned
from beam_rnn.report.scores import Calibration, Score
from beam_rnn.training.sequence_examples import with_indices

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
    """The steps of a key that are judged: those whose target at the nearest horizon counts."""

    times: Array  # (steps,) of the nearest targets, in microseconds
    truth: Array  # (steps, horizons, targets)
    outputs: Array  # (steps, horizons, targets, parts)
    last: Array  # (steps, targets), the last value; NaN if it is not known
    counts: Array  # (steps, horizons), whether the target at that horizon counts
    seen: Array  # (steps before, targets)
    trained_on: bool = False

    def at(self, horizon: int) -> "_Ahead":
        """What is judged at one of the horizons."""
        counts = self.counts[:, horizon]
        return _Ahead(self.truth[counts, horizon], self.outputs[counts, horizon], self.last[counts])


class _Ahead(NamedTuple):
    """The steps that are judged at one horizon."""

    truth: Array  # (steps, targets)
    outputs: Array  # (steps, targets, parts)
    last: Array  # (steps, targets)


def until(model: Model, key: str) -> int:
    """The time of the last record of a key that training saw; `BEFORE_ALL` if it saw none."""
    return int(model.training.get("until", {}).get(key, BEFORE_ALL))


def knows(model: Model, key: str) -> bool:
    """Whether training saw a key; so it is if nothing is known of training."""
    keys = model.training.get("until", {})
    return not keys or key in keys


def tells_classes(model: Model) -> bool:
    """Whether the outputs are the probabilities of classes, or of labels that are 0 or 1."""
    loss = model.training.get("settings", {}).get("loss")
    return model.network.distribution.classes or loss == "binary_cross_entropy"


def sees_ahead(model: Model) -> bool:
    """Whether the outputs of whole sequences have seen the targets, and are no forecasts."""
    horizons = (1,) if model.columns is None else model.columns.horizons
    network = model.network
    return network.bidirectional and network.output_steps == "every" and horizons[0] > 0


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
    horizons = range(judged.truth.shape[1])
    measure = _wrong if tells_classes(model) else _absolute_error
    scale = _deviation(model, ordered[0].key, judged)
    by_horizon = [measure(model, judged.at(horizon), scale) for horizon in horizons]
    error, last_value = by_horizon[0]
    ends = sorted({0, horizons[-1]}) if model.network.distribution.levels else []
    return Score(
        ordered[0].key,
        math.inf if error is None else error,
        last_value,
        len(judged.truth),
        tuple(by_horizon),
        tuple(_calibration(model, judged.at(horizon)) for horizon in ends),
        _by_class(model, judged.at(0)) if tells_classes(model) else (),
        judged.trained_on,
        knows(model, ordered[0].key),
    )


Errors = tuple[float | None, float | None]
"""That of the model and that of the last value; None where there is nothing to judge by."""


def _absolute_error(model: Model, ahead: _Ahead, scale: Array) -> Errors:
    """Mean absolute errors, in units of `scale`."""
    if not len(ahead.truth):
        return None, None
    with np.errstate(over="ignore", invalid="ignore"):
        forecast = model.network.distribution.point(ahead.outputs)
        error = float((np.abs(forecast - ahead.truth) / scale).mean())
        errors = np.abs(ahead.last - ahead.truth) / scale
    known = errors[~np.isnan(errors)]
    last_value = float(known.mean()) if len(known) else None
    return error if math.isfinite(error) else math.inf, last_value


def _wrong(model: Model, ahead: _Ahead, _: Array) -> Errors:
    """The share of steps whose class was told wrong; of labels, each stands for itself."""
    exclusive = model.network.distribution.classes

    def wrong(probabilities: Array, truth: Array) -> float | None:
        if not len(truth):
            return None
        different = _told(model, probabilities) != _told(model, truth)
        return float((different.any(1) if exclusive else different).mean())

    known = ~np.isnan(ahead.last).any(1)
    return (
        wrong(ahead.outputs[:, :, 0], ahead.truth),
        wrong(ahead.last[known], ahead.truth[known]),
    )


def _told(model: Model, probabilities: Array) -> Array:
    """Which classes they tell: the likeliest one, or each label that is likelier than not."""
    if not model.network.distribution.classes:
        return probabilities >= 0.5
    return np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(1)]


def _by_class(model: Model, ahead: _Ahead) -> tuple[tuple[int, int, int], ...]:
    """For each class how many steps were of it, were said to be of it, and both."""
    truth, said = _told(model, ahead.truth), _told(model, ahead.outputs[:, :, 0])
    columns = truth.sum(0), said.sum(0), (truth & said).sum(0)
    return tuple((int(a), int(b), int(c)) for a, b, c in zip(*columns, strict=True))


def _calibration(model: Model, ahead: _Ahead) -> Calibration:
    """How often targets lie below their quantiles, and within the band."""
    truth, of = ahead.truth, model.network.distribution
    with np.errstate(over="ignore", invalid="ignore"):
        below = [(truth <= of.quantile(ahead.outputs, level)).sum() for level in of.levels]
        ends = [of.quantile(ahead.outputs, level) for level in of.band]
    within = ((ends[0] <= truth) & (truth <= ends[1])).sum() if ends else 0
    return Calibration(truth.size, tuple(map(int, below)), int(within))


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
    nearest = judged.at(0)
    of = model.network.distribution
    lines = {"truth": nearest.truth, "forecast": of.point(nearest.outputs)}
    for name, level in zip(("low", "high"), of.band, strict=False):
        lines[name] = of.quantile(nearest.outputs, level)
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


def _judged(model: Model, ordered: SequenceOf[Sequence]) -> _Judged | None:
    """The steps of a key that are judged: those after the training part, or its last ones."""
    seen_until = until(model, ordered[0].key) if ordered else BEFORE_ALL
    firsts = [int(np.searchsorted(each.times, seen_until, "right")) for each in ordered]
    unseen = [
        _run(model, each, first, begin=first)
        for each, first in zip(ordered, firsts, strict=True)
        if first < len(each.times)
    ]
    found = _together([each for each in unseen if len(each.truth)])
    if found is not None:
        seen = [each.targets[:first] for each, first in zip(ordered, firsts, strict=True)]
        size = found.truth.shape[2]
        return found._replace(seen=np.concatenate(seen)[:, :size])
    if not ordered:
        return None
    last = ordered[-1]
    first = len(last.times) - max(1, int(len(last.times) * TRAINED_ON))
    judged = _together([_run(model, last, first, begin=0)])
    if judged is None:
        return None
    size = judged.truth.shape[2]
    seen_by_all = np.concatenate([each.targets for each in ordered])[:, :size]
    return judged._replace(seen=seen_by_all, trained_on=True)


def _together(judged: SequenceOf[_Judged]) -> _Judged | None:
    """The judged steps of several sequences, one after the other; None if there are none."""
    if not sum(len(each.truth) for each in judged):
        return None
    times, truth, outputs, last, counts, seen = (
        np.concatenate([each[i] for each in judged]) for i in range(6)
    )
    return _Judged(times, truth, outputs, last, counts, seen)


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
    size, horizons = columns.target_size, len(columns.horizons)
    truth = sequence.targets[first:].reshape(-1, horizons, size)
    outputs = outputs.reshape(*truth.shape, -1)
    weights = np.ones((len(truth), 1)) if sequence.weights is None else sequence.weights[first:]
    counts = np.broadcast_to(weights > 0, truth.shape[:2])
    nearest, kept = columns.horizons[0], counts[:, 0]
    times = _target_times(sequence, nearest)[first:]
    last = _last_values(sequence, nearest)[first:]
    return _Judged(times[kept], truth[kept], outputs[kept], last[kept], counts[kept], truth[:0, 0])


def _target_times(sequence: Sequence, horizon: int) -> Array:
    """The times of the records that the targets are of.

    Of the records after the last step only the time of the very last is known: those between are
    taken to be evenly spaced.
    """
    last, furthest = sequence.times[-1], sequence.columns.horizons[-1]
    ahead = np.arange(max(0, horizon - len(sequence.times)), horizon) + 1
    beyond = last + (sequence.until - last) * ahead // max(1, furthest)
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


def _deviation(model: Model, key: str, judged: _Judged) -> Array:
    """The standard deviation of each target in training.

    Of a key that training never saw, and of a target that never changed, the scale that the model
    has for it.
    """
    of_model = model.scaler.of(key).targets_scale if model.scaler is not None else np.ones(1)
    values = judged.seen[~np.isnan(judged.seen).any(1)]
    if not len(values) and model.scaler is not None:
        return of_model
    values = values if len(values) else judged.truth[:, 0]
    deviation = values.std(0)
    return np.where(deviation > CONSTANT * np.abs(values.mean(0)), deviation, of_model)
