r"""Train on music and generate new pieces: MIDI files, and a picture of them.

    python -m pipelines.compose --input 'music/*.mid' --output composed

Reads MIDI files, or JSON files with lists of pieces, as chords on a grid of --beats quarter notes;
transposes each piece to C major or A minor; trains a network that predicts the next symbol of a
piece, a note or a chord separator; prints its cross entropy on the held-out pieces; and generates
--count pieces of --steps chords. With --weights it uses an existing model and trains nothing.
Needs the extras `music` and `plot`. Beam's own flags, such as --runner, pass through.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np

from beam_rnn import (
    Bptt,
    Columns,
    Dropout,
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
from beam_rnn.cli import check_outputs, flags, folder_of, run
from beam_rnn.errors import ConfigurationError
from beam_rnn.optim import Adam, Cosine
from pipelines import music

COLUMNS = Columns(
    key="piece",
    time="at",
    symbols=["symbol"],
    targets=["symbol"],
    classes=music.SYMBOLS,
    vocabularies={"symbol": music.SYMBOLS},
)
BPTT, BUCKET = 100, 4
SYMBOLS_AT_MOST = 12
"""Maximum number of generated symbols per chord."""
DRAWN = 6
"""Maximum number of pieces in the picture."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the flags of this pipeline, and the remaining ones, which are Beam's."""
    parser = flags.parser(None, __doc__)
    parser.add_argument("--input", help="a pattern of MIDI files, or of JSON files")
    parser.add_argument("--weights", help="a model of this pipeline, instead of --input")
    parser.add_argument("--output", default="composed", help="the folder to write to")
    parser.add_argument("--count", type=int, default=8, help="pieces to generate")
    parser.add_argument("--steps", type=int, default=64, help="chords per piece, at most 96")
    parser.add_argument("--beats", type=float, default=1.0, help="quarter notes per step")
    parser.add_argument("--tempo", type=int, default=84, help="quarter notes per minute")
    parser.add_argument("--temperature", type=float, default=0.9, help="1 as trained, 0 greedy")
    parser.add_argument("--top_k", type=int, help="sample from the k likeliest symbols only")
    parser.add_argument("--hidden", type=int, default=192, help="size of each layer")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="initial rate of Adam")
    parser.add_argument("--batch_size", type=int, default=16, help="pieces per batch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_known_args(argv)


def records(piece: music.Piece) -> Iterator[dict[str, Any]]:
    """Yield a record for each symbol of a transposed piece, one second apart."""
    for at, symbol in enumerate(music.symbols(music.in_one_key(piece.chords))):
        yield {"piece": piece.name, "at": at, "symbol": symbol}


def training_of(args: argparse.Namespace, lengths: Sequence[int]) -> Training:
    """Return the training settings: the learning rate decays to 0 by the end.

    Args:
        args: The flags.
        lengths: The number of symbols of each piece.
    """
    training = Training(
        bptt=Bptt(steps=BPTT),
        epochs=args.epochs,
        batch_size=args.batch_size,
        bucket=BUCKET,
        scaler="none",
        dropout=Dropout(inputs=0.1, layers=0.4),
        seed=args.seed,
    )
    updates = args.epochs * training.updates(lengths)
    return replace(training, optimizer=Adam(Cosine(args.learning_rate, updates)))


def train(pieces: Sequence[music.Piece], path: str, args: argparse.Namespace, options: Any) -> None:
    """Records -> sequences -> train -> write."""
    learned = [list(records(piece)) for piece in pieces if not piece.held_out]
    network = Network("gru", args.hidden, args.layers, embedding=32, output="softmax")
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([record for piece in learned for record in piece])
            | Sequences(COLUMNS)
            | Train(network, training_of(args, list(map(len, learned))))
            | WriteModel(path)
        )


def bits_of_a_chord(model: Model, pieces: Sequence[music.Piece]) -> float:
    """Return the cross entropy of the model per chord, in bits."""
    bits, steps = 0.0, 0
    index = {symbol: i for i, symbol in enumerate(music.SYMBOLS)}
    for piece in pieces:
        classes = np.array([index[record["symbol"]] for record in records(piece)])
        x = (classes[np.newaxis, :-1, np.newaxis] + 1).astype(model.dtype)
        p = model.forward(x)[0, np.arange(len(classes) - 1), classes[1:]].astype(float)
        bits -= float(np.log2(p).sum())
        steps += len(piece.chords)
    return bits / steps


def path_of(sample: int, args: argparse.Namespace) -> str:
    """Return the path of the MIDI file of a piece."""
    return str(Path(args.output) / f"{sample:02d}.mid")


def write(row: Generated, args: argparse.Namespace) -> str:
    """Write a piece as a MIDI file; return a line about it."""
    path = path_of(row.sample, args)
    found = music.chords(row.symbols)
    music.write_midi(found, path, args.beats, args.tempo)
    assert row.log_probability is not None, "known for classes"
    bits = -row.log_probability / math.log(2) / max(len(found), 1)
    return f"{path}: {len(found)} chords, {bits:.1f} bits per chord"


def generate(path: str, args: argparse.Namespace, options: Any) -> None:
    """Prompt -> pieces -> MIDI files."""
    write_pieces = Generate(
        path,
        length=args.steps * SYMBOLS_AT_MOST,
        stop=music.stroke(0),
        temperature=args.temperature,
        top_k=args.top_k,
        samples=args.count,
        seed=args.seed,
    )
    prompt = {"piece": "new", "at": 0, "symbol": music.stroke(args.steps)}
    with beam.Pipeline(options=options) as pipeline:
        made = pipeline | beam.Create([prompt]) | write_pieces
        _ = made.generated | "Write" >> beam.Map(write, args) | beam.Map(print)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, evaluate, generate, draw."""
    args, beam_flags = parse(argv)
    if (args.input is None) == (args.weights is None):
        raise ConfigurationError(
            f"give either --input or --weights, got {args.input!r} and {args.weights!r}"
        )
    if not 1 <= args.steps <= music.COUNTED:
        raise ConfigurationError(f"--steps must be 1 to {music.COUNTED}, got {args.steps}")
    options = flags.beam_options(beam_flags)
    folder = folder_of("--output", args.output)
    picture = folder / "pieces.png"
    songs = {f"piece {n} of --output": path_of(n, args) for n in range(1, args.count + 1)}
    path = args.weights
    trained = str(folder / "weights.arrow") if path is None else None
    check_outputs(
        {"--input": args.input, "--weights": args.weights},
        {"the weights of --output": trained, "the picture of --output": str(picture), **songs},
    )
    if trained is not None:
        path = trained
        pieces = music.read_pieces(args.input, args.beats)
        train(pieces, path, args, options)
        held_out = [piece for piece in pieces if piece.held_out]
        if held_out:
            bits = bits_of_a_chord(weights.load(path), held_out)
            print(f"{bits:.2f} bits per chord on {len(held_out)} held-out pieces")
    generate(path, args, options)
    written = [path_of(sample, args) for sample in range(1, min(args.count, DRAWN) + 1)]
    pieces_drawn = [(Path(each).name, music.read_midi(each, args.beats)) for each in written]
    music.draw(pieces_drawn, str(picture))
    print(picture)


if __name__ == "__main__":
    run(main)
