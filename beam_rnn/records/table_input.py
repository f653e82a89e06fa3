"""Tables of other libraries as Arrow tables, and the records in them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.core.text import counted
from beam_rnn.records.arrow_reader import BatchReader
from beam_rnn.records.block_format import Block
from beam_rnn.records.results import InvalidRecord


def as_table(data: Any) -> pa.Table:
    """Return data as an Arrow table, without a copy where that is possible.

        >>> import numpy as np
        >>> as_table({"id": ["a", "b"], "x": np.array([0.5, 1.5])}).num_rows
        2

    Args:
        data: An object with the Arrow PyCapsule interface, as tables of pyarrow, pandas, polars and
            DuckDB have it; a dict of columns; or a list of dicts, one for each record.

    Raises:
        ConfigurationError: It is none of these, or its columns do not form a table.
    """
    try:
        if isinstance(data, pa.Table):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        if isinstance(data, list):
            return _of_rows(data)
        if isinstance(data, Mapping) or hasattr(data, "__arrow_c_stream__"):
            return pa.table(data)
    except ConfigurationError:
        raise
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"the data do not form a table: {error}") from error
    raise ConfigurationError(
        "data must be a table with the Arrow PyCapsule interface (of pyarrow, pandas, polars or "
        f"DuckDB), a dict of columns or a list of dicts, got {type(data).__name__}"
    )


def _of_rows(rows: list[Mapping[str, Any]]) -> pa.Table:
    """Return rows as a table of all fields that a row has."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        try:
            columns[name] = pa.array([row.get(name) for row in rows])
        except pa.ArrowException as error:
            raise ConfigurationError(
                f"the values of {name!r} do not form a column: {error}; give them one type"
            ) from error
    return pa.table(columns)


def read_table(
    reader: BatchReader, table: pa.Table
) -> tuple[Block, list[tuple[int, InvalidRecord]]]:
    """Return the records of a table, and the dead letters with their rows.

    If the columns name no time, records are in the order of the table.
    """
    return reader.read(table, np.arange(table.num_rows))


def letters_of_rows(
    letters: Iterable[tuple[int, InvalidRecord]],
) -> Iterator[InvalidRecord]:
    """Yield dead letters whose reason names their row."""
    for row, letter in letters:
        yield letter._replace(reason=f"row {row}: {letter.reason}")


def raise_first(results: Iterable[Any]) -> None:
    """Raise the error of the first dead letter among results, if there is one.

    Raises:
        RecordError: There is one; the text says how many there are.
    """
    letters = [result for result in results if type(result) is InvalidRecord]
    if not letters:
        return
    first, others = letters[0], len(letters) - 1
    more = f"; {counted(others, 'more record')} cannot be used" if others else ""
    raise RecordError(first.reason, _Shown(first.value + more))


class _Shown(str):
    """The text of a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
