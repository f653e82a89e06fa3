"""A chart in a page: one form for wide screens and one for narrow ones."""

from collections.abc import Iterator

from beam_rnn.report.charts import Chart, svg

WIDE, NARROW = 880, 360
"""How wide the two forms of a chart are, in pixels."""


def figure(chart: Chart, height: int) -> Iterator[str]:
    """A chart in its two forms."""
    yield f'<div class="wide">{svg(chart, WIDE, height)}</div>'
    yield f'<div class="narrow">{svg(chart, NARROW, min(height + 20, 260))}</div>'


def square(chart: Chart) -> str:
    """A chart as high as it is wide, in one form."""
    return f'<div class="square">{svg(chart, NARROW, NARROW)}</div>'
