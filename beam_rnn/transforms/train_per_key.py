"""Sequences into a model for each key."""

from typing import Any

import apache_beam as beam
from apache_beam import PCollection

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.sequences import Sequence
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.training.task import Task, Trained
from beam_rnn.transforms.gathering import gathered
from beam_rnn.transforms.train_key_dofns import FitKey, JoinModels, fallback_row


def check_trained_where_it_lands(**settings: Any) -> None:
    """Check that `Train(per_key=True)` is given no argument of a training in rounds.

    Args:
        settings: The other arguments of `Train` by name; None or 1 if they are left out.

    Raises:
        ConfigurationError: One of them is given.
    """
    for name, value in settings.items():
        if value is not None and value != 1:
            raise ConfigurationError(
                f"{name}={value!r} is for one model that is trained in rounds; with per_key=True "
                f"one worker trains the whole model of a key: leave out {name}"
            )


class TrainEachKey(beam.PTransform):
    """Trains a model for each key, on the worker that has its group, and joins them to one object.

    Args:
        task: What to train, and how.
        fallback: Trains the model of every other key on all sequences; None for none.
    """

    def __init__(self, task: Task, fallback: beam.PTransform | None):
        super().__init__()
        self._fn = FitKey(task)
        self._fallback = fallback

    def expand(self, pcoll: PCollection[Sequence]) -> PCollection[KeyedModels]:
        """Group by key, fit, and join the rows."""
        keyed = pcoll | "KeyOf" >> beam.Map(_keyed).with_output_types(tuple[str, Sequence])
        rows = (
            keyed
            | "ByKey" >> beam.GroupByKey()
            | "FitKey" >> beam.ParDo(self._fn).with_output_types(bytes)
        )
        if self._fallback is not None:
            # `Train` may give a `Transducer` too, but not from sequences.
            row = beam.Map(fallback_row).with_input_types(Trained).with_output_types(bytes)
            fallback = pcoll | "Fallback" >> self._fallback | "FallbackRow" >> row
            rows = (rows, fallback) | "WithFallback" >> beam.Flatten()
        join = beam.ParDo(JoinModels()).with_output_types(KeyedModels)
        return rows | "GatherRows" >> gathered(pcoll) | "Join" >> join


def _keyed(sequence: Sequence) -> tuple[str, Sequence]:
    return sequence.key, sequence
