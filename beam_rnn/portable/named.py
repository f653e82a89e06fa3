"""Arguments by name, as YAML and other languages give them to a transform."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, ParamSpec

from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.models.error_tail import Surprise
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Adam
from beam_rnn.portable.plain import NESTED
from beam_rnn.training.settings import Training

P = ParamSpec("P")

MAPPINGS: Mapping[str, Any] = {
    "columns": Columns,
    "network": Network,
    "training": Training,
    "surprise": Surprise,
}
"""The arguments of transforms that are mappings, and what is made of them."""
_WITHIN: Mapping[str, Any] = {**NESTED, "optimizer": Adam}


def by_name(init: Callable[P, None]) -> Callable[P, None]:
    """An `__init__` that says which argument there is not, and which is missing.

    Its signature stays: Beam YAML reads it.

        >>> class RnnTrain:
        ...     @by_name
        ...     def __init__(self, output, columns=None, training=None):
        ...         pass
        >>> RnnTrain(output="w.arrow", epochs=3)
        Traceback (most recent call last):
        ...
        beam_rnn.core.errors.ConfigurationError: RnnTrain has no 'epochs', which training has: it takes \
output, columns, training
        >>> RnnTrain(columns={})
        Traceback (most recent call last):
        ...
        beam_rnn.core.errors.ConfigurationError: RnnTrain needs 'output', got columns
    """
    parameters = list(inspect.signature(init).parameters.values())[1:]
    takes = [each.name for each in parameters]

    @wraps(init)
    def checked(*args: P.args, **named: P.kwargs) -> None:
        transform = type(args[0]).__name__
        for name in named:
            if name not in takes:
                there = [path for given in takes for path in _paths(given, name)]
                hint = f", which {there[0]} has" if there else ""
                raise ConfigurationError(
                    f"{transform} has no {name!r}{hint}: it takes {', '.join(takes)}"
                )
        given = [*takes[: len(args) - 1], *map(str, named)]
        for each in parameters:
            if each.default is each.empty and each.name not in given:
                got = ", ".join(given) or "nothing"
                raise ConfigurationError(f"{transform} needs {each.name!r}, got {got}")
        init(*args, **named)

    return checked


def _paths(argument: str, name: str) -> Iterator[str]:
    """Where a mapping has a name: in itself, or in one within."""
    return _within(argument, MAPPINGS.get(argument), name)


def _within(path: str, kind: Any, name: str) -> Iterator[str]:
    if not is_dataclass(kind):
        return
    names = [field.name for field in fields(kind)]
    if name in names:
        yield path
    for each in names:
        yield from _within(f"{path}.{each}", _WITHIN.get(each), name)
