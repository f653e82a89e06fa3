import numpy as np
import pytest
from apache_beam.transforms.window import GlobalWindow
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn.engine.held import Held, duplicates
from beam_rnn.engine.order import END_OF_TIME, LOWEST, Order, Place
from beam_rnn.engine.order_columns import Places
from beam_rnn.engine.pending import Pending
from beam_rnn.engine.waiting import Waiting
from beam_rnn.models.many_sequences import LONG_AGO
from beam_rnn.records.block_format import marks_of
from beam_rnn.records.record_format import encode_record, record_sequence, record_time
from beam_rnn.records.waiting_format import encode_waiting
from beam_rnn.streaming.key_cells import Cells

BY_TIME, BY_NUMBER = Order("event_time", 0, 1000), Order("sequence", 0, 1000)


def entry(due, time, number=0):
    return encode_waiting([due], [encode_record(time, number, np.ones(1))])


@pytest.mark.parametrize(
    ("time", "wait", "grid", "arrived", "due"),
    [
        (0, 0, 1000, 0, 1000),
        (999, 0, 1000, 0, 1000),
        (1000, 0, 1000, 0, 2000),  # later than the time itself
        (1000, 2500, 1000, 0, 4000),
        (1000, 0, 1000, 7000, 7000),
        (1000, 0, 1000, 7001, 8000),  # a whole millisecond
        (1000, 0, 1000, -(10**15), 2000),
        (1000, 0, 1000, END_OF_TIME, 2000),  # which says nothing
    ],
)
def test_the_due_time_of_a_record(time, wait, grid, arrived, due):
    assert Order("event_time", wait, grid).due(time, arrived) == due


@given(
    entries=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12),
    now=st.integers(0, 9),
)
def test_a_release_takes_all_records_up_to_the_last_due_one(entries, now):
    waiting = Waiting.read(BY_TIME, [entry(*e) for e in entries])

    taken, rest = waiting.release(now)

    reached = max((time for due, time in entries if due <= now), default=-1)
    assert {record_time(r) for r in taken} == {t for _, t in entries if t <= reached}
    left = [(due, time) for due, time in entries if time > reached]
    assert len(rest) == len(left)
    assert rest.earliest == (min(due for due, _ in left) if left else None)
    if len(rest):
        again = Waiting.read(BY_TIME, [rest.to_bytes()])
        assert again.to_bytes() == rest.to_bytes()


@given(
    turns=st.lists(
        st.tuples(st.lists(st.integers(0, 9), max_size=3), st.integers(0, 10)), max_size=9
    )
)
def test_released_records_are_not_read_again(turns):
    """A position marks the released records; later ones follow it."""
    stored, timer = (Bag(), Bag(), Value()), Value()
    expected = []
    for times, now in turns:
        cells = Cells(stored, timer, GlobalWindow(), 2**62, bytes(8))
        if times:
            cells.wait([encode_record(t, 0, np.ones(1)) for t in times], times)
        cells.arm(0)
        expected += times
        taken, rest = cells.waiting(BY_TIME).release(now)
        cells.released(rest)
        assert sorted(map(record_time, taken)) == sorted({t for t in expected if t <= now})
        expected = [t for t in expected if t > now]
        again = Cells(stored, timer, GlobalWindow(), 2**62, bytes(8))
        assert len(again.waiting(BY_TIME)) == len(expected)


def test_a_release_does_not_rewrite_the_records_that_still_wait():
    """Each record is written about three times, however many wait."""
    for ahead in (100, 1000):
        waiting, armed = Bag(), Value()
        for t in range(100):
            cells = Cells((Bag(), waiting, armed), Value(), GlobalWindow(), 2**62, bytes(8))
            times = [t, *(range(1000, 1000 + ahead) if t == 0 else ())]
            cells.wait([encode_record(at, 0, np.ones(1)) for at in times], times)
            cells.arm(t)
            taken, rest = cells.waiting(BY_TIME).release(t)
            cells.released(rest)
            assert len(taken) == 1
        each = len(entry(0, 0))
        assert waiting.written < 3 * (100 + ahead) * each


class Bag:
    """A state cell, which counts the bytes that are added."""

    def __init__(self):
        self.values, self.written = [], 0

    def read(self):
        return list(self.values)

    def add(self, value):
        self.values.append(value)
        self.written += len(value)

    def clear(self):
        self.values.clear()


class Value:
    """A state cell of one value, or a timer."""

    value = None

    def read(self):
        return self.value

    def write(self, value):
        self.value = value

    set = write


def test_numbers_that_follow_are_taken_with_those_that_are_due():
    waiting = Waiting.read(BY_NUMBER, [entry(9, 0, n) for n in (3, 4, 7)] + [entry(1, 5, 2)])

    taken, rest = waiting.release(1)
    assert sorted(map(record_sequence, taken)) == [2, 3, 4]
    assert len(rest) == 1
    waiting = Waiting.read(BY_NUMBER, [entry(9, 0, n) for n in (5, 3, 4)])
    following, rest = waiting.following(3)
    assert [record_sequence(r) for r in following] == [3, 4, 5]
    assert len(rest) == 0
    nothing, rest = Waiting.read(BY_NUMBER, [entry(9, 0, 5)]).following(3)
    assert (nothing, len(rest)) == ({}, 1)


rows = st.lists(
    st.tuples(
        st.integers(0, 12),  # due
        st.integers(0, 9),  # time
        st.integers(0, 9),  # number
        st.sampled_from([False, False, False, True]),  # a start mark
    ),
    min_size=1,
    max_size=12,
)


@given(
    rows=rows,
    by=st.sampled_from(["event_time", "sequence"]),
    max_jump=st.sampled_from([None, 2]),
    idle_after=st.sampled_from([None, 1, 3]),
    reached=st.sampled_from([None, 0, 4]),
    now=st.integers(0, 12),
)
def test_the_records_of_one_key_have_the_same_turn_by_the_column(
    rows, by, max_jump, idle_after, reached, now
):
    order = Order(by, 0, 1000, max_jump if by == "sequence" else None, idle_after)
    place = None if reached is None else Place(2, reached, 0, LONG_AGO)
    due, time, number, starts = (np.array(column) for column in zip(*rows, strict=True))
    zeros = np.zeros(len(rows), np.int64)
    waiting = Waiting.read(
        order,
        [encode_waiting([d], [encode_record(t, n, np.ones(1), starts=s)]) for d, t, n, s in rows],
        place=place,
    )
    pending = Pending(order)
    marks, numbers = marks_of(starts, np.zeros(len(rows), bool)), np.ones((len(rows), 1))
    pending.add(Held(np.arange(len(rows)), zeros, due, time, number, marks, numbers, zeros, zeros))
    here = (LOWEST, LONG_AGO) if place is None else (reached, place.time)
    known = Places(*(np.array([n]) for n in (*here, LONG_AGO)))

    first = int(pending.first_times(1)[0])
    assert waiting.alone_at == pending.alone_at(known)
    taken, rest = waiting.release(now)
    found = pending.release(now, known)

    assert waiting.first_time == (first if first < 2**62 else None)
    assert rest.earliest == pending.earliest
    if found is None:
        assert not taken
    else:
        held, at = found
        single = ~duplicates(held)
        columns = held.time, held.sequence, held.due, at
        assert [(record_time(r), record_sequence(r), *turn) for r, turn in taken.items()] == list(
            zip(*(column[single].tolist() for column in columns), strict=True)
        )
