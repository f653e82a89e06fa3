"""Figures about the layout of the repository: python tests/contracts/house.py."""

import ast
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "beam_rnn"
SHARED = ("transforms", "portable", "cli", "commands", "steppers")
"""Folders in which one transform may have a module of the same name."""

WHEN_CALLED = {"models.on_tables"}
"""Modules that import from above in a function, for the convenience of a user: no arrow."""


def modules() -> dict[str, Path]:
    """Return the file of each module, by its dotted name inside the package."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {".".join(p.relative_to(PACKAGE).with_suffix("").parts): p for p in paths}


def doors() -> set[str]:
    """Return the modules at the root that only name what is public: imports, and `__all__`."""

    def only_names(node: ast.stmt) -> bool:
        return isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) or (
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        )

    root = {m: p for m, p in modules().items() if "." not in m}
    found = {m for m, p in root.items() if all(map(only_names, ast.parse(p.read_text()).body))}
    return found | {"__init__", "__main__"}


def room(module: str) -> str:
    """Return the package of a module; `python -m beam_rnn` is the command line."""
    package = module.split(".", maxsplit=1)[0]
    return "cli" if package == "__main__" else package


def imports(path: Path) -> Iterator[str]:
    """Yield what a module imports from the library, dotted, without the library's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "beam_rnn":
            inside = (node.module or "").removeprefix("beam_rnn").removeprefix(".")
            for name in node.names:
                yield f"{inside}.{name.name}".removeprefix(".")


def arrows() -> dict[str, set[str]]:
    """Return the packages that each package imports."""
    rooms = {room(m) for m in modules()}
    found: dict[str, set[str]] = {r: set() for r in rooms}
    for module, path in modules().items():
        for name in () if module in WHEN_CALLED else imports(path):
            to = room(name) if room(name) in rooms else "__init__"
            if to != room(module):
                found[room(module)].add(to)
    return found


def circles(found: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of packages that import one another, directly or through others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for to in found[todo.pop()] - seen:
                seen.add(to)
                todo.append(to)
        return seen

    reach = {r: reached(r) for r in found}
    groups = {
        frozenset({a, *(b for b in reach[a] if a in reach[b])}) for a in found if a in reach[a]
    }
    return [set(g) for g in groups]


def floors(found: dict[str, set[str]]) -> dict[str, int]:
    """Return the floor of each package: above all that it imports; a circle shares one floor."""
    together = {name: frozenset({name}) for name in found}
    for circle in circles(found):
        together |= dict.fromkeys(circle, frozenset(circle))
    height: dict[frozenset[str], int] = {}

    def of(group: frozenset[str]) -> int:
        if group not in height:
            below = {together[to] for name in group for to in found[name]} - {group}
            height[group] = 1 + max(map(of, below), default=0)
        return height[group]

    return {name: of(together[name]) for name in found}


def repeated() -> dict[str, list[str]]:
    """Return the file names that occur more than once, with the modules of that name."""
    by_name = defaultdict(list)
    for module in modules():
        by_name[module.split(".")[-1]].append(module)
    return {
        name: found
        for name, found in by_name.items()
        if len(found) > 1
        and name not in doors()
        and sum(not any(s in m.split(".") for s in SHARED) for m in found) != 0
    }


def function_lengths() -> list[int]:
    """Return the number of lines of each function."""
    return [
        (node.end_lineno or 0) - node.lineno + 1
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def raises_with_values() -> float:
    """Return the share of raised errors whose message holds a value."""
    counts: Counter[bool] = Counter()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                counts[not all(isinstance(a, ast.Constant) for a in node.exc.args)] += 1
    return counts[True] / counts.total()


def prose_words(path: Path) -> int:
    """Return the number of words of a page outside its code blocks."""
    return len(
        re.sub(r"^( *)```.*?^\1```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL).split()
    )


def guide_words() -> int:
    """Return the number of words of the guide, without the reference made from docstrings."""
    generated = {"api", "generated", "yaml-reference.md"}
    pages = (ROOT / "docs").rglob("*.md")
    guide = (p for p in pages if generated.isdisjoint(p.relative_to(ROOT / "docs").parts))
    return sum(len(p.read_text().split()) for p in guide)


def main() -> None:
    """Print every figure."""
    found = arrows()
    height = floors(found)
    length = {m: len(p.read_text().splitlines()) for m, p in modules().items()}
    longest = max(length, key=lambda m: length[m])
    lines = function_lengths()
    shut = [m for m in modules() if "." not in m and m not in doors()]
    print(f"modules at the root that are no doors  {len(shut)}")
    print(f"floors, by package                     {max(height.values())}")
    print(f"circles of packages                    {len(circles(found))}")
    print(f"modules that import from above when called  {', '.join(sorted(WHEN_CALLED))}")
    print(
        f"file names that occur more than once   {len(repeated())}: {', '.join(sorted(repeated()))}"
    )
    print(f"README, words outside code             {prose_words(ROOT / 'README.md')}")
    print(f"guide, words                           {guide_words()}")
    print(f"functions, p90 of lines                {statistics.quantiles(lines, n=10)[-1]:.0f}")
    print(f"longest module, lines                  {length[longest]}: {longest}")
    print(f"raises with values                     {raises_with_values():.1%}")
    for floor in range(1, max(height.values()) + 1):
        print(f"floor {floor}: {', '.join(sorted(r for r, f in height.items() if f == floor))}")


if __name__ == "__main__":
    main()
