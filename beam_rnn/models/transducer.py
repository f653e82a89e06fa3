"""A trained encoder-decoder with all that is needed to use it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.pair_columns import PairColumns
from beam_rnn.data.vocabulary import UNKNOWN, places_of
from beam_rnn.models.beam_search import Decoder
from beam_rnn.models.parameters import check_types, digest_of, frozen
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.kernels import kernel_name, kernel_of
from beam_rnn.nn.network import Parameters


class Transduction(NamedTuple):
    """What was written for a source.

    Attributes:
        symbols: The symbols, without the end.
        log_probability: That of all of it, the end included if it was written.
        ended: Whether the end was written.
    """

    symbols: tuple[str, ...]
    log_probability: float
    ended: bool


@dataclass(frozen=True, eq=False)
class Transducer:
    """An encoder-decoder, its parameters, and what its symbols are.

        >>> columns = PairColumns(
        ...     key="id", source="a", target="b", source_vocabulary="xy", target_vocabulary="uvw")
        >>> network = EncoderDecoder("gru", hidden=4, embedding=3)
        >>> model = Transducer(network, network.initialize(3, 4, seed=0), columns)
        >>> model.transduce(["xxy"], limit=2)[0].symbols
        ('v', 'v')

    Two are equal when their digests are.

    Args:
        network: What was trained.
        parameters: The parameters by name; they are made read-only.
        columns: Which fields of a record are source and target, and their vocabularies.
        training: Facts about the training, as JSON values; not part of the digest.
        kernel: What computes: see `Model`.

    Raises:
        ConfigurationError: The parameters and the vocabularies do not fit each other, or the
            kernel cannot be had.
    """

    network: EncoderDecoder
    parameters: Parameters
    columns: PairColumns
    training: Mapping[str, Any] = field(default_factory=dict)
    kernel: str = "auto"
    stepwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        sizes = self.network.sources_and_targets(self.parameters)
        check_types(self.parameters)
        if sizes != self.columns.vocabulary_sizes:
            raise ConfigurationError(
                f"the parameters are for {sizes[0]} and {sizes[1]} symbols of source and target, "
                f"with 0, but the vocabularies of the columns have "
                f"{self.columns.vocabulary_sizes[0]} and {self.columns.vocabulary_sizes[1]}"
            )
        object.__setattr__(self, "parameters", frozen(self.parameters))
        kernel = kernel_name(self.network.decoder, self.dtype, self.kernel)
        object.__setattr__(self, "kernel", kernel)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64: the type of the parameters and of every number computed."""
        return self.parameters["output.b_y"].dtype

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides what is written, in hexadecimal."""
        return digest_of(self.to_json(), self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transducer) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: self.__dict__[field.name] for field in fields(self)}

    def to_json(self) -> dict[str, Any]:
        """All but the parameters and the facts about the training, as JSON values."""
        return {
            "network": self.network.to_json(),
            "columns": self.columns.to_json(),
            "scaler": None,
        }

    def with_kernel(self, kernel: str) -> "Transducer":
        """The same, computed by another kernel: "auto", "numpy" or "fused"."""
        return replace(self, kernel=kernel)

    @cached_property
    def longest_target(self) -> int:
        """How many symbols the longest target had that training saw; 0 if that is not known."""
        return int(self.training.get("longest_target", 0))

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.network, self.parameters, kernel_of(self.kernel))

    @cached_property
    def _places(self) -> dict[str, int]:
        return places_of(self.columns.vocabularies[0])

    def indices(self, source: Sequence[str]) -> Array:
        """The index of each symbol of a source; 0 for one that training never saw."""
        return np.array([self._places.get(symbol, UNKNOWN) for symbol in source])

    def transduce(
        self, sources: Sequence[Sequence[str]], beam: int = 1, limit: int | None = None
    ) -> list[Transduction]:
        """What is written for each source; the same whatever stands beside it.

        Args:
            sources: Texts, or lists of symbols; none is empty.
            beam: How many beginnings are followed at a time; 1 is greedy.
            limit: So many symbols are written at the most, the end among them; None for twice as
                many as the longest target had that training saw.
        """
        limit = limit or 2 * (self.longest_target + 1)
        vocabulary = self.columns.vocabularies[1]
        decoded = self._decoder.decode([self.indices(source) for source in sources], beam, limit)
        return [
            Transduction(tuple(vocabulary[i - 1] for i in each.indices), *each[1:])
            for each in decoded
        ]
