r"""Learn from files of records, and write the weights.

    beam-rnn train --input 'pipelines/data/nab/*.csv' --key filename \
        --time timestamp --inputs value --targets value --output weights.arrow

In a checkout `python -m pipelines.train` is the same.

Learns from the first --train_fraction of each key's records, in time. Files are CSV, Parquet,
Arrow or JSON lines, by their suffix. Records that cannot be used go to a file of their own,
`<output>.invalid.jsonl`, if there are any. With --per_key the file holds a model for each key, and
one of all keys for those that have none of their own. With --report a page shows the loss curve,
and forecasts beside what came. Beam's own flags, such as --runner, pass through.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence

import apache_beam as beam

from beam_rnn.cli import flags
from beam_rnn.cli.launch import launch
from beam_rnn.cli.output_paths import BESIDE, CHECKPOINTS, Prefix, check_outputs
from beam_rnn.cli.report_stage import WriteReport
from beam_rnn.cli.usable_records import After, SetAside
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.calendar import CYCLES
from beam_rnn.data.columns import MISSING, Columns
from beam_rnn.data.event_times import UNITS
from beam_rnn.data.scaling import SCALERS, SCALINGS
from beam_rnn.files.read import ReadFiles
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.cells import CELLS
from beam_rnn.nn.dropout import Dropout
from beam_rnn.nn.losses import LOSSES
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Adam, Sgd
from beam_rnn.training.settings import Training
from beam_rnn.transforms.models import WriteModel
from beam_rnn.transforms.sequences import Sequences
from beam_rnn.transforms.train import Train

OUTER = Sgd(1.0, momentum=0.5, nesterov=True)
"""Takes the averaged change of a round of several shards: see docs/training.md."""

MAX_ROUNDS = 1_000

PATHS = ("input", "output", "report", "checkpoints", "resume", "start")
"""The flags that are paths, or patterns of them."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = flags.parser("train", __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument(
        "--output", required=True, type=flags.ending(".arrow"), help="the weights file to write"
    )
    parser.add_argument("--key", required=True, help="column of the key; may be `filename`")
    parser.add_argument("--time", required=True, help="column of the event time")
    parser.add_argument(
        "--time_format",
        help="how times are written: a pattern such as %%Y%%m%%d%%H, or what a number counts, of "
        f"{', '.join(UNITS)}; default: ISO 8601, or seconds since 1970",
    )
    parser.add_argument("--latest", help="records after this time are not used: 2100-01-01")
    parser.add_argument(
        "--sequence",
        help="column of a number that orders records of one time; or row, for their order in files",
    )
    parser.add_argument("--inputs", required=True, type=flags.names, help="columns: A,B")
    parser.add_argument("--targets", type=flags.names, help="columns: A,B; default: --inputs")
    parser.add_argument(
        "--static", type=flags.names, default=[], help="columns that say what a key is: A,B"
    )
    parser.add_argument(
        "--calendar",
        type=flags.names,
        default=[],
        help=f"what the network sees of the time, of {','.join(CYCLES)}: day,week",
    )
    parser.add_argument("--weight", help="column that says how much a record counts in training")
    parser.add_argument(
        "--missing",
        choices=MISSING,
        default="refuse",
        help="records without a value: refuse or drop them, or carry the last value forward",
    )
    parser.add_argument(
        "--horizon",
        type=flags.horizons,
        default=1,
        help="how many records ahead, not hours; or several at once: 1,6,24 or 1-24",
    )
    parser.add_argument("--sequence_length", type=flags.whole, default=256, help="steps a sequence")
    parser.add_argument("--cell", choices=list(CELLS), default="gru", help="the kind of network")
    parser.add_argument(
        "--hidden",
        type=flags.sizes,
        default=32,
        help="size of the hidden state; or of each layer's: 16,8",
    )
    parser.add_argument(
        "--layers", type=flags.layers, default=1, help="how many, each of that size"
    )
    parser.add_argument(
        "--residual",
        action=argparse.BooleanOptionalAction,
        help="predict the change from the last value; default: if the targets are the first inputs",
    )
    parser.add_argument(
        "--bptt_steps", type=flags.whole, default=32, help="k: how many records back in time"
    )
    parser.add_argument(
        "--dropout",
        type=flags.probability,
        default=0.0,
        help="share of the units that each sequence is learned without, between layers and in time",
    )
    parser.add_argument(
        "--quantiles", type=flags.numbers, help="predict these, not one number: 0.1,0.5,0.9"
    )
    parser.add_argument(
        "--loss", choices=list(LOSSES), help="default: mae, or quantile with --quantiles"
    )
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="of Adam")
    parser.add_argument(
        "--epochs", type=flags.whole, default=60, help="how often all records are passed over"
    )
    parser.add_argument(
        "--batch_size", type=flags.whole, default=32, help="sequences side by side in a batch"
    )
    parser.add_argument(
        "--scaler", choices=SCALERS, default="per_key", help="whose records say the scale"
    )
    parser.add_argument("--scaling", choices=SCALINGS, default="standard", help="what the scale is")
    parser.add_argument(
        "--validation", type=float, default=0.0, help="share of the steps to judge the model by"
    )
    parser.add_argument(
        "--patience",
        type=flags.whole,
        help="stop after so many epochs without a lower validation loss",
    )
    parser.add_argument(
        "--shards", type=flags.whole, default=1, help="workers that learn at the same time"
    )
    parser.add_argument(
        "--local_epochs", type=flags.whole, default=1, help="epochs of a shard between two averages"
    )
    parser.add_argument(
        "--checkpoints",
        type=flags.without_ending,
        help="what the names of checkpoint files begin with: `runs/c` for runs/c-00001.arrow",
    )
    parser.add_argument("--resume", help="the checkpoint file to go on from, or a pattern")
    parser.add_argument("--start", help="the weights file to start from, or a pattern")
    parser.add_argument(
        "--per_key", action="store_true", help="a model for each key, and one for all others"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random")
    parser.add_argument(
        "--train_fraction",
        type=flags.share,
        default=0.6,
        help="share of each key's records, the first in time, to learn from",
    )
    parser.add_argument(
        "--report",
        type=flags.ending(".html"),
        help="a page of HTML that shows the training, to write",
    )
    given = sys.argv[1:] if argv is None else argv
    parser.set_defaults(command=shlex.join(["beam-rnn", "train", *given]))
    return parser.parse_known_args(argv)


def build(pipeline: beam.Pipeline, args: argparse.Namespace) -> None:
    """Read -> sequences -> train -> write."""
    columns = Columns(
        key=args.key,
        time=args.time,
        time_format=args.time_format,
        latest=args.latest,
        sequence=args.sequence,
        inputs=args.inputs,
        targets=args.targets or (),
        horizon=args.horizon,
        static=args.static,
        calendar=args.calendar,
        weight=args.weight,
        missing=args.missing,
    )
    residual = args.residual
    if residual is None:
        residual = columns.inputs[: len(columns.targets)] == columns.targets
    output = {"output": "quantiles", "quantiles": args.quantiles} if args.quantiles else {}
    network = Network(args.cell, args.hidden, args.layers, residual=residual, **output)
    training = Training(
        bptt=Bptt(steps=args.bptt_steps),
        loss=args.loss or ("quantile" if args.quantiles else "mae"),
        optimizer=Adam(args.learning_rate),
        epochs=args.epochs,
        batch_size=args.batch_size,
        scaler=args.scaler,
        scaling=args.scaling,
        seed=args.seed,
        validation=args.validation,
        patience=args.patience,
        dropout=Dropout(layers=args.dropout, recurrent=args.dropout),
    )
    train = Train(
        network,
        training,
        shards=args.shards,
        local_epochs=args.local_epochs,
        outer=OUTER if args.shards > 1 else None,
        checkpoints=args.checkpoints,
        resume=args.resume,
        start=args.start,
        per_key=args.per_key,
    )
    records = pipeline | "Records" >> ReadFiles(args.input, columns)
    sequences, invalid = (
        records
        | Sequences(
            columns, length=args.sequence_length, fraction=args.train_fraction
        ).with_exception_handling()
    )
    aside = SetAside(
        records,
        columns,
        args.input,
        f"{args.output}.invalid.jsonl",
        training=True,
        trained=False,
    )
    usable = invalid | "Invalid" >> aside
    written = sequences | After(usable) | train | WriteModel(args.output)
    if args.report:
        _ = records | "Report" >> WriteReport(args.report, columns, written, args.command)


def perform(argv: Sequence[str] | None = None) -> list[str]:
    """Run the pipeline; gives what there is to say of it."""
    args, beam_flags = parse(argv)
    flags.locate(args, beam_flags, PATHS)
    rounds = math.ceil(args.epochs / args.local_epochs)
    if args.shards > 1 and rounds > MAX_ROUNDS:
        raise ConfigurationError(
            f"--epochs {args.epochs} with --shards {args.shards} are {rounds:,} rounds, each with "
            f"stages of its own in the pipeline, and at most {MAX_ROUNDS:,} can be built: give "
            f"--local_epochs {math.ceil(args.epochs / MAX_ROUNDS)}"
        )
    if args.report and args.per_key:
        raise ConfigurationError(
            "--report shows one model, --per_key trains one for each key: leave out --report, and "
            "let `beam-rnn evaluate` say the error of each key"
        )
    check_outputs(
        {"--input": args.input, "--start": args.start, "--resume": args.resume},
        {"--output": args.output, "--report": args.report},
        {"--output": BESIDE[:1]},
        {"--checkpoints": Prefix(args.checkpoints, CHECKPOINTS, resumes="--resume")},
    )
    launch(lambda pipeline: build(pipeline, args), flags.beam_options(beam_flags))
    return [f"wrote {path}" for path in (args.output, args.report) if path is not None]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, and say what was written."""
    print("\n".join(perform(argv)))
