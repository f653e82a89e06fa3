"""Stored bytes that are truncated or altered: a `StateError`, or a state, and nothing else."""

import random
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from beam_rnn.engine.log_format import Head, decode_head, encode_change, encode_head, replay
from beam_rnn.engine.order_format import Armed, decode_armed, encode_armed
from beam_rnn.errors import StateError
from beam_rnn.models.state_format import KeyState, decode_state, encode_state, last_step
from beam_rnn.records.arrow_batches import to_bytes
from beam_rnn.records.block_format import decode_block, encode_block
from beam_rnn.records.record_format import decode_block as decode_key_block
from beam_rnn.records.record_format import decode_record, encode_record
from beam_rnn.records.record_format import encode_block as encode_key_block
from beam_rnn.records.waiting_format import decode_waiting, encode_waiting, waiting_records
from tests.engine.test_shards import block_of, new_shard
from tests.helpers.models import random_model, saved

FINGERPRINT = bytes(range(8))
RECORDS = [encode_record(t, -t, np.array([0.5, t]), ends=t == 2) for t in range(1, 4)]
TIMES = range(9)
ROWS = pa.table({"note": ["é", None, "c"], "kind": pa.array(["a", "b", "a"]).dictionary_encode()})


def waiting_state(data):
    decode_armed(encode_armed(Armed(1), FINGERPRINT), FINGERPRINT)
    rows, turns = decode_waiting([data, encode_waiting([1], RECORDS[:1])])
    assert len(waiting_records(rows)) == len(turns)


def key_state(data):
    last_step(data)
    decode_state(data)


def key_block(data):
    records, arrived = decode_key_block(data, 7)
    assert len(records) == len(arrived)


READERS = {
    "block": (
        encode_block(
            block_of("abc", [1, 2, 3], sequence=[1, 2, 3], marks=[0, 1, 3], payload=to_bytes(ROWS))
        ),
        decode_block,
    ),
    "block with zeros in its keys": (encode_block(block_of(["\0", "b"], [1, 2])), decode_block),
    "head": (
        encode_head(Head(bytes(16), 8, 5, 1000, 400, 123), FINGERPRINT),
        lambda data: decode_head(data, FINGERPRINT, 8),
    ),
    "records that wait": (encode_waiting([1, 2, 3], RECORDS, releases=2), waiting_state),
    "timer": (
        encode_armed(Armed(7, 2, 5), FINGERPRINT),
        lambda data: decode_armed(data, FINGERPRINT),
    ),
    "record": (RECORDS[1], decode_record),
    "records of a key": (encode_key_block(RECORDS, [5, 6, 7]), key_block),
    "state": (
        encode_state(
            KeyState("ab" * 32, "numpy", 7, 1, 2, 3, np.ones(4, np.float32), np.ones(1), np.ones(4))
        ),
        key_state,
    ),
}


def altered(data, chance):
    """Bytes with a few changes: cut, longer, bits turned, or numbers at their limits."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(found) + 1)
        change = chance.randrange(6)
        if change == 0:
            del found[at:]
        elif change == 1:
            found[at:at] = chance.randbytes(chance.randint(1, 9))
        elif change == 2:
            del found[at : at + chance.randint(1, 9)]
        elif change == 3:
            size = chance.choice([1, 2, 4, 8])
            found[at : at + size] = chance.choice([b"\xff", b"\0", b"\x7f", b"\x80"]) * size
        elif at < len(found):
            found[at] ^= 1 << chance.randrange(8)
    return bytes(found)


def read_all(reader, data, mutations, seed):
    """How many alterations were refused; an error of another kind gets out."""
    chance, refused = random.Random(seed), 0
    tracemalloc.start()
    for _ in range(mutations):
        try:
            reader(altered(data, chance))
        except StateError:
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000
    return refused


MANY = pytest.param(2000, marks=pytest.mark.slow)


@pytest.mark.parametrize("mutations", [300, MANY])
@pytest.mark.parametrize("name", READERS)
def test_bytes_that_are_altered_are_refused_or_read(name, mutations):
    data, reader = READERS[name]
    reader(data)

    assert read_all(reader, data, mutations, seed=mutations) > 0


@pytest.mark.parametrize("mutations", [300, MANY])
def test_a_log_that_is_altered_is_refused_or_read(mutations, tmp_path):
    """A shard that was read can be written again."""
    weights = saved(random_model(), tmp_path)
    replaying = {"on_model_change": "replay", "replay": 2}
    shard = new_shard(weights, **replaying)
    shard.arrive(block_of("abc", [1, 2, 3]))
    shard.advance(10**6)
    pieces = encode_change(shard.changes(), shard.table, 0)
    shard.arrive(block_of("abd", [5 * 10**6] * 3, payload=to_bytes(ROWS)))
    shard.end_rows(shard.table.rows(["c"]))
    pieces += encode_change(shard.changes(), shard.table, len(pieces))
    pieces += encode_change(shard.everything(), shard.table, len(pieces))[:1]
    chance = random.Random(mutations)

    def reader(data):
        which = chance.randrange(len(pieces))
        again = new_shard(weights, **replaying)
        replay([*pieces[:which], altered(pieces[which], chance), *pieces[which + 1 :]], again)
        encode_change(again.everything(), again.table, 0)

    assert len(pieces) >= 4
    assert read_all(reader, b"-", mutations, seed=1) > mutations / 10
