"""A `.keras` file, decoded: its settings, and its tensors by their paths.

Nothing outside the file is ever opened, and nothing is allocated that the file does not hold.
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
"""What Python's readers of archives and of JSON raise for damaged bytes."""
_DEEPEST, _MOST = 16, 10_000
"""How deep a tensor may stand in the HDF5 file, and how many groups and tensors it may hold."""


def read_keras_file(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Array]]:
    """The settings of a model, as JSON has them, and its tensors.

    What only training needs is left out: the optimizer's state, and seeds.

    Raises:
        InteropError: It is no `.keras` file, or it claims more data than it holds, or it
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
        raise InteropError(f"{name!r} is no .keras file: {error}") from error
    return config, _tensors(name, weights)


def _check_members(name: str, archive: zipfile.ZipFile) -> None:
    """Keras writes three members, uncompressed."""
    seen = set()
    for member in archive.infolist():
        if member.filename not in _MEMBERS or member.filename in seen:
            raise InteropError(
                f"{name!r} is no .keras file of one model: it holds {member.filename!r}, where "
                f"Keras writes {', '.join(_MEMBERS)}, each once"
            )
        seen.add(member.filename)
        stored = member.compress_type == zipfile.ZIP_STORED
        if not stored or member.file_size != member.compress_size:
            raise InteropError(
                f"{name!r}: {member.filename!r} is compressed, Keras writes it as it is: save "
                "the model by Keras"
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
    except Exception as error:  # HDF5 has no class of its own for a file that is broken
        raise InteropError(f"{name!r}: its weights cannot be read: {error}") from error


def _check_size(found: Mapping[str, Any], most: int) -> None:
    """That tensors are not larger together than the file: two may be said to be in one place."""
    needed = sum(data.size * data.dtype.itemsize for data in found.values())
    if needed > most:
        raise InteropError(f"tensors of {needed} bytes cannot be in a file of {most} bytes")


def _datasets(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """The tensors and their paths; each is in the file itself, as it is."""
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
                raise InteropError(f"{where!r} is a link to elsewhere: only what is here is read")
            found = group[part]
            if isinstance(found, h5py.Group):
                waiting.append((path, found))
            else:
                _check_stored(h5py, where, found)
                yield where, found


def _check_stored(h5py: Any, where: str, found: Any) -> None:
    """That a tensor is floats that stand in the file: no filter, no other file, no gaps."""
    if not isinstance(found, h5py.Dataset) or found.dtype.str not in ("<f4", "<f8"):
        kind = getattr(found, "dtype", type(found).__name__)
        raise InteropError(f"{where!r} is {kind}: only float32 and float64 have a form here")
    created = found.id.get_create_plist()
    layouts = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    if created.get_external_count() or created.get_layout() not in layouts:
        raise InteropError(
            f"{where!r} is stored in another file, or in pieces: Keras does not do so"
        )
    if found.id.get_storage_size() != found.size * found.dtype.itemsize:
        raise InteropError(f"{where!r} does not hold the {found.size} numbers that it claims")
