"""Records of a stream into anomaly scores."""

import os
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice
from beam_rnn.engine.steppers.predict import Policy
from beam_rnn.models.error_tail import Surprise
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.packing import PackRecords
from beam_rnn.records.results import (
    AnomalyScore,
    EndedSequence,
    InvalidRecord,
    LateRecord,
    SequenceGap,
)
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.sources import Base, LearnSource, PredictSource, ScoreSource
from beam_rnn.training.online.prequential import Prequential
from beam_rnn.training.online.settings import Learning, Untrained
from beam_rnn.transforms.arguments import (
    check_type,
    closing_of,
    micros,
    order_of,
    path_of,
    take_one,
)
from beam_rnn.transforms.stream_outputs import check_records, step_keys


class ScoreAnomaliesOutputs(NamedTuple):
    """What `ScoreAnomalies` gives.

    Attributes:
        scores: One for each record that could be used.
        late: Records that came after their key's hidden state had passed their place.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: What came of each sequence that ended, and why it ended.
        gaps: Sequence numbers that did not come in time, with order="sequence".
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

    The prediction that a key's network makes at a record is held until the next one is there. Its
    error is judged by the tail of the errors that this key has had: see
    `beam_rnn.models.error_tail`. A score uses its record and what came before it, and nothing else.
    The same records give the same scores, bit for bit, in a batch and in a stream, in whatever
    order they come within `wait`.

    Args:
        base: What predicts: a weights file, on any filesystem that Beam knows, whose horizons
            have 1 among them; or `Untrained(network, columns)`, which learns in the stream.
        learning: How each key's model goes on learning in the stream, as in `PredictAndLearn`; None
            for a weights file as it is, and for `Learning()` where nothing is trained.
        surprise: How errors are judged; `Surprise()` if left out.
        order: As for `Predict`.
        wait: As for `Predict`.
        grid: As for `Predict`.
        max_jump: As for `Predict`.
        idle_after: A sequence ends when no record has followed its last one for so many seconds
            of event time, and what is known of its key's errors is forgotten with it. None for
            never.
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
            self._source.scorer()  # that there is something to score

    def _predicts(
        self, base: str | os.PathLike[str] | Untrained, learning: Learning | None, kernel: str
    ) -> PredictSource | LearnSource:
        """What predicts the records of a key."""
        if isinstance(base, Untrained):
            learning = learning or Learning()
            Prequential(base.model(kernel), learning)  # that they go together
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
