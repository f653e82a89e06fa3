"""Train a model on sequences, or on pairs of them."""

import os
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.pvalue import AsIter, AsSingleton

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.sequences import Sequence
from beam_rnn.nn.encoder_decoder import AnyNetwork
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.training.plan import Plan, task_of
from beam_rnn.training.rounds import Local, Standing
from beam_rnn.training.settings import Rounds, Training
from beam_rnn.training.survey import Facts, KeyFacts
from beam_rnn.training.task import Item, Trained
from beam_rnn.training.validation import NoSplit, end_of, split_by_end
from beam_rnn.transforms.arguments import check_type, path_of
from beam_rnn.transforms.gathering import gathered
from beam_rnn.transforms.train_per_key import TrainEachKey, check_trained_where_it_lands
from beam_rnn.transforms.train_plan_dofns import (
    HELD_BACK,
    DealOut,
    MakePlan,
    Survey,
    facts_of_key,
    split_at,
    split_from,
)
from beam_rnn.transforms.train_round_dofns import (
    LEARNED,
    PASSED_ON,
    VALIDATED_ON,
    AfterRound,
    Average,
    Begin,
    Judge,
    LearnLocally,
    MakeModel,
    TrainAlone,
    TrainingRun,
    marked,
)


class Train(beam.PTransform):
    """Trains a model on sequences, or on pairs of them, by back-propagation through time.

    With shards=1 one worker runs every epoch: exact mini-batch BPTT. With more, the sequences are
    distributed over shards, which learn in parallel, each on a worker. After each round their
    parameters are averaged, and all shards continue from the average. The same sequences, seed and
    number of shards give the same weights, bit for bit, on one worker or many, on every runner.

    A worker holds one batch in memory: its sequences are in a file of its own. Progress is logged
    by the logger "beam_rnn".

    With per_key=True each key gets a model of its own, trained on its sequences alone, with the
    same bits as `beam_rnn.fit`; the keys are distributed over the workers. The result
    is one `KeyedModels`. A key that cannot be trained on has no model: it is counted, and the log
    and `KeyedModels.reasons` give the reason.

    Args:
        network: What to train: a `Network` on sequences, an `EncoderDecoder` on pairs.
        training: How to train; default `Training()`.
        per_key: Train a model for each key; the result is `KeyedModels`.
        fallback: With per_key, also train a model on all keys, for those without their own.
        shards: The number of workers that can learn in parallel.
        rounds: The number of rounds; by default as many as give the epochs of `training`.
        local_epochs: The number of passes over its sequences that a shard makes in a round.
        outer: The outer optimiser: it takes the averaged change of a round as a gradient, such as
            `Sgd(1.0, momentum=0.5, nesterov=True)`; None for the average itself.
        checkpoints: After each round, write a checkpoint to `<checkpoints>-<round>.arrow`, on any
            filesystem that Beam knows; None for none.
        resume: A checkpoint to resume from, or a pattern, whose last file by name is taken. The
            result has the same bits as a training without interruption.
        start: A weights file whose parameters to start from, or a pattern, whose last file by name
            is taken; None for parameters that the seed gives.

    Raises:
        ConfigurationError: An argument of a wrong type or outside its range, or a loss that does
            not fit the network's output function.
    """

    def __init__(
        self,
        network: AnyNetwork,
        training: Training | None = None,
        *,
        per_key: bool = False,
        fallback: bool = True,
        shards: int = 1,
        rounds: int | None = None,
        local_epochs: int = 1,
        outer: Optimizer | None = None,
        checkpoints: str | os.PathLike[str] | None = None,
        resume: str | os.PathLike[str] | None = None,
        start: str | os.PathLike[str] | None = None,
    ):
        super().__init__()
        training = training or Training()
        check_type("training", training, Training)
        task = task_of(network, training)
        if not fallback and not per_key:
            raise ConfigurationError(
                "fallback=False leaves keys without a model of their own with none: it goes with "
                "per_key=True"
            )
        self._each_key: TrainEachKey | None = None
        if per_key:
            if not task.per_key:
                raise ConfigurationError(
                    f"per_key=True is for a Network on sequences, got {network}"
                )
            check_trained_where_it_lands(
                shards=shards,
                rounds=rounds,
                local_epochs=local_epochs,
                outer=outer,
                checkpoints=checkpoints,
                resume=resume,
                start=start,
            )
            shared = Train(network, training) if fallback else None
            self._each_key = TrainEachKey(task, shared)
        self._run = TrainingRun(
            task,
            Rounds(shards, rounds, local_epochs, outer),
            *(
                None if path is None else path_of(name, path)
                for name, path in (
                    ("checkpoints", checkpoints),
                    ("resume", resume),
                    ("start", start),
                )
            ),
        )

    # No return annotation: Beam takes one for all, and there are two types.
    def expand(self, pcoll: PCollection[Item]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Plan, distribute the examples, and train in rounds; or train a model for each key."""
        if self._each_key is not None:
            return pcoll | "EachKey" >> self._each_key
        split = self._split(pcoll)
        planned = self._plan(pcoll, split)
        plan, shards = AsSingleton(planned), self._run.rounds.shards
        deal_out = beam.ParDo(DealOut(self._run.task, shards), split, plan)
        of_shards = tuple[int, bytes]
        typed = deal_out.with_output_types(of_shards, **{HELD_BACK: of_shards})
        dealt = pcoll | "DealOut" >> typed.with_outputs(HELD_BACK, main="learned")
        if shards == 1:
            return self._alone(dealt.learned, dealt[HELD_BACK], plan)
        return self._in_rounds(dealt.learned, dealt[HELD_BACK], planned)

    def _plan(self, pcoll: PCollection[Sequence], split: Any) -> PCollection[Plan]:
        """Make the plan from the facts of all items."""
        survey = beam.ParDo(Survey(self._run.task), split)
        plan = beam.ParDo(MakePlan(self._run.task))
        return (
            pcoll
            | "Survey" >> survey.with_output_types(tuple[str, Facts])
            | "FactsByKey" >> beam.GroupByKey()
            | "FactsOfKey" >> beam.Map(facts_of_key).with_output_types(KeyFacts)
            | "GatherFacts" >> gathered(pcoll)
            | "Plan" >> plan.with_output_types(Plan)
        )

    def _alone(
        self, learned: PCollection[Any], held_back: PCollection[Any], plan: AsSingleton
    ) -> PCollection[Trained]:
        """Run every epoch on one worker."""
        both = (
            learned | "MarkLearned" >> beam.Map(marked, LEARNED),
            held_back | "MarkHeldBack" >> beam.Map(marked, VALIDATED_ON),
        )
        return (
            both
            | "Both" >> beam.Flatten()
            | "Shard" >> beam.GroupByKey()
            | "Fit" >> beam.ParDo(TrainAlone(self._run), plan).with_output_types(Trained)
        )

    def _in_rounds(
        self, learned: PCollection[Any], held_back: PCollection[Any], planned: PCollection[Plan]
    ) -> PCollection[Trained]:
        """Let the shards learn, and average their parameters after each round."""
        run = self._run
        standing = planned | "Begin" >> beam.ParDo(Begin(run)).with_output_types(Standing)
        for number in range(1, run.rounds.rounds_of(run.training) + 1):
            before = standing, learned, held_back, planned
            standing, learned, held_back = before | f"Round {number}" >> _Round(run, number)
        model = beam.ParDo(MakeModel(run), AsSingleton(planned))
        return standing | "Model" >> model.with_output_types(Trained)

    def _split(self, pcoll: PCollection[Sequence]) -> Any:
        """Split off the validation set: a side input, if one is needed."""
        task, fraction = self._run.task, self._run.training.validation
        if task.split_by == "none":
            return NoSplit()
        some = pcoll | "Steps" >> beam.Filter(task.has_steps)
        if task.split_by == "end":
            split = partial(split_by_end, fraction=fraction)
            ends = some | "Ends" >> beam.Map(end_of)
            return AsSingleton(ends | "GatherEnds" >> gathered(pcoll) | "Split" >> beam.Map(split))
        return AsSingleton(
            some
            | "Times" >> beam.Map(lambda sequence: (sequence.key, sequence.times))
            | "TimesByKey" >> beam.GroupByKey()
            | "SplitTime" >> beam.Map(split_at, fraction)
            | "GatherTimes" >> gathered(pcoll)
            | "Split" >> beam.Map(split_from)
        )


class _Round(beam.PTransform):
    """One round: every shard learns, the parameters are averaged, and the loss is validated."""

    def __init__(self, run: TrainingRun, number: int):
        super().__init__()
        self._run = run
        self._number = number

    # No annotation: Beam takes that of several collections for none.
    def expand(self, pcolls):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        """Take the state, the examples, the validation set and the plan."""
        run = self._run
        standing, learned, held_back, planned = pcolls
        learn = beam.ParDo(LearnLocally(run, self._number), AsSingleton(standing))
        learned = learned | "Shards" >> beam.GroupByKey() | "Learn" >> _passing_on(learn, Local)
        average = beam.ParDo(Average(run), _as_iter(learned.done, "Learned"))
        averaged = standing | "Average" >> average.with_output_types(tuple[Standing, Any])
        losses: Any = ()
        if run.training.validation:
            judge = beam.ParDo(Judge(run, self._number), AsSingleton(averaged))
            held_back = (
                held_back
                | "HeldBack" >> beam.GroupByKey()
                | "Judge" >> _passing_on(judge, tuple[int, Any])
            )
            losses = _as_iter(held_back.done, "Judged")
            held_back = held_back[PASSED_ON]
        plan = None if run.checkpoints is None else AsSingleton(planned)
        done = beam.ParDo(AfterRound(run), losses, plan)
        standing = averaged | "After" >> done.with_output_types(Standing)
        return standing, learned[PASSED_ON], held_back


def _passing_on(step: Any, kind: Any) -> Any:
    """Return a step with its results as `done`, and the shard itself as another output."""
    typed = step.with_output_types(kind, **{PASSED_ON: tuple[int, bytes]})
    return typed.with_outputs(PASSED_ON, main="done")


def _as_iter(done: PCollection[Any], label: str) -> AsIter:
    """Return the main output of a step as a side input.

    The BundleBasedDirectRunner of Beam 2.77 takes one of several outputs of a step for empty.
    """
    return AsIter(done | label >> beam.Map(lambda result: result))
