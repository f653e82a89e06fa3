"""Reading stored bytes."""

import contextlib
import struct
from collections.abc import Iterator

from beam_rnn.core.errors import StateError


@contextlib.contextmanager
def decoding(what: str) -> Iterator[None]:
    """Errors that broken bytes cause while they are decoded, as the library's own.

    Raises:
        StateError: What is decoded here is cut or altered.
    """
    try:
        yield
    except StateError:
        raise
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise StateError(f"{what} is cut or altered, and cannot be read: {error}") from error
