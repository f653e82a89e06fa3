"""The Beam side of models that are trained: their files, and their losses as rows."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam_rnn.core.errors import WeightsError
from beam_rnn.models.keyed_models import Models
from beam_rnn.models.transducer import Transducer
from beam_rnn.records.results import EpochLoss
from beam_rnn.streaming.model_files import write_model
from beam_rnn.training.rounds import Trained

logger = logging.getLogger(__name__)


def losses_of(model: Trained) -> Iterator[EpochLoss]:
    """The losses of each epoch of a model's training."""
    curve = model.training.get("loss_curve", [])
    after_round = model.training.get("validation_curve", [])
    epochs = model.training.get("rounds", {}).get("local_epochs", 1)
    for i, loss in enumerate(curve):
        asked = (i + 1) % epochs == 0 and i // epochs < len(after_round)
        yield EpochLoss(model.digest, i + 1, loss, after_round[i // epochs] if asked else None)


class NameModel(beam.DoFn):
    """The path of each model, where "{end}" stands for the end of its window."""

    def __init__(self, path: str):
        self._path = path

    def process(
        self, element: Models | Transducer, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[tuple[str, Models | Transducer]]:
        """A model in, its path and itself out."""
        path = self._path
        if "{end}" in path:
            end = window.max_timestamp().to_utc_datetime()
            path = path.replace("{end}", end.strftime("%Y%m%dT%H%M%SZ"))
        yield path, element


class WriteWeights(beam.DoFn):
    """Writes the one model of a window to its path."""

    def process(self, element: tuple[str, Iterable[Models | Transducer]]) -> Iterator[str]:
        """A path and its model in, the path out."""
        path, models = element[0], list(element[1])
        if len(models) > 1:
            digests = ", ".join(sorted(model.digest[:12] for model in models))
            raise WeightsError(
                f"{len(models)} models ({digests}) would overwrite each other in {path!r}: "
                "write each to a path of its own"
            )
        write_model(models[0], path)
        logger.info("wrote %s", path)
        yield path
