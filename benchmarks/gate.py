"""Measure the effect of the gate of online learning, on the shipped NAB series.

    python -m benchmarks.gate [--quick] [--json FILE]

The first 6,000 values of each series are forecast 1 step ahead, and then 2, 3 and 4 steps ahead, in
one pass of online learning: a residual GRU of 16 units, running scaling, an update at each record
through 12 steps. The table has mean squared errors relative to that of the base model, which is the
last value: `gated` with the gate, `learned` with the learned forecasts always. Below 1 is better
than the base model.
"""

import argparse
import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from beam_rnn import Bptt, Columns, Network
from beam_rnn.core.arrays import Array
from beam_rnn.online import Learning, Untrained
from beam_rnn.training.online.prequential import Prequential

DATA = Path(__file__).parent.parent / "pipelines" / "data" / "nab"
MOST = 6_000


def values_of(path: Path, most: int) -> Array:
    """Return the values of a series."""
    with open(path) as file:
        return np.array([float(row["value"]) for row in csv.DictReader(file)][:most])


def row_of(path: Path, horizon: int | tuple[int, ...], most: int) -> dict[str, Any]:
    """Return the errors of one series."""
    y = values_of(path, most)
    columns = Columns(key="series", inputs=["y"], horizon=horizon)
    base = Untrained(Network("gru", hidden=16, residual=True), columns).model()
    prequential = Prequential(base, Learning(Bptt(12, stride=1)))
    state = prequential.begin()
    forecasts, by_learned = [], 0
    for value in y:
        state = prequential.take(state, "series", np.array([value, value])) or state
        z, base_z = state.recent.z[-1], state.recent.base_z[-1]
        unit, center = state.recent.scale[-1], state.recent.offset[-1]
        forecasts.append([state.outputs, center + unit * z, center + unit * base_z])
        by_learned += state.made_by > 0
    steps = len(y) - columns.horizons[-1]
    true = np.stack([y[h : h + steps] for h in columns.horizons], 1)[:, np.newaxis]
    gated, learned, of_base = ((np.array(forecasts[:steps]) - true) ** 2).mean((0, 2))
    return {
        "series": path.stem,
        "horizons": columns.horizons,
        "gated": gated / of_base,
        "learned": learned / of_base,
        "by_learned": by_learned / len(y),
        "restarts": state.restarts,
    }


def main() -> None:
    """Measure all series and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 values of each series")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    rows = []
    for horizon in (1, (2, 3, 4)):
        of_horizon = []
        for path in sorted(DATA.glob("*.csv")):
            row = row_of(path, horizon, 100 if args.quick else MOST)
            of_horizon.append(row)
            print(
                f"{row['series']:<40}{row['horizons']!s:<12}gated {row['gated']:.4f}  learned "
                f"{row['learned']:.4f}  learned model used {row['by_learned']:.0%}, restarts "
                f"{row['restarts']}",
                flush=True,
            )
        for name in ("gated", "learned"):
            mean = math.exp(statistics.mean(math.log(row[name]) for row in of_horizon))
            print(f"geometric mean, {name:<25}{horizon!s:<12}{mean:.4f}")
        rows += of_horizon
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
