"""How docstrings are shown on the site of the guide: an extension of griffe, which reads them."""

import re
import textwrap
from typing import Any

import griffe

DOCTEST = re.compile(r"(?:^[ \t]*>>> .*\n?(?:^[ \t]*\S.*\n?)*)", re.MULTILINE)


class Doctests(griffe.Extension):
    """Shows the doctests of docstrings as code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """A class or function in; its docstring changed."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """A docstring with a fence around each doctest."""
    return DOCTEST.sub(
        lambda found: f"```pycon\n{textwrap.dedent(found[0]).rstrip()}\n```\n", docstring
    )
