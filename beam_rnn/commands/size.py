r"""Say how large the states of a stream are, before there is one.

    beam-rnn size --cell gru --hidden 64 --keys 1000000
    beam-rnn size --weights weights.arrow --keys 1000000 --waiting 10 --shards 64

Bytes of a key's state, of all keys, of the records that wait for their turn, and of the weights
file; and the multiply-adds of a record, which are those of the matrix products. They are what is
stored: what an engine adds to a key and to a timer comes on top. 1 MB is 1,000,000 bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from beam_rnn import Columns, Model, Network
from beam_rnn.commands import flags
from beam_rnn.commands.overwriting import check_outputs
from beam_rnn.commands.sizing import Load, sizes_of
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.models import weights_format as weights
from beam_rnn.models.keyed_models import Models
from beam_rnn.nn.cells import CELLS
from beam_rnn.streaming.model_files import read_model

NETWORK = {"cell": "gru", "hidden": 32, "layers": 1, "inputs": 1, "outputs": 1}
"""What a network is that no flag describes."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Our flags; there are none of Beam's."""
    parser = flags.parser("size", __doc__)
    parser.add_argument("--weights", help="the weights file; or a network that is none yet:")
    parser.add_argument("--cell", choices=list(CELLS), help=f"default: {NETWORK['cell']}")
    parser.add_argument("--hidden", type=flags.units, help=f"default: {NETWORK['hidden']}")
    parser.add_argument("--layers", type=flags.layers, help=f"default: {NETWORK['layers']}")
    parser.add_argument(
        "--inputs", type=flags.units, help=f"numbers of a record; default: {NETWORK['inputs']}"
    )
    parser.add_argument(
        "--outputs",
        type=flags.units,
        help=f"numbers of a prediction; default: {NETWORK['outputs']}",
    )
    parser.add_argument("--keys", type=int, default=1, help="how many keys; default: 1")
    parser.add_argument(
        "--waiting", type=int, default=0, help="records of a key that wait for their turn"
    )
    parser.add_argument(
        "--replay", type=int, default=0, help="inputs of a key that are kept, as Predict(replay=)"
    )
    parser.add_argument(
        "--shards", type=int, help="sets of keys, as Predict(shards=); default: each key alone"
    )
    parser.add_argument(
        "--key_bytes", type=int, default=16, help="of a key's name, for shards; default: 16"
    )
    return parser.parse_args(argv)


def model_of(args: argparse.Namespace) -> Models:
    """The model of the weights file, or one that was never trained.

    Raises:
        ConfigurationError: A network is described as well as a file, or one that cannot be.
    """
    given = {name: getattr(args, name) for name in NETWORK if getattr(args, name) is not None}
    if args.weights is not None:
        if given:
            raise ConfigurationError(
                f"--weights says what the network is: leave out --{', --'.join(given)}"
            )
        check_outputs({"--weights": args.weights}, {})
        found: Models = read_model(args.weights)
        return found
    cell, hidden, layers, inputs, outputs = (given.get(name, NETWORK[name]) for name in NETWORK)
    network = Network(str(cell), hidden, layers)
    columns = Columns(
        key="key",
        inputs=[f"x{i}" for i in range(inputs)],
        targets=[f"y{i}" for i in range(outputs)],
    )
    return Model(network, network.initialize(inputs, outputs, seed=0), columns)


def report(model: Models, load: Load, file: int) -> list[str]:
    """What the command prints.

    Args:
        model: The model.
        load: How many keys, and how they are kept.
        file: How many bytes its weights file has.
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
        lines.append(f"records waiting   {_bytes(sizes.waiting)} for {records:,} of them")
    if load.shards is not None:
        lines.append(f"logs at the most  {_bytes(sizes.at_most)}")
    return lines


def _bytes(count: int) -> str:
    """A number of bytes as a person reads it.

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
