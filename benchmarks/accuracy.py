"""Compare the accuracy of the library's networks with published and naive figures.

    python -m benchmarks.accuracy [--only temporal-order,adding,...] [--data FOLDER] [--json FILE]

A row is a task; its protocol is documented in its module in `benchmarks/tasks`. All figures are
measured on data that was used neither for training nor for the choice of settings; the seeds are
fixed. A row that misses its goal stays in the table. `--data` is the folder of `ETTh1.csv`,
`rt-polarity` and `jsb-chorales-quarter.json`, which do not ship with the project. `--quick` trains
on very little data, to test that a row runs.
"""

import argparse
import json
import os
import time

if __name__ == "__main__":
    for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tasks import chorales, etth1, long_lags, nab, sentiment, translation
from benchmarks.tasks.outcome import Outcome

ROWS: dict[str, Callable[..., Outcome]] = {
    **long_lags.ROWS,
    **chorales.ROWS,
    **etth1.ROWS,
    **sentiment.ROWS,
    **translation.ROWS,
    **nab.ROWS,
}
"""The tasks by name: functions of the data folder and `quick`."""


def lines_of(name: str, outcome: Outcome, minutes: float) -> str:
    """Return a row as text: our figure and those of the peers."""
    seeds = ", ".join(f"{figure:.4g}" for figure in outcome.figures)
    ours = f"{name:<18}{outcome.measure:<46}{'ours':<34}{outcome.ours:>9.4g}"
    reached = "reached" if outcome.reached else "not reached"
    rows = [f"{ours}  goal {reached}, {minutes:.1f} minutes; each seed: {seeds}"]
    for peer, figure in outcome.beside.items():
        mark = "  the goal" if peer == outcome.goal else ""
        rows.append(f"{'':<64}{peer:<34}{figure:>9.4g}{mark}")
    return "\n".join(rows)


def value_of(name: str, outcome: Outcome, minutes: float) -> dict[str, Any]:
    """Return a row as JSON values."""
    value = {"row": name, "measure": outcome.measure, "ours": outcome.ours}
    value |= {"figures": outcome.figures, "goal": outcome.goal, "reached": outcome.reached}
    return value | {"beside": outcome.beside, "minutes": minutes, **outcome.facts}


def chosen(names: str) -> list[str]:
    """Parse a comma-separated list of row names.

    >>> chosen("adding,temporal-order")
    ['adding', 'temporal-order']
    """
    wanted = names.split(",")
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"there is no row {', '.join(unknown)}: choose from {', '.join(ROWS)}"
        )
    return wanted


def main(argv: Sequence[str] | None = None) -> None:
    """Run the rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=chosen, default=list(ROWS), help="rows, comma-separated")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the data folder")
    parser.add_argument("--quick", action="store_true", help="train on very little data")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    values = []
    for name in args.only:
        started = time.perf_counter()
        try:
            outcome = ROWS[name](args.data, quick=args.quick)
        except FileNotFoundError as missing:
            print(f"{name:<18}skipped: there is no {missing.filename}")
            continue
        minutes = (time.perf_counter() - started) / 60
        print(lines_of(name, outcome, minutes), flush=True)
        values.append(value_of(name, outcome, minutes))
    if args.json:
        args.json.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
