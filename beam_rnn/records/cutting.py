"""Cuts the records of a key into sequences."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from beam_rnn.core.errors import shown
from beam_rnn.core.external_sort import sorted_on_disk
from beam_rnn.core.text import counted, names
from beam_rnn.data.columns import Columns
from beam_rnn.data.sequences import Part, Sequence
from beam_rnn.records.record_format import decode_records, record_marks, record_time, without_texts

logger = logging.getLogger(__name__)


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
    furthest = columns.horizons[-1]
    steps = len(ordered) - furthest
    if steps < 1:
        return []
    symbols: tuple[tuple[str, ...], ...] = ()
    if not columns.has_vocabularies:
        apart = [without_texts(data) for data in ordered]
        ordered = [record for record, _ in apart]
        symbols = tuple(zip(*(texts for _, texts in apart), strict=True))
    times, *_, numbers = decode_records(ordered)
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


class CutSequences(beam.DoFn):
    """Cuts the records of each key; counts and logs keys with too few records for a step.

    The log has one line for each bundle.
    """

    def __init__(
        self,
        columns: Columns,
        length: int | None,
        stride: int | None,
        fraction: float,
        idle_after: int | None,
        parts_of: int | None = None,
    ):
        self._columns = columns
        self._length, self._stride, self._parts_of = length, stride, parts_of
        self._fraction, self._idle_after = fraction, idle_after
        self._too_short = Metrics.counter("beam_rnn", "keys_too_short")

    def start_bundle(self) -> None:
        """Start with no key that is too short."""
        self._short: list[str] = []

    def process(
        self, element: tuple[str, Iterable[bytes]], window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Sequence]:
        """Yield the sequences of a key from all its records."""
        key, records = element
        rest = self._fraction, self._idle_after
        sequences: Iterable[Sequence]
        if self._parts_of is None:
            sequences = cut(key, records, self._columns, self._length, self._stride, *rest)
        else:
            end = int(window.max_timestamp().micros)
            sequences = cut_in_parts(key, records, self._columns, self._parts_of, *rest, end)
        too_short = True
        for sequence in sequences:
            too_short = False
            yield sequence
        if too_short:
            self._too_short.inc()
            self._short.append(shown(key))

    def finish_bundle(self) -> None:
        """Log the keys that have too few records."""
        if self._short:
            have = "has" if len(self._short) == 1 else "have"
            keys = names(sorted(self._short))
            logger.info("%s %s too few records: %s", counted(len(self._short), "key"), have, keys)
