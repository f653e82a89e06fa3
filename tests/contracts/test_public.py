"""Docs, pipelines, YAML and Java use public names only."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from beam_rnn.cli import main

ROOT = Path(__file__).parents[2]
DOORS = (
    *("beam_rnn", "beam_rnn.cells", "beam_rnn.cli", "beam_rnn.elements", "beam_rnn.errors"),
    *("beam_rnn.files", "beam_rnn.horizon", "beam_rnn.interop", "beam_rnn.online"),
    *("beam_rnn.optim", "beam_rnn.pairs", "beam_rnn.portable", "beam_rnn.report"),
    *("beam_rnn.testing", "beam_rnn.weights"),
)
COMMANDS = {f"beam_rnn.cli.{name}" for name in [*main.COMMANDS, "flags"]}
"""Each command is a module, with `main`; `flags` has their parsers."""
BLOCK = re.compile(r"^( *)```(?:python|py)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
USERS = [
    *sorted((ROOT / "pipelines").rglob("*.py")),
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(path):
    """The Python code of a file."""
    text = path.read_text()
    if path.suffix == ".py":
        return [text]
    return ["\n".join(l[len(m[1]) :] for l in m[2].split("\n")) for m in BLOCK.finditer(text)]


def imported(path):
    """Each module of the library from which a file imports, and the name."""
    for block in blocks(path):
        for node in ast.walk(ast.parse(block.replace(">>> ", ""))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("beam_rnn"):
                yield from ((node.module, alias.name) for alias in node.names)


def is_public(module, name):
    if module in DOORS and name in importlib.import_module(module).__all__:
        return True
    inside = f"{module}.{name}"
    return inside in DOORS or inside in COMMANDS or module in COMMANDS


@pytest.mark.parametrize("path", USERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_users_import_what_is_public(path):
    hidden = {each for each in imported(path) if not is_public(*each)}
    assert not hidden


@pytest.mark.parametrize("door", DOORS)
def test_a_public_module_has_every_name_in_all(door):
    module = importlib.import_module(door)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name), name


def test_yaml_and_java_name_portable_transforms():
    files = [
        ROOT / "beam_rnn" / "providers.yaml",
        *(ROOT / "pipelines" / "yaml").glob("*.yaml"),
        *(ROOT / "pipelines" / "java").rglob("*.java"),
        ROOT / "docs" / "yaml.md",
        ROOT / "docs" / "other-languages.md",
    ]
    named = {
        name
        for file in files
        for name in re.findall(r"\bbeam_rnn\.portable\.(\w+)", file.read_text())
    }
    assert named
    assert named <= set(importlib.import_module("beam_rnn.portable").__all__)


def test_the_page_on_stability_lists_the_public_modules():
    page = (ROOT / "docs" / "stability.md").read_text()
    for door in DOORS:
        assert f"`{door}`" in page, door
