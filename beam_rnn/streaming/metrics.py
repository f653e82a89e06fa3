"""Counters as Beam metrics, in the namespace `beam_rnn`."""

from functools import cache
from typing import Any

from apache_beam.metrics import Metrics

NAMESPACE = "beam_rnn"


class BeamCounters:
    """Counts as Beam metrics: a `beam_rnn.engine.stepper.Counters`."""

    def count(self, name: str, n: int = 1) -> None:
        """Add to a counter."""
        _counter(name).inc(n)

    def observe(self, name: str, value: int) -> None:
        """Add a value to a distribution."""
        _distribution(name).update(value)


@cache
def _counter(name: str) -> Any:
    return Metrics.counter(NAMESPACE, name)


@cache
def _distribution(name: str) -> Any:
    return Metrics.distribution(NAMESPACE, name)
