"""Records of a key, in any Beam window, into sequences."""

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from beam_rnn.batches import Sequence
from beam_rnn.columns import Columns
from beam_rnn.state import decode_records


def cut(
    key: str,
    records: Iterable[bytes],
    columns: Columns,
    length: int | None = None,
    stride: int | None = None,
    fraction: float = 1.0,
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

    Returns:
        The sequences, in order; none if there are not more than `horizon` records.
    """
    ordered = sorted(set(records))
    ordered = ordered[: int(len(ordered) * fraction)]
    furthest = columns.horizons[-1]
    steps = len(ordered) - furthest
    if steps < 1:
        return []
    times, numbers = decode_records(ordered)
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

    def __init__(self, columns: Columns, length: int | None, stride: int | None, fraction: float):
        self._arguments = columns, length, stride, fraction
        self._too_short = Metrics.counter("beam_rnn", "keys_too_short")

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[Sequence]:
        """A key and all its records in, its sequences out."""
        key, records = element
        sequences = cut(key, records, *self._arguments)
        if not sequences:
            self._too_short.inc()
        yield from sequences
