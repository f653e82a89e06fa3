"""Checks of the arguments of transforms, when a pipeline is built."""

import os
from typing import Any, NoReturn
from uuid import uuid4

from apache_beam import PCollection
from apache_beam.transforms.window import GlobalWindows, NonMergingWindowFn
from apache_beam.utils.timestamp import Duration

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.core.filesystems import with_folder
from beam_rnn.engine.order import Order
from beam_rnn.streaming.closed_windows import AT_THEIR_END, Closing, closing_on


def check_type(name: str, value: Any, kind: type | tuple[type, ...]) -> None:
    """Raise if an argument has another type.

    Raises:
        ConfigurationError: It has another type.
    """
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        needed = " or ".join(each.__name__ for each in kinds)
        raise ConfigurationError(
            f"{name} must be a {needed}, got {value!r} ({type(value).__name__})"
        )


def check_not_merging(windowfn: Any, name: str) -> None:
    """Raise if no state can be kept in a window.

    Raises:
        ConfigurationError: The window merges with others.
    """
    if not isinstance(windowfn, NonMergingWindowFn):
        raise ConfigurationError(
            f"{name} cannot carry a state across {window_text(windowfn)}: state does not follow "
            "windows that merge. Use fixed, sliding or global windows here; Sequences cuts "
            "sessions, and PredictSequences predicts them (in Beam YAML RnnSequences and "
            "RnnPredictSequences)"
        )


def closing_of(pcoll: PCollection[Any], name: str, order: Order) -> Closing:
    """Return when the windows of records are closed.

    Raises:
        ConfigurationError: The windows merge, or `wait` is longer than a window stays open.
    """
    windowing = pcoll.windowing
    check_not_merging(windowing.windowfn, name)
    if isinstance(windowing.windowfn, GlobalWindows):
        return AT_THEIR_END
    lateness = int(Duration.of(windowing.allowed_lateness).micros)
    wait = 0 if order.by == "arrival" else order.wait
    if wait > lateness:
        raise ConfigurationError(
            f"{name}(wait={order.wait / 1e6:g}) waits longer than a window stays open: "
            f"{window_text(windowing.windowfn)} with allowed_lateness={lateness / 1e6:g}. Use "
            f"beam.WindowInto(..., allowed_lateness={order.wait / 1e6:g}), or a shorter wait"
        )
    return closing_on(pcoll.pipeline.runner, lateness, wait, name, uuid4().hex)


def window_text(windowfn: Any) -> str:
    """Return the text of a window function, which Beam does not have.

    >>> from apache_beam.transforms.window import Sessions, SlidingWindows
    >>> window_text(Sessions(300)), window_text(SlidingWindows(60, 2.5))
    ('Sessions(gap_size=300 s)', 'SlidingWindows(size=60 s, period=2.5 s)')
    """
    seconds = {
        name: value.micros / 1e6
        for name, value in vars(windowfn).items()
        if isinstance(value, Duration) and (value.micros or name != "offset")
    }
    lengths = ", ".join(f"{name}={value:g} s" for name, value in seconds.items())
    return f"{type(windowfn).__name__}({lengths})"


def take_one(outputs: Any) -> NoReturn:
    """Raise for `outputs | transform`, as there are several outputs.

    Raises:
        TypeError: Always.
    """
    names = ", ".join(f".{name}" for name in outputs._fields)
    raise TypeError(f"{type(outputs).__name__} holds several collections: take one of {names}")


def path_of(name: str, value: Any) -> str:
    """Return the path of a file, or a pattern, for Beam's filesystems.

    Raises:
        ConfigurationError: It is not a path.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ConfigurationError(f"{name} must be the path of a file, got {value!r}")
    return with_folder(str(os.fspath(value)))
