"""Training on one machine: the rounds as a loop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from beam_rnn.core.errors import DivergenceError
from beam_rnn.nn.encoder_decoder import AnyNetwork
from beam_rnn.training.dataset import prepare
from beam_rnn.training.example_store import Examples
from beam_rnn.training.rounds import (
    Local,
    Standing,
    after,
    average,
    begin,
    judge,
    learn_locally,
    model_of,
)
from beam_rnn.training.settings import Rounds, Training
from beam_rnn.training.task import Item, Trained


class Epoch(NamedTuple):
    """The progress of a training."""

    epoch: int  # 1 for the first
    epochs: int
    loss: float  # the mean over the epoch, of scaled targets
    validation_loss: float | None  # after the epoch; None without a validation set
    records_per_second: float


def fit_sequences(
    network: AnyNetwork,
    sequences: Iterable[Item],
    training: Training,
    progress: Callable[[Epoch], None] = lambda _: None,
    rounds: Rounds = Rounds(),  # noqa: B008  # frozen
    start: Trained | None = None,
) -> Any:
    """Return a model trained on sequences, or a `Transducer` trained on pairs.

    The result does not depend on the order of the sequences.

    Args:
        network: A `Network` for sequences, an `EncoderDecoder` for pairs.
        sequences: The training data; the model keeps their columns.
        training: How to train.
        progress: Called after each round: after each epoch, unless a round has several.
        rounds: The number of shards, and when their parameters are averaged. The weights are those
            of `Train`, whose shards may be on many machines.
        start: A model whose parameters to start from; None for those that the seed gives.

    Raises:
        DivergenceError: The loss became non-finite. Its `model` is the last good one.
        TrainingError: There is nothing to learn from, the sequences have different columns, the
            loss cannot be computed for their targets, or the model to start from has another
            network or other columns.
        ConfigurationError: Network, training and columns do not fit each other.
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
    """Run all rounds that are left.

    Args:
        standing: The state to continue from.
        learned: The examples of each shard.
        held_back: The validation set of each shard.
        training: The settings of the training.
        rounds: The rounds.
        done: Called after each round.
        diverged: Called when the loss becomes non-finite; returns the last state.
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
    """Return the error of the first shard that has one."""
    ordered = sorted(locals_, key=lambda local: local.shard)
    return next((local.diverged for local in ordered if local.diverged is not None), None)


def epoch_of(
    standing: Standing, locals_: Sequence[Local], training: Training, rounds: Rounds
) -> Epoch:
    """Return the progress after a round."""
    seconds = max(local.ended for local in locals_) - min(local.begun for local in locals_)
    return Epoch(
        len(standing.loss_curve),
        rounds.epochs(training),
        standing.loss_curve[-1],
        standing.validation_curve[-1] if standing.validation_curve else None,
        sum(local.steps for local in locals_) / max(seconds, 1e-6),
    )
