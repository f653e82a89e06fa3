"""The sentiment of sentences of film reviews.

The data are rt-polarity (Pang and Lee 2005), 5,331 sentences of each kind, in the files
`rt-polarity/rt-polarity.pos` and `.neg`. The figure is the accuracy of 10-fold cross-validation:
fold k of each file is its k-th tenth, in the order of its lines. Words are separated by spaces.

The baseline is naive Bayes over the same words and folds, with Laplace smoothing.

Each word becomes an index; words that occur less than twice in the nine training folds are unknown.
A bidirectional GRU reads the word vectors of the whole sentence and outputs at each word the
probabilities of both kinds; their mean over the words is that of the sentence. In training a word
becomes unknown with the probability of `Dropout(symbols=...)`. The figure is the accuracy of the
mean probabilities of several seeds.

The settings and the number of epochs were chosen on one sentence in eight of the last nine folds,
which was left out of those trainings. The first fold was not used for this.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_rnn import Bptt, Columns, Dropout, Model, Network, Training, Vocabulary
from beam_rnn import Sequence as Steps
from beam_rnn.core.arrays import Array
from beam_rnn.data.vocabulary import indices
from beam_rnn.optim import AdamW, Cosine
from beam_rnn.training.fit import fit_sequences
from benchmarks.tasks.outcome import Outcome

FOLDS = 10
SEEDS = range(5)
EPOCHS = 6
BATCH = 32
KINDS = ("neg", "pos")
COLUMNS = Columns(key="line", symbols=["word"], targets=["kind"], classes=KINDS, horizon=0)
NETWORK = Network(
    "gru", 32, bidirectional=True, embedding=32, embedding_deviation=0.1, output="softmax"
)
GOAL = 76.0


class Sentence(NamedTuple):
    """A sentence, and its place in `KINDS`."""

    line: str  # the file and the line number
    words: tuple[str, ...]
    kind: int


def read(folder: Path) -> list[list[Sentence]]:
    """Return the folds."""
    folds: list[list[Sentence]] = [[] for _ in range(FOLDS)]
    for kind, name in enumerate(KINDS):
        path = folder / "rt-polarity" / f"rt-polarity.{name}"
        lines = path.read_text("utf-8").splitlines()
        for i, line in enumerate(lines):
            fold = folds[i * FOLDS // len(lines)]
            fold.append(Sentence(f"{name} {i}", tuple(line.split()), kind))
    return folds


def naive_bayes(learned: Sequence[Sentence], asked: Sequence[Sentence]) -> Array:
    """Return the probabilities of naive Bayes: (sentences, 2)."""
    counts = [Counter[str](), Counter[str]()]
    for sentence in learned:
        counts[sentence.kind].update(sentence.words)
    known = set().union(*counts)
    totals = [sum(each.values()) + len(known) for each in counts]
    share = np.bincount([sentence.kind for sentence in learned]) / len(learned)
    log_p = np.array(
        [
            [
                sum(np.log((each[word] + 1) / total) for word in sentence.words if word in known)
                for each, total in zip(counts, totals, strict=True)
            ]
            for sentence in asked
        ]
    ) + np.log(share)
    p: Array = np.exp(log_p - log_p.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def steps(sentences: Iterable[Sentence]) -> Iterator[Steps]:
    """Yield sentences as sequences, with their kind at every word."""
    for sentence in sentences:
        n = len(sentence.words)
        targets = np.tile(np.eye(2)[sentence.kind], (n, 1))
        at = np.arange(n)
        nothing = np.zeros((n, 0))
        yield Steps(COLUMNS, sentence.line, at, nothing, targets, n - 1, symbols=(sentence.words,))


def learned(sentences: Sequence[Sentence], seed: int, epochs: int) -> Model:
    """Train a network on sentences."""
    updates = epochs * -(-len(sentences) // BATCH)
    training = Training(
        bptt=Bptt(),
        optimizer=AdamW(Cosine(2e-3, steps=updates, final=1e-4), weight_decay=1e-2),
        epochs=epochs,
        batch_size=BATCH,
        bucket=16,
        scaler="none",
        seed=seed,
        dropout=Dropout(inputs=0.5, symbols=0.5),
        vocabulary=Vocabulary(at_least=2),
        kernel="fused",
    )
    return fit_sequences(NETWORK, list(steps(sentences)), training)


def probabilities(model: Model, sentences: Sequence[Sentence]) -> Array:
    """Return the probabilities of a model: (sentences, 2)."""
    assert model.columns is not None, "trained with columns"
    vocabulary = model.columns.vocabulary("word")
    found = np.empty((len(sentences), 2))

    def length(i: int) -> int:
        return len(sentences[i].words)

    for _, same in groupby(sorted(range(len(sentences)), key=length), length):
        rows = list(same)
        x = np.array([indices(sentences[i].words, vocabulary) for i in rows], np.float32)
        found[rows] = model.forward(x[..., np.newaxis]).mean(1)
    return found


def accuracy(p: Array, sentences: Sequence[Sentence]) -> float:
    """Return the percentage of correct classifications."""
    return 100 * float((p.argmax(1) == [sentence.kind for sentence in sentences]).mean())


def outcome(folder: Path, *, quick: bool) -> Outcome:
    """Return the accuracy over all folds, of each seed and of their mean probabilities."""
    folds, asked, seeds, epochs = read(folder), range(FOLDS), SEEDS, EPOCHS
    if quick:
        folds, asked, seeds, epochs = [fold[::20] for fold in folds], range(1), SEEDS[:1], 1
    everything = [sentence for k in asked for sentence in folds[k]]
    by_fold: list[list[Array]] = [[] for _ in seeds]
    naive = []
    for k in asked:
        others = [sentence for fold in (*folds[:k], *folds[k + 1 :]) for sentence in fold]
        naive.append(naive_bayes(others, folds[k]))
        for seed, of_seed in zip(seeds, by_fold, strict=True):
            of_seed.append(probabilities(learned(others, seed, epochs), folds[k]))
    each = [np.concatenate(of_seed) for of_seed in by_fold]
    return Outcome(
        "accuracy of 10 folds, in percent",
        tuple(accuracy(of_seed, everything) for of_seed in each),
        goal="goal",
        beside={
            "naive Bayes, words": accuracy(np.concatenate(naive), everything),
            "goal": GOAL,
        },
        higher_is_better=True,
        together=accuracy(np.mean(each, 0), everything),
    )


ROWS = {"sentiment": outcome}
