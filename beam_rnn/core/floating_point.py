"""Arithmetic that no other library in the process changes.

Another library may flush subnormal numbers to zero (`torch.set_flush_denormal`, `-ffast-math`),
change the rounding mode, or let numpy raise on overflow. The first two change bits, the
last ends a bundle instead of giving a dead letter. So numbers are computed in the modes a process
starts with, and the previous modes are restored afterwards.
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
    """Whether subnormal numbers are kept, and numbers rounded to the nearest."""
    return (
        _SUBNORMAL != 0.0
        and _SMALLEST / 4 != 0.0
        and _ONE + _LITTLE == _ONE
        and _ONE - _LITTLE == _ONE
    )


class default_arithmetic(ContextDecorator):  # noqa: N801  # read as `np.errstate` is
    """In the modes that a process begins with; no warnings, no exceptions of numpy.

        >>> with default_arithmetic(), np.errstate(over="warn"):
        ...     is_default()
        True

    Raises:
        ConfigurationError: Another library changed them, and they cannot be set on this system.
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
            "another library in this process has subnormal numbers flushed to zero, or another "
            "rounding, which changes predictions: switch it off, as by "
            "torch.set_flush_denormal(False)"
        )
    return modes
