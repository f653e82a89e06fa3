"""What makes the steppers on a worker, from models that are loaded there.

A source is pickled with its DoFn. The DoFn calls `stepper` once in `setup`, `refresh` at the
beginning of each bundle, and `use` with the paths of `Predict(models=...)`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from beam_rnn.core.errors import WeightsError
from beam_rnn.data.columns import Columns
from beam_rnn.engine.stepper import Stepper
from beam_rnn.engine.steppers.last_records import LastRecordsStepper
from beam_rnn.engine.steppers.learn import LearnStepper
from beam_rnn.engine.steppers.predict import Policy, PredictStepper
from beam_rnn.engine.steppers.score import Scorer, ScoreStepper, scorer_of
from beam_rnn.engine.steppers.smooth import SmoothStepper
from beam_rnn.models.error_tail import Surprise
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.model import Model
from beam_rnn.records.column_reader import ColumnReader
from beam_rnn.streaming.metrics import BeamCounters
from beam_rnn.streaming.model_loader import ModelLoader
from beam_rnn.training.online.settings import Learning, Untrained


class StepperSource(Protocol):
    """Makes a stepper on a worker."""

    def stepper(self) -> Stepper:
        """Return a new stepper; models are loaded once a process."""

    def refresh(self) -> None:
        """Look for a newer model, if it is time; a bundle begins."""

    def use(self, models: Iterable[str]) -> None:
        """Take the last of these weights files, by name, as the newest model."""


@dataclass(frozen=True)
class PredictSource:
    """Makes a `PredictStepper`.

    Args:
        loader: Where the models come from.
        policy: What happens to a sequence.
    """

    loader: ModelLoader
    policy: Policy

    def stepper(self) -> PredictStepper:
        """Return a new stepper; models are loaded once a process."""
        return PredictStepper(self.loader.library(), self.policy, BeamCounters())

    def refresh(self) -> None:
        """Look for a newer model, if it is time, and count what was loaded."""
        self.loader.start_bundle()

    def use(self, models: Iterable[str]) -> None:
        """Take the last of these weights files, by name, as the newest model."""
        self.loader.library().use(models)


@dataclass(frozen=True)
class SmoothSource:
    """Makes a `SmoothStepper`.

    Args:
        loader: Where the models come from.
        lag: The number of further records that an output waits for.
        idle_after: When a sequence ends, in microseconds; None for never.
    """

    loader: ModelLoader
    lag: int
    idle_after: int | None

    def stepper(self) -> SmoothStepper:
        """Return a new stepper; models are loaded once a process."""
        return SmoothStepper(self.loader.library(), self.lag, self.idle_after, BeamCounters())

    def refresh(self) -> None:
        """Count what was loaded."""
        self.loader.start_bundle()

    def use(self, models: Iterable[str]) -> None:
        """Ignore them: the model stays as it is."""


@dataclass(frozen=True)
class Base:
    """Where a base model comes from, on a worker.

    Args:
        source: A weights file, or a model that has learned nothing yet.
        kernel: What computes: see `beam_rnn.nn.kernels.KERNELS`.
    """

    source: ModelLoader | Untrained
    kernel: str

    def model(self) -> Model:
        """Return the base model.

        Raises:
            WeightsError: The file holds per-key models.
        """
        if isinstance(self.source, Untrained):
            return self.source.model(self.kernel)
        newest = self.source.library().newest
        if not isinstance(newest, Model):
            raise WeightsError(
                f"{self.source.pattern!r} holds models of {len(newest.models)} keys, what is "
                "learned in the stream begins from one model: give the file of one"
            )
        return newest

    def refresh(self) -> None:
        """Count the load of a weights file."""
        if isinstance(self.source, ModelLoader):
            self.source.start_bundle()

    def reader(self) -> ColumnReader:
        """Return what reads records with their targets."""
        columns = _columns_of(self.model())
        columns.check_nothing_missing("what is learned in the stream")
        return ColumnReader(columns, targets=True)


@dataclass(frozen=True)
class LearnSource:
    """Makes a `LearnStepper`; the arguments are those of that, and the base model."""

    base: Base
    learning: Learning
    idle_after: int | None
    checkpoint_every: int | None

    def stepper(self) -> LearnStepper:
        """Return a new stepper; the base model is loaded once a process."""
        return LearnStepper(
            self.base.model(), self.learning, self.idle_after, self.checkpoint_every, BeamCounters()
        )

    def refresh(self) -> None:
        """Count what was loaded."""
        self.base.refresh()

    def use(self, models: Iterable[str]) -> None:
        """Ignore them: the base model stays as it is."""


@dataclass(frozen=True)
class ScoreSource:
    """Makes a `ScoreStepper`.

    Args:
        inner: Makes what predicts.
        surprise: How its errors are judged.
    """

    inner: PredictSource | LearnSource
    surprise: Surprise

    def stepper(self) -> ScoreStepper:
        """Return a new stepper; models are loaded once a process."""
        learns = isinstance(self.inner, LearnSource)
        numbers = None if learns else _columns_of(self._models()).number_size
        return ScoreStepper(self.inner.stepper(), self.scorer(), numbers)

    def refresh(self) -> None:
        """Look for a newer model, if it is time, and count what was loaded."""
        self.inner.refresh()

    def use(self, models: Iterable[str]) -> None:
        """As the source of what predicts."""
        self.inner.use(models)

    def scorer(self) -> Scorer:
        """Return what scores."""
        return scorer_of(self._models(), self.surprise)

    def reader(self) -> ColumnReader:
        """Return what reads records with their targets; weights are only for what learns."""
        columns = _columns_of(self._models())
        if not isinstance(self.inner, LearnSource):
            columns = replace(columns, weight=None)
        return ColumnReader(columns, targets=True)

    def _models(self) -> Models:
        if isinstance(self.inner, LearnSource):
            return self.inner.base.model()
        return self.inner.loader.library().newest


@dataclass(frozen=True)
class LastRecordsSource:
    """Makes a `LastRecordsStepper`; the arguments are those of that."""

    columns: Columns
    length: int
    idle_after: int | None

    def stepper(self) -> LastRecordsStepper:
        """Return a new stepper."""
        return LastRecordsStepper(self.columns, self.length, self.idle_after, BeamCounters())

    def refresh(self) -> None:
        """Do nothing: nothing is loaded."""

    def use(self, models: Iterable[str]) -> None:
        """Do nothing: nothing is loaded."""


def _columns_of(models: Models) -> Columns:
    """Return how records are read for models."""
    assert models.columns is not None, "a model without columns is refused when it is loaded"
    return models.columns
