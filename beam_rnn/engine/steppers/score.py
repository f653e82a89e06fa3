"""The errors of one key's forecast as anomaly scores, from records that are in order."""

from collections.abc import Sequence

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.floating_point import default_arithmetic
from beam_rnn.engine.stepper import Step, Stepper
from beam_rnn.models.error_tail import Surprise, Tail, observed, tail_probability
from beam_rnn.models.error_tail_format import Scored, decode_scored, encode_scored, nothing_scored
from beam_rnn.models.keyed_models import KeyedModels, Models
from beam_rnn.models.model import Model
from beam_rnn.nn.output_functions import OUTPUTS
from beam_rnn.records.record_format import decode_record, first_numbers
from beam_rnn.records.results import AnomalyScore, EndedSequence, Prediction


class Scorer:
    """What a model predicts of the next record, and how surprising that record then is.

    Args:
        model: The model.
        surprise: How its errors are judged.

    Raises:
        ConfigurationError: Its outputs are not a forecast of the next record's numbers.
    """

    def __init__(self, model: Model, surprise: Surprise):
        network, columns = model.network, model.columns
        assert columns is not None, "a model without columns is refused when it is loaded"
        columns.check_nothing_missing("what is scored")
        if not OUTPUTS[network.output].scaled:
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
        parts = network.parts
        part = 0 if "mean" in parts else len(parts) // 2  # the mean, or the middle quantile
        first = columns.horizons.index(1) * self.targets * len(parts) + part
        self._forecast = slice(first, first + self.targets * len(parts), len(parts))

    def predictions(self, outputs: Sequence[float]) -> tuple[float, ...]:
        """Return the part of outputs that predicts the targets of the next record."""
        return tuple(outputs[self._forecast])

    def values(self, record: bytes) -> list[float]:
        """Return the targets of a record."""
        numbers = decode_record(record).numbers
        return numbers[self._inputs : self._inputs + self.targets].tolist()

    def judged(self, scored: Scored, values: Sequence[float]) -> tuple[float, tuple[Tail, ...]]:
        """Return how probable errors as large as those of a record are, and the tails with them.

        Of several targets the least probable error counts, times the number of targets
        (Bonferroni).
        """
        if not scored.predictions:
            return 1.0, scored.tails
        errors = [value - y for value, y in zip(values, scored.predictions, strict=True)]
        tails = list(zip(scored.tails, errors, strict=True))
        probability = min(tail_probability(tail, error) for tail, error in tails)
        after = tuple(observed(tail, error, self._surprise) for tail, error in tails)
        return min(len(errors) * probability, 1.0), after


def scorer_of(models: Models, surprise: Surprise) -> Scorer:
    """Return what scores; of per-key models any one, since all read the same records.

    Raises:
        ConfigurationError: As for `Scorer`.
    """
    return Scorer(models.any if isinstance(models, KeyedModels) else models, surprise)


class ScoreStepper(Stepper):
    """Turns the predictions of another stepper into anomaly scores.

    Args:
        inner: What predicts the records of a key.
        scorer: What scores.
        numbers: The number of a record's numbers that `inner` takes, where the others are only for
            the scorer; None for all.
    """

    def __init__(self, inner: Stepper, scorer: Scorer, numbers: int | None):
        self.columns = inner.columns
        self._inner = inner
        self._scorer = scorer
        self._numbers = numbers

    @default_arithmetic()
    def step(
        self, key: str, data: bytes | None, records: Sequence[bytes]
    ) -> tuple[bytes | None, list[Step]]:
        """Return the state of a key after its next records, and their results."""
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
        """Return the last results of a key whose state is removed."""
        return self._inner.end(key, self._decoded(data).state, reason)

    def _decoded(self, data: bytes | None) -> Scored:
        targets = self._scorer.targets
        return nothing_scored(targets) if data is None else decode_scored(data, targets)

    def _score(
        self, scored: Scored, prediction: Prediction, record: bytes
    ) -> tuple[AnomalyScore, Scored]:
        """Return the score of a record, and what is kept for the next one.

        Args:
            scored: What was kept for this record.
            prediction: The prediction at this record, of the next one.
            record: This record.
        """
        values = self._scorer.values(record)
        probability, tails = self._scorer.judged(scored, values)
        row = AnomalyScore(
            key=prediction.key,
            time=prediction.time,
            step=prediction.step,
            values=values,
            predictions=list(scored.predictions),
            score=1 - probability,
            probability=probability,
            model=prediction.model,
            sequence=prediction.sequence,
            kernel=prediction.kernel,
        )
        return row, Scored(None, self._scorer.predictions(prediction.outputs), tails)

    def _ended(self, scored: Scored, ended: EndedSequence) -> Scored:
        """Return what is kept after a sequence: the error statistics, but nothing of an idle key.

        An idle key is forgotten as a whole, as it is when the watermark shows that it was idle.
        """
        if ended.reason == "idle":
            return nothing_scored(self._scorer.targets)
        return scored._replace(predictions=())
