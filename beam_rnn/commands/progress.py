"""How far a long run is, in the log."""

import logging
import time
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

logger = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two lines."""
PREDICTIONS = "predictions"
"""What is counted where there are predictions."""


class SayProgress(beam.DoFn):
    """Counts what passes; says every few seconds how many there were on this worker.

    The counter of that name has how many there were on all.

    Args:
        what: What is counted, such as "predictions".
    """

    def __init__(self, what: str):
        self._what = what
        self._passed = Metrics.counter("beam_rnn", what)

    def setup(self) -> None:
        """Nothing was counted yet."""
        self._count = 0

    def process(self, element: Any) -> None:  # noqa: ARG002
        """Count one."""
        self._passed.inc()
        if not self._count:  # the start of the pipeline took time too, which is not counted
            self._begun = self._said = time.monotonic()
        self._count += 1
        if self._count & 1023 == 0:  # the clock costs more than the rest
            now = time.monotonic()
            if now - self._said >= EVERY:
                self._said = now
                rate = self._count / (now - self._begun)
                logger.info("%s %s, %s a second", f"{self._count:,}", self._what, f"{rate:,.0f}")
