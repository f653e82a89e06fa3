"""A live stream on Prism, which a test feeds while its pipeline runs."""

import contextlib
import itertools
import queue
import time
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.utils.timestamp import Timestamp

from deploy.local.processes import wait_for
from tests.helpers.streams import FLAGS

TICK = 0.1
"""Seconds between two ticks of the clock."""
cancelled = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
"""Mark of tests that cancel a pipeline: the threads of its workers say that the runner is gone."""

_waiting: dict[int, queue.SimpleQueue] = {}
_numbers = itertools.count()


def _come(_tick, number):
    """A function of this module, so that it is pickled by its name: `_waiting` is shared."""
    with contextlib.suppress(queue.Empty):
        while True:
            yield _waiting[number].get_nowait()


class Feed(beam.PTransform):
    """Records that arrive with the next tick of a clock, which moves the watermark."""

    def __init__(self, kind=Any):
        super().__init__()
        self._number, self._kind = next(_numbers), kind
        _waiting[self._number] = queue.SimpleQueue()

    def put(self, *records):
        for record in records:
            _waiting[self._number].put(record)

    def expand(self, pbegin):
        ticks = pbegin | PeriodicImpulse(start_timestamp=Timestamp.now(), fire_interval=TICK)
        return ticks | beam.FlatMap(_come, self._number).with_output_types(self._kind)


class Running:
    """A pipeline that runs."""

    def __init__(self, result):
        self._result = result

    def until(self, condition, seconds=60):
        """Wait for it to hold, so long as the pipeline runs."""

        def held():
            assert self._result.state not in (PipelineState.FAILED, PipelineState.DONE)
            return condition()

        wait_for("such output", held, seconds)

    def goes_on(self, seconds=0.5):
        """Wait, for what must not come."""
        time.sleep(seconds)
        assert self._result.state == PipelineState.RUNNING


@contextlib.contextmanager
def running(build):
    """Run a pipeline on Prism until the end of the block; yield the result of `build`."""
    pipeline = beam.Pipeline(options=PipelineOptions(FLAGS["prism"]))
    built = build(pipeline)
    result = pipeline.run()
    try:
        yield Running(result), built
    finally:
        result.cancel()
