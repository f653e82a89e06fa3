"""A round of training: shards learn apart from the same parameters, then these are averaged.

All that decides what comes next is in a `Standing`, and every function gives a new one: the same
rounds can be a loop on one machine, or stages of a pipeline. (McMahan 2017: federated averaging;
Douillard 2023, DiLoCo: the outer optimiser.)
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.errors import DivergenceError, TrainingError
from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import PairColumns
from beam_rnn.data.sequences import shuffled
from beam_rnn.models.model import Model
from beam_rnn.models.transducer import Transducer
from beam_rnn.nn.bptt import Learner, WindowLoss
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network, Parameters
from beam_rnn.nn.optimizers import OptimizerState, lowered
from beam_rnn.nn.schedules import Best, Plateau, PlateauState
from beam_rnn.training.epochs import kernel_for, learn_batch, loss_over
from beam_rnn.training.example_store import Examples
from beam_rnn.training.plan import Plan
from beam_rnn.training.settings import Rounds, Training

Trained = Model | Transducer
"""What comes of a training."""

ORDER, LEFT_OUT = 1, 2
"""The streams of chance: the order of the sequences, and what dropout leaves out."""


class Standing(NamedTuple):
    """How far a training is: all that decides what comes next.

    Attributes:
        network: What is trained.
        rounds: How many are done.
        parameters: Those after them.
        optimizer_state: The state of the optimiser, averaged over the shards.
        outer_state: The state of the outer optimiser.
        rate: By how much the learning rate is lowered.
        best: The least loss so far.
        best_parameters: Those that had it.
        loss_curve: The mean loss of each epoch, of scaled targets.
        validation_curve: The mean loss after each round on what is held back.
        over: Why there are no further rounds; empty if there are.
    """

    network: Network | EncoderDecoder
    rounds: int
    parameters: Parameters
    optimizer_state: OptimizerState
    outer_state: OptimizerState
    rate: PlateauState
    best: Best
    best_parameters: Parameters
    loss_curve: tuple[float, ...] = ()
    validation_curve: tuple[float, ...] = ()
    over: str = ""


class Local(NamedTuple):
    """What one shard learned in a round.

    Attributes:
        shard: Which it is.
        parameters: Those that it reached.
        optimizer_state: The state of its optimiser.
        losses: For each of its epochs the mean loss, and the sum of the weights.
        steps: How many steps it took.
        begun: When it began, in seconds since 1970.
        ended: When it ended.
        diverged: Where the loss was no longer finite; None if it was.
    """

    shard: int
    parameters: Parameters
    optimizer_state: OptimizerState
    losses: tuple[WindowLoss, ...]
    steps: int
    begun: float
    ended: float
    diverged: DivergenceError | None = None


def begin(plan: Plan, training: Training, rounds: Rounds, start: Trained | None = None) -> Standing:
    """Before the first round.

    Args:
        plan: What is trained.
        training: How.
        rounds: In what rounds.
        start: A model whose parameters to start from; None for those that the seed gives.

    Raises:
        TrainingError: The model is of another network or other columns.
    """
    network = plan.network
    parameters = plan.initialize(training.seed)
    if start is not None:
        if (start.network, start.columns) != (network, plan.columns):
            raise TrainingError(
                f"the model to start from is {start.network} of {start.columns}, what is trained "
                f"is {network} of {plan.columns}"
            )
        parameters = dict(start.parameters)
    return Standing(
        network,
        0,
        parameters,
        training.optimizer.init(parameters),
        {} if rounds.outer is None else rounds.outer.init(parameters),
        (training.plateau or Plateau()).init(),
        Best(),
        parameters,
    )


def learn_locally(
    standing: Standing,
    shard: int,
    examples: Examples,
    training: Training,
    rounds: Rounds,
) -> Local:
    """One round of one shard: so many epochs over its sequences."""
    begun = time.time()
    learner = Learner(standing.parameters, standing.optimizer_state)
    losses: list[WindowLoss] = []
    diverged = None
    for local_epoch in range(rounds.local_epochs):
        epoch = standing.rounds * rounds.local_epochs + local_epoch
        try:
            learner, loss = _epoch(standing, learner, shard, epoch, examples, training)
        except DivergenceError as error:
            diverged = error.placed(f" in epoch {epoch + 1}, round {standing.rounds + 1}")
            break
        losses.append(loss)
    return Local(
        shard,
        learner.parameters,
        learner.optimizer_state,
        tuple(losses),
        examples.steps * rounds.local_epochs,
        begun,
        time.time(),
        diverged,
    )


def _epoch(
    standing: Standing,
    learner: Learner,
    shard: int,
    epoch: int,
    examples: Examples,
    training: Training,
) -> tuple[Learner, WindowLoss]:
    """One pass over the sequences of a shard, and the mean loss over all steps that have one."""
    factor = standing.rate.factor
    optimizer = training.optimizer if factor == 1 else lowered(training.optimizer, factor)
    order, left_out = (
        np.random.default_rng([training.seed, stream, shard, epoch]) for stream in (ORDER, LEFT_OUT)
    )
    total = weight = 0.0
    lengths = examples.lengths
    for rows in shuffled(lengths, training.batch_size, order, training.bucket):
        longest_first = sorted(rows, key=lambda i: -lengths[i])
        learner, of_batch, weight_of_batch = learn_batch(
            standing.network, learner, longest_first, examples, training, optimizer, left_out
        )
        total += of_batch
        weight += weight_of_batch
    return learner, WindowLoss(total / weight if weight else 0.0, weight)


def judge(standing: Standing, examples: Examples, training: Training) -> tuple[float, float]:
    """The loss of what a shard holds back, summed, and the sum of the weights."""
    return loss_over(standing.network, standing.parameters, examples, training)


def average(standing: Standing, locals_: Sequence[Local], rounds: Rounds) -> Standing:
    """The parameters of the next round, from those that the shards reached, in any order.

    Each shard counts as much as what it learned from. Sums are made in the order of the shards, in
    float64, so that they have the same bits wherever the shards were.

    Raises:
        TrainingError: No shard has a target that counts.
    """
    ordered = sorted(locals_, key=lambda local: local.shard)
    counts = [local for local in ordered if local.losses and local.losses[0].weight > 0]
    if not counts:
        raise TrainingError("there is nothing to learn from: every target has the weight 0")
    shares = np.array([local.losses[0].weight for local in counts])
    shares /= shares.sum()
    parameters = _mean([local.parameters for local in counts], shares)
    outer_state = standing.outer_state
    if rounds.outer is not None:
        change = {name: standing.parameters[name] - w for name, w in parameters.items()}
        parameters, outer_state = rounds.outer.update(change, outer_state, standing.parameters)
    curve = tuple(
        float(sum(loss.loss * share for loss, share in zip(epoch, shares, strict=True)))
        for epoch in zip(*(local.losses for local in counts), strict=True)
    )
    return standing._replace(
        rounds=standing.rounds + 1,
        parameters=parameters,
        optimizer_state=_mean([local.optimizer_state for local in counts], shares),
        outer_state=outer_state,
        loss_curve=standing.loss_curve + curve,
    )


def _mean(values: Sequence[Any], shares: np.ndarray) -> Any:
    """The weighted mean of trees of arrays; of counters, the greatest.

    That of one is itself.
    """
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, dict):
        return {name: _mean([value[name] for value in values], shares) for name in first}
    if not isinstance(first, np.ndarray):
        return max(values)
    total = np.zeros(first.shape)
    for value, share in zip(values, shares, strict=True):
        total += value * share
    return total.astype(first.dtype)


def after(
    standing: Standing,
    validation: Sequence[tuple[float, float]] | None,
    training: Training,
    rounds: Rounds,
) -> Standing:
    """After a round: whether it was the best, at what rate to go on, and whether to.

    Args:
        standing: From `average`.
        validation: From `judge`, of each shard in order; None if nothing is held back.
        training: How the network is trained.
        rounds: In what rounds.
    """
    judged_by = standing.loss_curve[-1]
    if validation is not None:
        total, weight = (sum(each) for each in zip(*validation, strict=True))
        judged_by = total / weight if weight else float("nan")
        curve = (*standing.validation_curve, judged_by)
        standing = standing._replace(validation_curve=curve)
    best = standing.best.after(judged_by)
    is_best = best.epochs_ago == 0 or validation is None
    rate = standing.rate
    if training.plateau is not None:
        rate = training.plateau.update(judged_by, rate)
    over = ""
    if training.patience is not None and best.epochs_ago >= training.patience:
        over = "patience"
    elif standing.rounds >= rounds.rounds_of(training):
        over = "rounds"
    return standing._replace(
        best=best,
        best_parameters=standing.parameters if is_best else standing.best_parameters,
        rate=rate,
        over=over,
    )


def model_of(standing: Standing, plan: Plan, training: Training, rounds: Rounds) -> Trained:
    """The best model so far, with the facts about its training."""
    network = plan.network
    facts = {
        "settings": training.settings(network),
        **({} if rounds == Rounds() else {"rounds": rounds.settings(training)}),
        "sequences": plan.sequences,
        "records": plan.steps,
        "loss_curve": list(standing.loss_curve),
        "kernel": kernel_for(network, training).name,
        "until": plan.until,
    }
    if standing.validation_curve:
        facts["validation_curve"] = list(standing.validation_curve)
    if standing.over not in ("", "patience", "rounds"):
        facts["diverged"] = standing.over
    parameters, kernel = standing.best_parameters, training.kernel
    if isinstance(network, EncoderDecoder):
        assert isinstance(plan.columns, PairColumns), "the plan is of pairs"
        facts["longest_target"] = plan.longest_target
        return Transducer(network, parameters, plan.columns, facts, kernel)
    assert isinstance(plan.columns, Columns), "the plan is of sequences"
    return Model(network, parameters, plan.columns, plan.scaler, facts, kernel)
