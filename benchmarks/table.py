"""What the benchmarks share: interleaved timing, the table, the JSON."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One case: microseconds a record of ours and of a peer, medians of interleaved runs."""

    case: str
    ours_us: float
    peer: str
    peer_us: float

    @property
    def ratio(self) -> float:
        """How many times ours is faster."""
        return self.peer_us / self.ours_us


def medians(runs: Sequence[Callable[[], object]], repeat: int) -> list[float]:
    """The median seconds of each run, all in turn, after one round that is not counted."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(repeat + 1):
        for taken, run in zip(seconds, runs, strict=True):
            started = time.perf_counter()
            run()
            if turn > 0:
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def show(rows: Sequence[Row], json_file: str | None) -> None:
    """Print the table, and write the JSON if a file is named."""
    print(f"{'case':<36}{'ours us':>10}  {'peer':<20}{'peer us':>10}{'peer/ours':>11}")
    for row in rows:
        print(
            f"{row.case:<36}{row.ours_us:>10.1f}  {row.peer:<20}{row.peer_us:>10.1f}"
            f"{row.ratio:>11.2f}"
        )
    if json_file:
        values = [{**row._asdict(), "ratio": row.ratio} for row in rows]
        Path(json_file).write_text(json.dumps(values, indent=2) + "\n")
