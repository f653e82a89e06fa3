"""The calibration of a forecast distribution: the share of targets below each quantile."""

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
"""The difference from the expected share that counts as correct; for few targets, two standard
errors if that is more."""
LISTED = 9
"""The maximum number of quantiles in the table."""


def calibration(model: Model, summary: Summary | None) -> Iterator[str]:
    """Yield nominal and observed shares; nothing if the outputs are no distribution."""
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
        '<p class="note">The share of targets at or below each quantile, which should equal the '
        "quantile's level.</p>"
    )


def _in_words(model: Model, at: SequenceOf[float], of: Calibration, where: str) -> Iterator[str]:
    """Yield the coverage of the band, and the bias of the forecasts."""
    ends = model.network.distribution.band
    if ends:
        band = ends[1] - ends[0]
        within = of.within / of.targets
        verdict = {0: "as expected", 1: "it is too wide", -1: "it is too narrow"}[
            _compared(within, band, of.targets)
        ]
        yield (
            f"The band{where} should contain {level(band)} of the {counted(of.targets, 'target')} "
            f"and contains {percent(within)}: {verdict}."
        )
    middle = len(at) // 2
    share = of.shares[middle]
    side = _compared(share, at[middle], of.targets)
    if side:
        yield (
            f"{percent(share)} lie below the quantile of {level(at[middle])}: the forecasts are "
            f"too {'high' if side > 0 else 'low'}."
        )


def _compared(share: float, expected: float, targets: int) -> int:
    """Return 0 if a share is as expected, 1 if it is too large, -1 if it is too small."""
    chance = 2 * math.sqrt(expected * (1 - expected) / targets)
    return int(np.sign(share - expected)) if abs(share - expected) > max(TOLERANCE, chance) else 0


def _chart(at: SequenceOf[float], each: SequenceOf[Calibration], names: SequenceOf[str]) -> Chart:
    """Return the chart of observed over nominal shares, with the diagonal."""
    ends = np.array([0.0, 100.0])
    marks: list[Mark] = [Line(Trace(ends, ends), "calibrated", "base")]
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
        f"Targets below each quantile, observed and nominal: {shares}",
        x_axis="number",
        from_zero=True,
    )


def _table(
    at: SequenceOf[float], each: SequenceOf[Calibration], names: SequenceOf[str]
) -> Iterator[str]:
    """Yield a table of these shares, of at most `LISTED` quantiles."""
    step = -(-len(at) // LISTED)
    heads = "".join(f"<th>{name}</th>" for name in (names if len(names) > 1 else ["observed"]))
    yield '<table class="figures">'
    yield f"<tr><th>quantile</th>{heads}</tr>"
    for i in range(step - 1, len(at), step):
        cells = "".join(f"<td>{percent(of.shares[i])}</td>" for of in each)
        yield f"<tr><td>{level(at[i])}</td>{cells}</tr>"
    yield "</table>"
