"""Collect the pages of the site in `build/guide`: `docs/` and pages of other folders.

python -m deploy.site
"""

import posixpath
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "guide"
"""The folder of the collected pages: the `docs_dir` of mkdocs.yml."""
OUTSIDE = {
    "README.md": "overview.md",  # a README.md would be the home page
    "BENCHMARKS.md": "BENCHMARKS.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "pipelines/data/nab/README.md": "data/nab.md",
    "pipelines/data/shakespeare/README.md": "data/shakespeare.md",
}
"""Pages outside of `docs/`, and their paths on the site."""
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")


def collect(folder: Path = FOLDER) -> None:
    """Write all pages to a folder, with links that work on the site.

    Args:
        folder: The folder; its old content is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for source, target in OUTSIDE.items():
        (folder / target).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / source, folder / target)
    for page in folder.rglob("*.md"):
        page.write_text(placed(page.read_text(), page.relative_to(folder).as_posix()))


def placed(markdown: str, place: str) -> str:
    """Return a page with links that work on the site.

        >>> placed("[figures](../BENCHMARKS.md#training), [k](choosing.md)", "sizing.md")
        '[figures](BENCHMARKS.md#training), [k](choosing.md)'
        >>> placed("[streams](docs/streaming.md)", "overview.md")
        '[streams](streaming.md)'

    Args:
        markdown: The page.
        place: The path of the page on the site.
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


if __name__ == "__main__":
    collect()
