"""A griffe extension that formats the doctests of docstrings for the site."""

import re
import textwrap
from typing import Any

import griffe

DOCTEST = re.compile(r"(?:^[ \t]*>>> .*\n?(?:^[ \t]*\S.*\n?)*)", re.MULTILINE)


class Doctests(griffe.Extension):
    """Shows doctests as code blocks."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a class or function."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """Return a docstring with a code fence around each doctest."""
    return DOCTEST.sub(
        lambda found: f"```pycon\n{textwrap.dedent(found[0]).rstrip()}\n```\n", docstring
    )
