"""Scores the records of a stream by how surprising they are."""

import os
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice, micros
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.engine.steppers.predict import Policy
from beam_rnn.models.error_tail import Surprise
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.results import (
    AnomalyScore,
    EndedSequence,
    InvalidRecord,
    LateRecord,
    SequenceGap,
)
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.packing import PackRecords
from beam_rnn.streaming.sources import Base, LearnSource, PredictSource, ScoreSource
from beam_rnn.training.online.prequential import Prequential
from beam_rnn.training.online.settings import Learning, Untrained
from beam_rnn.transforms.arguments import check_type, closing_of, path_of, take_one
from beam_rnn.transforms.stream_outputs import check_records, step_keys


class ScoreAnomaliesOutputs(NamedTuple):
    """The outputs of `ScoreAnomalies`.

    Attributes:
        scores: One for each record that could be used.
        late: Records that came after their key's hidden state had advanced past their place.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: The last outputs of each sequence that ended, and why it ended.
        gaps: Sequence numbers that did not arrive in time, with order="sequence".
    """

    scores: PCollection[AnomalyScore]
    late: PCollection[LateRecord]
    invalid: PCollection[InvalidRecord]
    ended: PCollection[EndedSequence]
    gaps: PCollection[SequenceGap]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class ScoreAnomalies(beam.PTransform):
    """Scores each record by how surprising it is: by the error of the prediction before it.

    The prediction that a key's network makes at a record is held until the next one. Its error is
    compared with the tail of the key's earlier errors: see `beam_rnn.models.error_tail`. A score
    depends on its record and the earlier ones, and on nothing else. The same records give the same
    scores, bit for bit, in a batch and in a stream, in any order of arrival within `wait`.

    Args:
        base: The model that predicts: a weights file, on any filesystem that Beam knows, whose
            horizons include 1; or `Untrained(network, columns)`, which learns in the stream.
        learning: How each key's model learns on in the stream, as in `PredictAndLearn`. None: a
            weights file is used as it is, and an untrained network learns with `Learning()`.
        surprise: How errors are scored; `Surprise()` if left out.
        order: As for `Predict`.
        wait: As for `Predict`.
        grid: As for `Predict`.
        max_jump: As for `Predict`.
        idle_after: A sequence ends, and the error statistics of its key are reset, when no record
            has followed its last one for this number of seconds of event time. None for never.
        kernel: As for `Predict`.

    Raises:
        ConfigurationError: A value outside its range; at construction of the pipeline, a
            merging window. Of a weights file: on the worker, when it is read.
    """

    def __init__(
        self,
        base: str | os.PathLike[str] | Untrained,
        learning: Learning | None = None,
        surprise: Surprise | None = None,
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        *,
        idle_after: float | None = None,
        max_jump: int | None = None,
        kernel: str = "auto",
    ):
        super().__init__()
        surprise = surprise or Surprise()
        check_type("surprise", surprise, Surprise)
        if learning is not None:
            check_type("learning", learning, Learning)
        check_choice("kernel", kernel, KERNELS)
        self._order = order_of(order, wait, grid, max_jump)
        self._idle_after = micros("idle_after", idle_after)
        self._source = ScoreSource(self._predicts(base, learning, kernel), surprise)
        if isinstance(base, Untrained):
            self._source.scorer()  # raises if there is nothing to score

    def _predicts(
        self, base: str | os.PathLike[str] | Untrained, learning: Learning | None, kernel: str
    ) -> PredictSource | LearnSource:
        """Return the source of what predicts the records of a key."""
        if isinstance(base, Untrained):
            learning = learning or Learning()
            Prequential(base.model(kernel), learning)  # raises if they do not fit
            return LearnSource(Base(base, kernel), learning, self._idle_after, None)
        loader = ModelLoader(path_of("base", base), None, kernel)
        if learning is None:
            return PredictSource(loader, Policy(idle_after=self._idle_after))
        return LearnSource(Base(loader, kernel), learning, self._idle_after, None)

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, then let its key predict the next one and score it."""
        closing = closing_of(pcoll, "ScoreAnomalies", self._order)
        checked = check_records(pcoll, PackRecords(self._source.reader))
        step = StepKeys(self._source, self._order, self._idle_after, closing=closing)
        return step_keys(checked, beam.ParDo(step), "Score", ScoreAnomaliesOutputs, AnomalyScore)
