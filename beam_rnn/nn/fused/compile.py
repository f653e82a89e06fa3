"""How functions are compiled: for this machine, once, and kept on disk."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

Function = Callable[..., Any]


def _sources() -> str:
    """What all modules of this package hold: a function is compiled from several of them."""
    sha = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(path.read_bytes())
    return sha.hexdigest()


_SOURCES = _sources()


def compiled(function: Function) -> Function:
    """The function, compiled by its first call, and kept beside its source or in the user's cache.

    Without `fastmath`: the compiler keeps the order of all operations. Other threads go on while it
    runs. Where no folder can be written to, it is compiled again in each process.
    """
    try:
        dispatcher = njit(cache=True, nogil=True, error_model="numpy")(function)
        # numba 0.68 looks at the time of the function's own file, not at all it was made of.
        vars(dispatcher._cache._cache_file).update(_source_stamp=_SOURCES)  # noqa: SLF001
    except (RuntimeError, AttributeError):  # there is no folder for a cache, or another kind
        return njit(nogil=True, error_model="numpy")(function)
    return dispatcher


def inlined(function: Function) -> Function:
    """A part of the compiled functions that call it."""
    return njit(inline="always", error_model="numpy")(function)
