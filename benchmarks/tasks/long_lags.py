"""Two tasks with long time lags from Hochreiter and Schmidhuber 1997, "Long short-term memory".

Temporal order (their experiment 6a). A sequence has 100 to 110 symbols: E, then random a, b, c or
d, then B; a random position from 10 to 20 and one from 50 to 60 have X or Y. At the end four
outputs classify the sequence as XX, XY, YX or YY. A sequence is right if the output of its class is
less than 0.3 from 1, and the other outputs are less than 0.3 from 0. The symbols are one-hot codes
of eight inputs.

Adding (their experiment 4, T = 100). A sequence has T to 1.1 T pairs of a number in [-1, 1] and a
mark. One of the first ten pairs and another one of the first T/2 - 1 have the mark 1, the first and
the last pair -1, the others 0; if the first pair is one of the two, its mark is 1 and its number 0.
The target at the end is 0.5 + (X1 + X2) / 4 of the two numbers marked 1. A sequence is right if
the error is less than 0.04.

Every training sequence is new and used once. The figures are the number of training sequences and
the number of wrong ones among 2,560 test sequences. The published means of ten trials are 1 wrong
after 31,390 sequences, and 1 wrong after 74,000. The authors trained until a criterion on the last
2,000 sequences was met; here the number is fixed in advance. All settings were chosen with other
seeds.

The gates of an untrained network keep a state for two steps, too short for a gradient over 50
steps. So the GRU starts with gates that keep it for 1 to 100 steps: `Network(remember=100)`.
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
"""The random streams of the training sequences and of the test sequences."""


class Drawn(NamedTuple):
    """A sequence."""

    x: Array  # (steps, inputs)
    target: Array  # (targets,), the target of the last step


def temporal_order(random: np.random.Generator) -> Drawn:
    """Return a sequence of symbols with an X or Y at two positions, and its class."""
    symbols = random.integers(0, 4, random.integers(100, 111))
    first, second = random.integers(0, 2, 2)
    symbols[random.integers(10, 21)] = SYMBOLS.index("X") + first
    symbols[random.integers(50, 61)] = SYMBOLS.index("X") + second
    symbols[0], symbols[-1] = SYMBOLS.index("E"), SYMBOLS.index("B")
    return Drawn(np.eye(len(SYMBOLS))[symbols], np.eye(4)[2 * first + second])


def adding(random: np.random.Generator) -> Drawn:
    """Return a sequence of numbers with two marked ones, and the target from their sum."""
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
    """A task and its training.

    Attributes:
        draw: Returns a random sequence.
        columns: The columns of a sequence.
        output: The output function.
        tolerance: The error from which an output is wrong.
        sequences: The number of training sequences.
        published: The number of training sequences of Hochreiter and Schmidhuber.
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
    """Yield `count` random sequences."""
    random = np.random.default_rng([seed, stream])
    return (task.draw(random) for _ in range(count))


def steps_of(task: Task, sequence: Drawn) -> Steps:
    """Return a training sequence."""
    length = len(sequence.x)
    targets = np.broadcast_to(sequence.target, (length, len(sequence.target)))
    return Steps(task.columns, "task", np.arange(length), sequence.x, targets, length)


def learned(task: Task, count: int, seed: int) -> Model:
    """Train a GRU of 32 units on `count` sequences."""
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
    """Return the number of sequences with an output outside of the tolerance."""
    lengths = np.array([len(each.x) for each in sequences])
    x = np.zeros((len(sequences), lengths.max(), model.inputs), np.float32)
    for row, each in zip(x, sequences, strict=True):
        row[: len(each.x)] = each.x
    targets = np.stack([each.target for each in sequences])
    errors = np.abs(model.forward(x, lengths) - targets)
    return int((errors.max(1) >= task.tolerance).sum())


def outcome(task: Task, _: Path, *, quick: bool) -> Outcome:
    """Return the number of wrong test sequences by seed."""
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
