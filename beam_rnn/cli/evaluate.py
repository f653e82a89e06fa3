r"""Stream the records that training has not seen through a network, and measure its errors.

    beam-rnn evaluate --input 'pipelines/data/nab/*.csv' --weights weights.arrow \
        --output metrics.json

In a checkout `python -m pipelines.evaluate` is the same. With --report a page shows how well the
model does, as `beam-rnn report` shows it.

For each key, the records after the last one that training saw go through `Predict`; if there are
none, it is an error. The mean absolute error is compared with two forecasts that need no model: the
last value, and the value of a day before, or of a season before (7 records of daily ones, 12 of
monthly ones, 4 of quarterly ones). Errors are in units of the key's standard deviation in training.
A key that was constant there has none: it is in `unscaled`, in the unit of all keys, and left out
of the mean. `bit_equal` is true if every prediction of the stream, and the last hidden state of
each key, has the same bits as one forward pass over the key's sorted records. Records that cannot
be used are written to `<output>.invalid.jsonl`. Beam's own flags pass through.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import apache_beam as beam

from beam_rnn.cli import flags
from beam_rnn.cli.baselines import ScoreKey, Unseen, check_unseen, report
from beam_rnn.cli.column_check import check_columns, read_by_model
from beam_rnn.cli.console import PREDICTIONS, table
from beam_rnn.cli.launch import SayProgress, launch
from beam_rnn.cli.output_paths import BESIDE, check_outputs
from beam_rnn.cli.prediction_rows import WritePredictions
from beam_rnn.cli.replay import ReplayReport, arrive, check_one_model
from beam_rnn.cli.usable_records import After, SetAside
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.filesystems import read_bytes, write_bytes
from beam_rnn.core.text import counted, names, number
from beam_rnn.files.read import ReadFiles
from beam_rnn.models.keyed_models import Models
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.results import INVALID
from beam_rnn.streaming.read_records import ReadRecords
from beam_rnn.training.model_files import newest, read_model
from beam_rnn.transforms.predict import Predict

SHOWN_KEYS = 12
"""The number of keys whose errors are printed; those of all keys are in the file."""

PATHS = ("input", "weights", "output", "predictions", "report")
"""The flags that are paths, or patterns of them."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return our flags, and those that are Beam's."""
    parser = flags.parser("evaluate", __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--weights", required=True, help="the weights file, or a pattern")
    parser.add_argument(
        "--output",
        required=True,
        type=flags.ending(".json"),
        help="the JSON file of errors to write",
    )
    parser.add_argument("--predictions", help="a file to write the predictions to")
    parser.add_argument(
        "--shuffle_within",
        type=float,
        default=0.0,
        help="shuffle the records: each arrives up to so many seconds late",
    )
    parser.add_argument(
        "--report", type=flags.ending(".html"), help="the HTML page about the model to write"
    )
    given = sys.argv[1:] if argv is None else argv
    parser.set_defaults(command=shlex.join(["beam-rnn", "evaluate", *given]))
    return parser.parse_known_args(argv)


def build(pipeline: beam.Pipeline, args: argparse.Namespace, model: Models) -> None:
    """Read -> leave out what training saw -> predict -> score each key -> write."""
    started = time.time()
    columns = model.columns
    assert columns is not None, "pipelines train models with columns"
    horizons, output = columns.horizons, args.output
    records = pipeline | "Records" >> ReadFiles(args.input, columns)
    arriving = (
        records
        | "Unseen" >> beam.ParDo(Unseen(args.weights, columns))
        | "ByKey" >> beam.GroupByKey()
        | "Arrive" >> beam.FlatMap(arrive, args.shuffle_within)
    )
    outputs = arriving | Predict(args.weights, with_state=True)
    reader = partial(RecordReader, columns, targets=True)
    read = ReadRecords(reader, counts=not args.report)  # the replay for the page counts them too
    checked = records | "Check" >> beam.ParDo(read).with_outputs(INVALID, main="checked")
    aside = SetAside(records, columns, args.input, f"{args.output}.invalid.jsonl", training=True)
    usable = checked.invalid | "Invalid" >> aside
    _ = outputs.predictions | "Progress" >> beam.ParDo(SayProgress(PREDICTIONS))
    predictions = outputs.predictions | "KeyOf" >> beam.Map(lambda row: (row.key, row))
    scores = (
        {"records": checked.checked, "predictions": predictions}
        | "Together" >> beam.CoGroupByKey()
        | "Score" >> beam.ParDo(ScoreKey(args.weights))
    )
    _ = (
        scores
        | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
        | "Usable" >> After(usable)
        | "New" >> beam.Map(check_unseen, args.input)
        | "Report"
        >> beam.Map(
            lambda rows: json.dumps(
                report(rows, time.time() - started, horizons), indent=2, ensure_ascii=False
            )
        )
        | "WriteReport" >> beam.Map(lambda text: write_bytes(f"{text}\n".encode(), output))
    )
    if args.predictions:
        write = WritePredictions(args.predictions, model.output_names)
        predictions = outputs.predictions | "OfUsable" >> After(usable)
        _ = predictions | "Predictions" >> write
    if args.report:
        _ = records | "Page" >> ReplayReport(
            args.report,
            args.weights,
            check_one_model(args.weights, model),
            args.command,
            args.shuffle_within,
            usable,
        )


def perform(argv: Sequence[str] | None = None) -> list[str]:
    """Run the pipeline; return the lines to print."""
    args, beam_flags = parse(argv)
    flags.locate(args, beam_flags, PATHS)
    check_outputs(
        {"--input": args.input, "--weights": args.weights},
        {"--output": args.output, "--predictions": args.predictions, "--report": args.report},
        {"--output": BESIDE[:1]},
    )
    args.weights = newest(args.weights)
    model = read_model(args.weights)
    if model.columns is not None and model.columns.classes:
        raise ConfigurationError(
            f"evaluate measures forecasts of numbers; {args.weights!r} predicts the classes "
            f"{list(model.columns.classes)}"
        )
    if model.columns is not None:
        check_columns(args.input, read_by_model(model.columns, args.weights, targets=True))
    launch(lambda pipeline: build(pipeline, args, model), flags.beam_options(beam_flags))
    files = (args.output, args.predictions, args.report)
    return [*figures(args.output), *(f"wrote {path}" for path in files if path is not None)]


def figures(path: str) -> Iterator[str]:
    """Yield the errors in a file of figures as lines; none of a file that is not here."""
    try:
        found = json.loads(read_bytes(path))
    except Exception:  # noqa: BLE001  # a runner may have put it where this machine cannot read
        return
    if not found["records"]:
        yield "nothing was measured: no record comes after those that training saw"
        return
    yield "mean absolute error, in standard deviations of each key in training"
    series = list(found["series"].items())
    seasons = {errors["season"] for _, errors in series if "season" in errors}
    columns = {"model_mae": "model", "last_value_mae": "last value", "yesterday_mae": "yesterday"}
    if seasons:
        columns["season_mae"] = (
            f"{min(seasons)} records ago" if len(seasons) == 1 else "a season ago"
        )
        if all(errors["yesterday_mae"] is None for _, errors in series):
            del columns["yesterday_mae"]
    rows: list[tuple[str, ...]] = [("key", *columns.values())]
    rows += [(key, *_cells(errors, columns)) for key, errors in series[:SHOWN_KEYS]]
    if len(series) > SHOWN_KEYS:
        rows.append((f"and {len(series) - SHOWN_KEYS:,} more keys", *[""] * len(columns)))
    if len(series) > 1:
        rows.append(("mean", *_cells(found["mean"], columns)))
    yield from table(rows)
    if found["unscaled"]:
        yield (
            f"{counted(len(found['unscaled']), 'key')} without a change in training, in the unit "
            f"of all keys, not in the mean: {names(found['unscaled'])}"
        )


def _cells(errors: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return the errors of a row as text, with a star after the smallest."""
    values = [errors.get(name) for name in names]
    least = min((value for value in values if value is not None), default=None)
    stars = ["*" if value is not None and value == least else "" for value in values]
    return [number(value) + star for value, star in zip(values, stars, strict=True)]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline, print the errors and what was written."""
    print("\n".join(perform(argv)))
