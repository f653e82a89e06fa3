"""The state of a shard: blocks, log and memory, and its bounded size."""

import random
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_rnn import Predict
from beam_rnn import weights as weights_file
from beam_rnn.engine import log_format as journal
from beam_rnn.engine.log_format import Head, decode_head, encode_change, encode_head, replay
from beam_rnn.engine.order import Order
from beam_rnn.engine.order_columns import Places
from beam_rnn.engine.payloads import rows_by_schema
from beam_rnn.engine.shard import Shard
from beam_rnn.engine.shard_stepper import ShardStepper
from beam_rnn.engine.steppers.predict import Policy
from beam_rnn.errors import ConfigurationError, StateError
from beam_rnn.records.arrow_batches import to_bytes
from beam_rnn.records.block_format import Block, by_shard, decode_block, encode_block, shards_of
from beam_rnn.streaming import shard_dofn as sharding
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.shard_dofn import Remembered
from beam_rnn.streaming.sources import PredictSource
from tests.helpers.engines import predict
from tests.helpers.models import COLUMNS, random_model, saved
from tests.helpers.streams import predict_stream
from tests.streaming.test_streaming import tick
from tests.transforms.test_predict import START, row

GOLDEN = Path(__file__).parents[1] / "contracts" / "golden"
FINGERPRINT = bytes(range(8))
END = 2**62


def block_of(keys, times, *, arrived=0, payload=b"", x=0.5, **more):
    names = list(dict.fromkeys(keys))
    n = len(keys)
    return Block(
        names,
        np.array([names.index(key) for key in keys], np.int32),
        np.full(n, arrived),
        np.array(times, np.int64),
        np.array(more.get("sequence", [0] * n), np.int64),
        np.array(more.get("marks", [1] * n), np.uint8),
        np.full((n, 2), x) + np.arange(n)[:, np.newaxis],
        payload,
        np.arange(n, dtype=np.int32),
    )


def plain(block):
    return [part.tolist() if isinstance(part, np.ndarray) else part for part in block]


blocks = st.builds(
    lambda keys, times, arrived, payload, numbered, marked: block_of(
        keys,
        times[: len(keys)],
        arrived=arrived,
        payload=payload,
        sequence=[-i if numbered else 0 for i in range(len(keys))],
        marks=[i % 4 if marked else 1 for i in range(len(keys))],
    ),
    st.lists(st.sampled_from(["a", "é", "k" * 300, "\0"]), min_size=1, max_size=9),
    st.lists(st.integers(0, 2**53), min_size=9, max_size=9),
    st.integers(-(2**53), 2**53),
    st.binary(max_size=9),
    st.booleans(),
    st.booleans(),
)


@given(block=blocks)
def test_a_block_is_the_same_after_its_bytes(block):
    read = decode_block(encode_block(block))

    if not block.payload:  # then nothing is said of its rows
        block = block._replace(row=np.zeros(block.records, np.int32))
    assert plain(read) == plain(block)


@given(block=blocks, shards=st.integers(1, 5))
def test_every_record_is_in_the_shard_of_its_key_in_the_order_in_which_it_came(block, shards):
    parts = by_shard(block, shards)

    assert sorted(row for _, part in parts for row in part.row.tolist()) == list(
        range(block.records)
    )
    for shard, part in parts:
        rows = part.row.tolist()
        assert rows == sorted(rows)
        assert [part.keys[i] for i in part.of_key] == [block.keys[block.of_key[r]] for r in rows]
        assert set(shards_of(part.keys, shards)) == {shard}
        assert plain(part.pick(slice(None))._replace(keys=[], of_key=[])) == plain(
            block.pick(part.row)._replace(keys=[], of_key=[], payload=b"", row=part.row)
        )


def test_a_key_is_in_the_same_shard_for_ever():
    """A job that is updated looks for states where they were put."""
    keys = ["a", "pump-1", "é", "k" * 100, "12345678", "123456789"]

    assert shards_of(keys, 1000).tolist() == SHARDS_OF_KEYS
    assert [int(shards_of([key], 1000)[0]) for key in keys] == SHARDS_OF_KEYS


SHARDS_OF_KEYS = [355, 363, 419, 859, 3, 980]


def test_keys_are_spread_evenly():
    counts = np.bincount(shards_of([f"sensor-{i}" for i in range(16_000)], 16))

    assert counts.min() > 850  # 1000 each, give or take four standard deviations
    assert counts.max() < 1150


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("weights"))


def new_shard(weights, by="event_time", **policy):
    stepper = PredictSource(ModelLoader(weights), Policy(**policy)).stepper()
    return Shard(ShardStepper(stepper), Order(by, 0, 1000), END, 2)


def rows_of(n, i=0):
    """Arrow rows for a block, as bytes."""
    return to_bytes(pa.table({"note": [f"{i}/{j}" for j in range(n)]}))


def notes_of(shard, held):
    """Return the notes in the Arrow rows of records."""
    found = [""] * len(held.time)
    if len(shard.payloads):
        for table, places, at in rows_by_schema(shard.payloads.of(held), held):
            for place, note in zip(places, table.take(at)["note"].to_pylist(), strict=True):
                found[place] = note
    return found if len(found) > 1 else found[0]


def contents(shard):
    """Return the contents of a shard, independent of the row order."""
    table = shard.table
    states = {
        key: plain(table.state(row))
        for key, row in zip(table.names(table.with_state()), table.with_state(), strict=True)
    }
    held = shard.pending.all()
    waiting = []
    if held is not None:
        notes = [notes_of(shard, held.pick(slice(i, i + 1))) for i in range(len(held.time))]
        nothing = np.zeros(len(notes))
        columns = held._replace(row=table.keys[held.row], piece=np.array(notes), at=nothing)
        waiting = sorted(zip(*(column.tolist() for column in columns), strict=True))
    return states, waiting


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_shard_is_restored_from_its_log(data, weights):
    """Whatever happened to it, and in whatever order Beam gives the pieces back."""
    by = data.draw(st.sampled_from(["event_time", "sequence", "arrival"]))
    keeps = {"on_model_change": "replay", "replay": 3} if data.draw(st.booleans()) else {}
    shard = new_shard(weights, by, **keeps)
    pieces = []
    for i in range(data.draw(st.integers(1, 6))):
        action = data.draw(st.sampled_from(["arrive", "arrive", "advance", "end"]))
        times = data.draw(st.lists(st.integers(0, 9000), min_size=1, max_size=6))
        if action == "arrive":
            keys = [data.draw(st.sampled_from("abc")) for _ in times]
            shard.arrive(block_of(keys, times, sequence=times, payload=rows_of(len(keys), i), x=i))
        elif action == "advance":
            shard.advance(times[0])
        else:
            shard.end_rows(shard.table.with_state()[:1])
        pieces += encode_change(shard.changes(), shard.table, len(pieces))
    if data.draw(st.booleans()):
        pieces = encode_change(shard.everything(), shard.table, len(pieces))

    again = new_shard(weights, by, **keeps)
    replay(data.draw(st.permutations(pieces)), again)

    assert contents(again) == contents(shard)
    assert set(again.table.names(again.table.in_use())) == set(
        shard.table.names(shard.table.in_use())
    )


def test_the_log_of_an_earlier_release_is_read(tmp_path):
    """Two keys with states, one whose state is gone, and a record that waits."""
    model = random_model()
    states, waiting = GOLDEN_CONTENTS
    pieces = [bytes.fromhex(line) for line in (GOLDEN / "shard-log-v3.hex").read_text().split()]
    shard = new_shard(saved(model, tmp_path))

    replay(pieces, shard)

    found_states, found_waiting = contents(shard)
    assert {key: [state[2], state[4]] for key, state in found_states.items()} == states
    assert [[*record[1:4], record[7]] for record in found_waiting] == waiting
    assert plain(shard.table.state(int(shard.table.rows(["é"])[0]))) == [
        "ab" * 32, "numpy", 7, 1, 2, 3, [1.0] * 4, [0.5], [],
    ]  # fmt: skip


GOLDEN_CONTENTS = {"a": [1, 1000], "é": [7, 2]}, [["a", 4000, 3000, "rows"]]

HEAD = Head(bytes(range(16)), 8, 5, 1000, 400, 123_000)


def test_the_head_of_an_earlier_release_is_read():
    data = bytes.fromhex((GOLDEN / "shard-head-v1.hex").read_text())

    assert decode_head(data, FINGERPRINT, 8) == HEAD
    assert encode_head(HEAD, FINGERPRINT) == data


def test_the_block_of_an_earlier_release_is_read():
    block = block_of(["a", "é", "a"], [3, 1, 2], arrived=7, payload=b"rows", sequence=[1, 2, -3],
                     marks=[0, 1, 3])  # fmt: skip
    data = bytes.fromhex((GOLDEN / "shard-block-v3.hex").read_text())

    assert plain(decode_block(data)) == plain(block)
    assert encode_block(block) == data


@pytest.mark.parametrize(
    ("data", "shards", "fingerprint", "match"),
    [
        (encode_head(HEAD, FINGERPRINT), 4, FINGERPRINT, r"in 8 shards, this job has shards=4"),
        (encode_head(HEAD, FINGERPRINT), 8, bytes(8), "read by columns of fingerprint 00010203"),
        (b"\x09" + encode_head(HEAD, FINGERPRINT)[1:], 8, FINGERPRINT, "format version 09"),
        (b"", 8, FINGERPRINT, "format version None"),
    ],
)
def test_a_head_that_does_not_fit_is_an_error_that_says_how(data, shards, fingerprint, match):
    with pytest.raises(StateError, match=match):
        decode_head(data, fingerprint, shards)


def test_a_piece_or_block_of_another_version_is_an_error(weights):
    with pytest.raises(StateError, match="piece of a shard's log has format version 63"):
        replay([b"c" * 40], new_shard(weights))
    with pytest.raises(StateError, match="block of records has format version 07"):
        decode_block(b"\x07")


def test_a_log_is_compacted_when_half_of_it_is_outdated(weights, monkeypatch):
    """So that it is never much longer than what it holds, and each byte is written about twice."""
    logged, written = [], []
    change = journal.encode_change
    monkeypatch.setattr(
        sharding,
        "encode_change",
        lambda *args: written.append(sum(map(len, pieces := change(*args)))) or pieces,
    )
    close = encode_head
    monkeypatch.setattr(
        sharding,
        "encode_head",
        lambda head, f: logged.append((head.logged, head.live)) or close(head, f),
    )
    monkeypatch.setattr(sharding, "SLACK", 2000)
    events = [e for t in range(60) for e in ([tick(t, f"k{i}") for i in range(40)], t)]

    predict_stream(Predict(weights, shards=1, order="arrival"), *events)

    assert len(logged) >= 60
    assert all(size <= 2 * live + 2000 for size, live in logged)
    live = logged[-1][1]
    assert 40 * 80 < live < 40 * 400
    assert sum(written) < 3.5 * sum(written[:1] * 60)


def test_a_cached_shard_is_used_only_with_its_token():
    remembered, shard = Remembered(), object()

    remembered.put("which", b"1", shard)
    assert remembered.take("which", b"2") is None
    assert remembered.take("which", b"1") is None  # what is not trusted once is forgotten
    remembered.put("which", b"3", shard)
    assert remembered.take("another", b"3") is None
    assert remembered.take("which", b"3") is shard
    assert remembered.take("which", b"3") is None  # it is taken out while it is used


def test_a_shard_that_is_not_used_is_forgotten(monkeypatch):
    now = 0.0
    monkeypatch.setattr(sharding.clock, "monotonic", lambda: now)
    remembered, shard = Remembered(), object()
    remembered.put("idle", b"1", shard)
    now = sharding.FORGOTTEN_AFTER + 1
    remembered.put("busy", b"2", shard)

    assert remembered.take("idle", b"1") is None
    assert remembered.take("busy", b"2") is shard


def test_shards_are_remembered(weights, monkeypatch):
    """So that the tests of a process that forgets do not test the same."""
    monkeypatch.setattr(sharding, "replay", None)
    events = [e for t in range(9) for e in ([tick(t, k) for k in "abcd"], t)]

    outputs = predict_stream(Predict(weights, shards=2), *events)

    assert len(outputs.predictions) == 36


def test_ended_keys_leave_no_state(weights, monkeypatch):
    """State is bounded by the number of current keys, not of all keys ever seen."""
    rows = []
    close = sharding.StepShards._close
    monkeypatch.setattr(
        sharding.StepShards,
        "_close",
        lambda self, key, shard, *args, **more: (
            rows.append(len(shard.table)) or close(self, key, shard, *args, **more)
        ),
    )
    events = [e for t in range(0, 300, 3) for e in ([tick(t, f"k{t}")], t)]

    outputs = predict_stream(Predict(weights, shards=1, idle_after=6, grid=1), *events)

    assert len(outputs.ended) == 100
    assert max(rows) < 8


def test_keys_with_only_invalid_records_leave_no_state(weights):
    shard = new_shard(weights, "arrival")

    outcome = shard.arrive(block_of(["a", "b", "c"], [1, 2, 3], x=1e300))

    assert [row.result.key for row in outcome.rows] == ["a", "b", "c"]
    assert len(shard.table) == 0
    assert not shard.changes().removed  # they were never logged


@pytest.mark.parametrize("shards", [0, -1, 1.5, "8", True])
def test_an_invalid_number_of_shards_is_refused(shards):
    with pytest.raises(ConfigurationError, match=r"shards must be a whole number of at least 1"):
        Predict("weights.arrow", shards=shards)


def test_a_model_that_keeps_its_keys_steps_them_in_shards(tmp_path):
    """Two models of other sizes at work in one shard, and one bad record."""
    old, new = random_model(seed=0), random_model(replace(random_model().network, hidden=9), seed=1)
    (tmp_path / "w-1.arrow").write_bytes(weights_file.to_bytes(old))
    files = {"w-2.arrow": weights_file.to_bytes(new)}

    class Swap(beam.DoFn):
        def process(self, record):
            if record.get("swap"):
                (tmp_path / "w-2.arrow").write_bytes(files["w-2.arrow"])
            yield record

    class Swapped(beam.PTransform):
        def expand(self, pcoll):
            transform = Predict(
                tmp_path / "w-*.arrow", watch=0, on_model_change="keep", shards=1, with_state=True
            )
            return pcoll | beam.ParDo(Swap()) | transform

    before = [tick(t, "a") for t in range(4)]
    after = [tick(t, key) for t in range(5, 9) for key in "ab"]
    poison = tick(6, "a", x=1e300, n=1)

    outputs = predict_stream(Swapped(), before, 4, [tick(5, "c", swap=True)], 5.5, [*after, poison])

    from beam_rnn.testing import oracle

    mine = oracle(old, before + [r for r in after if r["id"] == "a"], with_state=True)
    theirs = oracle(new, [r for r in after if r["id"] == "b"], with_state=True)
    by_key = {key: sorted(p for p in outputs.predictions if p.key == key) for key in "ab"}
    assert by_key["a"] == sorted(mine.predictions)
    assert by_key["b"] == sorted(theirs.predictions)
    assert len(outputs.invalid) == 1


@pytest.mark.parametrize("policy", ["keep", "reset", "replay"])
@pytest.mark.parametrize("idle_after", [None, 4])
@pytest.mark.parametrize("at_most", [4, 10_000])
def test_sequences_that_end_when_the_model_changes(
    policy, idle_after, at_most, tmp_path, monkeypatch
):
    """Sequences end with their model, and new ones start with the newest, as key by key."""
    from beam_rnn.engine import shard_stepper as stepping

    monkeypatch.setattr(stepping, "BATCHED_AT_MOST", at_most)
    columns = replace(COLUMNS, start="first", end="last")
    models = [random_model(columns=columns, seed=seed) for seed in (0, 1)]
    chance = random.Random(0)
    times = [t for t in range(60) if t % 9 < 6]
    marks = [{"first": chance.random() < 0.1, "last": chance.random() < 0.1} for _ in range(3 * 60)]
    records = [tick(t, key, **marks.pop()) for t in times for key in "abc"]

    class Swap(beam.DoFn):
        def __init__(self, folder):
            self.folder = folder

        def process(self, record):
            if record["t"] >= START + 30:
                (self.folder / "w-2.arrow").write_bytes(weights_file.to_bytes(models[1]))
            yield record

    class Swapped(beam.PTransform):
        def __init__(self, shards):
            super().__init__()
            self.folder = tmp_path / str(shards)
            self.folder.mkdir()
            (self.folder / "w-1.arrow").write_bytes(weights_file.to_bytes(models[0]))
            self.predict = Predict(
                self.folder / "w-*.arrow",
                order="arrival",
                watch=0,
                on_model_change=policy,
                replay=3 if policy == "replay" else 0,
                idle_after=idle_after,
                with_state=True,
                shards=shards,
            )

        def expand(self, pcoll):
            return pcoll | beam.ParDo(Swap(self.folder)) | self.predict

    events = [records[:60], 25, records[60:66], 31, records[66:], 70]
    alone, together = (predict_stream(Swapped(shards), *events) for shards in (None, 2))

    assert {p.model for p in together.predictions} == {model.digest for model in models}
    assert sorted(together.predictions) == sorted(alone.predictions)
    assert sorted(together.ended) == sorted(alone.ended)


def test_many_records_of_one_key_among_few_of_others(model, weights):
    """More than fit one sweep."""
    from beam_rnn.testing import oracle

    records = [row(t, "hot") for t in range(20_000)] + [row(t, k) for t in range(3) for k in "xyz"]
    random.Random(0).shuffle(records)

    outputs = predict(Predict(weights, shards=1, with_state=True), records)

    assert sorted(outputs.predictions) == sorted(
        oracle(model, records, with_state=True).predictions
    )


def test_records_before_one_that_is_due_are_taken_with_it(weights):
    """Even if they arrived with a later timestamp; only for that key."""
    shard = new_shard(weights)
    shard.arrive(block_of(["a", "a"], [5000, 8000]))
    shard.arrive(block_of(["a", "b"], [1000, 1000], arrived=9000))

    outcome = shard.advance(6000)

    assert outcome.keys.tolist() == ["a"]
    assert outcome.records.time.tolist() == [1000, 5000]
    assert outcome.records.due.tolist() == [6000, 6000]
    outcome = shard.advance(9000)
    assert sorted(outcome.records.time.tolist()) == [1000, 8000]
    assert shard.pending.all() is None


@settings(deadline=None, max_examples=60)
@given(
    bundles=st.lists(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 30)), min_size=1
        ),
        max_size=9,
    ),
    every=st.integers(1, 9),
)
def test_waiting_records_are_released_once_and_in_order(bundles, every, weights):
    """For all orders of arrival and releases in between."""
    shard = new_shard(weights)
    came, taken = [], []
    for i, bundle in enumerate(bundles):
        keys, times, arrived = zip(*bundle, strict=True)
        block = block_of(keys, np.array(times) * 1000, x=len(came))
        shard.pending.add(shard._held(block, len(came) + np.arange(len(keys)), np.array(arrived)))
        came += [(key, time * 1000) for key, time, _ in bundle]
        if i % every == 0:
            turn = shard.pending.release(5 * i, Places.of(shard.table))
            if turn is not None:
                held, _ = turn
                taken += list(zip(shard.table.keys[held.row], held.time.tolist(), strict=True))
        waiting = shard.pending.all()
        left = [] if waiting is None else waiting.due.tolist()
        assert shard.pending.earliest == min(left, default=None)
        assert len(taken) + len(left) == len(came)
    turn = shard.pending.release(END, Places.of(shard.table))
    if turn is not None:
        held, _ = turn
        taken += list(zip(shard.table.keys[held.row], held.time.tolist(), strict=True))

    assert sorted(taken) == sorted(came)
    assert not shard.pending.of_piece


@pytest.mark.parametrize("payload", [False, True])
def test_many_small_blocks_that_wait_are_written_as_one(payload, weights):
    """As while the watermark stands still."""
    shard = new_shard(weights)
    for i in range(300):
        shard.arrive(block_of("abc", [i] * 3, payload=rows_of(3, i) if payload else b"", x=i))
    alone = encode_change(shard.changes(), shard.table, 0)

    pieces = encode_change(shard.everything(), shard.table, 0)

    assert (len(alone), len(pieces)) == (300, 1)
    assert len(pieces[0]) < sum(map(len, alone))
    again = new_shard(weights)
    replay(pieces, again)
    assert contents(again) == contents(shard)


def test_a_record_that_waits_among_others_is_logged_with_its_own_rows(weights):
    """Most of its block is late: neither their keys nor their rows are kept."""
    shard = new_shard(weights)
    keys = [f"key-{i}" for i in range(500)]
    shard.arrive(block_of(keys, [5000] * 500))
    shard.advance(10**4)
    shard.changes()

    shard.arrive(block_of([*keys, "a"], [*[1000] * 500, 20_000], payload=rows_of(501)))

    (piece,) = encode_change(shard.changes(), shard.table, 0)
    assert len(piece) < 1000
    assert sum(len(payload.data) for payload in shard.payloads) < 1000


def test_the_records_of_a_block_may_be_some_of_its_rows(weights):
    shard = new_shard(weights)
    block = block_of("abcd", [1000, 2000, 3000, 4000], payload=rows_of(4))

    shard.arrive(block.pick(np.array([1, 3])))

    assert notes_of(shard, shard.pending.all()) == ["0/1", "0/3"]
    again = new_shard(weights)
    replay(encode_change(shard.changes(), shard.table, 0), again)
    assert contents(again) == contents(shard)


@pytest.mark.parametrize(
    ("x", "times"),
    [(0.5, [1000, 1000]), (0.5, [2000, 1000]), (1e300, [1000, 2000])],
    ids=["the same again", "late", "out of range"],
)
def test_rows_of_released_records_are_dropped(x, times, weights):
    """Also where nothing was predicted of them."""
    shard = new_shard(weights)
    for i, time in enumerate(times):
        shard.arrive(block_of("a", [time], x=x, arrived=5000, payload=rows_of(1, i)))
        if time == 2000:
            shard.advance(5000)

    shard.advance(5000)

    assert shard.pending.all() is None
    assert len(shard.payloads) == 0


def test_rows_of_records_with_a_jumping_number_are_dropped(weights):
    stepper = PredictSource(ModelLoader(weights), Policy()).stepper()
    shard = Shard(ShardStepper(stepper), Order("sequence", 0, 1000, max_jump=5), END, 2)
    for i, number in enumerate([0, 100]):
        block = block_of("a", [i * 1000], sequence=[number], payload=rows_of(1, i))
        shard.arrive(block)
        shard.advance(10_000 * (i + 1))

    assert shard.pending.all() is None
    assert len(shard.payloads) == 0


def test_waiting_records_are_processed_if_the_window_closes_earlier(weights):
    """The job was restarted with a shorter allowed lateness."""
    stepper = ShardStepper(PredictSource(ModelLoader(weights), Policy()).stepper())
    order = Order("event_time", 30_000_000, 1000)
    before, after = (Shard(stepper, order, 10_000_000, 2, at * 10**6) for at in (60, 20))
    before.arrive(block_of("a", [5_000_000]))
    replay(encode_change(before.changes(), before.table, 0), after)

    *_, outcome = after.close()

    assert outcome.records.time.tolist() == [5_000_000]
    assert after.pending.all() is None


def test_numbers_that_wait_far_ahead_do_not_hold_up_what_follows(weights):
    shard = new_shard(weights, "sequence")
    shard.arrive(block_of(["a"], [0], sequence=[0]))
    shard.advance(10**4)
    shard.arrive(block_of(["a"] * 3, [1, 2, 3], sequence=[7, 8, 2], payload=rows_of(3)))

    outcome = shard.arrive(block_of(["a"], [4], sequence=[1], payload=rows_of(1, 1)))

    assert outcome.records.sequence.tolist() == [1, 2]
    assert shard.pending.all().sequence.tolist() == [7, 8]


def test_a_compacted_log_keeps_the_positions_of_ended_sequences(weights):
    """Earlier records are late, also after the shard is restored."""
    shard = new_shard(weights)
    shard.arrive(block_of(["a"], [5000], marks=[3]))  # an end mark
    shard.advance(9000)

    again = new_shard(weights)
    replay(encode_change(shard.everything(), shard.table, 0), again)

    (late,) = again.arrive(block_of(["a"], [4000])).rows
    assert late.result.behind == 1000
