r"""Train a network on files of records, and write its weights.

    beam-rnn train --input 'pipelines/data/nab/*.csv' --key filename \
        --time timestamp --inputs value --targets value --output weights.arrow

In a checkout `python -m pipelines.train` is the same.

The network learns from the first part of each key's records in time (--train_fraction); the rest is
held back for `beam-rnn evaluate`. With --refit the command does both, and then learns once more
from all records: that model is for deployment, and only later records can judge it.

Files are CSV, Parquet, Arrow or JSON lines, by their suffix. Records that cannot be used are
written to `<output>.invalid.jsonl`, with the reason. --key filename takes each file for one key.
With --per_key the weights file holds a model for each key, and one of all keys for those that have
none of their own. With --report a page shows the loss curve, and forecasts next to the true values.
Beam's own flags, such as --runner, pass through.
"""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import apache_beam as beam

from beam_rnn.cli import dataclass_flags, evaluate, flags
from beam_rnn.cli.column_check import check_columns, read_by_flags
from beam_rnn.cli.dataclass_flags import add_flags, made
from beam_rnn.cli.launch import launch
from beam_rnn.cli.output_paths import BESIDE, CHECKPOINTS, Prefix, check_outputs
from beam_rnn.cli.report_stage import WriteReport
from beam_rnn.cli.usable_records import After, SetAside
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.files.read import ReadFiles
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.dropout import Dropout
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Sgd
from beam_rnn.training.model_files import read_model
from beam_rnn.training.settings import Training
from beam_rnn.transforms.models import WriteModel
from beam_rnn.transforms.sequences import Sequences
from beam_rnn.transforms.train import Train

T = TypeVar("T")

OUTER = Sgd(1.0, momentum=0.5, nesterov=True)
"""The outer optimiser, which takes the averaged change of several shards: see docs/training.md."""

MAX_ROUNDS = 1_000

PATHS = ("input", "output", "report", "checkpoints", "resume", "start")
"""The flags that are paths, or patterns of them."""

COLUMNS = (
    *("key", "time", "inputs", "targets", "horizon", "time_format", "latest", "sequence"),
    *("static", "calendar", "weight", "missing"),
)
NETWORK = ("cell", "hidden", "layers", "residual")
TRAINING = (
    *("loss", "epochs", "batch_size", "scaler", "scaling", "validation", "patience", "seed"),
)
"""The fields of `Columns`, `Network` and `Training` that are flags."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return our flags, and those that are Beam's."""
    parser = flags.parser("train", __doc__)
    _add_files(parser)
    add_flags(parser, Columns, COLUMNS, required=("key", "time", "inputs"))
    parser.add_argument(
        "--train_fraction",
        type=flags.share,
        default=0.6,
        help="the share of each key's records, the first in time, to learn from",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="train and evaluate first, then learn once more from all records, for deployment",
    )
    add_flags(parser, Network, NETWORK)
    parser.add_argument(
        "--quantiles",
        type=dataclass_flags.numbers,
        metavar="X,Y",
        help="predict these quantiles instead of one number: 0.1,0.5,0.9",
    )
    add_flags(parser, Training, TRAINING)
    _add_training(parser, Training())
    given = sys.argv[1:] if argv is None else argv
    parser.set_defaults(command=shlex.join(["beam-rnn", "train", *given]))
    return parser.parse_known_args(argv)


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name files, of which --input and --output must be given."""
    parser.add_argument("--input", required=True, help="a file, or a pattern such as 'data/*.csv'")
    parser.add_argument(
        "--output", required=True, type=flags.ending(".arrow"), help="the weights file to write"
    )
    parser.add_argument(
        "--report", type=flags.ending(".html"), help="the HTML page about the training to write"
    )
    parser.add_argument(
        "--checkpoints",
        type=flags.without_ending,
        help="write checkpoints with names that begin so: `runs/c` for runs/c-00001.arrow",
    )
    parser.add_argument("--resume", help="the checkpoint to resume from, or a pattern")
    parser.add_argument("--start", help="the weights file to start from, or a pattern")


def _add_training(parser: argparse.ArgumentParser, default: Training) -> None:
    """Add the flags of `Training`'s own settings, and of `Sequences` and `Train`."""
    whole, number = dataclass_flags.whole, dataclass_flags.number
    parser.add_argument(
        "--learning_rate",
        type=number,
        metavar="X",
        default=default.optimizer.learning_rate,  # type: ignore[attr-defined]  # it is Adam
        help="the learning rate of Adam",
    )
    parser.add_argument(
        "--bptt_steps",
        type=whole,
        metavar="N",
        default=default.bptt.steps,
        help="k of truncated BPTT: how many records back the gradient goes",
    )
    parser.add_argument(
        "--dropout",
        type=number,
        metavar="X",
        default=default.dropout.layers,
        help="the probability with which a unit is left out, between layers and in time",
    )
    parser.add_argument(
        "--sequence_length", type=whole, metavar="N", default=256, help="the steps of a sequence"
    )
    parser.add_argument(
        "--shards", type=whole, metavar="N", default=1, help="workers that learn at the same time"
    )
    parser.add_argument(
        "--local_epochs",
        type=whole,
        metavar="N",
        default=1,
        help="the epochs of a shard between two averages",
    )
    parser.add_argument(
        "--per_key",
        action="store_true",
        help="train a model for each key, and one for all other keys",
    )


def network_of(args: argparse.Namespace) -> Network:
    """Return the network that the flags describe.

    Raises:
        ConfigurationError: A value is outside its range.
    """
    output = {"output": "quantiles", "quantiles": args.quantiles} if args.quantiles else {}
    return made(Network, args, NETWORK, **output)


def training_of(args: argparse.Namespace) -> Training:
    """Return the training that the flags describe.

    Raises:
        ConfigurationError: A value is outside its range.
    """
    optimizer: Any = Training().optimizer
    probability, rate = args.dropout, args.learning_rate
    return made(
        Training,
        args,
        TRAINING,
        bptt=_of_flag("bptt_steps", lambda: Bptt(steps=args.bptt_steps)),
        optimizer=_of_flag("learning_rate", lambda: replace(optimizer, learning_rate=rate)),
        dropout=_of_flag("dropout", lambda: Dropout(layers=probability, recurrent=probability)),
    )


def _of_flag(flag: str, make: Callable[[], T]) -> T:
    """Return what is made of a flag; an error names the flag."""
    try:
        return make()
    except ConfigurationError as error:
        raise ConfigurationError(f"--{flag}: {error}") from error


def build(pipeline: beam.Pipeline, args: argparse.Namespace) -> None:
    """Read -> sequences -> train -> write."""
    columns = made(Columns, args, COLUMNS)
    train = Train(
        network_of(args),
        training_of(args),
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
    """Run the pipeline; return the lines to print."""
    args, beam_flags = parse(argv)
    flags.locate(args, beam_flags, PATHS)
    check(args)
    check_columns(args.input, read_by_flags(made(Columns, args, COLUMNS)))
    if args.refit:
        return refit(args, beam_flags)
    return [*train(args, beam_flags)]


def train(args: argparse.Namespace, beam_flags: Sequence[str]) -> list[str]:
    """Train once; return the lines to print."""
    launch(lambda pipeline: build(pipeline, args), flags.beam_options(beam_flags))
    return [f"wrote {path}" for path in (args.output, args.report) if path is not None]


def refit(args: argparse.Namespace, beam_flags: Sequence[str]) -> list[str]:
    """Train and evaluate, then learn once more from all records; return the lines to print."""
    judged, figures = judged_files(args.output)
    first = train(_changed(args, output=judged), beam_flags)
    given = [f"--input={args.input}", f"--weights={judged}", f"--output={figures}"]
    measured = evaluate.perform([*given, *beam_flags])
    everything: dict[str, Any] = {"train_fraction": 1.0, "report": None}
    if args.validation:
        everything |= {"epochs": best_epochs(read_model(judged)), "validation": 0, "patience": None}
    return [*first, *measured, *train(_changed(args, **everything), beam_flags)]


def judged_files(output: str) -> tuple[str, str]:
    """Return the weights that `--refit` evaluates, and the figures of that.

    >>> judged_files("runs/weights.arrow")
    ('runs/weights.judged.arrow', 'runs/weights.judged.json')
    """
    stem = os.path.splitext(output)[0]
    return f"{stem}.judged.arrow", f"{stem}.judged.json"


def best_epochs(model: Any) -> int:
    """Return the number of epochs after which the validation loss of a training was lowest."""
    curve = model.training["validation_curve"]
    epochs: int = model.training.get("rounds", {}).get("local_epochs", 1)
    return (curve.index(min(curve)) + 1) * epochs


def _changed(args: argparse.Namespace, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), **more})


def check(args: argparse.Namespace) -> None:
    """Check the flags together, and that the outputs can be written.

    Raises:
        ConfigurationError: Flags do not go together, or a file cannot be read or written.
    """
    rounds = math.ceil(args.epochs / args.local_epochs) if args.local_epochs > 0 else 0
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
    outputs = {"--output": args.output, "--report": args.report}
    if args.refit:
        check_refit(args)
        outputs |= dict(zip(("--refit", "--refit figures"), judged_files(args.output), strict=True))
    check_outputs(
        {"--input": args.input, "--start": args.start, "--resume": args.resume},
        outputs,
        {"--output": BESIDE[:1]},
        {"--checkpoints": Prefix(args.checkpoints, CHECKPOINTS, resumes="--resume")},
    )


def check_refit(args: argparse.Namespace) -> None:
    """Check that the flags describe two trainings.

    Raises:
        ConfigurationError: Nothing is held back, or a flag is for one training.
    """
    if args.train_fraction == 1:
        raise ConfigurationError(
            "--refit evaluates on what is held back, and --train_fraction 1.0 holds nothing back: "
            "give a share such as 0.6"
        )
    for flag in ("checkpoints", "resume"):
        if getattr(args, flag):
            raise ConfigurationError(
                f"--refit trains twice, and --{flag} is for one training: leave out one of them"
            )
    if args.per_key and args.validation:
        raise ConfigurationError(
            "--refit with --validation learns for the best number of epochs of one model, and "
            "--per_key trains many: leave out --validation, and choose --epochs"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, and say what was written."""
    print("\n".join(perform(argv)))
