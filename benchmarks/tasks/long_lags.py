"""Two tasks with long time lags, of Hochreiter and Schmidhuber 1997, "Long short-term memory".

Temporal order (their experiment 6a). A sequence of 100 to 110 symbols: E, then a, b, c or d at
random, then B; but at a place of 10 to 20 and at one of 50 to 60 stands X or Y. At the end four
outputs say which of XX, XY, YX, YY it was. A sequence is right if all four are less than 0.3 from 1
for the class that it is of, and from 0 for the others. A symbol is one of eight inputs.

Adding (their experiment 4, T = 100). A sequence of T to 1.1 T pairs: a number in [-1, 1], and a
mark. One of the first ten pairs and another of the first T/2 - 1 have the mark 1, the first pair
and the last one -1, the others 0; where the first is one of the two, its mark is 1 and its number
0. The output at the end is 0.5 + (X1 + X2) / 4, of the two numbers marked 1. A sequence is right if
it is less than 0.04 off.

Every sequence of training is drawn afresh and shown once; what is counted is how many there are,
and how many of 2,560 further ones are wrong. Theirs, means of ten trials: 1 wrong after 31,390, and
1 wrong after 74,000. They trained until a criterion on the last 2,000 sequences was met; here the
number is fixed before. All settings were chosen with seeds that are none of these.

The gates of a network that has not learned anything keep a state for two steps, too few for a
gradient to reach back by 50. So the GRU starts with gates that keep it for 1 to 100 steps:
`Network(remember=100)`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_rnn import Bptt, Columns, Model, Network, Training
from beam_rnn import Sequence as Steps
from beam_rnn.core.arrays import Array
from beam_rnn.optim import Adam, Cosine
from beam_rnn.training.fit import fit_sequences
from benchmarks.tasks.outcome import Outcome

SYMBOLS = "abcdXYEB"
T = 100
TEST = 2560
SEEDS = range(5)
LEARNED, JUDGED = 0, 1
"""The streams of chance: what is learned from, and what is judged by."""


class Drawn(NamedTuple):
    """A sequence."""

    x: Array  # (steps, inputs)
    target: Array  # (targets,), what the output after its last step should be


def temporal_order(random: np.random.Generator) -> Drawn:
    """A sequence of symbols with an X or Y at two places, and in which order they come."""
    symbols = random.integers(0, 4, random.integers(100, 111))
    first, second = random.integers(0, 2, 2)
    symbols[random.integers(10, 21)] = SYMBOLS.index("X") + first
    symbols[random.integers(50, 61)] = SYMBOLS.index("X") + second
    symbols[0], symbols[-1] = SYMBOLS.index("E"), SYMBOLS.index("B")
    return Drawn(np.eye(len(SYMBOLS))[symbols], np.eye(4)[2 * first + second])


def adding(random: np.random.Generator) -> Drawn:
    """A sequence of numbers, two of them marked, and a half plus a quarter of their sum."""
    x = np.zeros((random.integers(T, T + T // 10 + 1), 2))
    x[:, 0] = random.uniform(-1, 1, len(x))
    one = random.integers(0, 10)
    other = random.choice(np.delete(np.arange(T // 2 - 1), one))
    x[[0, -1], 1] = -1
    x[[one, other], 1] = 1
    if 0 in (one, other):
        x[0, 0] = 0
    return Drawn(x, 0.5 + x[[one, other], 0].sum(keepdims=True) / 4)


class Task(NamedTuple):
    """A task, and how it is learned.

    Attributes:
        draw: Gives a sequence.
        columns: What its numbers are.
        output: The output function.
        tolerance: An output further off is wrong.
        sequences: So many are learned from.
        published: After so many Hochreiter and Schmidhuber had 1 of 2,560 wrong.
    """

    draw: Callable[[np.random.Generator], Drawn]
    columns: Columns
    output: str
    tolerance: float
    sequences: int
    published: int


TEMPORAL_ORDER = Task(
    temporal_order,
    Columns(key="id", inputs=list(SYMBOLS), targets=["XX", "XY", "YX", "YY"], horizon=0),
    output="sigmoid",
    tolerance=0.3,
    sequences=10_000,
    published=31_390,
)
ADDING = Task(
    adding,
    Columns(key="id", inputs=["number", "mark"], targets=["sum"], horizon=0),
    output="identity",
    tolerance=0.04,
    sequences=20_000,
    published=74_000,
)


def drawn(task: Task, count: int, seed: int, stream: int) -> Iterator[Drawn]:
    """So many sequences."""
    random = np.random.default_rng([seed, stream])
    return (task.draw(random) for _ in range(count))


def steps_of(task: Task, sequence: Drawn) -> Steps:
    """The same as a sequence to learn from."""
    length = len(sequence.x)
    targets = np.broadcast_to(sequence.target, (length, len(sequence.target)))
    return Steps(task.columns, "task", np.arange(length), sequence.x, targets, length)


def learned(task: Task, count: int, seed: int) -> Model:
    """A GRU of 32 units, after so many sequences."""
    network = Network("gru", hidden=32, output=task.output, output_steps="last", remember=T)
    training = Training(
        bptt=Bptt(),
        optimizer=Adam(Cosine(1e-2, steps=count // 16, final=1e-4)),
        epochs=1,
        batch_size=16,
        scaler="none",
        kernel="fused",
        seed=seed,
    )
    sequences = (steps_of(task, each) for each in drawn(task, count, seed, LEARNED))
    model: Model = fit_sequences(network, sequences, training)
    return model


def wrong(task: Task, model: Model, sequences: list[Drawn]) -> int:
    """How many sequences have an output that is not within the tolerance."""
    lengths = np.array([len(each.x) for each in sequences])
    x = np.zeros((len(sequences), lengths.max(), model.inputs), np.float32)
    for row, each in zip(x, sequences, strict=True):
        row[: len(each.x)] = each.x
    targets = np.stack([each.target for each in sequences])
    errors = np.abs(model.forward(x, lengths) - targets)
    return int((errors.max(1) >= task.tolerance).sum())


def outcome(task: Task, _: Path, *, quick: bool) -> Outcome:
    """The wrong ones of fresh sequences, by seed."""
    count, seeds = (64, SEEDS[:1]) if quick else (task.sequences, SEEDS)
    figures = [
        wrong(task, learned(task, count, seed), list(drawn(task, TEST, seed, JUDGED)))
        for seed in seeds
    ]
    return Outcome(
        f"wrong of {TEST:,} after {count:,} sequences",
        tuple(map(float, figures)),
        goal=f"LSTM 1997, after {task.published:,}",
        beside={f"LSTM 1997, after {task.published:,}": 1.0},
        facts={"sequences": count, "published_sequences": task.published},
    )


ROWS = {
    "temporal-order": partial(outcome, TEMPORAL_ORDER),
    "adding": partial(outcome, ADDING),
}
