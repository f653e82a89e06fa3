r"""Predict a stream and retrain on it periodically: each new model replaces the last one.

    beam-rnn train --input 'history/*.csv' --key id --time at --inputs x \
        --output models/00000000T000000Z.arrow
    python -m pipelines.retrain --input 'arriving/*.jsonl' --models models --every 86400 \
        --output predictions/day --runner PrismRunner --streaming

Files that match --input are read as they arrive, while the pipeline runs. The records of each
--every seconds of event time train one model, starting from the parameters of the newest one. The
model is written to --models, named by the end of its window, and `Predict` loads it within --watch
seconds: it replays the last --replay inputs of each key. Network and columns are those of the
newest model at the start. That model must not be trained with `--sequence row`, because arriving
files have no defined order. Beam's own flags pass through.
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
    """Return the flags of this pipeline, and the remaining ones, which are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--input", required=True, help="a pattern of files")
    parser.add_argument("--models", required=True, help="the folder of the weights files")
    parser.add_argument("--output", required=True, help="prefix of the files of predictions")
    parser.add_argument("--every", type=float, required=True, help="seconds of data per model")
    parser.add_argument("--watch", type=float, default=10.0, help="seconds between checks")
    parser.add_argument("--replay", type=int, default=64, help="inputs that a new model replays")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--bptt_steps", type=int, default=32, help="k: steps of the gradient")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of Adam")
    return parser.parse_known_args(argv)


def build(
    records: beam.PCollection[Any], args: argparse.Namespace, model: Model
) -> tuple[PredictOutputs, beam.PCollection[str]]:
    """Records with event times -> predictions, and the paths of new models."""
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
    """Read the records of arriving files, with their event times."""
    return (
        pipeline
        | "Watch" >> fileio.MatchContinuously(pattern, interval=1.0)
        | "Open" >> fileio.ReadMatches()
        | "Read" >> beam.FlatMap(read_file, "", columns)
        | "AtEventTime" >> beam.ParDo(AtEventTime(columns))
    )


class AtEventTime(beam.DoFn):
    """Assign event times to records; a record without a valid time stays unchanged."""

    def __init__(self, columns: Columns):
        self._time, self._format = columns.time, columns.time_format

    def process(self, element: Any) -> Any:
        """Return the record with its event time."""
        if self._time is None:
            return [element]
        try:
            at = micros(self._time, field(element, self._time), self._format)
        except RecordError:  # `Predict` writes it to the dead letters
            return [element]
        return [TimestampedValue(element, Timestamp(micros=at))]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline until it is stopped."""
    args, beam_flags = parse(argv)
    model = read_model(newest(f"{args.models}/*.arrow"))
    assert model.columns is not None, "pipelines train models with columns"
    if model.columns.sequence == ROW:
        raise ConfigurationError(
            f"a model in {args.models!r} was trained with --sequence row, but arriving files have "
            "no defined order: train it with --sequence COLUMN"
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
