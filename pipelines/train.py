r"""Learn from files of records, and write the weights.

    python -m pipelines.train --input 'pipelines/data/nab/*.csv' --key filename \\
        --time timestamp --inputs value --targets value --output weights.arrow

Learns from the first --train_fraction of each key's records, in time. Files are CSV, Parquet,
Arrow or JSON lines, by their suffix. Records that cannot be used go to a file of their own,
`<output>.invalid.jsonl`, if there are any. With --per_key the file holds a model for each key, and
one of all keys for those that have none of their own. Beam's own flags, such as --runner, pass
through.
"""

import argparse
from collections.abc import Sequence

import apache_beam as beam

from beam_rnn import Adam, Bptt, Columns, Network, Sequences, Train, Training, WriteModel
from beam_rnn.cells import CELLS
from beam_rnn.losses import LOSSES
from beam_rnn.scaler import SCALERS
from pipelines import command
from pipelines.files import ReadFiles, WriteAside


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = command.parser(__doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--output", required=True, help="the weights file to write")
    parser.add_argument("--key", required=True, help="column of the key; may be `filename`")
    parser.add_argument("--time", required=True, help="column of the event time")
    parser.add_argument("--sequence", help="column of a number that orders records of one time")
    parser.add_argument("--inputs", required=True, type=command.names, help="columns: A,B")
    parser.add_argument("--targets", type=command.names, help="columns: A,B; default: --inputs")
    parser.add_argument(
        "--horizon",
        type=command.horizons,
        default=1,
        help="how many records ahead; or several at once: 1,6,24 or 1-24",
    )
    parser.add_argument("--sequence_length", type=int, default=256, help="steps a sequence")
    parser.add_argument("--cell", choices=list(CELLS), default="gru")
    parser.add_argument("--hidden", type=int, default=32, help="size of the hidden state")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument(
        "--residual",
        action=argparse.BooleanOptionalAction,
        help="predict the change from the last value; default: if the targets are the first inputs",
    )
    parser.add_argument("--bptt_steps", type=int, default=32, help="k: how far back in time")
    parser.add_argument("--loss", choices=list(LOSSES), default="mae")
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="of Adam")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch_size", type=int, default=32, help="sequences a batch")
    parser.add_argument("--scaler", choices=SCALERS, default="per_key")
    parser.add_argument("--shards", type=int, choices=[1], default=1, help="workers that learn")
    parser.add_argument(
        "--per_key", action="store_true", help="a model for each key, and one for all others"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train_fraction", type=float, default=0.6)
    return parser.parse_known_args(argv)


def build(pipeline: beam.Pipeline, args: argparse.Namespace) -> None:
    """Read -> sequences -> train -> write."""
    columns = Columns(
        key=args.key,
        time=args.time,
        sequence=args.sequence,
        inputs=args.inputs,
        targets=args.targets or (),
        horizon=args.horizon,
    )
    residual = args.residual
    if residual is None:
        residual = columns.inputs[: len(columns.targets)] == columns.targets
    network = Network(args.cell, args.hidden, args.layers, residual=residual)
    training = Training(
        bptt=Bptt(steps=args.bptt_steps),
        loss=args.loss,
        optimizer=Adam(args.learning_rate),
        epochs=args.epochs,
        batch_size=args.batch_size,
        scaler=args.scaler,
        seed=args.seed,
    )
    sequences, invalid = (
        pipeline
        | "Records" >> ReadFiles(args.input, command.number_columns(columns))
        | Sequences(
            columns, length=args.sequence_length, fraction=args.train_fraction
        ).with_exception_handling()
    )
    _ = sequences | Train(network, training, per_key=args.per_key) | WriteModel(args.output)
    _ = invalid | "Invalid" >> WriteAside(f"{args.output}.invalid.jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline."""
    args, beam_flags = parse(argv)
    with beam.Pipeline(options=command.beam_options(beam_flags)) as pipeline:
        build(pipeline, args)


if __name__ == "__main__":
    command.run(main)
