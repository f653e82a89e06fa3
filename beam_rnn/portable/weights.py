"""The weights file that says, when a pipeline is built, what the fields of its rows are."""

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.models.keyed_models import Models
from beam_rnn.streaming.model_files import newest, read_model
from beam_rnn.transforms.arguments import path_of


def columns_of(model: Models) -> Columns:
    """Which fields of a record a model reads."""
    assert model.columns is not None, "a model without columns is refused when it is read"
    return model.columns


def model_of(weights: str) -> Models:
    """The model of a weights file, or of the last by name of a pattern.

    Raises:
        ConfigurationError: There is none where the pipeline is built.
        WeightsError: It cannot be used.
    """
    path = path_of("weights", weights)
    try:
        return read_model(newest(path))
    except OSError as error:
        raise ConfigurationError(
            f"there is no weights file {path!r} where the pipeline is built, by Beam YAML or by an "
            f"expansion service ({error}): it names the fields that come out. Train it first, or "
            "put it on a filesystem that both this machine and the workers see"
        ) from error
