"""Pairs of sequences of symbols: the training data of an encoder-decoder."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.vocabulary import checked_vocabulary


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Which fields of a record hold a pair of sequences.

    A sequence is a text, whose symbols are its characters, or a list of symbols: texts or whole
    numbers, such as words.

        >>> PairColumns(key="id", source="english", target="french").fields
        ('english', 'french')

    Args:
        key: The field that identifies the pair: text, a whole number, or UTF-8 bytes.
        source: The field with the input sequence.
        target: The field with the output sequence.
        source_vocabulary: The symbols of sources; by default `Train` collects those that it sees.
            Any other symbol counts as unknown.
        target_vocabulary: The symbols of targets; by default `Train` collects all that it sees.

    Raises:
        ConfigurationError: A name is not text, or a vocabulary is not valid.
    """

    key: str
    source: str
    target: str
    source_vocabulary: Sequence[str | int] = field(default=(), repr=False)
    target_vocabulary: Sequence[str | int] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name in ("key", "source", "target"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigurationError(f"{name} must be the name of a column, got {value!r}")
        if self.source == self.target:
            raise ConfigurationError(
                f"source and target both name {self.source!r}: they must be two columns"
            )
        for name in ("source_vocabulary", "target_vocabulary"):
            given = getattr(self, name)
            checked = checked_vocabulary(name, given) if len(given) else ()
            object.__setattr__(self, name, checked)

    @property
    def fields(self) -> tuple[str, str]:
        """The fields with the two sequences."""
        return self.source, self.target

    @property
    def vocabularies(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The symbols of source and target; empty where they are not known yet."""
        return (
            tuple(map(str, self.source_vocabulary)),
            tuple(map(str, self.target_vocabulary)),
        )

    @property
    def has_vocabularies(self) -> bool:
        """Return True if both vocabularies are known."""
        return all(self.vocabularies)

    @property
    def vocabulary_sizes(self) -> tuple[int, int]:
        """The number of indices of each: the symbols, and 0 for unknown ones."""
        source, target = self.vocabularies
        return len(source) + 1, len(target) + 1

    def with_vocabularies(self, found: Mapping[str, Sequence[str]]) -> "PairColumns":
        """Return the columns with unknown vocabularies filled in from `found`, by field."""
        source, target = self.vocabularies
        return replace(
            self,
            source_vocabulary=source or found[self.source],
            target_vocabulary=target or found[self.target],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the columns as JSON values; `PairColumns(**values)` is the inverse."""
        return {
            each.name: list(value) if isinstance(value, tuple) else value
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default
        }


class Pair(NamedTuple):
    """A source and its target.

    Attributes:
        columns: The columns it was read by.
        key: The key of the pair.
        source: The input symbols.
        target: The output symbols.
    """

    columns: PairColumns
    key: str
    source: tuple[str, ...]
    target: tuple[str, ...]


def place_of_pair(pair: Pair) -> int:
    """Return a hash of 64 bits of the pair's content."""
    content = hashlib.sha256(pair.key.encode())
    for symbols in (pair.source, pair.target):
        content.update(b"\0" + "\0".join(symbols).encode())
    return int.from_bytes(content.digest()[:8], "little")
