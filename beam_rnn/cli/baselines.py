"""The errors of a model on the records of a key that training did not see, and of baselines."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import BeamRnnError, RecordError
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import BEFORE_ALL, DAY, utc_text
from beam_rnn.data.scaling import CONSTANT
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.records.record_format import decode_records, first_numbers, record_time
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import Prediction
from beam_rnn.report.evaluation import knows, until
from beam_rnn.training.model_files import read_model

ERRORS = ("model_mae", "last_value_mae", "yesterday_mae")
SEASONS = ((0.75, 1.5, 7), (27, 32, 12), (85, 95, 4))
"""(least days, most days, records a season): daily to a week, monthly and quarterly to a year."""
SUB_DAILY = SEASONS[0][0]
"""With fewer days between two records there is a value of a day before."""


class NothingUnseenError(BeamRnnError):
    """The model learned from all records by which it would be judged."""


class Score(NamedTuple):
    """The errors for one key; None where there is nothing to measure.

    `yesterday_mae` is the error of the value of 24 hours before, of records that are less than a
    day apart; `season_mae` that of the value `season` records before, of daily, monthly and
    quarterly ones.
    """

    key: str
    model_mae: float | None
    last_value_mae: float | None
    yesterday_mae: float | None
    bit_equal: bool
    records: int
    horizons: tuple[tuple[float | None, float | None], ...] = ()  # model, last value
    known: bool = True  # whether training saw the key
    scaled: bool = True  # False: a target never changed in training
    season: int | None = None
    season_mae: float | None = None
    learned_until: int = BEFORE_ALL  # the last event time that training saw
    last: int = BEFORE_ALL  # the last event time of all records


class Unseen(beam.DoFn):
    """Records by key that training did not see; those that cannot be read are left out."""

    def __init__(self, weights: str, columns: Columns):
        self._weights = weights
        self._reader = RecordReader(columns, targets=True)

    def setup(self) -> None:
        """Load the model, which says where its training ended."""
        self._model: Models = read_model(self._weights)

    def process(self, element: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, Any]]]:
        """A record in; its key, its time and itself out."""
        try:
            key, data = self._reader.read(element)
        except RecordError:
            return
        model = self._model.of(key)
        if model is None or record_time(data) > until(model, key):
            yield key, (record_time(data), element)


class ScoreKey(beam.DoFn):
    """Compare a key's predictions with the true values, and with one forward pass."""

    def __init__(self, weights: str):
        self._weights = weights

    def setup(self) -> None:
        """Load the model."""
        self._model: Models = read_model(self._weights)

    def process(self, element: tuple[str, Mapping[str, Iterable[Any]]]) -> Iterator[Score]:
        """A key, its checked records and its predictions in; its score out."""
        key, group = element
        model = self._model.of(key)
        if model is None:  # its records are dead letters
            yield Score(key, None, None, None, True, 0)
        else:
            yield score(model, key, group["records"], group["predictions"])


def score(
    model: Model, key: str, records: Iterable[bytes], predictions: Iterable[Prediction]
) -> Score:
    """Return the score of one key.

    Args:
        model: The model.
        key: The key.
        records: All its records, with targets, encoded, in any order.
        predictions: The predictions of those that training did not see, in any order.
    """
    columns = model.columns
    assert columns is not None, "pipelines train models with columns"
    # Records that differ in their targets alone are one to `Predict`: it sees the inputs.
    distinct = {first_numbers(record, columns.number_size): record for record in sorted(records)}
    times, *_, numbers = decode_records(list(distinct.values()))
    ends = np.cumsum([columns.number_size, columns.target_size])
    inputs, targets, _ = np.split(numbers, ends, axis=1)
    first = int(np.searchsorted(times, until(model, key), "right"))
    streamed = sorted(predictions, key=lambda row: row.step)
    if not streamed:
        learned_until, last = until(model, key), int(times[-1])
        return Score(key, None, None, None, True, 0, learned_until=learned_until, last=last)

    outputs, state = forward_pass(model, key, inputs[first:])
    stream_outputs = np.array([row.outputs for row in streamed])
    complete = [row.time for row in streamed] == times[first:].tolist()
    bit_equal = (
        complete
        and np.array_equal(stream_outputs, outputs)
        and streamed[-1].state == state.tobytes()
    )
    n = len(times) - columns.horizons[-1]
    if first >= n or not complete:
        # With records missing it is unknown which prediction belongs to which target.
        return Score(key, None, None, None, bit_equal, len(streamed))
    at = np.arange(first, n)[:, np.newaxis]  # the records whose targets are all known
    ahead = at + np.array(columns.horizons)  # (steps, horizons)
    truth = targets[ahead]  # (steps, horizons, targets)
    forecast = model.network.distribution.point(stream_outputs[: len(at)].reshape(*truth.shape, -1))
    step = days_apart(times)
    season = next((n for least, most, n in SEASONS if least <= step <= most), None)
    if step < SUB_DAILY:
        before = np.searchsorted(times, times[ahead] - DAY, "right") - 1
    else:
        before = ahead - (season or len(times))
    known = (before >= 0) & (before <= at)
    scale, scaled = _deviation(model, key, targets[:first])

    def mae(forecast: Array, where: Array) -> float | None:
        errors = np.abs(forecast - truth) / scale
        known = where & np.isfinite(errors).all(-1)  # not where a value is missing
        return float(errors[known].mean()) if known.any() else None

    everywhere = np.ones(ahead.shape, bool)
    of_before = mae(targets[before], known)
    each = [np.arange(ahead.shape[1]) == i for i in range(ahead.shape[1])]
    return Score(
        key,
        mae(forecast, everywhere),
        mae(targets[at], everywhere),
        of_before if step < SUB_DAILY else None,
        bit_equal,
        len(streamed),
        tuple(
            (mae(forecast, everywhere & one), mae(targets[at], everywhere & one)) for one in each
        ),
        knows(model, key),
        scaled,
        season,
        of_before if season else None,
    )


def check_unseen(scores: Sequence[Score], source: str) -> Sequence[Score]:
    """Check that there are records which the model did not learn from; return the scores.

        >>> day = Score("a", None, None, None, True, 0, learned_until=DAY, last=DAY)
        >>> check_unseen([day], "a.csv")
        Traceback (most recent call last):
        ...
        beam_rnn.cli.baselines.NothingUnseenError: the model learned from all records of 'a.csv', \
of key 'a' until 1970-01-02, and the last of them is of 1970-01-02: evaluate it on later records, \
or train with --train_fraction 0.6, or with --refit, which evaluates before it learns from all

    Args:
        scores: Those of the keys.
        source: Where the records come from.

    Raises:
        NothingUnseenError: There are none.
    """
    seen = [score for score in scores if score.last > BEFORE_ALL]
    if seen and not any(score.records for score in scores):
        latest = max(seen, key=lambda score: (score.last, score.key))
        raise NothingUnseenError(
            f"the model learned from all records of {source!r}, of key {latest.key!r} until "
            f"{utc_text(latest.learned_until)}, and the last of them is of "
            f"{utc_text(latest.last)}: evaluate it on later records, or train with "
            "--train_fraction 0.6, or with --refit, which evaluates before it learns from all"
        )
    return scores


def days_apart(times: Array) -> float:
    """Return the number of days between two records: the median; the mean if some share a time.

    >>> days_apart(np.arange(4) * DAY), days_apart(np.array([0, 0, 365, 365, 730]) * DAY)
    (1.0, 182.5)
    """
    apart = np.diff(times)
    return float(np.median(apart) if apart.all() else apart.mean()) / DAY if len(apart) else 0.0


def forward_pass(model: Model, key: str, inputs: Array) -> tuple[Array, Array]:
    """Return the outputs (steps, targets) in their own units, and the last state (state_size,)."""
    y, state = model.run(model.scaled(key, inputs)[np.newaxis])
    return model.restored(key, y[0]), state[0]


def _deviation(model: Model, key: str, seen: Array) -> tuple[Array, bool]:
    """Return the standard deviation of each target in training, and whether all changed there.

    For a constant target it is the scale that the model has for it.
    """
    of_model = model.scaler.of(key).targets_scale if model.scaler is not None else np.ones(1)
    seen = seen[np.isfinite(seen).all(1)]
    if not len(seen):
        return of_model, True
    deviation = seen.std(0)
    changed = deviation > CONSTANT * np.abs(seen.mean(0))
    return np.where(changed, deviation, of_model), bool(changed.all())


def report(
    scores: Iterable[Score], seconds: float, horizons: Sequence[int] = (1,)
) -> dict[str, Any]:
    """Return the content of the JSON file.

    Means are over the keys that training saw (over all, if it saw none), whose targets were not
    constant there, and that have every error that any key has.

    Args:
        scores: Those of the keys, in any order.
        seconds: The time that the evaluation took.
        horizons: How many records ahead the targets are; of several, each has errors of its own.
    """
    rows = sorted(scores)
    records = sum(row.records for row in rows)
    unscaled = [row.key for row in rows if not row.scaled]
    measured = [row for row in [row for row in rows if row.known] or rows if row.scaled]
    known = {name for row in measured for name in ERRORS if getattr(row, name) is not None}
    complete = [row for row in measured if all(getattr(row, name) is not None for name in known)]

    def mean(values: Iterable[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return float(np.mean(there)) if there else None

    def by_horizon(of: Sequence[Score]) -> dict[str, Any]:
        if len(horizons) == 1:
            return {}
        return {
            "horizons": {
                str(horizon): {
                    name: mean(row.horizons[i][j] for row in of if row.horizons)
                    for j, name in enumerate(ERRORS[:2])
                }
                for i, horizon in enumerate(horizons)
            }
        }

    def by_season(row: Score) -> dict[str, Any]:
        return {"season_mae": row.season_mae, "season": row.season} if row.season else {}

    seasonal = mean(row.season_mae for row in complete)
    return {
        "series": {
            row.key: {name: getattr(row, name) for name in ERRORS}
            | by_season(row)
            | by_horizon([row])
            for row in rows
        },
        "mean": {name: mean(getattr(row, name) for row in complete) for name in ERRORS}
        | ({} if seasonal is None else {"season_mae": seasonal})
        | by_horizon(complete),
        "bit_equal": all(row.bit_equal for row in rows) if records else None,
        "records": records,
        "records_per_second": records / seconds,
        "unscaled": unscaled,
    }
