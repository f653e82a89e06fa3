"""Models and checkpoints on any filesystem that Beam knows."""

import re
from typing import Any

from beam_rnn.core.errors import CheckpointError, ConfigurationError, NotWeightsError, WeightsError
from beam_rnn.core.filesystems import matched, read_bytes, scheme_of, write_bytes
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
    data = weights.read(path) if scheme_of(path) is None else read_bytes(path)
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


def check_prefix(what: str, prefix: str) -> None:
    """Check the prefix of names of files: Beam takes a name as a pattern.

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
    """Return the last by name of the files of a pattern.

    Raises:
        FileNotFoundError: There is none.
    """
    paths = matched(pattern)
    if not paths:
        raise FileNotFoundError(f"there is no file {pattern!r}")
    return paths[-1]
