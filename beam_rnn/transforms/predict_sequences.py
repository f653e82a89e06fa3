"""Whole sequences of records into predictions."""

import os
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice, micros
from beam_rnn.models.model_checks import check_reads
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.results import EndedSequence, InvalidRecord, Prediction
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.packing import PackRecords
from beam_rnn.streaming.whole_sequences import PredictWhole
from beam_rnn.transforms.arguments import path_of, take_one
from beam_rnn.transforms.stream_outputs import check_records, step_keys


class PredictSequencesOutputs(NamedTuple):
    """The outputs of `PredictSequences`.

    Attributes:
        predictions: One for each record that could be used; with emit="last", or of a network with
            output_steps="last", one for each sequence.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: The last outputs of each sequence, and why it ended.
    """

    predictions: PCollection[Prediction]
    invalid: PCollection[InvalidRecord]
    ended: PCollection[EndedSequence]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class PredictSequences(beam.PTransform):
    """Predicts each sequence of a key once it is complete, in one pass.

    For bidirectional networks, which need the whole sequence, and for one output per sequence
    (`Network(output_steps="last")`): the sentiment of a sentence, the label of a session. A
    unidirectional network gives the bits of `Predict`.

    The records of a key and window are grouped, so windows may be of any kind, sessions too; the
    global window of a stream never ends. Records are sorted by event time, sequence number and
    value, equal ones count once, and sequences end by `idle_after`, by marks, and with the window,
    as in `Predict`. A sequence must fit in memory. A record whose step overflows is left out of its
    sequence and is a dead letter; its marks and its time count. Outputs have the timestamp of their
    window's end. Beam drops records that are later than the window's allowed lateness, as before
    any grouping.

    Args:
        weights: The weights file, or a pattern, as for `Predict`.
        emit: "every": a prediction for each record; "last": one for each sequence, that of its
            last record.
        idle_after: A sequence ends if the next record is more than this number of seconds later;
            None for no such limit.
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
        checked = check_records(pcoll, PackRecords(loader.reader))
        grouped = checked._replace(records=checked.records | "ByKey" >> beam.GroupByKey())
        predict = beam.ParDo(PredictWhole(loader, self._emit, self._idle_after))
        return step_keys(grouped, predict, "Predict", PredictSequencesOutputs, Prediction)

    def display_data(self) -> dict[str, Any]:
        """Return what the monitoring page of a runner shows."""
        return {"weights": self._weights, "emit": self._emit, "kernel": self._kernel}
