"""A pipeline of a command, from building it to its counters."""

import glob
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn.core.errors import BeamRnnError, ConfigurationError, WeightsError
from beam_rnn.core.filesystems import scheme_of
from beam_rnn.core.progress import Throttle

logger = logging.getLogger(__name__)

NAMESPACE = "beam_rnn"


EVERY = 5.0
"""Seconds between two lines of progress."""


class StoppedError(BeamRnnError):
    """A pipeline failed while it ran: its flags are not at fault."""


def launch(
    build: Callable[[beam.Pipeline], None], options: PipelineOptions, prefixes: Sequence[str] = ()
) -> Mapping[str, int]:
    """Build a pipeline, run it, and wait for its end.

    Args:
        build: Adds the stages.
        options: Beam's options.
        prefixes: Prefixes of files that a Beam sink writes: if it fails, the log names the
            temporary folders that Beam left next to them.

    Returns:
        The counters of `beam_rnn` by name; {} of a runner that has none.

    Raises:
        ConfigurationError: The pipeline cannot be built.
        StoppedError: A worker raised such an error, or a `WeightsError`.
    """
    built = False
    try:
        with _watched(prefixes), beam.Pipeline(options=options) as pipeline:
            build(pipeline)
            built = True
    except (ConfigurationError, WeightsError) as error:
        if built:
            raise StoppedError(str(error)) from error
        raise
    return _counters(pipeline.result)


def _counters(result: Any) -> Mapping[str, int]:
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except Exception:  # noqa: BLE001  # each runner raises an error of its own
        return {}
    counts: dict[str, int] = {}
    for counter in found:
        name = counter.key.metric.name
        counts[name] = counts.get(name, 0) + (counter.result or 0)
    return counts


@contextmanager
def _watched(prefixes: Sequence[str]) -> Iterator[None]:
    """Log, if the run fails, the temporary folders of Beam's sinks on this machine.

    One of them may belong to another run with the same prefix, so none is removed.
    """
    before = set(_temporary(prefixes))
    try:
        yield
    except BaseException:
        for folder in set(_temporary(prefixes)) - before:
            logger.warning("%s is left: remove it, unless another run is writing there", folder)
        raise


def _temporary(prefixes: Sequence[str]) -> Iterator[str]:
    for path in prefixes:
        if scheme_of(path) is None:
            folder, name = os.path.split(path)
            pattern = f"beam-temp-{glob.escape(name)}-{'[0-9a-f]' * 32}"
            yield from glob.glob(os.path.join(glob.escape(folder), pattern))


class SayProgress(beam.DoFn):
    """Count what passes, in the counter of that name; log the count of this worker now and then.

    Args:
        what: What is counted, such as "predictions".
    """

    def __init__(self, what: str):
        self._what = what
        self._passed = Metrics.counter("beam_rnn", what)

    def setup(self) -> None:
        """Begin at 0."""
        self._count = 0

    def process(self, element: Any) -> None:  # noqa: ARG002
        """Count one."""
        self._passed.inc()
        if not self._count:  # not from the start of the pipeline, which takes time too
            self._begun, self._progress = time.monotonic(), Throttle(EVERY)
        self._count += 1
        if self._count & 1023 == 0 and self._progress.ready():  # the clock costs more than the rest
            rate = self._count / (time.monotonic() - self._begun)
            logger.info("%s %s, %s a second", f"{self._count:,}", self._what, f"{rate:,.0f}")
