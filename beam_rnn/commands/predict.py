r"""Stream files of records through a trained network, and write a prediction for each.

    beam-rnn predict --input 'pipelines/data/nab/*.csv' --weights weights.arrow \\
        --output predictions.csv

In a checkout `python -m pipelines.predict` is the same.

With --export_states the hidden states at the end are kept, and with --states a later run goes on
from them, as a live stream does from a history.

The output has the columns key, time, step, one `<output>_prediction` for each output (the
target, with its horizon and its part where there are several) and model. Late and invalid records
go to files of their own beside it, `<output>.late.jsonl` and `<output>.invalid.jsonl`, if there
are any. Beam's own flags, such as --runner, pass through.
"""

import argparse
from collections.abc import Sequence

import apache_beam as beam

from beam_rnn import ExportStates, ImportStates, Predict
from beam_rnn.commands import flags
from beam_rnn.commands.predictions import WritePredictions, utc
from beam_rnn.commands.progress import SayProgress
from beam_rnn.files.aside import WriteAside
from beam_rnn.files.reading import ReadFiles, number_columns
from beam_rnn.keyed import Models
from beam_rnn.storage import newest, read_model
from beam_rnn.transforms.arguments import ORDERS


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = flags.parser("predict", __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--weights", required=True, help="the weights file, or a pattern")
    parser.add_argument("--output", required=True, help="the file of predictions to write")
    parser.add_argument("--order", choices=ORDERS, default="event_time")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds beyond the watermark")
    parser.add_argument("--idle_after", type=float, help="seconds after which a sequence ends")
    parser.add_argument(
        "--shards", type=int, help="step so many sets of keys together; default: each key alone"
    )
    parser.add_argument("--states", help="files of hidden states to start from")
    parser.add_argument("--export_states", help="files to write the last hidden states to")
    return parser.parse_known_args(argv)


def build(pipeline: beam.Pipeline, args: argparse.Namespace, model: Models) -> None:
    """Read -> predict -> write."""
    assert model.columns is not None, "ReadModel gives models with columns"
    states = None if args.states is None else pipeline | ImportStates(args.states)
    predict = Predict(
        args.weights,
        order=args.order,
        wait=args.wait,
        idle_after=args.idle_after,
        with_state=args.export_states is not None,
        shards=args.shards,
        states=states,
    )
    records = pipeline | "Records" >> ReadFiles(args.input, number_columns(model.columns))
    outputs = records | predict
    if args.export_states is not None:
        _ = outputs.ended | ExportStates(args.export_states)
    write = WritePredictions(args.output, model.output_names)
    _ = outputs.predictions | "Predictions" >> write
    _ = outputs.predictions | "Progress" >> beam.ParDo(SayProgress("predictions"))
    late = outputs.late | "LateRows" >> beam.Map(lambda row: row._replace(time=utc(row.time)))
    _ = late | "Late" >> WriteAside(f"{args.output}.late.jsonl")
    _ = outputs.invalid | "Invalid" >> WriteAside(f"{args.output}.invalid.jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline."""
    args, beam_flags = parse(argv)
    args.weights = newest(args.weights)
    model = read_model(args.weights)
    with beam.Pipeline(options=flags.beam_options(beam_flags)) as pipeline:
        build(pipeline, args, model)
