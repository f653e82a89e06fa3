"""The rules of order for many keys at once, as columns: the same as `beam_rnn.engine.order`.

No other module decides when a record of a shard is due, late, refused or missing.
"""

from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.held import Held, duplicates, running_max, slices
from beam_rnn.engine.order import (
    LEFT_BEHIND,
    LOWEST,
    NEVER,
    NOW,
    Order,
    Place,
    due_at_closing,
    first_due,
    pauses,
    runs_of,
)
from beam_rnn.engine.table import Table
from beam_rnn.models.many_sequences import LONG_AGO, latest_so_far
from beam_rnn.records.block_format import starts_of
from beam_rnn.records.record_order import by_key_and_place, ordered_bits, rises


class Places(NamedTuple):
    """The places that keys have reached, a row each, as `beam_rnn.engine.order.Place`.

    Attributes:
        number: (rows,), their sequence numbers; `LOWEST` before the first record.
        time: (rows,), their latest event times; `LONG_AGO` before the first record.
        begun: (rows,), the event times from which their numbers count.
    """

    number: Array
    time: Array
    begun: Array

    @classmethod
    def of(cls, table: Table, rows: Array | slice = slice(None)) -> "Places":
        """Return the places of some rows of a table."""
        has = table.has_state[rows]
        number = np.where(has, table.sequence[rows], LOWEST)
        return cls(number, np.where(has, table.time[rows], LONG_AGO), table.begun[rows])

    def place(self, row: int) -> Place | None:
        """Return the place of one key; None before its first record."""
        number, time, begun = (int(column[row]) for column in self)
        return None if number == LOWEST else Place(time, number, LONG_AGO, begun)


def due_at(order: Order, time: Array, arrived: Array, closes_at: int) -> Array:
    """Return when records are due: at the latest when the window is closed."""
    return np.minimum(order.due_at(time, arrived), due_at_closing(closes_at))


def late(order: Order, held: Held, known: Places, *, restarts: bool = False) -> Array:
    """Return which records are late: (records,).

    Args:
        order: The order of records.
        held: The records.
        known: Where the key of each is.
        restarts: Their numbers may have restarted, with a record that is not here yet.
    """
    number, time, begun = known
    if order.by != "sequence":
        return held.time <= time
    passed = held.sequence <= number
    if restarts:
        passed &= held.time <= time
    elif order.idle_after is not None:
        passed &= held.time - time <= order.idle_after
    return (number > LOWEST) & (passed | (held.time < begun))


def is_next(held: Held, known: Places) -> Array:
    """Return which records have the number after that of their key: (records,)."""
    return (known.number > LOWEST) & (held.sequence == known.number + 1)


def irregular(order: Order, held: Held, known: Places) -> Array:
    """Return which records of those released by number need a verdict each: (records,).

    The others have a number that is above the one before, of their key, and not too far.
    """
    before = known.number.copy()
    same_key = np.append(False, held.row[1:] == held.row[:-1])
    before[1:] = np.where(same_key[1:], held.sequence[:-1], before[1:])
    odd = (held.sequence <= before) & (before > LOWEST)
    odd |= (known.number > LOWEST) & (held.time < known.begun)
    if order.max_jump is not None:
        odd |= (before > LOWEST) & (held.sequence - order.max_jump > before)
    return odd


def missing_before(order: Order, held: Held, known: Places) -> tuple[Array, Array]:
    """Return which records follow a gap, and the number before each: (records,).

    After a pause of more than `idle_after` no number is missing.

    Args:
        order: The order of records.
        held: Records that were stepped, by key.
        known: Where the key of each was before them.
    """
    latest = known.time
    before = np.where(known.number > LOWEST, known.number, held.sequence - 1)
    same_key = held.row[1:] == held.row[:-1]
    before[1:] = np.where(same_key, held.sequence[:-1], before[1:])
    missing = held.sequence > before + 1
    if order.idle_after is not None and missing.any():
        first = np.flatnonzero(np.append(True, ~same_key))
        so_far = latest_so_far(held.time, first, latest[first])
        earlier = latest.copy()
        earlier[1:] = np.where(same_key, so_far[:-1], earlier[1:])
        missing &= held.time - earlier <= order.idle_after
    return missing, before


def out_of_order(held: Held, known: Places) -> int:
    """Return the number of records that came after later ones of their key."""
    first = np.flatnonzero(np.append(True, held.row[1:] != held.row[:-1]))
    return int((held.time < latest_so_far(held.time, first, known.time[first])).sum())


def idle_at(order: Order, time: Array, last_due: Array, end: int) -> Array:
    """Return when sequences end if no record comes; `NEVER` if their window ends them.

    Args:
        order: The order of records.
        time: (sequences,), the latest event time of each.
        last_due: (sequences,), when its last record was due.
        end: The end of the window, in microseconds.
    """
    if order.idle_after is None:
        return np.full(len(time), NEVER)
    at = order.due_at(time + order.idle_after, last_due + order.idle_after)
    return np.where(at <= end, at, NEVER)


def kept_open(order: Order, time: Array, following: Array) -> Array:
    """Return which sequences a buffered record that is not idle keeps open.

    Args:
        order: The order of records.
        time: (sequences,), the latest event time of each.
        following: (sequences,), the earliest event time of its buffered records.
    """
    if order.idle_after is None:
        return np.zeros(len(time), bool)
    return np.asarray(following - time <= order.idle_after)


def arrived_by(taken: Held, came: Array, arrived: Array) -> Array:
    """Return the Beam timestamps of records that need not wait.

    Each has the time at which it and all before it, of its key, had arrived.

    Args:
        taken: The records, those of a key one after another.
        came: The numbers of the records that came just now, rising; the others were buffered.
        arrived: When each of these did.
    """
    place = np.minimum(np.searchsorted(came, taken.number), len(came) - 1)
    of_taken = np.where(came[place] == taken.number, arrived[place], NOW)
    groups = np.cumsum(~duplicates(taken)) - 1
    first = np.full(int(groups[-1]) + 1, NEVER)
    np.minimum.at(first, groups, of_taken)
    latest = running_max(first[groups], np.append(True, taken.row[1:] != taken.row[:-1]))
    return np.maximum(latest, arrived.min())


class InRuns(NamedTuple):
    """Records by key, run and number: their places, and which take no other along."""

    places: Array
    row: Array
    number: Array
    run: Array
    alone: Array


def in_runs(order: Order, held: Held, keys: Places) -> InRuns:
    """Return records by key, run and number."""
    row, number, starts = held.row, held.sequence, starts_of(held.marks)
    run, _ = runs_of_keys(held, keys, order.idle_after)
    places = np.lexsort((number, run, row))
    row, number, run = row[places], number[places], run[places]
    known = keys.number[row]
    alone = run == LEFT_BEHIND
    if order.max_jump is not None:
        starts = starts[places]
        begins = np.append(True, (row[1:] != row[:-1]) | (run[1:] != run[:-1]))
        before = np.where(run == 0, known, LOWEST)
        before[1:] = np.where(begins[1:], before[1:], np.maximum(before[1:], number[:-1]))
        jumps = ~alone & (before > LOWEST) & (number - order.max_jump > before)
        of_run = np.cumsum(begins)
        for which in np.unique(of_run[jumps]).tolist():
            whole = slice(*np.searchsorted(of_run, [which, which + 1]))
            part = np.arange(len(row))[whole][~alone[whole]]
            goes_on = run[part[0]] == 0 and known[part[0]] > LOWEST
            from_there = int(known[part[0]] if goes_on else number[part[0]])
            alone[part] = order.refused(number[part], starts[part], from_there)
    return InRuns(places, row, number, run, alone)


def runs_of_keys(held: Held, known: Places, idle_after: int | None) -> tuple[Array, Array]:
    """Return what `runs_of` returns for one key, of the records of many."""
    starts = starts_of(held.marks)
    number, time, begun = (column[held.row] for column in known)
    late = (number > LOWEST) & ((held.sequence <= number) | (held.time < begun))
    run, alone_at = np.where(late, LEFT_BEHIND, 0), np.where(late, held.due, NEVER)
    if idle_after is None and not starts.any():
        return run, alone_at
    in_time = np.lexsort((held.sequence, ~starts, held.time, held.row))
    row = held.row[in_time]
    first = np.append(True, row[1:] != row[:-1])
    of_records = held.sequence[in_time]
    due = held.due
    odd = starts[in_time] & (of_records <= _before(of_records, number[in_time], first))
    if idle_after is not None:
        due = first_due(due, held.time, held.sequence, held.row)
        by_due = np.lexsort((held.time, due, held.row))  # of the same keys
        times = held.time[by_due]
        odd |= late[by_due] | pauses(_before(times, time[by_due], first), times, idle_after)
    for key, here in slices(row, np.unique(row[odd])):
        places = in_time[here]
        columns = held.time[places], held.sequence[places], starts[places], due[places]
        found = runs_of(*columns, known.place(key), idle_after)
        run[places], alone_at[places] = found
    return run, alone_at


def _before(values: Array, known: Array, first: Array) -> Array:
    """Return the largest value before each record, of its key: known, or of the records."""
    before = known.copy()
    high = running_max(values, first)
    before[1:] = np.where(first[1:], before[1:], np.maximum(before[1:], high[:-1]))
    return before


def breaks(row: Array, run: Array, number: Array) -> Array:
    """Return where numbers are not consecutive, of records by key, run and number."""
    breaks = np.append(True, (row[1:] != row[:-1]) | (run[1:] != run[:-1]))
    breaks[1:] |= number[1:] > number[:-1] + 1
    return breaks


def released_at(held: Held, by: str, run: Array | None = None) -> tuple[Held, Array]:
    """Return released records in order, and when the earliest that takes each along was due.

    That is any record of its key behind it, at the same time, or in the same run of numbers.
    """
    order = _in_order(held, by, run)
    if order is not None:
        held = held.pick(order)
    first = np.append(True, held.row[1:] != held.row[:-1])
    if by == "sequence":
        runs = np.zeros(len(held.row), np.int64) if run is None else run
        begins = breaks(held.row, runs if order is None else runs[order], held.sequence)
    else:
        begins = first.copy()
        begins[1:] |= held.time[1:] > held.time[:-1]
    if begins.all() and (first[1:] | (held.due[1:] >= held.due[:-1])).all():
        return held, held.due
    alone = np.zeros(len(held.row), bool)  # a late one takes no other along
    if run is not None:
        alone = (run if order is None else run[order]) == LEFT_BEHIND
    due = np.where(alone, NEVER, held.due)
    due = -running_max(-due[::-1], np.append(True, first[:0:-1]))[::-1]
    due = due[np.maximum.accumulate(np.where(begins, np.arange(len(due)), 0))]
    return held, np.where(alone, held.due, due)


def _in_order(held: Held, by: str, run: Array | None) -> Array | None:
    """Return the order of records by key, run, place and bytes; None if they are in it.

    The bytes are those of an encoded record: time, number, marks, then each of its numbers. Of
    equal ones the earliest due comes first.
    """
    row, place = held.row, held.place(by)
    runs = [] if run is None or not run.any() else [run]
    if not runs:
        if rises(row, place):
            return None
        order = by_key_and_place(row, place)
        if rises(row[order], place[order]):  # no two have the same place
            return order
    record = [held.time, held.sequence, held.marks, *ordered_bits(held.numbers).T]
    return np.lexsort((held.due, *record[::-1], place, *runs, row))
