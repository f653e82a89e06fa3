"""Flags made from the fields of a dataclass: their types, defaults and help exist once, there."""

import argparse
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import partial
from typing import Any, TypeVar

from beam_rnn.cli import flags
from beam_rnn.core.errors import ConfigurationError

T = TypeVar("T")

MOST = {"hidden": 16_384, "layers": 1_000}
"""Limits of numbers: a larger one is a mistake, and would fill the memory before any error."""
MOST_NUMBERS = 10_000
"""The greatest length of a list of whole numbers, such as --horizon 1-10000."""
FOR_PYTHON = {
    r", or another that was put into `[^`]*`": "",
    r"names in `[^`]*`, ": "",
    r": see `[^`]*`": "",
    r", but `Sequences` skips it": "",
    r"\. None (?:for|if) ": ". Without it ",
    r"\bNone (?:for|if) ": "without it ",
    r"\bNone: ": "By default ",
    r"\bNone\b": "null",
    r"`datetime.strptime`": "strptime of Python",
}
"""What descriptions say to those who write Python, and what the help says instead."""


def add_flags(
    parser: argparse.ArgumentParser,
    kind: type[Any],
    names: Iterable[str],
    *,
    required: Collection[str] = (),
    unset: bool = False,
) -> None:
    """Add a flag for each of these fields of a dataclass.

        >>> from beam_rnn import Columns
        >>> parser = argparse.ArgumentParser()
        >>> add_flags(parser, Columns, ["key", "inputs", "horizon"], required=["key"])
        >>> parser.parse_args(["--key", "id", "--inputs", "load,heat", "--horizon", "1-3"])
        Namespace(key='id', inputs=['load', 'heat'], horizon=[1, 2, 3])

    Args:
        parser: The parser.
        kind: The dataclass; its docstring describes each field under `Args:`.
        names: The fields.
        required: Those that must be given.
        unset: Leave None for what is not given, instead of the default of the class.
    """
    texts, hints = descriptions(kind), typing.get_type_hints(kind)
    by_name = {each.name: each for each in fields(kind)}
    for name in names:
        default = default_of(by_name[name])
        options = _options(name, hints[name])
        text = texts[name].replace("%", "%%")
        if unset and default not in (None, (), []):
            text = f"{text}; default: {default}"
        options["default"] = None if unset else default
        parser.add_argument(f"--{name}", help=text, required=name in required, **options)


def made(kind: type[T], args: argparse.Namespace, names: Iterable[str], **more: Any) -> T:
    """Make an object of the dataclass from its flags; an error names the flag.

        >>> from beam_rnn import Network
        >>> made(Network, argparse.Namespace(cell="grru"), ["cell"])
        Traceback (most recent call last):
        ...
        beam_rnn.errors.ConfigurationError: --cell must be one of rnn, gru, lstm, got 'grru'

    Args:
        kind: The dataclass.
        args: The flags; None for one that is not given.
        names: The fields that are flags.
        more: Further fields.

    Raises:
        ConfigurationError: The class refuses a value.
    """
    names = list(names)
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    try:
        return kind(**given, **more)
    except ConfigurationError as error:
        name = re.split(r"\W", str(error), maxsplit=1)[0]
        raise ConfigurationError(f"{'--' if name in names else ''}{error}") from error


def default_of(field: "Field[Any]") -> Any:
    """Return the default of a field; None if it must be given."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return None if field.default is MISSING else field.default


def descriptions(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring of a class says of each argument, for a person at a shell.

    >>> from beam_rnn import Bptt
    >>> descriptions(Bptt)["stride"]
    'the number of steps between updates; without it `steps`'
    """
    found = re.search(
        r"^Args:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(kind) or "", re.DOTALL | re.MULTILINE
    )
    entries = re.split(r"^    (\w+): ", found[1] if found else "", flags=re.MULTILINE)[1:]
    return {name: _plain(text) for name, text in zip(entries[::2], entries[1::2], strict=True)}


def _plain(text: str) -> str:
    """Return a description as the help has it: it begins small, and ends without a point."""
    text = " ".join(text.split())
    for pattern, other in FOR_PYTHON.items():
        text = re.sub(pattern, other, text)
    return (text[0].lower() + text[1:]).removesuffix(".")


def _options(name: str, hint: Any) -> dict[str, Any]:
    """Return how argparse reads a field of that type."""
    parts = [hint]
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        parts = [part for part in typing.get_args(hint) if part is not types.NoneType]
    lists = [typing.get_args(part)[0] for part in parts if typing.get_origin(part) is Sequence]
    if lists:
        read, metavar = LISTS[lists[0]]
    elif bool in parts:
        return {"action": argparse.BooleanOptionalAction}
    else:
        read, metavar = SCALARS[next(each for each in SCALARS if each in parts)]
    read = partial(at_most, read, MOST[name]) if name in MOST else read
    return {"type": read, "metavar": metavar}


def whole(text: str) -> int:
    """Return a whole number.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error


def number(text: str) -> float:
    """Return a number.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from error


def numbers(text: str) -> list[float]:
    """Return numbers from "0.1,0.9".

    Raises:
        argparse.ArgumentTypeError: One is none.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be numbers such as 0.1,0.9, got {text!r}"
        ) from error


def whole_numbers(text: str) -> int | list[int]:
    """Return one whole number, "3", or several: "1,6,24" or "1-24".

    Raises:
        argparse.ArgumentTypeError: It is none of these, or too many.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            first, *last = map(int, part.split("-")) if part[:1] != "-" else (int(part),)
            found += range(first, (last[0] if last else first) + 1)[: MOST_NUMBERS + 1]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be a whole number, or several such as 1,6,24 or 1-24, got {text!r}"
        ) from error
    if not 1 <= len(found) <= MOST_NUMBERS:
        raise argparse.ArgumentTypeError(
            f"must be from 1 to {MOST_NUMBERS:,} numbers, such as 1-24, got {text!r}"
        )
    return found[0] if len(found) == 1 else found


def at_most(read: Callable[[str], Any], most: int, text: str) -> Any:
    """Return what a function reads from a text, unless a number of it is too large.

    Raises:
        argparse.ArgumentTypeError: One is.
    """
    value = read(text)
    if max(value if isinstance(value, list) else [value]) > most:
        raise argparse.ArgumentTypeError(f"must be at most {most:,}, got {text!r}")
    return value


LISTS: Mapping[Any, tuple[Callable[[str], Any], str | None]] = {
    str: (flags.names, "A,B"),
    int: (whole_numbers, "N,..."),
    float: (numbers, "X,Y"),
}
SCALARS: Mapping[Any, tuple[Callable[[str], Any], str | None]] = {
    str: (str, None),
    int: (whole, "N"),
    float: (number, "X"),
}
"""How a value, or a list of them, is read, and what the help shows for it."""
