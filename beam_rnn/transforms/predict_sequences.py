"""Whole sequences of records into predictions."""

import os
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.packing import PackRecords
from beam_rnn.records.results import INVALID, EndedSequence, InvalidRecord, Prediction
from beam_rnn.streaming.keyed_dofn import ENDED
from beam_rnn.streaming.model_checks import check_reads
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.whole_sequences import PredictWhole
from beam_rnn.transforms.arguments import micros, path_of, take_one


class PredictSequencesOutputs(NamedTuple):
    """What `PredictSequences` gives.

    Attributes:
        predictions: One for each record that could be used; with emit="last", or of a network with
            output_steps="last", one for each sequence.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: What came of each sequence, and why it ended.
    """

    predictions: PCollection[Prediction]
    invalid: PCollection[InvalidRecord]
    ended: PCollection[EndedSequence]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class PredictSequences(beam.PTransform):
    """Predicts each sequence of a key once all of it is there, in one pass.

    For bidirectional networks, which need the whole sequence, and for one output a sequence
    (`Network(output_steps="last")`): the mood of a sentence, the label of a session. A network of
    one direction gives the bits of `Predict`.

    The records of a key and window are grouped, so windows may be of any kind, sessions too; in the
    global window of a stream there is no end. They are sorted by event time, sequence number and
    value, equal ones count once, and sequences end by `idle_after`, by marks, and with the window,
    as in `Predict`. A sequence must fit in memory. A record whose step leaves the range of numbers
    is left out of its sequence, as a dead letter; its marks and its time count. What comes out has
    the timestamp of its window's end. Records that come later than the window allows are dropped
    by Beam, as before any grouping.

    Args:
        weights: The weights file, or a pattern, as for `Predict`.
        emit: "every": a prediction for each record; "last": one for each sequence, that of its
            last record.
        idle_after: A sequence ends where the next record is more than so many seconds later; None
            for nowhere.
        kernel: As for `Predict`.

    Raises:
        ConfigurationError: A value outside its range.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        emit: str = "every",
        idle_after: float | None = None,
        kernel: str = "auto",
    ):
        super().__init__()
        self._weights = path_of("weights", weights)
        check_choice("emit", emit, ("every", "last"))
        check_choice("kernel", kernel, KERNELS)
        self._emit = emit
        self._idle_after = micros("idle_after", idle_after)
        self._kernel = kernel

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, group by key and window, then run whole sequences."""
        loader = ModelLoader(self._weights, kernel=self._kernel, check=check_reads)
        checked = pcoll | "Check" >> beam.ParDo(PackRecords(loader.reader)).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="checked")
        predict = beam.ParDo(PredictWhole(loader, self._emit, self._idle_after))
        predicted = (
            checked.checked
            | "ByKey" >> beam.GroupByKey()
            | "Predict"
            >> predict.with_output_types(
                Prediction, invalid=InvalidRecord, ended=EndedSequence
            ).with_outputs(INVALID, ENDED, main="predictions")
        )
        invalid = (checked.invalid, predicted.invalid) | "Invalid" >> beam.Flatten()
        return PredictSequencesOutputs(predicted.predictions, invalid, predicted.ended)

    def display_data(self) -> dict[str, Any]:
        """What the monitoring page of a runner shows."""
        return {"weights": self._weights, "emit": self._emit, "kernel": self._kernel}
