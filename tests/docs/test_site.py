"""The site of the guide has every page and every public name."""

import importlib
import re
from pathlib import Path

import pytest

import beam_rnn
from deploy import site

ROOT = Path(__file__).parents[2]
API = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
NAV = (ROOT / "mkdocs.yml").read_text()


def test_every_public_name_is_in_the_reference():
    named = set(re.findall(r"^::: beam_rnn\.([\w.]+)$", API, re.MULTILINE))
    doors = {
        f"{door}.{name}"
        for door in ("optim", "online", "pairs")
        for name in importlib.import_module(f"beam_rnn.{door}").__all__
    }

    assert {*beam_rnn.__all__, *doors} <= named


@pytest.mark.parametrize("name", ["testing", "interop"])
def test_every_name_of_the_tools_is_in_the_reference(name):
    module = getattr(__import__(f"beam_rnn.{name}"), name)
    (shown,) = re.findall(rf"^::: beam_rnn\.{name}\n.*members: \[(.*)\]", API, re.MULTILINE)

    assert set(module.__all__) == set(shown.split(", "))


def test_every_page_is_in_the_navigation():
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").glob("**/*.md")]

    assert [page for page in pages if not re.search(rf": {page}$", NAV, re.MULTILINE)] == []


def test_links_lead_to_where_pages_are_on_the_site():
    text = "[a](../BENCHMARKS.md#training) [b](speed.md) [c](https://x.org/a.md) ![d](order.svg)"

    assert site.placed(text, "sizing.md") == text.replace("../BENCH", "BENCH")
    assert site.placed("[a](docs/speed.md)", "overview.md") == "[a](speed.md)"
    assert site.placed("[a](../../README.md)", "api/files.md") == "[a](../overview.md)"
    assert site.placed("[a](../nowhere.py)", "sizing.md") == "[a](../nowhere.py)"
    assert all((ROOT / source).exists() for source in site.OUTSIDE)


def test_pages_from_outside_are_among_the_collected(tmp_path):
    site.collect(tmp_path)

    assert all((tmp_path / page).exists() for page in ("index.md", *site.OUTSIDE.values()))
    assert "](streaming.md" in (tmp_path / "overview.md").read_text()


def test_doctests_are_shown_as_code():
    docstrings = pytest.importorskip("deploy.docstrings", exc_type=ImportError)
    shown = docstrings.fenced("Adds.\n\n    >>> 1 + 1\n    2\n\nArgs:\n    x: A number.")

    assert shown == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nArgs:\n    x: A number."
    assert docstrings.fenced("Adds.") == "Adds."


def test_the_citation_has_what_its_schema_asks_for():
    text = (ROOT / "CITATION.cff").read_text()

    keys = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert {"cff-version", "message", "title", "authors"} <= keys
