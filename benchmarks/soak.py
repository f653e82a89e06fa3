"""Run a stream on a real Flink cluster for twenty minutes, and sample its memory and lag.

    python -m benchmarks.soak [--minutes N] [--rate N] [--keys N] [--json FILE]

5,000 records per second of 10,000 keys go through a Kafka topic to `Predict` (a GRU of 64 units, by
event time, 8 shards) on the cluster of `deploy.local.flink`, with RocksDB and a checkpoint every
second. The lag of a prediction is the time since its record was due. Every half minute the
benchmark prints the records sent and predicted, the lag, the memory of the two TaskManagers with
their workers, and the size of a checkpoint. Broker, feeder and cluster share the machine.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn import Predict
from benchmarks.sources import write_model
from deploy.local import topics, worker
from deploy.local.flink import STREAMING, Flink
from deploy.local.kafka import Broker, for_flink
from deploy.local.processes import Process, wait_for
from pipelines.messages import ReadMessages

TOPIC = "readings"
EVERY = 30
"""Seconds between two rows of the table."""


class CountLag(beam.DoFn):
    """Appends a histogram of the lag of each bundle to a file, in steps of 10 ms."""

    def __init__(self, path: str):
        self._path = path

    def start_bundle(self) -> None:
        """Start an empty histogram."""
        self._lags: Counter[int] = Counter()

    def process(self, _: Any, due: Any = beam.DoFn.TimestampParam) -> None:
        """Count a prediction."""
        self._lags[int(100 * (time.time() - due.micros / 1e6))] += 1

    def finish_bundle(self) -> None:
        """Append a line of JSON."""
        if self._lags:
            line = json.dumps([time.time(), sorted(self._lags.items())]) + "\n"
            file = os.open(f"{self._path}-{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, line.encode())
            os.close(file)


class Sample(NamedTuple):
    """A row of the table.

    Attributes:
        second: Seconds since the first record.
        sent: Records sent so far.
        predicted: Predictions so far.
        p50: Median lag since the previous row, in seconds.
        p99: 99th percentile of the lag since the previous row, in seconds.
        mib: Memory of each TaskManager with its workers.
        state_mib: Size of the last checkpoint.
    """

    second: int
    sent: int
    predicted: int
    p50: float
    p99: float
    mib: list[int]
    state_mib: float


def feed(servers: str, rate: int, keys: int, count: Path) -> None:
    """Send records without end, and write their number to a file."""
    sender = topics.Sender(servers)
    start, sent = time.time(), 0
    while True:
        while sent < rate * (time.time() - start):
            now = int(time.time() * 1000)
            key = f"key-{sent % keys}"
            value = f'{{"id": "{key}", "t": {now / 1000}, "x": {sent % 7}}}'
            sender.send(TOPIC, value.encode(), key, now)
            sent += 1
        count.with_suffix(".part").write_text(str(sent))
        count.with_suffix(".part").replace(count)  # atomic for readers
        time.sleep(0.01)


def submit(where: Sequence[str], flags: Sequence[str]) -> None:
    """Submit the pipeline and wait."""
    servers, expansion, weights, output = where
    pipeline = beam.Pipeline(options=PipelineOptions([*flags, *STREAMING, "--parallelism=2"]))
    predictions = (
        pipeline
        | ReadMessages(f"kafka://{servers}/{TOPIC}?auto.offset.reset=earliest", expansion)
        | Predict(weights, wait=0.5, shards=8)
    ).predictions
    _ = predictions | "Lag" >> beam.ParDo(CountLag(output))
    pipeline.run().wait_until_finish()


def lags(folder: Path, offsets: dict[Path, int]) -> Counter[int]:
    """Read the new lines of the files."""
    found: Counter[int] = Counter()
    for path in folder.glob("lag-*"):
        with path.open() as file:
            file.seek(offsets.get(path, 0))
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break
                offsets[path] = file.tell()
                for lag, number in json.loads(line)[1]:
                    found[lag] += number
    return found


def quantile(found: Counter[int], share: float) -> float:
    """Return a quantile of the lag in seconds."""
    rest = share * found.total()
    for lag in sorted(found):
        rest -= found[lag]
        if rest <= 0:
            return (lag + 1) / 100
    return float("nan")


def watch(flink: Flink, job: str, folder: Path, minutes: float) -> Iterable[Sample]:
    """Yield samples for some minutes."""
    offsets: dict[Path, int] = {}
    predicted, start = 0, time.time()
    while time.time() < start + 60 * minutes:
        time.sleep(EVERY)
        found = lags(folder, offsets)
        predicted += found.total()
        last = flink.jobs.get(f"/jobs/{job}/checkpoints")["latest"]["completed"]
        yield Sample(
            round(time.time() - start),
            int((folder / "sent").read_text()),
            predicted,
            quantile(found, 0.5),
            quantile(found, 0.99),
            [size >> 20 for size in flink.memory()],
            round(last["state_size"] / 2**20, 1),
        )


def soak(args: argparse.Namespace, folder: Path) -> list[Sample]:
    """Start broker, cluster, job and feeder, and return the samples."""
    java = worker.command(folder, "java")
    weights = folder / "weights.arrow"
    write_model(weights)
    this = [sys.executable, "-m", "benchmarks.soak"]
    started: list[Process] = []
    samples = []
    with (
        Broker(folder / "kafka") as broker,
        for_flink(folder / "expansion", java) as expansion,
        Flink(folder / "flink") as flink,
    ):
        try:
            topics.create(broker.address, TOPIC, partitions=2)
            where = [broker.address, expansion.address, str(weights), str(folder / "lag")]
            command = [*this, "--job", *where, *flink.flags(), "--job_name=soak"]
            driver = Process("the job", command, folder / "job.log")
            started.append(driver)
            running = wait_for("job", lambda: flink.jobs.find("soak"), 90, driver)
            wait_for(
                "checkpoint", lambda: flink.jobs.checkpoints(running)["completed"], 180, driver
            )
            settings = [broker.address, str(args.rate), str(args.keys), str(folder / "sent")]
            started.append(Process("the feeder", [*this, "--feed", *settings], folder / "feed.log"))
            for sample in watch(flink, running, folder, args.minutes):
                print(*sample, sep="\t", flush=True)
                samples.append(sample)
            flink.jobs.cancel(running)
        finally:
            for process in started:
                process.stop()
    return samples


def main() -> None:
    """Run the benchmark, or one of its subprocesses: the feeder or the job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=int, default=5_000, help="records per second")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--feed", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args()
    if args.feed:
        servers, rate, keys, count = args.feed
        feed(servers, int(rate), int(keys), Path(count))
    elif args.job:
        submit(args.job, flags)
    else:
        print(*Sample._fields, sep="\t")
        with tempfile.TemporaryDirectory() as folder:
            samples = soak(args, Path(folder))
        if args.json is not None:
            args.json.write_text(json.dumps([sample._asdict() for sample in samples], indent=2))


if __name__ == "__main__":
    main()
