"""Models on any filesystem that Beam knows."""

import uuid
from typing import Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_rnn import weights
from beam_rnn.keyed import Models


def read_model(path: str) -> Any:
    """Read a weights file, a `Model` or `KeyedModels`; a local one through a memory map.

    Args:
        path: A path that Beam understands: local, gs://, s3:// and so on.

    Raises:
        WeightsError: The file is cut, altered, foreign, or of a newer version.
        OSError: There is no such file.
    """
    if FileSystems.get_scheme(path) is None:
        return weights.load(path)
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return weights.from_buffer(file.read(), path)


def write_model(model: Models, path: str) -> None:
    """Write a weights file: to a temporary name beside it, then renamed.

    Args:
        model: The model, or the models of keys.
        path: A path that Beam understands.
    """
    if FileSystems.get_scheme(path) is None:
        weights.save(model, path)
        return
    temporary = f"{path}.{uuid.uuid4().hex}"
    with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(weights.to_bytes(model))
    FileSystems.rename([temporary], [path])
