"""The Beam side of training: rounds of shards, which learn where they are.

What a runner gives a worker in one group is read one by
one, into a file of that worker: a worker holds a batch, not its shard.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from beam_rnn.core.errors import ADVICE, DivergenceError
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network
from beam_rnn.streaming.model_files import newest, read_any_model, read_bytes, write_bytes
from beam_rnn.training import checkpoint_format as checkpoints
from beam_rnn.training.example_store import Examples
from beam_rnn.training.fit import Epoch, epoch_of, first_divergence, run_rounds
from beam_rnn.training.plan import Plan
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

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 2.0
"""How long training is silent at the most, unless a round takes longer."""
PASSED_ON = "passed_on"
"""The output of a shard on its way to the next round."""
OF_SCALED_TARGETS = ("mae", "mse", "huber", "quantile")
"""The losses that are about 1 at the most for who says the mean of all targets, once scaled."""
FAR = 10.0
"""A loss of scaled targets from which on nothing can have been learned."""
LEARNED, JUDGED_BY = b"\0", b"\1"
"""The marks of examples where one worker has both."""


@dataclass(frozen=True)
class Task:
    """What is to be trained, and how: the same for all stages.

    Args:
        network: What to train.
        training: How.
        rounds: In what rounds.
        checkpoints: What the names of checkpoints begin with; None for none.
        resume: The checkpoint to go on from, or a pattern; None for none.
        start: The weights file to start from, or a pattern; None for none.
    """

    network: Network | EncoderDecoder
    training: Training
    rounds: Rounds
    checkpoints: str | None = None
    resume: str | None = None
    start: str | None = None

    def begin(self, plan: Plan) -> Standing:
        """Before the first round, or where a checkpoint stands."""
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
        """The examples of a shard on their way to the next round, if there is one."""
        if not standing.over and number < self.rounds.rounds_of(self.training):
            yield from (TaggedOutput(PASSED_ON, (shard[0], data)) for data in shard[1])

    def path(self, round_: int) -> str:
        """That of the checkpoint after a round."""
        return f"{self.checkpoints}-{round_:05d}.arrow"

    def keep(self, standing: Standing, plan: Plan) -> None:
        """Write a checkpoint after a round, if that is wanted."""
        if self.checkpoints is not None:
            data = checkpoints.to_bytes(standing, plan, self.training, self.rounds)
            write_bytes(data, self.path(standing.rounds))

    def stop(self, standing: Standing, error: DivergenceError) -> Standing:
        """The end of a training that diverged."""
        if self.checkpoints is not None and standing.rounds:
            kept = self.path(standing.rounds)
            error = error.placed(f"; the last good weights are in {kept!r}")
        logger.error("%s", error)
        if self.training.on_divergence == "error":
            raise error
        return standing._replace(over=str(error))


class Begin(beam.DoFn):
    """Before the first round."""

    def __init__(self, task: Task):
        self._task = task

    def process(self, element: Plan) -> Iterator[Standing]:
        """The plan in; where the training begins out."""
        yield self._task.begin(element)


class LearnLocally(beam.DoFn):
    """A round of one shard.

    The shard goes on to the next round from here, so that a runner keeps it once, not once for each
    round that there will be.
    """

    def __init__(self, task: Task, number: int):
        self._task = task
        self._number = number

    def process(self, element: tuple[int, Iterable[bytes]], standing: Standing) -> Iterator[Any]:
        """A shard in; what it learned out, and the shard."""
        shard, encoded = element
        if not standing.over and standing.rounds == self._number - 1:
            examples = Examples(encoded, on_disk=True)
            yield learn_locally(standing, shard, examples, self._task.training, self._task.rounds)
        yield from self._task.passed_on(element, standing, self._number)


class Average(beam.DoFn):
    """The parameters after a round, from what the shards learned."""

    def __init__(self, task: Task):
        self._task = task

    def process(self, element: Standing, learned: Iterable[Local]) -> Iterator[Any]:
        """Where the training stood in; where it stands out, and what to say of the round."""
        locals_ = list(learned)
        if not locals_:  # the round is not needed, or was done before
            yield element, None
            return
        diverged = first_divergence(locals_)
        if diverged is not None:
            yield self._task.stop(element, diverged), None
            return
        training, rounds = self._task.training, self._task.rounds
        standing = average(element, locals_, rounds)
        yield standing, epoch_of(standing, locals_, training, rounds)


class Judge(beam.DoFn):
    """The loss of what a shard holds back; that goes on, too."""

    def __init__(self, task: Task, number: int):
        self._task = task
        self._number = number

    def process(
        self, element: tuple[int, Iterable[bytes]], averaged: tuple[Standing, Any]
    ) -> Iterator[Any]:
        """A shard in; its number and its loss out, and the shard."""
        shard, encoded = element
        standing, epoch = averaged
        if epoch is not None:
            examples = Examples(encoded, on_disk=True)
            yield shard, judge(standing, examples, self._task.training)
        yield from self._task.passed_on(element, standing, self._number)


class AfterRound(beam.DoFn):
    """Whether a round was the best, and whether to go on; its checkpoint, and a line in the log."""

    def __init__(self, task: Task):
        self._task = task

    def process(
        self,
        element: tuple[Standing, Epoch | None],
        losses: Iterable[tuple[int, tuple[float, float]]],
        plan: Plan | None,
    ) -> Iterator[Standing]:
        """Where the training stands after `Average`, and after all."""
        standing, epoch = element
        if epoch is None:
            yield standing
            return
        validation = [loss for _, loss in sorted(losses)]
        standing = after(standing, validation or None, self._task.training, self._task.rounds)
        if plan is not None:
            self._task.keep(standing, plan)
        last = standing.validation_curve[-1] if validation else None
        say(epoch._replace(validation_loss=last))
        yield standing


class MakeModel(beam.DoFn):
    """The model of a training that is over."""

    def __init__(self, task: Task):
        self._task = task

    def process(self, element: Standing, plan: Plan) -> Iterator[Trained]:
        """Where the training ended in, the model out."""
        yield trained(self._task, element, plan)


def marked(pair: tuple[int, bytes], mark: bytes) -> tuple[int, bytes]:
    """A shard and the bytes of an example, marked as learned from or held back."""
    return pair[0], mark + pair[1]


class TrainAlone(beam.DoFn):
    """All rounds on one worker, for one shard."""

    def __init__(self, task: Task):
        self._task = task

    def process(self, element: tuple[int, Iterable[bytes]], plan: Plan) -> Iterator[Trained]:
        """The one shard in, what is held back marked as such; the model out."""
        task, data = self._task, element[1]
        progress = Progress()
        learned, judged_by = (
            {0: Examples((each[1:] for each in data if each[:1] == mark), on_disk=True)}
            for mark in (LEARNED, JUDGED_BY)
        )

        def done(standing: Standing, locals_: Any) -> None:
            task.keep(standing, plan)
            progress(epoch_of(standing, locals_, task.training, task.rounds))

        def diverged(standing: Standing, error: DivergenceError) -> Standing:
            return task.stop(standing, error)

        standing = task.begin(plan)
        training, rounds = task.training, task.rounds
        standing = run_rounds(standing, learned, judged_by, training, rounds, done, diverged)
        yield trained(task, standing, plan)


def trained(task: Task, standing: Standing, plan: Plan) -> Trained:
    """The model, and a line in the log."""
    model = model_of(standing, plan, task.training, task.rounds)
    logger.info(
        "trained %s on %d records of %d sequences: loss %.4f, kernel %s, digest %s",
        task.network.cell,
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
    """What to say of a loss that is far above where it began, or above that of the mean alone.

        >>> far_off({"loss_curve": [0.5, 2.5], "settings": {}}).split(":")[0]
        'the loss rose from 0.5 to 2.5'
        >>> settings = {"loss": "mae", "scaler": "per_key", "scaling": "standard"}
        >>> far_off({"loss_curve": [4572.0, 2819.0], "settings": settings}).split(":")[0]
        'the loss is 2819, that of the mean alone about 1'

    Args:
        facts: What a model says of its training.
    """
    losses, settings = facts["loss_curve"], facts["settings"]
    if not losses:
        return None
    first, last = losses[0], losses[-1]
    if last > first + abs(first):
        return f"the loss rose from {first:.4g} to {last:.4g}: {ADVICE}"
    scaled = settings.get("scaler") != "none" and settings.get("scaling") != "robust"
    if scaled and settings.get("loss") in OF_SCALED_TARGETS and last > FAR:
        return f"the loss is {last:.4g}, that of the mean alone about 1: {ADVICE}"
    return None


class Progress:
    """Logs the first and the last epoch, and between them one line every few seconds."""

    def __init__(self) -> None:
        self._said = float("-inf")

    def __call__(self, epoch: Epoch) -> None:
        """Called after each epoch."""
        now = time.monotonic()
        if now - self._said < PROGRESS_SECONDS and epoch.epoch != epoch.epochs:
            return
        self._said = now
        say(epoch)


def say(epoch: Epoch) -> None:
    """One line in the log; the first without a rate, since it has the time of compiling."""
    logger.info(
        "epoch %d/%d  loss %.4f%s%s",
        epoch.epoch,
        epoch.epochs,
        epoch.loss,
        "" if epoch.validation_loss is None else f"  validation {epoch.validation_loss:.4f}",
        "" if epoch.epoch == 1 else f"  {epoch.records_per_second:,.0f} records/s",
    )
