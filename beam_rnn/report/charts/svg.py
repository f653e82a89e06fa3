"""Charts as inline SVG: lines, bands, bars, rules and dots between two axes.

`Chart` describes a chart; `svg` draws it for one width. Each mark has a CSS class, and the page
sets the colours: those of `STYLE` suit colour-blind readers, on light and on dark pages.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from beam_rnn.core.arrays import Array
from beam_rnn.core.checks import check_choice
from beam_rnn.report.charts.axes import Axis, log_axis, number_axis, time_axis, whole_axis
from beam_rnn.report.charts.marks import Band, Bars, Dot, Line, Mark, Rule, Shade, Trace

STYLE = """
:root { --ink: #1c2430; --soft: #59636f; --faint: #dfe3e8; --first: #0072b2; --second: #d55e00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #a3acb8; --faint: #343b45; --first: #56b4e9; --second: #f0a030; }
}
svg.chart { display: block; width: 100%; height: auto; margin: 6px 0 10px; }
svg.chart text { font: 11.5px system-ui, sans-serif; fill: var(--soft); }
svg.chart text.name { fill: var(--ink); }
svg.chart .grid { stroke: var(--faint); stroke-width: 1; }
svg.chart .axis { stroke: var(--soft); stroke-width: 1; }
svg.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg.chart .truth { stroke: var(--ink); stroke-width: 0.9; }
svg.chart .first { stroke: var(--first); }
svg.chart .second { stroke: var(--second); }
svg.chart .band { fill: var(--second); fill-opacity: 0.22; stroke: none; }
svg.chart .shade { fill: var(--soft); fill-opacity: 0.14; stroke: none; }
svg.chart .rule { stroke-width: 1.4; stroke-dasharray: 5 4; }
svg.chart .base { stroke: var(--soft); stroke-dasharray: 6 4; }
svg.chart .bar { fill: var(--second); fill-opacity: 0.55; stroke: var(--page); stroke-width: 1; }
svg.chart .limit { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 1.5 3; }
svg.chart .dot { stroke: none; }
svg.chart .dot.first { fill: var(--first); }
svg.chart .dot.second { fill: var(--second); }
""".strip()
"""The CSS of charts. The classes of marks: truth, first, second, base, limit, shade."""


X_AXES = ("whole", "number", "log", "time")
Y_AXES = ("number", "log")


@dataclass(frozen=True)
class Chart:
    """The description of a chart.

        >>> line = Line(Trace(np.arange(3.0), np.ones(3)), "loss")
        >>> picture = svg(Chart([line], "epoch", "loss", "A constant loss."), width=360, height=200)
        >>> picture.startswith('<svg class="chart" viewBox="0 0 360 200"')
        True

    Args:
        marks: The marks, from the lowest layer to the uppermost.
        x_name: The name of the x axis.
        y_name: The name of the y axis, with its unit.
        description: The chart in words, for screen readers.
        x_axis: "whole" numbers, "number", "log", or "time" in microseconds since 1970.
        y_axis: "number" or "log".
        from_zero: If True, a y axis of numbers starts at 0.

    Raises:
        ConfigurationError: The kind of an axis is unknown.
    """

    marks: Sequence[Mark]
    x_name: str
    y_name: str
    description: str
    x_axis: str = "whole"
    y_axis: str = "number"
    from_zero: bool = False

    def __post_init__(self) -> None:
        check_choice("x_axis", self.x_axis, X_AXES)
        check_choice("y_axis", self.y_axis, Y_AXES)


class Frame(NamedTuple):
    """The axes and their positions in a picture, in pixels."""

    x: Axis
    y: Axis
    left: float
    right: float
    top: float
    bottom: float

    def at_x(self, values: Array | float) -> Array:
        """Return the positions of values of the x axis."""
        return self.left + self.x.place(values) * (self.right - self.left)

    def at_y(self, values: Array | float) -> Array:
        """Return the positions of values of the y axis."""
        return self.bottom - self.y.place(values) * (self.bottom - self.top)


LETTER = 6.4
"""The approximate width of a letter, in pixels."""
LINE_HEIGHT = 17


def svg(chart: Chart, width: int, height: int) -> str:
    """Return a chart as an SVG element of this size in pixels; it scales with the page."""
    rows = list(_legend_rows([mark for mark in chart.marks if mark.name], width))
    frame = _frame(chart, width, height, legend=LINE_HEIGHT * len(rows))
    size = f'viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg class="chart" {size} role="img" aria-label="{escape(chart.description)}">',
        *_legend(rows),
        *_grid(chart, frame, width),
        *(_drawn(mark, frame) for mark in chart.marks),
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(chart: Chart, width: int, height: int, legend: float) -> Frame:
    """Return the axes and their positions, with space for their labels."""
    xs, ys = _extent(chart)
    top, bottom = legend + LINE_HEIGHT + 12, height - 2 * LINE_HEIGHT - 4
    most = max(2, int(bottom - top) // 24)
    if chart.y_axis == "log":
        y = log_axis(*ys, most, margin=0.05)
    elif chart.from_zero:
        y = number_axis(0.0, 1.05 * ys[1] or 1.0, most)
    else:
        y = number_axis(*ys, most, margin=0.05)
    left = 10 + LETTER * max((len(tick.label) for tick in y.ticks), default=1)
    right = width - 12.0
    return Frame(_x_axis(chart.x_axis, *xs, right - left), y, left, right, top, bottom)


def _x_axis(kind: str, low: float, high: float, room: float) -> Axis:
    """Return the x axis, with as many ticks as fit in `room` pixels."""
    if kind == "time":
        return time_axis(low, high, most=max(2, int(room) // 84))
    if kind == "whole":
        return whole_axis(int(low), int(high), most=max(2, int(room) // 50))
    axis = log_axis if kind == "log" else number_axis
    return axis(low, high, max(2, int(room) // 60))


def _extent(chart: Chart) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the smallest and the largest x and y of all marks; (0, 1) without marks."""
    xs: list[float] = []
    ys: list[float] = []
    for mark in chart.marks:
        if isinstance(mark, Rule):
            xs += [] if mark.x is None else [mark.x]
            ys += [] if mark.y is None else [mark.y]
        elif isinstance(mark, Dot):
            xs.append(mark.x)
            ys.append(mark.y)
        elif isinstance(mark, Bars):
            xs += [mark.edges[0], mark.edges[-1]]
            ys += [0.0, mark.heights.max()]
        elif not isinstance(mark, Shade):
            traces = (mark.trace,) if isinstance(mark, Line) else (mark.low, mark.high)
            for trace in traces:
                if len(trace.x):
                    xs += [trace.x.min(), trace.x.max()]
                    ys += [np.nanmin(trace.y), np.nanmax(trace.y)]
    return (
        (float(min(xs, default=0)), float(max(xs, default=1))),
        (float(min(ys, default=0)), float(max(ys, default=1))),
    )


def _legend_rows(marks: Sequence[Mark], width: int) -> Iterator[list[tuple[float, Mark]]]:
    """Yield rows of marks for the legend, no wider than the picture, with their x positions."""
    row: list[tuple[float, Mark]] = []
    x = 2.0
    for mark in marks:
        wide = 28 + LETTER * len(mark.name) + 16
        if row and x + wide - 16 > width:
            yield row
            row, x = [], 2.0
        row.append((x, mark))
        x += wide
    if row:
        yield row


def _legend(rows: Iterable[list[tuple[float, Mark]]]) -> Iterator[str]:
    for i, row in enumerate(rows):
        y = 12 + LINE_HEIGHT * i
        for x, mark in row:
            yield _sample(mark, x, y - 4)
            yield f'<text class="name" x="{x + 28:.1f}" y="{y}">{escape(mark.name)}</text>'


def _sample(mark: Mark, x: float, y: float) -> str:
    """Return the sample of a mark in the legend."""
    if isinstance(mark, (Band, Shade, Bars)):
        style = {Band: "band", Shade: "shade", Bars: "bar"}[type(mark)]
        return f'<rect class="{style}" x="{x:.1f}" y="{y - 6:.1f}" width="22" height="12"/>'
    if isinstance(mark, Dot):
        return f'<circle class="dot {mark.style}" cx="{x + 11:.1f}" cy="{y:.1f}" r="4.5"/>'
    style = f"line {mark.style}" if isinstance(mark, Line) else _rule_style(mark)
    return f'<line class="{style}" x1="{x:.1f}" y1="{y:.1f}" x2="{x + 22:.1f}" y2="{y:.1f}"/>'


def _rule_style(rule: Rule) -> str:
    return "limit" if rule.style == "limit" else f"rule {rule.style}"


def _grid(chart: Chart, frame: Frame, width: int) -> Iterator[str]:
    """Yield ticks, grid lines at those of the y axis, and the names of the axes."""
    yield f'<text x="2" y="{frame.top - 12:.1f}">{escape(chart.y_name)}</text>'
    for tick in frame.y.ticks:
        y = float(frame.at_y(tick.value))
        yield _straight("grid", frame.left, y, frame.right, y)
        yield _text(frame.left - 6, y + 4, tick.label, "end")
    yield _straight("axis", frame.left, frame.bottom, frame.right, frame.bottom)
    below = frame.bottom + LINE_HEIGHT
    for tick in frame.x.ticks:
        x = float(frame.at_x(tick.value))
        yield _straight("axis", x, frame.bottom, x, frame.bottom + 4)
        for line, label in enumerate((tick.label, tick.within)):
            half = LETTER * len(label) / 2
            inside = min(max(x, half), width - half)
            if label:
                yield _text(inside, below + LINE_HEIGHT * line, label, "middle")
    yield _x_name(chart.x_name, frame, below + LINE_HEIGHT)


def _x_name(name: str, frame: Frame, y: float) -> str:
    """Return the name of the x axis, at a position without labels of ticks."""
    wide = LETTER * len(name)
    taken = [
        (float(frame.at_x(tick.value)), LETTER * len(tick.within) / 2 + 12)
        for tick in frame.x.ticks
        if tick.within
    ]
    for anchor, start in (("end", frame.right - wide), ("start", 2.0)):
        if all(x + half < start or x - half > start + wide for x, half in taken):
            return _text(frame.right if anchor == "end" else 2.0, y, name, anchor)
    return _text(frame.right, frame.top - 12, name, "end")


def _drawn(mark: Mark, frame: Frame) -> str:
    """Return a mark as SVG."""
    if isinstance(mark, Line):
        style = f"line {mark.style}"
        pieces = (_points(piece, frame) for piece in _pieces(mark.trace))
        return "".join(f'<polyline class="{style}" points="{points}"/>' for points in pieces)
    if isinstance(mark, Band):
        return "".join(_drawn_band(mark, frame))
    if isinstance(mark, Bars):
        return "".join(_drawn_bars(mark, frame))
    if isinstance(mark, Dot):
        x, y = float(frame.at_x(mark.x)), float(frame.at_y(mark.y))
        return f'<circle class="dot {mark.style}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if isinstance(mark, Shade):
        x, end = float(frame.at_x(mark.low)), float(frame.at_x(mark.high))
        size = f'width="{end - x:.1f}" height="{frame.bottom - frame.top:.1f}"'
        return f'<rect class="shade" x="{x:.1f}" y="{frame.top:.1f}" {size}/>'
    return _drawn_rule(mark, frame)


def _drawn_rule(mark: Rule, frame: Frame) -> str:
    if mark.x is not None:
        x = float(frame.at_x(mark.x))
        return _straight(_rule_style(mark), x, frame.top, x, frame.bottom)
    assert mark.y is not None, "a rule is vertical or horizontal"
    y = float(frame.at_y(mark.y))
    return _straight(_rule_style(mark), frame.left, y, frame.right, y)


def _drawn_band(band: Band, frame: Frame) -> Iterator[str]:
    for low, high in zip(_pieces(band.low), _pieces(band.high), strict=False):
        back = Trace(high.x[::-1], high.y[::-1])
        points = f"{_points(low, frame)} {_points(back, frame)}"
        yield f'<polygon class="band" points="{points}"/>'


def _drawn_bars(bars: Bars, frame: Frame) -> Iterator[str]:
    places = pairwise(frame.at_x(bars.edges).tolist())
    for (x, end), top in zip(places, frame.at_y(bars.heights).tolist(), strict=True):
        if top < frame.bottom:
            size = f'width="{end - x:.1f}" height="{frame.bottom - top:.1f}"'
            yield f'<rect class="bar" x="{x:.1f}" y="{top:.1f}" {size}/>'


def _pieces(trace: Trace) -> Iterator[Trace]:
    """Yield the stretches of a line; a single point is doubled, which draws a dot."""
    breaks = np.flatnonzero(np.isnan(trace.y))
    for x, y in zip(np.split(trace.x, breaks), np.split(trace.y, breaks), strict=True):
        drawn = ~np.isnan(y)
        if drawn.any():
            twice = 2 if drawn.sum() == 1 else 1
            yield Trace(np.repeat(x[drawn], twice), np.repeat(y[drawn], twice))


def _points(trace: Trace, frame: Frame) -> str:
    places = zip(frame.at_x(trace.x), frame.at_y(trace.y), strict=True)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _straight(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


WIDE, NARROW = 880, 360
"""The two widths of a chart, in pixels."""


def figure(chart: Chart, height: int) -> Iterator[str]:
    """Yield a chart in two widths."""
    yield f'<div class="wide">{svg(chart, WIDE, height)}</div>'
    yield f'<div class="narrow">{svg(chart, NARROW, min(height + 20, 260))}</div>'


def square(chart: Chart) -> str:
    """Return a square chart, in one width."""
    return f'<div class="square">{svg(chart, NARROW, NARROW)}</div>'
