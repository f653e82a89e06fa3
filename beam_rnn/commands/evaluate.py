r"""Stream what training has not seen through a trained network, and measure it.

    beam-rnn evaluate --input 'pipelines/data/nab/*.csv' --weights weights.arrow \\
        --output metrics.json

In a checkout `python -m pipelines.evaluate` is the same. With --report a page shows how the model
does, as that of `beam-rnn report` does.

For each key, the records after its split time go through `Predict`. The mean absolute error
stands beside two forecasts that need no model: the last value, and the value of 24 hours
before. Errors are in units of the key's standard deviation in training. `bit_equal` says
whether every prediction of the stream, and the hidden state that each key ended with, has the
same bits as one forward pass over the key's sorted records. Records that cannot be used go to a
file of their own, `<output>.invalid.jsonl`, if there are any. Beam's own flags pass through.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial

import apache_beam as beam

from beam_rnn import Predict
from beam_rnn.commands import flags
from beam_rnn.commands.measuring import ScoreKey, Unseen, report
from beam_rnn.commands.predictions import WritePredictions
from beam_rnn.commands.progress import SayProgress
from beam_rnn.commands.replaying import ReplayReport, arrive, check_one_model
from beam_rnn.errors import ConfigurationError
from beam_rnn.files.aside import WriteAside
from beam_rnn.files.reading import ReadFiles, number_columns
from beam_rnn.keyed import Models
from beam_rnn.records import ReadRecords, RecordReader
from beam_rnn.rows import INVALID
from beam_rnn.storage import newest, read_model


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = flags.parser("evaluate", __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--weights", required=True, help="the weights file, or a pattern")
    parser.add_argument("--output", required=True, help="the JSON file of figures to write")
    parser.add_argument("--predictions", help="a file for the predictions themselves")
    parser.add_argument(
        "--shuffle_within",
        type=float,
        default=0.0,
        help="let records arrive in another order, each up to so many seconds late",
    )
    parser.add_argument("--report", help="a page of HTML that shows the model, to write")
    given = sys.argv[1:] if argv is None else argv
    parser.set_defaults(command=shlex.join(["beam-rnn", "evaluate", *given]))
    return parser.parse_known_args(argv)


def build(pipeline: beam.Pipeline, args: argparse.Namespace, model: Models) -> None:
    """Read -> leave out what training saw -> predict -> score each key -> write."""
    started = time.time()
    columns = model.columns
    assert columns is not None, "pipelines train models with columns"
    horizons = columns.horizons
    records = pipeline | "Records" >> ReadFiles(args.input, number_columns(columns))
    arriving = (
        records
        | "Unseen" >> beam.ParDo(Unseen(args.weights, columns))
        | "ByKey" >> beam.GroupByKey()
        | "Arrive" >> beam.FlatMap(arrive, args.shuffle_within)
    )
    outputs = arriving | Predict(args.weights, with_state=True)
    reader = partial(RecordReader, columns, targets=True)
    checked = records | "Check" >> beam.ParDo(ReadRecords(reader)).with_outputs(
        INVALID, main="checked"
    )
    _ = checked.invalid | "Invalid" >> WriteAside(f"{args.output}.invalid.jsonl")
    _ = outputs.predictions | "Progress" >> beam.ParDo(SayProgress("predictions"))
    predictions = outputs.predictions | "KeyOf" >> beam.Map(lambda row: (row.key, row))
    scores = (
        {"records": checked.checked, "predictions": predictions}
        | "Together" >> beam.CoGroupByKey()
        | "Score" >> beam.ParDo(ScoreKey(args.weights))
    )
    _ = (
        scores
        | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
        | "Report"
        >> beam.Map(
            lambda rows: json.dumps(
                report(rows, time.time() - started, horizons), indent=2, ensure_ascii=False
            )
        )
        | "WriteReport" >> beam.io.WriteToText(args.output, num_shards=1, shard_name_template="")
    )
    if args.predictions:
        write = WritePredictions(args.predictions, model.output_names)
        _ = outputs.predictions | "Predictions" >> write
    if args.report:
        _ = records | "Page" >> ReplayReport(
            args.report,
            args.weights,
            check_one_model(args.weights, model),
            args.command,
            args.shuffle_within,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline."""
    args, beam_flags = parse(argv)
    args.weights = newest(args.weights)
    model = read_model(args.weights)
    if model.columns is not None and model.columns.classes:
        raise ConfigurationError(
            f"evaluate measures forecasts of numbers; {args.weights!r} tells apart the classes "
            f"{list(model.columns.classes)}"
        )
    with beam.Pipeline(options=flags.beam_options(beam_flags)) as pipeline:
        build(pipeline, args, model)
