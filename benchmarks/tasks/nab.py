"""Anomaly scores by the Numenta Anomaly Benchmark's score, standard profile.

`benchmarks.nab` documents the protocol and has the other profiles and NAB's own detectors; this is
its first row. The series are those in the folder `nab` of the data, or else the eight of the demo.
0 is no detection at all, 100 is the detection of every anomaly at its start. The windowed Gaussian
is a reimplementation of NAB's own, checked against its result files.
"""

from pathlib import Path

from benchmarks import nab
from benchmarks.tasks.outcome import Outcome

GOAL = "windowedGaussian"


def outcome(folder: Path, *, quick: bool) -> Outcome:
    """Return the score of `pipelines.anomaly` and of its naive peers."""
    series = folder / "nab"
    rows = [
        row
        for row in nab.nab(series if series.is_dir() else None, quick=quick)
        if row["case"].startswith("nab/all") and row["case"].endswith("/standard")
    ]
    return Outcome(
        f"NAB score, {rows[0]['case'].split(', ')[1].split('/')[0]}",
        (rows[0]["ours"],),
        goal=GOAL,
        beside={row["peer"]: row["theirs"] for row in rows},
        higher_is_better=True,
        facts={"found": rows[0]["ours_found"], "of": rows[0]["windows"]},
    )


ROWS = {"nab": outcome}
