"""Records of a stream into predictions, and into models that learn from them."""

import os
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice, check_whole
from beam_rnn.models.model import Model
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.packing import PackRecords
from beam_rnn.records.results import (
    EndedSequence,
    InvalidRecord,
    LateRecord,
    Prediction,
    SequenceGap,
)
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.sources import Base, LearnSource
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


class PredictAndLearnOutputs(NamedTuple):
    """What `PredictAndLearn` gives.

    Attributes:
        predictions: One for each record that could be used.
        late: Records that came after their key's hidden state had passed their place.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: What came of each sequence that ended, and why it ended.
        gaps: Sequence numbers that did not come in time, with order="sequence".
        models: With checkpoint_every, what was learned so far: keys and their models.
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

    Each key begins with the base model. A record is predicted from first; then, when it completes
    the targets of earlier steps, those are learned from. The same records give the same
    predictions and models, bit for bit, in a batch and in a stream, in whatever order they come
    within `wait`.

    A prediction names its model: the digest of the base model, followed by "+" and the number of
    updates of this key if it was made by what was learned.

    Args:
        base: The model to begin with: its weights file, or `Untrained(network, columns)`.
        learning: How to learn; `Learning()` if left out.
        order: As for `Predict`.
        wait: As for `Predict`.
        grid: As for `Predict`.
        max_jump: As for `Predict`.
        idle_after: A sequence ends when no record has followed its last one for so many seconds
            of event time, and what its key has learned is forgotten with it. None for never.
        checkpoint_every: Give what a key has learned as a model after every so many updates, and
            when a sequence ends; None for never.
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
            prequential = Prequential(base.model(kernel), learning)  # that they go together
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
