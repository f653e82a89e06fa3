"""How large the states of a stream are, computed from the formats themselves."""

from typing import NamedTuple

from beam_rnn.core.checks import check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.engine.log_format import HEAD_BYTES, SLACK, arrived_bytes, states_bytes
from beam_rnn.engine.order_format import ARMED_BYTES, TURN_BYTES
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.models.state_format import state_bytes
from beam_rnn.records.record_format import waiting_bytes

PRODUCTS = ("W_x", "W_h", "W_y")
"""The parameters that a step multiplies with: each number of them once."""


class Load(NamedTuple):
    """What a stream asks of the state.

    Attributes:
        keys: How many keys there are.
        waiting: How many records of each key wait for their turn.
        replay: How many of the last inputs are kept, for `Predict(replay=)`.
        shards: How many shards there are; None for each key alone.
        key: How many bytes a key has.
    """

    keys: int = 1
    waiting: int = 0
    replay: int = 0
    shards: int | None = None
    key: int = 16


class Sizes(NamedTuple):
    """How large everything is, in bytes.

    Attributes:
        parameters: How many numbers are learned.
        multiply_adds: How many multiplications with one of them a record takes.
        state: The state of one key alone.
        states: Those of all keys; in shards: logs that were just written anew, and their heads.
        waiting: The records that wait, of all keys.
        at_most: Both together, just before what is out of date is written anew.
    """

    parameters: int
    multiply_adds: int
    state: int
    states: int
    waiting: int
    at_most: int


def sizes_of(model: Models, load: Load) -> Sizes:
    """How large the states of a stream are.

        >>> from beam_rnn import Columns, Model, Network
        >>> network = Network("gru", hidden=64)
        >>> columns = Columns(key="id", inputs=["x"])
        >>> model = Model(network, network.initialize(inputs=1, outputs=1, seed=0), columns)
        >>> sizes_of(model, Load(keys=1000)).states
        355000

    Args:
        model: The model, with columns.
        load: How many keys, and how they are kept.

    Raises:
        ConfigurationError: A network of both directions, which carries no state; a number below
            its least.
    """
    least = {"keys": 1, "waiting": 0, "replay": 0, "shards": 1, "key": 1}
    for name, value in load._asdict().items():
        if value is not None:
            check_whole("key_bytes" if name == "key" else name, value, least[name])
    if model.network.bidirectional:
        raise ConfigurationError(
            "a bidirectional network carries no state from record to record: Predict does not "
            "take it; Smooth and PredictSequences do"
        )
    assert model.columns is not None, "ReadModel gives models with columns"
    numbers, outputs = model.columns.number_size, model.outputs
    history = load.replay * numbers
    state = TURN_BYTES + state_bytes(model.state_size, outputs, history)
    own = model.any if isinstance(model, KeyedModels) else model
    products = [
        value.size for name, value in own.parameters.items() if name.rpartition(".")[2] in PRODUCTS
    ]
    states = load.keys * state
    armed = ARMED_BYTES if load.waiting else 0
    held = waiting_bytes(load.waiting, numbers)
    waiting = load.keys * (armed + held)
    at_most = states + waiting + load.keys * held  # those that were taken, until they are half
    if load.shards is not None:
        states = at_most = waiting = 0
        for keys in _spread(load.keys, load.shards):
            live = states_bytes(keys, model.state_size, outputs, history, load.key)
            held = arrived_bytes(keys * load.waiting, numbers, keys, load.key)
            states += live + HEAD_BYTES
            waiting += held
            at_most += 2 * (live + held) + SLACK + HEAD_BYTES
    parameters = sum(value.size for value in own.parameters.values())
    return Sizes(parameters, sum(products), state, states, waiting, at_most)


def _spread(keys: int, shards: int) -> list[int]:
    """How many keys each shard has that has any, if hashes spread them evenly."""
    each, more = divmod(keys, shards)
    return [each + (i < more) for i in range(shards if each else more)]
