"""The next chord of Bach's chorales: the negative log-likelihood of 88 keys.

The data are those of Boulanger-Lewandowski 2012 in quarter notes, from the file
`jsb-chorales-quarter.json` of czhuang/JSB-Chorales-dataset: 229 training pieces, 76 validation
pieces, 77 test pieces. A step is 88 numbers, 1 for each sounding key; the network also sees which
of the twelve pitch classes sound. After each step but the last of a piece, it predicts for each key
the probability that it sounds in the next step. The figure is the negative log-likelihood of the
next step in nats, with independent keys, summed over the 88 keys and averaged over the steps of all
test pieces. Bai 2018 (TCN) measures the same; their GRU of 300,000 parameters has 8.43.

There are two naive forecasts: the frequency of each key in training, and its frequency in training
after a step in which it did, or did not, sound.

The network is trained on the training pieces in twelve transpositions, 5 semitones down to 6 up,
and then fine-tuned on the pieces as they are. Both times the model of the epoch with the least
validation loss is taken. The validation pieces are the last steps of the only key, so that
`Training(validation=...)` holds out exactly these. Each piece is an update of its own, because
batches would give too few updates.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from beam_rnn import Bptt, Columns, Model, Network, Training
from beam_rnn import Sequence as Steps
from beam_rnn.core.arrays import Array
from beam_rnn.optim import Adam, Cosine
from beam_rnn.training.fit import fit_sequences
from benchmarks.tasks.outcome import Outcome

LOWEST, KEYS = 21, 88
"""The MIDI pitch of the lowest key of a piano, and the number of its keys."""
TRANSPOSITIONS = range(-5, 7)
PITCHES = range(LOWEST, LOWEST + KEYS)
NAMES = [f"key{pitch}" for pitch in PITCHES]
COLUMNS = Columns(key="id", inputs=[*NAMES, *(f"class{i}" for i in range(12))], targets=NAMES)
CLASSES = np.eye(12)[[pitch % 12 for pitch in PITCHES]]
"""(88, 12): the pitch class of each key."""
SEEDS = range(3)
PAIRS = slice(None, -1), slice(1, None)
"""The steps of a piece that have a next step, and those that have a previous one."""
PUBLISHED = {"tanh RNN (TCN)": 8.91, "LSTM (TCN)": 8.45, "GRU (TCN)": 8.43}

Piece = list[list[int]]
"""The sounding pitches of each step."""


def read(folder: Path) -> dict[str, list[Piece]]:
    """Read the pieces of "train", "valid" and "test"."""
    return json.loads((folder / "jsb-chorales-quarter.json").read_text())


def roll(piece: Piece, semitones: int = 0) -> Array:
    """Return an array (steps, 88) with 1 for each sounding key, transposed by `semitones`."""
    keys = np.zeros((len(piece), KEYS))
    for step, chord in enumerate(piece):
        keys[step, [pitch - LOWEST + semitones for pitch in chord]] = 1
    return keys


def seen(keys: Array) -> Array:
    """Return the inputs of steps, (steps, 100): the keys and the sounding pitch classes."""
    return np.concatenate([keys, keys @ CLASSES > 0], 1)


def in_a_row(rolls: Iterable[Array]) -> Iterator[Steps]:
    """Yield sequences of one key, one after the other."""
    begin = 0
    for keys in rolls:
        times = np.arange(begin, begin + len(keys))
        begin += len(keys)
        yield Steps(COLUMNS, "Bach", times[:-1], seen(keys[:-1]), keys[1:], int(times[-1]))


def negative_log_likelihood(p: Array, keys: Array) -> float:
    """Return the sum over the keys, averaged over the steps, of probabilities (steps, 88)."""
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(-(keys * np.log(p) + (1 - keys) * np.log(1 - p)).sum(1).mean())


def predicted(model: Model, rolls: list[Array]) -> Array:
    """Return the probabilities, (steps, 88), of all steps that have a previous one."""
    lengths = np.array([len(keys) - 1 for keys in rolls])
    x = np.zeros((len(rolls), lengths.max(), COLUMNS.input_size), np.float32)
    for row, keys in zip(x, rolls, strict=True):
        row[: len(keys) - 1] = seen(keys[:-1])
    y = model.forward(x, lengths).astype(float)
    return np.concatenate([each[:n] for each, n in zip(y, lengths, strict=True)])


def naive(learned: list[Array], tested: list[Array]) -> dict[str, float]:
    """Return the figures of two naive forecasts, with a pseudocount of 1/2."""
    before, after = (np.concatenate([keys[part] for keys in learned]) for part in PAIRS)
    known, came = (np.concatenate([keys[part] for keys in tested]) for part in PAIRS)

    def share(of: Array) -> Array:
        return (np.sum(of * after, 0) + 0.5) / (np.sum(of, 0) + 1)

    marginal = np.broadcast_to(share(np.ones_like(before)), came.shape)
    by_previous = np.where(known == 1, share(before), share(1 - before))
    return {
        "marginal": negative_log_likelihood(marginal, came),
        "previous value": negative_log_likelihood(by_previous, came),
    }


def data_of(learned: Iterable[Array], held_back: list[Array]) -> tuple[list[Steps], float]:
    """Return the sequences of pieces, and the fraction of steps for validation."""
    data = list(in_a_row([*learned, *held_back]))
    of_validation = sum(len(keys) - 1 for keys in held_back)
    # Half a step less gives the same steps whatever the rounding.
    return data, (of_validation - 0.5) / sum(len(each.times) for each in data)


def learned(
    rolls: list[Array],
    held_back: list[Array],
    seed: int,
    epochs: int,
    rate: float,
    start: Model | None = None,
) -> Model:
    """Train a GRU of 150 units; the validation pieces choose the epoch."""
    data, share = data_of(rolls, held_back)
    training = Training(
        bptt=Bptt(),
        optimizer=Adam(Cosine(rate, steps=epochs * len(rolls), final=rate / 50)),
        epochs=epochs,
        batch_size=1,
        scaler="none",
        validation=share,
        kernel="fused",
        seed=seed,
    )
    return fit_sequences(Network("gru", hidden=150, output="sigmoid"), data, training, start=start)


def outcome(folder: Path, *, quick: bool) -> Outcome:
    """Return the figure of each seed; that of the mean of their probabilities is a fact."""
    pieces = read(folder)
    if quick:
        pieces = {part: some[:2] for part, some in pieces.items()}
    rolls = {part: [roll(piece) for piece in some] for part, some in pieces.items()}
    transposed = [roll(piece, higher) for piece in pieces["train"] for higher in TRANSPOSITIONS]
    validated = rolls["valid"]
    seeds, of_first, of_then = (SEEDS[:1], 1, 1) if quick else (SEEDS, 5, 8)
    predictions, losses = [], []
    for seed in seeds:
        model = learned(transposed, validated, seed, of_first, 2e-3)
        model = learned(rolls["train"], validated, seed, of_then, 1e-3, start=model)
        predictions.append(predicted(model, rolls["test"]))
        losses.append(KEYS * min(model.training["validation_curve"]))
    came = np.concatenate([keys[1:] for keys in rolls["test"]])
    return Outcome(
        "negative log-likelihood of a chord, in nats",
        tuple(negative_log_likelihood(p, came) for p in predictions),
        goal="GRU (TCN)",
        beside={**naive(rolls["train"], rolls["test"]), **PUBLISHED},
        facts={
            "validation": losses,
            "mean_probabilities": negative_log_likelihood(np.mean(predictions, 0), came),
        },
    )


ROWS = {"chorales": outcome}
