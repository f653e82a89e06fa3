"""Makes the arguments of transforms from the plain values of YAML and other languages.

A mapping has the names of the arguments in Python. If Python has a choice of classes, as for
optimizers and schedules, the mapping has a `type` too.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from beam_rnn.core.checks import check_choice
from beam_rnn.core.errors import ConfigurationError
from beam_rnn.data.columns import Columns
from beam_rnn.data.vocabulary import Vocabulary
from beam_rnn.models.error_tail import Surprise
from beam_rnn.nn.bptt import Bptt
from beam_rnn.nn.dropout import Dropout
from beam_rnn.nn.network import Network
from beam_rnn.nn.optimizers import Adam, AdamW, RmsProp, Sgd
from beam_rnn.nn.schedules import Cosine, Plateau, StepDecay, Warmup
from beam_rnn.training.settings import Training

T = TypeVar("T")
P = ParamSpec("P")

MAPPINGS: Mapping[str, Any] = {
    "columns": Columns,
    "network": Network,
    "training": Training,
    "surprise": Surprise,
}
"""The arguments of transforms that are mappings, and what is made of them."""
NESTED: Mapping[str, Any] = {
    "bptt": Bptt,
    "dropout": Dropout,
    "plateau": Plateau,
    "vocabulary": Vocabulary,
}
"""The arguments within those that are mappings themselves."""

OPTIMIZERS: Mapping[str, Any] = {"adam": Adam, "adamw": AdamW, "rmsprop": RmsProp, "sgd": Sgd}
SCHEDULES: Mapping[str, Any] = {"step_decay": StepDecay, "cosine": Cosine, "warmup": Warmup}
CHOSEN = {"optimizer": OPTIMIZERS, "learning_rate": SCHEDULES, "then": SCHEDULES}
"""The arguments that are mappings with a `type`, and the types."""

_YAML_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
"""Such a text was quoted: YAML reads it as a number otherwise."""


def made(kind: type[T], name: str, given: Any) -> T:
    """Return an object of a dataclass, from a mapping or a row of its arguments.

        >>> from beam_rnn import Training
        >>> given = {"epochs": 5, "optimizer": {"type": "sgd", "learning_rate": 0.1}}
        >>> made(Training, "training", given).optimizer.learning_rate
        0.1
        >>> made(Training, "training", {"bptt": {"k": 5}})
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: training.bptt has no 'k': it takes steps, stride, loss

    Args:
        kind: The dataclass.
        name: The name of the mapping, for the error.
        given: The mapping; None for an empty one.

    Raises:
        ConfigurationError: An unknown name, a missing one, or a value that cannot be used.
    """
    values = mapping_of(name, given)
    arguments = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for each in values:
        if each not in arguments:
            raise ConfigurationError(f"{name} has no {each!r}: it takes {', '.join(arguments)}")
    for each, field in arguments.items():
        needed = field.default is MISSING and field.default_factory is MISSING
        if needed and each not in values:
            raise ConfigurationError(f"{name} needs {each!r}, got {values!r}")
    if kind is not Columns:  # its texts are names, which may be anything
        _check_no_numbers_as_text(name, values)
    values = {each: _value(f"{name}.{each}", each, value) for each, value in values.items()}
    try:
        return kind(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    except TypeError as error:  # such as a number where there is a list
        raise ConfigurationError(f"{name} cannot be made of {values!r}: {error}") from error


def chosen(choices: Mapping[str, Any], name: str, given: Any) -> Any:
    """Return an object of the class that `type` names, from a mapping of its arguments.

        >>> chosen(OPTIMIZERS, "outer", {"type": "sgd", "learning_rate": 1.0}).learning_rate
        1.0

    Args:
        choices: The classes by their types.
        name: The name of the mapping, for the error.
        given: The mapping.

    Raises:
        ConfigurationError: An unknown type, or arguments that `made` refuses.
    """
    values = mapping_of(name, given)
    kind = values.pop("type", None)
    check_choice(f"{name}.type", kind, choices)
    return made(choices[kind], name, values)


def mapping_of(name: str, given: Any) -> dict[str, Any]:
    """Return a mapping as a dict; other languages have a row instead, and None is empty.

    Raises:
        ConfigurationError: It is neither.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(key): value for key, value in given.items()}
    if hasattr(given, "_asdict"):
        return dict(given._asdict())
    raise ConfigurationError(f"{name} must be a mapping, got {given!r}")


def _value(name: str, argument: str, given: Any) -> Any:
    if not isinstance(given, Mapping) and not hasattr(given, "_asdict"):
        _check_no_mapping_needed(name, argument, given)
        return given
    if argument in NESTED:
        return made(NESTED[argument], name, given)
    if argument in CHOSEN:
        return chosen(CHOSEN[argument], name, given)
    return given if isinstance(given, Mapping) else mapping_of(name, given)


def _check_no_mapping_needed(name: str, argument: str, given: Any) -> None:
    """Raise if a text or a number was given for a mapping."""
    such = ""
    if argument in NESTED and not isinstance(given, NESTED[argument]) and given is not None:
        such = f"{{{fields(NESTED[argument])[0].name}: {given}}}"
    elif argument == "optimizer" and isinstance(given, (str, int, float)):
        such = f"{{type: {given if given in OPTIMIZERS else 'adam'}, learning_rate: 0.003}}"
    elif argument in CHOSEN and isinstance(given, str):
        such = f"{{type: {given if given in SCHEDULES else 'cosine'}, ...}}"
    if such:
        raise ConfigurationError(f"{name} must be a mapping, such as {such}, got {given!r}")


def _check_no_numbers_as_text(name: str, values: Mapping[str, Any]) -> None:
    """Raise if a number was given as text, as YAML 1.1 reads 3e-3."""
    for each, value in values.items():
        number = number_in(value) if isinstance(value, str) else None
        if number is None:
            continue
        shown = format(Decimal(repr(number)), "f").removesuffix(".0")
        advice = f"YAML reads such a number as text: write {shown}"
        if _YAML_NUMBER.fullmatch(value):
            advice = f"write {shown}, without quotes; in a template {{{{ {each} }}}} without them"
        raise ConfigurationError(
            f"{name}.{each} must be a number, got the text {value!r}: {advice}"
        )


def names_in(name: str, given: Any) -> list[str]:
    """Return a list of different names; None is empty.

    Raises:
        ConfigurationError: It is not such a list.
    """
    names = [] if given is None else given
    if (
        isinstance(names, str)
        or not isinstance(names, Sequence)
        or not all(isinstance(each, str) and each for each in names)
        or len(set(names)) != len(names)
    ):
        raise ConfigurationError(f"{name} must be a list of different names, got {given!r}")
    return list(names)


def number_in(text: str) -> float | None:
    """Return the finite number that a text is; None if it is none.

    >>> number_in("32"), number_in("3e-3"), number_in("nan"), number_in("mae")
    (32.0, 0.003, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def by_name(init: Callable[P, None]) -> Callable[P, None]:
    """Wrap an `__init__` so that it names unknown and missing arguments in its errors.

    It keeps its signature, which Beam YAML reads.

        >>> class RnnTrain:
        ...     @by_name
        ...     def __init__(self, output, columns=None, training=None):
        ...         pass
        >>> RnnTrain(output="w.arrow", epochs=3)
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: RnnTrain has no 'epochs', which training has: it takes \
output, columns, training
        >>> RnnTrain(columns={})
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: RnnTrain needs 'output', got columns
    """
    parameters = list(inspect.signature(init).parameters.values())[1:]
    takes = [each.name for each in parameters]

    @wraps(init)
    def checked(*args: P.args, **named: P.kwargs) -> None:
        transform = type(args[0]).__name__
        for name in named:
            if name not in takes:
                there = [p for each in takes for p in _paths(each, MAPPINGS.get(each), name)]
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


def _paths(path: str, kind: Any, name: str) -> Iterator[str]:
    """Yield where the mapping of a dataclass has a name: in itself, or in one within."""
    if not is_dataclass(kind):
        return
    names = [field.name for field in fields(kind)]
    if name in names:
        yield path
    for each in names:
        within = Adam if each == "optimizer" else NESTED.get(each)
        yield from _paths(f"{path}.{each}", within, name)
