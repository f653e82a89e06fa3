from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn.data.event_times import MAX_MICROS, MIN_MICROS
from beam_rnn.engine.order_format import Armed, decode_armed, encode_armed, order_header_of
from beam_rnn.errors import StateError
from beam_rnn.models.state_format import KeyState, decode_state, encode_state, last_step
from beam_rnn.records.record_format import (
    decode_block,
    decode_record,
    decode_records,
    encode_block,
    encode_record,
    first_numbers,
    record_sequence,
    record_time,
)
from beam_rnn.records.waiting_format import (
    decode_waiting,
    encode_waiting,
    encode_waiting_rows,
    waiting_records,
)

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden"
DIGEST = "0123456789abcdef" * 4
FINGERPRINT = bytes(range(8))
floats = st.floats(width=32, allow_nan=False)
doubles = st.lists(st.floats(allow_nan=False), max_size=6)
times = st.integers(MIN_MICROS, MAX_MICROS)
sequences = st.integers(-(2**63), 2**63 - 1)


def state_of(steps, first_time, time, sequence, values, outputs, history):
    return KeyState(
        DIGEST,
        "fused",
        steps,
        first_time,
        time,
        sequence,
        np.array(values, np.float32),
        np.array(outputs, np.float64),
        np.array(history, np.float64),
    )


def plain(state):
    return [part.tobytes() if isinstance(part, np.ndarray) else part for part in state]


@given(
    steps=st.integers(0, 2**62),
    first_time=times,
    time=times,
    sequence=sequences,
    values=st.lists(floats, max_size=20),
    outputs=doubles,
    history=doubles,
)
def test_a_state_survives_its_bytes(steps, first_time, time, sequence, values, outputs, history):
    state = state_of(steps, first_time, time, sequence, values, outputs, history)

    data = encode_state(state)

    assert plain(decode_state(data)) == plain(state)
    assert last_step(data) == (time, sequence)


@given(time=times, sequence=sequences, starts=st.booleans(), ends=st.booleans(), numbers=doubles)
def test_a_record_survives_its_bytes(time, sequence, starts, ends, numbers):
    data = encode_record(time, sequence, np.array(numbers, np.float64), starts=starts, ends=ends)
    read = decode_record(data)

    assert read[:4] == (time, sequence, starts, ends)
    assert read.numbers.tolist() == numbers
    assert (record_time(data), record_sequence(data)) == (time, sequence)


@given(
    st.lists(
        st.tuples(sequences, st.lists(floats, min_size=2, max_size=2)), min_size=1, max_size=9
    ),
    st.booleans(),
)
def test_a_block_survives_its_bytes(rows, alike):
    records = [encode_record(1, number, np.array(values)) for number, values in rows]
    arrived = [7] * len(records) if alike else list(range(len(records)))

    block = encode_block(records, None if alike else arrived)

    assert decode_block(block, arrived[0]) == (records, arrived)


@given(st.lists(st.tuples(times, times, sequences, st.booleans()), max_size=9), st.integers(0, 9))
def test_waiting_records_survive_encoding(rows, cut):
    entries = [(due, encode_record(t, s, np.ones(2), ends=e)) for due, t, s, e in rows]
    pieces = (
        [encode_waiting(*zip(*entries[:cut], strict=True), releases=7)] if entries[:cut] else []
    )
    pieces += [encode_waiting([due], [r], releases=i) for i, (due, r) in enumerate(entries[cut:])]

    read, turns = decode_waiting(pieces)

    assert list(zip(read["due"].tolist(), waiting_records(read), strict=True)) == entries
    in_order = read[np.argsort(read["time"], kind="stable")]
    assert [record_time(data) for data in waiting_records(in_order)] == sorted(
        t for _, t, _, _ in rows
    )
    assert turns.tolist() == [7] * len(entries[:cut]) + list(range(len(entries[cut:])))
    if entries:
        together, _ = decode_waiting([encode_waiting_rows(read, releases=3)])
        assert together.tobytes() == read.tobytes()


@given(st.lists(st.tuples(times, sequences, st.booleans()), min_size=1, max_size=20))
def test_sorted_bytes_are_sorted_records(rows):
    """By time, number, and marks: a start first, an end last."""
    encoded = sorted(encode_record(t, s, np.zeros(1), ends=e) for t, s, e in rows)
    decoded = [decode_record(data) for data in encoded]

    assert [(r.time, r.sequence, r.ends) for r in decoded] == sorted(rows)
    plain_one, first = (encode_record(1, 1, np.zeros(1), starts=s) for s in (False, True))
    assert first < plain_one


@given(
    st.lists(
        st.tuples(
            times,
            sequences,
            st.booleans(),
            st.booleans(),
            st.lists(floats, min_size=2, max_size=2),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_many_records_are_decoded_as_one_by_one(rows):
    encoded = [
        encode_record(t, number, np.array(values), starts=starts, ends=ends)
        for t, number, starts, ends, values in rows
    ]
    found = decode_records(encoded)

    alone = [decode_record(data) for data in encoded]
    for name in ("time", "sequence", "starts", "ends", "numbers"):
        expected = np.array([getattr(record, name) for record in alone])
        np.testing.assert_array_equal(getattr(found, name), expected)
    for data, (t, number, starts, ends, values) in zip(encoded, rows, strict=True):
        narrow = encode_record(t, number, np.array(values[:1]), starts=starts, ends=ends)
        assert first_numbers(data, 1) == narrow


EXAMPLES = {
    "state-v1": encode_state(
        state_of(
            7, 1_404_172_800_000_000, 1_404_172_800_000_001, -3, [0.5, -2, 1e-30], [1e9], [4, 5]
        )
    ),
    "record-v3": encode_record(1_404_172_800_000_001, -3, np.array([1.5, -1e300]), ends=True),
    "block-v2": encode_block(
        [encode_record(t, -3, np.array([1.5])) for t in (1, 2)], [1_404_172_800_000_000, 5]
    ),
    "waiting-v2": encode_waiting(
        [1_404_172_800_500_000, 5],
        [encode_record(t, 2, np.array([3.0])) for t in (1, 6)],
        releases=9,
    ),
    "armed-v2": encode_armed(Armed(1_404_172_800_500_000, 9, 6), FINGERPRINT),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_stored_bytes_stay_readable(name):
    """What a running job has stored: a change here loses it."""
    data = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())

    assert EXAMPLES[name] == data
    if name == "state-v1":
        assert encode_state(decode_state(data)) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "format version None, this beam_rnn reads 1"),
        (lambda data: b"\x02" + data[1:], "format version 02, this beam_rnn reads 1"),
        (lambda data: data[:40], "has 40 bytes, its header alone has 74"),
        (lambda data: data[:-1], "has 93 bytes, a state of 3 numbers and 1 outputs has 94"),
        (lambda data: data + b"1", "has 95 bytes"),
        (
            lambda data: data[:1] + b"\x09" + data[2:],
            "computed by the kernel 9, this beam_rnn knows",
        ),
    ],
)
def test_corrupt_state_is_refused(change, message):
    data = encode_state(state_of(1, 2, 2, 0, np.zeros(3), [0.5], []))
    with pytest.raises(StateError, match=message):
        decode_state(change(data))


@pytest.mark.parametrize("data", [b"", b"\x07abc", b"\x01" + bytes(25)])
def test_a_record_of_another_version_is_refused(data):
    with pytest.raises(StateError, match="buffered record has format version"):
        decode_record(data)
    with pytest.raises(StateError, match="buffered record has format version"):
        decode_records([data])


def test_timers_for_records_of_other_columns_are_refused():
    armed = Armed(7, releases=2, reached=5)
    data = encode_armed(armed, FINGERPRINT)

    assert decode_armed(data, FINGERPRINT) == armed
    with pytest.raises(StateError, match="buffered records were read by columns of fingerprint"):
        decode_armed(data, bytes(8))
    with pytest.raises(StateError, match="format version 09, this beam_rnn reads 2"):
        decode_armed(b"\x09" + data[1:], FINGERPRINT)


@pytest.mark.parametrize("data", [b"", b"\x01" + bytes(40), b"\x02"])
def test_an_unknown_version_of_the_order_header_is_refused(data):
    with pytest.raises(StateError, match=r"stored state has format version .* reads 02"):
        order_header_of(data)
