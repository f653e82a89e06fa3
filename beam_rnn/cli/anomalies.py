r"""Score the records of files by how unusual each is, in one pass, with no look ahead.

    beam-rnn anomalies --input 'pipelines/data/nab/*.csv' --key filename \
        --time timestamp --inputs value --output scores.csv

All records stream through `ScoreAnomalies`, where a network learns each key from its own records
as they come. With --train_fraction one network for all keys learns from the first part of each
key's records before that, its weights go to `<output>.weights.arrow`, and each key goes on learning
from them; the rows of that part have the score 0, since what would score them has seen them. With
--weights a model that is there already is taken.

The output has the rows of the input, in the order of key and time, with the columns
`<column>_expected`, the prediction made for it one row before, and `anomaly_score`, in [0, 1]. The
first row of a key has no prediction and the score 0. Late and invalid records go to files of their
own beside it, `<output>.late.jsonl` and `<output>.invalid.jsonl`, if there are any. Beam's own
flags, such as --runner, pass through.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import apache_beam as beam

from beam_rnn.cli import flags, train
from beam_rnn.cli.output_paths import BESIDE, check_outputs
from beam_rnn.cli.usable_records import After, SetAside
from beam_rnn.core.errors import ConfigurationError, RecordError
from beam_rnn.data.columns import Columns
from beam_rnn.data.event_times import BEFORE_ALL
from beam_rnn.engine.order_arguments import ORDERS
from beam_rnn.engine.steppers.score import scorer_of
from beam_rnn.files.read import ReadFiles
from beam_rnn.files.refused import with_datetime
from beam_rnn.files.set_aside import WriteAside
from beam_rnn.files.write import WriteFile
from beam_rnn.models.error_tail import Surprise
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.network import Network
from beam_rnn.records.record_format import decode_record
from beam_rnn.records.record_reader import RecordReader
from beam_rnn.records.result_columns import expected_column, score_column
from beam_rnn.records.results import AnomalyScore
from beam_rnn.training.model_files import read_model
from beam_rnn.training.online.settings import Learning, Untrained
from beam_rnn.transforms.score_anomalies import ScoreAnomalies

HIDDEN = 16
LEARNING = Learning(Bptt(steps=32, stride=8), loss="mae")


class Plan(NamedTuple):
    """What scores the records.

    Attributes:
        columns: What they hold.
        base: What predicts them: a weights file, or a network that learns in the stream.
        learning: How it learns there; None if it does not.
        until: The time until which records of each key were learned from before.
    """

    columns: Columns
    base: str | Untrained
    learning: Learning | None
    until: Mapping[str, int]


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--input", required=True, help="a file or a pattern of files")
    parser.add_argument("--output", required=True, help="the file of scored rows to write")
    parser.add_argument("--key", help="column of the key; may be `filename`")
    parser.add_argument("--time", help="column of the event time")
    parser.add_argument("--time_format", help="how times are written, as for `beam-rnn train`")
    parser.add_argument("--sequence", help="column of a number that orders records of one time")
    parser.add_argument("--inputs", type=flags.names, help="columns to score: A,B")
    parser.add_argument("--weights", help="a weights file; it names the columns")
    parser.add_argument(
        "--train_fraction", type=float, default=0.0, help="of each key, to learn from first"
    )
    parser.add_argument(
        "--learn",
        action=argparse.BooleanOptionalAction,
        help="go on learning in the stream; default: yes, unless each key has a model of its own",
    )
    parser.add_argument("--order", choices=ORDERS, default="event_time")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds beyond the watermark")
    parser.add_argument("--idle_after", type=float, help="seconds after which a sequence ends")
    return parser.parse_known_args(argv)


def plan(args: argparse.Namespace, beam_flags: Sequence[str]) -> Plan:
    """What the flags ask for; trains a model if there is none yet.

    Raises:
        ConfigurationError: They do not go together.
    """
    if args.weights is not None:
        return with_weights(args, read_model(args.weights))
    for name in ("key", "time", "inputs"):
        if not getattr(args, name):
            raise ConfigurationError(f"--{name} is needed, or --weights, which names the columns")
    columns = Columns(
        key=args.key,
        time=args.time,
        time_format=args.time_format,
        sequence=args.sequence,
        inputs=args.inputs,
    )
    if not args.train_fraction:
        if args.learn is False:
            raise ConfigurationError(
                "--no-learn leaves nothing to learn from: give --train_fraction 0.15 or --weights"
            )
        base = Untrained(Network("gru", HIDDEN, residual=True), columns)
        return Plan(columns, base, LEARNING, {})
    weights = f"{args.output}.weights.arrow"
    named = [f"--key={args.key}", f"--time={args.time}", f"--inputs={','.join(args.inputs)}"]
    named += [f"--sequence={args.sequence}"] if args.sequence else []
    named += [f"--time_format={args.time_format}"] if args.time_format else []
    files = [f"--input={args.input}", f"--output={weights}"]
    settings = [f"--hidden={HIDDEN}", f"--train_fraction={args.train_fraction}"]
    train.perform([*files, *named, *settings, *beam_flags])
    until = read_model(weights).training["until"]
    return Plan(columns, weights, None if args.learn is False else LEARNING, until)


def with_weights(args: argparse.Namespace, model: Models) -> Plan:
    """The plan for a model that is there.

    Raises:
        ConfigurationError: The flags ask for other columns, or it does not predict the next record.
    """
    columns = model.columns
    assert columns is not None, "pipelines train models with columns"
    inputs = None if args.inputs is None else tuple(args.inputs)
    for name, value in (("key", args.key), ("time", args.time), ("inputs", inputs)):
        if value is not None and value != getattr(columns, name):
            raise ConfigurationError(
                f"--{name} {value!r} is not what {args.weights!r} was trained on, "
                f"{getattr(columns, name)!r}: leave it out, since the weights name the columns"
            )
    scorer_of(model, Surprise())  # that there is something to score
    learn = not isinstance(model, KeyedModels) if args.learn is None else args.learn
    return Plan(columns, args.weights, LEARNING if learn else None, {})


def build(pipeline: beam.Pipeline, args: argparse.Namespace, planned: Plan) -> None:
    """Read -> score -> put the scores beside their rows -> write."""
    columns = planned.columns
    records = pipeline | "Records" >> ReadFiles(args.input, columns)
    read = replace(columns, weight=None)
    outputs = records | ScoreAnomalies(
        planned.base,
        planned.learning,
        order=args.order,
        wait=args.wait,
        idle_after=args.idle_after,
    )
    aside = SetAside(
        records,
        read,
        args.input,
        f"{args.output}.invalid.jsonl",
        training=True,
        trained=isinstance(planned.base, str),
    )
    usable = outputs.invalid | "Invalid" >> aside
    rows = records | "Place" >> beam.ParDo(PlaceRecords(read))
    scores = outputs.scores | "KeyOf" >> beam.Map(lambda row: (row.key, row))
    _ = (
        {"rows": rows, "scores": scores}
        | "Together" >> beam.CoGroupByKey()
        | "Beside" >> beam.Map(scored_rows, columns.targets, planned.until)
        | "Usable" >> After(usable)
        | "Write" >> WriteFile(args.output)
    )
    late = outputs.late | "LateRows" >> beam.Map(with_datetime)
    _ = late | "Late" >> WriteAside(f"{args.output}.late.jsonl")


class PlaceRecords(beam.DoFn):
    """Records with their keys and encoded places; one that cannot be used is a dead letter."""

    def __init__(self, columns: Columns):
        self._reader = RecordReader(columns, targets=True)

    def process(self, element: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """A record in; its key, its bytes and itself out."""
        try:
            key, data = self._reader.read(element)
        except RecordError:  # `ScoreAnomalies` makes a dead letter of it
            return
        yield key, (data, element)


def scored_rows(
    group: tuple[str, Mapping[str, Iterable[Any]]], targets: Sequence[str], until: Mapping[str, int]
) -> tuple[str, list[dict[str, Any]]]:
    """The rows of a key with their scores, in order; equal records have one score.

    Args:
        group: The key, its records with their bytes, and its scores.
        targets: What was predicted.
        until: The time until which records of each key were learned from before the stream.
    """
    key, parts = group
    by_place: defaultdict[tuple[Any, ...], list[AnomalyScore]] = defaultdict(list)
    for score in sorted(parts["scores"], key=lambda row: (row.time, row.step)):
        by_place[_place(score.time, score.sequence, score.values)].append(score)
    records = sorted(parts["rows"], key=lambda pair: (pair[0], repr(pair[1])))
    of_bytes: dict[bytes, AnomalyScore] = {}
    for data in dict.fromkeys(data for data, _ in records):
        record = decode_record(data)
        values = record.numbers[len(record.numbers) - len(targets) :].tolist()
        there = by_place[_place(record.time, record.sequence, values)]
        if there:
            of_bytes[data] = there.pop(0)
    rows = [
        {**record, **columns_of(of_bytes[data], targets, until.get(key, BEFORE_ALL))}
        for data, record in records
        if data in of_bytes
    ]
    return key, rows


def _place(time: int, sequence: int, values: Sequence[float]) -> tuple[Any, ...]:
    """By what a score is told to be that of a record."""
    return (time, sequence, *values)


def columns_of(score: AnomalyScore, targets: Sequence[str], until: int) -> dict[str, Any]:
    """What a score adds to its row."""
    names = map(expected_column, targets)
    expected: Sequence[float | None] = score.predictions or [None] * len(targets)
    judged = score.score if score.time > until else 0.0
    return {**dict(zip(names, expected, strict=True)), score_column("score"): judged}


def main(argv: Sequence[str] | None = None) -> None:
    """Learn, if that is asked for, and run the pipeline."""
    args, beam_flags = parse(argv)
    trained = f"{args.output}.weights.arrow" if args.train_fraction and not args.weights else None
    check_outputs(
        {"--input": args.input, "--weights": args.weights},
        {"--output": args.output, "the weights beside --output": trained},
        {"--output": BESIDE, "the weights beside --output": BESIDE[:1]},
    )
    planned = plan(args, beam_flags)
    with beam.Pipeline(options=flags.beam_options(beam_flags)) as pipeline:
        build(pipeline, args, planned)
