"""Errors of altered bytes."""

import contextlib
import struct
from collections.abc import Iterator

from beam_rnn.core.errors import StateError


@contextlib.contextmanager
def decoding(what: str) -> Iterator[None]:
    """Convert the errors that altered bytes cause while they are decoded.

    Args:
        what: The name of the bytes in the error.

    Raises:
        StateError: The bytes are truncated or altered.
    """
    try:
        yield
    except StateError:
        raise
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise StateError(f"{what} is truncated or altered and cannot be read: {error}") from error
