"""`beam-rnn size` prints the exact size of the stored state."""

import numpy as np
import pytest

from beam_rnn import Columns, Model, Network
from beam_rnn.cli import main, size
from beam_rnn.cli.size import Load, sizes_of
from beam_rnn.engine.log_format import ROWS_IN_A_PIECE, SLACK, Head, encode_change, encode_head
from beam_rnn.engine.order import Order
from beam_rnn.engine.order_format import ORDER_HEADER_BYTES, Armed, encode_armed
from beam_rnn.engine.shard import Shard
from beam_rnn.engine.shard_stepper import ShardStepper
from beam_rnn.engine.steppers.predict import Policy
from beam_rnn.engine.waiting import Waiting
from beam_rnn.errors import ConfigurationError
from beam_rnn.records.block_format import Block
from beam_rnn.records.record_format import encode_record
from beam_rnn.records.waiting_format import encode_waiting
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.streaming.sources import PredictSource
from tests.helpers.models import keyed_models, random_model, saved

NETWORKS = {
    "gru": Network("gru", hidden=6),
    "lstm": Network("lstm", hidden=5),
    "rnn": Network("rnn", hidden=3),
    "layers": Network("lstm", hidden=(4, 3)),
    "quantiles": Network("gru", hidden=4, output="quantiles"),
}
END = 2**62
BY_TIME = Order("event_time", 0, 1000)
HEAD = encode_head(Head(bytes(16), 1, 1, 1, 1, 5), bytes(8))


@pytest.fixture(params=NETWORKS)
def model(request):
    return random_model(NETWORKS[request.param])


def encoded(times):
    return [encode_record(t, 0, np.array([0.5, 0.25])) for t in times]


def stepper_of(model, tmp_path, **policy):
    return PredictSource(ModelLoader(saved(model, tmp_path)), Policy(**policy)).stepper()


def records_of(keys, times):
    """Each key with a record of each time, that arrives then."""
    n = len(keys) * len(times)
    time = np.repeat(np.array(times, np.int64), len(keys))
    of_key = np.tile(np.arange(len(keys), dtype=np.int32), len(times))
    none, marks = np.zeros(n, np.int64), np.ones(n, np.uint8)
    rows = np.arange(n, dtype=np.int32)
    return Block(keys, of_key, time, time, none, marks, np.full((n, 2), 0.5), b"", rows)


def test_the_state_of_a_key(model, tmp_path):
    after, _ = stepper_of(model, tmp_path).step("a", None, encoded([1, 2, 3]))

    sizes = sizes_of(model, Load(keys=1000))
    assert sizes.state == ORDER_HEADER_BYTES + len(after)
    assert sizes.states == sizes.at_most == 1000 * sizes.state
    assert sizes.waiting == 0


def test_replayed_and_carried_inputs_count_for_the_size_of_a_state(tmp_path):
    columns = Columns(key="id", time="t", inputs=["x"], missing="carry")
    network = Network("gru", hidden=4)
    model = Model(network, network.initialize(inputs=2, outputs=1, seed=0), columns)
    stepper = stepper_of(model, tmp_path, on_model_change="replay", replay=3)
    after, _ = stepper.step("a", None, [encode_record(t, 0, np.ones(1)) for t in range(1, 9)])

    assert sizes_of(model, Load(replay=3)).state == ORDER_HEADER_BYTES + len(after)


@pytest.mark.parametrize("waiting", [1, 7])
def test_records_that_wait(model, waiting):
    pieces = [encode_waiting([9], [record]) for record in encoded(range(waiting))]
    stored = Waiting.read(BY_TIME, pieces).to_bytes()

    expected = len(stored) + len(encode_armed(Armed(7), bytes(8)))
    assert sizes_of(model, Load(keys=10, waiting=waiting)).waiting == 10 * expected


@pytest.mark.parametrize("replay", [0, 3])
@pytest.mark.parametrize("count", [1, 9, ROWS_IN_A_PIECE + 2])
def test_a_shard(model, tmp_path, replay, count):
    policy = {"on_model_change": "replay", "replay": replay} if replay else {}
    stepper = ShardStepper(stepper_of(model, tmp_path, **policy))
    shard = Shard(stepper, BY_TIME, END, inputs=2)
    keys = [f"{i:06}" for i in range(count)]
    shard.arrive(records_of(keys, [1, 2, 3, 4]))
    shard.advance(10**6)

    pieces = encode_change(shard.everything(), shard.table, 0)
    sizes = sizes_of(model, Load(keys=count, replay=replay, shards=1, key=6))
    assert len(shard.table.with_state()) == count
    assert sizes.states == sum(map(len, pieces)) + len(HEAD)
    assert sizes.at_most == 2 * sum(map(len, pieces)) + SLACK + len(HEAD)


def test_records_that_wait_in_a_shard(model, tmp_path):
    shard = Shard(ShardStepper(stepper_of(model, tmp_path)), BY_TIME, END, inputs=2)
    shard.arrive(records_of(["aa", "bb", "cc"], [1, 5000]))

    pieces = encode_change(shard.changes(), shard.table, 0)
    sizes = sizes_of(model, Load(keys=3, waiting=2, shards=1, key=2))
    assert sizes.waiting == sum(map(len, pieces))


def test_keys_are_shared_among_the_shards(model):
    one = sizes_of(model, Load(keys=1, shards=1)).states
    three = sizes_of(model, Load(keys=3, shards=1)).states

    assert (
        sizes_of(model, Load(keys=7, shards=3)).states
        == 2 * sizes_of(model, Load(keys=2, shards=1)).states + three
    )
    assert sizes_of(model, Load(keys=2, shards=50)).states == 2 * one


def test_parameters_and_products(model):
    sizes = sizes_of(model, Load())

    assert sizes.parameters * 4 == model.nbytes
    matrices = [value for value in model.parameters.values() if value.ndim == 2]
    assert sizes.multiply_adds == sum(value.size for value in matrices)


def test_size_describes_a_network_without_a_weights_file(capsys):
    size.main(["--cell=lstm", "--hidden=64", "--layers=2", "--keys=1000000"])

    printed = capsys.readouterr().out
    network = Network("lstm", 64, 2)
    columns = Columns(key="id", inputs=["x"])
    model = Model(network, network.initialize(1, 1, seed=0), columns)
    sizes = sizes_of(model, Load(keys=1_000_000))
    assert "lstm, 64 + 64 units; 1 in, 1 out" in printed
    assert f"{sizes.multiply_adds:,} multiply-adds" in printed
    assert f"a key's state     {sizes.state:,} bytes" in printed
    assert f"1,000,000 keys    {sizes.states / 1e6:,.1f} MB" in printed


@pytest.mark.parametrize("of_keys", [False, True])
def test_the_command_takes_a_weights_file(tmp_path, capsys, of_keys):
    model = keyed_models() if of_keys else random_model()
    path = saved(model, tmp_path)

    size.main([f"--weights={path}", "--keys=10", "--waiting=4", "--shards=2", "--key_bytes=3"])

    printed = capsys.readouterr().out
    sizes = sizes_of(model, Load(keys=10, waiting=4, shards=2, key=3))
    assert "gru, 6 + 6 units; 2 in, 1 out" in printed
    assert f"weights file      {(tmp_path / 'weights.arrow').stat().st_size:,} bytes" in printed
    assert f"{sizes.states:,} bytes in 2 shards" in printed
    assert f"{sizes.waiting:,} bytes for 40 of them" in printed
    assert f"{sizes.at_most / 1e6:,.1f} MB" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--keys=0"], "keys must be a whole number of at least 1, got 0"),
        (["--waiting=-1"], "waiting must be a whole number of at least 0, got -1"),
        (["--shards=0"], "shards must be a whole number of at least 1, got 0"),
        (["--key_bytes=0"], "key_bytes must be a whole number of at least 1, got 0"),
        (["--hidden=0"], "--hidden must be a whole number of at least 1"),
        (["--inputs=0"], "--inputs must be a whole number of at least 1"),
        (["--weights=a.arrow", "--cell=gru"], "leave out --cell"),
    ],
)
def test_invalid_flags_of_size_are_refused_in_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["size", *flags])

    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_both_directions_carry_no_state():
    model = random_model(Network("gru", hidden=4, bidirectional=True))

    with pytest.raises(ConfigurationError, match="a bidirectional network carries no state"):
        sizes_of(model, Load())
