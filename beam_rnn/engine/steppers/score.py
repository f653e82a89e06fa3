"""The errors of one key's forecast as anomaly scores, from records that are in order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.data.columns import Columns
from beam_rnn.engine.stepper import Step, Stepping
from beam_rnn.engine.steppers.learn import LearnSteps
from beam_rnn.engine.steppers.predict import PredictSteps
from beam_rnn.models.error_tail import Surprise, Tail, observed, tail_probability
from beam_rnn.models.error_tail_format import Scored, decode_scored, encode_scored, nothing_scored
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.models.model import Model
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.records.record_format import decode_record, first_numbers
from beam_rnn.records.results import AnomalyScore, EndedSequence, Prediction


class Scorer:
    """What a model says of the next record, and how surprising that record is then.

    Args:
        model: The model.
        surprise: How its errors are judged.

    Raises:
        ConfigurationError: Its outputs are no forecast of the next record's numbers.
    """

    def __init__(self, model: Model, surprise: Surprise):
        network, columns = model.network, model.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        columns.check_nothing_missing("what is scored")
        if not network.distribution.scaled:
            raise ConfigurationError(
                "an anomaly score needs forecasts of numbers, whose errors have a size; got a "
                f"network with output={network.output!r}"
            )
        if 1 not in columns.horizons:
            raise ConfigurationError(
                "an anomaly score needs a forecast of the next record, horizon=1; got "
                f"horizon={columns.horizon!r}"
            )
        self._surprise = surprise
        self._inputs, self.targets = columns.number_size, columns.target_size
        self._distribution = network.distribution
        each = self.targets * len(network.parts)
        first = columns.horizons.index(1) * each
        self._next = slice(first, first + each)

    def predictions(self, outputs: Sequence[float]) -> tuple[float, ...]:
        """What outputs say of the targets of the next record."""
        y = np.array(outputs[self._next]).reshape(self.targets, -1)
        return tuple(self._distribution.point(y).tolist())

    def values(self, record: bytes) -> list[float]:
        """The targets of a record."""
        numbers = decode_record(record).numbers
        return numbers[self._inputs : self._inputs + self.targets].tolist()

    def judged(self, scored: Scored, values: Sequence[float]) -> tuple[float, tuple[Tail, ...]]:
        """How probable errors as large as those of a record are, and what is known with them.

        Of several targets the least probable error counts; that one of n is as improbable is n
        times as probable (Bonferroni).
        """
        if not scored.predictions:
            return 1.0, scored.tails
        errors = [value - said for value, said in zip(values, scored.predictions, strict=True)]
        tails = list(zip(scored.tails, errors, strict=True))
        probability = min(tail_probability(tail, error) for tail, error in tails)
        after = tuple(observed(tail, error, self._surprise) for tail, error in tails)
        return min(len(errors) * probability, 1.0), after


def scorer_of(models: Models, surprise: Surprise) -> Scorer:
    """What scores: of models of keys, one of them says how all are read.

    Raises:
        ConfigurationError: As for `Scorer`.
    """
    return Scorer(models.any if isinstance(models, KeyedModels) else models, surprise)


class ScoringStepper:
    """Scores the records of a key by what predicts them: its predictions become anomaly scores.

    Args:
        inner: What predicts: a `beam_rnn.engine.steppers.predict.Stepper`, or a
            `beam_rnn.engine.steppers.learn.LearningStepper`.
        scorer: What scores.
        numbers: How many numbers of a record it takes, the others are for the scorer alone; None
            for all.
    """

    def __init__(self, inner: Stepping, scorer: Scorer, numbers: int | None):
        self.columns = inner.columns
        self._inner = inner
        self._scorer = scorer
        self._numbers = numbers

    def refresh(self) -> None:
        """A bundle begins."""
        self._inner.refresh()

    def use(self, models: Iterable[str]) -> None:
        """These are the models there are."""
        self._inner.use(models)

    @default_arithmetic()
    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """The state after the records, and what came of them."""
        scored = self._decoded(data)
        taken = records
        if self._numbers is not None:
            taken = [first_numbers(record, self._numbers) for record in records]
        state, steps = self._inner.step(key, scored.state, taken)
        results = []
        for step in steps:
            result = step.result
            if isinstance(result, Prediction):
                result, scored = self._score(scored, result, records[step.record])
            elif isinstance(result, EndedSequence):
                scored = self._ended(scored, result)
            results.append(step._replace(result=result))
        return encode_scored(scored._replace(state=state)), results

    def end(self, key: str, data: bytes | None, reason: str) -> list[Step]:
        """What comes of a key whose state is removed."""
        return self._inner.end(key, self._decoded(data).state, reason)

    def _decoded(self, data: bytes | None) -> Scored:
        targets = self._scorer.targets
        return nothing_scored(targets) if data is None else decode_scored(data, targets)

    def _score(
        self, scored: Scored, said: Prediction, record: bytes
    ) -> tuple[AnomalyScore, Scored]:
        """The score of a record, and what is kept for the next one.

        Args:
            scored: What was kept for this one.
            said: What was said at this record, of the next one.
            record: This record.
        """
        values = self._scorer.values(record)
        probability, tails = self._scorer.judged(scored, values)
        row = AnomalyScore(
            said.key,
            said.time,
            said.step,
            values,
            list(scored.predictions),
            1 - probability,
            probability,
            said.model,
            said.sequence,
            said.kernel,
        )
        return row, Scored(None, self._scorer.predictions(said.outputs), tails)

    def _ended(self, scored: Scored, ended: EndedSequence) -> Scored:
        """What is kept after a sequence: what is known of errors, but of an idle key nothing.

        An idle key is forgotten as a whole, as it is when the watermark says so.
        """
        if ended.reason == "idle":
            return nothing_scored(self._scorer.targets)
        return scored._replace(predictions=())


@dataclass(frozen=True)
class ScoreSteps:
    """Makes a `ScoringStepper` on a worker.

    Args:
        steps: What predicts.
        surprise: How its errors are judged.
    """

    steps: PredictSteps | LearnSteps
    surprise: Surprise

    def stepper(self) -> ScoringStepper:
        """A new one."""
        numbers = None if isinstance(self.steps, LearnSteps) else self._columns().number_size
        return ScoringStepper(self.steps.stepper(), self.scorer(), numbers)

    def scorer(self) -> Scorer:
        """What scores."""
        return scorer_of(self._models(), self.surprise)

    def reader(self) -> ColumnReader:
        """What reads records with their targets; weights are for what learns."""
        columns = self._columns()
        if not isinstance(self.steps, LearnSteps):
            columns = replace(columns, weight=None)
        return ColumnReader(columns, targets=True)

    def _models(self) -> Models:
        steps = self.steps
        if isinstance(steps, LearnSteps):
            return steps.base.model()
        return steps.loader.library().newest

    def _columns(self) -> Columns:
        columns = self._models().columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        return columns
