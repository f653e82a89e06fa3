"""The DoFns after training: write models to files, and give their losses as rows."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam

from beam_rnn.core.errors import WeightsError
from beam_rnn.models.weights_format import AnyModel
from beam_rnn.records.results import EpochLoss
from beam_rnn.training.model_files import write_model
from beam_rnn.training.task import Trained

logger = logging.getLogger(__name__)


def losses_of(model: Trained) -> Iterator[EpochLoss]:
    """Yield the losses of each epoch of a model's training."""
    curve = model.training.get("loss_curve", [])
    after_round = model.training.get("validation_curve", [])
    epochs = model.training.get("rounds", {}).get("local_epochs", 1)
    for i, loss in enumerate(curve):
        ends_round = (i + 1) % epochs == 0 and i // epochs < len(after_round)
        validation = after_round[i // epochs] if ends_round else None
        yield EpochLoss(model.digest, i + 1, loss, validation)


class NameModel(beam.DoFn):
    """Gives the path of each model; "{end}" in it is replaced by the end of the model's window."""

    def __init__(self, path: str):
        self._path = path

    def process(
        self, element: AnyModel, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[tuple[str, AnyModel]]:
        """Take a model, give its path and the model."""
        path = self._path
        if "{end}" in path:
            end = window.max_timestamp().to_utc_datetime()
            path = path.replace("{end}", end.strftime("%Y%m%dT%H%M%SZ"))
        yield path, element


class WriteWeights(beam.DoFn):
    """Writes the one model of a window to its path."""

    def process(self, element: tuple[str, Iterable[AnyModel]]) -> Iterator[str]:
        """Take a path and its model, give the path."""
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
