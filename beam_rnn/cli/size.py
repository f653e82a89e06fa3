r"""Show how large the states of a stream are, before there is one.

    beam-rnn size --cell gru --hidden 64 --keys 1000000
    beam-rnn size --weights weights.arrow --keys 1000000 --waiting 10 --shards 64

The output has the bytes of a key's state, of all keys, of buffered records and of the weights file,
and the multiply-adds of a record, which are those of the matrix products. They are what is stored:
what an engine adds to each key and timer comes on top. 1 MB is 1,000,000 bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from beam_rnn.cli import flags
from beam_rnn.cli.dataclass_flags import add_flags, made, whole
from beam_rnn.cli.output_paths import check_outputs
from beam_rnn.core.checks import check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.engine.log_format import HEAD_BYTES, SLACK, arrived_bytes, states_bytes
from beam_rnn.engine.order_format import ARMED_BYTES, ORDER_HEADER_BYTES
from beam_rnn.models import weights_format as weights
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.models.model import Model
from beam_rnn.models.state_format import state_bytes
from beam_rnn.nn.network import Network
from beam_rnn.records.waiting_format import waiting_bytes
from beam_rnn.training.model_files import read_model

PRODUCTS = ("W_x", "W_h", "W_y")
"""The parameters that a step multiplies with, each number of them once."""


class Load(NamedTuple):
    """What the state of a stream has to hold.

    Attributes:
        keys: The number of keys.
        waiting: The number of buffered records of each key.
        replay: The number of its last inputs that are kept, for `Predict(replay=)`.
        shards: The number of shards; None for each key alone.
        key: The size of a key's name, in bytes.
    """

    keys: int = 1
    waiting: int = 0
    replay: int = 0
    shards: int | None = None
    key: int = 16


class Sizes(NamedTuple):
    """How large everything is, in bytes.

    Attributes:
        parameters: The number of parameters.
        multiply_adds: The number of multiplications with one of them that a record takes.
        state: The state of one key alone.
        states: Those of all keys; in shards: compacted logs, and their heads.
        waiting: The buffered records of all keys.
        at_most: Both together, just before a log is compacted.
    """

    parameters: int
    multiply_adds: int
    state: int
    states: int
    waiting: int
    at_most: int


def sizes_of(model: Models, load: Load) -> Sizes:
    """Return how large the states of a stream are.

        >>> from beam_rnn import Columns, Model, Network
        >>> network = Network("gru", hidden=64)
        >>> columns = Columns(key="id", inputs=["x"])
        >>> model = Model(network, network.initialize(inputs=1, outputs=1, seed=0), columns)
        >>> sizes_of(model, Load(keys=1000)).states
        355000

    Args:
        model: The model, with columns.
        load: The number of keys, and how they are kept.

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
    state = ORDER_HEADER_BYTES + state_bytes(model.state_size, outputs, history)
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
    """Return the number of keys of each shard that has any, if hashes spread them evenly."""
    each, more = divmod(keys, shards)
    return [each + (i < more) for i in range(shards if each else more)]


NETWORK = ("cell", "hidden", "layers")
RECORDS = {"inputs": 1, "outputs": 1}
"""The flags that describe a network which is in no file: its fields, and the sizes of records."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return our flags; there are none of Beam's."""
    parser = flags.parser("size", __doc__)
    parser.add_argument("--weights", help="the weights file; without it a network of these flags:")
    add_flags(parser, Network, NETWORK, unset=True)
    numbers = {
        "inputs": ("the size of a record", None),
        "outputs": ("the size of a prediction", None),
        "keys": ("the number of keys", 1),
        "waiting": ("the number of records of a key that are buffered", 0),
        "replay": ("the number of inputs of a key that are kept, as Predict(replay=)", 0),
        "shards": ("the number of shards, as Predict(shards=); default: each key alone", None),
        "key_bytes": ("the size of a key's name, for shards", 16),
    }
    for name, (text, default) in numbers.items():
        shown = f"{text}; default: {RECORDS[name]}" if name in RECORDS else text
        parser.add_argument(f"--{name}", type=whole, metavar="N", default=default, help=shown)
    return parser.parse_args(argv)


def model_of(args: argparse.Namespace) -> Models:
    """Return the model of the weights file, or one that was never trained.

    Raises:
        ConfigurationError: A network is described as well as a file, or one that cannot be.
    """
    described = (*NETWORK, *RECORDS)
    given = [name for name in described if getattr(args, name) is not None]
    if args.weights is not None:
        if given:
            raise ConfigurationError(
                f"--weights says what the network is: leave out --{', --'.join(given)}"
            )
        check_outputs({"--weights": args.weights}, {})
        found: Models = read_model(args.weights)
        return found
    network = made(Network, args, NETWORK)
    inputs, outputs = (
        default if getattr(args, name) is None else getattr(args, name)
        for name, default in RECORDS.items()
    )
    for name, size in zip(RECORDS, (inputs, outputs), strict=True):
        check_whole(f"--{name}", size)
    columns = Columns(
        key="key",
        inputs=[f"x{i}" for i in range(inputs)],
        targets=[f"y{i}" for i in range(outputs)],
    )
    return Model(network, network.initialize(inputs, outputs, seed=0), columns)


def report(model: Models, load: Load, file: int) -> list[str]:
    """Return what the command prints.

    Args:
        model: The model.
        load: The number of keys, and how they are kept.
        file: The size of its weights file, in bytes.
    """
    sizes = sizes_of(model, load)
    network, columns = model.network, model.columns
    assert columns is not None, "they were needed for the sizes"
    ways = f"{columns.number_size} in, {model.outputs} out"
    units = " + ".join(map(str, network.sizes))
    lines = [
        f"network           {network.cell}, {units} units; {ways}",
        f"parameters        {sizes.parameters:,}",
        f"weights file      {_bytes(file)}",
        f"a record          {sizes.multiply_adds:,} multiply-adds",
        f"a key's state     {_bytes(sizes.state)}",
    ]
    where = "" if load.shards is None else f" in {load.shards} shards"
    lines.append(f"{load.keys:,} keys".ljust(17) + f" {_bytes(sizes.states)}{where}")
    if load.waiting:
        records = load.keys * load.waiting
        lines.append(f"records buffered  {_bytes(sizes.waiting)} for {records:,} of them")
    if load.shards is not None:
        lines.append(f"logs at most      {_bytes(sizes.at_most)}")
    return lines


def _bytes(count: int) -> str:
    """Return a number of bytes as a person reads it.

    >>> [_bytes(count) for count in (338, 51_460, 338_000_000)]
    ['338 bytes', '51,460 bytes', '338.0 MB']
    """
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count:,} bytes"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the sizes."""
    args = parse(argv)
    model = model_of(args)
    if args.weights is not None and Path(args.weights).is_file():
        file = Path(args.weights).stat().st_size
    else:
        file = len(weights.to_bytes(model))
    load = Load(args.keys, args.waiting, args.replay, args.shards, args.key_bytes)
    print("\n".join(report(model, load, file)))
