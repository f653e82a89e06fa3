"""Two sequence-to-sequence tasks: sums as text, and dates in words.

Additions. Two numbers of at most 2 (or 3) digits are drawn uniformly from 0 to 99 (999), without
duplicate sums: the target of "57+8" is "65". 5,000 (50,000) sums are for training, 2,000 others for
testing. A sum is right if all digits are. Keras's example reaches 99 % with the same number of
samples, after 55 epochs with two digits and 100 epochs with three, with the digits of the source
reversed (keras.io, addition_rnn).

Dates. Days from 1900 to 2099 are drawn uniformly and written in one of five forms
(`pipelines.tasks.FORMS`): the target of "the thirty-first of december nineteen ninety-nine" is
"1999-12-31". 10,000 texts are for training, 2,000 different ones for testing.

The network is the same for all: a bidirectional GRU of 128 units with attention, and a learning
rate that decays from 3e-3. Settings were chosen with other seeds. The naive row is the share of
test targets that equal the most common training target.
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
    """A task and its training.

    Attributes:
        draw: (samples, seed) -> distinct records.
        samples: The number of training pairs.
        epochs: The number of epochs.
        batch_size: Pairs per batch.
        seeds: Each seed draws its own pairs and initial parameters.
        goal: The figure to reach, and its source.
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
    """Return the training pairs and the test pairs of a seed."""
    reader = PairReader(COLUMNS)
    pairs = [reader.read(record) for record in task.draw(samples + FRESH, seed)]
    return pairs[:samples], pairs[samples:]


def learned(task: Task, seed: int, pairs: list[Pair], epochs: int) -> Transducer:
    """Return the trained network."""
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
    """Return the share of pairs whose target is reproduced exactly."""
    written = model.transduce([pair.source for pair in pairs])
    marks = [each.symbols == pair.target for each, pair in zip(written, pairs, strict=True)]
    return sum(marks) / len(marks)


def commonest(pairs: list[Pair], fresh: list[Pair]) -> float:
    """Return the share of test targets that equal the most common training target."""
    ((target, _),) = Counter(pair.target for pair in pairs).most_common(1)
    return sum(pair.target == target for pair in fresh) / len(fresh)


def outcome(name: str, _folder: Path, *, quick: bool) -> Outcome:
    """Return the figures of a task."""
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
        "share of test pairs translated correctly",
        tuple(figures),
        goal=goal,
        beside={"commonest target": naive, goal: figure},
        higher_is_better=True,
        facts={"samples": samples, "fresh": FRESH, "epochs": epochs},
    )


ROWS = {name: partial(outcome, name) for name in TASKS}
