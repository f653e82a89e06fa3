"""The Arrow rows that the records of a shard came in, kept while one of their records waits.

A payload holds the rows of one block, all with one schema. It is cut down to the rows that still
wait when they are half of it or less, so that a record that waits for long costs its own bytes.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import StateError
from beam_rnn.engine.held import Held, different, grouped
from beam_rnn.records.arrow_batches import from_bytes, picked, to_bytes, together
from beam_rnn.records.arrow_columns import as_python


class Payload(NamedTuple):
    """Some rows of a block.

    Attributes:
        data: The rows, as `to_bytes` gives them.
        rows: Which rows of the block these are, rising.
    """

    data: bytes
    rows: Array

    def table(self) -> pa.Table:
        """The rows."""
        return from_bytes(self.data)

    def places(self, rows: Array) -> Array:
        """Where these rows of the block are in `table`."""
        return np.searchsorted(self.rows, rows)

    def cut(self, rows: Array) -> "Payload":
        """These rows of the block alone, given rising."""
        return Payload(to_bytes(picked(self.table(), self.places(rows))), rows)


class Payloads:
    """The payloads of a shard, by `Held.piece`."""

    def __init__(self) -> None:
        self._payloads: dict[int, Payload] = {}

    def __len__(self) -> int:
        return len(self._payloads)

    def __iter__(self) -> Iterator[Payload]:
        return iter(self._payloads.values())

    def add(self, piece: int, data: bytes) -> None:
        """The payload of a block, whose records may be some of its rows."""
        rows = from_bytes(data).num_rows
        self._payloads[piece] = Payload(data, np.arange(rows, dtype=np.int32))

    def restore(self, piece: int, data: bytes, rows: Array) -> None:
        """A payload that was stored, of which the records need these rows.

        Raises:
            StateError: It cannot be read, or has fewer rows.
        """
        try:
            table = from_bytes(data)
            table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StateError(f"the stored Arrow rows of a block are broken: {error}") from error
        if rows.min() < 0 or rows.max() >= table.num_rows:
            raise StateError(
                f"a stored block of records has {table.num_rows} Arrow rows, and records in the "
                f"rows {rows.min()} to {rows.max()}"
            )
        self.add(piece, data)

    def of(self, held: Held) -> dict[int, Payload]:
        """The payloads in which records came."""
        if not self._payloads:
            return {}
        pieces = different(held.piece).tolist()
        return {piece: self._payloads[piece] for piece in pieces if piece in self._payloads}

    def too_large(self, pieces: Iterable[int], waiting: Mapping[int, int]) -> list[int]:
        """Those of these payloads of which at least half of the rows are no longer needed.

        Args:
            pieces: Which payloads.
            waiting: The number of buffered records of each.
        """
        known = [(piece, self._payloads.get(piece)) for piece in pieces] if self._payloads else []
        return [
            piece
            for piece, payload in known
            if payload is not None and 2 * waiting.get(piece, 0) <= len(payload.rows)
        ]

    def keep(self, piece: int, rows: Array) -> None:
        """Cut a payload down to the rows that are still needed."""
        if len(rows):
            self._payloads[piece] = self._payloads[piece].cut(np.sort(rows))
        else:
            del self._payloads[piece]

    def joined(self, held: Held) -> Iterator[tuple[Array, bytes, Array]]:
        """The rows of records, those of one schema together.

        Gives the places of the records, their rows as bytes, and the row of each.
        """
        has_rows = np.isin(held.piece, list(self._payloads))
        if not has_rows.all():  # they came as rows, before the job was given batches
            places = np.flatnonzero(~has_rows)
            yield places, b"", held.at[places]
        of_rows = np.flatnonzero(has_rows)
        for table, places, at in rows_by_schema(self.of(held), held.pick(of_rows)):
            if len(at) < table.num_rows:
                yield (
                    of_rows[places],
                    to_bytes(picked(table, at)),
                    np.arange(len(at), dtype=np.int32),
                )
            else:
                yield of_rows[places], to_bytes(table), at.astype(np.int32)

    def smallest(self, held: Held, same: Array) -> Held:
        """Put the one whose whole row is the smallest first among equal records.

        Equal records may differ in columns that no model reads. Which of them stays must not
        depend on how they arrived.

        Args:
            held: Records in order.
            same: Whether each equals the one before it.
        """
        if not self._payloads:
            return held
        payloads = self.of(held)
        if len(payloads) < len(different(held.piece)):
            return held
        again = np.flatnonzero(same)
        differ = again[_differing(payloads, held, again - 1, again)]
        if not len(differ):
            return held
        piece, at = held.piece.copy(), held.at.copy()
        bounds = np.append(np.flatnonzero(~same), len(same))
        groups = np.unique(np.searchsorted(bounds, differ, "right"))
        spans = list(zip(bounds[groups - 1].tolist(), bounds[groups].tolist(), strict=True))
        places = np.concatenate([np.arange(start, end) for start, end in spans])
        texts = _row_texts(payloads, held, places)
        for start, end in spans:
            best = min(range(start, end), key=texts.__getitem__)
            piece[start], at[start] = held.piece[best], held.at[best]
        return held._replace(piece=piece, at=at)


def rows_by_schema(
    payloads: dict[int, Payload], held: Held
) -> Iterator[tuple[pa.Table, Array, Array]]:
    """The rows of records, those of one schema in one table.

    Gives a table, the places of the records that came in it, rising, and the row of each.

    Raises:
        StateError: Some records came without such rows.
    """
    groups: list[list[tuple[Array, pa.Table, Array]]] = []
    for piece, places in grouped(held.piece):
        payload = payloads.get(piece)
        if payload is None:
            raise StateError(
                "buffered records came as rows, but this job takes Arrow batches: "
                "continue with rows, or start the job without its old state"
            )
        table = payload.table()
        alike = (group for group in groups if group[0][1].schema.equals(table.schema))
        group = next(alike, None)
        if group is None:
            groups.append(group := [])
        group.append((places, table, payload.places(held.at[places])))
    for group in groups:
        ends = np.cumsum([table.num_rows for _, table, _ in group]).tolist()
        places = np.concatenate([here for here, _, _ in group])
        at = np.concatenate(
            [
                rows + (end - table.num_rows)
                for end, (_, table, rows) in zip(ends, group, strict=True)
            ]
        )
        order = np.argsort(places)
        places, at = places[order], at[order]
        start = 0
        for table in together([table for _, table, _ in group]):
            here = (at >= start) & (at < start + table.num_rows)
            if here.any():
                yield table, places[here], at[here] - start
            start += table.num_rows


def _differing(payloads: dict[int, Payload], held: Held, one: Array, other: Array) -> Array:
    """Which pairs of records, by their places, came in rows that are not the same."""
    places = np.concatenate([one, other])
    tables = list(rows_by_schema(payloads, held.pick(places)))
    if len(tables) > 1:
        return np.arange(len(one))
    ((table, _, at),) = tables
    return np.array(_unequal(table.take(at[: len(one)]), table.take(at[len(one) :])), np.int64)


def _unequal(one: pa.Table, other: pa.Table, start: int = 0) -> list[int]:
    """The rows in which two tables of one schema differ; a NaN differs from itself."""
    if one.equals(other):
        return []
    if one.num_rows == 1:
        return [start]
    half = one.num_rows // 2
    left = _unequal(one.slice(0, half), other.slice(0, half), start)
    return left + _unequal(one.slice(half), other.slice(half), start + half)


def _row_texts(
    payloads: dict[int, Payload], held: Held, places: Array
) -> dict[int, tuple[Any, ...]]:
    """All that is in the rows of records, by their places, as something that has an order."""
    texts: dict[int, tuple[Any, ...]] = {}
    for piece, here in grouped(held.piece[places]):
        payload, of_piece = payloads[piece], places[here]
        table = payload.table().take(pa.array(payload.places(held.at[of_piece])))
        schema = table.schema.serialize().to_pybytes()
        columns = [
            [(name, repr(as_python(value))) for value in column]
            for name, column in zip(table.column_names, table.columns, strict=True)
        ]
        for place, row in zip(of_piece.tolist(), zip(*columns, strict=True), strict=True):
            texts[place] = sorted(row), schema
    return texts
