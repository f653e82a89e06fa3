"""The public transforms. Wiring only: what happens is in the modules that this one imports."""

import contextlib
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.io import fileio
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows, NonMergingWindowFn

from beam_rnn.arrow import batch_type, reader_of
from beam_rnn.batches import Sequence
from beam_rnn.checks import check_choice, check_number, check_whole
from beam_rnn.columns import Columns
from beam_rnn.errors import ConfigurationError, WeightsError
from beam_rnn.fit import Training
from beam_rnn.gathering import GatherSteps
from beam_rnn.kernels import KERNELS
from beam_rnn.loading import ModelLoader
from beam_rnn.model import Model
from beam_rnn.moving import OPEN, SCHEMA, LastOfKey, from_row, to_row, to_shard
from beam_rnn.network import Network
from beam_rnn.objective import loss_name
from beam_rnn.packing import PackBatches, PackRecords, PackShards
from beam_rnn.reading import ColumnReader
from beam_rnn.records import (
    INVALID,
    EndedSequence,
    InvalidRecord,
    LateRecord,
    Prediction,
    ReadRecords,
    RecordReader,
    SequenceGap,
)
from beam_rnn.sequences import CutSequences
from beam_rnn.shards.emission import EmitBatches, EmitRows
from beam_rnn.shards.stateful import SHARDS, StepShards
from beam_rnn.stateful import ENDED, GAPS, LATE, StepKeys
from beam_rnn.stepping import Policy, PredictSteps
from beam_rnn.storage import read_model
from beam_rnn.training import TrainModel, WriteWeights
from beam_rnn.turns import Order

logger = logging.getLogger(__name__)

ORDERS = ("event_time", "sequence", "arrival")
MODEL_CHANGES = ("error", "keep", "reset", "replay")
MAX_SECONDS = 1e9
"""More than that is no time to wait, but a number in another unit."""


class SequencesOutputs(NamedTuple):
    """What `Sequences(...).with_exception_handling()` gives."""

    sequences: PCollection[Sequence]
    invalid: PCollection[InvalidRecord]


class PredictOutputs(NamedTuple):
    """What `Predict` gives.

    Attributes:
        predictions: One for each record that could be used; with emit="last", one for each
            sequence that ended.
        late: Records that came after their key's hidden state had passed their place.
        invalid: Dead letters: records that cannot be used, with the reason.
        ended: What came of each sequence that ended, and why it ended.
        gaps: Sequence numbers that did not come in time, with order="sequence".
    """

    predictions: PCollection[Prediction]
    late: PCollection[LateRecord]
    invalid: PCollection[InvalidRecord]
    ended: PCollection[EndedSequence]
    gaps: PCollection[SequenceGap]


class Sequences(beam.PTransform):
    """Turns records, in any order and in any Beam window, into sequences to learn from.

    The records of each key and window are sorted by event time, equal ones count once, and
    each step gets as its target the record `columns.horizon` later.

    A record that cannot be used stops the pipeline with an error that names the value. To go
    on without it, take it as a dead letter:

        sequences, invalid = records | Sequences(columns).with_exception_handling()

    Args:
        columns: Which fields of a record mean what.
        length: Steps a sequence; all of a key's records in one if left out. The last sequence
            of a key may be shorter.
        stride: Steps from the start of one sequence to the start of the next; `length` if
            left out.
        fraction: Take this first part of each key's records, in time: 0.6 leaves the last
            40 % for evaluation.
        idle_after: A sequence ends where the next record is more than so many seconds later, as
            in `Predict`; None for nowhere. It ends at the start and end marks of the columns
            too.

    Raises:
        ConfigurationError: A number outside its range.
    """

    def __init__(
        self,
        columns: Columns,
        length: int | None = None,
        stride: int | None = None,
        fraction: float = 1.0,
        *,
        idle_after: float | None = None,
    ):
        super().__init__()
        _check_type("columns", columns, Columns)
        for name, value in (("length", length), ("stride", stride)):
            if value is not None:
                check_whole(name, value)
        if stride is not None and length is None:
            raise ConfigurationError(f"stride={stride!r} needs a length")
        check_number("fraction", fraction)
        if not 0 < fraction <= 1:
            raise ConfigurationError(f"fraction must be in (0, 1], got {fraction!r}")
        self._columns = columns
        self._length = length
        self._stride = stride
        self._fraction = fraction
        self._idle_after = _micros("idle_after", idle_after)
        self._dead_letters = False

    def with_exception_handling(self) -> "Sequences":
        """Give dead letters instead of an error: the result is `SequencesOutputs`."""
        self._dead_letters = True
        return self

    def expand(self, pcoll: PCollection[Any]) -> Any:
        """Read and check, group by key, sort and cut."""
        reader = partial(RecordReader, self._columns, targets=True)
        read = ReadRecords(reader, strict=not self._dead_letters)
        checked = pcoll | "Read" >> beam.ParDo(read).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="checked")
        cut = CutSequences(
            self._columns, self._length, self._stride, self._fraction, self._idle_after
        )
        sequences = (
            checked.checked
            | "ByKey" >> beam.GroupByKey()
            | "Cut" >> beam.ParDo(cut).with_output_types(Sequence)
        )
        return SequencesOutputs(sequences, checked.invalid) if self._dead_letters else sequences


class LastRecordsOutputs(NamedTuple):
    """What `LastRecords` gives.

    Attributes:
        sequences: One for each record that completes a step.
        late: Records that came after later ones of their key had been taken.
        invalid: Dead letters: records that cannot be used, with the reason.
        gaps: Sequence numbers that did not come in time, with order="sequence".
    """

    sequences: PCollection[Sequence]
    late: PCollection[LateRecord]
    invalid: PCollection[InvalidRecord]
    gaps: PCollection[SequenceGap]


class LastRecords(beam.PTransform):
    """The last `length` steps of a key as a sequence, at every record: in a stream, too.

    For what looks at a window of records at once, such as a bidirectional network. Records are
    checked, ordered and told apart from late ones as in `Predict`.

    Args:
        columns: Which fields of a record mean what. A step has a target: with horizon=0 that of
            its own record, else it is complete when that many more records are there.
        length: Steps a sequence; there are fewer until a key has had as many.
        order: As for `Predict`.
        wait: As for `Predict`.
        grid: As for `Predict`.
        idle_after: As for `Predict`.

    Raises:
        ConfigurationError: A value outside its range; at construction of the pipeline, a
            merging window.
    """

    def __init__(
        self,
        columns: Columns,
        length: int,
        order: str = "event_time",
        wait: float = 0.0,
        grid: float = 0.5,
        *,
        idle_after: float | None = None,
    ):
        super().__init__()
        _check_type("columns", columns, Columns)
        check_whole("length", length)
        self._columns = columns
        self._order = _order(order, wait, grid)
        self._idle_after = _micros("idle_after", idle_after)
        self._length = length

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, then gather those of its key."""
        _not_merging(pcoll.windowing.windowfn, "LastRecords")
        reader = partial(ColumnReader, self._columns, targets=True)
        checked = pcoll | "Check" >> beam.ParDo(PackRecords(reader)).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="checked")
        steps = GatherSteps(self._columns, self._length, self._idle_after)
        fn = StepKeys(steps, self._order, self._idle_after)
        gathered = checked.checked | "Gather" >> beam.ParDo(fn).with_output_types(
            Sequence, late=LateRecord, gaps=SequenceGap
        ).with_outputs(LATE, GAPS, main="sequences")
        return LastRecordsOutputs(gathered.sequences, gathered.late, checked.invalid, gathered.gaps)


class Train(beam.PTransform):
    """Learns a model from sequences, by back-propagation through time.

    All sequences go to one worker, which runs every epoch: exact mini-batch BPTT, for a
    history that fits one worker. How far it is goes to the log of `beam_rnn.training`.

    Args:
        network: What to train.
        training: How to train; `Training()` if left out.

    Raises:
        ConfigurationError: An argument of another type, or a loss that does not fit the
            network's output function.
    """

    def __init__(self, network: Network, training: Training | None = None):
        super().__init__()
        training = training or Training()
        _check_type("network", network, Network)
        _check_type("training", training, Training)
        loss_name(network, training.loss)  # that they go together
        self._fn = TrainModel(network, training)

    def expand(self, pcoll: PCollection[Sequence]) -> PCollection[Model]:
        """Bring all sequences to one worker and fit."""
        gather = beam.CombineGlobally(beam.combiners.ToListCombineFn())
        if not isinstance(pcoll.windowing.windowfn, GlobalWindows):
            gather = gather.without_defaults()  # an empty window has no model
        return pcoll | "Gather" >> gather | "Fit" >> beam.ParDo(self._fn).with_output_types(Model)


class WriteModel(beam.PTransform):
    """Writes a model to an Arrow file, and gives the path.

    The file is written under a temporary name and renamed, so that a reader sees the old one
    or the new one and never a part.

    Args:
        path: The file, on any filesystem that Beam knows. Folders that are not there are made.

    Raises:
        ConfigurationError: At construction of the pipeline: models of several windows, which
            would overwrite each other.
    """

    def __init__(self, path: str | os.PathLike[str]):
        super().__init__()
        self._path = _path("path", path)

    def expand(self, pcoll: PCollection[Model]) -> PCollection[str]:
        """Gather the models of a path, which must be one, and write it."""
        if not isinstance(pcoll.windowing.windowfn, GlobalWindows):
            raise ConfigurationError(
                f"the models of all windows of {pcoll.windowing.windowfn} would overwrite each "
                f"other in {self._path!r}: put them into the global window, or train on it"
            )
        path = self._path
        return (
            pcoll
            | "ToPath" >> beam.Map(lambda model: (path, model))
            | "ByPath" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(WriteWeights()).with_output_types(str)
        )


class ReadModel(beam.PTransform):
    """Reads models from Arrow files.

    Args:
        pattern: A file or a pattern of files, on any filesystem that Beam knows. That none is
            there is an error.
    """

    def __init__(self, pattern: str | os.PathLike[str]):
        super().__init__()
        self._pattern = _path("pattern", pattern)

    def expand(self, pbegin: Any) -> PCollection[Model]:
        """Match the files and read each."""
        return (
            pbegin
            | "Match" >> fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.DISALLOW)
            | "Read" >> beam.Map(lambda file: read_model(file.path)).with_output_types(Model)
        )


class Predict(beam.PTransform):
    """Carries each key's hidden state across its records; one prediction for each record.

    The same records give the same predictions, bit for bit, in a batch and in a stream, in
    whatever order they come within `wait`, key by key or in shards, as rows or as Arrow batches.

    Elements are records, or whole `pa.Table`s or `pa.RecordBatch`es: these come out as they came
    in, with the columns that `prediction_schema` says.

    Args:
        weights: The weights file, on any filesystem that Beam knows, or a pattern of files of
            which the last by name counts. It names the columns.
        order: "event_time": records wait until the watermark has passed them, and are taken
            in the order of their time. "sequence": they are taken in the order of the
            columns' sequence number, at once if it is the next one; a number that is missing
            is waited for until the watermark has passed the one after it. "arrival": each is
            taken when it comes, for sources that are in order already.
        wait: How many seconds longer than the watermark says a record is waited for.
        grid: Records become due at multiples of so many seconds, to the millisecond: a
            coarser grid means fewer timers and later predictions.
        with_state: Put the hidden state after the step into each prediction.
        emit: "every": a prediction for each record. "last": one for each sequence that ended,
            that of its last record (many-to-one).
        idle_after: A sequence ends when no record has followed its last one for so many
            seconds of event time; its state is removed. None for never.
        timestamps: The Beam timestamp of a prediction: "due", the time when its record had its
            turn, which is never late; or "event", the record's own, which is behind the
            watermark by `wait` and `grid`, for windows with an allowed lateness of as much.
        on_model_change: What a sequence does that another model began: "error", "keep" that
            model, "reset" (it ends, and another begins), or "replay" its last inputs through
            the new one.
        replay: How many of the last inputs are kept in the state, to be replayed.
        watch: Look for a newer model every so many seconds; None for never.
        kernel: What computes: "numpy", "fused" (needs the extra `fast`), or "auto", the fused one
            where it can be had. The two agree to 4e-7, not to the bit, so all workers must have
            the same: state that another kernel computed is treated as that of another model.
        shards: The keys are hashed into so many shards, whose keys are stepped together: for many
            keys or many records. None: each key alone; Arrow batches have 16 then. It belongs to
            a running job: with another number its states are not found, which is an error.
        models: Paths of further weights files, as they come; the last by name counts.
        states: Hidden states to start from, from `ImportStates`; a key that has one already
            keeps it.

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
    ):
        super().__init__()
        self._weights = _path("weights", weights)
        check_choice("emit", emit, ("every", "last"))
        check_choice("timestamps", timestamps, ("due", "event"))
        check_choice("on_model_change", on_model_change, MODEL_CHANGES)
        check_choice("kernel", kernel, KERNELS)
        if watch is not None:
            check_number("watch, in seconds,", watch, below=MAX_SECONDS)
        check_whole("replay", replay, least=0)
        if (on_model_change == "replay") != (replay > 0):
            raise ConfigurationError(
                "on_model_change='replay' and replay=W, how many inputs are kept for it, go "
                f"together, got on_model_change={on_model_change!r} and replay={replay!r}"
            )
        self._order = _order(order, wait, grid)
        self._timestamps = timestamps
        self._policy = Policy(
            emit,
            _micros("idle_after", idle_after),
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
                "be stepped before its key's state is here"
            )
        self._states = states

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Check each record, then step its key."""
        windowfn = pcoll.windowing.windowfn
        _not_merging(windowfn, "Predict")
        for name, beside in (("states", self._states), ("models", self._models)):
            if beside is not None and not isinstance(windowfn, GlobalWindows):
                raise ConfigurationError(
                    f"{name} are those of the global window, the records are in {windowfn}"
                )
        loader = ModelLoader(self._weights, self._watch, self._kernel)
        kind = batch_type(pcoll)
        shards = self._shards_for(kind)
        checked = pcoll | "Check" >> beam.ParDo(_pack(loader, kind, shards)).with_output_types(
            tuple[str, bytes], invalid=InvalidRecord
        ).with_outputs(INVALID, main="checked")
        records = checked.checked
        states = self._states
        if states is not None:
            if shards is not None:
                states = states | "ToShards" >> beam.Map(to_shard, shards).with_output_types(
                    tuple[str, bytes]
                )
            records = (records, states) | "WithStates" >> beam.Flatten()
        models = {}
        if self._models is not None:
            # Beam 2.77 may take the coder of the keys from the side input: it must have keys too.
            paths = self._models | "ModelPaths" >> beam.Map(
                lambda path: ("", path)
            ).with_output_types(tuple[str, str])
            models["models"] = beam.pvalue.AsList(paths)
        step = beam.ParDo(self._step(loader, kind, shards), **models)
        stepped = records | "Step" >> step.with_output_types(
            kind or Prediction,
            late=LateRecord,
            invalid=InvalidRecord,
            ended=EndedSequence,
            gaps=SequenceGap,
        ).with_outputs(LATE, INVALID, ENDED, GAPS, main="predictions")
        invalid = (checked.invalid, stepped.invalid) | "Invalid" >> beam.Flatten()
        return PredictOutputs(
            stepped.predictions, stepped.late, invalid, stepped.ended, stepped.gaps
        )

    def _shards_for(self, kind: type | None) -> int | None:
        """How many shards there are; None for none: each key alone."""
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
                "Predict steps Arrow batches in %d shards, since shards= was not given: so many "
                "workers at the most share the keys. A job that is updated keeps its number",
                SHARDS,
            )
        return self._shards or SHARDS

    def _step(self, loader: ModelLoader, kind: type | None, shards: int | None) -> beam.DoFn:
        """What steps the keys, each alone or those of a shard together."""
        steps = PredictSteps(loader, self._policy)
        order, idle_after = self._order, self._policy.idle_after
        at_event_time = self._timestamps == "event"
        if shards is None:
            return StepKeys(steps, order, idle_after, at_event_time=at_event_time)
        emission = (
            EmitRows() if kind is None else EmitBatches(kind, loader, in_turn=order.by != "arrival")
        )
        return StepShards(steps, order, idle_after, shards, emission, at_event_time=at_event_time)

    def display_data(self) -> dict[str, Any]:
        """What the monitoring page of a runner shows; of the model, if its file is here."""
        model: dict[str, Any] = {}
        if FileSystems.get_scheme(self._weights) is None and Path(self._weights).is_file():
            with contextlib.suppress(WeightsError):  # the worker says what is wrong with it
                found = read_model(self._weights)
                sizes = ", ".join(map(str, found.network.sizes))
                model = {"model": found.digest, "cell": found.network.cell, "hidden": sizes}
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
        """The same in the graph, where every runner and tool can read it."""
        shown = {f"beam_rnn.{name}": str(value) for name, value in self.display_data().items()}
        return {**super().annotations(), **shown}


class ExportStates(beam.PTransform):
    """Writes the hidden states that keys ended with to Parquet files; gives their names.

    From the `.ended` of a `Predict(with_state=True)` over a history, a stream can start where the
    history ends: `Predict(states=p | ImportStates(...))`. A key whose last sequence was ended by a
    mark has no state to go on from, and no row.

    Args:
        prefix: What the names of the files begin with, on any filesystem that Beam knows.
    """

    def __init__(self, prefix: str | os.PathLike[str]):
        super().__init__()
        self._prefix = _path("prefix", prefix)

    def expand(self, pcoll: PCollection[EndedSequence]) -> Any:
        """The last sequence of each key, as rows."""
        return (
            pcoll
            | "Key" >> beam.Map(lambda ended: (ended.key, ended))
            | "Last" >> beam.CombinePerKey(LastOfKey())
            | "Open" >> beam.Filter(lambda pair: pair[1].reason in OPEN)
            | "Row" >> beam.Map(lambda pair: to_row(pair[1]))
            | "Write" >> beam.io.WriteToParquet(self._prefix, SCHEMA, file_name_suffix=".parquet")
        )


class ImportStates(beam.PTransform):
    """Reads hidden states that `ExportStates` wrote, for `Predict(states=...)`.

    Args:
        pattern: A file or a pattern of files.
    """

    def __init__(self, pattern: str | os.PathLike[str]):
        super().__init__()
        self._pattern = _path("pattern", pattern)

    def expand(self, pbegin: Any) -> PCollection[tuple[str, bytes]]:
        """Read rows; each is a key and its state."""
        rows = pbegin | "Read" >> beam.io.ReadFromParquet(self._pattern)
        return rows | "State" >> beam.Map(from_row).with_output_types(tuple[str, bytes])


def _pack(loader: ModelLoader, kind: type | None, shards: int | None) -> beam.DoFn:
    """What reads and checks records: rows or Arrow batches, for keys or for shards."""
    if shards is None:
        return PackRecords(loader.reader)
    if kind is None:
        return PackShards(loader.reader, shards)
    return PackBatches(partial(reader_of, loader), shards)


def _check_type(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise ConfigurationError(
            f"{name} must be a {kind.__name__}, got {value!r} ({type(value).__name__})"
        )


def _order(order: str, wait: float, grid: float) -> Order:
    check_choice("order", order, ORDERS)
    check_number("wait, in seconds,", wait, below=MAX_SECONDS)
    check_number("grid, in seconds,", grid, least=1e-3, below=MAX_SECONDS)
    if round(grid * 1e3) != round(grid * 1e3, 6):
        raise ConfigurationError(
            f"grid must be a whole number of milliseconds, in seconds, got {grid!r}"
        )
    return Order(order, round(wait * 1e6), round(grid * 1e3) * 1000)


def _not_merging(windowfn: Any, name: str) -> None:
    """That state can be kept in a window.

    Raises:
        ConfigurationError: The window merges with others.
    """
    if not isinstance(windowfn, NonMergingWindowFn):
        raise ConfigurationError(
            f"{name} cannot carry a state across {windowfn}: state does not follow windows that "
            "merge. Use fixed, sliding or global windows here, and cut sessions with Sequences"
        )


def _micros(name: str, seconds: float | None) -> int | None:
    if seconds is None:
        return None
    check_number(f"{name}, in seconds,", seconds, below=MAX_SECONDS)
    return round(seconds * 1e6)


def _path(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ConfigurationError(f"{name} must be the path of a file, got {value!r}")
    path = str(os.fspath(value))
    # Beam 2.77 finds nothing by a pattern without a folder.
    return f"./{path}" if any(c in path for c in "*?[") and "/" not in path else path
