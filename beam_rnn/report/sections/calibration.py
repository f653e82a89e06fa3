"""Whether a forecast distribution keeps its word: how many targets lie below each quantile."""

import math
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf

import numpy as np

from beam_rnn.core.text import counted, level, percent
from beam_rnn.models.model import Model
from beam_rnn.report.charts.marks import Dot, Line, Mark, Trace
from beam_rnn.report.charts.svg import Chart, square
from beam_rnn.report.scores import Calibration, Summary

TOLERANCE = 0.02
"""A share that is no further from what it should be is as it should be; of few targets, no
further than two standard deviations of chance."""
LISTED = 9
"""So many quantiles have a line in the table, at the most."""


def calibration(model: Model, summary: Summary | None) -> Iterator[str]:
    """Nominal against observed shares; nothing for outputs that are no distribution."""
    if summary is None or not summary.calibration:
        return
    at = model.network.distribution.levels
    horizons = (1,) if model.columns is None else model.columns.horizons
    names = [counted(horizons[i], "record") + " ahead" for i in (0, -1)]
    names = names[: len(summary.calibration)] if len(horizons) > 1 else ["model"]
    yield "<h2>Calibration</h2>"
    where = f", {names[0]}," if len(horizons) > 1 else ""
    yield f"<p>{' '.join(_in_words(model, at, summary.calibration[0], where))}</p>"
    chart = _chart(at, summary.calibration, names)
    yield '<div class="beside">'
    yield square(chart)
    yield from _table(at, summary.calibration, names)
    yield "</div>"
    yield (
        '<p class="note">Of each quantile, the share of the targets at or below it: the same share '
        "as the quantile's own is as it should be.</p>"
    )


def _in_words(model: Model, at: SequenceOf[float], of: Calibration, where: str) -> Iterator[str]:
    """What the band holds, and on which side the forecasts lie."""
    ends = model.network.distribution.band
    if ends:
        band = ends[1] - ends[0]
        within = of.within / of.targets
        verdict = {0: "as it should", 1: "it is wider than need be", -1: "it is too narrow"}[
            _beside(within, band, of.targets)
        ]
        yield (
            f"The band{where} should hold {level(band)} of the {counted(of.targets, 'target')}, "
            f"and holds {percent(within)}: {verdict}."
        )
    middle = len(at) // 2
    share = of.shares[middle]
    side = _beside(share, at[middle], of.targets)
    if side:
        yield (
            f"{percent(share)} lie below the quantile of {level(at[middle])}: the forecasts are "
            f"too {'high' if side > 0 else 'low'}."
        )


def _beside(share: float, expected: float, targets: int) -> int:
    """Whether a share is as expected (0), greater (1) or less (-1)."""
    chance = 2 * math.sqrt(expected * (1 - expected) / targets)
    return int(np.sign(share - expected)) if abs(share - expected) > max(TOLERANCE, chance) else 0


def _chart(at: SequenceOf[float], each: SequenceOf[Calibration], names: SequenceOf[str]) -> Chart:
    """Observed over nominal shares, with the diagonal."""
    ends = np.array([0.0, 100.0])
    marks: list[Mark] = [Line(Trace(ends, ends), "as it should be", "base")]
    x = 100 * np.array(at)
    for of, name, style in zip(each, names, ("second", "first"), strict=False):
        y = 100 * np.array(of.shares)
        marks.append(Line(Trace(x, y), name, style))
        marks += [Dot(float(a), float(b), "", style) for a, b in zip(x, y, strict=True)]
    pairs = zip(each[0].shares, at, strict=True)
    shares = ", ".join(f"{percent(share)} of {level(each)}" for share, each in pairs)
    return Chart(
        marks,
        "quantile, %",
        "targets at or below it, %",
        f"Targets below each quantile, observed of nominal: {shares}",
        x_axis="number",
        from_zero=True,
    )


def _table(
    at: SequenceOf[float], each: SequenceOf[Calibration], names: SequenceOf[str]
) -> Iterator[str]:
    """The same in figures, of some of the quantiles."""
    step = -(-len(at) // LISTED)
    heads = "".join(f"<th>{name}</th>" for name in (names if len(names) > 1 else ["observed"]))
    yield '<table class="figures">'
    yield f"<tr><th>quantile</th>{heads}</tr>"
    for i in range(step - 1, len(at), step):
        cells = "".join(f"<td>{percent(of.shares[i])}</td>" for of in each)
        yield f"<tr><td>{level(at[i])}</td>{cells}</tr>"
    yield "</table>"
