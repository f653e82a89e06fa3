"""The arrows between modules point one way, and Beam stays where it belongs."""

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "beam_rnn"
ORDER = [
    "errors",
    "sealed",
    "checks",
    "atomic",
    "arithmetic",
    "products",
    "times",
    "cells",
    "cycles",
    "vocabularies",
    "columns",
    "pairs",
    "pairs.columns",
    "generating",
    "generating.feedback",
    "outputs",
    "network",
    "embedding",
    "pairs.encoder_decoder",
    "pairs.attention",
    "dropout",
    "packed",
    "missing",
    "layers",
    "fused",
    "fused.compiling",
    "fused.vectors",
    "fused.activations",
    "fused.product",
    "fused.cells",
    "fused.layers",
    "kernels",
    "backprop",
    "losses",
    "objective",
    "schedules",
    "optimizers",
    "generating.chance",
    "scaler",
    "learning",
    "learning.running",
    "anomalies",
    "anomalies.tails",
    "batches",
    "examples",
    "bptt",
    "pairs.transduction",
    "pairs.decoding",
    "learning.flat",
    "settings",
    "validation",
    "facts",
    "sequence_examples",
    "pairs.examples",
    "plan",
    "dataset",
    "model",
    "lookahead",
    "pairs.transducer",
    "keyed",
    "passes",
    "generating.drawing",
    "generating.generation",
    "rounds",
    "learning.gating",
    "learning.settings",
    "learning.rescaling",
    "fit",
    "horizon",
    "sweep",
    "report.axes",
    "report.marks",
    "report.charts",
    "report.figures",
    "report.spread",
    "report.scores",
    "report.distributions",
    "report.comparison",
    "report.words",
    "report.facts",
    "report.curves",
    "report.forecasts",
    "report.horizons",
    "report.keys",
    "report.calibration",
    "report.counts",
    "report.page",
    "report",
    "described",
    "keyed_weights",
    "weights",
    "checkpoints",
    "interop.chain",
    "interop.pytorch",
    "interop.keras_file",
    "interop.keras_read",
    "interop.keras_write",
    "interop.onnx_graph",
    "interop.onnx_read",
    "interop.onnx_write",
    "interop",
    "state",
    "kept",
    "learning.learned",
    "learning.updating",
    "learning.prequential",
    "turns",
    "anomalies.scored",
    "shards",
    "shards.blocks",
    "shards.table",
    "shards.pending",
    "rows",
    "records",
    "pairs.records",
    "joining",
    "reading",
    "storage",
    "pairs.transducing",
    "sorting",
    "sequences",
    "planning",
    "training",
    "writing",
    "per_key",
    "loading",
    "arrow",
    "packing",
    "stepping",
    "smoothing",
    "gathering",
    "learning.learners",
    "generating.prompting",
    "testing.cells",
    "testing.oracle",
    "testing",
    "closing",
    "stateful",
    "whole",
    "anomalies.scoring",
    "shards.stepping",
    "shards.payloads",
    "shards.shard",
    "shards.journal",
    "shards.emission",
    "shards.stateful",
    "moving",
    "transforms.arguments",
    "transforms.together",
    "transforms.sequences",
    "transforms.per_key",
    "transforms.train",
    "transforms.models",
    "transforms.predict",
    "transforms.smooth",
    "transforms.whole",
    "transforms.learn",
    "transforms.anomalies",
    "transforms.generate",
    "transforms.states",
    "transforms.join",
    "transforms.transduce",
    "transforms",
    "quiet",
    "inference",
    "anomalies.detector",
    "portable.plain",
    "portable.named",
    "portable.names",
    "portable.fields",
    "portable.refused",
    "portable.weights",
    "portable.predictions",
    "portable.sequences",
    "portable.train",
    "portable.predict",
    "portable.whole",
    "portable.generate",
    "portable.anomalies",
    "portable",
    "__init__",
    "files",
    "files.suffixes",
    "files.lines",
    "files.reading",
    "files.writing",
    "files.aside",
    "commands",
    "commands.flags",
    "commands.running",
    "commands.table",
    "commands.launching",
    "commands.overwriting",
    "commands.progress",
    "commands.predictions",
    "commands.keeping",
    "commands.dates",
    "commands.ordering",
    "commands.usable",
    "commands.counting",
    "commands.reporting",
    "commands.replaying",
    "commands.train",
    "commands.predict",
    "commands.measuring",
    "commands.evaluate",
    "commands.report",
    "commands.inspect",
    "commands.sizing",
    "commands.size",
    "commands.convert",
    "commands.main",
    "__main__",
]
"""A module imports only what stands before it."""
BEAM_FROM = "rows"
ARROW = {
    *("sealed", "keyed_weights", "weights", "checkpoints", "moving", "arrow"),
    *("shards.payloads", "shards.emission"),
    *("files.reading", "files.writing", "commands.predictions", "commands.predict"),
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def modules():
    return {name_of(path): set(imports(path)) for path in PACKAGE.rglob("*.py")}


def name_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def test_every_module_has_its_place():
    assert modules().keys() == set(ORDER)


def test_a_module_imports_only_what_stands_before_it():
    for name, imported in modules().items():
        allowed = set(ORDER[: ORDER.index(name)])
        ours = {i.removeprefix("beam_rnn.") for i in imported} & set(ORDER) - {name}
        assert ours <= allowed, f"{name} imports {ours - allowed}"


def test_the_core_is_free_of_beam():
    for name in ORDER[: ORDER.index(BEAM_FROM)]:
        assert not any(i.split(".")[0] == "apache_beam" for i in modules()[name]), name


def test_only_files_and_batches_know_arrow():
    users = {n for n, imported in modules().items() if any("pyarrow" in i for i in imported)}
    assert users == ARROW


def test_the_library_does_not_import_its_pipelines_or_tests():
    for name, imported in modules().items():
        assert not any(i.split(".")[0] in {"pipelines", "tests"} for i in imported), name


def test_beam_reads_the_annotations():
    """`from __future__ import annotations` would switch its type checks off."""
    for name, imported in modules().items():
        assert "__future__" not in imported, name
