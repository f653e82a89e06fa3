r"""Train a sequence-to-sequence model, and evaluate it on fresh sources.

    python -m pipelines.translate --task additions --weights weights.arrow
    python -m pipelines.translate --task dates --weights weights.arrow --output fresh.csv
    python -m pipelines.translate --input 'pairs/*.csv' --key id --source said --target meant \
        --weights weights.arrow

The two tasks are synthetic, so that every answer can be checked: sums of numbers as text, and dates
in words to ISO 8601. --input reads files of pairs of texts instead: --train_fraction of them,
chosen by their keys, are for training, and the others are fresh. The pipeline prints the share of
fresh sources that were translated correctly, and some of the errors. Beam's own flags, such as
--runner, pass through.
"""

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa

from beam_rnn import Train, Training, WriteModel
from beam_rnn.cli import BESIDE, check_outputs, flags, run
from beam_rnn.errors import ConfigurationError
from beam_rnn.files import ReadFiles, WriteAside, WriteFile
from beam_rnn.optim import Adam, Cosine
from beam_rnn.pairs import ATTENTIONS, EncoderDecoder, PairColumns, Pairs, Transduce, Transduced
from pipelines import tasks

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("key", "source", "target", "written")]
    + [("right", pa.bool_()), ("log_probability", pa.float64())]
)
SHOWN = 5


class Settings(NamedTuple):
    """The default training settings of a task."""

    samples: int
    epochs: int
    batch_size: int


SETTINGS = {
    ("additions", 2): Settings(5_000, 40, 64),
    ("additions", 3): Settings(50_000, 12, 128),
    ("dates", 2): Settings(10_000, 5, 64),
}
"""The defaults by task and number of digits."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of this pipeline, and the remaining ones, which are Beam's."""
    parser = flags.parser(None, __doc__)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--task", choices=["additions", "dates"], help="synthetic pairs")
    given.add_argument("--input", help="a file of pairs, or a pattern of files")
    parser.add_argument("--weights", required=True, help="the weights file to write")
    parser.add_argument("--output", help="a file for the results of fresh sources")
    parser.add_argument("--key", default="id", help="column of the key")
    parser.add_argument("--source", default="source", help="column of the source text")
    parser.add_argument("--target", default="target", help="column of the target text")
    parser.add_argument("--train_fraction", type=float, default=0.9, help="fraction of --input")
    parser.add_argument("--digits", type=int, default=2, help="digits of the numbers to add")
    parser.add_argument("--samples", type=int, help="pairs of --task to train on")
    parser.add_argument("--fresh", type=int, default=1000, help="pairs of --task to evaluate")
    parser.add_argument("--hidden", type=int, default=128, help="size of the hidden state")
    parser.add_argument("--embedding", type=int, default=16, help="size of the vector of a symbol")
    parser.add_argument("--attention", choices=ATTENTIONS, default="additive")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch_size", type=int, help="pairs per batch")
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="initial rate of Adam")
    parser.add_argument("--beam", type=int, default=1, help="width of the beam search")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args(argv)


def with_defaults(args: argparse.Namespace) -> argparse.Namespace:
    """Fill in the task's defaults of the flags that were not given."""
    settings = SETTINGS.get((args.task, args.digits), Settings(20_000, 20, 64))
    for name, value in settings._asdict().items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def made_up(args: argparse.Namespace) -> tuple[list[tasks.Record], list[tasks.Record]]:
    """Return the pairs of a task for training, and those for evaluation."""
    count = args.samples + args.fresh
    if args.task == "additions":
        if count > 100**args.digits:
            raise ConfigurationError(
                f"there are {100**args.digits} sums of numbers of {args.digits} digits, got "
                f"--samples {args.samples} and --fresh {args.fresh}"
            )
        pairs = list(tasks.additions(count, args.digits, args.seed))
    else:
        pairs = list(tasks.dates(count, args.seed))
    return pairs[: args.samples], pairs[args.samples :]


def is_learned_from(record: Mapping[str, Any], key: str, fraction: float) -> bool:
    """Return True if a record of a file is for training, which its key decides."""
    digest = hashlib.sha256(str(record.get(key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


class Records(beam.PTransform):
    """The records for training, or the fresh ones.

    Args:
        args: The flags.
        fresh: True for the fresh ones.
    """

    def __init__(self, args: argparse.Namespace, *, fresh: bool):
        super().__init__()
        self._args = args
        self._fresh = fresh

    def expand(self, pbegin: Any) -> Any:
        """Create the pairs of a task, or read files and select by key."""
        args, fresh = self._args, self._fresh
        if args.task:
            return pbegin | "Make" >> beam.Create(made_up(args)[fresh])
        key, fraction = args.key, args.train_fraction
        return (
            pbegin
            | "Files" >> ReadFiles(args.input)
            | "Part" >> beam.Filter(lambda r: is_learned_from(r, key, fraction) != fresh)
        )


def learn(pipeline: beam.Pipeline, args: argparse.Namespace) -> None:
    """Read -> pairs -> train -> write."""
    columns = PairColumns(key=args.key, source=args.source, target=args.target)
    network = EncoderDecoder(
        "gru",
        hidden=args.hidden,
        embedding=args.embedding,
        bidirectional=True,
        attention=args.attention,
    )
    updates = max(1, args.epochs * args.samples // args.batch_size)
    falling = Cosine(args.learning_rate, updates)  # the number of records in files is unknown
    training = Training(
        optimizer=Adam(falling if args.task else args.learning_rate),
        epochs=args.epochs,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    records = pipeline | "Learned" >> Records(args, fresh=False)
    pairs, invalid = records | Pairs(columns).with_exception_handling()
    _ = pairs | Train(network, training) | WriteModel(args.weights)
    _ = invalid | "Invalid" >> WriteAside(f"{args.weights}.invalid.jsonl")


def write(pipeline: beam.Pipeline, args: argparse.Namespace) -> None:
    """Read -> transduce -> compare with the targets -> write, and print the accuracy."""
    key, source, target = args.key, args.source, args.target
    records = pipeline | "Fresh" >> Records(args, fresh=True)
    written, invalid = records | Transduce(args.weights, beam=args.beam)
    rows = (
        {
            "truth": records | beam.Map(lambda r: (str(r[key]), (r[source], r[target]))),
            "written": written | beam.Map(lambda row: (row.key, row)),
        }
        | beam.CoGroupByKey()
        | beam.FlatMap(compared)
    )
    if args.output:
        _ = rows | "Output" >> WriteFile(args.output, SCHEMA)
        _ = invalid | "Invalid" >> WriteAside(f"{args.output}.invalid.jsonl")
    _ = rows | beam.combiners.ToList() | beam.Map(say)


def compared(
    group: tuple[str, Mapping[str, Sequence[Any]]],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a key: the target text and the written one."""
    key, found = group
    written: Sequence[Transduced] = sorted(found["written"])
    for (source, target), row in zip(sorted(found["truth"]), written, strict=False):
        yield {
            "key": key,
            "source": source,
            "target": target,
            "written": row.text,
            "right": row.text == target,
            "log_probability": row.log_probability,
        }


def say(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the accuracy and some errors."""
    wrong = sorted((row for row in rows if not row["right"]), key=lambda row: row["key"])
    right = len(rows) - len(wrong)
    share = right / len(rows) if rows else 0.0
    print(f"{right:,} of {len(rows):,} fresh sources translated correctly: {share:.1%}")
    for row in wrong[:SHOWN]:
        print(f"  {row['source']} -> {row['written']}, not {row['target']}")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, then translate."""
    args, beam_flags = parse(argv)
    args = with_defaults(args)
    check_outputs(
        {"--input": args.input},
        {"--weights": args.weights, "--output": args.output},
        {"--weights": BESIDE[:1], "--output": BESIDE[:1]},
    )
    for build in (learn, write):
        with beam.Pipeline(options=flags.beam_options(beam_flags)) as pipeline:
            build(pipeline, args)


if __name__ == "__main__":
    run(main)
