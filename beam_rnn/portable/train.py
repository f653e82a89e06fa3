"""Trains a model on records, or on sequences as rows, and writes a weights file."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.coders import registry

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data import sequences as batches
from beam_rnn.data.columns import Columns
from beam_rnn.models.model import Model
from beam_rnn.nn.network import Network
from beam_rnn.portable.arguments import OPTIMIZERS, by_name, chosen, made
from beam_rnn.portable.error_rows import output_name, with_refused
from beam_rnn.portable.schemas import check_fields, fields_of
from beam_rnn.portable.sequences import SequenceRow, sequence_of
from beam_rnn.training.model_files import read_any_model
from beam_rnn.training.settings import Training
from beam_rnn.transforms.models import WriteModel
from beam_rnn.transforms.sequences import Sequences
from beam_rnn.transforms.train import Train
from beam_rnn.transforms.write_dofns import losses_of


class WrittenModel(NamedTuple):
    """A weights file that was written.

    Attributes:
        path: Its path.
        model: The digest of the model, or of all models of a file with one for each key.
        epochs: The number of epochs; None for a file with a model for each key.
        loss: The mean loss over the last epoch, on scaled targets; None for such a file.
        validation_loss: The loss on the validation set, if it was computed after that epoch.
    """

    path: str
    model: str
    epochs: Optional[int]
    loss: Optional[float]
    validation_loss: Optional[float]


registry.register_row(WrittenModel)


def written_model(path: str) -> WrittenModel:
    """Return a weights file as a row."""
    model = read_any_model(path)
    losses = list(losses_of(model)) if isinstance(model, Model) else []
    if not losses:
        return WrittenModel(path, model.digest, None, None, None)
    last = losses[-1]
    return WrittenModel(path, model.digest, last.epoch, last.loss, last.validation_loss)


class RnnTrain(beam.PTransform):
    """Trains a model on records by back-propagation through time, and writes a weights file.

    With `columns` the elements are records; without, the rows of `RnnSequences`. The output is a
    row for each file: path, model, epochs, loss, validation_loss.

        >>> RnnTrain("w.arrow", columns={"key": "city", "inputs": ["load"]}).label
        'RnnTrain'

    Args:
        output: The weights file to write, on any filesystem that Beam knows. For records in windows
            it contains "{end}", which is replaced by the end of each window.
        columns: Which fields of a record mean what: a mapping with the names of
            `beam_rnn.Columns`, such as {key: city, time: at, inputs: [load], horizon: 1}.
        network: What to train: a mapping with the names of `beam_rnn.Network`, such as {cell: gru,
            hidden: 32, layers: 2}.
        training: How to train: a mapping with the names of `beam_rnn.Training`, such as {epochs:
            20, bptt: {steps: 32}, optimizer: {type: adam, learning_rate: 0.003}}.
        length: Steps in a sequence; all of a key's records in one if left out.
        stride: Steps from the start of one sequence to the start of the next; `length` if left
            out.
        fraction: Take this first part of each key's records, in time: 0.6 leaves the last 40 %
            for evaluation.
        idle_after: A sequence ends if the next record is more than this number of seconds later.
        parts_of: Give each whole sequence in parts of this number of steps, for sequences longer
            than memory.
        per_key: Train a model for each key, all in one file.
        fallback: With per_key, also train a model on all keys, for keys without one of their own.
        shards: The number of workers that can train at the same time.
        rounds: The number of rounds; as many as the epochs of `training` need if left out.
        local_epochs: How often a shard passes over its sequences in a round.
        outer: The optimizer that takes the averaged change of a round as a gradient, such as {type:
            sgd, learning_rate: 1.0, momentum: 0.5, nesterov: true}.
        checkpoints: The prefix of the checkpoint files, one after each round.
        resume: A checkpoint to resume from, or a pattern of which the last by name counts.
        start: A weights file whose parameters to start from, or such a pattern.
        error_handling: {output: NAME} gives records that cannot be used as a further output;
            without it they stop the pipeline. For records only.

    Raises:
        ConfigurationError: A name that does not exist, a value outside its range, or arguments that
            do not go together; at construction of the pipeline, rows without columns that are
            no sequences, or a field that is not there.
    """

    @by_name
    def __init__(
        self,
        output: str,
        columns: Optional[Mapping[str, Any]] = None,
        network: Optional[Mapping[str, Any]] = None,
        training: Optional[Mapping[str, Any]] = None,
        length: Optional[int] = None,
        stride: Optional[int] = None,
        fraction: float = 1.0,
        idle_after: Optional[float] = None,
        parts_of: Optional[int] = None,
        per_key: bool = False,
        fallback: bool = True,
        shards: int = 1,
        rounds: Optional[int] = None,
        local_epochs: int = 1,
        outer: Optional[Mapping[str, Any]] = None,
        checkpoints: Optional[str] = None,
        resume: Optional[str] = None,
        start: Optional[str] = None,
        error_handling: Optional[Mapping[str, Any]] = None,
    ):
        super().__init__()
        self._write = WriteModel(output)
        self._output = output_name(error_handling)
        self._train = Train(
            made(Network, "network", network),
            made(Training, "training", training),
            per_key=per_key,
            fallback=fallback,
            shards=shards,
            rounds=rounds,
            local_epochs=local_epochs,
            outer=None if outer is None else chosen(OPTIMIZERS, "outer", outer),
            checkpoints=checkpoints,
            resume=resume,
            start=start,
        )
        self._columns = None if columns is None else made(Columns, "columns", columns)
        if self._columns is not None:
            self._sequences = Sequences(
                self._columns,
                length,
                stride,
                fraction,
                idle_after=idle_after,
                parts_of=parts_of,
            ).with_exception_handling()
            return
        of_records = {
            "length": (length, None),
            "stride": (stride, None),
            "fraction": (fraction, 1.0),
            "idle_after": (idle_after, None),
            "parts_of": (parts_of, None),
            "error_handling": (error_handling, None),
        }
        for name, (value, default) in of_records.items():
            if value != default:
                raise ConfigurationError(
                    f"{name}: {value} is for records, which need columns; RnnSequences has it too"
                )

    # No return annotation: Beam knows only a PCollection there.
    def expand(self, pcoll: PCollection[Any]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Cut the records, train, and write; give a row for each file."""
        if self._columns is None:
            _check_sequences(pcoll)
            rows = pcoll | "Sequences" >> beam.Map(sequence_of).with_output_types(batches.Sequence)
            return self._written(rows)
        check_fields(pcoll, "RnnTrain", self._columns, targets=True, weight=True)
        sequences, invalid = pcoll | "Sequences" >> self._sequences
        drops = self._columns.missing == "drop"
        return with_refused(self._written(sequences), self._output, invalid, drops=drops)

    def _written(self, sequences: PCollection[batches.Sequence]) -> PCollection[WrittenModel]:
        return (
            sequences
            | "Train" >> self._train
            | "Write" >> self._write
            | "Written" >> beam.Map(written_model).with_output_types(WrittenModel)
        )


def _check_sequences(pcoll: PCollection[Any]) -> None:
    """Raise if the elements are not sequences, and no columns turn them into some."""
    names = fields_of(pcoll) or []
    if not set(SequenceRow._fields) <= set(names):
        raise ConfigurationError(
            "RnnTrain needs columns, which say what the fields of a record mean, or the rows of "
            f"RnnSequences; got elements with the fields {names}"
        )
