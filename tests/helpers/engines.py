"""Pipelines on named engines, and their results as lists."""

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from deploy.local import ENGINES as FETCHED

# At exit Beam says that it stops Prism, when nobody listens to its log any more.
logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)

PRISM = FETCHED / "prism"
FLAGS = {
    "fnapi": ["--runner=FnApiRunner"],
    "bundle_based": ["--runner=BundleBasedDirectRunner"],
    "embed": [
        "--runner=PortableRunner",
        "--job_endpoint=embed",
        "--environment_type=LOOPBACK",
    ],
    "prism": [
        "--runner=PrismRunner",
        f"--prism_location={PRISM}",
        "--environment_type=LOOPBACK",
    ],
}
"""All run their workers in this process, which is how `Collect` gets at the results."""

prism = [
    pytest.mark.prism,
    pytest.mark.skipif(not PRISM.exists(), reason=f"no {PRISM}: it is built by Go, see Makefile"),
]
"""Marks of what runs on Prism."""
ON_PRISM = pytest.param("prism", marks=prism)
ENGINES = ["fnapi", "bundle_based", "embed", ON_PRISM]
"""Those that a test is given by `parametrize`."""

_collected: dict[int, list[Any]] = {}
_numbers = itertools.count()


def _append(element: Any, number: int) -> None:
    """A function of this module, so that it is pickled by its name: `_collected` is shared."""
    _collected[number].append(element)


class Collect(beam.PTransform):
    """Keeps every element in `elements`; no grouping, so no engine can hold one back."""

    def __init__(self):
        super().__init__()
        self._number = next(_numbers)
        _collected[self._number] = []

    @property
    def elements(self) -> list[Any]:
        return _collected[self._number]

    def expand(self, pcoll):
        return pcoll | beam.Map(_append, self._number)


def run(build: Callable[[beam.Pipeline], Any], engine: str = "fnapi", *flags: str) -> Any:
    """Build a pipeline, run it, and return what `build` returned and the pipeline's result."""
    pipeline = beam.Pipeline(options=PipelineOptions([*FLAGS[engine], *flags]))
    built = build(pipeline)
    result = pipeline.run()
    result.wait_until_finish()
    return built, result


def elements(transform: beam.PTransform, inputs: Iterable[Any], engine: str = "fnapi") -> list[Any]:
    """The elements that a transform with one output makes of the inputs."""
    collect = Collect()
    run(lambda p: p | beam.Create(list(inputs), reshuffle=False) | transform | collect, engine)
    return collect.elements


class Outputs:
    """The elements of each output of `Predict`."""

    def __init__(self, outputs):
        self._collects = {name: Collect() for name in outputs._fields}
        for name, collect in self._collects.items():
            _ = getattr(outputs, name) | f"Collect-{name}" >> collect

    def __getattr__(self, name: str) -> list[Any]:
        return self._collects[name].elements


def predict(transform: beam.PTransform, records: Iterable[Any], engine: str = "fnapi") -> Outputs:
    """Return the results of `Predict`."""
    built, _ = run(
        lambda p: Outputs(p | beam.Create(list(records), reshuffle=False) | transform), engine
    )
    return built
