import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn.state import encode_record, encode_waiting, record_sequence, record_time
from beam_rnn.turns import Order, Waiting

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
    ],
)
def test_when_a_record_is_due(time, wait, grid, arrived, due):
    assert Order("event_time", wait, grid).due(time, arrived) == due


@given(
    entries=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12),
    cut=st.integers(0, 12),
    now=st.integers(0, 9),
)
def test_a_turn_takes_all_up_to_the_last_that_is_due(entries, cut, now):
    """Whatever was written before and what came since; what is left can be read again."""
    stored = Waiting.read(BY_TIME, [entry(*e) for e in entries[:cut]])
    waiting = Waiting.read(
        BY_TIME, stored.to_bytes() if len(stored) else None, [entry(*e) for e in entries[cut:]]
    )

    taken, rest = waiting.turn(now)

    reached = max((time for due, time in entries if due <= now), default=-1)
    assert {record_time(r) for r in taken} == {t for _, t in entries if t <= reached}
    assert all(due <= now for due in taken.values())
    left = [(due, time) for due, time in entries if time > reached]
    assert len(rest) == len(left)
    assert rest.earliest == (min(due for due, _ in left) if left else None)
    if len(rest):
        again = Waiting.read(BY_TIME, rest.to_bytes(), [])
        assert again.to_bytes() == rest.to_bytes()


def test_numbers_that_follow_are_taken_with_those_that_are_due():
    waiting = Waiting.read(BY_NUMBER, [entry(9, 0, n) for n in (3, 4, 7)] + [entry(1, 5, 2)])

    taken, rest = waiting.turn(1)
    assert sorted(map(record_sequence, taken)) == [2, 3, 4]
    assert len(rest) == 1
    waiting = Waiting.read(BY_NUMBER, [entry(9, 0, n) for n in (5, 3, 4)])
    following, rest = waiting.following(3)
    assert [record_sequence(r) for r in following] == [3, 4, 5]
    assert len(rest) == 0
    nothing, rest = Waiting.read(BY_NUMBER, [entry(9, 0, 5)]).following(3)
    assert (nothing, len(rest)) == ([], 1)
