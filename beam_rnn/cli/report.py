r"""Show a trained network, and how well it does, as one page of HTML.

    beam-rnn report --input 'pipelines/data/nab/*.csv' --weights weights.arrow \
        --output report.html

The page has forecasts next to the true values, the error by horizon and by key, the calibration of
quantiles, the counts of records, and facts about the training. It loads nothing from elsewhere.
Forecasts are judged on the records after the last one of each key that training saw. All records go
through `Predict`, and the page counts those that were predicted, duplicate, late and invalid.
Records that cannot be used are written to `<output>.invalid.jsonl`. Beam's own flags pass through.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

import apache_beam as beam

from beam_rnn.cli import flags
from beam_rnn.cli.column_check import check_columns, read_by_model
from beam_rnn.cli.launch import launch
from beam_rnn.cli.output_paths import BESIDE, check_outputs
from beam_rnn.cli.replay import ReplayReport, check_one_model
from beam_rnn.files.read import ReadFiles
from beam_rnn.models.model import Model
from beam_rnn.training.model_files import newest, read_model

PATHS = ("input", "weights", "output")
"""The flags that are paths, or patterns of them."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return our flags, and those that are Beam's."""
    parser = flags.parser("report", __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--weights", required=True, help="the weights file, or a pattern")
    parser.add_argument(
        "--output", required=True, type=flags.ending(".html"), help="the HTML page to write"
    )
    parser.add_argument(
        "--shuffle_within",
        type=float,
        default=0.0,
        help="shuffle the records: each arrives up to so many seconds late",
    )
    given = sys.argv[1:] if argv is None else argv
    parser.set_defaults(command=shlex.join(["beam-rnn", "report", *given]))
    return parser.parse_known_args(argv)


def build(pipeline: beam.Pipeline, args: argparse.Namespace, model: Model) -> None:
    """Read -> predict and count -> judge -> write."""
    assert model.columns is not None, "ReadModel gives models with columns"
    records = pipeline | "Records" >> ReadFiles(args.input, model.columns)
    _ = records | "Report" >> ReplayReport(
        args.output,
        args.weights,
        model,
        args.command,
        args.shuffle_within,
        source=args.input,
    )


def perform(argv: Sequence[str] | None = None) -> list[str]:
    """Run the pipeline; return the lines to print."""
    args, beam_flags = parse(argv)
    flags.locate(args, beam_flags, PATHS)
    check_outputs(
        {"--input": args.input, "--weights": args.weights},
        {"--output": args.output},
        {"--output": BESIDE[:1]},
    )
    args.weights = newest(args.weights)
    model = check_one_model(args.weights, read_model(args.weights))
    assert model.columns is not None, "it was checked"
    check_columns(args.input, read_by_model(model.columns, args.weights))
    launch(lambda pipeline: build(pipeline, args, model), flags.beam_options(beam_flags))
    return [f"wrote {args.output}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, and say what was written."""
    print("\n".join(perform(argv)))
