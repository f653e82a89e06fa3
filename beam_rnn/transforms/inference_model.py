"""The model that `RnnModelHandler` loads: the outputs of whole sequences, many at once."""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import RecordError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.engine.stepper import NO_MODEL
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.models.model_checks import check_reads, warm_up
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_format import decode_records
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.streaming.whole_sequences import STEPS_AT_ONCE, outputs_of, usable_steps
from beam_rnn.training.model_files import read_model
from beam_rnn.training.sequence_examples import with_indices


class _Read(NamedTuple):
    """An example that was read and checked.

    Attributes:
        key: Its key.
        model: The model of the key.
        numbers: (steps, numbers), as recorded.
        x: The same, scaled.
        step: (records,), the step of each record.
    """

    key: str
    model: Model
    numbers: Array
    x: Array
    step: Array


class LoadedModel:
    """The models of a weights file, in a process.

    If processes share it, Beam gives them a proxy, which has its methods only.

    Args:
        path: The weights file.
        kernel: As for `Predict`.

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
        """Run one step, so that the kernel is compiled."""
        warm_up(self._models)

    def check(self, example: Any) -> None:
        """Raise if an example cannot be used.

        Raises:
            RecordError: It cannot.
        """
        self._read(ColumnReader(self._columns), example)

    def outputs(self, examples: SequenceOf[Any], emit: str) -> list[tuple[Array, str]]:
        """Return the outputs of each example, and the digest of its model.

        Args:
            examples: Sequences, or lists of records.
            emit: As for `RnnModelHandler`.

        Returns:
            (records, outputs) or (outputs,) for each.

        Raises:
            RecordError: An example cannot be used.
        """
        reader = ColumnReader(self._columns)  # it caches keys, and is not thread-safe
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
        """Return the numbers of a sequence, (steps, numbers)."""
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
        """Return the key, the numbers (steps, numbers), and the step of each record."""
        columns, n = self._columns, len(records)
        if not records:
            raise RecordError("an example must have at least one record", records)
        arrived = np.zeros(n, np.int64)
        if columns.time is None:
            if columns.calendar:
                raise RecordError(
                    "the model takes the time of day from Beam timestamps, which the records of "
                    "a list do not have: make examples with Sequences",
                    records,
                )
            if columns.sequence is None:  # they stand in their order
                arrived = np.arange(n)
        read = reader.read(records, arrived)
        if read.invalid:
            at = read.invalid[0][0]
            RecordReader(columns).read(records[at], int(arrived[at]))
        keys = set(read.keys)
        if len(keys) > 1:
            raise RecordError("an example must have one key", sorted(map(str, keys)))
        ordered = sorted(set(read.data))
        place = {data: i for i, data in enumerate(ordered)}
        decoded = decode_records(ordered)
        if decoded.starts[1:].any() or decoded.ends[:-1].any():
            raise RecordError(
                f"an example must be one sequence, but in key {read.keys[0]!r} another begins "
                f"by {columns.start or columns.end!r}: make an example of each",
                records,
            )
        step = np.array([place[data] for data in read.data])
        return str(read.keys[0]), decoded.numbers, step


def _at_once(places: Iterable[int], steps: SequenceOf[int]) -> Iterator[list[int]]:
    """Yield the examples to run together: about `STEPS_AT_ONCE` steps, or one that is longer."""
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
    """Return the inference for an example."""
    if y is None:
        kept = usable_steps(read.model, read.x)
        left = np.setdiff1d(np.arange(len(read.x)), kept)
        raise _out_of_range(read.key, read.numbers, int(left[0]))
    outputs = read.model.restored(read.key, y)
    last = emit == "last" or read.model.network.output_steps == "last"
    return outputs[-1] if last else outputs[read.step]


def _out_of_range(key: str, numbers: Array, step: int) -> RecordError:
    return RecordError(
        f"step {step + 1} of a sequence of key {key!r} overflows",
        numbers[step].tolist(),
    )
