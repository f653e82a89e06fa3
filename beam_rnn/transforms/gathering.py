"""What comes together in one place."""

from typing import Any

import apache_beam as beam
from apache_beam import PCollection
from apache_beam.transforms.window import GlobalWindows


def gathered(pcoll: PCollection[Any]) -> beam.PTransform:
    """All elements as one list: of a window, if there are some; of the whole, even if none are."""
    gather = beam.CombineGlobally(beam.combiners.ToListCombineFn())
    return (
        gather if isinstance(pcoll.windowing.windowfn, GlobalWindows) else gather.without_defaults()
    )
