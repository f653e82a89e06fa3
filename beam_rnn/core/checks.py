"""Checks of arguments, with the same error messages everywhere."""

import math
from collections.abc import Iterable

from beam_rnn.core.errors import ConfigurationError

MAX_SECONDS = 1e9
"""The longest time to wait: a larger number is probably in another unit."""


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise if a value is not a whole number of at least `least`.

        >>> check_whole("hidden", 0)
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: hidden must be a whole number of at least 1, got 0

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(
            f"{name} must be a whole number of at least {least}, got {value!r}"
        )


def check_number(name: str, value: object, least: float = 0, below: float = math.inf) -> None:
    """Raise if a value is not a number in [least, below).

    Raises:
        ConfigurationError: It is not.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value < below:  # type: ignore[operator]
        raise ConfigurationError(f"{name} must be in [{least}, {below}), got {value!r}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise if a value is not one of the choices.

    Raises:
        ConfigurationError: It is not.
    """
    names = list(choices)
    if not isinstance(value, str) or value not in names:
        raise ConfigurationError(f"{name} must be one of {', '.join(names)}, got {value!r}")


def check_true_or_false(name: str, value: object) -> None:
    """Raise if a value is not a boolean.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, got {value!r}")


def micros(name: str, seconds: float | None) -> int | None:
    """Return seconds as microseconds; None stays None.

    Raises:
        ConfigurationError: No number of seconds, or one too large.
    """
    if seconds is None:
        return None
    check_number(f"{name}, in seconds,", seconds, below=MAX_SECONDS)
    return round(seconds * 1e6)
