r"""Predict a stream, and train on it every so often: the new model takes over.

    beam-rnn train --input 'history/*.csv' --key id --time at --inputs x \
        --output models/00000000T000000Z.arrow
    python -m pipelines.retrain --input 'arriving/*.jsonl' --models models --every 86400 \
        --output predictions/day --runner PrismRunner --streaming

Files that match --input are read when they come, so long as the pipeline runs. The records of each
--every seconds of event time train one model, from the parameters of the newest one. It is written
to --models under the end of its time, and `Predict` takes it up within --watch seconds: each key's
last --replay inputs are run through it. Network and columns are those of the newest model at the
start; it must not be trained with `--sequence row`, since a file that arrives has no place among
those to come. Beam's own flags pass through.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from beam_rnn import (
    Bptt,
    Columns,
    Model,
    Predict,
    PredictOutputs,
    Sequences,
    Train,
    Training,
    WriteModel,
)
from beam_rnn.cli import flags, run
from beam_rnn.elements import ROW, field, micros
from beam_rnn.errors import ConfigurationError, RecordError
from beam_rnn.files import read_file
from beam_rnn.optim import Adam
from beam_rnn.weights import newest, read_model


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--input", required=True, help="a pattern of files")
    parser.add_argument("--models", required=True, help="the folder of the weights files")
    parser.add_argument("--output", required=True, help="what names of predictions begin with")
    parser.add_argument("--every", type=float, required=True, help="seconds a model learns from")
    parser.add_argument("--watch", type=float, default=10.0, help="look for a model so often")
    parser.add_argument("--replay", type=int, default=64, help="inputs that a new model replays")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--bptt_steps", type=int, default=32, help="k: how far back in time")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of Adam")
    return parser.parse_known_args(argv)


def build(
    records: beam.PCollection[Any], args: argparse.Namespace, model: Model
) -> tuple[PredictOutputs, beam.PCollection[str]]:
    """Records with their event times -> predictions, and the paths of new models."""
    assert model.columns is not None, "pipelines train models with columns"
    pattern = f"{args.models}/*.arrow"
    training = Training(
        bptt=Bptt(steps=args.bptt_steps),
        optimizer=Adam(args.learning_rate),
        epochs=args.epochs,
        loss=model.training.get("settings", {}).get("loss"),
    )
    predictions = records | Predict(
        pattern, on_model_change="replay", replay=args.replay, watch=args.watch
    )
    sequences, _ = (
        records
        | "Every" >> beam.WindowInto(FixedWindows(args.every))
        | Sequences(model.columns).with_exception_handling()
    )
    models = (
        sequences
        | Train(model.network, training, start=pattern)
        | WriteModel(f"{args.models}/{{end}}.arrow")
    )
    return predictions, models


def arriving(pipeline: beam.Pipeline, pattern: str, columns: Columns) -> beam.PCollection[Any]:
    """The records of the files that come, with their event times."""
    return (
        pipeline
        | "Watch" >> fileio.MatchContinuously(pattern, interval=1.0)
        | "Open" >> fileio.ReadMatches()
        | "Read" >> beam.FlatMap(read_file, "", columns)
        | "AtEventTime" >> beam.ParDo(AtEventTime(columns))
    )


class AtEventTime(beam.DoFn):
    """Records at their event times, where they have one; others are left as they come."""

    def __init__(self, columns: Columns):
        self._time, self._format = columns.time, columns.time_format

    def process(self, element: Any) -> Any:
        """A record in and out."""
        if self._time is None:
            return [element]
        try:
            at = micros(self._time, field(element, self._time), self._format)
        except RecordError:  # `Predict` makes a dead letter of it
            return [element]
        return [TimestampedValue(element, Timestamp(micros=at))]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, until it is stopped."""
    args, beam_flags = parse(argv)
    model = read_model(newest(f"{args.models}/*.arrow"))
    assert model.columns is not None, "pipelines train models with columns"
    if model.columns.sequence == ROW:
        raise ConfigurationError(
            f"a model in {args.models!r} was trained with --sequence row: a file that arrives has "
            "no place among those to come; train it with --sequence COLUMN"
        )
    with beam.Pipeline(options=flags.beam_options(beam_flags)) as pipeline:
        records = arriving(pipeline, args.input, model.columns)
        outputs, _ = build(records, args, model)
        _ = (
            outputs.predictions
            | "Windows" >> beam.WindowInto(FixedWindows(60))
            | "Lines" >> beam.Map(lambda row: f"{row.key},{row.time},{row.step},{row.outputs}")
            | "Write" >> fileio.WriteToFiles(args.output)
        )


if __name__ == "__main__":
    run(main)
