r"""Predict a live stream of messages, from Kafka or Pub/Sub and back.

    python -m pipelines.live --weights 'models/*.arrow' \
        --input 'kafka://127.0.0.1:9092/readings?group.id=forecasts' \
        --output kafka://127.0.0.1:9092/forecasts --rejected kafka://127.0.0.1:9092/rejected \
        --runner FlinkRunner --flink_master 127.0.0.1:8081 --checkpointing_interval 10000 ...

Each message is a JSON object with the columns that the weights file names. The pipeline writes one
message for each: key, time (microseconds since 1970), one `<output>_prediction` for each output,
prediction_step, prediction_model and prediction_kernel. Late and invalid records go to --rejected,
with the reason. After a failure a message may be written again with the same values: deduplicate
by key, prediction_step and time. Beam's own flags pass through; docs/kafka.md is a tutorial,
docs/engines.md lists the flags that a runner needs.
"""

import argparse
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineResult

from beam_rnn import InvalidRecord, KeyedModels, LateRecord, Model, Predict, Prediction
from beam_rnn.cli import flags, run
from beam_rnn.elements import MODEL_CHANGES, ORDERS, prediction_columns, prediction_values
from beam_rnn.errors import ConfigurationError
from beam_rnn.weights import newest, read_model
from pipelines.messages import ReadMessages, WriteMessages
from pipelines.spelling import check_spelling
from pipelines.stopping import run_until_stopped

AT_LEAST_ONCE = "streaming_mode_at_least_once"
BATCH_RUNNERS = ("FnApiRunner", "BundleBasedDirectRunner", "DirectRunner")
"""Runners that read their whole input before the next stage starts."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of this pipeline's flags; Beam's own are left over."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--weights", required=True, help="the weights file, or a pattern of files")
    parser.add_argument("--input", required=True, help="the URL of a topic or subscription")
    parser.add_argument("--output", required=True, help="the URL of the topic for predictions")
    parser.add_argument(
        "--rejected", required=True, help="the URL of the topic for rejected records"
    )
    parser.add_argument(
        "--order",
        choices=ORDERS,
        default="event_time",
        help=f"the order in which records are processed: {', '.join(ORDERS)}",
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, help="seconds to wait beyond the watermark"
    )
    parser.add_argument("--grid", type=float, default=0.5, help="seconds between two due times")
    parser.add_argument("--idle_after", type=float, help="seconds after which a sequence ends")
    parser.add_argument("--shards", type=int, help="number of shards of keys")
    parser.add_argument("--watch", type=float, help="seconds between checks for a new model")
    parser.add_argument(
        "--on_model_change",
        choices=MODEL_CHANGES,
        default="error",
        help=f"what to do with sequences of the previous model: {', '.join(MODEL_CHANGES)}",
    )
    parser.add_argument("--replay", type=int, default=0, help="inputs that a new model replays")
    parser.add_argument("--expansion_service", help="address of the service for Kafka transforms")
    return parser


def build(
    records: beam.PCollection[Mapping[str, Any]],
    args: argparse.Namespace,
    model: Model | KeyedModels,
) -> tuple[beam.PCollection[dict[str, Any]], beam.PCollection[dict[str, Any]]]:
    """Records -> the messages of predictions and of rejected records."""
    outputs = records | Predict(
        args.weights,
        order=args.order,
        wait=args.wait,
        grid=args.grid,
        idle_after=args.idle_after,
        shards=args.shards,
        watch=args.watch,
        on_model_change=args.on_model_change,
        replay=args.replay,
    )
    columns = list(prediction_columns(model.output_names))

    def message(row: Prediction) -> dict[str, Any]:
        values = prediction_values(row)
        return {"key": row.key, "time": row.time, **dict(zip(columns, values, strict=True))}

    predictions = outputs.predictions | "Said" >> beam.Map(message)
    late = outputs.late | "LateRows" >> beam.Map(late_row)
    invalid = outputs.invalid | "InvalidRows" >> beam.Map(InvalidRecord._asdict)
    return predictions, (late, invalid) | "Rejected" >> beam.Flatten()


def late_row(row: LateRecord) -> dict[str, Any]:
    """Return the message for a late record."""
    seconds = row.behind / 1e6
    inputs = [None if math.isnan(value) else value for value in row.inputs]  # JSON has no NaN
    reason = f"{seconds:g} s behind the key's last step"
    return {**row._asdict(), "inputs": inputs, "reason": reason}


def parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, PipelineOptions]:
    """Return the flags of this pipeline, and Beam's options.

    Raises:
        ConfigurationError: A flag is misspelled, or two flags contradict each other.
    """
    args, beam_flags = parser().parse_known_args(argv)
    check_spelling(beam_flags, parser())
    if "://" not in args.weights:
        args.weights = os.path.abspath(args.weights)  # workers may run in another folder
    options = flags.beam_options(beam_flags)
    options.view_as(StandardOptions).streaming = True
    services = options.view_as(GoogleCloudOptions).dataflow_service_options or []
    if args.order == "arrival" and AT_LEAST_ONCE in services:
        raise ConfigurationError(
            f"--order arrival processes a duplicate again, and {AT_LEAST_ONCE} allows duplicates: "
            "choose --order event_time or sequence, or remove that service option"
        )
    runner = runner_of(options)
    if runner in BATCH_RUNNERS:
        given = any(flag.split("=")[0] == "--runner" for flag in beam_flags)
        raise ConfigurationError(
            "a live stream needs --runner PrismRunner, FlinkRunner or DataflowRunner"
            + (f", got {runner}, which waits for the end of its input" if given else "")
        )
    return args, options


def runner_of(options: PipelineOptions) -> str:
    """Return the name of the runner, as given by --runner."""
    return str(options.view_as(StandardOptions).runner).rpartition(".")[2]


def start(args: argparse.Namespace, options: PipelineOptions) -> PipelineResult:
    """Start the pipeline; it runs until it is stopped."""
    model = read_model(newest(args.weights))
    # Not `with`: Dataflow's launcher must not wait for the end of the pipeline.
    pipeline = beam.Pipeline(options=options)
    records = pipeline | "Records" >> ReadMessages(args.input, args.expansion_service)
    predictions, rejected = build(records, args, model)
    _ = predictions | "Predictions" >> WriteMessages(args.output, args.expansion_service)
    _ = rejected | "Aside" >> WriteMessages(args.rejected, args.expansion_service)
    return pipeline.run()


def main(argv: Sequence[str] | None = None) -> PipelineResult:
    """Start the pipeline that the flags describe."""
    return start(*parsed(argv))


def command() -> None:
    """Start the pipeline from the command line, and wait for its end."""
    # Beam warns of each flag and value that only a runner's job server knows.
    logging.getLogger("apache_beam.options.pipeline_options").setLevel(logging.ERROR)
    args, options = parsed(None)
    here = runner_of(options) == "PrismRunner"
    source, output, rejected = (
        url.partition("?")[0]  # the settings may hold a password
        for url in (args.input, args.output, args.rejected)
    )
    end = "Ctrl-C stops it" if here else "Ctrl-C does not stop the job: cancel it on the runner"
    message = f"reading {source}, writing {output}, rejected records to {rejected}; {end}"
    run_until_stopped(lambda: start(args, options), message, here=here)


if __name__ == "__main__":
    run(command)
