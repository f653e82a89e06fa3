"""Passes over batches of what a worker has: to learn from them, and to judge by them."""

from collections.abc import Sequence

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import DivergenceError
from beam_rnn.data.sequences import batch_of
from beam_rnn.nn.backprop import first_rows
from beam_rnn.nn.bptt import Learner, learn
from beam_rnn.nn.dropout import Dropout, LayerMask, draw, draw_symbols, without_symbols
from beam_rnn.nn.encoder_decoder import EncoderDecoder, part_of
from beam_rnn.nn.kernels import Kernel, kernel_name, kernel_of
from beam_rnn.nn.losses import objective
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.nn.seq2seq import batch_of_pairs, learn_pairs, loss_of_pairs
from beam_rnn.training.example_store import Examples
from beam_rnn.training.settings import Training
from beam_rnn.training.validation import validation_loss

DTYPE = np.dtype(np.float32)
"""The type of every number in training."""


def kernel_for(network: Network | EncoderDecoder, training: Training) -> Kernel:
    """What computes on this machine."""
    plain = network.decoder if isinstance(network, EncoderDecoder) else network
    return kernel_of(kernel_name(plain, DTYPE, training.kernel))


def learn_batch(
    network: Network | EncoderDecoder,
    learner: Learner,
    rows: Sequence[int],
    examples: Examples,
    training: Training,
    optimizer: Optimizer,
    left_out: np.random.Generator,
) -> tuple[Learner, float, float]:
    """What is learned from some sequences, or pairs.

    Gives the sum of the losses, and that of their weights, too.

    Args:
        network: What is trained.
        learner: What to go on from.
        rows: Which of the examples, longest first.
        examples: All of the shard.
        training: How.
        optimizer: How a gradient changes the parameters, at the rate of this epoch.
        left_out: Decides what dropout leaves out.

    Raises:
        DivergenceError: The loss, or a parameter, is not finite.
    """
    if isinstance(network, EncoderDecoder):
        return _learn_pairs(network, learner, rows, examples, training, optimizer, left_out)
    return _learn_sequences(network, learner, rows, examples, training, optimizer, left_out)


def loss_over(
    network: Network | EncoderDecoder,
    parameters: Parameters,
    examples: Examples,
    training: Training,
) -> tuple[float, float]:
    """The loss of what a shard holds back, summed, and the sum of the weights."""
    kernel, size = kernel_for(network, training), training.batch_size
    if isinstance(network, Network):
        loss = objective(network, training.loss)
        return validation_loss(network, parameters, examples, loss, size, kernel)
    total = weight = 0.0
    for first in range(0, len(examples), size):
        rows = range(first, min(first + size, len(examples)))
        batch = batch_of_pairs([examples.example(i) for i in rows], DTYPE)
        loss_here, weight_here = loss_of_pairs(network, parameters, batch, kernel)
        total += loss_here
        weight += weight_here
    return total, weight


def _masks(
    dropout: Dropout,
    network: Network,
    parameters: Parameters,
    batch: int,
    random: np.random.Generator,
) -> list[LayerMask]:
    """What is left out of each sequence of a batch."""
    return draw(dropout, network, len(parameters["layers.0.W_x"]), batch, random, DTYPE)


def _left_out(
    dropout: Dropout,
    network: Network,
    parameters: Parameters,
    batch: int,
    random: np.random.Generator,
) -> list[Array]:
    """Which symbols are left out of each sequence of a batch; drawn after the masks."""
    if not dropout.symbols:
        return []
    sizes = [len(parameters[name]) for name in network.embedding_names]
    return draw_symbols(dropout.symbols, sizes, batch, random)


def _learn_pairs(
    network: EncoderDecoder,
    learner: Learner,
    rows: Sequence[int],
    examples: Examples,
    training: Training,
    optimizer: Optimizer,
    left_out: np.random.Generator,
) -> tuple[Learner, float, float]:
    """Full BPTT over a batch of pairs."""
    encoder, decoder = (part_of(learner.parameters, part) for part in ("encoder", "decoder"))
    of_encoder, of_decoder = (
        _masks(training.dropout, of, parameters, len(rows), left_out)
        for of, parameters in ((network.encoder, encoder), (network.decoder, decoder))
    )
    symbols = _left_out(training.dropout, network.encoder, encoder, len(rows), left_out)
    batch = batch_of_pairs([examples.example(i) for i in rows], DTYPE)
    if symbols:
        batch = batch._replace(x=without_symbols(batch.x, symbols))
    try:
        learner, (loss, weight) = learn_pairs(
            network,
            learner,
            batch,
            optimizer=optimizer,
            clip_norm=training.clip_norm,
            clip_value=training.clip_value,
            masks=(of_encoder, of_decoder),
            kernel=kernel_for(network, training),
        )
    except DivergenceError as error:
        raise error.placed(_in_a_batch(examples, rows)) from error
    return learner, loss * weight, weight


def _in_a_batch(examples: Examples, rows: Sequence[int]) -> str:
    keys = ", ".join(repr(examples.key(i)) for i in rows[:3])
    return f" in a batch of keys {keys}" + (" and others" if len(rows) > 3 else "")


def _learn_sequences(
    network: Network,
    learner: Learner,
    rows: Sequence[int],
    examples: Examples,
    training: Training,
    optimizer: Optimizer,
    left_out: np.random.Generator,
) -> tuple[Learner, float, float]:
    """BPTT over a batch of sequences, part by part, the hidden states handed on."""
    kernel, loss = kernel_for(network, training), objective(network, training.loss)
    of = training.dropout, network, learner.parameters, len(rows), left_out
    masks, symbols = _masks(*of), _left_out(*of)
    parts = max(map(examples.parts, rows))
    states = None
    total = weight = 0.0
    reached = 0
    for part in range(parts):
        here = [i for i in rows if examples.parts(i) > part]
        batch = batch_of([examples.example(i, part) for i in here], DTYPE)
        if symbols:
            batch = batch._replace(x=without_symbols(batch.x, symbols))
        try:
            learner, losses, states = learn(
                network,
                learner,
                batch,
                bptt=training.bptt,
                loss=loss,
                optimizer=optimizer,
                clip_norm=training.clip_norm,
                clip_value=training.clip_value,
                masks=[mask.rows(len(here)) for mask in masks],
                kernel=kernel,
                states=None if states is None else first_rows(states, len(here)),
                hand_on=part + 1 < parts,
            )
        except DivergenceError as error:
            if error.row is None:
                place = _in_a_batch(examples, here)
            else:
                key = examples.key(here[error.row])
                place = f" at step {reached + error.step + 1} of a sequence of key {key!r}"
            raise error.placed(place) from error
        total += sum(window.loss * window.weight for window in losses)
        weight += sum(window.weight for window in losses)
        reached += len(batch.x)
    return learner, total, weight
