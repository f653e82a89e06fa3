"""Floating-point modes that do not depend on other libraries in the process.

Another library may flush subnormal numbers to zero (`torch.set_flush_denormal`, `-ffast-math`),
change the rounding mode, or let numpy raise on overflow. The first two change the bits of results;
the last fails a bundle where there should be a dead letter. So the library computes in the default
modes of a process and restores the previous modes afterwards.
"""

import ctypes
import sys
from contextlib import ContextDecorator

import numpy as np

from beam_rnn.core.errors import ConfigurationError

_SMALLEST, _SUBNORMAL, _ONE, _LITTLE = sys.float_info.min, 5e-324, 1.0, 1e-20
_DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV, of glibc and musl
_SIZE = 256  # bytes; an fenv_t has 32 on x86-64, 8 on ARM


def is_default() -> bool:
    """Return True if subnormal numbers are kept and results are rounded to nearest."""
    return (
        _SUBNORMAL != 0.0
        and _SMALLEST / 4 != 0.0
        and _ONE + _LITTLE == _ONE
        and _ONE - _LITTLE == _ONE
    )


class default_arithmetic(ContextDecorator):  # noqa: N801  # used like `np.errstate`
    """Set the default floating-point modes, without numpy's warnings and exceptions.

        >>> with default_arithmetic(), np.errstate(over="warn"):
        ...     is_default()
        True

    Raises:
        ConfigurationError: Another library changed the modes, and they cannot be reset here.
    """

    def _recreate_cm(self) -> "default_arithmetic":
        return default_arithmetic()

    def __enter__(self) -> None:
        self._modes = None if is_default() else _reset()
        self._errors = np.errstate(all="ignore")
        self._errors.__enter__()

    def __exit__(self, *_: object) -> None:
        self._errors.__exit__(None, None, None)
        if self._modes is not None:
            ctypes.CDLL(None).fesetenv(self._modes)


def _reset() -> ctypes.Array[ctypes.c_char]:
    """Set the floating-point modes of this thread to the default; return the previous ones."""
    modes = ctypes.create_string_buffer(_SIZE)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.fegetenv(modes)
        library.fesetenv(_DEFAULT)
    if not is_default():
        raise ConfigurationError(
            "another library in this process flushes subnormal numbers to zero or changed the "
            "rounding mode, which changes predictions, and the modes cannot be reset on "
            f"{sys.platform!r}: switch it off, for example by torch.set_flush_denormal(False)"
        )
    return modes
