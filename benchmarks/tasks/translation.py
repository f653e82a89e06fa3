"""Sequences into sequences of another length: sums as text, and dates in words.

Additions. Two numbers of at most 2 (or 3) digits, drawn alike from 0 to 99 (999), no two sums
alike: "57+8" is to become "65". Learned from 5,000 (50,000) of them, judged by 2,000 others. A sum
is right if every digit is. Keras's example reaches 99 % with as many samples, two digits after 55
epochs and three after 100, with the digits of the source backwards (keras.io, addition_rnn).

Dates. Days of 1900 to 2099, drawn alike, in one of five forms in which people write them
(`pipelines.tasks.FORMS`): "the thirty-first of december nineteen ninety-nine" is to become
"1999-12-31". Learned from 10,000 texts, judged by 2,000 others, none of which was learned from.

The same network for all: a GRU of 128 in both directions, attention, the rate falling from 3e-3.
Settings were chosen with seeds that are none of these. The naive row is the share of targets that
are the commonest one among those that are learned from.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from beam_rnn import Training
from beam_rnn.optim import Adam, Cosine
from beam_rnn.pairs import EncoderDecoder, Pair, PairColumns, Transducer
from beam_rnn.records.pair_reader import PairReader
from beam_rnn.training.fit import fit_sequences
from benchmarks.tasks.outcome import Outcome
from pipelines.tasks import Record, additions, dates

COLUMNS = PairColumns(key="id", source="source", target="target")
NETWORK = EncoderDecoder("gru", hidden=128, embedding=16, bidirectional=True, attention="additive")
FRESH = 2_000


class Task(NamedTuple):
    """A task, and how it is learned.

    Attributes:
        draw: (samples, seed) -> records, no two alike.
        samples: How many pairs are learned from.
        epochs: How often.
        batch_size: Pairs a batch.
        seeds: Each draws its own pairs, and its own parameters to begin with.
        goal: What is to be reached, and who says so.
    """

    draw: Callable[..., Iterator[Record]]
    samples: int
    epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    goal: tuple[str, float]


TASKS = {
    "additions-2": Task(
        lambda n, seed: additions(n, 2, seed), 5_000, 40, 64, (101, 102, 103), ("Keras", 0.99)
    ),
    "additions-3": Task(
        lambda n, seed: additions(n, 3, seed), 50_000, 12, 128, (101,), ("Keras", 0.99)
    ),
    "dates": Task(dates, 10_000, 5, 64, (101,), ("goal", 0.995)),
}


def drawn(task: Task, seed: int, samples: int) -> tuple[list[Pair], list[Pair]]:
    """The pairs of a seed that are learned from, and the fresh ones."""
    reader = PairReader(COLUMNS)
    pairs = [reader.read(record) for record in task.draw(samples + FRESH, seed)]
    return pairs[:samples], pairs[samples:]


def learned(task: Task, seed: int, pairs: list[Pair], epochs: int) -> Transducer:
    """The network after its training."""
    updates = epochs * -(-len(pairs) // task.batch_size)
    training = Training(
        epochs=epochs,
        batch_size=task.batch_size,
        optimizer=Adam(Cosine(3e-3, updates)),
        kernel="fused",
        bucket=20,
        seed=seed,
    )
    model: Transducer = fit_sequences(NETWORK, pairs, training)
    return model


def right(model: Transducer, pairs: list[Pair]) -> float:
    """The share of pairs whose target is written without a mistake."""
    written = model.transduce([pair.source for pair in pairs])
    marks = [each.symbols == pair.target for each, pair in zip(written, pairs, strict=True)]
    return sum(marks) / len(marks)


def commonest(pairs: list[Pair], fresh: list[Pair]) -> float:
    """The share of fresh targets that are the commonest one that was seen."""
    ((target, _),) = Counter(pair.target for pair in pairs).most_common(1)
    return sum(pair.target == target for pair in fresh) / len(fresh)


def outcome(name: str, _folder: Path, *, quick: bool) -> Outcome:
    """The figures of a task."""
    task = TASKS[name]
    seeds, samples, epochs = task.seeds, task.samples, task.epochs
    if quick:
        seeds, samples, epochs = seeds[:1], 100, 1
    figures, naive = [], 0.0
    for seed in seeds:
        pairs, fresh = drawn(task, seed, samples)
        naive = commonest(pairs, fresh)
        figures.append(right(learned(task, seed, pairs, epochs), fresh))
    goal, figure = task.goal
    return Outcome(
        "share of fresh ones without a mistake",
        tuple(figures),
        goal=goal,
        beside={"commonest target": naive, goal: figure},
        higher_is_better=True,
        facts={"samples": samples, "fresh": FRESH, "epochs": epochs},
    )


ROWS = {name: partial(outcome, name) for name in TASKS}
