"""Training on a table, without a pipeline."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from beam_rnn.core.checks import check_choice, check_whole, micros
from beam_rnn.core.errors import RecordError
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Sequence
from beam_rnn.models.model import Model
from beam_rnn.nn.network import Network
from beam_rnn.records.arrow_batches import to_dicts
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.block_cutting import cut_block
from beam_rnn.records.cutting import cut
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import InvalidRecord
from beam_rnn.records.table_input import as_table, letters_of_rows, raise_first, read_table
from beam_rnn.training.fit import Epoch, fit_sequences
from beam_rnn.training.settings import Training


def fit(
    data: Any,
    columns: Columns,
    network: Network,
    training: Training | None = None,
    *,
    length: int | None = None,
    idle_after: float | None = None,
    invalid: str = "error",
    start: Model | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
) -> Model:
    """Return a model trained on the records of a table, without a pipeline.

    The weights are, bit for bit, those of `Sequences(columns, length, idle_after) |
    Train(network, training)` over the same records.

        >>> from beam_rnn import Columns, Network, Training, fit
        >>> load = {"pump": ["a"] * 40, "at": range(40), "load": [0.0, 1.0] * 20}
        >>> columns = Columns(key="pump", time="at", inputs=["load"])
        >>> model = fit(load, columns, Network("gru", hidden=4), Training(epochs=2))
        >>> model.predict(load).num_rows
        40

    Args:
        data: A table with the Arrow PyCapsule interface (of pyarrow, pandas, polars or DuckDB), a
            dict of columns, or a list of dicts. Its rows may be in any order; if the columns name
            no time, they are in theirs.
        columns: Which columns of the table mean what.
        network: What to train.
        training: How to train; default `Training()`.
        length: Steps in a sequence; None for all records of a key in one.
        idle_after: A sequence ends if the next record is more than this number of seconds later.
        invalid: "error": raise an error for the first record that cannot be used; "skip": leave
            such records out.
        start: A model whose parameters to start from; None for those that the seed gives.
        progress: Called after each epoch.

    Raises:
        RecordError: A record cannot be used.
        ConfigurationError: An argument of a wrong type or value, data that form no table, or
            columns that do not fit the network.
        TrainingError: There is nothing to learn from.
        DivergenceError: The loss became non-finite. Its `model` is the last good one.
    """
    check_choice("invalid", invalid, ("error", "skip"))
    if length is not None:
        check_whole("length", length)
    idle = micros("idle_after", idle_after)
    read = _sequences if columns.has_vocabularies else _sequences_with_texts
    sequences = read(as_table(data), columns, length, idle, skip=invalid == "skip")
    model: Model = fit_sequences(network, sequences, training or Training(), progress, start=start)
    return model


def _sequences(
    table: pa.Table, columns: Columns, length: int | None, idle_after: int | None, *, skip: bool
) -> Iterator[Sequence]:
    """Yield the sequences of a table, read by the column."""
    block, letters = read_table(BatchReader(columns, targets=True), table)
    if not skip:
        raise_first(letters_of_rows(letters))
    yield from cut_block(block, columns, length, idle_after=idle_after)


def _sequences_with_texts(
    table: pa.Table, columns: Columns, length: int | None, idle_after: int | None, *, skip: bool
) -> Iterator[Sequence]:
    """Yield the sequences of a table, read row by row: a vocabulary is made of its symbols."""
    reader = RecordReader(columns, targets=True)
    of_keys: dict[str, list[bytes]] = {}
    letters: list[tuple[int, InvalidRecord]] = []
    for row, record in enumerate(to_dicts(table)):
        try:
            key, data = reader.read(record, row)
        except RecordError as error:
            letters.append((row, reader.invalid(record, error)))
        else:
            of_keys.setdefault(key, []).append(data)
    if not skip:
        raise_first(letters_of_rows(letters))
    for key, records in of_keys.items():
        yield from cut(key, records, columns, length, idle_after=idle_after)
