"""Measure the latency from a message in Kafka to its prediction in Kafka, on an engine.

    python -m benchmarks.messages [--engine prism] [--case grid=0.5] [--rate 50] [--seconds 30]
        [--quick] [--json FILE]

A broker, the engine and `pipelines.live` run on this machine, between two topics of one partition.
The event time of a record is the time at which it is sent; the records have five keys, and a GRU of
64 units predicts each. With `grid=G` records are processed by event time, and the latency is
measured from the time at which they are due, at most G seconds after sending, until another
program has read the prediction. With `arrival` it is measured from the time of sending. The first
seconds are a warm-up and are not counted.

On Prism the workers run in the process that sends and reads: Beam's LOOPBACK environment.
"""

import argparse
import contextlib
import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from beam_rnn.engine.order_arguments import order_of
from benchmarks.sources import write_model
from deploy.local import ENGINES as FETCHED
from deploy.local import worker
from deploy.local.flink import STREAMING, Flink
from deploy.local.kafka import Broker, for_flink, for_others
from deploy.local.processes import wait_for
from deploy.local.topics import Reader, Sender, create, paced
from pipelines import live

SECOND = 1_000_000
KEYS = 5


class Engine(NamedTuple):
    """An engine for the live pipeline.

    Attributes:
        expansion: The address of the expansion service for Beam's Kafka transforms.
        flags: The flags of the runner.
        stop: Stops a running pipeline.
    """

    expansion: str
    flags: Sequence[str]
    stop: Callable[[Any], None]


@contextlib.contextmanager
def prism(folder: Path) -> Iterator[Engine]:
    """Start Prism, with workers in this process."""
    flags = ["--runner=PrismRunner", f"--prism_location={FETCHED / 'prism'}"]
    with for_others(folder) as expansion:
        yield Engine(
            expansion.address,
            [*flags, "--environment_type=LOOPBACK"],
            lambda result: result.cancel(),
        )


@contextlib.contextmanager
def flink(folder: Path) -> Iterator[Engine]:
    """Start a Flink cluster, with workers as processes."""
    java = worker.command(folder, "java")
    with Flink(folder / "cluster") as cluster, for_flink(folder, java) as expansion:
        yield Engine(
            expansion.address,
            [*cluster.flags(), *STREAMING, "--parallelism=2", "--job_name=messages"],
            lambda _: cluster.jobs.cancel(cluster.jobs.find("messages") or ""),
        )


ENGINES: dict[str, Callable[[Path], contextlib.AbstractContextManager[Engine]]] = {
    "prism": prism,
    "flink": flink,
}


class Load(NamedTuple):
    """The load to send.

    Attributes:
        rate: Records per second.
        warm: Seconds of warm-up, which are not counted.
        seconds: Seconds that are counted.
    """

    rate: float
    warm: float
    seconds: float


CASES = {
    "grid=0.1": ["--grid=0.1"],
    "grid=0.1/shards=1": ["--grid=0.1", "--shards=1"],
    "grid=0.5": ["--grid=0.5"],
    "grid=2": ["--grid=2"],
    "arrival": ["--order=arrival"],
}
"""Flags of `pipelines.live`."""


def readings(load: Load) -> Iterator[tuple[int, bytes]]:
    """Yield the time and the message of each record, at the time of sending."""
    count = int(load.rate * (load.warm + load.seconds))
    for i in paced(range(count), load.rate):
        now = int(time.time() * SECOND)
        record = {"id": f"key-{i % KEYS}", "t": now / SECOND, "x": math.sin(i / 10)}
        yield now, json.dumps(record).encode()


def measured(
    case: str, number: int, broker: Broker, engine: Engine, weights: Path, load: Load
) -> dict[str, Any]:
    """Run a pipeline, send to it, and return the latency of its predictions."""
    names = [f"{name}-{number}" for name in ("readings", "forecasts", "rejected")]
    create(broker.address, *names)
    source, output, rejected = (f"kafka://{broker.address}/{name}" for name in names)
    flags = [
        f"--weights={weights}",
        f"--input={source}?auto.offset.reset=earliest",
        f"--output={output}",
        f"--rejected={rejected}",
        f"--expansion_service={engine.expansion}",
        *CASES[case],
        *engine.flags,
    ]
    result = live.main(flags)
    reader = Reader(broker.address, names[1])
    try:
        sent, arrived, duplicates = _exchange(Sender(broker.address), reader, names[0], load)
    finally:
        engine.stop(result)
        reader.close()
    args, _ = live.parser().parse_known_args(flags)
    turn = order_of(args.order, args.wait, args.grid)
    since = {at: at if args.order == "arrival" else turn.due(at, at) for at in sent}
    counted = sent[int(load.rate * load.warm) :]
    late = np.array([arrived[at] - since[at] for at in counted if at in arrived]) / 1000
    return {
        "records": len(counted),
        "missing": len([at for at in sent if at not in arrived]),
        "duplicates": duplicates,
        "p50_ms": round(float(np.percentile(late, 50)), 1),
        "p99_ms": round(float(np.percentile(late, 99)), 1),
        "most_ms": round(float(late.max()), 1),
    }


def _exchange(
    sender: Sender, reader: Reader, topic: str, load: Load
) -> tuple[list[int], dict[int, int], int]:
    """Send and read; return the times of the records and their predictions, and duplicates."""
    arrived: dict[int, int] = {}
    sent: list[int] = []
    seen = 0

    def read() -> int:
        nonlocal seen
        for message in reader.poll():
            seen += 1
            arrived.setdefault(json.loads(message.value)["time"], int(message.arrived * SECOND))
        return len(arrived)

    def send() -> None:
        for at, value in readings(load):
            sender.send(topic, value)
            sent.append(at)
        sender.flush()

    at = int(time.time() * SECOND)  # its prediction shows that the pipeline runs
    sender.send(topic, json.dumps({"id": "first", "t": at / SECOND, "x": 0.0}).encode())
    wait_for("first prediction", read, 180)
    sending = threading.Thread(target=send)
    sending.start()
    while sending.is_alive():
        read()
    with contextlib.suppress(Exception):  # missing predictions are counted
        wait_for("predictions of all", lambda: read() > len(sent), 60)
    return sent, arrived, seen - len(arrived)


def show(case: str, row: dict[str, Any]) -> None:
    """Print a line of the table."""
    print(f"{case:<28}" + "".join(f"{row[name]:>12}" for name in COLUMNS), flush=True)


COLUMNS = ("records", "missing", "duplicates", "p50_ms", "p99_ms", "most_ms")


def main() -> None:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", choices=ENGINES, default="prism")
    parser.add_argument("--rate", type=float, default=50.0, help="records per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds per case")
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; repeatable")
    parser.add_argument("--quick", action="store_true", help="two cases of a few seconds")
    parser.add_argument("--json", help="a file for the figures")
    args = parser.parse_args()
    load, cases = Load(args.rate, 10.0, args.seconds), args.case or list(CASES)
    if args.quick:
        load, cases = Load(args.rate, 2.0, 4.0), args.case or ["grid=0.5", "arrival"]

    rows = []
    print(f"{'case':<28}" + "".join(f"{name:>12}" for name in COLUMNS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = folder / "weights.arrow"
        write_model(weights)
        start = ENGINES[args.engine]
        with Broker(folder / "kafka") as broker, start(folder / args.engine) as engine:
            for number, case in enumerate(cases):
                row = measured(case, number, broker, engine, weights, load)
                rows.append({"case": f"messages/{args.engine}/{case}", **row})
                show(rows[-1]["case"], row)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
