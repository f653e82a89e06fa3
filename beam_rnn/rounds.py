"""A round of training: shards learn apart from the same parameters, then these are averaged.

All that decides what comes next is in a `Standing`, and every function gives a new one: the same
rounds can be a loop on one machine, or stages of a pipeline. (McMahan 2017: federated averaging;
Douillard 2023, DiLoCo: the outer optimiser.)
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.backprop import first_rows
from beam_rnn.batches import batch_of, shuffled
from beam_rnn.bptt import Learner, WindowLoss, learn
from beam_rnn.dataset import Plan
from beam_rnn.dropout import draw
from beam_rnn.errors import DivergenceError, TrainingError
from beam_rnn.examples import Examples
from beam_rnn.kernels import Kernel, kernel_name, kernel_of
from beam_rnn.model import Model
from beam_rnn.network import Network, Parameters
from beam_rnn.objective import objective
from beam_rnn.optimizers import Optimizer, OptimizerState, lowered
from beam_rnn.schedules import Best, Plateau, PlateauState
from beam_rnn.settings import Rounds, Training
from beam_rnn.validation import validation_loss

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

    network: Network
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


def begin(plan: Plan, training: Training, rounds: Rounds, start: Model | None = None) -> Standing:
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
    symbols = plan.columns.vocabulary_sizes
    parameters = network.initialize(plan.inputs, plan.outputs, training.seed, np.float32, symbols)
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
    kernel = kernel_for(standing.network, training)
    order, left_out = (
        np.random.default_rng([training.seed, stream, shard, epoch]) for stream in (ORDER, LEFT_OUT)
    )
    total = weight = 0.0
    lengths = examples.lengths
    for rows in shuffled(lengths, training.batch_size, order, training.bucket):
        longest_first = sorted(rows, key=lambda i: -lengths[i])
        learner, of_batch, weight_of_batch = _batch(
            standing.network,
            learner,
            longest_first,
            examples,
            training,
            optimizer,
            kernel,
            left_out,
        )
        total += of_batch
        weight += weight_of_batch
    return learner, WindowLoss(total / weight if weight else 0.0, weight)


def _batch(
    network: Network,
    learner: Learner,
    rows: Sequence[int],
    examples: Examples,
    training: Training,
    optimizer: Optimizer,
    kernel: Kernel,
    left_out: np.random.Generator,
) -> tuple[Learner, float, float]:
    """BPTT over a batch of sequences, part by part, the hidden states handed on.

    Gives the sum of the losses, and that of their weights, too.

    Args:
        network: What is trained.
        learner: What to go on from.
        rows: Which sequences, longest first.
        examples: All of the shard.
        training: How.
        optimizer: How a gradient changes the parameters, at the rate of this epoch.
        kernel: What computes.
        left_out: Decides what dropout leaves out.
    """
    dtype = learner.parameters["layers.0.W_x"].dtype
    inputs = len(learner.parameters["layers.0.W_x"])
    masks = draw(training.dropout, network, inputs, len(rows), left_out, dtype)
    parts = max(map(examples.parts, rows))
    states = None
    total = weight = 0.0
    reached = 0
    for part in range(parts):
        here = [i for i in rows if examples.parts(i) > part]
        batch = batch_of([examples.example(i, part) for i in here], dtype)
        try:
            learner, losses, states = learn(
                network,
                learner,
                batch,
                bptt=training.bptt,
                loss=objective(network, training.loss),
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
                keys = ", ".join(repr(examples.key(i)) for i in here[:3])
                place = f" in a batch of keys {keys}" + (" and others" if len(here) > 3 else "")
            else:
                key = examples.key(here[error.row])
                place = f" at step {reached + error.step + 1} of a sequence of key {key!r}"
            raise error.placed(place) from error
        total += sum(window.loss * window.weight for window in losses)
        weight += sum(window.weight for window in losses)
        reached += len(batch.x)
    return learner, total, weight


def kernel_for(network: Network, training: Training) -> Kernel:
    """What computes on this machine."""
    return kernel_of(kernel_name(network, np.float32, training.kernel))


def judge(standing: Standing, examples: Examples, training: Training) -> tuple[float, float]:
    """The loss of what a shard holds back, summed, and the sum of the weights."""
    network = standing.network
    return validation_loss(
        network,
        standing.parameters,
        examples,
        objective(network, training.loss),
        training.batch_size,
        kernel_for(network, training),
    )


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


def model_of(standing: Standing, plan: Plan, training: Training, rounds: Rounds) -> Model:
    """The best model so far, with the facts about its training."""
    facts = {
        "settings": training.settings(plan.network),
        **({} if rounds == Rounds() else {"rounds": rounds.settings(training)}),
        "sequences": plan.sequences,
        "records": plan.steps,
        "loss_curve": list(standing.loss_curve),
        "kernel": kernel_for(plan.network, training).name,
        "until": plan.until,
    }
    if standing.validation_curve:
        facts["validation_curve"] = list(standing.validation_curve)
    if standing.over not in ("", "patience", "rounds"):
        facts["diverged"] = standing.over
    return Model(
        plan.network,
        standing.best_parameters,
        plan.columns,
        plan.scaler,
        facts,
        training.kernel,
    )
