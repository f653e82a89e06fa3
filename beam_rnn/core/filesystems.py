"""Files on this machine, and through Beam's filesystems on any other.

Beam is imported only for a path with a scheme, such as gs://.
"""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from beam_rnn.core.atomic_files import replacing
from beam_rnn.core.errors import ConfigurationError

_SET = r"\[(?:!(?:\][^\]]*|[^\]]+)|(?!!)(?:\][^\]]*|[^\]]+))\]"
"""Characters in brackets: the first may be !, and the first after that a bracket."""
_SCHEME = re.compile(r"([a-zA-Z][-a-zA-Z0-9+.]*)://")


def scheme_of(path: str) -> str | None:
    """Return the scheme of a path; None for a path on this machine.

    >>> scheme_of("gs://bucket/a.csv"), scheme_of("data/a.csv")
    ('gs', None)
    """
    found = _SCHEME.match(path)
    return None if found is None else found[1]


def with_folder(pattern: str) -> str:
    """Return a pattern as Beam 2.77 finds files by it: one without a folder finds nothing.

    >>> with_folder("*.csv"), with_folder("data/*.csv"), with_folder("a.csv")
    ('./*.csv', 'data/*.csv', 'a.csv')
    """
    return f"./{pattern}" if any(c in pattern for c in "*?[") and "/" not in pattern else pattern


def matched(pattern: str) -> list[str]:
    """Return the files of a pattern, in the order of their paths.

    Args:
        pattern: A path, or a pattern with `*`, `**` (folders too), `?` or `[abc]`.
    """
    pattern = with_folder(pattern)
    if scheme_of(pattern) is not None:
        found = _beam().match([pattern])[0].metadata_list
        return sorted(each.path for each in found)
    before = re.split(r"[*?[]", pattern)[0]
    if before == pattern:
        return [pattern] if Path(pattern).exists() else []
    name = re.compile(translated(pattern))
    paths = (
        f"{folder.rstrip('/')}/{file}"
        for folder, _, files in os.walk(before.rpartition("/")[0] or "/")
        for file in files
    )
    return sorted(path for path in paths if name.match(path) and Path(path).exists())


def translated(pattern: str) -> str:
    r"""Return the regular expression of a pattern, as Beam's filesystems read it.

    >>> [bool(re.match(translated("a/*.csv"), path)) for path in ("a/b.csv", "a/b/c.csv")]
    [True, False]
    """
    parts = re.split(rf"(\*\*|\*|\?|{_SET})", pattern)
    known = {"**": ".*", "*": r"[^/\\]*", "?": "."}
    expressions = []
    for part in parts:
        if re.fullmatch(_SET, part):
            inside = part[1:-1].replace("\\", "\\\\")
            negated = inside.startswith("!")
            inside = inside[1:] if negated else inside
            escaped = "\\" if not negated and inside.startswith("^") else ""
            expressions.append(f"[{'^' if negated else ''}{escaped}{inside}]")
        else:
            expressions.append(known.get(part, re.escape(part)))
    return f"(?ms){''.join(expressions)}\\Z"


def read_bytes(path: str) -> bytes:
    """Return all bytes of a file."""
    if scheme_of(path) is None:
        return Path(path).read_bytes()
    with _beam().open(path, compression_type="uncompressed") as file:
        data: bytes = file.read()
    return data


@contextmanager
def created(path: str) -> Iterator[BinaryIO]:
    """Yield a file to write to, which gets its name when the block ends: all of it, or nothing.

    Args:
        path: The path. A file that is there is replaced; folders that are not there are made. A
            local one is written as `beam_rnn.core.atomic_files.replacing` says.

    Raises:
        OSError: The file cannot be written; what was written of it is removed.
    """
    if scheme_of(path) is None:
        with replacing(path) as temporary, Path(temporary).open("wb") as file:
            yield file
        return
    temporary = f"{path}.{uuid.uuid4().hex}.part"
    try:
        with _beam().create(temporary, compression_type="uncompressed") as file:
            yield file
        _beam().rename([temporary], [path])
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell
            remove(temporary)
        raise


def write_bytes(data: bytes, path: str) -> None:
    """Write a file: see `created`."""
    with created(path) as file:
        file.write(data)


def remove(path: str) -> None:
    """Remove a file if it is there; the path is no pattern, as it is for Beam's `delete`."""
    if scheme_of(path) is None:
        Path(path).unlink(missing_ok=True)
    elif _beam().exists(path):
        _beam().delete([re.sub(r"[*?[]", r"[\g<0>]", path)])


def check_scheme(path: str, what: str) -> None:
    """Check that there is a filesystem for a path.

    Args:
        path: The path.
        what: What an error calls it.

    Raises:
        ConfigurationError: There is none.
    """
    scheme = scheme_of(path)
    if scheme is None:
        return
    if scheme == "file":
        raise ConfigurationError(f"{what}: give a path on this machine without file://")
    try:
        _beam().get_filesystem(path)
    except ValueError as error:
        raise ConfigurationError(
            f"{what}: there is no filesystem for {scheme}:// here; for gs:// install "
            "apache-beam[gcp], for s3:// apache-beam[aws], and for https:// download the file first"
        ) from error


def _beam() -> Any:
    from apache_beam.io.filesystems import FileSystems  # noqa: PLC0415  # takes seconds

    return FileSystems
