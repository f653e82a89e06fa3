"""Records a second on a real Flink cluster: `Predict` beside a stateful DoFn that does nothing.

    python -m benchmarks.flink [--quick] [--rounds N] [--json FILE]

Batch jobs of `benchmarks.engine` on the cluster of `deploy.local.flink`: a JobManager, two
TaskManagers, RocksDB, parallelism 2, a worker process each. A GRU of 64 units, 10,000 keys at
random, by arrival. Of each case a small and a large job, in turn: what the larger one took longer,
for the records it had more, so that starting a job is in neither. `keyed` brings the records to
their keys and does nothing; `noop` reads and writes 256 bytes of state for each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from deploy.local import ROOT
from deploy.local.flink import Flink

KEYS = 10_000


class Case(NamedTuple):
    """A form of `benchmarks.engine` and the records of its two jobs."""

    name: str
    small: int
    large: int


CASES = [
    Case("keyed", 200_000, 2_000_000),
    Case("noop", 40_000, 200_000),
    Case("keys", 20_000, 100_000),
    Case("shards", 200_000, 2_000_000),
    Case("arrow", 200_000, 4_000_000),
]


def seconds(flink: Flink, case: str, records: int, weights: Path) -> float:
    """How long a job took, from its submission to its end."""
    command = [
        *(sys.executable, "-m", "benchmarks.engine", f"--case={case}", f"--records={records}"),
        *(f"--keys={KEYS}", f"--weights={weights}", *flink.flags(), "--parallelism=2"),
    ]
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    run = subprocess.run(  # noqa: S603  # the benchmark of a job
        command,
        cwd=ROOT,
        env={**os.environ, **one_thread},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        sys.exit(run.stderr[-3000:])
    return float(run.stdout.split()[-2])


def main() -> None:
    """Start a cluster, run the jobs in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few records: whether it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = [case._replace(small=64, large=320) for case in CASES] if args.quick else CASES
    slopes: dict[str, list[float]] = {case.name: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder, Flink(Path(folder) / "flink") as flink:
        weights = Path(folder) / "weights.arrow"
        for turn in range(1 if args.quick else args.rounds):
            for case in cases:
                small = seconds(flink, case.name, case.small, weights)
                large = seconds(flink, case.name, case.large, weights)
                slopes[case.name].append((large - small) / (case.large - case.small))
                print(f"round {turn + 1}, {case.name}: {small:.1f} s, {large:.1f} s", flush=True)
    micros = {name: 1e6 * statistics.median(found) for name, found in slopes.items()}
    print(f"{'case':8} {'us a record':>12} {'records a second':>18} {'beside noop':>12}")
    for name, each in micros.items():
        print(f"{name:8} {each:12.2f} {1e6 / each:18,.0f} {micros['noop'] / each:11.1f}x")
    if args.json is not None:
        args.json.write_text(json.dumps({"us_a_record": micros, "rounds": slopes}, indent=2))


if __name__ == "__main__":
    main()
