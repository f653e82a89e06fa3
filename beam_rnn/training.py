"""The Beam side of training."""

import logging
import time
from collections.abc import Iterable, Iterator

import apache_beam as beam

from beam_rnn.batches import Sequence
from beam_rnn.errors import WeightsError
from beam_rnn.fit import Epoch, Training, fit
from beam_rnn.keyed import Models
from beam_rnn.model import Model
from beam_rnn.network import Network
from beam_rnn.storage import write_model

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 2.0
"""How long training is silent at the most, unless an epoch takes longer."""


class TrainModel(beam.DoFn):
    """Trains one model on one worker, and says how far it is in the log."""

    def __init__(self, network: Network, training: Training):
        self._network = network
        self._training = training

    def process(self, element: list[Sequence]) -> Iterator[Model]:
        """All sequences in, one model out."""
        model = fit(self._network, element, self._training, Progress())
        logger.info(
            "trained %s on %d records of %d keys: loss %.4f, kernel %s, digest %s",
            self._network.cell,
            model.training["records"],
            len(model.training["until"]),
            model.training["loss_curve"][-1],
            model.kernel,
            model.digest[:12],
        )
        yield model


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
        logger.info(
            "epoch %d/%d  loss %.4f%s  %s records/s",
            epoch.epoch,
            epoch.epochs,
            epoch.loss,
            "" if epoch.validation_loss is None else f"  validation {epoch.validation_loss:.4f}",
            f"{epoch.records_per_second:,.0f}",
        )


class WriteWeights(beam.DoFn):
    """Writes the one model of a window to its path."""

    def process(self, element: tuple[str, Iterable[Models]]) -> Iterator[str]:
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
