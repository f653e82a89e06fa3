"""What is trained to turn a sequence into another one: an encoder, a decoder, and attention."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_choice, check_whole
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.nn.cells import Cell
from beam_rnn.nn.network import Network, Parameters

ATTENTIONS = ("none", "additive")
"""What the decoder sees of the source: its last state alone, or at every step a mean of all of the
encoder's outputs, weighted by how well each fits (Bahdanau 2014)."""

KIND = "encoder_decoder"
"""What tells it from a `Network` among JSON values."""


@dataclass(frozen=True)
class EncoderDecoder:
    """Two networks: one reads a sequence, the other one writes another (Cho 2014, Sutskever 2014).

    The hidden state of the encoder after its last step is that of the decoder before its first.
    At each step the decoder sees the symbol that it wrote last, in training the one that it should
    have written (teacher forcing; Williams and Zipser 1989), until it writes the end.

        >>> EncoderDecoder("gru", hidden=64, embedding=16).shapes(12, 11)["output.W_y"]
        (64, 11)

    Args:
        cell: "rnn" (Elman), "gru", "lstm", or another that was put into
            `beam_rnn.nn.cells.CELLS`: of both.
        hidden: The size m of the hidden state of every layer of both.
        layers: How many layers are stacked in each.
        embedding: The size of the vector that stands for a symbol.
        bidirectional: The encoder reads the source in both directions; the decoder begins with the
            sum of both states.
        attention: What the decoder sees of the source: see `ATTENTIONS`.
        activation: As for `Network`.
        reset_after: As for `Network`.

    Raises:
        ConfigurationError: A name that does not exist, a size below 1, or settings that do not
            go together.
    """

    cell: str = "gru"
    hidden: int = 128
    layers: int = 1
    embedding: int = 32
    bidirectional: bool = False
    attention: str = "none"
    activation: str = "tanh"
    reset_after: bool = True

    def __post_init__(self) -> None:
        check_choice("attention", self.attention, ATTENTIONS)
        for name in ("hidden", "layers", "embedding"):
            check_whole(name, getattr(self, name))
        _ = self.encoder  # which checks the rest

    def _network(self, *, bidirectional: bool) -> Network:
        return Network(
            self.cell,
            self.hidden,
            self.layers,
            self.activation,
            reset_after=self.reset_after,
            bidirectional=bidirectional,
            head="none",
            embedding=self.embedding,
        )

    @cached_property
    def encoder(self) -> Network:
        """What reads."""
        return self._network(bidirectional=self.bidirectional)

    @cached_property
    def decoder(self) -> Network:
        """What writes."""
        return self._network(bidirectional=False)

    @property
    def step_cell(self) -> Cell:
        """The pure functions of the cell."""
        return self.decoder.step_cell

    @property
    def output(self) -> str:
        """The output function: over the symbols of the target, and its end."""
        return "softmax"

    def shapes(self, sources: int, targets: int) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, in the order in which they are stored.

        Args:
            sources: How many symbols sources have, with the unknown one.
            targets: How many symbols targets have, with the end.
        """
        m, read = self.hidden, self.encoder.output_size(self.layers - 1)
        shapes: dict[str, tuple[int, ...]] = {
            **under("encoder", self.encoder.shapes(1, read, [sources])),
            **under("decoder", self.decoder.shapes(1, m, [targets])),
        }
        if self.attention == "additive":
            shapes |= {
                "attention.W_q": (m, m),
                "attention.W_k": (read, m),
                "attention.v": (m, 1),
                "attention.W_c": (m + read, m),
                "attention.b_c": (m,),
            }
        return shapes | {"output.W_y": (m, targets), "output.b_y": (targets,)}

    def initialize(
        self, sources: int, targets: int, seed: int, dtype: DTypeLike = np.float32
    ) -> dict[str, Array]:
        """Parameters to start training from.

        Encoder and decoder as `Network.initialize` has them, the other weights uniform after
        Glorot and Bengio (2010), biases zero.

        Args:
            sources: How many symbols sources have, with the unknown one.
            targets: How many symbols targets have, with the end.
            seed: The same seed gives the same parameters.
            dtype: float32 or float64.
        """
        shapes = self.shapes(sources, targets)
        read = self.encoder.output_size(self.layers - 1)
        encoder = self.encoder.initialize(1, read, [seed, 0], dtype, [sources])
        decoder = self.decoder.initialize(1, self.hidden, [seed, 1], dtype, [targets])
        parameters: dict[str, Array] = {**under("encoder", encoder), **under("decoder", decoder)}
        random = np.random.default_rng([seed, 2])
        for name, shape in shapes.items():
            if name not in parameters:
                bound = np.sqrt(6 / sum(shape)) if len(shape) == 2 else 0.0
                parameters[name] = random.uniform(-bound, bound, shape).astype(dtype)
        return parameters

    def sources_and_targets(self, parameters: Parameters) -> tuple[int, int]:
        """How many symbols there are on both sides, with 0, that parameters are for.

        Raises:
            ConfigurationError: The parameters are not those of this network.
        """
        try:
            sources = parameters["encoder.embedding.0.E"].shape[0]
            targets = parameters["output.b_y"].shape[0]
        except (KeyError, IndexError) as error:
            raise ConfigurationError(
                f"parameters of {self} must name encoder.embedding.0.E and output.b_y, got "
                f"{sorted(parameters)}"
            ) from error
        expected = self.shapes(sources, targets)
        actual = {name: value.shape for name, value in parameters.items()}
        if actual != expected:
            wrong = {
                name: (actual.get(name), expected.get(name))
                for name in sorted(actual.keys() | expected.keys())
                if actual.get(name) != expected.get(name)
            }
            raise ConfigurationError(f"parameters do not fit {self}: (got, needed) shapes {wrong}")
        return sources, targets

    def to_json(self) -> dict[str, Any]:
        """The network as JSON values; `EncoderDecoder(**values)` is the inverse, without "kind".

        What is at its default is left out, but cell and sizes.
        """
        always = ("cell", "hidden", "embedding")
        values = asdict(self)
        return {"kind": KIND} | {
            field.name: values[field.name]
            for field in fields(self)
            if field.name in always or values[field.name] != field.default
        }


AnyNetwork = Network | EncoderDecoder
"""Every kind of network that can be trained."""


def under(part: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `part_of`: the names that a part's values have in the whole."""
    return {f"{part}.{name}": value for name, value in named.items()}


def part_of(parameters: Parameters, part: str) -> dict[str, Array]:
    """The parameters of a part by the names that they have there.

    >>> part_of({"encoder.b": np.zeros(1), "decoder.b": np.ones(1)}, "decoder")
    {'b': array([1.])}
    """
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): value
        for name, value in parameters.items()
        if name.startswith(prefix)
    }
