"""Predicts the records of a stream or a batch."""

import contextlib
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.transforms.window import GlobalWindows

from beam_rnn.core.checks import MAX_SECONDS, check_choice, check_number, check_whole, micros
from beam_rnn.core.errors import ConfigurationError, WeightsError
from beam_rnn.core.filesystems import scheme_of
from beam_rnn.engine.exported_states import to_shard
from beam_rnn.engine.order_arguments import order_of
from beam_rnn.engine.steppers.predict import Policy
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.results import (
    EndedSequence,
    InvalidRecord,
    LateRecord,
    Prediction,
    SequenceGap,
)
from beam_rnn.streaming.closed_windows import Closing
from beam_rnn.streaming.emission import EmitBatches, EmitRows
from beam_rnn.streaming.keyed_dofn import StepKeys
from beam_rnn.streaming.model_loader import ModelLoader, reader_of
from beam_rnn.streaming.packing import PackBatches, PackRecords, PackShards, batch_type
from beam_rnn.streaming.shard_dofn import SHARDS, StepShards
from beam_rnn.streaming.sources import PredictSource
from beam_rnn.training.model_files import read_model
from beam_rnn.transforms.arguments import closing_of, path_of, take_one
from beam_rnn.transforms.stream_outputs import check_records, step_keys

logger = logging.getLogger(__name__)

MODEL_CHANGES = ("error", "keep", "reset", "replay")


class PredictOutputs(NamedTuple):
    """The outputs of `Predict`.

    Attributes:
        predictions: One for each record that could be used; with emit="last", one for each
            sequence that ended.
        late: Records that came after their key's hidden state had advanced past their place.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: The last outputs of each sequence that ended, and why it ended.
        gaps: Sequence numbers that did not arrive in time, with order="sequence".
    """

    predictions: PCollection[Prediction]
    late: PCollection[LateRecord]
    invalid: PCollection[InvalidRecord]
    ended: PCollection[EndedSequence]
    gaps: PCollection[SequenceGap]

    def __or__(self, _: Any) -> Any:
        return take_one(self)


class Predict(beam.PTransform):
    """Carries each key's hidden state across its records; one prediction for each record.

    The same records give the same predictions, bit for bit, in a batch and in a stream, in any
    order of arrival within `wait`, key by key or in shards, as rows or as Arrow batches.

    Elements are records, or whole `pa.Table`s or `pa.RecordBatch`es: these come out as they came
    in, with the columns that `prediction_schema` adds.

    Args:
        weights: The weights file, on any filesystem that Beam knows, or a pattern of files of
            which the last by name counts. It names the columns. If the file has a model for each
            key, a key uses its own, and any other key the fallback; without a fallback the records
            of such a key are dead letters.
        order: "event_time": records are buffered until the watermark has passed them, and stepped
            in the order of their time. "sequence": they are stepped in the order of the columns'
            sequence number, at once if it is the next one; for a missing number they wait until
            the watermark has passed the record after it. "arrival": each is stepped when it
            arrives, for sources that are in order.
        wait: Seconds to wait for a record beyond the watermark.
        grid: Records become due at multiples of this number of seconds, to the millisecond: a
            coarser grid means fewer timers and later predictions.
        with_state: Put the hidden state after the step into each prediction.
        emit: "every": a prediction for each record. "last": one for each sequence that ended, that
            of its last record (many-to-one).
        idle_after: A sequence ends, and its state is removed, when no record has followed its last
            one for this number of seconds of event time. None for never.
        timestamps: The Beam timestamp of a prediction: "due", the time at which its record became
            due, which is never late; or "event", that of the record, which is behind the watermark
            by `wait` and `grid` and needs windows with that much allowed lateness.
        on_model_change: What happens to a sequence that another model began: "error"; "keep" that
            model; "reset": the sequence ends, and another begins; "replay" its last inputs through
            the new model.
        replay: How many of the last inputs the state keeps for "replay".
        watch: Look for a newer model at intervals of this number of seconds; None for never. The
            weights are then a pattern of files.
        kernel: The implementation: "numpy", "fused" (needs the extra `fast`), or "auto" for the
            fused one if it is available. The two agree to 4e-7, not to the bit, so all workers must
            have the same: a state of the other kernel is treated as that of another model.
        shards: The number of shards into which keys are hashed; the keys of a shard are stepped
            together, which pays for many keys or many records. None for each key alone; Arrow
            batches then use 16. A running job keeps its number: with another one its states are not
            found, which is an error.
        models: Paths of further weights files, as they arrive, instead of `watch`; the last by name
            that can be used counts.
        max_jump: With order="sequence": a record whose number is more than this above the last one
            of its key is a dead letter; None for no limit. It needs `idle_after` or
            `Columns(start=...)`: after a real gap that is larger, the key continues at its next
            start mark, or after it was idle.
        states: Hidden states to start from, from `ImportStates`; a key that has a state keeps it.

    Raises:
        ConfigurationError: A value outside its range; at construction of the pipeline, a
            merging window.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        with_state: bool = False,
        *,
        emit: str = "every",
        idle_after: float | None = None,
        timestamps: str = "due",
        on_model_change: str = "error",
        replay: int = 0,
        watch: float | None = None,
        kernel: str = "auto",
        shards: int | None = None,
        models: PCollection[str] | None = None,
        states: PCollection[tuple[str, bytes]] | None = None,
        max_jump: int | None = None,
    ):
        super().__init__()
        self._weights = path_of("weights", weights)
        check_choice("emit", emit, ("every", "last"))
        check_choice("timestamps", timestamps, ("due", "event"))
        check_choice("on_model_change", on_model_change, MODEL_CHANGES)
        check_choice("kernel", kernel, KERNELS)
        if watch is not None:
            check_number("watch, in seconds,", watch, below=MAX_SECONDS)
        if watch is not None and models is not None:
            raise ConfigurationError(
                f"watch={watch!r} takes the newest file of {self._weights!r}, and models= the "
                "newest of its paths: give one of the two"
            )
        check_whole("replay", replay, least=0)
        if (on_model_change == "replay") != (replay > 0):
            raise ConfigurationError(
                "on_model_change='replay' and replay=W, how many inputs are kept for it, go "
                f"together, got on_model_change={on_model_change!r} and replay={replay!r}"
            )
        self._order = order_of(order, wait, grid, max_jump)
        self._timestamps = timestamps
        self._policy = Policy(
            emit,
            micros("idle_after", idle_after),
            on_model_change,
            replay,
            with_state,
        )
        self._watch = watch
        self._kernel = kernel
        if shards is not None:
            check_whole("shards", shards)
        self._shards = shards
        self._models = models
        if states is not None and order == "arrival":
            raise ConfigurationError(
                "states need order='event_time' or 'sequence': with order='arrival' a record may "
                "be stepped before its key's state arrives"
            )
        self._states = states

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, then step its key."""
        closing = closing_of(pcoll, "Predict", self._order)
        windowfn = pcoll.windowing.windowfn
        for name, beside in (("states", self._states), ("models", self._models)):
            if beside is not None and not isinstance(windowfn, GlobalWindows):
                raise ConfigurationError(
                    f"{name} are those of the global window, the records are in {windowfn}"
                )
        loader = ModelLoader(self._weights, self._watch, self._kernel)
        kind = batch_type(pcoll)
        shards = self._shards_for(kind)
        check = _pack(loader, kind, shards, self._policy.with_state)
        checked = check_records(pcoll, check)
        states = self._states
        if states is not None:
            if shards is not None:
                states = states | "ToShards" >> beam.Map(to_shard, shards).with_output_types(
                    tuple[str, bytes]
                )
            records = (checked.records, states) | "WithStates" >> beam.Flatten()
            checked = checked._replace(records=records)
        models = {}
        if self._models is not None:
            # Beam 2.77 may take the coder of the keys from the side input: it must have keys too.
            paths = self._models | "ModelPaths" >> beam.Map(
                lambda path: ("", path)
            ).with_output_types(tuple[str, str])
            models["models"] = beam.pvalue.AsList(paths)
        step = beam.ParDo(self._step(loader, kind, shards, closing), **models)
        return step_keys(checked, step, "Step", PredictOutputs, kind or Prediction)

    def _shards_for(self, kind: type | None) -> int | None:
        """Return the number of shards; None for each key alone."""
        if kind is None:
            return self._shards
        for name, value in (("emit", self._policy.emit), ("timestamps", self._timestamps)):
            if value in ("last", "event"):
                raise ConfigurationError(
                    f"{name}={value!r} is for rows, and the records come as Arrow batches "
                    f"({kind.__name__}): "
                    + (".ended has the last outputs" if value == "last" else "say 'due'")
                )
        if self._shards is None:
            logger.info(
                "Predict steps Arrow batches in %d shards, since shards= was not given: at most "
                "that many workers share the keys. A job that is updated keeps its number",
                SHARDS,
            )
        return self._shards or SHARDS

    def _step(
        self, loader: ModelLoader, kind: type | None, shards: int | None, closing: Closing
    ) -> beam.DoFn:
        """Return the DoFn that steps keys, each alone or those of a shard together."""
        source = PredictSource(loader, self._policy)
        order, idle_after = self._order, self._policy.idle_after
        at_event_time = self._timestamps == "event"
        if shards is None:
            return StepKeys(source, order, idle_after, closing=closing, at_event_time=at_event_time)
        emission = (
            EmitRows() if kind is None else EmitBatches(kind, loader, in_turn=order.by != "arrival")
        )
        return StepShards(
            source,
            order,
            idle_after,
            shards,
            emission,
            closing=closing,
            at_event_time=at_event_time,
        )

    def display_data(self) -> dict[str, Any]:
        """Return what the monitoring page of a runner shows, the model too if its file is here."""
        model: dict[str, Any] = {}
        if scheme_of(self._weights) is None and Path(self._weights).is_file():
            with contextlib.suppress(WeightsError):  # the worker says what is wrong with it
                found = read_model(self._weights)
                sizes = ", ".join(map(str, found.network.sizes))
                model = {"model": found.digest, "cell": found.network.cell, "hidden": sizes}
                if isinstance(found, KeyedModels):
                    model["keys"] = len(found.models)
        return {
            **model,
            "weights": self._weights,
            "order": self._order.by,
            "wait_seconds": self._order.wait / 1e6,
            "grid_seconds": self._order.grid / 1e6,
            "emit": self._policy.emit,
            "on_model_change": self._policy.on_model_change,
            "kernel": self._kernel,
            "shards": "none" if self._shards is None else self._shards,
        }

    def annotations(self) -> dict[str, Any]:
        """Return the same for the graph, where every runner and tool can read it."""
        shown = {f"beam_rnn.{name}": str(value) for name, value in self.display_data().items()}
        return {**super().annotations(), **shown}


def _pack(
    loader: ModelLoader, kind: type | None, shards: int | None, with_state: bool
) -> beam.DoFn:
    """Return the DoFn that reads and checks records: rows or Arrow batches, for keys or shards."""
    if shards is None:
        return PackRecords(loader.reader)
    if kind is None:
        return PackShards(loader.reader, shards)
    return PackBatches(partial(reader_of, loader, with_state=with_state), shards)
