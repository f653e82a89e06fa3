"""The DoFns of the rounds: shards learn, their parameters are averaged, and the next round starts.

A worker reads its group example by example into a file: it holds a batch in memory, not a shard.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from beam_rnn.core.errors import ADVICE, DivergenceError
from beam_rnn.core.filesystems import read_bytes, write_bytes
from beam_rnn.core.progress import Throttle
from beam_rnn.training import checkpoint_format as checkpoints
from beam_rnn.training.example_store import Examples
from beam_rnn.training.fit import Epoch, epoch_of, first_divergence, run_rounds
from beam_rnn.training.model_files import newest, read_any_model
from beam_rnn.training.plan import Plan
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
from beam_rnn.training.task import Task, Trained

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 2.0
"""Seconds between two progress lines."""
PASSED_ON = "passed_on"
"""The output of a shard on its way to the next round."""
OF_SCALED_TARGETS = ("mae", "mse", "huber", "quantile")
"""Losses for which always predicting the mean scores about 1 on scaled targets."""
FAR = 10.0
"""A loss of scaled targets above which the network has learned nothing."""
LEARNED, VALIDATED_ON = b"\0", b"\1"
"""The marks of examples to learn from and to validate on, where one worker has both."""


@dataclass(frozen=True)
class TrainingRun:
    """A training in rounds, and its files: the same for all stages.

    Args:
        task: What to train, and how.
        rounds: The rounds.
        checkpoints: The prefix of the names of checkpoints; None for none.
        resume: The checkpoint to resume from, or a pattern; None for none.
        start: The weights file to start from, or a pattern; None for none.
    """

    task: Task
    rounds: Rounds
    checkpoints: str | None = None
    resume: str | None = None
    start: str | None = None

    @property
    def training(self) -> Training:
        """The settings of the training."""
        return self.task.training

    def begin(self, plan: Plan) -> Standing:
        """Return the state before the first round, or that of the checkpoint to resume from."""
        if self.resume is not None:
            path = newest(self.resume)
            checkpoint = checkpoints.from_bytes(read_bytes(path), path)
            logger.info("resuming after round %d of %s", checkpoint.standing.rounds, path)
            return checkpoints.check_goes_on(checkpoint, plan, self.training, self.rounds, path)
        start = None if self.start is None else read_any_model(newest(self.start))
        return begin(plan, self.training, self.rounds, start)

    def passed_on(
        self, shard: tuple[int, Iterable[bytes]], standing: Standing, number: int
    ) -> Iterator[TaggedOutput]:
        """Yield the examples of a shard for the next round, if there is one."""
        if not standing.over and number < self.rounds.rounds_of(self.training):
            yield from (TaggedOutput(PASSED_ON, (shard[0], data)) for data in shard[1])

    def path(self, round_: int) -> str:
        """Return the path of the checkpoint after a round."""
        return f"{self.checkpoints}-{round_:05d}.arrow"

    def keep(self, standing: Standing, plan: Plan) -> None:
        """Write a checkpoint after a round, if there are to be checkpoints."""
        if self.checkpoints is not None:
            data = checkpoints.to_bytes(standing, plan, self.training, self.rounds)
            write_bytes(data, self.path(standing.rounds))

    def stop(self, standing: Standing, error: DivergenceError) -> Standing:
        """End a training that diverged: raise the error, or return the last state."""
        if self.checkpoints is not None and standing.rounds:
            kept = self.path(standing.rounds)
            error = error.placed(f"; the last good weights are in {kept!r}")
        logger.error("%s", error)
        if self.training.on_divergence == "error":
            raise error
        return standing._replace(over=str(error))


class Begin(beam.DoFn):
    """Gives the state before the first round."""

    def __init__(self, run: TrainingRun):
        self._run = run

    def process(self, element: Plan) -> Iterator[Standing]:
        """Take the plan, give the state."""
        yield self._run.begin(element)


class LearnLocally(beam.DoFn):
    """Runs a round of one shard.

    It also gives the shard, for the next round: a runner stores it once, not once for each round.
    """

    def __init__(self, run: TrainingRun, number: int):
        self._run = run
        self._number = number

    def process(self, element: tuple[int, Iterable[bytes]], standing: Standing) -> Iterator[Any]:
        """Take a shard, give what it learned, and the shard."""
        shard, encoded = element
        if not standing.over and standing.rounds == self._number - 1:
            examples = Examples(encoded, on_disk=True)
            yield learn_locally(standing, shard, examples, self._run.training, self._run.rounds)
        yield from self._run.passed_on(element, standing, self._number)


class Average(beam.DoFn):
    """Averages the parameters of the shards."""

    def __init__(self, run: TrainingRun):
        self._run = run

    def process(self, element: Standing, learned: Iterable[Local]) -> Iterator[Any]:
        """Take the state before the round, give the state and the progress after it."""
        locals_ = list(learned)
        if not locals_:  # the round is not needed, or was done before
            yield element, None
            return
        diverged = first_divergence(locals_)
        if diverged is not None:
            yield self._run.stop(element, diverged), None
            return
        training, rounds = self._run.training, self._run.rounds
        standing = average(element, locals_, rounds)
        yield standing, epoch_of(standing, locals_, training, rounds)


class Judge(beam.DoFn):
    """Computes the loss on the validation set of a shard; gives the validation set, too."""

    def __init__(self, run: TrainingRun, number: int):
        self._run = run
        self._number = number

    def process(
        self, element: tuple[int, Iterable[bytes]], averaged: tuple[Standing, Any]
    ) -> Iterator[Any]:
        """Take the validation set of a shard, give the shard's number and loss, and the set."""
        shard, encoded = element
        standing, epoch = averaged
        if epoch is not None:
            examples = Examples(encoded, on_disk=True)
            yield shard, judge(standing, examples, self._run.training)
        yield from self._run.passed_on(element, standing, self._number)


class AfterRound(beam.DoFn):
    """Ends a round: keeps the best parameters, stops or goes on, and writes a checkpoint."""

    def __init__(self, run: TrainingRun):
        self._run = run

    def process(
        self,
        element: tuple[Standing, Epoch | None],
        losses: Iterable[tuple[int, tuple[float, float]]],
        plan: Plan | None,
    ) -> Iterator[Standing]:
        """Take what `Average` gives, give the state after the round."""
        standing, epoch = element
        if epoch is None:
            yield standing
            return
        validation = [loss for _, loss in sorted(losses)]
        standing = after(standing, validation or None, self._run.training, self._run.rounds)
        if plan is not None:
            self._run.keep(standing, plan)
        last = standing.validation_curve[-1] if validation else None
        log_epoch(epoch._replace(validation_loss=last))
        yield standing


class MakeModel(beam.DoFn):
    """Makes the model after the last round."""

    def __init__(self, run: TrainingRun):
        self._run = run

    def process(self, element: Standing, plan: Plan) -> Iterator[Trained]:
        """Take the last state, give the model."""
        yield trained(self._run, element, plan)


def marked(pair: tuple[int, bytes], mark: bytes) -> tuple[int, bytes]:
    """Return a shard and the bytes of an example, with a mark in front."""
    return pair[0], mark + pair[1]


class TrainAlone(beam.DoFn):
    """Runs all rounds of the only shard on one worker."""

    def __init__(self, run: TrainingRun):
        self._run = run

    def process(self, element: tuple[int, Iterable[bytes]], plan: Plan) -> Iterator[Trained]:
        """Take the shard, with the examples of the validation set marked; give the model."""
        run, data = self._run, element[1]
        progress = Throttle(PROGRESS_SECONDS, at_once=True)
        learned, held_back = (
            {0: Examples((each[1:] for each in data if each[:1] == mark), on_disk=True)}
            for mark in (LEARNED, VALIDATED_ON)
        )

        def done(standing: Standing, locals_: Any) -> None:
            run.keep(standing, plan)
            epoch = epoch_of(standing, locals_, run.training, run.rounds)
            if progress.ready() or epoch.epoch == epoch.epochs:
                log_epoch(epoch)

        def diverged(standing: Standing, error: DivergenceError) -> Standing:
            return run.stop(standing, error)

        standing = run.begin(plan)
        training, rounds = run.training, run.rounds
        standing = run_rounds(standing, learned, held_back, training, rounds, done, diverged)
        yield trained(run, standing, plan)


def trained(run: TrainingRun, standing: Standing, plan: Plan) -> Trained:
    """Return the model, and log a line about it."""
    model = model_of(standing, plan, run.training, run.rounds)
    logger.info(
        "trained %s on %d records of %d sequences: loss %.4f, kernel %s, digest %s",
        run.task.network.cell,
        model.training["records"],
        model.training["sequences"],
        model.training["loss_curve"][-1] if model.training["loss_curve"] else float("nan"),
        model.kernel,
        model.digest[:12],
    )
    warning = far_off(model.training)
    if warning:
        logger.warning("%s", warning)
    return model


def far_off(facts: Mapping[str, Any]) -> str | None:
    """Return a warning if the loss rose, or is far above that of predicting the mean.

        >>> far_off({"loss_curve": [0.5, 2.5], "settings": {}}).split(":")[0]
        'the loss rose from 0.5 to 2.5'
        >>> settings = {"loss": "mae", "scaler": "per_key", "scaling": "standard"}
        >>> far_off({"loss_curve": [4572.0, 2819.0], "settings": settings}).split(":")[0]
        'the loss is 2819, that of predicting the mean about 1'

    Args:
        facts: The facts about a model's training.
    """
    losses, settings = facts["loss_curve"], facts["settings"]
    if not losses:
        return None
    first, last = losses[0], losses[-1]
    if last > first + abs(first):
        return f"the loss rose from {first:.4g} to {last:.4g}: {ADVICE}"
    scaled = settings.get("scaler") != "none" and settings.get("scaling") != "robust"
    if scaled and settings.get("loss") in OF_SCALED_TARGETS and last > FAR:
        return f"the loss is {last:.4g}, that of predicting the mean about 1: {ADVICE}"
    return None


def log_epoch(epoch: Epoch) -> None:
    """Log a line; the first without a rate, since its time includes compiling."""
    logger.info(
        "epoch %d/%d  loss %.4f%s%s",
        epoch.epoch,
        epoch.epochs,
        epoch.loss,
        "" if epoch.validation_loss is None else f"  validation {epoch.validation_loss:.4f}",
        "" if epoch.epoch == 1 else f"  {epoch.records_per_second:,.0f} records/s",
    )
