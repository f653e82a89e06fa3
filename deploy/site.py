"""What the site of the guide has that the code host does not need: read by `mkdocs.yml`.

Pages that stand outside of `docs/` get a place on the site, and links to them and from them lead
there.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
OUTSIDE = {
    "README.md": "overview.md",  # a README.md would be the home
    "BENCHMARKS.md": "BENCHMARKS.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "pipelines/data/nab/README.md": "data/nab.md",
    "pipelines/data/shakespeare/README.md": "data/shakespeare.md",
}
"""Pages that stand elsewhere, and where they are on the site."""
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")


def on_files(files: Any, config: Any) -> Any:
    """Put the pages from outside among the files of the site."""
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let the links of a page lead to where pages are on the site."""
    return placed(markdown, page.file.src_uri)


def placed(markdown: str, place: str) -> str:
    """Text whose links lead to where pages are on the site.

        >>> placed("[figures](../BENCHMARKS.md#training), [k](choosing.md)", "sizing.md")
        '[figures](BENCHMARKS.md#training), [k](choosing.md)'
        >>> placed("[streams](docs/streaming.md)", "overview.md")
        '[streams](streaming.md)'

    Args:
        markdown: The text.
        place: The page on the site that it is of.
    """
    sources = {target: source for source, target in OUTSIDE.items()}
    source = sources.get(place, f"docs/{place}")

    def moved(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        target = OUTSIDE.get(path)
        if target is None and path.startswith("docs/"):
            target = path.removeprefix("docs/")
        if target is None:
            return link[0]
        return (
            link[1]
            + posixpath.relpath(target, posixpath.dirname(place) or ".")
            + ((link[3] or "") + link[4])
        )

    return LINK.sub(moved, markdown)
