"""A trained model as a detector of Beam's anomaly API, `apache_beam.ml.anomaly`."""

import logging
import math
import os
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.anomaly.base import AnomalyDetector
from apache_beam.ml.anomaly.specifiable import specifiable

from beam_rnn.core.checks import check_choice, micros
from beam_rnn.core.errors import ConfigurationError, WeightsError
from beam_rnn.engine.steppers.predict import Policy
from beam_rnn.engine.steppers.score import ScoreStepper
from beam_rnn.models.error_tail import Surprise
from beam_rnn.models.state_format import last_step
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_format import record_time
from beam_rnn.records.results import AnomalyScore, InvalidRecord
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.sources import PredictSource, ScoreSource
from beam_rnn.transforms.arguments import path_of

logger = logging.getLogger(__name__)


# Made at once, so that a wrong argument is an error where it is given.
@specifiable(on_demand_init=False, just_in_time_init=False)
class ForecastDetector(AnomalyDetector):
    """Scores each row of a key by the error of a trained model's forecast, in Beam's anomaly API.

    For `apache_beam.ml.anomaly.transforms.AnomalyDetection`, whose thresholds, aggregations and
    ensembles work on its scores. Rows are those of one key, as in `(key, beam.Row)`, with the
    fields that the model was trained on, its key too. The score is that of `ScoreAnomalies` for the
    same records in the same order: 1 - the probability of an error of at least that size. As in
    Beam, it is NaN if there was no forecast, as for the first row of a key; and None for a row that
    cannot be used, which is logged and changes nothing for the others.

        >>> import tempfile
        >>> import apache_beam as beam
        >>> from beam_rnn import Columns, Model, Network, weights
        >>> network = Network("gru", hidden=4, residual=True)
        >>> columns = Columns(key="id", time="t", inputs=["x"])
        >>> path = tempfile.mkdtemp() + "/weights.arrow"
        >>> weights.save(Model(network, network.initialize(1, 1, seed=0), columns), path)
        >>> detector = ForecastDetector(path)
        >>> for t, x in enumerate([0.3, 0.1, 0.4, 0.2, 0.3, 0.1, 9.0]):
        ...     row = beam.Row(id="a", t=t, x=x)
        ...     score = detector.score_one(row)
        ...     detector.learn_one(row)
        >>> score > 0.99
        True

    Its limits: rows are stepped as they arrive, and Beam shuffles them before any detector, so on
    several workers even an ordered source may be out of order here. A row behind the last one is
    counted (`records_out_of_order`) and stepped all the same. There are no late records, duplicates
    count twice, and no key is ever forgotten. `ScoreAnomalies` has none of these limits.

    Beam keeps the detector itself, pickled, as the state of a key. The weights are not in it: each
    worker process loads them once, from their path. A key keeps the path that it began with;
    another model at that path is an error.

    Args:
        weights: The weights file, as for `ScoreAnomalies`.
        memory: As in `Surprise`.
        peaks: As in `Surprise`.
        idle_after: A sequence ends, and the error statistics of its key are reset, if the next row
            is more than this number of seconds later; None for never.
        kernel: As for `Predict`.
        **kwargs: `model_id` and `threshold_criterion`, as in Beam's `AnomalyDetector`.

    Raises:
        ConfigurationError: A value outside its range; `features` or `target`, which the weights
            name. Of a weights file: on the worker, when it is read.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        memory: float = 2000.0,
        peaks: float = 0.01,
        *,
        idle_after: float | None = None,
        kernel: str = "auto",
        **kwargs: Any,
    ):
        for name in ("features", "target"):
            if kwargs.get(name) is not None:
                raise ConfigurationError(
                    f"{name}={kwargs[name]!r} is not for ForecastDetector: the weights file names "
                    "the fields, leave it out"
                )
        check_choice("kernel", kernel, KERNELS)
        super().__init__(**kwargs)
        Surprise(memory, peaks)  # that they can work
        idle = micros("idle_after", idle_after)
        # Plain values: Beam pickles them into the state of each key.
        self._how = path_of("weights", weights), kernel, memory, peaks, idle
        self._key: str | None = None
        self._state: bytes | None = None  # as `beam_rnn.models.error_tail_format` has it
        self._next: _Scored | None = None  # of the row that was scored, until it is learned

    def score_one(self, x: Any) -> float | None:
        """Return how surprising a row is.

        Args:
            x: A `beam.Row`, or any record that `ScoreAnomalies` takes.

        Returns:
            The score, in [0, 1]; NaN for the first row of a sequence; None if it cannot be used.

        Raises:
            ConfigurationError: Its key is not that of the rows before it.
        """
        self._next = self._scored(x)
        return self._next.score

    def learn_one(self, x: Any) -> None:
        """Advance the hidden state and the error statistics by a row.

        The weights stay as they are.

        Args:
            x: As for `score_one`.
        """
        scored = self._next
        if scored is None or scored.row is not x:
            scored = self._scored(x)
        self._key, self._state, self._next = scored.key, scored.state, None

    def _scored(self, row: Any) -> "_Scored":
        source, reader, stepper = _on_this_worker(*self._how)
        source.refresh()  # counts what was loaded
        read = reader.read([row], np.zeros(1, np.int64))
        key, record = read.keys[0], read.data[0]
        if key is None:
            _INVALID.inc()
            return self._refused(row, read.invalid[0][1])
        if self._key not in (None, key):
            raise ConfigurationError(
                f"a ForecastDetector has the state of one key, got rows of {self._key!r} and of "
                f"{key!r}: give AnomalyDetection pairs of a key and a row"
            )
        if self._state is not None and record_time(record) < last_step(self._state)[0]:
            _UNORDERED.inc()
        state, steps = stepper.step(key, self._state, [record])
        for result in (step.result for step in steps):
            if isinstance(result, InvalidRecord):
                return self._refused(row, result)
            if isinstance(result, AnomalyScore):
                score = result.score if result.predictions else math.nan
        return _Scored(row, key, state, score)

    def _refused(self, row: Any, letter: InvalidRecord) -> "_Scored":
        """Return the state as it was, for a row that cannot be used."""
        logger.warning("a row cannot be scored: %s, got %s", letter.reason, letter.value)
        return _Scored(row, self._key, self._state, None)


_INVALID = Metrics.counter("beam_rnn", "records_invalid")
_UNORDERED = Metrics.counter("beam_rnn", "records_out_of_order")


class _Scored(NamedTuple):
    """The outcome of a row: its key, the state after it, and the score."""

    row: Any
    key: str | None
    state: bytes | None
    score: float | None


@lru_cache(maxsize=64)
def _on_this_worker(
    weights: str, kernel: str, memory: float, peaks: float, idle_after: int | None
) -> tuple[ScoreSource, ColumnReader, ScoreStepper]:
    """Return what reads and scores, made once a process: Beam unpickles a detector each row."""
    loader = ModelLoader(weights, kernel=kernel)
    predicts = PredictSource(loader, Policy(idle_after=idle_after))
    source = ScoreSource(predicts, Surprise(memory, peaks))
    stepper = source.stepper()
    columns = stepper.columns
    if columns.time is None and (columns.calendar or idle_after is not None):
        raise WeightsError(
            f"{weights!r} takes times from Beam timestamps, which a detector does not see: "
            f"idle_after={idle_after} and calendar={list(columns.calendar)} need a time column"
        )
    return source, source.reader(), stepper
