"""Compilation of functions by numba, cached on disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

Function = Callable[..., Any]


def _sources() -> str:
    """Return a hash of all modules of this package: a function is compiled from several."""
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


_SOURCES = _sources()


def compiled(function: Function) -> Function:
    """Return the function, compiled by its first call and cached on disk.

    Without `fastmath` the compiler keeps the order of all operations. The function releases the
    GIL. If no folder can be written to, it is compiled again in each process.
    """
    try:
        dispatcher = njit(cache=True, nogil=True, error_model="numpy")(function)
        # numba 0.68 checks the time of the file of the function, not of all its sources.
        vars(dispatcher._cache._cache_file).update(_source_stamp=_SOURCES)  # noqa: SLF001
    except (RuntimeError, AttributeError):  # there is no cache folder, or another cache class
        return njit(nogil=True, error_model="numpy")(function)
    return dispatcher


def inlined(function: Function) -> Function:
    """Return a function that is inlined into the compiled functions that call it."""
    return njit(inline="always", error_model="numpy")(function)
