"""Models and checkpoints on any filesystem that Beam knows."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_rnn import checkpoints, weights
from beam_rnn.atomic import replacing
from beam_rnn.errors import NotWeightsError, WeightsError
from beam_rnn.keyed import Models
from beam_rnn.pairs.transducer import Transducer


def read_model(path: str) -> Any:
    """Read the `Model` or `KeyedModels` of a weights file, which step through sequences.

    Raises:
        WeightsError: The file is cut, altered, foreign, of a newer version, or holds an
            encoder-decoder.
        OSError: There is no such file.
    """
    model = read_any_model(path)
    if isinstance(model, Transducer):
        raise WeightsError(
            f"{path!r} holds an encoder-decoder, which turns whole sequences into others: "
            "Transduce uses it"
        )
    return model


def read_transducer(path: str) -> Transducer:
    """Read the encoder-decoder of a weights file.

    Raises:
        WeightsError: The file is cut, altered, foreign, of a newer version, or holds another
            network.
        OSError: There is no such file.
    """
    model = read_any_model(path)
    if not isinstance(model, Transducer):
        raise WeightsError(
            f"{path!r} holds {model.network}, which is no encoder-decoder: Predict uses it"
        )
    return model


def read_any_model(path: str) -> Any:
    """Read a weights file: a `Model`, `Transducer` or `KeyedModels`; of a checkpoint its best.

    A local file is read through a memory map.

    Args:
        path: A path that Beam understands: local, gs://, s3:// and so on.

    Raises:
        WeightsError: The file is cut, altered, foreign, or of a newer version.
        OSError: There is no such file.
    """
    try:
        if FileSystems.get_scheme(path) is None:
            return weights.load(path)
        return weights.from_buffer(read_bytes(path), path)
    except NotWeightsError:
        data = read_bytes(path)
        if not checkpoints.is_checkpoint(data):
            raise
        return checkpoints.from_bytes(data, path).model


def write_model(model: Models | Transducer, path: str) -> None:
    """Write a weights file: see `created`.

    Args:
        model: The model, or the models of keys.
        path: A path that Beam understands.

    Raises:
        WeightsError: The parameters are not float32.
        OSError: The file cannot be written.
    """
    write_bytes(weights.to_bytes(model), path)


def with_folder(pattern: str) -> str:
    """A pattern as Beam 2.77 finds files by it: one without a folder finds nothing.

    >>> with_folder("*.csv"), with_folder("data/*.csv"), with_folder("a.csv")
    ('./*.csv', 'data/*.csv', 'a.csv')
    """
    return f"./{pattern}" if any(c in pattern for c in "*?[") and "/" not in pattern else pattern


def newest(pattern: str) -> str:
    """The last by name of the files of a pattern.

    Raises:
        FileNotFoundError: There is none.
    """
    paths = [match.path for match in FileSystems.match([with_folder(pattern)])[0].metadata_list]
    if not paths:
        raise FileNotFoundError(f"there is no file {pattern!r}")
    return max(paths)


def read_bytes(path: str) -> bytes:
    """All bytes of a file."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        return file.read()


@contextmanager
def created(path: str, compression: str = CompressionTypes.UNCOMPRESSED) -> Iterator[BinaryIO]:
    """A file to write to, which gets its name when the block ends: all of it, or nothing.

    Args:
        path: A path that Beam understands. A file that is there is replaced; folders that are not
            there are made. A local one is written as `beam_rnn.atomic.replacing` says.
        compression: One of Beam's `CompressionTypes`.

    Raises:
        OSError: The file cannot be written; what was written of it is removed.
    """
    if FileSystems.get_scheme(path) is None:
        with (
            replacing(path) as temporary,
            FileSystems.create(temporary, compression_type=compression) as file,
        ):
            yield file
        return
    temporary = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with FileSystems.create(temporary, compression_type=compression) as file:
            yield file
        FileSystems.rename([temporary], [path])
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell
            FileSystems.delete([temporary])
        raise


def write_bytes(data: bytes, path: str) -> None:
    """Write a file: see `created`."""
    with created(path) as file:
        file.write(data)
