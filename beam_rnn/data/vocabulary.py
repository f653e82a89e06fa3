"""Vocabularies: the indices of symbols, such as words or characters.

Index 0 is every symbol that is not in the vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from beam_rnn.core.checks import check_whole
from beam_rnn.core.errors import ConfigurationError

UNKNOWN = 0
"""Index of a symbol that is not in the vocabulary."""


@dataclass(frozen=True)
class Vocabulary:
    """The rule by which training selects the symbols of a vocabulary.

        >>> Vocabulary(at_least=2).of({"the": 7, "film": 2, "sublime": 1})
        ('the', 'film')

    Args:
        at_least: The minimum count of a symbol; a rarer one is unknown.
        at_most: The maximum number of symbols, the most frequent ones; None for all.

    Raises:
        ConfigurationError: A number is below 1.
    """

    at_least: int = 1
    at_most: int | None = None

    def __post_init__(self) -> None:
        check_whole("at_least", self.at_least)
        if self.at_most is not None:
            check_whole("at_most", self.at_most)

    def of(self, counts: Mapping[str, int]) -> tuple[str, ...]:
        """Return the vocabulary, sorted by decreasing count, then by text.

        Args:
            counts: The count of each symbol.
        """
        seen = [symbol for symbol, count in counts.items() if count >= self.at_least]
        return tuple(sorted(seen, key=lambda symbol: (-counts[symbol], symbol))[: self.at_most])


def checked_vocabulary(name: str, symbols: Any) -> tuple[str, ...]:
    """Return the symbols of a vocabulary as texts; of a text, its characters.

        >>> checked_vocabulary("target", "abc")
        ('a', 'b', 'c')

    Raises:
        ConfigurationError: It is empty, has a symbol twice, or has an element that is neither text
            nor a whole number.
    """
    if not isinstance(symbols, Sequence) or not symbols:
        raise ConfigurationError(
            f"the vocabulary of {name!r} must be a list of symbols, got {symbols!r}"
        )
    for symbol in symbols:
        if not isinstance(symbol, (str, int)) or isinstance(symbol, bool):
            raise ConfigurationError(
                f"a symbol must be text or a whole number, got {symbol!r} for {name!r}"
            )
    texts = tuple(map(str, symbols))
    if len(set(texts)) != len(texts):
        ((twice, _),) = Counter(texts).most_common(1)
        raise ConfigurationError(f"the vocabulary of {name!r} has {twice!r} twice")
    return texts


def places_of(vocabulary: Iterable[str]) -> dict[str, int]:
    """Return the index of each symbol of a vocabulary.

    >>> places_of(["the", "film"])
    {'the': 1, 'film': 2}
    """
    return {symbol: i for i, symbol in enumerate(vocabulary, UNKNOWN + 1)}


def indices(symbols: Sequence[str], vocabulary: Iterable[str]) -> list[int]:
    """Return the index of each of these symbols.

    >>> indices(["the", "plot"], ["the", "film"])
    [1, 0]
    """
    places = _places(tuple(vocabulary))
    return [places.get(symbol, UNKNOWN) for symbol in symbols]


@lru_cache(16)  # one vocabulary serves many sequences
def _places(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return places_of(vocabulary)
