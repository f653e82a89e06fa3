"""Files that a command would write over what it reads."""

import os
from collections.abc import Iterator, Mapping

from apache_beam.io.filesystems import FileSystems

from beam_rnn.errors import ConfigurationError
from beam_rnn.storage import with_folder

BESIDE = (".invalid.jsonl", ".late.jsonl")
"""What a file is called that holds the records of another that could not be used."""


def check_outputs(
    inputs: Mapping[str, str | None],
    outputs: Mapping[str, str | None],
    beside: Mapping[str, tuple[str, ...]] | None = None,
) -> list[str]:
    """That no file is written which is read, and none twice.

        >>> check_outputs({"--input": "a.csv"}, {"--output": "a.csv"})
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: --output 'a.csv' would be written over --input 'a.csv'

    Args:
        inputs: The flags that name what is read, files or patterns; None where one is not given.
        outputs: The flags that name what is written.
        beside: What is put behind the names of files that are written beside one of those.

    Returns:
        All files that are written.

    Raises:
        ConfigurationError: One is.
    """
    written: dict[str, str] = {}  # what is said of each file, by where it is
    paths = []
    for flag, path in _with_beside(outputs, beside or {}):
        what = f"{flag} {path!r}"
        if path != outputs[flag]:
            what = f"{path!r}, beside {flag},"
        for name, pattern in inputs.items():
            if pattern is not None and reads(pattern, path):
                raise ConfigurationError(f"{what} would be written over {name} {pattern!r}")
        twice = written.setdefault(_place(path), what)
        if twice != what:
            raise ConfigurationError(f"{what} would be written over {twice}")
        paths.append(path)
    return paths


def check_prefix(inputs: Mapping[str, str | None], flag: str, prefix: str | None) -> None:
    """That no file is read whose name begins with that of files which are written.

    Args:
        inputs: The flags that name what is read, files or patterns; None where one is not given.
        flag: The flag that names what is written.
        prefix: What the names of those files begin with; None for none.

    Raises:
        ConfigurationError: One does.
    """
    for name, pattern in inputs.items():
        if prefix is not None and pattern is not None:
            for path in _found(pattern):
                if _place(path).startswith(f"{_place(prefix)}-"):
                    raise ConfigurationError(
                        f"{flag} {prefix!r} may be written over {path!r}, which {name} reads: take "
                        "another name, such as one with the day"
                    )


def _found(pattern: str) -> list[str]:
    """The files of a pattern that are there; of one elsewhere the pattern itself."""
    if FileSystems.get_scheme(pattern) is not None:
        return [pattern]
    return [match.path for match in FileSystems.match([with_folder(pattern)])[0].metadata_list]


def _with_beside(
    outputs: Mapping[str, str | None], beside: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, str]]:
    """Each flag with each file that is written for it."""
    for flag, path in outputs.items():
        if path is not None:
            yield flag, path
            yield from ((flag, path + more) for more in beside.get(flag, ()))


def reads(pattern: str, path: str) -> bool:
    """Whether a pattern of files is a file, or finds it where that can be seen: on this machine."""
    if _place(pattern) == _place(path):
        return True
    elsewhere = FileSystems.get_scheme(pattern) or FileSystems.get_scheme(path)
    return elsewhere is None and _place(path) in map(_place, _found(pattern))


def _place(path: str) -> str:
    """Where a file is, whatever it is called."""
    return path if FileSystems.get_scheme(path) is not None else os.path.realpath(path)
