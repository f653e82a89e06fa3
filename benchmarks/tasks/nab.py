"""Anomaly scores by the Numenta Anomaly Benchmark's score, standard profile.

`benchmarks.nab` has the protocol, the other profiles, and NAB's own detectors: this is its first
row. All series of `nab` in the folder of the data; without it the eight of the demo. 0 stands for
no detection at all, 100 for every anomaly found at its begin. The windowed Gaussian is NAB's own,
written again and held against its result files.
"""

from pathlib import Path

from benchmarks import nab
from benchmarks.tasks.outcome import Outcome

GOAL = "windowedGaussian"


def outcome(folder: Path, *, quick: bool) -> Outcome:
    """The score of what `pipelines.anomaly` writes, beside what needs no network."""
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
