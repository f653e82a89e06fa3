"""Gathers all elements in one place."""

from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.transforms.window import GlobalWindows


def gathered(pcoll: PCollection[Any]) -> beam.PTransform:
    """Return a transform that gives all elements of a window as one list.

    An empty window gives none; the global window gives a list in any case.
    """
    gather = beam.CombineGlobally(beam.combiners.ToListCombineFn())
    return (
        gather if isinstance(pcoll.windowing.windowfn, GlobalWindows) else gather.without_defaults()
    )
