"""Measure `Predict` on a real Flink cluster, compared with a stateful DoFn that does nothing.

    python -m benchmarks.flink [--quick] [--rounds N] [--json FILE]

Batch jobs of `benchmarks.engine` run on the cluster of `deploy.local.flink`: a JobManager, two
TaskManagers, RocksDB, parallelism 2, one worker process each. The model is a GRU of 64 units; the
records have 10,000 random keys and are processed in order of arrival. Each case runs a small and a
large job. The figure is the difference of their times divided by the difference of their records,
so that it includes neither the start of a job nor the first record of each key. `keyed` groups the
records by key and does nothing else; `noop` reads and writes 256 bytes of state for each record.
The first job warms the cluster up and is not counted.
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


CASES = {
    "keyed": (200_000, 2_000_000),
    "noop": (40_000, 200_000),
    "keys": (20_000, 100_000),
    "shards": (200_000, 2_000_000),
    "arrow": (200_000, 4_000_000),
}
"""A case of `benchmarks.engine`, and the records of its small and its large job."""


class Job(NamedTuple):
    """A job and its total seconds."""

    case: str
    records: int
    seconds: float


def seconds(flink: Flink, case: str, records: int, weights: Path) -> float:
    """Return the seconds of a job from its submission to its end."""
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
    """Start a cluster, run the jobs alternately, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few records, to test that it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cases = dict.fromkeys(CASES, (64, 320)) if args.quick else CASES
    runs: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, Flink(Path(folder) / "flink") as flink:
        weights = Path(folder) / "weights.arrow"
        seconds(flink, "shards", 64, weights)
        for turn in range(1 if args.quick else args.rounds):
            for case, records in ((case, n) for case, sizes in cases.items() for n in sizes):
                took = seconds(flink, case, records, weights)
                runs.setdefault((case, records), []).append(took)
                print(f"round {turn + 1}, {case}, {records:,} records: {took:.1f} s", flush=True)
    jobs = [Job(*what, statistics.median(took)) for what, took in runs.items()]
    show(jobs)
    if args.json is not None:
        args.json.write_text(json.dumps([job._asdict() for job in jobs], indent=2))


def show(jobs: list[Job]) -> None:
    """Print the table of the cost per additional record."""
    print(f"{'case':8} {'seconds of the jobs':>20} {'us/record':>12} {'records/second':>17}")
    for case in CASES:
        few, many = (job for job in jobs if job.case == case)
        each = 1e6 * (many.seconds - few.seconds) / (many.records - few.records)
        both = f"{few.seconds:.1f}, {many.seconds:.1f}"
        print(f"{case:8} {both:>20} {each:12.2f} {1e6 / each:17,.0f}")


if __name__ == "__main__":
    main()
