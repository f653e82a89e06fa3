"""Records of a key, in any Beam window, into sequences."""

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from beam_rnn.batches import Sequence
from beam_rnn.columns import Columns
from beam_rnn.state import decode_record, decode_records


def cut(
    key: str,
    records: Iterable[bytes],
    columns: Columns,
    length: int | None = None,
    stride: int | None = None,
    fraction: float = 1.0,
    idle_after: int | None = None,
) -> list[Sequence]:
    """The sequences of one key, from its records in any order.

    Records are sorted by time, sequence number and value; equal ones count once. The target
    of each step is that of the record `horizon` later, so the last `horizon` records (of several
    horizons, the longest) have no step of their own.

    Args:
        key: The key.
        records: Its records, as `RecordReader(columns, targets=True)` gives them.
        columns: What they hold.
        length: Steps a sequence; None for all in one. The last one may be shorter.
        stride: Steps from the start of one sequence to the start of the next; None for
            `length`.
        fraction: Take this first part of the records, in time.
        idle_after: A sequence ends where the next record is more than so many microseconds
            later; None for nowhere. It ends at the marks of the columns too.

    Returns:
        The sequences, in order; none if there are not more than `horizon` records.
    """
    ordered = sorted(set(records))
    ordered = ordered[: int(len(ordered) * fraction)]
    sequences: list[Sequence] = []
    for piece in _pieces(ordered, idle_after):
        sequences += cut_ordered(key, piece, columns, length, stride)
    return sequences


def _pieces(ordered: list[bytes], idle_after: int | None) -> Iterator[list[bytes]]:
    """Records between which no sequence ends."""
    piece: list[bytes] = []
    reached = 0
    for data in ordered:
        time, _, starts, ends, _ = decode_record(data)
        idle = idle_after is not None and time - reached > idle_after
        if piece and (starts or idle):
            yield piece
            piece = []
        piece.append(data)
        reached = time
        if ends:
            yield piece
            piece = []
    if piece:
        yield piece


def cut_ordered(
    key: str, ordered: list[bytes], columns: Columns, length: int | None, stride: int | None
) -> list[Sequence]:
    """The sequences of records that are in order, and belong together."""
    furthest = columns.horizons[-1]
    steps = len(ordered) - furthest
    if steps < 1:
        return []
    times, *_, numbers = decode_records(ordered)
    ends = np.cumsum([len(columns.inputs), columns.target_size])
    inputs, of_records, weight = np.split(numbers, ends, axis=1)
    targets, weights = (
        np.concatenate([values[h : steps + h] for h in columns.horizons], 1)
        for values in (of_records, weight)
    )
    length = min(length or steps, steps)
    sequences = []
    for start in range(0, steps, stride or length):
        stop = min(start + length, steps)
        sequences.append(
            Sequence(
                columns,
                key,
                times[start:stop],
                inputs[start:stop],
                targets[start:stop],
                int(times[stop - 1 + furthest]),
                weights[start:stop] if columns.weight is not None else None,
            )
        )
        if stop == steps:
            break
    return sequences


class CutSequences(beam.DoFn):
    """`cut` for each key; counts those with too few records for a step."""

    def __init__(
        self,
        columns: Columns,
        length: int | None,
        stride: int | None,
        fraction: float,
        idle_after: int | None,
    ):
        self._arguments = columns, length, stride, fraction, idle_after
        self._too_short = Metrics.counter("beam_rnn", "keys_too_short")

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[Sequence]:
        """A key and all its records in, its sequences out."""
        key, records = element
        sequences = cut(key, records, *self._arguments)
        if not sequences:
            self._too_short.inc()
        yield from sequences
