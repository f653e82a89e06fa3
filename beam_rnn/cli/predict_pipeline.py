"""The pipeline of `beam-rnn predict`."""

import argparse
import logging
from collections.abc import Sequence

import apache_beam as beam

from beam_rnn.cli import flags
from beam_rnn.cli.console import PREDICTIONS
from beam_rnn.cli.launch import SayProgress, launch
from beam_rnn.cli.order_text import say_unordered
from beam_rnn.cli.prediction_rows import WriteKept, WritePredictions
from beam_rnn.cli.usable_records import After, SetAside
from beam_rnn.core.text import counted
from beam_rnn.files.formats import suffix
from beam_rnn.files.read import ReadFiles
from beam_rnn.files.refused import with_datetime
from beam_rnn.files.set_aside import WriteAside
from beam_rnn.models.keyed_models import Models
from beam_rnn.transforms.join_records import JoinRecords
from beam_rnn.transforms.predict import Predict
from beam_rnn.transforms.states import ExportStates, ImportStates

logger = logging.getLogger(__name__)


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
    late = outputs.late | "LateRows" >> beam.Map(with_datetime)
    _ = late | "Late" >> WriteAside(f"{args.output}.late.jsonl", "were late")


def run(args: argparse.Namespace, beam_flags: Sequence[str], model: Models) -> int | None:
    """Run the pipeline; return the number of predictions, or None if the runner does not tell."""
    counts = launch(
        lambda pipeline: build(pipeline, args, model),
        flags.beam_options(beam_flags),
        [] if args.export_states is None else [args.export_states],
    )
    say_unordered(counts.get("records_out_of_order", 0))
    alone = counts.get("predictions_not_joined", 0)
    if alone:
        logger.warning(
            "%s without columns of the record, since several have the same key, time and number",
            counted(alone, "prediction"),
        )
    return counts.get(PREDICTIONS)
