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

Files of this machine are predicted in this process, in the order of their rows. With a runner, with
--states, --export_states or --keep it is a Beam pipeline, whose rows are in any order, with the
same values.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_rnn.cli import flags
from beam_rnn.cli.column_check import check_columns, read_by_model
from beam_rnn.cli.output_paths import BESIDE, STATES, Prefix, check_outputs, found
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.filesystems import scheme_of
from beam_rnn.core.text import counted
from beam_rnn.engine.order_arguments import ORDERS
from beam_rnn.models.keyed_models import Models
from beam_rnn.training.model_files import newest, read_model

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


def build(pipeline: Any, args: argparse.Namespace, model: Models) -> None:
    """Read -> predict -> write."""
    from beam_rnn.cli import predict_pipeline

    predict_pipeline.build(pipeline, args, model)


def is_local(args: argparse.Namespace, beam_flags: Sequence[str]) -> bool:
    """Return True if no pipeline is needed: files of this machine, no runner, no states."""
    more = (args.states, args.export_states, *args.keep)
    paths = (args.input, args.weights, args.output)
    return not beam_flags and not any(more) and all(scheme_of(path) is None for path in paths)


def perform(argv: Sequence[str] | None = None) -> list[str]:
    """Predict, in a pipeline if one is needed; return the lines to print."""
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
    if is_local(args, beam_flags):
        from beam_rnn.cli.predict_files import predict_files

        predictions: int | None = predict_files(args, model)
    else:
        from beam_rnn.cli.predict_pipeline import run

        predictions = run(args, beam_flags, model)
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
