"""Predicts the records of a stream, with models that learn from them."""

import os
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice, check_whole, micros
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.models.model import Model
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.results import (
    EndedSequence,
    InvalidRecord,
    LateRecord,
    Prediction,
    SequenceGap,
)
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.packing import PackRecords
from beam_rnn.streaming.sources import Base, LearnSource
from beam_rnn.training.online.prequential import Prequential
from beam_rnn.training.online.settings import Learning, Untrained
from beam_rnn.transforms.arguments import check_type, closing_of, path_of, take_one
from beam_rnn.transforms.stream_outputs import check_records, step_keys


class PredictAndLearnOutputs(NamedTuple):
    """The outputs of `PredictAndLearn`.

    Attributes:
        predictions: One for each record that could be used.
        late: Records that came after their key's hidden state had advanced past their place.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: The last outputs of each sequence that ended, and why it ended.
        gaps: Sequence numbers that did not arrive in time, with order="sequence".
        models: With checkpoint_every, keys and the models that they have learned so far.
    """

    predictions: PCollection[Prediction]
    late: PCollection[LateRecord]
    invalid: PCollection[InvalidRecord]
    ended: PCollection[EndedSequence]
    gaps: PCollection[SequenceGap]
    models: PCollection[tuple[str, Model]]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class PredictAndLearn(beam.PTransform):
    """Predicts each record, then learns from it: a model of each key, in constant memory.

    Each key starts from the base model. A record is first used for a prediction; then, if it
    completes the targets of earlier steps, the model learns from these. The same records give the
    same predictions and models, bit for bit, in a batch and in a stream, in any order of arrival
    within `wait`.

    A prediction names its model: the digest of the base model, followed by "+" and the number of
    updates of its key if a learned model made it.

    Args:
        base: The model to start from: its weights file, or `Untrained(network, columns)`.
        learning: How to learn; `Learning()` if left out.
        order: As for `Predict`.
        wait: As for `Predict`.
        grid: As for `Predict`.
        max_jump: As for `Predict`.
        idle_after: A sequence ends, and its key loses what it has learned, when no record has
            followed its last one for this number of seconds of event time. None for never.
        checkpoint_every: Output the model of a key each time it has had this number of updates,
            and when a sequence ends; None for never.
        kernel: As for `Predict`.

    Raises:
        ConfigurationError: A value outside its range; at construction of the pipeline, a
            merging window. Of a weights file: on the worker, when it is read.
    """

    def __init__(
        self,
        base: str | os.PathLike[str] | Untrained,
        learning: Learning | None = None,
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        *,
        idle_after: float | None = None,
        max_jump: int | None = None,
        checkpoint_every: int | None = None,
        kernel: str = "auto",
    ):
        super().__init__()
        learning = learning or Learning()
        check_type("learning", learning, Learning)
        check_choice("kernel", kernel, KERNELS)
        if checkpoint_every is not None:
            check_whole("checkpoint_every", checkpoint_every)
        self._order = order_of(order, wait, grid, max_jump)
        self._idle_after = micros("idle_after", idle_after)
        if isinstance(base, Untrained):
            prequential = Prequential(base.model(kernel), learning)  # raises if they do not fit
            if checkpoint_every is not None:
                prequential.rescaling.check_can_be_stored()
            self._base = Base(base, kernel)
        else:
            self._base = Base(ModelLoader(path_of("base", base), None, kernel), kernel)
            if checkpoint_every is not None and learning.scaler is not None:
                learning.scaler.check_can_be_stored()
        self._steps = LearnSource(self._base, learning, self._idle_after, checkpoint_every)

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, then let its key predict and learn."""
        closing = closing_of(pcoll, "PredictAndLearn", self._order)
        checked = check_records(pcoll, PackRecords(self._base.reader))
        step = StepKeys(self._steps, self._order, self._idle_after, closing=closing)
        return step_keys(checked, beam.ParDo(step), "Learn", PredictAndLearnOutputs, Prediction)
