"""How functions are compiled: for this machine, once, and kept on disk."""

from collections.abc import Callable
from typing import Any

from numba import njit

Function = Callable[..., Any]


def compiled(function: Function) -> Function:
    """The function, compiled by its first call, and kept beside its source or in the user's cache.

    Without `fastmath`: the compiler keeps the order of all operations. Where no folder can be
    written to, it is compiled again in each process.
    """
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder for its cache
        return njit(error_model="numpy")(function)


def inlined(function: Function) -> Function:
    """A part of the compiled functions that call it."""
    return njit(inline="always", error_model="numpy")(function)
