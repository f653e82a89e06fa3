from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_rnn.errors import StateError
from beam_rnn.state import (
    KeyState,
    decode_record,
    decode_records,
    decode_state,
    encode_record,
    encode_state,
    last_time,
    record_time,
)

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "0123456789abcdef" * 4
floats = st.floats(width=32, allow_nan=False)
times = st.integers(0, 2**63 // 1000)
sequences = st.integers(-(2**63), 2**63 - 1)


@given(steps=st.integers(1, 2**62), time=times, values=st.lists(floats, min_size=1, max_size=20))
def test_a_state_survives_its_bytes(steps, time, values):
    state = KeyState(DIGEST, steps, time, np.array(values, np.float32))

    data = encode_state(state)
    read = decode_state(data, DIGEST, len(values))

    assert read[:3] == state[:3]
    assert read.values.tobytes() == state.values.tobytes()
    assert last_time(data) == time


@given(time=times, sequence=sequences, numbers=st.lists(st.floats(allow_nan=False), max_size=5))
def test_a_record_survives_its_bytes(time, sequence, numbers):
    data = encode_record(time, sequence, np.array(numbers, np.float64))
    read = decode_record(data)

    assert (read.time, read.sequence, read.numbers.tolist()) == (time, sequence, numbers)
    assert record_time(data) == time


@given(st.lists(st.tuples(times, sequences), min_size=1, max_size=20))
def test_sorted_bytes_are_sorted_records(pairs):
    encoded = sorted(encode_record(t, s, np.zeros(1)) for t, s in pairs)

    assert [(decode_record(r).time, decode_record(r).sequence) for r in encoded] == sorted(pairs)


@given(st.lists(st.tuples(times, st.lists(floats, min_size=2, max_size=2)), min_size=1, max_size=9))
def test_many_records_are_decoded_as_one_by_one(rows):
    encoded = [encode_record(t, 0, np.array(numbers)) for t, numbers in rows]
    found, numbers = decode_records(encoded)

    assert found.tolist() == [t for t, _ in rows]
    np.testing.assert_array_equal(numbers, [decode_record(r).numbers for r in encoded])


def test_version_1_of_a_state_stays_readable():
    data = bytes.fromhex((GOLDEN / "state-v1.hex").read_text())
    state = KeyState(DIGEST, 7, 1_404_172_800_000_001, np.array([0.5, -2, 1e-30], np.float32))

    assert encode_state(state) == data
    read = decode_state(data, DIGEST, 3)
    assert read[:3] == state[:3]
    assert read.values.tolist() == state.values.tolist()


def test_version_1_of_a_record_stays_readable():
    data = bytes.fromhex((GOLDEN / "record-v1.hex").read_text())

    assert encode_record(1_404_172_800_000_001, -3, np.array([1.5, -1e300])) == data
    record = decode_record(data)
    assert (record.time, record.sequence) == (1_404_172_800_000_001, -3)
    assert record.numbers.tolist() == [1.5, -1e300]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "format version None, this beam_rnn reads 1"),
        (lambda data: b"\x02" + data[1:], "format version 02, this beam_rnn reads 1"),
        (lambda data: data[:-1], "has 60 bytes, a state of 3 numbers has 61"),
        (lambda data: data[:1] + bytes(32) + data[33:], f"made by the model {'0' * 64}"),
    ],
)
def test_state_that_cannot_be_trusted_is_refused(change, message):
    data = encode_state(KeyState(DIGEST, 1, 2, np.zeros(3, np.float32)))
    with pytest.raises(StateError, match=message):
        decode_state(change(data), DIGEST, 3)


@pytest.mark.parametrize("data", [b"", b"\x07abc"])
def test_a_record_of_another_version_is_refused(data):
    with pytest.raises(StateError, match="buffered record has format version"):
        decode_record(data)
