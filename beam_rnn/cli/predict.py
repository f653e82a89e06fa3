r"""Stream files of records through a trained network, and write a prediction for each.

    beam-rnn predict --input 'pipelines/data/nab/*.csv' --weights weights.arrow \
        --output predictions.csv

In a checkout `python -m pipelines.predict` is the same.

--export_states writes the hidden states at the end, and --states resumes from them in a later run,
as a live stream does from a history.

The output has the columns key, time (ISO 8601 with its offset; a timestamp in Parquet and Arrow),
one `<output>_prediction` for each output (the target, with its horizon and its part where there are
several), prediction_step, prediction_model and prediction_kernel. Late and invalid records go to
files next to it, `<output>.late.jsonl` and `<output>.invalid.jsonl`, if there are any. --keep adds
columns of the records, each as it was in the file, the key and the time too; the rows are then
sorted by key. Beam's own flags, such as --runner, pass through.
"""

import argparse
import logging
from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from beam_rnn.cli import flags
from beam_rnn.cli.column_check import check_columns, read_by_model
from beam_rnn.cli.console import PREDICTIONS
from beam_rnn.cli.launch import SayProgress, launch
from beam_rnn.cli.output_paths import BESIDE, STATES, Prefix, check_outputs, found
from beam_rnn.cli.prediction_rows import WriteKept, WritePredictions, utc
from beam_rnn.cli.usable_records import After, SetAside
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.text import counted
from beam_rnn.engine.order_arguments import ORDERS
from beam_rnn.files.formats import suffix
from beam_rnn.files.read import ReadFiles
from beam_rnn.files.set_aside import WriteAside
from beam_rnn.models.keyed_models import Models
from beam_rnn.training.model_files import newest, read_model
from beam_rnn.transforms.join_records import JoinRecords
from beam_rnn.transforms.predict import Predict
from beam_rnn.transforms.states import ExportStates, ImportStates

logger = logging.getLogger(__name__)

PATHS = ("input", "weights", "output", "states", "export_states")
"""The flags that are paths, or patterns of them."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return our flags, and those that are Beam's."""
    parser = flags.parser("predict", __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--weights", required=True, help="the weights file, or a pattern")
    parser.add_argument("--output", required=True, help="the file of predictions to write")
    parser.add_argument(
        "--order", choices=ORDERS, default="event_time", help="the order of a key's records"
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, help="how many seconds longer to wait for late records"
    )
    parser.add_argument(
        "--idle_after", type=float, help="end a sequence after so many seconds without a record"
    )
    parser.add_argument(
        "--shards",
        type=int,
        help="the number of shards, whose keys are stepped together; default: each key alone",
    )
    parser.add_argument("--states", help="a pattern of files of hidden states to start from")
    parser.add_argument(
        "--export_states", help="the prefix of files to write the last hidden states to"
    )
    parser.add_argument(
        "--keep",
        type=flags.names,
        default=[],
        help="columns of the records to write next to their predictions: A,B; or all",
    )
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
    texts = args.keep if suffix(args.output) == ".csv" else ()
    records = pipeline | "Records" >> ReadFiles(args.input, model.columns, texts)
    outputs = records | predict
    if args.export_states is not None:
        _ = outputs.ended | ExportStates(args.export_states)
    aside = SetAside(records, model.columns, args.input, f"{args.output}.invalid.jsonl")
    usable = outputs.invalid | "Invalid" >> aside
    predictions = outputs.predictions | After(usable)
    if args.keep:
        kept = predictions | "Join" >> JoinRecords(model.columns, records)
        _ = kept | "Predictions" >> WriteKept(
            args.output, model.output_names, model.columns, args.keep
        )
    else:
        _ = predictions | "Predictions" >> WritePredictions(args.output, model.output_names)
    _ = outputs.predictions | "Progress" >> beam.ParDo(SayProgress(PREDICTIONS))
    late = outputs.late | "LateRows" >> beam.Map(lambda row: row._replace(time=utc(row.time)))
    _ = late | "Late" >> WriteAside(f"{args.output}.late.jsonl", "were late")


def perform(argv: Sequence[str] | None = None) -> list[str]:
    """Run the pipeline; return the lines to print."""
    args, beam_flags = parse(argv)
    flags.locate(args, beam_flags, PATHS)
    if args.keep and args.order == "arrival":
        raise ConfigurationError(
            "--keep goes with an order: --order arrival takes records of one time as they come, "
            "and does not say which of them was which"
        )
    inputs = {"--input": args.input, "--weights": args.weights, "--states": args.states}
    check_outputs(
        inputs,
        {"--output": args.output},
        {"--output": BESIDE},
        {"--export_states": Prefix(args.export_states, STATES)},
    )
    if args.states is not None:
        check_states(args.states)
    args.weights = newest(args.weights)
    model = read_model(args.weights)
    check_columns(args.input, read_by_model(model.columns, args.weights, keep=args.keep))
    counts = launch(
        lambda pipeline: build(pipeline, args, model),
        flags.beam_options(beam_flags),
        [] if args.export_states is None else [args.export_states],
    )
    unordered = counts.get("records_out_of_order", 0)
    if unordered:
        logger.warning(
            "%s out of the order of their time, and predicted as they came: --order event_time "
            "sorts them",
            "1 record was" if unordered == 1 else f"{unordered:,} records were",
        )
    alone = counts.get("predictions_not_joined", 0)
    if alone:
        logger.warning(
            "%s without columns of the record, since several have the same key, time and number",
            counted(alone, "prediction"),
        )
    predictions = counts.get(PREDICTIONS)
    how_many = "" if predictions is None else f": {counted(predictions, 'prediction')}"
    return [f"wrote {args.output}{how_many}"]


def check_states(pattern: str) -> None:
    """Check that local files hold hidden states, as --export_states writes them.

    Raises:
        ConfigurationError: One does not.
    """
    for path in found(pattern):
        try:
            names = pq.read_schema(path).names
        except pa.ArrowException:
            names = []
        if not {"key", "state"} <= set(names):
            raise ConfigurationError(
                f"--states {pattern!r}: {path!r} holds no hidden states, which --export_states "
                "writes as Parquet files"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, and say what was written."""
    print("\n".join(perform(argv)))
