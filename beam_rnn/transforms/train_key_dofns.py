"""The DoFns that train a model for each key."""

import logging
from collections.abc import Iterable, Iterator, Mapping

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_rnn.core.errors import ConfigurationError, TrainingError
from beam_rnn.core.progress import Throttle
from beam_rnn.data.sequences import Sequence
from beam_rnn.models import keyed_weights_format as keyed_weights
from beam_rnn.models import weights_format as weights
from beam_rnn.models.keyed_models import KeyedModels
from beam_rnn.models.model import Model
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.task import Task

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 10.0
"""Seconds between two progress lines of a worker."""
REASONS_LOGGED = 20
"""The number of reasons that go to the log; all of them are in `KeyedModels.reasons`."""


class FitKey(beam.DoFn):
    """Trains the model of a key on its sequences alone.

    Gives its row, or a row with the reason why there is none, as bytes.
    """

    def __init__(self, task: Task):
        self._task = task
        self._with_model = Metrics.counter("beam_rnn", "keys_with_model")
        self._without_model = Metrics.counter("beam_rnn", "keys_without_model")

    def setup(self) -> None:
        """Start to count keys."""
        self._keys, self._progress = 0, Throttle(PROGRESS_SECONDS)

    def process(self, element: tuple[str, Iterable[Sequence]]) -> Iterator[bytes]:
        """Take a key and all its sequences, give its row."""
        key, sequences = element
        sequences = list(sequences)
        check_vocabularies(sequences)
        if self._progress.ready():
            logger.info("%d keys trained by this worker", self._keys)
        self._keys += 1
        try:
            model = fit_sequences(self._task.network, sequences, self._task.training)
        except TrainingError as error:
            self._without_model.inc()
            yield keyed_weights.encode_reason(key, str(error))
            return
        self._with_model.inc()
        yield keyed_weights.encode_model(key, model)


def check_vocabularies(sequences: Iterable[Sequence]) -> None:
    """Check that the symbols of all keys have the same indices.

    Raises:
        ConfigurationError: Each key would have a vocabulary of its own.
    """
    for sequence in sequences:
        if not sequence.columns.has_vocabularies:
            raise ConfigurationError(
                "per_key=True needs the same vocabularies for all keys: give those of symbols="
                f"{list(sequence.columns.symbols)} in Columns(vocabularies=...)"
            )


def fallback_row(model: Model) -> bytes:
    """Return the row of the fallback model."""
    return keyed_weights.encode_model(None, model)


class JoinModels(beam.DoFn):
    """Makes one `KeyedModels` from the rows of all keys, in any order."""

    def process(self, element: Iterable[bytes]) -> Iterator[KeyedModels]:
        """Take all rows, give the models."""
        models: KeyedModels = weights.from_buffer(keyed_weights.joined(element))
        logger.info(
            "trained %s for %d keys, %s: digest %s",
            models.network.cell,
            len(models.models),
            "without a fallback" if models.fallback is None else "and a fallback",
            models.digest[:12],
        )
        _log_reasons(models.reasons)
        yield models


def _log_reasons(reasons: Mapping[str, str]) -> None:
    """Log each reason once, with the keys that have it."""
    keys: dict[str, list[str]] = {}
    for key in sorted(reasons):
        keys.setdefault(reasons[key], []).append(key)
    for reason, those in list(keys.items())[:REASONS_LOGGED]:
        logger.warning(
            "%d keys have no model of their own, %r%s: %s",
            len(those),
            those[0],
            " and others" if len(those) > 1 else "",
            reason,
        )
    if len(keys) > REASONS_LOGGED:
        rest = len(keys) - REASONS_LOGGED
        logger.warning("%d more reasons are in KeyedModels.reasons", rest)
