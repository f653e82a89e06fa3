"""A model inside Beam's own RunInference, where each example is a whole sequence."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult
from apache_beam.utils.timestamp import Timestamp

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_choice
from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.engine.stepper import NO_MODEL
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.nn.kernels import KERNELS
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_format import decode_records
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.streaming.model_checks import check_reads, warm_up
from beam_rnn.streaming.model_files import read_model
from beam_rnn.streaming.whole_sequences import STEPS_AT_ONCE, outputs_of, usable_steps
from beam_rnn.training.sequence_examples import with_indices
from beam_rnn.transforms.arguments import path_of


class RnnModelHandler(ModelHandler[Any, PredictionResult, "LoadedModel"]):
    """A weights file as a model of Beam's RunInference, for whole sequences.

    An example is one sequence of one key: a list of its records, as `Predict` takes them, or a
    `beam_rnn.Sequence`, as `Sequences` gives them. The inference is an array with a row of outputs
    for each record of the example, in the targets' own units; or one row, that of the last record,
    with emit="last" and of a network with output_steps="last". It has the bits of `Predict` and
    `PredictSequences`, whatever else is in the batch. The records of a list may come in any order:
    they are sorted by event time, sequence number and value, equal ones count once, and each gets
    the row that is its own. `model_id` is the digest of the model, as in a `Prediction`.

        >>> import tempfile
        >>> from apache_beam.ml.inference.base import RunInference
        >>> from beam_rnn import Columns, Model, Network, weights
        >>> network, columns = Network("gru", hidden=4), Columns(key="id", time="t", inputs=["x"])
        >>> path = tempfile.mkdtemp() + "/weights.arrow"
        >>> weights.save(Model(network, network.initialize(1, 1, seed=0), columns), path)
        >>> examples = [[{"id": "a", "t": t, "x": t / 9} for t in range(n)] for n in (2, 5)]
        >>> with beam.Pipeline(runner="FnApiRunner") as p:
        ...     results = p | beam.Create(examples) | RunInference(RnnModelHandler(path))
        ...     _ = results | beam.Map(lambda result: print(result.inference.shape))
        (2, 1)
        (5, 1)

    An example that cannot be used is an error that names the value. RunInference's
    `.with_exception_handling()` gives the whole batch as a dead letter then; with
    `handler.with_preprocess_fn(handler.checked)` the example alone.

    Args:
        weights: The weights file, on any filesystem that Beam knows: of one model, or of a model
            for each key.
        emit: "every": a row for each record; "last": that of the last one.
        kernel: As for `Predict`.
        min_batch_size: The fewest examples a batch, as Beam's handlers have it.
        max_batch_size: The most examples a batch.
        max_batch_duration_secs: Wait so long, across bundles, for a batch to be full.
        batch_length_fn: The length of an example, by which Beam makes batches of examples that are
            about as long; the number of its records if left out. The keys of a `KeyedModelHandler`
            are part of an example there.
        batch_bucket_boundaries: The lengths at which another batch begins; needs
            max_batch_duration_secs. No batch is padded, and no result depends on it: this is for
            batches of even cost.
        large_model: Share one copy of the model among the processes of a machine.
        model_copies: Share so many.
        env_vars: Environment variables to set before the model is loaded.

    Raises:
        ConfigurationError: A value outside its range, or values that do not go together. Of a
            weights file: on the worker, when it is read.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        emit: str = "every",
        kernel: str = "auto",
        min_batch_size: int | None = None,
        max_batch_size: int | None = None,
        max_batch_duration_secs: int | None = None,
        batch_length_fn: Callable[[Any], int] | None = None,
        batch_bucket_boundaries: SequenceOf[int] | None = None,
        large_model: bool = False,
        model_copies: int | None = None,
        env_vars: Mapping[str, str] | None = None,
    ):
        self._weights = path_of("weights", weights)
        check_choice("emit", emit, ("every", "last"))
        check_choice("kernel", kernel, KERNELS)
        by_length = batch_length_fn is not None or batch_bucket_boundaries is not None
        if by_length and max_batch_duration_secs is None:
            raise ConfigurationError(
                f"batch_bucket_boundaries={batch_bucket_boundaries!r} and a batch_length_fn need "
                "max_batch_duration_secs: without it Beam makes batches within a bundle, and does "
                "not look at lengths"
            )
        super().__init__(
            min_batch_size=min_batch_size,
            max_batch_size=max_batch_size,
            max_batch_duration_secs=max_batch_duration_secs,
            batch_length_fn=(batch_length_fn or steps_of) if by_length else None,
            batch_bucket_boundaries=batch_bucket_boundaries and list(batch_bucket_boundaries),
            large_model=large_model,
            model_copies=model_copies,
            env_vars=dict(env_vars or {}),
        )
        self._emit = emit
        self._kernel = kernel
        self._checks: LoadedModel | None = None

    def load_model(self) -> "LoadedModel":
        """The model of the file; its kernel is compiled."""
        model = LoadedModel(self._weights, self._kernel)
        model.warm_up()
        return model

    def run_inference(
        self,
        batch: SequenceOf[Any],
        model: "LoadedModel",
        inference_args: Mapping[str, Any] | None = None,
    ) -> list[PredictionResult]:
        """The outputs of each example of a batch.

        Args:
            batch: The examples.
            model: From `load_model`.
            inference_args: None.

        Raises:
            RecordError: An example cannot be used.
        """
        self.validate_inference_args(inference_args)
        said = model.outputs([_held(example) for example in batch], self._emit)
        return [
            PredictionResult(example, outputs, digest)
            for example, (outputs, digest) in zip(batch, said, strict=True)
        ]

    def checked(self, example: Any) -> Any:
        """An example as it is, if it can be used: made for `with_preprocess_fn`.

        Args:
            example: The example; or a pair of a key and it, behind a `KeyedModelHandler`.

        Raises:
            RecordError: It cannot be used.
        """
        if self._checks is None:
            self._checks = LoadedModel(self._weights, self._kernel)
        self._checks.check(_held(_without_key(example)))
        return example

    def get_num_bytes(self, batch: SequenceOf[Any]) -> int:
        """The size of a batch: of its numbers, where they are arrays; else pickled."""
        arrays = sum(each.inputs.nbytes for each in batch if isinstance(each, Sequence))
        rest = [each for each in batch if not isinstance(each, Sequence)]
        return arrays + (super().get_num_bytes(rest) if rest else 0)

    def get_metrics_namespace(self) -> str:
        """Where RunInference counts: beside all that this library counts."""
        return "beam_rnn"

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        """There are none: all is said when the handler is made.

        Raises:
            ConfigurationError: There are some.
        """
        if inference_args:
            raise ConfigurationError(
                f"RnnModelHandler takes no inference_args, got {dict(inference_args)}: what it can "
                "do otherwise is an argument of RnnModelHandler itself"
            )

    def update_model_path(self, model_path: str | None = None) -> None:
        """From now on load the model of another file; None for the one before."""
        self._weights = model_path or self._weights

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_checks": None}

    def __repr__(self) -> str:
        return f"RnnModelHandler({self._weights!r}, emit={self._emit!r}, kernel={self._kernel!r})"


def steps_of(example: Any) -> int:
    """How many records an example has; it may stand behind a key, as for a `KeyedModelHandler`.

    >>> steps_of([{"x": 1}, {"x": 2}]), steps_of(("key", [{"x": 1}]))
    (2, 1)
    """
    example = _without_key(example)
    return len(example.times) if isinstance(example, Sequence) else sum(1 for _ in example)


def _without_key(example: Any) -> Any:
    pair = isinstance(example, tuple) and not isinstance(example, Sequence) and len(example) == 2
    return example[1] if pair else example


def _held(example: Any) -> Any:
    """An example that can be gone through again, and sent to another process."""
    if isinstance(example, (Sequence, list)):
        return example
    if isinstance(example, _NO_EXAMPLE) or not isinstance(example, Iterable):
        raise RecordError("an example must be a Sequence or a list of records", example)
    return list(example)


_NO_EXAMPLE = (str, bytes, tuple, Mapping, beam.Row, np.ndarray)
"""What can be gone through, and holds no records: a record, or its numbers."""


class _Read(NamedTuple):
    """An example that was read.

    Attributes:
        key: Its key.
        model: That of the key.
        numbers: (steps, numbers), as recorded.
        x: The same, scaled.
        step: (records,), the step that each of its records is.
    """

    key: str
    model: Model
    numbers: Array
    x: Array
    step: Array


class LoadedModel:
    """What a process has of a weights file.

    Where processes share it, Beam gives them a proxy, which knows its methods alone.

    Args:
        path: The weights file.
        kernel: What computes.

    Raises:
        WeightsError: The file cannot be used.
    """

    def __init__(self, path: str, kernel: str):
        models: Models = read_model(path).with_kernel(kernel)
        check_reads(models, path)
        assert models.columns is not None, "a model without columns is refused"
        self._models = models
        self._columns: Columns = models.columns

    def warm_up(self) -> None:
        """One step, so that what is compiled is compiled."""
        warm_up(self._models)

    def check(self, example: Any) -> None:
        """That an example can be read.

        Raises:
            RecordError: It cannot.
        """
        self._read(ColumnReader(self._columns), example)

    def outputs(self, examples: SequenceOf[Any], emit: str) -> list[tuple[Array, str]]:
        """The outputs of each example, and the digest of the model that gave them.

        Args:
            examples: Sequences, or lists of records.
            emit: As for `RnnModelHandler`.

        Returns:
            For each (records, outputs), or (outputs,).

        Raises:
            RecordError: An example cannot be used.
        """
        reader = ColumnReader(self._columns)  # it remembers keys, and is no thread's but this one's
        read = [self._read(reader, example) for example in examples]
        by_model: dict[Model, list[int]] = {}
        for i, one in enumerate(read):
            by_model.setdefault(one.model, []).append(i)
        results: dict[int, tuple[Array, str]] = {}
        for model, places in by_model.items():
            for some in _at_once(places, [len(one.x) for one in read]):
                for i, y in zip(some, outputs_of(model, [read[i].x for i in some]), strict=True):
                    results[i] = _emitted(read[i], y, emit), model.digest
        return [results[i] for i in range(len(read))]

    def _read(self, reader: ColumnReader, example: Any) -> _Read:
        if isinstance(example, Sequence):
            key, numbers = example.key, self._numbers_of(example)
            step = np.arange(len(numbers))
        else:
            key, numbers, step = self._numbers_of_records(reader, example)
        model = self._models.of(key)
        if model is None:
            raise RecordError(NO_MODEL, key)
        with default_arithmetic():
            x = model.scaled(key, numbers)
            beyond = np.isinf(x.astype(np.float32)).any(1)
        if beyond.any():
            raise _out_of_range(key, numbers, int(beyond.argmax()))
        return _Read(key, model, numbers, x, step)

    def _numbers_of(self, sequence: Sequence) -> Array:
        """The numbers of a sequence, (steps, numbers)."""
        columns = self._columns
        known = {name: columns.vocabulary(name) for name in columns.symbols}
        if sequence.columns.with_vocabularies(known).fingerprint != columns.fingerprint:
            raise RecordError(
                f"an example must be read by the columns of the model, {columns}",
                sequence.columns,
            )
        if sequence.part is not None:
            raise RecordError(
                "an example must be a whole sequence, not a part that Sequences(parts_of=) gives",
                sequence.part,
            )
        return with_indices(sequence, columns).inputs

    def _numbers_of_records(
        self, reader: ColumnReader, records: list[Any]
    ) -> tuple[str, Array, Array]:
        """Key, numbers (steps, numbers), and the step that each record is."""
        columns, n = self._columns, len(records)
        if not records:
            raise RecordError("an example must have at least one record", records)
        arrived = np.zeros(n, np.int64)
        if columns.time is None:
            if columns.calendar:
                raise RecordError(
                    "the model sees the time of day of Beam timestamps, which the records of a "
                    "list do not have: make examples by Sequences",
                    records,
                )
            if columns.sequence is None:  # they stand in their order
                arrived = np.arange(n)
        read = reader.read(records, arrived)
        if read.invalid:
            at = read.invalid[0][0]
            RecordReader(columns).read(records[at], Timestamp(micros=int(arrived[at])))
        keys = set(read.keys)
        if len(keys) > 1:
            raise RecordError("an example must have one key", sorted(map(str, keys)))
        ordered = sorted(set(read.data))
        place = {data: i for i, data in enumerate(ordered)}
        decoded = decode_records(ordered)
        if decoded.starts[1:].any() or decoded.ends[:-1].any():
            raise RecordError(
                f"an example must be one sequence, but in key {read.keys[0]!r} another begins by "
                f"{columns.start or columns.end!r}: give each as an example",
                records,
            )
        step = np.array([place[data] for data in read.data])
        return str(read.keys[0]), decoded.numbers, step


def _at_once(places: Iterable[int], steps: SequenceOf[int]) -> Iterator[list[int]]:
    """Examples that are run together: about `STEPS_AT_ONCE` steps, or one that is longer."""
    some: list[int] = []
    total = 0
    for place in places:
        some.append(place)
        total += steps[place]
        if total >= STEPS_AT_ONCE:
            yield some
            some, total = [], 0
    if some:
        yield some


def _emitted(read: _Read, y: Array | None, emit: str) -> Array:
    """What comes of an example."""
    if y is None:
        kept = usable_steps(read.model, read.x)
        left = np.setdiff1d(np.arange(len(read.x)), kept)
        raise _out_of_range(read.key, read.numbers, int(left[0]))
    outputs = read.model.restored(read.key, y)
    last = emit == "last" or read.model.network.output_steps == "last"
    return outputs[-1] if last else outputs[read.step]


def _out_of_range(key: str, numbers: Array, step: int) -> RecordError:
    return RecordError(
        f"step {step + 1} of a sequence of key {key!r} leaves the range of numbers",
        numbers[step].tolist(),
    )
