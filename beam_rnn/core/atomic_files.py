"""Atomic replacement of local files: either the whole new content or the old file."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a temporary path next to a file, and rename it to the file when the block ends.

    The data is flushed to the disk before the rename. If the block raises, or the disk is full, the
    temporary file is removed and the old file is unchanged. A process that is killed leaves the
    old file, and perhaps a temporary one. The temporary name begins with a dot and ends in `.part`,
    so a pattern such as `*.arrow` does not match it.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a.txt") as temporary:
        ...         written = Path(temporary).write_text("new content")
        ...     os.listdir(folder)
        ['a.txt']

    Args:
        path: The file. A symbolic link is followed. Missing folders are created.

    Raises:
        OSError: The file cannot be written, or it is a folder or a device.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{os.fspath(path)!r} is a folder: name a file in it")
    if target.exists() and not target.is_file():
        raise OSError(f"{os.fspath(path)!r} is not a regular file and cannot be replaced")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex}.part")
    try:
        yield str(temporary)
        if target.exists():
            shutil.copymode(target, temporary)
        _flush(temporary)
        temporary.replace(target)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # the file is already replaced; not every system can flush folders
        _flush(target.parent)


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file by one with the given bytes, atomically: see `replacing`.

    Args:
        path: The file; an existing one is replaced.
        data: The new content.

    Raises:
        OSError: The file cannot be written, or it is a folder or a device.
    """
    with replacing(path) as temporary:
        Path(temporary).write_bytes(data)


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
