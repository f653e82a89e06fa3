"""Shared by the benchmarks: interleaved timing, the table, the JSON."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A case: microseconds per record of ours and of a peer, from interleaved runs.

    Attributes:
        case: The name of the case.
        ours_us: Microseconds of ours.
        peer: The name of the peer.
        peer_us: Microseconds of the peer.
        moved: Bytes of state that ours and the peer moved per record; None if not counted.
    """

    case: str
    ours_us: float
    peer: str
    peer_us: float
    moved: tuple[float, float] | None = None

    @property
    def ratio(self) -> float:
        """Our speedup over the peer."""
        return self.peer_us / self.ours_us


def medians(runs: Sequence[Callable[[], object]], repeat: int, warm: int = 1) -> list[float]:
    """Return the median seconds of each run; the runs alternate, after some warm-up rounds."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(-warm, repeat):
        for taken, run in zip(seconds, runs, strict=True):
            started = time.perf_counter()
            run()
            if turn >= 0:
                taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def show(rows: Sequence[Row], json_file: str | None) -> None:
    """Print the table, and write the JSON file if one is given."""
    counted = any(row.moved for row in rows)
    print(
        f"{'case':<42}{'ours us':>10}  {'peer':<20}{'peer us':>10}{'peer/ours':>11}"
        + f"{'ours bytes':>12}{'peer bytes':>12}" * counted
    )
    values = []
    for row in rows:
        print(
            f"{row.case:<42}{row.ours_us:>10.2f}  {row.peer:<20}{row.peer_us:>10.2f}"
            f"{row.ratio:>11.2f}" + "".join(f"{moved:>12.0f}" for moved in row.moved or ())
        )
        value = {**row._asdict(), "ratio": row.ratio}
        moved = value.pop("moved")
        if moved is not None:
            value["ours_bytes"], value["peer_bytes"] = moved
        values.append(value)
    if json_file:
        Path(json_file).write_text(json.dumps(values, indent=2) + "\n")
