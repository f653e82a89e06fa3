"""Records that hold a pair of sequences, read and checked."""

from typing import Any

import numpy as np

from beam_rnn.core.errors import RecordError
from beam_rnn.data.pair_columns import Pair, PairColumns
from beam_rnn.records.field_values import field, key_text, symbol
from beam_rnn.records.record_reader import dead_letter
from beam_rnn.records.results import InvalidRecord


class PairReader:
    """Reads records by their columns.

        >>> reader = PairReader(PairColumns(key="id", source="a", target="b"))
        >>> reader.read({"id": 7, "a": "ab", "b": ["x", "yz"]})[1:]
        ('7', ('a', 'b'), ('x', 'yz'))

    Args:
        columns: Which fields mean what.
        target: Whether records must have the target, as training needs.
    """

    def __init__(self, columns: PairColumns, *, target: bool = True):
        self._columns = columns
        self._target = target
        self._known = frozenset(columns.vocabularies[1])

    def read(self, record: Any, arrived: int | None = None) -> Pair:  # noqa: ARG002
        """Return the pair of a record, checked; a pair has no time.

        Raises:
            RecordError: A field is missing or cannot be used.
        """
        columns = self._columns
        key = key_text(columns.key, field(record, columns.key))
        source = symbols(columns.source, field(record, columns.source))
        if not source:
            raise RecordError(f"{columns.source} must hold at least one symbol", source)
        target: tuple[str, ...] = ()
        if self._target:
            target = symbols(columns.target, field(record, columns.target))
            for each in target:
                if self._known and each not in self._known:
                    raise RecordError(f"{columns.target} has an unknown symbol", each)
        return Pair(columns, key, source, target)

    def drops(self, error: RecordError) -> bool:  # noqa: ARG002  # as `RecordReader.drops`
        """Return False: no record that `read` refused is dropped."""
        return False

    def invalid(self, record: Any, error: RecordError) -> InvalidRecord:
        """Return the dead letter of a record that `read` refused."""
        return dead_letter(self._columns.key, record, error)


def symbols(name: str, value: Any) -> tuple[str, ...]:
    """Return the symbols of a sequence: the characters of a text, or the items of a list."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RecordError(f"{name} must be valid Unicode", value) from error
        return tuple(value)
    if not isinstance(value, (list, tuple, np.ndarray)) or np.ndim(value) > 1:
        raise RecordError(f"{name} must be a text or a list of symbols", value)
    items = value.tolist() if isinstance(value, np.ndarray) else value
    return tuple(symbol(f"{name}[{i}]", item) for i, item in enumerate(items))
