"""Models from the JSON values that describe them in a file."""

from collections.abc import Mapping
from typing import Any

from beam_rnn.core.errors import ConfigurationError, WeightsError
from beam_rnn.data.columns import Columns
from beam_rnn.data.pair_columns import PairColumns
from beam_rnn.data.scaling import Scaler
from beam_rnn.models.model import Model
from beam_rnn.models.transducer import Transducer
from beam_rnn.nn.cells import CELLS
from beam_rnn.nn.encoder_decoder import KIND, EncoderDecoder
from beam_rnn.nn.network import Network, Parameters


def check_sizes(facts: Mapping[str, Any], parameters: int, numbers: int) -> None:
    """Raise if a size in the description of a model is larger than its file allows.

    Args:
        facts: Network and columns, as JSON values.
        parameters: The number of parameters in the file.
        numbers: The number of numbers in them.

    Raises:
        ValueError: There are more layers, units, horizons or inputs than numbers in the file.
    """
    network, columns = facts["network"], facts["columns"] or {}
    most = {"layers": parameters, "hidden": numbers, "horizons": numbers, "embedding": numbers}
    named = [(name, network.get(name), limit) for name, limit in most.items()]
    named += [("vectors", size, numbers) for size in dict(columns.get("vectors", ())).values()]
    for name, size, limit in named:
        for each in size if isinstance(size, list) else [size]:
            if isinstance(each, (int, float)) and each > limit:
                raise ValueError(
                    f"{name}={each!r} needs more than the {numbers} numbers of the "
                    f"{parameters} parameters in the file"
                )


def network_of(values: Mapping[str, Any]) -> Any:
    """Return the `Network` or `EncoderDecoder` of a file.

    Raises:
        WeightsError: Its cell is not in `CELLS`.
    """
    if values["cell"] not in CELLS:
        raise WeightsError(
            f"the network has the cell {values['cell']!r}, but beam_rnn.cells.CELLS has "
            f"{', '.join(CELLS)}: import the module that registers it"
        )
    settings = dict(values)
    if settings.pop("kind", None) == KIND:
        return EncoderDecoder(**settings)
    return Network(**{"residual": False, **settings})


def model_of(values: Mapping[str, Any], parameters: Parameters, training: Mapping[str, Any]) -> Any:
    """Return the `Model` or `Transducer` of a file.

    Args:
        values: Its network, columns and scaler, as from `to_json`.
        parameters: Its parameters.
        training: The facts about its training.

    Raises:
        WeightsError: Its cell is not in `CELLS`.
        ConfigurationError: The values and parameters do not fit each other.
    """
    if not isinstance(training, Mapping):
        raise ConfigurationError(
            f"the facts about the training must be a mapping, got {training!r}"
        )
    network = network_of(values["network"])
    columns, scaler = values["columns"], values["scaler"]
    if isinstance(network, EncoderDecoder):
        return Transducer(network, parameters, PairColumns(**columns), training)
    return Model(
        network,
        parameters,
        columns and Columns(**columns),
        scaler and Scaler.from_json(scaler),
        training,
    )
