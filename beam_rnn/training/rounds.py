"""A round of training: each shard learns from the same parameters, then they are averaged.

The whole state of a training is in a `Standing`, and every function returns a new one: the same
rounds can be a loop on one machine, or stages of a pipeline. (McMahan 2017: federated averaging;
Douillard 2023, DiLoCo: the outer optimiser.)
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.core.errors import DivergenceError, TrainingError
from beam_rnn.data.sequences import shuffled
from beam_rnn.nn.bptt import Learner, WindowLoss
from beam_rnn.nn.encoder_decoder import AnyNetwork
from beam_rnn.nn.network import Parameters
from beam_rnn.nn.optimizers import OptimizerState, lowered
from beam_rnn.nn.schedules import Best, Plateau, PlateauState
from beam_rnn.training.example_store import Examples
from beam_rnn.training.plan import Plan, task_of
from beam_rnn.training.settings import Rounds, Training
from beam_rnn.training.task import Task, Trained

ORDER, DROPOUT = 1, 2
"""The streams of random numbers: the order of the sequences, and the dropout masks."""


class Standing(NamedTuple):
    """The state of a training between two rounds.

    Attributes:
        network: The network.
        rounds: The number of rounds that are done.
        parameters: The parameters after them.
        optimizer_state: The state of the optimiser, averaged over the shards.
        outer_state: The state of the outer optimiser.
        rate: The factor of the learning rate, and what decides when it is lowered.
        best: The lowest loss so far.
        best_parameters: The parameters that had it.
        loss_curve: The mean loss of each epoch, of scaled targets.
        validation_curve: The mean loss on the validation set after each round.
        over: Why there are no further rounds; empty if there are.
    """

    network: AnyNetwork
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
        shard: Its number.
        parameters: The parameters after the round.
        optimizer_state: The state of its optimiser.
        losses: The mean loss of each of its epochs, and the sum of the weights.
        steps: The number of steps in these epochs.
        begun: When it began, in seconds since 1970.
        ended: When it ended.
        diverged: Where the loss became non-finite; None if it stayed finite.
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
    """Return the state before the first round.

    Args:
        plan: The plan.
        training: The settings of the training.
        rounds: The rounds.
        start: A model whose parameters to start from; None for those that the seed gives.

    Raises:
        TrainingError: The model has another network or other columns.
    """
    network = plan.network
    if start is None:
        parameters = task_of(network, training).initialize(plan.columns)
    elif (start.network, start.columns) == (network, plan.columns):
        parameters = dict(start.parameters)
    else:
        raise TrainingError(
            f"the model to start from is {start.network} of {start.columns}, but the training is "
            f"of {network} with {plan.columns}: start from a model of the same network and columns"
        )
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
    """Run one round of one shard: a number of epochs over its sequences."""
    begun = time.time()
    task = task_of(standing.network, training)
    learner = Learner(standing.parameters, standing.optimizer_state)
    losses: list[WindowLoss] = []
    diverged = None
    for local_epoch in range(rounds.local_epochs):
        epoch = standing.rounds * rounds.local_epochs + local_epoch
        try:
            learner, loss = _epoch(standing, learner, shard, epoch, examples, task)
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
    task: Task,
) -> tuple[Learner, WindowLoss]:
    """Pass once over the sequences of a shard; return the mean loss over all steps, too."""
    training, factor = task.training, standing.rate.factor
    optimizer = training.optimizer if factor == 1 else lowered(training.optimizer, factor)
    order, dropout = (
        np.random.default_rng([training.seed, stream, shard, epoch]) for stream in (ORDER, DROPOUT)
    )
    total = weight = 0.0
    lengths = examples.lengths
    for rows in shuffled(lengths, training.batch_size, order, training.bucket):
        longest_first = sorted(rows, key=lambda i: -lengths[i])
        learner, of_batch, weight_of_batch = task.learn_batch(
            learner, longest_first, examples, optimizer, dropout
        )
        total += of_batch
        weight += weight_of_batch
    return learner, WindowLoss(total / weight if weight else 0.0, weight)


def judge(standing: Standing, examples: Examples, training: Training) -> tuple[float, float]:
    """Return the summed loss of a shard's validation set, and the sum of the weights."""
    return task_of(standing.network, training).loss(standing.parameters, examples)


def average(standing: Standing, locals_: Sequence[Local], rounds: Rounds) -> Standing:
    """Return the state with the mean of the shards' parameters; they are given in any order.

    A shard counts as much as the weights of its targets. Sums are made in the order of the shards,
    in float64, so that they have the same bits wherever the shards were.

    Raises:
        TrainingError: Every target has the weight 0.
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
    """Return the weighted mean of trees of arrays; of counters the greatest.

    The mean of one tree is itself.
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
    """Return the state after a round: if it was the best, the learning rate, if it was the last.

    Args:
        standing: From `average`.
        validation: From `judge`, of each shard in order; None without a validation set.
        training: The settings of the training.
        rounds: The rounds.
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
    """Return the best model so far, with the facts about its training."""
    task = task_of(plan.network, training)
    facts = {
        **plan.facts,
        "settings": training.settings(plan.network),
        **({} if rounds == Rounds() else {"rounds": rounds.settings(training)}),
        "loss_curve": list(standing.loss_curve),
        "kernel": task.kernel.name,
    }
    if standing.validation_curve:
        facts["validation_curve"] = list(standing.validation_curve)
    if standing.over not in ("", "patience", "rounds"):
        facts["diverged"] = standing.over
    model: Trained = task.to_model(standing.best_parameters, plan.columns, plan.scaler, facts)
    return model
