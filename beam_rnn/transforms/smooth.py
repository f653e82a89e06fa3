"""Predicts the records of a stream with a bidirectional network."""

import os
from typing import Any

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.checks import check_choice, check_whole, micros
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.models.model_checks import check_smooths
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.results import (
    Prediction,
)
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.packing import PackRecords
from beam_rnn.streaming.sources import SmoothSource
from beam_rnn.transforms.arguments import closing_of, path_of
from beam_rnn.transforms.predict import PredictOutputs
from beam_rnn.transforms.stream_outputs import check_records, step_keys


class Smooth(beam.PTransform):
    """Predicts each record from those before it and the next `lag`: a fixed-lag smoother.

    For bidirectional networks, whose outputs need the future, in a stream. A record is predicted
    once `lag` more records of its sequence have been stepped, or when the sequence ends, with as
    many as there are. The forward direction of the first layer has seen the whole past, as in a
    pass over the whole sequence; the backward directions see the record and the next `lag`. With a
    lag as long as the sequence the outputs are those of the whole sequence, to the bit.

    Order, late records, dead letters, gaps, ends of sequences and outputs are as in `Predict`; any
    order of arrival within `wait` gives the same bits. A prediction has the timestamp at which the
    last record that it waited for became due. Each record costs `lag + 1` steps of the network, and
    the state of a key keeps `lag` records.

    A sequence keeps its model: other weights are an error while a sequence continues, and are used
    for sequences that begin. The lag may change from job to job.

    Args:
        weights: The weights file of a bidirectional network with an output on every step, or a
            pattern, as for `Predict`. Targets with `Columns(horizon=0)`, of the record itself, are
            the usual use.
        lag: The number of further records that a prediction waits for.
        order: As for `Predict`.
        wait: As for `Predict`.
        grid: As for `Predict`.
        max_jump: As for `Predict`.
        idle_after: As for `Predict`.
        kernel: As for `Predict`.

    Raises:
        ConfigurationError: A value outside its range; at construction of the pipeline, a
            merging window.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        lag: int,
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        *,
        idle_after: float | None = None,
        max_jump: int | None = None,
        kernel: str = "auto",
    ):
        super().__init__()
        self._weights = path_of("weights", weights)
        check_whole("lag", lag, least=0)
        check_choice("kernel", kernel, KERNELS)
        self._lag = lag
        self._order = order_of(order, wait, grid, max_jump)
        self._idle_after = micros("idle_after", idle_after)
        self._kernel = kernel

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, then run the windows of its key."""
        closing = closing_of(pcoll, "Smooth", self._order)
        loader = ModelLoader(self._weights, kernel=self._kernel, check=check_smooths)
        checked = check_records(pcoll, PackRecords(loader.reader))
        source = SmoothSource(loader, self._lag, self._idle_after)
        step = StepKeys(source, self._order, self._idle_after, closing=closing)
        return step_keys(checked, beam.ParDo(step), "Smooth", PredictOutputs, Prediction)

    def display_data(self) -> dict[str, Any]:
        """Return what the monitoring page of a runner shows."""
        return {
            "weights": self._weights,
            "lag": self._lag,
            "order": self._order.by,
            "wait_seconds": self._order.wait / 1e6,
            "kernel": self._kernel,
        }
