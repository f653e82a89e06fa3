r"""Train on a text, character by character, and generate more of it.

    python -m pipelines.write --prompt 'ROMEO:' --length 500

Trains on the first nine tenths of --text (by default plays of Shakespeare), prints the cross
entropy per character on the last tenth, and generates --length characters after --prompt. The model
is written to --output. With --weights an existing model generates the text, and nothing is trained.
Beam's own flags, such as --runner, pass through.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np

from beam_rnn import (
    Bptt,
    Columns,
    Generate,
    Generated,
    Model,
    Network,
    Sequences,
    Train,
    Training,
    WriteModel,
    weights,
)
from beam_rnn.cli import check_outputs, flags, run
from beam_rnn.errors import ConfigurationError
from beam_rnn.optim import Adam, Cosine

TEXT = Path(__file__).parent / "data" / "shakespeare" / "input.txt"
LEARNED = 0.9
"""The fraction of a text to train on; the rest is for evaluation."""
LENGTH = 512
"""Characters per sequence."""
BPTT = 64


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of this pipeline, and the remaining ones, which are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--text", default=str(TEXT), help="a file of text, in UTF-8")
    parser.add_argument("--output", default="written.arrow", help="the weights file to write")
    parser.add_argument("--weights", help="a model of this pipeline, instead of --text")
    parser.add_argument("--prompt", default="\n", help="the text to continue")
    parser.add_argument("--length", type=int, default=500, help="characters to generate")
    parser.add_argument("--samples", type=int, default=1, help="number of texts to generate")
    parser.add_argument("--temperature", type=float, default=0.8, help="1 as trained, 0 greedy")
    parser.add_argument("--top_k", type=int, help="sample from the k likeliest characters only")
    parser.add_argument("--characters", type=int, help="characters of --text to use; default: all")
    parser.add_argument("--cell", default="gru", help="gru, lstm or rnn")
    parser.add_argument("--hidden", type=int, default=256, help="size of each layer")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning_rate", type=float, default=4e-3, help="initial rate of Adam")
    parser.add_argument("--batch_size", type=int, default=32, help="sequences per batch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args(argv)


def text_of(path: str, characters: int | None = None) -> str:
    """Return the first characters of a file.

    Raises:
        ConfigurationError: The text is too short to train on.
    """
    text = Path(path).read_text(encoding="utf-8")[:characters]
    if len(set(text)) < 2 or len(text) < 20:
        raise ConfigurationError(
            f"--text must have at least 20 characters, of which 2 differ, got {text!r} in {path!r}"
        )
    return text


def columns_of(text: str) -> Columns:
    """Return the columns: a character is the symbol, and the next one its class."""
    characters = sorted(set(text))
    return Columns(
        key="text",
        time="at",
        symbols=["character"],
        targets=["character"],
        classes=characters,
        vocabularies={"character": characters},
    )


def records(text: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield a record for each character, one second apart."""
    for at, character in enumerate(text):
        yield {"text": name, "at": at, "character": character}


def records_of_file(path: str, characters: int | None) -> Iterator[dict[str, Any]]:
    """Yield the records of a text, read on the worker."""
    return records(text_of(path, characters), path)


def train(text: str, args: argparse.Namespace, options: Any) -> None:
    """Records -> sequences -> train -> write."""
    batches = math.ceil(LEARNED * len(text) / LENGTH / args.batch_size)
    updates = args.epochs * batches * LENGTH // BPTT
    training = Training(
        bptt=Bptt(steps=BPTT),
        optimizer=Adam(Cosine(args.learning_rate, updates, args.learning_rate / 20)),
        epochs=args.epochs,
        batch_size=args.batch_size,
        scaler="none",
        seed=args.seed,
    )
    network = Network(args.cell, args.hidden, args.layers, embedding=32, output="softmax")
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([args.text])
            | "Characters" >> beam.FlatMap(records_of_file, args.characters)
            | Sequences(columns_of(text), length=LENGTH, fraction=LEARNED)
            | Train(network, training)
            | WriteModel(args.output)
        )


def bits_of_a_character(model: Model, text: str) -> float:
    """Return the cross entropy of the model per character, in bits."""
    assert model.columns is not None, "it was trained in a pipeline"
    index = {str(character): i for i, character in enumerate(model.columns.classes)}
    classes = np.array([index[character] for character in text])
    x = (classes[np.newaxis, :-1, np.newaxis] + 1).astype(model.dtype)
    p = model.forward(x)[0, np.arange(len(classes) - 1), classes[1:]].astype(float)
    return -float(np.log2(p).mean())


def show(row: Generated, prompt: str) -> None:
    """Print a generated text."""
    print(f"--- {row.sample}\n{prompt}{''.join(row.symbols)}")


def write(path: str, args: argparse.Namespace, options: Any) -> None:
    """Prompt -> text."""
    generate = Generate(
        path,
        args.length,
        temperature=args.temperature,
        top_k=args.top_k,
        samples=args.samples,
        seed=args.seed,
    )
    with beam.Pipeline(options=options) as pipeline:
        made = pipeline | beam.Create(list(records(args.prompt, "prompt"))) | generate
        _ = made.generated | beam.Map(show, args.prompt)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, generate."""
    args, beam_flags = parse(argv)
    if not args.prompt:
        raise ConfigurationError(f"--prompt must be a text to continue, got {args.prompt!r}")
    options = flags.beam_options(beam_flags)
    if args.weights is None:
        check_outputs({"--text": args.text}, {"--output": args.output})
        text = text_of(args.text, args.characters)
        train(text, args, options)
        held_out = text[int(LEARNED * len(text)) :]
        bits = bits_of_a_character(weights.load(args.output), held_out)
        print(
            f"{bits:.2f} bits per character, perplexity {2**bits:.2f}, on the "
            f"{len(held_out):,} held-out characters"
        )
    write(args.weights or args.output, args, options)


if __name__ == "__main__":
    run(main)
