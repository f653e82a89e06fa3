"""A trained encoder-decoder with everything needed to use it."""

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
    """The output for a source.

    Attributes:
        symbols: The symbols, without the end symbol.
        log_probability: The log probability of the output, with the end symbol if there is one.
        ended: Whether the output has an end symbol.
    """

    symbols: tuple[str, ...]
    log_probability: float
    ended: bool


@dataclass(frozen=True, eq=False)
class Transducer:
    """An encoder-decoder, its parameters, and the meaning of its symbols.

        >>> columns = PairColumns(
        ...     key="id", source="a", target="b", source_vocabulary="xy", target_vocabulary="uvw")
        >>> network = EncoderDecoder("gru", hidden=4, embedding=3)
        >>> model = Transducer(network, network.initialize(3, 4, seed=0), columns)
        >>> model.transduce(["xxy"], limit=2)[0].symbols
        ('v', 'v')

    Two are equal when their digests are.

    Args:
        network: The network.
        parameters: The parameters by name; they are made read-only.
        columns: The source and target fields of a record, and their vocabularies.
        training: Facts about the training, as JSON values; not part of the digest.
        kernel: The kernel: see `Model`.

    Raises:
        ConfigurationError: The parameters and the vocabularies do not fit each other, or the
            kernel is not available.
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
        """SHA-256 of everything that affects the output, in hexadecimal."""
        return digest_of(self.to_json(), self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transducer) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: self.__dict__[field.name] for field in fields(self)}

    def to_json(self) -> dict[str, Any]:
        """Return everything but parameters and training facts, as JSON values."""
        return {
            "network": self.network.to_json(),
            "columns": self.columns.to_json(),
            "scaler": None,
        }

    def with_kernel(self, kernel: str) -> "Transducer":
        """Return the same model with another kernel: "auto", "numpy" or "fused"."""
        return replace(self, kernel=kernel)

    @cached_property
    def longest_target(self) -> int:
        """The length of the longest target in the training data; 0 if unknown."""
        return int(self.training.get("longest_target", 0))

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.network, self.parameters, kernel_of(self.kernel))

    @cached_property
    def _places(self) -> dict[str, int]:
        return places_of(self.columns.vocabularies[0])

    def indices(self, source: Sequence[str]) -> Array:
        """Return the index of each symbol of a source; 0 for an unknown one."""
        return np.array([self._places.get(symbol, UNKNOWN) for symbol in source])

    def transduce(
        self, sources: Sequence[Sequence[str]], beam: int = 1, limit: int | None = None
    ) -> list[Transduction]:
        """Return the output for each source; it does not depend on the rest of the batch.

        Args:
            sources: Texts or lists of symbols, none empty.
            beam: The beam width; 1 is greedy.
            limit: The maximum number of output symbols, with the end symbol; None for twice the
                longest target in the training data.
        """
        limit = limit or 2 * (self.longest_target + 1)
        vocabulary = self.columns.vocabularies[1]
        decoded = self._decoder.decode([self.indices(source) for source in sources], beam, limit)
        return [
            Transduction(tuple(vocabulary[i - 1] for i in each.indices), *each[1:])
            for each in decoded
        ]
