"""The parameters of a model: their type, protection and digest."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.nn.network import Parameters


def check_types(parameters: Parameters) -> None:
    """Raise if the parameters do not share one type.

    Raises:
        ConfigurationError: They are neither all float32 nor all float64.
    """
    types = {str(value.dtype) for value in parameters.values()}
    if types not in ({"float32"}, {"float64"}):
        raise ConfigurationError(
            f"parameters must be all float32 or all float64, got {sorted(types)}"
        )


def frozen(parameters: Parameters) -> dict[str, Array]:
    """Return the parameters as read-only arrays."""
    views = {name: np.ascontiguousarray(value).view() for name, value in parameters.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def digest_of(description: Mapping[str, Any], parameters: Parameters) -> str:
    """Return the SHA-256 digest of a model, in hexadecimal.

    It covers the description (network, columns and scaler) as JSON, then the name, type, shape and
    little-endian bytes of each parameter.
    """
    sha = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, value in parameters.items():
        sha.update(f"\0{name}\0{value.dtype.name}\0{value.shape}\0".encode())
        sha.update(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    return sha.hexdigest()
