r"""Learn from a text, character by character, and write more of it.

    python -m pipelines.write --prompt 'ROMEO:' --length 500

Trains on --text, plays of Shakespeare if none is given, but not on the last tenth of it: how many
bits a character of that needs is printed. Then --length characters are written after --prompt.
The model goes to --output; with --weights one that is there writes, and nothing is trained.
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
"""This first part of a text is learned from; the rest is judged by."""
LENGTH = 512
"""Characters a sequence."""
BPTT = 64


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Our flags, and those that are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--text", default=str(TEXT), help="a file of text, in UTF-8")
    parser.add_argument("--output", default="written.arrow", help="the weights file to write")
    parser.add_argument("--weights", help="a model of this pipeline, instead of --text")
    parser.add_argument("--prompt", default="\n", help="what the text goes on from")
    parser.add_argument("--length", type=int, default=500, help="characters to write")
    parser.add_argument("--samples", type=int, default=1, help="how many texts to write")
    parser.add_argument("--temperature", type=float, default=0.8, help="1 as learned, 0 no chance")
    parser.add_argument("--top_k", type=int, help="draw of the most likely characters alone")
    parser.add_argument("--characters", type=int, help="take so many of the text; default: all")
    parser.add_argument("--cell", default="gru", help="gru, lstm or rnn")
    parser.add_argument("--hidden", type=int, default=256, help="size of each layer")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning_rate", type=float, default=4e-3, help="of Adam, at first")
    parser.add_argument("--batch_size", type=int, default=32, help="sequences a batch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args(argv)


def text_of(path: str, characters: int | None = None) -> str:
    """The first characters of a text.

    Raises:
        ConfigurationError: It is too short to learn from.
    """
    text = Path(path).read_text(encoding="utf-8")[:characters]
    if len(set(text)) < 2 or len(text) < 20:
        raise ConfigurationError(f"--text must be a text of some length, got {text!r} in {path!r}")
    return text


def columns_of(text: str) -> Columns:
    """Each character is a symbol, and the next one the class that is predicted."""
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
    """A record for each character: a second apart."""
    for at, character in enumerate(text):
        yield {"text": name, "at": at, "character": character}


def records_of_file(path: str, characters: int | None) -> Iterator[dict[str, Any]]:
    """The records of a text, read where it is learned from."""
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
    """How many bits the model needs to say the next character, on average."""
    assert model.columns is not None, "it was trained in a pipeline"
    index = {str(character): i for i, character in enumerate(model.columns.classes)}
    said = np.array([index[character] for character in text])
    x = (said[np.newaxis, :-1, np.newaxis] + 1).astype(model.dtype)
    p = model.forward(x)[0, np.arange(len(said) - 1), said[1:]].astype(float)
    return -float(np.log2(p).mean())


def show(row: Generated, prompt: str) -> None:
    """Print what was written."""
    print(f"--- {row.sample}\n{prompt}{''.join(row.symbols)}")


def write(path: str, args: argparse.Namespace, options: Any) -> None:
    """Prompt -> text."""
    go_on = Generate(
        path,
        args.length,
        temperature=args.temperature,
        top_k=args.top_k,
        samples=args.samples,
        seed=args.seed,
    )
    with beam.Pipeline(options=options) as pipeline:
        made = pipeline | beam.Create(list(records(args.prompt, "prompt"))) | go_on
        _ = made.generated | beam.Map(show, args.prompt)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, judge, write."""
    args, beam_flags = parse(argv)
    if not args.prompt:
        raise ConfigurationError(f"--prompt must be a text to go on from, got {args.prompt!r}")
    options = flags.beam_options(beam_flags)
    if args.weights is None:
        check_outputs({"--text": args.text}, {"--output": args.output})
        text = text_of(args.text, args.characters)
        train(text, args, options)
        held_out = text[int(LEARNED * len(text)) :]
        bits = bits_of_a_character(weights.load(args.output), held_out)
        print(
            f"{bits:.2f} bits a character, perplexity {2**bits:.2f}, of the "
            f"{len(held_out):,} that were held out"
        )
    write(args.weights or args.output, args, options)


if __name__ == "__main__":
    run(main)
