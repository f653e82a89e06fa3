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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from beam_rnn import Columns, Model, Predict, Prediction
from beam_rnn.cells import Array
from beam_rnn.commands import flags
from beam_rnn.commands.predictions import WritePredictions
from beam_rnn.commands.progress import SayProgress
from beam_rnn.commands.replaying import ReplayReport, arrive, check_one_model
from beam_rnn.errors import ConfigurationError, RecordError
from beam_rnn.files.aside import WriteAside
from beam_rnn.files.reading import ReadFiles, number_columns
from beam_rnn.keyed import Models
from beam_rnn.records import ReadRecords, RecordReader
from beam_rnn.report.distributions import point_forecast
from beam_rnn.rows import INVALID
from beam_rnn.state import decode_records, first_numbers, record_time
from beam_rnn.storage import read_model

DAY = 24 * 3600 * 1_000_000  # microseconds
ERRORS = ("model_mae", "last_value_mae", "yesterday_mae")


class Score(NamedTuple):
    """What came out for one key; None where there is nothing to measure."""

    key: str
    model_mae: float | None
    last_value_mae: float | None
    yesterday_mae: float | None
    bit_equal: bool
    records: int


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = flags.parser("evaluate", __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--weights", required=True, help="the weights file")
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
        >> beam.Map(lambda rows: json.dumps(report(rows, time.time() - started), indent=2))
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


class Unseen(beam.DoFn):
    """Records after their key's split time, by key; one that cannot be measured is left out."""

    def __init__(self, weights: str, columns: Columns):
        self._weights = weights
        self._reader = RecordReader(columns, targets=True)

    def setup(self) -> None:
        """Loads the model, which says where its training ended."""
        self._model: Models = read_model(self._weights)

    def process(self, element: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, Any]]]:
        """A record in; its key, its time and itself out."""
        try:
            key, data = self._reader.read(element)
        except RecordError:
            return
        if record_time(data) > until(self._model.of(key), key):
            yield key, (record_time(data), element)


def until(model: Model | None, key: str) -> int:
    """The time of the last record of a key that its model has seen; -1 if there is none."""
    return -1 if model is None else model.training.get("until", {}).get(key, -1)


class ScoreKey(beam.DoFn):
    """Compares a key's predictions with what came, and with one forward pass."""

    def __init__(self, weights: str):
        self._weights = weights

    def setup(self) -> None:
        """Loads the model."""
        self._model: Models = read_model(self._weights)

    def process(self, element: tuple[str, Mapping[str, Iterable[Any]]]) -> Iterator[Score]:
        """A key, its checked records and its predictions in; its score out."""
        key, group = element
        model = self._model.of(key)
        if model is None:  # its records are dead letters
            yield Score(key, None, None, None, True, 0)
        else:
            yield score(model, key, group["records"], group["predictions"])


def score(
    model: Model, key: str, records: Iterable[bytes], predictions: Iterable[Prediction]
) -> Score:
    """The score of one key.

    Args:
        model: The model.
        key: The key.
        records: All its records, with targets, encoded, in any order.
        predictions: The predictions of those after its split time, in any order.
    """
    columns = model.columns
    assert columns is not None, "pipelines train models with columns"
    # Records that differ in their targets alone are one to `Predict`: it sees the inputs.
    distinct = {first_numbers(record, columns.number_size): record for record in sorted(records)}
    times, *_, numbers = decode_records(list(distinct.values()))
    ends = np.cumsum([columns.number_size, columns.target_size])
    inputs, targets, _ = np.split(numbers, ends, axis=1)
    first = int(np.searchsorted(times, until(model, key), "right"))
    streamed = sorted(predictions, key=lambda row: row.step)
    if not streamed:
        return Score(key, None, None, None, True, 0)

    outputs, state = forward_pass(model, key, inputs[first:])
    stream_outputs = np.array([row.outputs for row in streamed])
    complete = [row.time for row in streamed] == times[first:].tolist()
    bit_equal = (
        complete
        and np.array_equal(stream_outputs, outputs)
        and streamed[-1].state == state.tobytes()
    )
    n = len(times) - columns.horizons[-1]
    if first >= n or not complete:
        # With records missing there is no telling which prediction belongs to which target.
        return Score(key, None, None, None, bit_equal, len(streamed))
    at = np.arange(first, n)[:, np.newaxis]  # the records whose targets are all known
    ahead = at + np.array(columns.horizons)  # (steps, horizons)
    truth = targets[ahead]  # (steps, horizons, targets)
    forecast = point_forecast(model, stream_outputs[: len(at)].reshape(*truth.shape, -1))
    yesterday = np.searchsorted(times, times[ahead] - DAY, "right") - 1
    known = (yesterday >= 0) & (yesterday <= at)
    scale = _deviation(model, key, targets[:first])

    def mae(forecast: Array, where: Array) -> float | None:
        errors = np.abs(forecast - truth) / scale
        known = where & np.isfinite(errors).all(-1)  # not where a value is missing
        return float(errors[known].mean()) if known.any() else None

    everywhere = np.ones(ahead.shape, bool)
    return Score(
        key,
        mae(forecast, everywhere),
        mae(targets[at], everywhere),
        mae(targets[yesterday], known),
        bit_equal,
        len(streamed),
    )


def forward_pass(model: Model, key: str, inputs: Array) -> tuple[Array, Array]:
    """The outputs (steps, targets) in their own units, and the last state (state_size,)."""
    y, state = model.run(model.scaled(key, inputs)[np.newaxis])
    return model.restored(key, y[0]), state[0]


def _deviation(model: Model, key: str, seen: Array) -> Array:
    """The standard deviation of each target in training; 1 for one that never changed."""
    seen = seen[np.isfinite(seen).all(1)]
    if len(seen):
        deviation = seen.std(0)
        return np.where(deviation > 1e-12 * np.abs(seen.mean(0)), deviation, 1.0)
    return model.scaler.of(key).targets_scale if model.scaler is not None else np.ones(1)


def report(scores: Iterable[Score], seconds: float) -> dict[str, Any]:
    """What the JSON file says; means are over the series that have every figure that any has."""
    rows = sorted(scores)
    records = sum(row.records for row in rows)
    series = {row.key: {name: getattr(row, name) for name in ERRORS} for row in rows}
    known = {name for errors in series.values() for name in ERRORS if errors[name] is not None}
    complete = [e for e in series.values() if all(e[name] is not None for name in known)]
    return {
        "series": series,
        "mean": {
            name: float(np.mean([e[name] for e in complete])) if name in known else None
            for name in ERRORS
        },
        "bit_equal": all(row.bit_equal for row in rows),
        "records": records,
        "records_per_second": records / seconds,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run the pipeline."""
    args, beam_flags = parse(argv)
    model = read_model(args.weights)
    if model.columns is not None and model.columns.classes:
        raise ConfigurationError(
            f"evaluate measures forecasts of numbers; {args.weights!r} tells apart the classes "
            f"{list(model.columns.classes)}"
        )
    with beam.Pipeline(options=flags.beam_options(beam_flags)) as pipeline:
        build(pipeline, args, model)
