"""Decoding of targets: greedy, or by beam search.

The result for a source does not depend on the other sources of its batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.data.sequences import pad
from beam_rnn.nn.attention import attend
from beam_rnn.nn.backprop import States, forward_layers, initial_states
from beam_rnn.nn.embedding import embed
from beam_rnn.nn.encoder_decoder import EncoderDecoder, part_of
from beam_rnn.nn.kernels import Kernel
from beam_rnn.nn.network import Parameters
from beam_rnn.nn.seq2seq import BORDER, bridged, logits


class Decoded(NamedTuple):
    """A decoded target.

    Attributes:
        indices: The indices of the symbols, without the end.
        log_probability: The log probability of the target, with the end if it was written.
        ended: Whether the end was written.
    """

    indices: tuple[int, ...]
    log_probability: float
    ended: bool


class Read(NamedTuple):
    """Encoded sources, in the order in which they were given."""

    state: Array  # (batch, state_size), of the decoder before its first step
    keys: Array  # (S, batch, read), the outputs of the encoder
    lengths: Array  # (batch,)

    def rows(self, places: Array) -> "Read":
        """Return some of the sources."""
        return Read(self.state[places], self.keys[:, places], self.lengths[places])


class Decoder:
    """Decodes with a trained encoder-decoder.

    Args:
        network: The network.
        parameters: Its parameters.
        kernel: The kernel that computes the layers.
    """

    def __init__(self, network: EncoderDecoder, parameters: Parameters, kernel: Kernel):
        self._network = network
        self._parameters = parameters
        self._kernel = kernel
        self._of_encoder, self._of_decoder, self._of_attention = (
            part_of(parameters, part) for part in ("encoder", "decoder", "attention")
        )
        self._advance = kernel.advance(network.decoder, self._of_decoder)
        self._dtype = parameters["output.b_y"].dtype

    def read(self, sources: Sequence[Array]) -> Read:
        """Encode the sources.

        Args:
            sources: The indices of each source, (steps,), at least one.
        """
        network = self._network.encoder
        order = np.argsort([-len(source) for source in sources], kind="stable")
        x = pad([sources[i][:, np.newaxis] for i in order], self._dtype)
        lengths = np.array([len(sources[i]) for i in order])
        begin = initial_states(network, self._of_encoder, len(sources))
        keys, last, _ = forward_layers(
            network, self._of_encoder, x, begin, lengths, kernel=self._kernel, keep=False
        )
        back = np.argsort(order)
        return Read(_side_by_side(bridged(self._network, last)), keys, lengths).rows(back)

    def step(self, read: Read, state: Array, written: Array) -> tuple[Array, Array]:
        """Run one step of the decoder.

        Args:
            read: The sources.
            state: (batch, state_size).
            written: (batch,), the index of the previous symbol; `BORDER` at the first step.

        Returns:
            log p of each next symbol (batch, targets), float64, and the state.
        """
        x = embed(
            self._network.decoder, self._of_decoder, written[:, np.newaxis].astype(self._dtype)
        )
        h, state = self._advance(state, x, np.array([len(x)]), False)
        features = h[np.newaxis]
        if self._of_attention:
            linear = self._kernel.linear
            features, _ = attend(self._of_attention, features, read.keys, read.lengths, linear)
        z = logits(self._parameters, features, self._kernel)[0].astype(np.float64)
        z -= z.max(1, keepdims=True)
        return z - np.log(np.exp(z, order="C").sum(1, keepdims=True)), state

    def decode(self, sources: Sequence[Array], beam: int, limit: int) -> list[Decoded]:
        """Decode each source.

        Args:
            sources: The indices of each source, (steps,), at least one.
            beam: The beam width; 1 is greedy.
            limit: The maximum number of symbols, with the end.
        """
        n = len(sources)
        hypotheses = np.repeat(np.arange(n), beam)  # the source of each hypothesis
        read = self.read(sources).rows(hypotheses)
        state = read.state
        scores = np.full((n, beam), -np.inf)
        scores[:, 0] = 0  # at first all hypotheses are equal
        written = np.zeros((n * beam, 0), int)
        ended = np.zeros(n * beam, bool)
        last = np.full(n * beam, BORDER)
        for _ in range(limit):
            log_p, state = self.step(read, state, last)
            log_p[ended] = -np.inf  # nothing follows the end
            log_p[ended, BORDER] = 0
            from_, last, scores = _best(scores, log_p.reshape(n, beam, -1))
            state, ended = state[from_], ended[from_] | (last == BORDER)
            written = np.concatenate([written[from_], last[:, np.newaxis]], 1)
            if ended[::beam].all():  # the best hypothesis of each source is first and stays so
                break
        return [
            Decoded(_until_end(symbols), float(score), bool(end))
            for symbols, score, end in zip(
                written[::beam], scores[:, 0], ended[::beam], strict=True
            )
        ]


def _best(scores: Array, log_p: Array) -> tuple[Array, Array, Array]:
    """Return the best continuations of the hypotheses of each source.

    Args:
        scores: (sources, beam), log p of each hypothesis.
        log_p: (sources, beam, targets), log p of each next symbol.

    Returns:
        The hypothesis that each continues (sources * beam,), the next symbol (sources * beam,),
        and log p of both together (sources, beam).
    """
    n, beam, targets = log_p.shape
    total = (scores[..., np.newaxis] + log_p).reshape(n, -1)
    if beam == 1:
        chosen = total.argmax(1)[:, np.newaxis]
    else:
        chosen = np.argsort(-total, 1, kind="stable")[:, :beam]
    from_ = (chosen // targets + np.arange(n)[:, np.newaxis] * beam).ravel()
    return from_, (chosen % targets).ravel(), np.take_along_axis(total, chosen, 1)


def _until_end(written: Array) -> tuple[int, ...]:
    """Return the indices before the end."""
    symbols = written.tolist()
    return tuple(symbols[: symbols.index(BORDER)] if BORDER in symbols else symbols)


def _side_by_side(states: States) -> Array:
    """Return the states of all layers as one array (batch, state_size)."""
    return np.concatenate([array for state in states for array in state], 1)
