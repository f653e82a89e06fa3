"""Sequence-to-sequence networks: an encoder, a decoder, and attention."""

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
"""What the decoder sees of the source: only the last state of the encoder, or at every step also a
weighted mean of the outputs of the encoder (Bahdanau 2014)."""

KIND = "encoder_decoder"
"""The "kind" in its JSON values, which distinguishes it from a `Network`."""


@dataclass(frozen=True)
class EncoderDecoder:
    """Two networks: an encoder of sources and a decoder of targets (Cho 2014, Sutskever 2014).

    The last hidden state of the encoder is the initial state of the decoder. At each step the
    input of the decoder is the symbol that it wrote last; in training it is the true symbol
    (teacher forcing; Williams and Zipser 1989). It stops when it writes the end.

        >>> EncoderDecoder("gru", hidden=64, embedding=16).shapes(12, 11)["output.W_y"]
        (64, 11)

    Args:
        cell: The cell of both: "rnn" (Elman), "gru", "lstm", or another key of
            `beam_rnn.cells.CELLS`.
        hidden: The size m of the hidden state of every layer of both.
        layers: The number of layers of each.
        embedding: The size of the vector of a symbol.
        bidirectional: Run the encoder in both directions; the decoder starts with the sum of both
            states.
        attention: What the decoder sees of the source: see `ATTENTIONS`.
        activation: As for `Network`.
        reset_after: As for `Network`.

    Raises:
        ConfigurationError: A name that does not exist, a size below 1, or settings that cannot
            be combined.
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
        """The network that reads the source."""
        return self._network(bidirectional=self.bidirectional)

    @cached_property
    def decoder(self) -> Network:
        """The network that writes the target."""
        return self._network(bidirectional=False)

    @property
    def step_cell(self) -> Cell:
        """The cell."""
        return self.decoder.step_cell

    @property
    def output(self) -> str:
        """The name of the output: classes, the symbols of the target and its end."""
        return "softmax"

    def shapes(self, sources: int, targets: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter, in the order in which they are stored.

        Args:
            sources: The number of symbols of sources, with the unknown one.
            targets: The number of symbols of targets, with the end.
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
        """Return parameters to start training from.

        Encoder and decoder are initialized as by `Network.initialize`; the other weights are
        uniform (Glorot and Bengio 2010), biases zero.

        Args:
            sources: The number of symbols of sources, with the unknown one.
            targets: The number of symbols of targets, with the end.
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
        """Return the numbers of symbols of sources and targets that parameters are for.

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
        """Return the network as JSON values.

        `EncoderDecoder(**values)` is the inverse, without "kind". Settings at their default are
        left out, except the cell and the sizes.
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
    """Return the values of a part by their names in the whole: the inverse of `part_of`."""
    return {f"{part}.{name}": value for name, value in named.items()}


def part_of(parameters: Parameters, part: str) -> dict[str, Array]:
    """Return the parameters of a part by their names in the part.

    >>> part_of({"encoder.b": np.zeros(1), "decoder.b": np.ones(1)}, "decoder")
    {'b': array([1.])}
    """
    prefix = f"{part}."
    return {
        name.removeprefix(prefix): value
        for name, value in parameters.items()
        if name.startswith(prefix)
    }
