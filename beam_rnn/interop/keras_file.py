"""Decoding of `.keras` files: the settings of the model, and its tensors by path.

Nothing outside the file is opened, and no more memory is allocated than the file's own size needs.
"""

import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.errors import InteropError
from beam_rnn.interop.layer_chain import package

_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
_BROKEN = (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, OSError, EOFError)
"""The errors of `zipfile` and `json` for damaged files."""
_DEEPEST, _MOST = 16, 10_000
"""The maximum depth of a tensor in the HDF5 file, and the maximum number of groups and tensors."""


def read_keras_file(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Array]]:
    """Return the settings of a model, as JSON values, and its tensors.

    Values that only training needs are omitted: the optimizer's state, and seeds.

    Raises:
        InteropError: It is not a `.keras` file, or it declares more data than it contains, or it
            refers to other files.
    """
    name = os.fspath(path)
    data = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(name, archive)
            config = json.loads(archive.read("config.json"))
            weights = archive.read("model.weights.h5")
    except _BROKEN as error:
        raise InteropError(f"{name!r} is not a .keras file: {error}") from error
    return config, _tensors(name, weights)


def _check_members(name: str, archive: zipfile.ZipFile) -> None:
    """Check that there are the three members that Keras writes, uncompressed."""
    seen = set()
    for member in archive.infolist():
        if member.filename not in _MEMBERS or member.filename in seen:
            raise InteropError(
                f"{name!r} is not a .keras file of one model: it contains {member.filename!r}, "
                f"Keras writes {', '.join(_MEMBERS)}, each once"
            )
        seen.add(member.filename)
        stored = member.compress_type == zipfile.ZIP_STORED
        if not stored or member.file_size != member.compress_size:
            raise InteropError(
                f"{name!r}: {member.filename!r} is compressed, Keras does not compress it: save "
                "the model with Keras"
            )


def _tensors(name: str, weights: bytes) -> dict[str, Array]:
    h5py = package("h5py")
    try:
        with h5py.File(io.BytesIO(weights)) as file:
            found = dict(_datasets(h5py, file))
            _check_size(found, len(weights))
            return {path: np.asarray(data[()]) for path, data in found.items()}
    except InteropError:
        raise
    except Exception as error:  # h5py has no error class for damaged files
        raise InteropError(f"{name!r}: its weights cannot be read: {error}") from error


def _check_size(found: Mapping[str, Any], most: int) -> None:
    """Check that the tensors are not larger than the file: their storage could overlap."""
    needed = sum(data.size * data.dtype.itemsize for data in found.values())
    if needed > most:
        raise InteropError(f"tensors of {needed} bytes do not fit in a file of {most} bytes")


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and their paths; each is stored in the file, without filters."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), file)]
    seen = 0
    while waiting:
        parents, group = waiting.pop()
        for part in group:
            path = (*parents, part)
            where = "/".join(path)
            seen += 1
            if seen > _MOST or len(path) > _DEEPEST:
                raise InteropError(f"{where!r}: too many groups and tensors for a model")
            if where == "optimizer" or part == "seed_generator":
                continue
            if not isinstance(group.get(part, getlink=True), h5py.HardLink):
                raise InteropError(f"{where!r} is a soft or external link, which is not supported")
            found = group[part]
            if isinstance(found, h5py.Group):
                waiting.append((path, found))
            else:
                _check_stored(h5py, where, found)
                yield where, found


def _check_stored(h5py: Any, where: str, found: Any) -> None:
    """Check that a tensor is of floats and stored in the file: no filter, no chunks, no gaps."""
    if not isinstance(found, h5py.Dataset) or found.dtype.str not in ("<f4", "<f8"):
        kind = getattr(found, "dtype", type(found).__name__)
        raise InteropError(f"{where!r} is {kind}: only float32 and float64 are supported")
    created = found.id.get_create_plist()
    layouts = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if created.get_external_count() or created.get_layout() not in layouts:
        raise InteropError(
            f"{where!r} is stored in another file, or in chunks, which Keras does not write"
        )
    if found.id.get_storage_size() != found.size * found.dtype.itemsize:
        raise InteropError(f"{where!r} does not contain the {found.size} numbers that it declares")
