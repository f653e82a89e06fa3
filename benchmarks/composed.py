"""Compare statistics of generated music with Bach's own and with a piano-roll model.

    python -m benchmarks.composed --weights composed/weights.arrow --input jsb-chorales-quarter.json

The weights are those of `pipelines.compose`, the input is their training data: lists of pieces
named "train", "valid" and "test". --pieces of 64 chords are generated at each temperature and
compared with as many held-out pieces of Bach. The last row is a GRU of 128 units that predicts each
of 88 keys independently (`output="sigmoid"`), trained on the same pieces for 40 epochs.
"""

import argparse
import json
import os

if __name__ == "__main__":
    for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn import Bptt, Columns, Model, Network, Training, weights
from beam_rnn import Sequence as Steps
from beam_rnn.core.arrays import Array
from beam_rnn.models.generator import Generation, Generator, Prompt
from beam_rnn.optim import Adam, Cosine
from beam_rnn.training.fit import fit_sequences
from pipelines import compose, music

PIECES, CHORDS = 16, 64
TEMPERATURES = (0.7, 0.9, 1.0)
TONICS = ({0, 4, 7}, {9, 0, 4}, {9, 1, 4})  # C major, A minor, A major
FIFTH = 7
KEYS = 88
PERFECT = (0, FIFTH)  # octaves and fifths, in semitones
AGAIN = 8
"""Number of consecutive chords that make a theme if they recur."""


def composed(model: Model, temperature: float, pieces: int, seed: int = 1) -> list[music.Chords]:
    """Generate pieces with a model of `pipelines.compose`."""
    how = Generation(
        length=CHORDS * compose.SYMBOLS_AT_MOST,
        stop=music.stroke(0),
        temperature=temperature,
        samples=pieces,
        seed=seed,
    )
    first = np.array([[music.SYMBOLS.index(music.stroke(CHORDS)) + 1.0]])
    written = Generator(model, how).generate([Prompt("new", np.array([0]), first)])
    return [music.chords([music.SYMBOLS[i] for i in each.values]) for each in written]


def keys_of(piece: music.Chords) -> Array:
    """Return a piece as an array (chords, 88) with 1 for each sounding key."""
    roll = np.zeros((len(piece), KEYS))
    for t, chord in enumerate(piece):
        roll[t, [pitch - music.LOWEST for pitch in chord]] = 1
    return roll


def rolls(learned: Sequence[music.Chords], pieces: int, epochs: int) -> list[music.Chords]:
    """Generate pieces with a network that predicts each key independently."""
    columns = Columns(key="piece", time="at", inputs=["notes"], vectors={"notes": KEYS})
    sequences = []
    for i, piece in enumerate(learned):
        roll, last = keys_of(piece), len(piece) - 1
        times = np.arange(last) * 1_000_000
        sequences.append(Steps(columns, str(i), times, roll[:-1], roll[1:], last * 1_000_000))
    training = Training(
        bptt=Bptt(steps=50),
        optimizer=Adam(Cosine(5e-3, 60 * epochs)),
        epochs=epochs,
        batch_size=16,
        scaler="none",
    )
    model: Model = fit_sequences(Network("gru", hidden=128, output="sigmoid"), sequences, training)
    generator = Generator(model, Generation(length=CHORDS, samples=pieces, seed=1))
    prompt = Prompt("new", np.array([0]), keys_of([[48, 55, 64, 72]]))
    return [
        [(np.flatnonzero(keys) + music.LOWEST).tolist() for keys in each.values]
        for each in generator.generate([prompt])
    ]


def copied(piece: music.Chords, learned: Iterable[music.Chords]) -> int:
    """Return the length of the longest sequence of chords copied from the training data."""
    longest = 0
    for other in learned:
        before = [0] * (len(other) + 1)
        for chord in piece:
            here = [0] * (len(other) + 1)
            for j, theirs in enumerate(other):
                if list(theirs) == list(chord):
                    here[j + 1] = before[j] + 1
            longest, before = max(longest, *here), here
    return longest


def parallel(one: Sequence[int], next_: Sequence[int]) -> bool:
    """Return True if two of four voices move in parallel octaves or fifths.

    >>> parallel([48, 55, 64, 72], [50, 57, 65, 74])
    True
    """
    return any(
        (one[j] - one[i]) % 12 in PERFECT
        and (one[j] - one[i]) % 12 == (next_[j] - next_[i]) % 12
        and one[i] != next_[i]
        and one[j] != next_[j]
        for i in range(4)
        for j in range(i + 1, 4)
    )


def share(marks: Iterable[bool]) -> float:
    """Return the share of True."""
    found = list(marks)
    return sum(found) / len(found) if found else 0.0


def counted(pieces: Sequence[music.Chords], learned: Sequence[music.Chords]) -> dict[str, float]:
    """Return the statistics of pieces."""
    known = {tuple(chord) for piece in learned for chord in piece}
    chords = [chord for piece in pieces for chord in piece]
    follow = [pair for piece in pieces for pair in pairwise(piece)]
    voices = [(a, b) for a, b in follow if len(a) == len(b) == 4 and list(a) != list(b)]
    return {
        "chords that were learned": share(tuple(chord) in known for chord in chords),
        "of four notes": share(len(chord) == 4 for chord in chords),
        "leaps beyond a fifth": share(abs(a[-1] - b[-1]) > FIFTH for a, b in follow if a and b),
        "ends on a tonic": share({p % 12 for p in piece[-1]} in TONICS for piece in pieces),
        "longest row copied": max(copied(piece, learned) for piece in pieces),
        "in the scale": share(p % 12 in music.WHITE for chord in chords for p in chord),
        "parallels": share(parallel(a, b) for a, b in voices),
        "has a theme": share(map(has_theme, pieces)),
        "within a chord of its length": share(abs(len(piece) - CHORDS) <= 1 for piece in pieces),
    }


def has_theme(piece: music.Chords) -> bool:
    """Return True if a sequence of `AGAIN` chords recurs."""
    rows = [str(piece[i : i + AGAIN]) for i in range(len(piece) - AGAIN + 1)]
    return len(set(rows)) < len(rows)


def read(path: Path) -> tuple[list[music.Chords], list[music.Chords]]:
    """Return the training pieces and the held-out ones, transposed to one key."""
    pieces = music.read_pieces(str(path), beats=1.0)
    learned, held_out = (
        [music.in_one_key(list(piece.chords)) for piece in pieces if piece.held_out is out]
        for out in (False, True)
    )
    return learned, held_out


def main(argv: Sequence[str] | None = None) -> None:
    """Compute the statistics and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True, help="of pipelines.compose")
    parser.add_argument("--input", type=Path, required=True, help="their training data")
    parser.add_argument("--pieces", type=int, default=PIECES, help="pieces per row")
    parser.add_argument("--quick", action="store_true", help="two pieces per row")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    learned, held_out = read(args.input)
    model = weights.load(args.weights)
    pieces, epochs = (2, 1) if args.quick else (args.pieces, 40)
    sources: dict[str, Callable[[], Sequence[music.Chords]]] = {
        "held out": lambda: held_out[:pieces]
    }
    for temperature in TEMPERATURES:
        sources[f"temperature {temperature:g}"] = partial(composed, model, temperature, pieces)
    sources["piano roll"] = partial(rolls, learned, pieces, epochs)
    rows: dict[str, Any] = {}
    for name, source in sources.items():
        rows[name] = counted(source(), learned)
        figures = "  ".join(f"{what}: {figure:.3g}" for what, figure in rows[name].items())
        print(f"{name:<18}{figures}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
