r"""Predict a live stream of messages, from Kafka or Pub/Sub and back.

    python -m pipelines.live --weights 'models/*.arrow' \
        --input 'kafka://127.0.0.1:9092/readings?group.id=forecasts' \
        --output kafka://127.0.0.1:9092/forecasts --rejected kafka://127.0.0.1:9092/rejected \
        --runner FlinkRunner --flink_master 127.0.0.1:8081 --checkpointing_interval 10000 ...

Each message is a JSON object with the columns that the weights file names. For each one a message
comes out: key, time (microseconds since 1970), one `<output>_prediction` for each output,
prediction_step, prediction_model and prediction_kernel. Late records and those that cannot be used
go to --rejected, with the reason. A message may be written again after a failure, with the same
values: drop it by key, prediction_step and time. Beam's own flags pass through; docs/kafka.md
starts from nothing, docs/engines.md says which flags a runner needs.
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
"""They wait for the end of what they read before they go on."""


def parser() -> argparse.ArgumentParser:
    """Our flags; those of Beam are left over."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--weights", required=True, help="the weights file, or a pattern of them")
    parser.add_argument("--input", required=True, help="the URL of a topic or subscription")
    parser.add_argument("--output", required=True, help="the URL of the topic of predictions")
    parser.add_argument(
        "--rejected", required=True, help="the URL of the topic of what is not used"
    )
    parser.add_argument(
        "--order",
        choices=ORDERS,
        default="event_time",
        help=f"what says when a record has its turn: {', '.join(ORDERS)}",
    )
    parser.add_argument("--wait", type=float, default=0.0, help="seconds beyond the watermark")
    parser.add_argument("--grid", type=float, default=0.5, help="seconds between two due times")
    parser.add_argument("--idle_after", type=float, help="seconds after which a sequence ends")
    parser.add_argument("--shards", type=int, help="step so many sets of keys together")
    parser.add_argument("--watch", type=float, help="look for a newer model so often, in seconds")
    parser.add_argument(
        "--on_model_change",
        choices=MODEL_CHANGES,
        default="error",
        help=f"what sequences do that another model began: {', '.join(MODEL_CHANGES)}",
    )
    parser.add_argument("--replay", type=int, default=0, help="inputs that a new model replays")
    parser.add_argument("--expansion_service", help="what expands Beam's Kafka transforms")
    return parser


def build(
    records: beam.PCollection[Mapping[str, Any]],
    args: argparse.Namespace,
    model: Model | KeyedModels,
) -> tuple[beam.PCollection[dict[str, Any]], beam.PCollection[dict[str, Any]]]:
    """Records -> predictions, and what was not used, as what a message says."""
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
    """What a message says of a late record."""
    seconds = row.behind / 1e6
    inputs = [None if math.isnan(value) else value for value in row.inputs]  # what JSON can say
    reason = f"{seconds:g} s behind the key's last step"
    return {**row._asdict(), "inputs": inputs, "reason": reason}


def parsed(argv: Sequence[str] | None) -> tuple[argparse.Namespace, PipelineOptions]:
    """Our flags, and Beam's options.

    Raises:
        ConfigurationError: A flag is misspelled, or they do not fit together.
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
            f"--order arrival steps a record twice that comes twice, as {AT_LEAST_ONCE} allows: "
            "choose --order event_time or sequence, or leave that service option away"
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
    """The runner's name, as --runner has it."""
    return str(options.view_as(StandardOptions).runner).rpartition(".")[2]


def start(args: argparse.Namespace, options: PipelineOptions) -> PipelineResult:
    """Start the pipeline, which runs until it is stopped."""
    model = read_model(newest(args.weights))
    # Not `with`: a launcher of Dataflow starts a pipeline, and must not wait for its end.
    pipeline = beam.Pipeline(options=options)
    records = pipeline | "Records" >> ReadMessages(args.input, args.expansion_service)
    predictions, rejected = build(records, args, model)
    _ = predictions | "Predictions" >> WriteMessages(args.output, args.expansion_service)
    _ = rejected | "Aside" >> WriteMessages(args.rejected, args.expansion_service)
    return pipeline.run()


def main(argv: Sequence[str] | None = None) -> PipelineResult:
    """Start what the flags say."""
    return start(*parsed(argv))


def command() -> None:
    """Start what the command line says, and wait."""
    # It warns of each flag, and each value, that only a runner's job server knows.
    logging.getLogger("apache_beam.options.pipeline_options").setLevel(logging.ERROR)
    args, options = parsed(None)
    here = runner_of(options) == "PrismRunner"
    source, output, rejected = (
        url.partition("?")[0]  # what follows may be a password
        for url in (args.input, args.output, args.rejected)
    )
    end = "Ctrl-C stops it" if here else "Ctrl-C leaves it: cancel it where it runs"
    said = f"reading {source}, writing {output}, refused to {rejected}; {end}"
    run_until_stopped(lambda: start(args, options), said, here=here)


if __name__ == "__main__":
    run(command)
