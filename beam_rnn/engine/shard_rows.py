"""The rows of a shard's records that are not predictions: late, refused and missing ones."""

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.engine.held import Held
from beam_rnn.engine.order import Order, Place
from beam_rnn.engine.order_columns import Places, missing_before
from beam_rnn.engine.stepper import Row
from beam_rnn.engine.steppers.predict import PredictStepper
from beam_rnn.engine.table import Table
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.records.block_format import ends_of, starts_of
from beam_rnn.records.record_format import BufferedRecord
from beam_rnn.records.results import LateRecord, SequenceGap, poisoned


def late_rows(held: Held, table: Table, reached: Array) -> list[Row]:
    """Return the rows of late records, whose keys had reached those times."""
    records = zip(
        table.names(held.row),
        held.time.tolist(),
        reached.tolist(),
        held.numbers.tolist(),
        held.sequence.tolist(),
        held.due.tolist(),
        strict=True,
    )
    return [
        Row(
            LateRecord(key=key, time=time, behind=before - time, inputs=numbers, sequence=sequence),
            at,
            time,
        )
        for key, time, before, numbers, sequence, at in records
    ]


def gap_rows(order: Order, held: Held, table: Table, known: Places) -> list[Row]:
    """Return the gaps before records that were stepped."""
    missing, before = missing_before(order, held, known)
    here = np.flatnonzero(missing)
    columns = held.time, before, held.sequence, held.due
    return [
        Row(SequenceGap(key=key, time=time, first=last + 1, last=number - 1), due, time)
        for key, time, last, number, due in zip(
            table.names(held.row[here]),
            *(column[here].tolist() for column in columns),
            strict=True,
        )
    ]


def judge(
    order: Order,
    stepper: PredictStepper,
    table: Table,
    held: Held,
    here: Array,
    good: Array,
    begun: Array,
    rows: list[Row],
) -> None:
    """Find the verdict on each record of one key.

    A record that cannot be stepped moves nothing; the next one of its number is not late.

    Args:
        order: The order of records.
        stepper: What would step them.
        table: The keys.
        held: Records, in order.
        here: The places of those of the key.
        good: (records,), set to whether each is stepped.
        begun: (records,), set to the time from which numbers count that restart with it.
        rows: The rows of those that are not stepped are added to these.
    """
    row = int(held.row[here[0]])
    key, place, state = table.keys[row], _place_of(table, row), table.state(row)
    starts, ends = starts_of(held.marks), ends_of(held.marks)
    for i in here.tolist():
        time, number = int(held.time[i]), int(held.sequence[i])
        verdict = order.verdict(place, time, number, starts=bool(starts[i]))
        good[i] = verdict in ("next", "restart")
        if place is not None and verdict == "late":
            rows += late_rows(held.pick(slice(i, i + 1)), table, np.array([place.time]))
        elif place is not None and verdict == "jump":
            why = order.why_refused(place.number, number)
            letter = poisoned(key, time, held.numbers[i], why)
            rows.append(Row(letter, int(held.due[i]), time))
        else:
            marks = bool(starts[i]), bool(ends[i])
            record = BufferedRecord(time, number, *marks, held.numbers[i])
            after = stepper.stepped(key, state, record)
            if after is None:
                continue
            if place is not None and verdict == "restart":
                begun[i] = order.begun(place, time)
            before = LONG_AGO if place is None else place.begun
            state, place = after, Place(after.time, number, 0, max(before, int(begun[i])))


def _place_of(table: Table, row: int) -> Place | None:
    """Return where the key of a row is."""
    if not table.has_state[row]:
        return None
    columns = table.time, table.sequence, table.due, table.begun
    return Place(*(int(column[row]) for column in columns))
