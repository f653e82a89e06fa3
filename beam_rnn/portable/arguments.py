"""Plain values, as YAML and other languages have them, into what the transforms take.

A mapping has the names of the arguments in Python. Where Python has a choice of classes, for
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

NESTED: Mapping[str, Any] = {
    "bptt": Bptt,
    "dropout": Dropout,
    "plateau": Plateau,
    "vocabulary": Vocabulary,
}
"""The arguments that are mappings themselves."""

OPTIMIZERS: Mapping[str, Any] = {"adam": Adam, "adamw": AdamW, "rmsprop": RmsProp, "sgd": Sgd}
SCHEDULES: Mapping[str, Any] = {"step_decay": StepDecay, "cosine": Cosine, "warmup": Warmup}
CHOSEN = {"optimizer": OPTIMIZERS, "learning_rate": SCHEDULES, "then": SCHEDULES}
"""The arguments that are mappings with a `type`, and the types there are."""

_YAML_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
"""Such a text was quoted: YAML takes it for a number otherwise."""


def made(kind: type[T], name: str, given: Any) -> T:
    """An object of a dataclass from a mapping, or from a row, of its arguments.

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
        name: What the mapping is called, for the error.
        given: The mapping; None for none.

    Raises:
        ConfigurationError: A name that it does not have, one that is missing, or a value that
            cannot be used.
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
    if kind is not Columns:  # whose texts are names, and may be anything
        _check_no_numbers_as_text(name, values)
    values = {each: _value(f"{name}.{each}", each, value) for each, value in values.items()}
    try:
        return kind(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    except TypeError as error:  # such as a number where there is a list
        raise ConfigurationError(f"{name} cannot be made of {values!r}: {error}") from error


def chosen(choices: Mapping[str, Any], name: str, given: Any) -> Any:
    """An object of the class that `type` says, from a mapping of its arguments and `type`.

        >>> chosen(OPTIMIZERS, "outer", {"type": "sgd", "learning_rate": 1.0}).learning_rate
        1.0

    Args:
        choices: The classes by their types.
        name: What the mapping is called, for the error.
        given: The mapping.

    Raises:
        ConfigurationError: Another type, or arguments that `made` refuses.
    """
    values = mapping_of(name, given)
    kind = values.pop("type", None)
    check_choice(f"{name}.type", kind, choices)
    return made(choices[kind], name, values)


def mapping_of(name: str, given: Any) -> dict[str, Any]:
    """A mapping from one, or from a row, which other languages have in its place; {} from None.

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
    """That it is no text or number where a mapping is needed."""
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
    """YAML 1.1 takes 3e-3 for text."""
    for each, value in values.items():
        number = number_in(value) if isinstance(value, str) else None
        if number is None:
            continue
        shown = format(Decimal(repr(number)), "f").removesuffix(".0")
        advice = f"YAML takes a number without a point for text: write {shown}"
        if _YAML_NUMBER.fullmatch(value):
            advice = f"write {shown}, without quotes; in a template {{{{ {each} }}}} without them"
        raise ConfigurationError(
            f"{name}.{each} must be a number, got the text {value!r}: {advice}"
        )


def names_in(name: str, given: Any) -> list[str]:
    """A list of names, all different; [] from None.

    Raises:
        ConfigurationError: It is none.
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
    """The finite number that a text is; None if it is none.

    >>> number_in("32"), number_in("3e-3"), number_in("nan"), number_in("mae")
    (32.0, 0.003, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


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
