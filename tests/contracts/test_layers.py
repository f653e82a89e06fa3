"""Data flows one way through the packages, and Beam and Arrow stay where they belong."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "beam_rnn"
FLOORS = [
    {"core"},
    {"data"},
    {"nn", "records"},
    {"models"},
    {"training", "interop", "testing"},
    {"engine", "report"},
    {"streaming"},
    {"transforms", "files"},
    {"__init__", "portable", "cli"},
]
"""A package imports only from the floors below its own."""
NOT_FROM = {"report": {"records"}, "streaming": {"report"}, "transforms": {"report"}}
"""Packages that are below, and still not imported."""
WHEN_CALLED = {"models.on_tables": {"engine"}}
"""Modules that import from above in a function, for the convenience of a user."""
DOORS = {"cells", "elements", "errors", "horizon", "online", "optim", "pairs", "weights"}
"""Public modules at the root: each names what is public of a package."""
BEAM = {"streaming", "transforms", "files", "portable", "cli"}
"""The packages that import Beam: on the floors from `streaming` up."""
ARROW = {
    *("core.sealed_format", "models.weights_format", "models.keyed_weights_format"),
    *("training.checkpoint_format", "records.arrow_batches", "records.arrow_columns"),
    *("records.arrow_reader", "records.result_columns"),
    *(
        "records.table_input",
        "engine.table_prediction",
        "engine.session",
        "models.on_tables",
        "training.fit_table",
        "engine.prediction_columns",
    ),
    *("engine.payloads", "streaming.model_loader"),
    *("streaming.emission", "streaming.packing", "engine.exported_states"),
    *("files.header", "files.read_blocks", "files.row_reader", "files.row_writer"),
    *("files.write", "cli.predict", "cli.predict_files", "cli.prediction_rows"),
}


@cache
def imported():
    """The names that each module imports."""
    return {name_of(path): set(imports(path)) for path in PACKAGE.rglob("*.py")}


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module):
    """Which package a module is in; `python -m beam_rnn` is the command line."""
    package = module.split(".")[0]
    return "cli" if package == "__main__" else package


def packages():
    return {name: package_of(name) for name in imported() if name not in DOORS}


def ours(name):
    """The packages that a module imports from."""
    known = {*packages().values(), *DOORS}
    for i in imported()[name]:
        library, _, inside = i.partition(".")
        if library == "beam_rnn":
            yield package_of(inside) if package_of(inside) in known else "__init__"


def test_every_package_has_its_floor():
    assert set(packages().values()) == set().union(*FLOORS)


def test_a_package_imports_only_from_below():
    for name, package in packages().items():
        floor = next(n for n, names in enumerate(FLOORS) if package in names)
        allowed = {package}.union(*FLOORS[:floor]) - NOT_FROM.get(package, set())
        allowed |= WHEN_CALLED.get(name, set())
        if package == "cli":
            allowed |= {"__init__"}  # the version, and what is imported when it is needed
        assert set(ours(name)) <= allowed, f"{name} imports {set(ours(name)) - allowed}"


def test_a_public_module_has_only_imports_and_all():
    for door in DOORS:
        for node in ast.parse((PACKAGE / f"{door}.py").read_text()).body:
            names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            assert names or isinstance(node, ast.ImportFrom | ast.Expr), f"{door}: {node.lineno}"


def test_packages_for_computation_do_not_import_beam():
    users = {n for n, names in imported().items() if any("apache_beam" in i for i in names)}
    when_asked = {"records.results", "core.filesystems"}  # in a function
    assert {package_of(name) for name in users - when_asked} <= BEAM


def test_the_engine_runs_without_beam():
    """Where a module imports Beam through another one, too."""
    free = sorted(n for n, p in packages().items() if p not in {*BEAM, "__init__"})
    imports = "; ".join(f"import beam_rnn.{name}" for name in free)
    code = f"{imports}; import sys; assert 'apache_beam' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


def test_only_files_and_batches_know_arrow():
    users = {n for n, names in imported().items() if any("pyarrow" in i for i in names)}
    assert users == ARROW


def test_the_library_does_not_import_its_pipelines_or_tests():
    for name, names in imported().items():
        assert not any(i.split(".")[0] in {"pipelines", "tests"} for i in names), name


def test_beam_reads_the_annotations():
    """`from __future__ import annotations` would switch its type checks off."""
    for name, names in imported().items():
        assert not any(i.startswith("__future__") for i in names), name


def test_a_stored_format_has_a_golden_file():
    """Modules that own a stored format end in `_format`; what they write is held byte by byte."""
    golden = " ".join(p.name for p in (Path(__file__).parent / "golden").iterdir())
    formats = {n.split(".")[-1] for n in imported() if n.endswith("_format")}
    assert formats == set(GOLDEN), formats ^ set(GOLDEN)
    for module, files in GOLDEN.items():
        for file in files:
            assert file in golden, f"{module}: {file}"


GOLDEN = {
    "sealed_format": ["weights-v1.arrow", "weights-v2.arrow"],
    "weights_format": ["weights-v1.arrow"],
    "keyed_weights_format": ["weights-v2.arrow"],
    "checkpoint_format": ["checkpoint-v1.arrow", "checkpoint-v1-pairs.arrow"],
    "state_format": ["state-v1"],
    "record_format": ["record-v3"],
    "waiting_format": ["waiting-v2"],
    "block_format": ["block-v2"],
    "order_format": ["armed-v2"],
    "log_format": ["shard-head-v1", "shard-block-v3", "shard-log-v4"],
    "error_tail_format": ["scored-v83"],
    "learned_format": ["learned-v82"],
}
