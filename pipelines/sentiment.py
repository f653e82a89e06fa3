r"""Train a classifier of sentences, and classify others.

    python -m pipelines.sentiment --positive rt-polarity.pos --negative rt-polarity.neg \
        --output scores.csv
    python -m pipelines.sentiment --input 'reviews/*.csv' --text review --label stars \
        --classes 1,2,3,4,5 --output scores.csv
    python -m pipelines.sentiment --input new.csv --text review \
        --weights scores.csv.weights.arrow --output classified.csv

Sentences are read one per line, from one file per class, or from the column --text of CSV, Parquet,
Arrow or JSON lines, with the class in the column --label. A bidirectional network reads each
sentence in both directions and outputs class probabilities at each word. It trains on all sentences
but --test_fraction of them, which are then classified, and the accuracy is printed. With --weights
an existing model classifies all sentences, and nothing is trained.

The output has a row for each classified sentence: its text, its label if it has one, the likeliest
class, the probability of each class (the mean over the words), and the digest of the model.
Invalid sentences go to `<output>.invalid.jsonl`. Beam's own flags, such as --runner, pass through.
"""

import argparse
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.pvalue import TaggedOutput

from beam_rnn import (
    Bptt,
    Columns,
    Dropout,
    InvalidRecord,
    Network,
    Prediction,
    PredictSequences,
    Sequences,
    Train,
    Training,
    Vocabulary,
    WriteModel,
)
from beam_rnn.cli import BESIDE, check_outputs, flags, run
from beam_rnn.elements import INVALID, MAX_KEY_BYTES
from beam_rnn.errors import ConfigurationError, shown
from beam_rnn.files import ReadFiles, WriteAside, WriteFile
from beam_rnn.optim import AdamW
from beam_rnn.weights import read_model

POLARITY = ("negative", "positive")
"""The classes of --negative and --positive."""
WORD = re.compile(r"[\w'\u2019-]+|[^\w\s]")
MODEL = "prediction_model"
"""The column of the model's digest, as in `beam_rnn.elements.prediction_columns`."""
COUNTS = "beam_rnn.sentiment"
"""The namespace of the metrics that count classified sentences."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of this pipeline, and the remaining ones, which are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--positive", help="a file, or a pattern, of sentences: one per line")
    parser.add_argument("--negative", help="the same, of the other class")
    parser.add_argument("--input", help="a file or a pattern of files with a column of sentences")
    parser.add_argument("--text", default="text", help="column of the sentence")
    parser.add_argument("--label", help="column of the class")
    parser.add_argument(
        "--classes", type=flags.names, default=POLARITY, help="the names of the classes"
    )
    parser.add_argument("--output", required=True, help="the file of classified sentences to write")
    parser.add_argument("--weights", help="an existing model of this pipeline: nothing is trained")
    parser.add_argument("--write_weights", help="default: <output>.weights.arrow")
    parser.add_argument("--test_fraction", type=float, default=0.1, help="fraction for testing")
    parser.add_argument("--cell", default="gru", help="gru, lstm or rnn")
    parser.add_argument("--hidden", type=int, default=32, help="size of each direction")
    parser.add_argument("--embedding", type=int, default=32, help="size of the vector of a word")
    parser.add_argument("--at_least", type=int, default=2, help="rarer words are unknown")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of AdamW")
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args(argv)


def check(args: argparse.Namespace) -> None:
    """Check that the flags are consistent.

    Raises:
        ConfigurationError: They are not.
    """
    of_classes = bool(args.positive), bool(args.negative)
    if any(of_classes) == bool(args.input) or of_classes[0] != of_classes[1]:
        raise ConfigurationError(
            f"give --positive and --negative, or --input: got positive={args.positive!r}, "
            f"negative={args.negative!r}, input={args.input!r}"
        )
    if args.input and not args.label and not args.weights:
        raise ConfigurationError(
            "training needs --label: name the column of the class, or classify with --weights"
        )
    taken = {"text", "label", "told", MODEL} & set(args.classes)
    if taken:
        raise ConfigurationError(
            f"a class cannot have the name of a column of --output, got {', '.join(sorted(taken))}"
        )
    if not 0 < args.test_fraction < 1:
        raise ConfigurationError(
            f"--test_fraction must be between 0 and 1, got {args.test_fraction!r}"
        )


def words_of(text: str) -> list[str]:
    """Return the words of a sentence in lower case; a punctuation mark is a word.

    >>> words_of("It's a too-long film, alas!")
    ["it's", 'a', 'too-long', 'film', ',', 'alas', '!']
    """
    return WORD.findall(text.lower())


def key_of(*texts: str) -> str:
    """Return a key for texts: equal for equal texts only."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def is_kept_back(text: str, fraction: float) -> bool:
    """Return True if a sentence is in the test set, which only its words decide."""
    return int(key_of(*words_of(text))[:8], 16) < fraction * 2**32


def columns_of(classes: Sequence[str]) -> Columns:
    """Return the columns: a record is a word, and the words of a sentence share a key."""
    return Columns(
        key="sentence",
        time="at",
        sequence="place",
        symbols=["word"],
        targets=["label"],
        classes=classes,
        horizon=0,
    )


def records_of(sentence: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """Yield the words of a sentence as records, in order and with the same time."""
    for place, word in enumerate(words_of(sentence["text"])):
        record = {"sentence": key, "at": 0, "place": place, "word": word}
        yield record | {"label": sentence["label"]}


def sentence_of(record: Mapping[str, Any], text: str, label: str | None) -> dict[str, Any]:
    """Return the text and the label of a record of a file."""
    of_label = None if label is None else record.get(label)
    return {"text": record.get(text), "label": None if of_label is None else str(of_label)}


def labelled_line(line: bytes, label: str) -> dict[str, Any]:
    """Return a sentence of a file of one class; bytes that are not UTF-8 stay bytes."""
    try:
        return {"text": line.decode("utf-8-sig"), "label": label}
    except UnicodeDecodeError:
        return {"text": line, "label": label}


class Check(beam.DoFn):
    """Pass on valid sentences; those without a word or with an unknown label are dead letters.

    Args:
        classes: The valid labels.
        labelled: True if each sentence needs a label.
    """

    def __init__(self, classes: Sequence[str], *, labelled: bool):
        self._classes = classes
        self._labelled = labelled

    def process(self, element: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the sentence, or the reason why it is invalid."""
        reason, value = "", element["text"]
        if not isinstance(value, str):
            reason = "text must be text"
        elif not words_of(value):
            reason = "text must have a word"
        elif max(len(word.encode()) for word in words_of(value)) > MAX_KEY_BYTES:
            reason = f"a word must have at most {MAX_KEY_BYTES} bytes"
        elif self._labelled and element["label"] not in self._classes:
            reason = f"label must be one of the classes {', '.join(self._classes)}"
            value = element["label"]
        if reason:
            yield TaggedOutput(INVALID, InvalidRecord("", reason, shown(value), shown(element)))
        else:
            yield element


class ReadSentences(beam.PTransform):
    """Read the sentences of the files that the flags name, and the dead letters."""

    def __init__(self, args: argparse.Namespace, classes: Sequence[str], *, labelled: bool):
        super().__init__()
        self._args = args
        self._classes = tuple(classes)
        self._labelled = labelled

    def expand(self, pbegin: Any) -> Any:
        """Read the lines of each class, or rows; check them."""
        args = self._args
        if args.input:
            read = pbegin | "Rows" >> ReadFiles(args.input)
            found = read | "Columns" >> beam.Map(sentence_of, args.text, args.label)
        else:
            found = [
                pbegin
                | f"Lines {label}" >> beam.io.ReadFromText(pattern, coder=beam.coders.BytesCoder())
                | f"Label {label}" >> beam.Map(labelled_line, label)
                for label, pattern in zip(POLARITY, (args.negative, args.positive), strict=True)
            ] | "Both" >> beam.Flatten()
        checked = beam.ParDo(Check(self._classes, labelled=self._labelled))
        return found | "Check" >> checked.with_outputs(INVALID, main="sentences")


def train(pipeline: beam.Pipeline, args: argparse.Namespace, weights: str) -> None:
    """Read -> leave out the test set -> words -> sequences -> train -> write."""
    columns = columns_of(args.classes)
    network = Network(
        args.cell,
        args.hidden,
        bidirectional=True,
        embedding=args.embedding,
        embedding_deviation=0.1,
        output="softmax",
    )
    training = Training(
        bptt=Bptt(),
        optimizer=AdamW(args.learning_rate, weight_decay=1e-2),
        epochs=args.epochs,
        bucket=16,
        scaler="none",
        seed=args.seed,
        dropout=Dropout(inputs=0.5, symbols=0.5),
        vocabulary=Vocabulary(at_least=args.at_least),
    )
    fraction = args.test_fraction
    _ = (
        (pipeline | "Read" >> ReadSentences(args, args.classes, labelled=True)).sentences
        | "Learned" >> beam.Filter(lambda sentence: not is_kept_back(sentence["text"], fraction))
        | "Words"
        >> beam.FlatMap(lambda each: records_of(each, key_of(each["text"], each["label"])))
        | Sequences(columns)
        | Train(network, training)
        | WriteModel(weights)
    )


def classes_of(weights: str) -> list[str]:
    """Return the classes of a model of this pipeline.

    Raises:
        ConfigurationError: It is a model of another pipeline.
    """
    columns = read_model(weights).columns
    if columns is None or columns != columns_of(columns.classes).with_vocabularies(
        dict(columns.vocabularies)
    ):
        raise ConfigurationError(
            f"{weights!r} is not a model of sentences: name one that pipelines.sentiment wrote"
        )
    return [str(label) for label in columns.classes]


def tell(
    pipeline: beam.Pipeline, args: argparse.Namespace, weights: str, *, all_of_them: bool
) -> None:
    """Read -> words -> predict -> join with the sentences -> write."""
    classes = classes_of(weights)
    labelled = not args.input or args.label is not None
    sentences, invalid = pipeline | "Read" >> ReadSentences(args, classes, labelled=labelled)
    if not all_of_them:
        fraction = args.test_fraction
        sentences |= "KeptBack" >> beam.Filter(lambda each: is_kept_back(each["text"], fraction))
    outputs = (
        sentences
        | "Words" >> beam.FlatMap(lambda each: records_of(each, key_of(each["text"])))
        | PredictSequences(weights)
    )
    _ = (sentences, outputs.predictions) | "Told" >> WriteTold(args.output, classes)
    dead = (invalid, outputs.invalid) | "Dead" >> beam.Flatten()
    _ = dead | "Invalid" >> WriteAside(f"{args.output}.invalid.jsonl")


def mean_of(rows: Sequence[Prediction]) -> list[float]:
    """Return the mean of the outputs at the words of a sentence."""
    return [sum(each) / len(rows) for each in zip(*(row.outputs for row in rows), strict=True)]


class WriteTold(beam.PTransform):
    """Write sentences with their predictions to a file, one row per sentence.

    Args:
        path: The file; its suffix determines the format.
        classes: The classes of the outputs.
    """

    def __init__(self, path: str, classes: Sequence[str]):
        super().__init__()
        self._path = path
        self._classes = list(classes)

    # Not annotated: Beam ignores the annotation of several collections.
    def expand(self, pcolls):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        """Join both by key, and write the rows."""
        sentences, predictions = pcolls
        names = [("text", pa.string()), ("label", pa.string()), ("told", pa.string())]
        scores = [(label, pa.float64()) for label in self._classes]
        schema = pa.schema([*names, *scores, (MODEL, pa.string())])
        by_key = {
            "sentences": sentences
            | "ByText" >> beam.Map(lambda sentence: (key_of(sentence["text"]), sentence)),
            "told": predictions | "ByKey" >> beam.Map(lambda row: (row.key, row)),
        }
        rows = (
            by_key | "Together" >> beam.CoGroupByKey() | "Rows" >> beam.ParDo(Rows(self._classes))
        )
        return rows | "Write" >> WriteFile(self._path, schema)


class Rows(beam.DoFn):
    """Join sentences with their predictions; count the labelled and the correct ones."""

    def __init__(self, classes: Sequence[str]):
        self._classes = classes
        self._judged = Metrics.counter(COUNTS, "judged")
        self._right = Metrics.counter(COUNTS, "right")

    def process(self, element: tuple[str, Mapping[str, Iterable[Any]]]) -> Iterator[dict[str, Any]]:
        """Yield a row for each of a group of equal sentences."""
        _, group = element
        predictions = sorted(group["told"], key=lambda prediction: prediction.step)
        if predictions:
            outputs = mean_of(predictions)
            for sentence in group["sentences"]:
                yield self._row(sentence, outputs, predictions[0].model)

    def _row(
        self, sentence: Mapping[str, Any], outputs: Sequence[float], model: str
    ) -> dict[str, Any]:
        told = self._classes[outputs.index(max(outputs))]
        if sentence["label"] is not None:
            self._judged.inc()
            self._right.inc(int(told == sentence["label"]))
        scores = dict(zip(self._classes, outputs, strict=True))
        return {**sentence, "told": told, **scores, MODEL: model}


def say(result: Any, output: str) -> None:
    """Print the accuracy, and the path of the output."""
    found = result.metrics().query(MetricsFilter().with_namespace(COUNTS))["counters"]
    counts = {counter.key.metric.name: counter.result for counter in found}
    judged, right = counts.get("judged", 0), counts.get("right", 0)
    if judged:
        print(f"accuracy {right / judged:.1%}: {right} of {judged} sentences classified correctly")
    print(f"Wrote {output}")


def main(argv: Sequence[str] | None = None) -> None:
    """Train, unless there is a model; then classify."""
    args, beam_flags = parse(argv)
    check(args)
    options = flags.beam_options(beam_flags)
    weights = args.weights or args.write_weights or f"{args.output}.weights.arrow"
    check_outputs(
        {
            "--input": args.input,
            "--positive": args.positive,
            "--negative": args.negative,
            "--weights": args.weights,
        },
        {"--output": args.output, "--write_weights": None if args.weights else weights},
        {"--output": BESIDE[:1]},
    )
    if not args.weights:
        with beam.Pipeline(options=options) as pipeline:
            train(pipeline, args, weights)
    pipeline = beam.Pipeline(options=options)
    tell(pipeline, args, weights, all_of_them=bool(args.weights))
    result = pipeline.run()
    result.wait_until_finish()
    say(result, args.output)


if __name__ == "__main__":
    run(main)
