"""Batched steps: the records of many keys in as few matrix products as possible.

The results have the same bits as those of `beam_rnn.engine.steppers.predict.PredictStepper`, which
steps record by record. The sequences of all keys are packed, longest first. A key whose numbers
overflow is left to the stepper.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.core.packed_sequences import rows_of, running_at
from beam_rnn.data.output_parts import in_order
from beam_rnn.data.scaling import Scaling
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import STATE_TYPE

LONG_AGO = -(2**62)
"""Latest event time of a key without records, in microseconds since 1970."""


class Standing(NamedTuple):
    """The states of keys, one row each.

    Attributes:
        steps: (keys,), the number of steps of the current sequence; 0 if there is none.
        first_time: (keys,), the event time of its first step, in microseconds.
        time: (keys,), the latest event time of the key's records so far; `LONG_AGO` for none.
        sequence: (keys,), the sequence number of the last record.
        values: (keys, state_size) of `STATE_TYPE`.
        outputs: (keys, outputs) float64.
    """

    steps: Array
    first_time: Array
    time: Array
    sequence: Array
    values: Array
    outputs: Array


class Records(NamedTuple):
    """The records of keys: those of the first key in order, then those of the second, ...

    Attributes:
        counts: (keys,), the number of records of each key, at least 1.
        time: (records,), in microseconds since 1970.
        sequence: (records,).
        starts: (records,), whether a sequence begins with it.
        ends: (records,), whether a sequence ends with it.
        inputs: (records, inputs) float64.
    """

    counts: Array
    time: Array
    sequence: Array
    starts: Array
    ends: Array
    inputs: Array


class Ended(NamedTuple):
    """Sequences that ended, one row each.

    Attributes:
        key: (n,), the row of its key.
        at: (n,), the record that ended it: its last one, or the first of the next sequence.
        reason: As `EndedSequence.reason`.
        last: (n,), its last record; -1 if it is not among these records.
        steps: (n,), its number of steps.
        first_time: (n,), the event time of its first record.
    """

    key: Array
    at: Array
    reason: list[str]
    last: Array
    steps: Array
    first_time: Array


class Swept(NamedTuple):
    """The results of a sweep.

    Attributes:
        after: The states of the keys afterwards.
        latest: (records,), the latest event time of the key up to each.
        step: (records,), the number of each step in its sequence, from 1.
        outputs: (records, outputs) float64, in the units of the targets.
        packed: (records, state_size) of `STATE_TYPE`, the hidden state after each record, in the
            order of computation.
        place: (records,), the row of each record in `packed`.
        ended: The sequences that ended.
        left: (n,), the keys whose numbers overflowed: their results here are not valid.
    """

    after: Standing
    latest: Array
    step: Array
    outputs: Array
    packed: Array
    place: Array
    ended: Ended
    left: Array

    def values(self, records: Array | slice) -> Array:
        """Return the hidden state after each of these records."""
        return self.packed[self.place[records]]


@default_arithmetic()  # overflow is reported in `left`
def sweep(
    model: Model,
    keys: Sequence[str],
    before: Standing,
    records: Records,
    idle_after: int | None = None,
) -> Swept:
    """Step keys through their next records.

    Args:
        model: The model, which also made the states before.
        keys: The keys.
        before: The states of the keys.
        records: The records of the keys.
        idle_after: The gap in microseconds after which a sequence ends; None for no limit.
    """
    counts, time = records.counts, records.time
    ends_at = np.cumsum(counts)
    first = ends_at - counts  # the first record of each key
    key = np.repeat(np.arange(len(counts)), counts)
    latest = latest_so_far(time, first, before.time)
    pieces = _pieces(before, records, latest, first, key, idle_after)
    start, piece, length, of_key, fresh = pieces[:5]
    steps_before = np.where(fresh, 0, before.steps[of_key])
    first_time = np.where(fresh, time[start], before.first_time[of_key])
    step = np.arange(len(time)) - start[piece] + 1 + steps_before[piece]

    scaling = _scaling(model, keys, key)
    x = records.inputs if scaling is None else scaling.scale_inputs(records.inputs)
    x = x.astype(np.float32)
    values = before.values[of_key].astype(np.float32, copy=False)
    values[fresh] = model.initial_state()
    if len(length) == len(time):  # one step for each key
        at = place = np.arange(len(time))
        y, packed = model.advance(values, x, np.array([len(time)]))
    else:
        order = np.argsort(-length, kind="stable")
        running = running_at(length[order], int(length.max()))
        steps, sequences = rows_of(running)
        at = start[order][sequences] + steps
        place = np.empty(len(time), np.int64)
        place[at] = np.arange(len(time))
        y, packed = model.advance(values[order], x[at], running)
    outputs = y[place].astype(np.float64)
    parts = model.network.parts
    outputs = (
        in_order(outputs, parts) if scaling is None else scaling.restore_targets(outputs, parts)
    )
    left = np.zeros(0, np.int64)
    fits = not np.isinf(x).any() if model.carried else _all_finite(x)
    if not (fits and _all_finite(packed) and _all_finite(outputs)):
        usable = np.asarray(~np.isinf(x).any(1) & np.isfinite(outputs).all(1))
        usable[at] &= np.isfinite(packed).all(1)
        left = np.unique(key[~usable])

    packed = packed.astype(STATE_TYPE, copy=False)
    last = ends_at - 1
    closed = records.ends[last]
    of_last = piece[last]
    after = Standing(
        np.where(closed, 0, step[last]),
        np.where(closed, latest[last], first_time[of_last]),
        latest[last],
        records.sequence[last],
        packed[place[last]],
        outputs[last],
    )
    ended = _ended(before, records, key, first, *pieces[5:], step, first_time[piece])
    return Swept(after, latest, step, outputs, packed, place, ended, left)


class _Pieces(NamedTuple):
    """The sequences, or parts of them, in records.

    Attributes:
        start: (pieces,), the first record of each.
        piece: (records,), the piece of each record.
        length: (pieces,), the number of records of each.
        of_key: (pieces,), the row of its key.
        fresh: (pieces,), whether a new sequence begins with it.
        cut: (records,), whether the record ends the previous sequence by starting another.
        idle: (records,), whether it does so because of a gap.
    """

    start: Array
    piece: Array
    length: Array
    of_key: Array
    fresh: Array
    cut: Array
    idle: Array


def latest_so_far(time: Array, first: Array, before: Array) -> Array:
    """Return the latest time of each key up to each of its records.

    So a record with an earlier time than the previous one causes no gap before the next one.

        >>> latest_so_far(np.array([5, 1, 6, 2]), np.array([0, 3]), np.array([4, 3])).tolist()
        [5, 5, 6, 3]

    Args:
        time: (records,), the times of the first key's records, then of the second's, ...
        first: (keys,), the first record of each key.
        before: (keys,), the latest time of each key before these records.
    """
    falls = time[1:] < time[:-1]
    falls[first[1:] - 1] = False
    if not falls.any() and (time[first] >= before).all():
        return time
    latest = time.copy()
    latest[first] = np.maximum(time[first], before)
    for start, end in zip(first.tolist(), [*first[1:].tolist(), len(time)], strict=True):
        np.maximum.accumulate(latest[start:end], out=latest[start:end])
    return latest


def _pieces(
    before: Standing,
    records: Records,
    latest: Array,
    first: Array,
    key: Array,
    idle_after: int | None,
) -> _Pieces:
    """Split the records into pieces, given the first record of each key and the key of each."""
    counts, time = records.counts, records.time
    none = np.zeros(len(time), bool)
    if idle_after is None and not records.starts.any() and not records.ends.any():
        keys = np.arange(len(counts))
        return _Pieces(first, key, counts, keys, before.steps == 0, none, none)
    earlier = np.empty_like(time)  # the latest time before each record
    earlier[1:], earlier[first] = latest[:-1], before.time
    goes_on = np.ones(len(time), bool)
    goes_on[1:], goes_on[first] = ~records.ends[:-1], before.steps > 0
    idle = none if idle_after is None else goes_on & (time - earlier > idle_after)
    cut = goes_on & (idle | records.starts)
    begins = cut | ~goes_on
    opens = begins.copy()
    opens[first] = True
    start = np.flatnonzero(opens)
    length = np.diff(np.append(start, len(time)))
    return _Pieces(start, np.cumsum(opens) - 1, length, key[start], begins[start], cut, idle)


def _all_finite(numbers: Array) -> bool:
    """Return True if all numbers are finite. A finite sum proves it, without an array."""
    return bool(np.isfinite(numbers.sum()) or np.isfinite(numbers).all())


def _ended(
    before: Standing,
    records: Records,
    key: Array,
    first: Array,
    cut: Array,
    idle: Array,
    step: Array,
    first_time: Array,
) -> Ended:
    """Return the sequences that ended: cut by a next record, or closed by an end mark."""
    at, marked = np.flatnonzero(cut), np.flatnonzero(records.ends)
    if not len(at) and not len(marked):
        return Ended(at, at, [], at, at, at)
    begun_before = np.isin(at, first, assume_unique=True)
    last = np.concatenate([np.where(begun_before, -1, at - 1), marked])
    of_key = key[np.concatenate([at, marked])]
    here = last >= 0
    return Ended(
        of_key,
        np.concatenate([at, marked]),
        [*("idle" if i else "start" for i in idle[at]), *(["end"] * len(marked))],
        last,
        np.where(here, step[last], before.steps[of_key]),
        np.where(here, first_time[last], before.first_time[of_key]),
    )


def _scaling(model: Model, keys: Sequence[str], key: Array) -> Scaling | None:
    """Return the scaling of each record; a single row if all have the same."""
    if model.scaler is None:
        return None
    if not model.scaler.keys:
        return model.scaler.default
    scalings = [model.scaler.of(name) for name in keys]
    if all(scaling is scalings[0] for scaling in scalings):
        return scalings[0]
    return Scaling(*(np.stack(parts)[key] for parts in zip(*scalings, strict=True)))
