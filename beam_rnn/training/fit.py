"""Training on one machine: the rounds as a loop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from beam_rnn.core.errors import DivergenceError
from beam_rnn.data.pair_columns import Pair
from beam_rnn.data.sequences import Sequence as RecordSequence
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network
from beam_rnn.training.dataset import prepare
from beam_rnn.training.example_store import Examples
from beam_rnn.training.rounds import (
    Local,
    Standing,
    Trained,
    after,
    average,
    begin,
    judge,
    learn_locally,
    model_of,
)
from beam_rnn.training.settings import Rounds, Training


class Epoch(NamedTuple):
    """How far the training is."""

    epoch: int  # 1 for the first
    epochs: int
    loss: float  # the mean over the epoch, of scaled targets
    validation_loss: float | None  # after the epoch; None if nothing is held back
    records_per_second: float


def fit(
    network: Network | EncoderDecoder,
    sequences: Iterable[RecordSequence | Pair],
    training: Training,
    progress: Callable[[Epoch], None] = lambda _: None,
    rounds: Rounds = Rounds(),  # noqa: B008  # frozen
    start: Trained | None = None,
) -> Any:
    """A model trained on sequences; of an encoder-decoder and pairs, a `Transducer`.

    The result depends on the sequences as a set, not on the order in which they come.

    Args:
        network: What to train.
        sequences: What to learn from; the model keeps their columns.
        training: How to train.
        progress: Called after each round: an epoch, unless a round has several.
        rounds: Between how many shards the sequences are dealt out, and when these meet. The
            weights are those that `Train` gives, whose shards may be on many machines.
        start: A model whose parameters to start from; None for those that the seed gives.

    Raises:
        DivergenceError: The loss is no longer finite. Its `model` is the last good one.
        TrainingError: There is nothing to learn from, the sequences are of different columns,
            targets are not what the loss can compare with, or the model to start from is of
            another network or other columns.
        ConfigurationError: Network, training and columns do not go together.
    """
    plan, learned, held_back = prepare(network, sequences, training, rounds.shards)
    standing = begin(plan, training, rounds, start)

    def done(standing: Standing, locals_: Sequence[Local]) -> None:
        progress(epoch_of(standing, locals_, training, rounds))

    def diverged(standing: Standing, error: DivergenceError) -> Standing:
        if training.on_divergence == "keep":
            return standing._replace(over=str(error))
        error.model = model_of(standing, plan, training, rounds)
        raise error

    shards = dict(enumerate(learned)), dict(enumerate(held_back))
    standing = run_rounds(standing, *shards, training, rounds, done, diverged)
    return model_of(standing, plan, training, rounds)


def run_rounds(
    standing: Standing,
    learned: Mapping[int, Examples],
    held_back: Mapping[int, Examples],
    training: Training,
    rounds: Rounds,
    done: Callable[[Standing, Sequence[Local]], None],
    diverged: Callable[[Standing, DivergenceError], Standing],
) -> Standing:
    """All rounds that are left.

    Args:
        standing: Where to go on.
        learned: What each shard learns from.
        held_back: What each shard is judged by.
        training: How the network is trained.
        rounds: In what rounds.
        done: Called after each.
        diverged: Called when the loss is no longer finite; gives where the training ends.
    """
    while not standing.over:
        locals_ = [
            learn_locally(standing, shard, examples, training, rounds)
            for shard, examples in learned.items()
            if len(examples)
        ]
        error = first_divergence(locals_)
        if error is not None:
            return diverged(standing, error)
        standing = average(standing, locals_, rounds)
        validation = [
            judge(standing, examples, training)
            for _, examples in sorted(held_back.items())
            if len(examples)
        ]
        standing = after(standing, validation or None, training, rounds)
        done(standing, locals_)
    return standing


def first_divergence(locals_: Iterable[Local]) -> DivergenceError | None:
    """That of the first shard that has one."""
    ordered = sorted(locals_, key=lambda local: local.shard)
    return next((local.diverged for local in ordered if local.diverged is not None), None)


def epoch_of(
    standing: Standing, locals_: Sequence[Local], training: Training, rounds: Rounds
) -> Epoch:
    """What to say of a round."""
    seconds = max(local.ended for local in locals_) - min(local.begun for local in locals_)
    return Epoch(
        len(standing.loss_curve),
        rounds.epochs(training),
        standing.loss_curve[-1],
        standing.validation_curve[-1] if standing.validation_curve else None,
        sum(local.steps for local in locals_) / max(seconds, 1e-6),
    )
