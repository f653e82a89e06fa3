"""Checks that a command can write its outputs, and overwrites nothing that it reads."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.filesystems import check_scheme, matched, scheme_of, translated
from beam_rnn.training.model_files import check_prefix

BESIDE = (".invalid.jsonl", ".late.jsonl")
"""The endings of the files of dead letters and of late records, next to an output."""
CHECKPOINTS = r"-\d{5,}\.arrow"
NEWEST = ("--weights", "--start", "--resume")
"""The flags of which a pattern stands for one of its files, the last by name."""
STATES = r"-.{5}-of-\d{5}\.parquet"
"""What follows a prefix in the names of the files that are written, or removed, for it."""


class Prefix(NamedTuple):
    """The common prefix of the names of several output files.

    Attributes:
        path: The prefix; None if there is none.
        ending: The regular expression of what follows it, such as `CHECKPOINTS`.
        resumes: The flag that may read files of this prefix, to resume from one of them.
    """

    path: str | None
    ending: str
    resumes: str | None = None


def check_outputs(
    inputs: Mapping[str, str | None],
    outputs: Mapping[str, str | None],
    beside: Mapping[str, tuple[str, ...]] | None = None,
    prefixes: Mapping[str, Prefix] | None = None,
) -> None:
    """Check, before anything runs, that each output can be written and destroys nothing else.

        >>> check_outputs({"--input": "a.csv"}, {"--output": "a.csv"})
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: --output 'a.csv' would be written over --input 'a.csv'

    Args:
        inputs: The flags that name what is read, files or patterns; None where one is not given.
        outputs: The flags that name a file that is written.
        beside: For each of those flags, the endings of further files written beside the output.
        prefixes: The flags that name a prefix of files that are written.

    Raises:
        ConfigurationError: There is no file of an input. Or an output is read, or would be by the
            same pattern the next time, or is written twice, or is a folder or a device, or is in a
            folder that does not exist or is not writable. Or Beam has no filesystem for a path.
    """
    taken = _read(inputs)
    for file, what in _named(outputs, beside or {}):
        for place in _places(file):
            if place in taken:
                raise ConfigurationError(f"{what} would be written over {taken[place]}")
        _check_not_found(file, what, inputs)
        check_writable(file, what)
        taken.update(dict.fromkeys(_places(file), what))
    for flag, prefix in (prefixes or {}).items():
        if prefix.path is not None:
            resumed = f"{prefix.resumes} {inputs.get(prefix.resumes or '')!r}"
            others = {place: said for place, said in taken.items() if said != resumed}
            _check_prefix(f"{flag} {prefix.path!r}", prefix.path, prefix.ending, others)
    for flag, pattern in _given(inputs):
        check_readable(flag, pattern)


def _read(inputs: Mapping[str, str | None]) -> dict[object, str]:
    """The input files: for each location, its flag and value, for an error message."""
    return {
        place: f"{flag} {pattern!r}"
        for flag, pattern in _given(inputs)
        for path in [pattern, *found(pattern)]
        for place in _places(path)
    }


def _named(
    outputs: Mapping[str, str | None], beside: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, str]]:
    """Yield each file that is written, and what an error calls it."""
    for flag, path in _given(outputs):
        yield path, f"{flag} {path!r}"
        for ending in beside.get(flag, ()):
            yield path + ending, f"{path + ending!r}, next to {flag},"


def _check_not_found(file: str, what: str, inputs: Mapping[str, str | None]) -> None:
    """Check that a pattern of which all files are read does not find a file that is written."""
    for flag, pattern in _given(inputs):
        if flag not in NEWEST and _finds(pattern, file):
            raise ConfigurationError(
                f"{what} would be read by {flag} {pattern!r} the next time: write it to another "
                "folder, or under another name"
            )


def _finds(pattern: str, path: str) -> bool:
    """Return True if a pattern finds a file of this name, which need not be there."""
    before = re.split(r"[*?[]", pattern)[0]
    if before == pattern:
        return False
    folder = before[: before.rfind("/") + 1]
    rest = translated(pattern.removeprefix(folder))
    if scheme_of(pattern) is not None:
        return path.startswith(folder) and bool(re.match(rest, path.removeprefix(folder)))
    below = os.path.relpath(_place(path), os.path.realpath(folder or "."))
    return below.split(os.sep)[0] != os.pardir and bool(re.match(rest, below))


def _given(flags: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    return ((flag, path) for flag, path in flags.items() if path is not None)


def _check_prefix(what: str, prefix: str, ending: str, taken: Mapping[object, str]) -> None:
    """Check that no file which is read, or written for another flag, has a name of the prefix."""
    check_scheme(prefix, what)
    check_prefix(what, prefix)
    folder, there = None, []
    if scheme_of(prefix) is None:
        folder = os.path.realpath(os.path.dirname(prefix))
        _check_folder(folder, what)
        prefix = os.path.join(folder, os.path.basename(prefix))
    name = re.compile(re.escape(prefix) + ending)
    if folder is not None:
        there = [path for path in _in(folder) if name.fullmatch(path)]
    for path in there:
        check_writable(path, f"{path!r}, a file of {what},")
    clashes: list[object] = [
        place for place in taken if isinstance(place, str) and name.fullmatch(place)
    ]
    clashes += [place for path in there for place in _places(path) if place in taken]
    for place in clashes:
        raise ConfigurationError(
            f"{what} may be written over {taken[place]}: take another name, such as one with the "
            "day"
        )


def found(pattern: str) -> list[str]:
    """Return the local files that match a pattern; [] for a pattern on another filesystem."""
    if scheme_of(pattern) is not None:
        return []
    return matched(pattern)


def check_readable(flag: str, pattern: str) -> None:
    """Check that a pattern on this machine finds files, and that they can be read.

    Raises:
        ConfigurationError: There is none, it is a folder or a pipe, or one cannot be read.
    """
    check_scheme(pattern, f"{flag} {pattern!r}")
    if scheme_of(pattern) is not None:
        return
    if os.path.isdir(pattern):
        example = f"{pattern.rstrip('/')}/*{'.csv' if flag == '--input' else '.arrow'}"
        raise ConfigurationError(
            f"{flag} {pattern!r} is a folder: name its files, such as {example!r}"
        )
    files = found(pattern)
    if not files:
        literal = os.path.exists(pattern)
        why = (
            "; [, * and ? make a pattern of a name: write ? for such a character" if literal else ""
        )
        raise ConfigurationError(f"{flag}: there is no file {pattern!r}{why}")
    for path in files:
        if not os.path.isfile(path):
            raise ConfigurationError(
                f"{flag} {pattern!r}: {path!r} is a device or a pipe: name a file"
            )
        if not os.access(path, os.R_OK):
            raise ConfigurationError(
                f"{flag} {pattern!r}: you may not read {path!r}; run it as a user who may"
            )


def check_writable(path: str, what: str) -> None:
    """Check that a file can be written, as far as can be seen from here.

    Args:
        path: The file.
        what: What an error calls it.

    Raises:
        ConfigurationError: It cannot.
    """
    check_scheme(path, what)
    if scheme_of(path) is not None:
        return
    if os.path.isdir(path) or not os.path.basename(path):
        raise ConfigurationError(f"{what} is a folder: name a file in it")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigurationError(f"{what} is a device or a pipe: name a file")
    _check_folder(os.path.dirname(_place(path)), what)
    try:
        os.lstat(path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):  # the name is too long
            raise ConfigurationError(f"{what} cannot be written: {error.strerror}") from error
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise ConfigurationError(f"{what} cannot be written: the file is there and read-only")


def folder_of(flag: str, path: str) -> Path:
    """Return a folder to write files to; create it if it does not exist.

    Raises:
        ConfigurationError: There is a file of that name, or the folder cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{flag} {path!r} cannot be a folder to write to: {error.strerror}"
        ) from error
    return Path(path)


def _check_folder(folder: str, what: str) -> None:
    if not os.path.isdir(folder):
        raise ConfigurationError(
            f"{what} cannot be written: there is no folder {folder!r}, make it"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{what} cannot be written: the folder {folder!r} is read-only for you"
        )


def _in(folder: str) -> list[str]:
    return [os.path.join(folder, name) for name in os.listdir(folder)]


def _place(path: str) -> str:
    """Return the location of a file, with symbolic links resolved."""
    return path if scheme_of(path) is not None else os.path.realpath(path)


def _places(path: str) -> list[object]:
    """Return the location of a file, and its inode, the same for a hard link or another case."""
    places: list[object] = [_place(path)]
    if os.path.isfile(path):
        status = os.stat(path)
        places.append((status.st_dev, status.st_ino))
    return places
