"""Models and checkpoints on any filesystem that Beam knows."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_rnn.core.atomic_files import replacing
from beam_rnn.core.errors import CheckpointError, ConfigurationError, NotWeightsError, WeightsError
from beam_rnn.models import weights_format as weights
from beam_rnn.training import checkpoint_format as checkpoints


def read_model(path: str) -> Any:
    """Read the `Model` or `KeyedModels` of a weights file, which step through sequences.

    Raises:
        WeightsError: The file is truncated, altered, foreign, of a newer version, or holds an
            encoder-decoder.
        OSError: There is no such file.
    """
    model = read_any_model(path)
    if not model.stepwise:
        raise WeightsError(
            f"{path!r} holds an encoder-decoder, which reads whole sequences: use Transduce"
        )
    return model


def read_transducer(path: str) -> Any:
    """Read the `Transducer` of a weights file.

    Raises:
        WeightsError: The file is truncated, altered, foreign, of a newer version, or holds another
            network.
        OSError: There is no such file.
    """
    model = read_any_model(path)
    if model.stepwise:
        raise WeightsError(f"{path!r} holds {model.network}, not an encoder-decoder: use Predict")
    return model


def read_any_model(path: str) -> Any:
    """Read a weights file: a `Model`, `Transducer` or `KeyedModels`; of a checkpoint its best.

    All of it is read into memory.

    Args:
        path: A path that Beam understands: local, gs://, s3:// and so on.

    Raises:
        WeightsError: The file is truncated, altered, foreign, or of a newer version.
        OSError: There is no such file.
    """
    local = FileSystems.get_scheme(path) is None
    data = weights.read(path) if local else read_bytes(path)
    if checkpoints.is_checkpoint(data):
        try:
            return checkpoints.from_bytes(data, path).model
        except CheckpointError as error:
            raise NotWeightsError(str(error)) from error
    return weights.from_buffer(data, path)


def write_model(model: weights.AnyModel, path: str) -> None:
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


def check_prefix(what: str, prefix: str) -> None:
    """Check that names of files can begin so: Beam takes a name as a pattern.

        >>> check_prefix("prefix 'st*'", "st*")
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: prefix 'st*' must not contain *, ? or [

    Args:
        what: What an error calls it.
        prefix: The prefix.

    Raises:
        ConfigurationError: It contains `*`, `?` or `[`, or ends in a slash.
    """
    if re.search(r"[*?[]", prefix):
        raise ConfigurationError(f"{what} must not contain *, ? or [")
    if prefix.endswith("/"):
        raise ConfigurationError(
            f"{what} is a folder: add what the names of the files begin with, such as "
            f"{f'{prefix}a'!r}"
        )


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
            there are made. A local one is written as `beam_rnn.core.atomic_files.replacing` says.
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
            remove(temporary)
        raise


def remove(path: str) -> None:
    """Remove a file if it is there; the path is no pattern, as it is for Beam's `delete`."""
    if FileSystems.get_scheme(path) is None:
        Path(path).unlink(missing_ok=True)
    elif FileSystems.exists(path):
        FileSystems.delete([re.sub(r"[*?[]", r"[\g<0>]", path)])


def write_bytes(data: bytes, path: str) -> None:
    """Write a file: see `created`."""
    with created(path) as file:
        file.write(data)
