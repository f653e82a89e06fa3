"""Records a second on a real Flink cluster: `Predict` beside a stateful DoFn that does nothing.

    python -m benchmarks.flink [--quick] [--rounds N] [--json FILE]

Batch jobs of `benchmarks.engine` on the cluster of `deploy.local.flink`: a JobManager, two
TaskManagers, RocksDB, parallelism 2, a worker process each. A GRU of 64 units, 10,000 keys at
random, by arrival. Of each case a small and a large job: what the larger one took longer, for the
records it had more, so that starting a job, and seeing a key for the first time, is in neither.
`keyed` brings the records to their keys and does nothing; `noop` reads and writes 256 bytes of
state for each record. A job before all others warms the cluster up.
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
"""A form of `benchmarks.engine`, and the records of its jobs: few, and many."""


class Job(NamedTuple):
    """What a job took: `seconds` in all."""

    case: str
    records: int
    seconds: float


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
    """The table: what a further record costs."""
    print(f"{'case':8} {'seconds of the jobs':>20} {'us a record':>12} {'records a second':>17}")
    for case in CASES:
        few, many = (job for job in jobs if job.case == case)
        each = 1e6 * (many.seconds - few.seconds) / (many.records - few.records)
        both = f"{few.seconds:.1f}, {many.seconds:.1f}"
        print(f"{case:8} {both:>20} {each:12.2f} {1e6 / each:17,.0f}")


if __name__ == "__main__":
    main()
