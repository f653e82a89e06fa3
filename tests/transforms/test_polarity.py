"""The protocol of rt-polarity: the folds, the baseline, and no training on test sentences."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.tasks import sentiment
from benchmarks.tasks.sentiment import Sentence

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not (DATA / "rt-polarity").exists(),
    reason=f"rt-polarity may not ship with the project, and is not in {DATA}",
)


@pytest.fixture
def folder(tmp_path):
    """Two files of 40 lines."""
    (tmp_path / "rt-polarity").mkdir()
    for name in ("neg", "pos"):
        lines = [f"{name} film {i} , {i % 7}\n" for i in range(40)]
        (tmp_path / "rt-polarity" / f"rt-polarity.{name}").write_text("".join(lines))
    return tmp_path


def test_a_fold_is_a_tenth_of_each_file_in_order(folder):
    folds = sentiment.read(folder)

    assert [len(fold) for fold in folds] == [8] * 10
    assert [each.line for each in folds[3]] == [
        f"{name} {i}" for name in ("neg", "pos") for i in range(12, 16)
    ]
    assert folds[3][5] == Sentence("pos 13", ("pos", "film", "13", ",", "6"), 1)


def test_a_fold_is_classified_by_a_model_of_the_other_folds(folder, monkeypatch):
    asked = []

    def learned(sentences, seed, epochs):
        return {each.line for each in sentences}

    def probabilities(model, sentences):
        lines = {each.line for each in sentences}
        assert not model & lines
        assert len(model | lines) == 80
        asked.extend(lines)
        return np.eye(2)[[each.kind for each in sentences]]

    monkeypatch.setattr(sentiment, "learned", learned)
    monkeypatch.setattr(sentiment, "probabilities", probabilities)
    outcome = sentiment.outcome(folder, quick=False)

    assert len(asked) == 80 * len(sentiment.SEEDS)
    assert outcome.figures == (100.0,) * len(sentiment.SEEDS)


def test_naive_bayes_counts_words():
    learned = [Sentence("", ("good", "good", "film"), 1), Sentence("", ("bad", "film"), 0)]
    asked = [Sentence("", ("good",), 1), Sentence("", ("unseen",), 0)]

    p = sentiment.naive_bayes(learned, asked)

    bad, good = 1 / (2 + 3), 3 / (3 + 3)  # of 3 words, each counted once more
    assert p[0, 1] == pytest.approx(good / (good + bad))
    assert p[1].tolist() == [0.5, 0.5]


def test_the_class_of_a_sentence_does_not_depend_on_the_batch(folder):
    sentences = [each for fold in sentiment.read(folder) for each in fold]
    model = sentiment.learned(sentences, seed=0, epochs=1)
    some = [*sentences[:5], Sentence("", ("film",), 0), Sentence("", ("no", "such", "film"), 1)]

    together = sentiment.probabilities(model, some)

    for i, sentence in enumerate(some):
        np.testing.assert_allclose(
            sentiment.probabilities(model, [sentence])[0], together[i], rtol=1e-5
        )
    np.testing.assert_allclose(together.sum(1), 1, rtol=1e-6)


@needs_data
def test_the_sentences_are_those_of_the_known_figure():
    """Unigram naive Bayes over these folds has 77.99 percent."""
    folds = sentiment.read(DATA)
    assert [len(fold) for fold in folds].count(1066) + [len(f) for f in folds].count(1068) == 10

    right = total = 0
    for fold in folds:
        others = [each for other in folds if other is not fold for each in other]
        said = sentiment.naive_bayes(others, fold)
        right += int((said.argmax(1) == [each.kind for each in fold]).sum())
        total += len(fold)
    assert total == 10_662
    assert 100 * right / total == pytest.approx(77.99, abs=6e-3)
