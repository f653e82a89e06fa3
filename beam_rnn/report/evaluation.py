"""Evaluation of a model on each key: forecasts, true values, and the last value as a baseline.

A key is evaluated on its records after the training part, which ends at `model.training["until"]`.
The hidden state starts there. A key without such records is evaluated on its last training records,
and its score is marked `trained_on`.
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
"""The share of a key's steps, the last ones, to evaluate if it has only training records."""
CLOSE = 150
"""The number of the last records of a key in the detailed chart."""
GAP = 20.0
"""A line is interrupted after a pause of this many median intervals."""
RECENT = 512
"""The number of the last inputs of a key that are kept to measure gradients."""


class Excerpt(NamedTuple):
    """The data of the charts of one key.

    Attributes:
        key: The key.
        whole: The lines of the evaluated steps, thinned: "truth", "forecast", and with a band "low"
            and "high"; of the first target, at the nearest horizon. Times are those of the
            target's record.
        close: The last `CLOSE` steps of these lines; empty if there are no more than that.
        recent: (at most RECENT, inputs), the last inputs of the longest sequence, scaled.
    """

    key: str
    whole: Mapping[str, Trace]
    close: Mapping[str, Trace]
    recent: Array


class _Steps(NamedTuple):
    """The evaluated steps of a key: those with a weight above 0 at the nearest horizon."""

    times: Array  # (steps,) of the nearest targets, in microseconds
    truth: Array  # (steps, horizons, targets)
    outputs: Array  # (steps, horizons, targets, parts)
    last: Array  # (steps, targets), the last value; NaN if unknown
    counts: Array  # (steps, horizons), True if the target at that horizon counts
    seen: Array  # (steps before, targets)
    trained_on: bool = False

    def at(self, horizon: int) -> "_HorizonSteps":
        """Return the evaluated steps of one horizon."""
        counts = self.counts[:, horizon]
        return _HorizonSteps(
            self.truth[counts, horizon], self.outputs[counts, horizon], self.last[counts]
        )


class _HorizonSteps(NamedTuple):
    """The evaluated steps of one horizon."""

    truth: Array  # (steps, targets)
    outputs: Array  # (steps, targets, parts)
    last: Array  # (steps, targets)


def until(model: Model, key: str) -> int:
    """Return the time of the last training record of a key; `BEFORE_ALL` if there is none."""
    return int(model.training.get("until", {}).get(key, BEFORE_ALL))


def knows(model: Model, key: str) -> bool:
    """Return True if a key was in the training data, or if nothing is known about these."""
    keys = model.training.get("until", {})
    return not keys or key in keys


def predicts_classes(model: Model) -> bool:
    """Return True if the outputs are probabilities of classes, or of labels that are 0 or 1."""
    loss = model.training.get("settings", {}).get("loss")
    return model.network.distribution.classes or loss == "binary_cross_entropy"


def sees_targets(model: Model) -> bool:
    """Return True if the network has seen the targets, so that its outputs are no forecasts."""
    horizons = (1,) if model.columns is None else model.columns.horizons
    network = model.network
    return network.bidirectional and network.output_steps == "every" and horizons[0] > 0


def score(model: Model, sequences: Iterable[Sequence]) -> Score | None:
    """Return the score of one key; None if it has no step to evaluate, or if `sees_targets`.

    Args:
        model: The model.
        sequences: The sequences of the key, in any order: all of its records, in the training part
            and after it.
    """
    ordered = in_order(sequences)
    judged = None if sees_targets(model) else _judged(model, ordered)
    if judged is None:
        return None
    horizons = range(judged.truth.shape[1])
    measure = _error_rate if predicts_classes(model) else _absolute_error
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
        _by_class(model, judged.at(0)) if predicts_classes(model) else (),
        judged.trained_on,
        knows(model, ordered[0].key),
    )


Errors = tuple[float | None, float | None]
"""The errors of the model and of the last value; None if there are no steps."""


def _absolute_error(model: Model, ahead: _HorizonSteps, scale: Array) -> Errors:
    """Return mean absolute errors, in units of `scale`."""
    if not len(ahead.truth):
        return None, None
    with np.errstate(over="ignore", invalid="ignore"):
        forecast = model.network.distribution.point(ahead.outputs)
        error = float((np.abs(forecast - ahead.truth) / scale).mean())
        errors = np.abs(ahead.last - ahead.truth) / scale
    known = errors[~np.isnan(errors)]
    last_value = float(known.mean()) if len(known) else None
    return error if math.isfinite(error) else math.inf, last_value


def _error_rate(model: Model, ahead: _HorizonSteps, _: Array) -> Errors:
    """Return the share of steps with a wrong class; for labels, the share of wrong labels."""
    exclusive = model.network.distribution.classes

    def wrong(probabilities: Array, truth: Array) -> float | None:
        if not len(truth):
            return None
        different = _classes_of(model, probabilities) != _classes_of(model, truth)
        return float((different.any(1) if exclusive else different).mean())

    known = ~np.isnan(ahead.last).any(1)
    return (
        wrong(ahead.outputs[:, :, 0], ahead.truth),
        wrong(ahead.last[known], ahead.truth[known]),
    )


def _classes_of(model: Model, probabilities: Array) -> Array:
    """Return the most likely class, one-hot, or each label with a probability of at least 0.5."""
    if not model.network.distribution.classes:
        return probabilities >= 0.5
    return np.eye(probabilities.shape[1], dtype=bool)[probabilities.argmax(1)]


def _by_class(model: Model, ahead: _HorizonSteps) -> tuple[tuple[int, int, int], ...]:
    """Return for each class the numbers of true, predicted and correctly predicted steps."""
    truth, predicted = _classes_of(model, ahead.truth), _classes_of(model, ahead.outputs[:, :, 0])
    columns = truth.sum(0), predicted.sum(0), (truth & predicted).sum(0)
    return tuple((int(a), int(b), int(c)) for a, b, c in zip(*columns, strict=True))


def _calibration(model: Model, ahead: _HorizonSteps) -> Calibration:
    """Return how many targets lie below their quantiles, and within the band."""
    truth, of = ahead.truth, model.network.distribution
    with np.errstate(over="ignore", invalid="ignore"):
        below = [(truth <= of.quantile(ahead.outputs, level)).sum() for level in of.levels]
        ends = [of.quantile(ahead.outputs, level) for level in of.band]
    within = ((ends[0] <= truth) & (truth <= ends[1])).sum() if ends else 0
    return Calibration(truth.size, tuple(map(int, below)), int(within))


def excerpt(model: Model, sequences: Iterable[Sequence]) -> Excerpt:
    """Return the data of the charts of one key.

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
    judged = None if predicts_classes(model) else _judged(model, ordered)
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
    """Return the sequences of a key, sorted independently of their input order."""
    given = [sequence for sequence in sequences if len(sequence.times)]
    return sorted(given, key=lambda each: (int(each.times[0]), each.until, place_of(each)))


def _judged(model: Model, ordered: SequenceOf[Sequence]) -> _Steps | None:
    """Return the evaluated steps of a key: those after the training part, or else the last ones."""
    seen_until = until(model, ordered[0].key) if ordered else BEFORE_ALL
    firsts = [int(np.searchsorted(each.times, seen_until, "right")) for each in ordered]
    unseen = [
        _run(model, each, first, begin=first)
        for each, first in zip(ordered, firsts, strict=True)
        if first < len(each.times)
    ]
    found = _concatenated([each for each in unseen if len(each.truth)])
    if found is not None:
        seen = [each.targets[:first] for each, first in zip(ordered, firsts, strict=True)]
        size = found.truth.shape[2]
        return found._replace(seen=np.concatenate(seen)[:, :size])
    if not ordered:
        return None
    last = ordered[-1]
    first = len(last.times) - max(1, int(len(last.times) * TRAINED_ON))
    judged = _concatenated([_run(model, last, first, begin=0)])
    if judged is None:
        return None
    size = judged.truth.shape[2]
    seen_by_all = np.concatenate([each.targets for each in ordered])[:, :size]
    return judged._replace(seen=seen_by_all, trained_on=True)


def _concatenated(judged: SequenceOf[_Steps]) -> _Steps | None:
    """Return the evaluated steps of several sequences as one; None if there are none."""
    if not sum(len(each.truth) for each in judged):
        return None
    times, truth, outputs, last, counts, seen = (
        np.concatenate([each[i] for each in judged]) for i in range(6)
    )
    return _Steps(times, truth, outputs, last, counts, seen)


def _run(model: Model, sequence: Sequence, first: int, begin: int) -> _Steps:
    """Run a model on a sequence and return the steps from `first` on.

    Args:
        model: The model.
        sequence: The sequence.
        first: The first step to evaluate.
        begin: The step at which the hidden state starts.
    """
    network = model.network
    if model.columns is not None:
        sequence = with_indices(sequence, model.columns)
    columns = sequence.columns
    x = model.scaled(sequence.key, sequence.inputs[begin:])[np.newaxis]
    with np.errstate(over="ignore", invalid="ignore"):  # non-finite outputs are scored as such
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
    return _Steps(times[kept], truth[kept], outputs[kept], last[kept], counts[kept], truth[:0, 0])


def _target_times(sequence: Sequence, horizon: int) -> Array:
    """Return the times of the records of the targets.

    After the last step only the time of the very last record is known: the records between are
    assumed to be evenly spaced.
    """
    last, furthest = sequence.times[-1], sequence.columns.horizons[-1]
    ahead = np.arange(max(0, horizon - len(sequence.times)), horizon) + 1
    beyond = last + (sequence.until - last) * ahead // max(1, furthest)
    return np.concatenate([sequence.times[horizon:], beyond])


def _last_values(sequence: Sequence, horizon: int) -> Array:
    """Return the last value of each target at the time of the forecast, NaN if it is unknown.

    With horizon 0, the value in the previous record. (steps, targets).
    """
    columns, size = sequence.columns, sequence.columns.target_size
    lag = max(1, horizon)
    values = np.full((len(sequence.times), size), np.nan)
    values[lag:] = sequence.targets[: max(0, len(values) - lag), :size]
    if horizon > 0:
        for i, place in columns.targets_in_inputs():
            values[:, i] = sequence.inputs[:, place]
    return values


def _deviation(model: Model, key: str, judged: _Steps) -> Array:
    """Return the standard deviation of each target in training.

    For a key without training data, and for a constant target, the scale of the model's scaler.
    """
    of_model = model.scaler.of(key).targets_scale if model.scaler is not None else np.ones(1)
    values = judged.seen[~np.isnan(judged.seen).any(1)]
    if not len(values) and model.scaler is not None:
        return of_model
    values = values if len(values) else judged.truth[:, 0]
    deviation = values.std(0)
    return np.where(deviation > CONSTANT * np.abs(values.mean(0)), deviation, of_model)
