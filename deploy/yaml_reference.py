"""Generate the reference page of the transforms for Beam YAML from signatures and docstrings.

python -m deploy.yaml_reference > docs/yaml-reference.md
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any, NamedTuple

import docstring_parser

from beam_rnn import portable
from beam_rnn.data import scaling as scaler
from beam_rnn.nn import network
from beam_rnn.nn.optimizers import Optimizer
from beam_rnn.portable.arguments import MAPPINGS, NESTED, OPTIMIZERS, SCHEDULES

TRANSFORMS = (
    portable.RnnTrain,
    portable.RnnSequences,
    portable.RnnPredict,
    portable.RnnPredictSequences,
    portable.RnnAnomalies,
    portable.RnnGenerate,
)
TYPED = {"optimizer": OPTIMIZERS, "learning_rate": SCHEDULES}
"""Mappings with a `type`, by section."""
CHOICES = {**vars(scaler), **vars(network)}
OF_PYTHON = {
    ", or another that was put into `beam_rnn.nn.cells.CELLS`": "",
    "names in `beam_rnn.data.calendar.CYCLES`, ": "",
    ": see `beam_rnn.training.validation.SplitByTime`": "",
    "(), if there are none": "`[]` if there are none",
}
"""Phrases of the descriptions that concern Python only, and their replacements."""
SCALARS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
HEAD = """\
# Beam YAML: the parameters

The parameters of each transform of [Beam YAML](yaml.md) and the fields of their mappings, also for
Java. A parameter without a default is required; the default `null` means no value, or for a mapping
all of its defaults.

Generated from the docstrings by `python -m deploy.yaml_reference > docs/yaml-reference.md`.
"""


class Parameter(NamedTuple):
    """A parameter of a transform or field of a mapping.

    Attributes:
        name: The name.
        type: The type in words.
        default: The default as YAML; empty if the parameter is required.
        description: The description.
    """

    name: str
    type: str
    default: str
    description: str


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([HEAD, *(part for section in _sections() for part in section)])


def _sections() -> Iterator[Iterator[str]]:
    for transform in TRANSFORMS:
        yield section(2, transform.__name__, transform)
    for name, kind in {**MAPPINGS, **NESTED}.items():
        yield section(2, name, kind)
    for name, kinds in TYPED.items():
        yield iter([f"## {name}\n", f"A mapping with a `type`: {_choices(kinds)}.\n"])
        for each, kind in kinds.items():
            yield section(3, f"type: {each}", kind)


def section(level: int, title: str, documented: Any) -> Iterator[str]:
    """Yield the heading, the description and the table of a section."""
    docs = docstring_parser.parse(documented.__doc__, docstring_parser.DocstringStyle.GOOGLE)
    yield f"{'#' * level} {title}\n"
    description = docs.short_description or ""
    if not is_dataclass(documented) and docs.long_description:
        text = re.sub(r"^ *>>>.*(\n.+)*", "", docs.long_description, flags=re.MULTILINE)
        description += f"\n\n{text}"
    yield f"{plain(description.strip())}\n"
    yield "| | type | default | |\n|---|---|---|---|"
    descriptions = {each.arg_name: each.description or "" for each in docs.params}
    for each in parameters(documented, descriptions):
        yield f"| `{each.name}` | {each.type} | {each.default} | {each.description} |"
    yield ""


def parameters(documented: Any, descriptions: Mapping[str, str]) -> Iterator[Parameter]:
    """Yield the parameters of a dataclass or of the `__init__` of a transform."""
    if is_dataclass(documented):
        hints = typing.get_type_hints(documented)
        defaults = {
            field.name: field.default_factory()
            if field.default_factory is not MISSING
            else field.default
            for field in fields(documented)
        }
    else:
        hints = typing.get_type_hints(documented.__init__)
        defaults = {
            name: MISSING if each.default is each.empty else each.default
            for name, each in inspect.signature(documented.__init__).parameters.items()
            if name != "self"
        }
    for name, default in defaults.items():
        description = plain(" ".join(descriptions[name].split())).replace("|", "\\|")
        kind = type_of(name, hints[name])
        shown = "" if default is MISSING else f"`{yaml_of(default)}`"
        shown = "`{}`" if (kind, default) == ("mapping", ()) else shown
        yield Parameter(name, kind, shown, description)


def type_of(name: str, hint: Any) -> str:
    """Return the name of a type in words.

    >>> type_of("hidden", int | Sequence[int])
    'whole number or list of whole numbers'
    >>> type_of("bptt", NESTED["bptt"])
    '[mapping](#bptt)'
    """
    linked = {**MAPPINGS, **NESTED, **TYPED}
    parts = [hint]
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
    words = []
    for part in parts:
        origin, of = typing.get_origin(part) or part, typing.get_args(part)
        if origin in SCALARS:
            word = SCALARS[origin]
        elif origin is Sequence and typing.get_origin(of[0]) is tuple:
            continue  # pairs are a mapping in YAML
        elif origin is Sequence:
            word = f"list of {_plural(type_of('', of[0]))}"
        elif name == "outer" or origin is Optimizer:
            word = "[mapping](#optimizer)"
        elif name in {"learning_rate", "then"}:
            word = "[mapping](#learning_rate)"
        else:
            word = f"[mapping](#{name})" if name in linked else "mapping"
        words.append(word)
    return " or ".join(dict.fromkeys(words))


def _plural(words: str) -> str:
    return " or ".join(word if word == "text" else f"{word}s" for word in words.split(" or "))


def yaml_of(value: Any) -> str:
    """Return a default as YAML.

    >>> yaml_of(None), yaml_of((0.1, 0.9)), yaml_of(NESTED["bptt"](steps=32)), yaml_of(1e-8)
    ('null', '[0.1, 0.9]', '{steps: 32}', '1.0e-8')
    """
    if is_dataclass(value):
        given = {
            each.name: getattr(value, each.name)
            for each in fields(value)
            if getattr(value, each.name) != each.default
        }
        types_of = {kind: name for name, kind in {**OPTIMIZERS, **SCHEDULES}.items()}
        if type(value) in types_of:
            given = {"type": types_of[type(value)], **given}
        return "{" + ", ".join(f"{name}: {yaml_of(each)}" for name, each in given.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(yaml_of, value))}]"
    if isinstance(value, float) and "e" in repr(value):
        digits, exponent = repr(value).split("e")
        return f"{digits if '.' in digits else digits + '.0'}e{int(exponent)}"
    return value if isinstance(value, str) else json.dumps(value)


def plain(text: str) -> str:
    """Return a description in the terms of YAML.

    >>> plain('See `Columns(classes=...)`, output="sigmoid", None for none.')
    'See `classes` of [columns](#columns), output: sigmoid, `null` for none.'
    """
    text = text.replace("<", "&lt;")
    for ours, theirs in OF_PYTHON.items():
        text = text.replace(ours, theirs)
    mappings = {kind.__name__: name for name, kind in MAPPINGS.items()}
    for kind, name in mappings.items():
        link = f"[{name}](#{name})"
        text = re.sub(rf"`(?:beam_rnn\.(?:\w+\.)?)?{kind}`", link, text)
        text = re.sub(rf"`{kind}\((\w+)=(?:\.\.\.)?\)`", rf"`\1` of {link}", text)
    text = re.sub(r": see `(?:beam_rnn\.[\w.]+\.)?([A-Z_]+)`", partial(_named, text), text)
    text = re.sub(r"\b(\w+)=\"(\w+)\"", r"\1: \2", text)
    text = re.sub(r"\b(\w+)=(True|False)\b", lambda m: f"{m[1]}: {m[2].lower()}", text)
    return re.sub(r"\bNone\b", "`null`", text)


def _named(text: str, found: re.Match[str]) -> str:
    """Return the choices of a named constant, unless the text lists them already."""
    names = CHOICES[found[1]]
    return "" if f'"{names[0]}"' in text else f": {_choices(names)}"


def _choices(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(page(), end="")
