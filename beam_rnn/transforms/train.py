"""Sequences into a model."""

import os
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.pvalue import AsIter, AsSingleton

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.pair_columns import Pair
from beam_rnn.data.sequences import Sequence
from beam_rnn.nn.encoder_decoder import EncoderDecoder
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.training.plan import Plan, check_loss
from beam_rnn.training.rounds import Local, Standing, Trained
from beam_rnn.training.settings import Rounds, Training
from beam_rnn.training.survey import Facts, KeyFacts
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
    JUDGED_BY,
    LEARNED,
    PASSED_ON,
    AfterRound,
    Average,
    Begin,
    Judge,
    LearnLocally,
    MakeModel,
    Task,
    TrainAlone,
    marked,
)


class Train(beam.PTransform):
    """Learns a model from sequences, or from pairs of them, by back-propagation through time.

    With shards=1 one worker runs every epoch: exact mini-batch BPTT. With more, the sequences are
    dealt out to shards, which learn at the same time, each on a worker. After each round their
    parameters are averaged, and all shards go on from there. The same sequences, seed and number of
    shards give the same weights, bit for bit, on one worker or many, on every runner.

    A worker holds one batch in memory: its sequences are in a file of its own. How far the training
    is goes to the log of `beam_rnn.transforms.train_round_dofns`.

    With per_key=True each key gets a model of its own, trained on its sequences alone on whatever
    worker its group lands, with the bits of `beam_rnn.training.fit.fit`. The result is one
    `KeyedModels`. A key that cannot be learned from has no model: it is counted, and the log and
    `KeyedModels.reasons` say why.

    Args:
        network: What to train: a `Network` on sequences, an `EncoderDecoder` on pairs.
        training: How to train; `Training()` if left out.
        per_key: Train a model for each key; the result is `KeyedModels`.
        fallback: With per_key, train one on all keys too, for those that have none of their own.
        shards: How many workers can learn at the same time.
        rounds: How many rounds; as many as give the epochs of `training` if left out.
        local_epochs: How often a shard passes over its sequences in a round.
        outer: What takes the averaged change of a round as a gradient, such as
            `Sgd(1.0, momentum=0.5, nesterov=True)`; None for the average itself.
        checkpoints: After each round, write all that the training needs to go on to
            `<checkpoints>-<round>.arrow`, on any filesystem that Beam knows; None for none.
        resume: A checkpoint to go on from, or a pattern of which the last by name counts. The
            result has the bits of a training that was never interrupted.
        start: A weights file whose parameters to start from, or a pattern of which the last by
            name counts; None for parameters that the seed gives.

    Raises:
        ConfigurationError: An argument of another type or outside its range, or a loss that does
            not fit the network's output function.
    """

    def __init__(
        self,
        network: Network | EncoderDecoder,
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
        check_type("network", network, (Network, EncoderDecoder))
        check_type("training", training, Training)
        check_loss(network, training)
        if not fallback and not per_key:
            raise ConfigurationError(
                "fallback=False says that keys without a model of their own have none: it goes "
                "with per_key=True"
            )
        self._each_key: TrainEachKey | None = None
        if per_key:
            if not isinstance(network, Network):
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
            self._each_key = TrainEachKey(network, training, shared)
        self._task = Task(
            network,
            training,
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
    def expand(self, pcoll: PCollection[Sequence | Pair]):  # type: ignore[no-untyped-def] # noqa: ANN201
        """Plan, deal out, and train in rounds; or train each key's model where its group lands."""
        if self._each_key is not None:
            return pcoll | "EachKey" >> self._each_key
        split = self._split(pcoll)
        planned = self._plan(pcoll, split)
        task, plan = self._task, AsSingleton(planned)
        deal_out = beam.ParDo(DealOut(task.training, task.rounds.shards), split, plan)
        of_shards = tuple[int, bytes]
        typed = deal_out.with_output_types(of_shards, **{HELD_BACK: of_shards})
        dealt = pcoll | "DealOut" >> typed.with_outputs(HELD_BACK, main="learned")
        if task.rounds.shards == 1:
            return self._alone(dealt.learned, dealt[HELD_BACK], plan)
        return self._in_rounds(dealt.learned, dealt[HELD_BACK], planned)

    def _plan(self, pcoll: PCollection[Sequence], split: Any) -> PCollection[Plan]:
        """What is trained, and how what is learned from is scaled and dealt out."""
        task = self._task
        survey = beam.ParDo(Survey(task.network, task.training), split)
        plan = beam.ParDo(MakePlan(task.network, task.training))
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
        """One worker runs every epoch."""
        both = (
            learned | "MarkLearned" >> beam.Map(marked, LEARNED),
            held_back | "MarkHeldBack" >> beam.Map(marked, JUDGED_BY),
        )
        return (
            both
            | "Both" >> beam.Flatten()
            | "Shard" >> beam.GroupByKey()
            | "Fit" >> beam.ParDo(TrainAlone(self._task), plan).with_output_types(Trained)
        )

    def _in_rounds(
        self, learned: PCollection[Any], held_back: PCollection[Any], planned: PCollection[Plan]
    ) -> PCollection[Trained]:
        """The shards learn apart, and meet after each round."""
        task = self._task
        standing = planned | "Begin" >> beam.ParDo(Begin(task)).with_output_types(Standing)
        for number in range(1, task.rounds.rounds_of(task.training) + 1):
            before = standing, learned, held_back, planned
            standing, learned, held_back = before | f"Round {number}" >> _Round(task, number)
        model = beam.ParDo(MakeModel(task), AsSingleton(planned))
        return standing | "Model" >> model.with_output_types(Trained)

    def _split(self, pcoll: PCollection[Sequence]) -> Any:
        """Where the part that is held back begins: as a side input, if there is one."""
        training = self._task.training
        network = self._task.network
        if not training.validation or isinstance(network, EncoderDecoder):
            return NoSplit()  # which pairs are held back is a matter of their content
        some = pcoll | "Steps" >> beam.Filter(lambda sequence: len(sequence.times) > 0)
        if network.output_steps == "last":
            split = partial(split_by_end, fraction=training.validation)
            ends = some | "Ends" >> beam.Map(end_of)
            return AsSingleton(ends | "GatherEnds" >> gathered(pcoll) | "Split" >> beam.Map(split))
        return AsSingleton(
            some
            | "Times" >> beam.Map(lambda sequence: (sequence.key, sequence.times))
            | "TimesByKey" >> beam.GroupByKey()
            | "SplitTime" >> beam.Map(split_at, training.validation)
            | "GatherTimes" >> gathered(pcoll)
            | "Split" >> beam.Map(split_from)
        )


class _Round(beam.PTransform):
    """One round: every shard learns, then the parameters are averaged and judged."""

    def __init__(self, task: Task, number: int):
        super().__init__()
        self._task = task
        self._number = number

    # No annotation: Beam takes that of several collections for none.
    def expand(self, pcolls):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        """Where the training stands, what is learned from and judged by, and the plan."""
        task = self._task
        standing, learned, held_back, planned = pcolls
        learn = beam.ParDo(LearnLocally(task, self._number), AsSingleton(standing))
        learned = learned | "Shards" >> beam.GroupByKey() | "Learn" >> _passing_on(learn, Local)
        average = beam.ParDo(Average(task), _as_iter(learned.done, "Learned"))
        averaged = standing | "Average" >> average.with_output_types(tuple[Standing, Any])
        losses: Any = ()
        if task.training.validation:
            judge = beam.ParDo(Judge(task, self._number), AsSingleton(averaged))
            held_back = (
                held_back
                | "HeldBack" >> beam.GroupByKey()
                | "Judge" >> _passing_on(judge, tuple[int, Any])
            )
            losses = _as_iter(held_back.done, "Judged")
            held_back = held_back[PASSED_ON]
        plan = None if task.checkpoints is None else AsSingleton(planned)
        done = beam.ParDo(AfterRound(task), losses, plan)
        standing = averaged | "After" >> done.with_output_types(Standing)
        return standing, learned[PASSED_ON], held_back


def _passing_on(step: Any, kind: Any) -> Any:
    """What a shard is for in a round, with its results as `done` and itself as another output."""
    typed = step.with_output_types(kind, **{PASSED_ON: tuple[int, bytes]})
    return typed.with_outputs(PASSED_ON, main="done")


def _as_iter(done: PCollection[Any], label: str) -> AsIter:
    """What a step gives beside another output, as a side input.

    The BundleBasedDirectRunner of Beam 2.77 takes it for empty where it is such an output itself.
    """
    return AsIter(done | label >> beam.Map(lambda result: result))
