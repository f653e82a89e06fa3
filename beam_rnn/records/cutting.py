"""Cuts the records of a key into sequences."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.external_sort import sorted_on_disk
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Part, Sequence
from beam_rnn.records.record_format import decode_records, record_marks, record_time, without_texts


def cut(
    key: str,
    records: Iterable[bytes],
    columns: Columns,
    length: int | None = None,
    stride: int | None = None,
    fraction: float = 1.0,
    idle_after: int | None = None,
) -> list[Sequence]:
    """Return the sequences of one key, from its records in any order.

    Records are sorted by time, sequence number and value; equal ones count once. The target
    of each step is that of the record `horizon` later, so the last `horizon` records (with several
    horizons, the longest counts) have no step of their own.

    Args:
        key: The key.
        records: Its records, as `RecordReader(columns, targets=True)` gives them.
        columns: What they hold.
        length: Steps in a sequence; None for all in one. The last one may be shorter.
        stride: Steps from the start of one sequence to the start of the next; None for
            `length`.
        fraction: Take this first part of the records, in time.
        idle_after: A sequence ends if the next record is more than this number of microseconds
            later; None for no such limit. It ends at the marks of the columns too.

    Returns:
        The sequences, in order; none if there are at most `horizon` records.
    """
    ordered = sorted(set(records))
    ordered = ordered[: int(len(ordered) * fraction)]
    sequences: list[Sequence] = []
    piece: list[bytes] = []
    for begins, data in _begins(ordered, idle_after):
        if begins and piece:
            sequences += cut_ordered(key, piece, columns, length, stride)
            piece = []
        piece.append(data)
    return sequences + cut_ordered(key, piece, columns, length, stride)


def cut_in_parts(
    key: str,
    records: Iterable[bytes],
    columns: Columns,
    parts_of: int,
    fraction: float = 1.0,
    idle_after: int | None = None,
    window: int = 0,
) -> Iterator[Sequence]:
    """Yield whole sequences as `cut` does, but in parts, of which one is in memory at a time.

    Args:
        key: The key.
        records: Its records, as for `cut`.
        columns: What they hold.
        parts_of: Steps in a part; the last one may be shorter.
        fraction: Take this first part of the records, in time.
        idle_after: As for `cut`.
        window: The end of the Beam window: sequences with the same start differ by it.
    """
    furthest = columns.horizons[-1]
    sequence = number = 0
    kept: list[bytes] = []  # records that are in no part yet

    def part(records: list[bytes]) -> Iterator[Sequence]:
        for steps in cut_ordered(key, records, columns, None, None):
            yield steps._replace(part=Part(sequence, number))

    with sorted_on_disk(records) as (ordered, count):
        for begins, data in _begins(islice(ordered, int(count * fraction)), idle_after):
            if begins:
                yield from part(kept)
                kept, number = [], 0
                first = hashlib.sha256(b"%s %d %s" % (key.encode(), window, data)).digest()
                sequence = int.from_bytes(first[:8], "little")
            kept.append(data)
            if len(kept) == parts_of + furthest:
                yield from part(kept)
                kept = kept[parts_of:]
                number += 1
        yield from part(kept)


def _begins(ordered: Iterable[bytes], idle_after: int | None) -> Iterator[tuple[bool, bytes]]:
    """Yield each record, and whether a sequence begins with it."""
    reached = None  # the time of the record before, if its sequence goes on
    for data in ordered:
        time = record_time(data)
        starts, ends = record_marks(data)
        idle = reached is not None and idle_after is not None and time - reached > idle_after
        yield reached is None or starts or idle, data
        reached = None if ends else time


def last_sequence(records: Iterable[bytes]) -> list[bytes]:
    """Return the records of a key's last sequence, sorted and each once, from all in any order."""
    last: list[bytes] = []
    for begins, data in _begins(sorted(set(records)), None):
        if begins:
            last = []
        last.append(data)
    return last


def cut_ordered(
    key: str, ordered: list[bytes], columns: Columns, length: int | None, stride: int | None
) -> list[Sequence]:
    """Return the sequences of records that are sorted and not separated by ends."""
    if len(ordered) <= columns.horizons[-1]:
        return []
    symbols: tuple[tuple[str, ...], ...] = ()
    if not columns.has_vocabularies:
        apart = [without_texts(data) for data in ordered]
        ordered = [record for record, _ in apart]
        symbols = tuple(zip(*(texts for _, texts in apart), strict=True))
    times, *_, numbers = decode_records(ordered)
    return sequences_of(key, times, numbers, columns, length, stride, symbols)


def sequences_of(
    key: str,
    times: Array,
    numbers: Array,
    columns: Columns,
    length: int | None = None,
    stride: int | None = None,
    symbols: tuple[tuple[str, ...], ...] = (),
) -> list[Sequence]:
    """Return the sequences of consecutive records of a key.

    Args:
        key: The key.
        times: (records,), their event times.
        numbers: (records, numbers), their inputs, targets and weights.
        columns: What they hold.
        length: Steps in a sequence, as for `cut`.
        stride: As for `cut`.
        symbols: The texts of each field of symbols, if its vocabulary is not known.
    """
    furthest = columns.horizons[-1]
    steps = len(times) - furthest
    if steps < 1:
        return []
    ends = np.cumsum([columns.number_size, columns.target_size])
    inputs, of_records, weight = np.split(numbers, ends, axis=1)
    targets, weights = (
        np.concatenate([values[h : steps + h] for h in columns.horizons], 1)
        for values in (of_records, weight)
    )
    if columns.weight is None:
        weights = np.ones((steps, len(columns.horizons)))
    weighted = columns.weight is not None or columns.carried_size > 0
    if columns.carried_size:  # a horizon with a missing target has the weight 0
        each = targets.reshape(steps, len(columns.horizons), -1)
        weights = weights * ~np.isnan(each).any(2)
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
                weights[start:stop] if weighted else None,
                symbols=tuple(texts[start:stop] for texts in symbols),
            )
        )
        if stop == steps:
            break
    return sequences
