"""Compare training in a pipeline with a plain loop, and by numbers of workers and shards.

    python -m benchmarks.training [--quick] [--json FILE]
    python -m benchmarks.training --shards ../shared/data [--json FILE]
    python -m benchmarks.training --long 100000,1000000,10000000

Without `--shards` the figures are microseconds per record and epoch. First, the same training by
`Train` and by a plain loop over the same batches in one process, with alternating whole runs. Then
eight shards with two worker processes and with one, measured by the cost of further rounds, so that
starting the pipeline is not included. All train a GRU of 64 units with BPTT(32) on synthetic sine
waves, with one thread per process.

With `--shards` and a folder with `ETTh1.csv` and `jsb-chorales-quarter.json`, the figure is the
validation loss after the same number of epochs, by the number of shards, with and without the outer
optimiser. The 16 sequences of a batch are divided among the shards, so that the number of updates
stays the same; the batch of a shard has at least one.

`--long` measures the memory that a long sequence takes, each in its own process: it is sorted, cut
into parts of 8,192 steps, scaled and trained on once, by the functions that the stages of
`Sequences` and `Train` call. There is no runner, because a runner keeps in memory what it groups.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"  # before numpy is imported

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from beam_rnn import Bptt, Columns, Network, Train, Training, WriteModel
from beam_rnn import Sequence as Steps
from beam_rnn.data.sequences import batch_of, shuffled
from beam_rnn.nn.bptt import Learner, learn
from beam_rnn.nn.kernels import kernel_name, kernel_of
from beam_rnn.nn.losses import objective
from beam_rnn.optim import Adam, Sgd
from beam_rnn.records.cutting import cut_in_parts
from beam_rnn.records.record_format import encode_records
from beam_rnn.training.dataset import prepare
from beam_rnn.training.example_store import Examples
from beam_rnn.training.fit import fit_sequences
from beam_rnn.training.plan import plan_of, task_of
from beam_rnn.training.rounds import begin, learn_locally
from beam_rnn.training.settings import Rounds
from beam_rnn.training.survey import key_facts
from beam_rnn.training.validation import NoSplit
from benchmarks.table import Row, medians, show

STEPS = 256
BLOCK = 65_536
"""Records generated at a time; an even number."""
PART = 8192
NETWORK = Network("gru", hidden=64)
TRAINING = Training(bptt=Bptt(steps=32), batch_size=16, epochs=10)
COLUMNS = Columns(key="id", time="t", inputs=["x", "y"])
TOGETHER = 16
"""Sequences in the batches of all shards together."""
OUTER = Sgd(1.0, momentum=0.5, nesterov=True)
PROCESSES = "--direct_running_mode=multi_processing"


def waves(_: Any, count: int) -> Iterator[Steps]:
    """Yield synthetic sequences of two waves each."""
    for i in range(count):
        t = np.arange(STEPS + 1)
        values = np.stack([np.sin(t / (3 + i % 7)), np.cos(t / (2 + i % 5))], 1)
        times = t[:-1] * 1_000_000
        yield Steps(COLUMNS, f"key-{i}", times, values[:-1], values[1:], STEPS * 1_000_000)


def plain_loop(count: int, training: Training) -> None:
    """Run the same training as a hand-written loop."""
    plan, (examples,), _ = prepare(NETWORK, waves(None, count), training)
    parameters = task_of(plan.network, training).initialize(plan.columns)
    learner = Learner(parameters, training.optimizer.init(parameters))
    kernel = kernel_of(kernel_name(NETWORK, np.float32, training.kernel))
    loss = objective(NETWORK, training.loss)
    for epoch in range(training.epochs):
        order = np.random.default_rng([training.seed, 1, 0, epoch])
        for rows in shuffled(examples.lengths, training.batch_size, order):
            learner, _, _ = learn(
                NETWORK,
                learner,
                batch_of([examples.example(i) for i in rows]),
                bptt=training.bptt,
                loss=loss,
                optimizer=training.optimizer,
                clip_norm=training.clip_norm,
                kernel=kernel,
            )


def in_a_pipeline(count: int, training: Training, shards: int = 1, workers: int = 0) -> None:
    """Run the training by `Train` and write the model; in worker processes, or in this one."""
    flags = [f"--direct_num_workers={workers}", PROCESSES] if workers else []
    options = PipelineOptions(["--runner=FnApiRunner", *flags])
    with tempfile.TemporaryDirectory() as folder, beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create([None], reshuffle=False)
            | beam.FlatMap(waves, count)
            | Train(NETWORK, training, shards=shards)
            | WriteModel(f"{folder}/weights.arrow")
        )


def overhead(count: int, epochs: int, turns: int) -> Row:
    """Compare a whole training by `Train` with the plain loop."""
    training = replace(TRAINING, epochs=epochs)
    ours, plain = medians(
        [partial(in_a_pipeline, count, training), partial(plain_loop, count, training)], turns
    )
    records = count * STEPS * epochs / 1e6
    return Row(f"Train, {count * STEPS:,} records", ours / records, "loop", plain / records)


def workers(count: int, rounds: tuple[int, int], turns: int) -> Row:
    """Compare a round of eight shards in two processes with one."""
    runs: list[Callable[[], object]] = [
        partial(in_a_pipeline, count, replace(TRAINING, epochs=epochs), 8, processes)
        for processes in (2, 1)
        for epochs in rounds
    ]
    two_few, two_many, one_few, one_many = medians(runs, turns, warm=0)
    records = count * STEPS * (rounds[1] - rounds[0]) / 1e6
    two, one = (two_many - two_few) / records, (one_many - one_few) / records
    return Row("8 shards, 2 worker processes", two, "1 worker process", one)


class Readings:
    """The records of one key, generated lazily; each two of them are swapped."""

    def __init__(self, steps: int):
        self._steps = steps

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self._steps, BLOCK):
            t = np.arange(start, min(start + BLOCK, self._steps)) ^ 1
            numbers = np.sin(t / 7)[:, np.newaxis].repeat(2, 1)  # the input, and the target
            none, unmarked = np.zeros(len(t), np.int64), np.zeros(len(t), bool)
            times = t * 1_000_000
            yield from encode_records(times, none, numbers, starts=unmarked, ends=unmarked)


def long(steps: int) -> None:
    """Train on one long sequence once, and print the memory that it took."""
    columns = Columns(key="id", time="t", inputs=["x"])
    training = replace(TRAINING, epochs=1)
    network = Network("gru", hidden=16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def parts() -> Iterator[Steps]:
        return cut_in_parts("key", Readings(steps), columns, PART)

    task = task_of(network, training)
    plan = plan_of([key_facts(task.facts_of(part, NoSplit()) for part in parts())], task)
    encoded = (
        data
        for part in parts()
        for _, _, data in task.examples_of(part, NoSplit(), plan.columns, plan.scaler)
    )
    examples = Examples(encoded, on_disk=True)
    learned = learn_locally(begin(plan, training, Rounds()), 0, examples, training, Rounds())
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loss = learned.losses[0].loss
    print(f"{learned.steps:>12,} steps{(after - before) / 1024:>8.0f} MB  loss {loss:.4f}")


def etth1(folder: Path) -> tuple[list[Steps], Network, Training]:
    """Return the task of ETTh1: the next hour, from twelve months with a fifth for validation."""
    with (folder / "ETTh1.csv").open() as file:
        names, *rows = csv.reader(file)
    values = np.array([[float(x) for x in row[1:]] for row in rows[:8640]])
    columns = Columns(key="id", time="t", inputs=names[1:])
    times = np.arange(len(values)) * 3_600_000_000
    sequences = []
    for start in range(0, len(values) - 1, 96):
        stop = min(start + 96, len(values) - 1)
        ahead = values[start + 1 : stop + 1]
        part = times[start:stop], values[start:stop], ahead, int(times[stop])
        sequences.append(Steps(columns, "ETTh1", *part))
    training = Training(bptt=Bptt(steps=32), optimizer=Adam(2e-3), validation=0.2, epochs=30)
    return sequences, Network("gru", hidden=32), training


def chorales(folder: Path) -> tuple[list[Steps], Network, Training]:
    """Return the task of Bach's chorales: the next chord, with a fifth of each for validation."""
    pieces = json.loads((folder / "jsb-chorales-quarter.json").read_text())
    columns = Columns(key="id", time="t", inputs=[f"n{note}" for note in range(21, 109)])
    sequences = []
    for i, piece in enumerate(pieces["train"]):
        roll = np.zeros((len(piece), 88))
        for at, chord in enumerate(piece):
            roll[at, [note - 21 for note in chord]] = 1
        times = np.arange(len(piece)) * 1_000_000
        part = times[:-1], roll[:-1], roll[1:], int(times[-1])
        sequences.append(Steps(columns, f"chorale-{i}", *part))
    training = Training(bptt=Bptt(), optimizer=Adam(2e-3), validation=0.2, scaler="none", epochs=30)
    return sequences, Network("gru", hidden=64, output="sigmoid"), training


def by_shards(folder: Path, numbers: Sequence[int], json_file: str | None) -> None:
    """Print the least validation loss by the number of shards."""
    print(f"{'data':<12}{'shards':>8}{'batch':>7}  {'outer':<10}{'loss':>9}{'of one':>9}{'s':>8}")
    values = []
    for name, data in (("ETTh1", etth1), ("chorales", chorales)):
        sequences, network, training = data(folder)
        alone = 0.0
        for shards in numbers:
            batch = max(TOGETHER // shards, 1)
            for outer in (None,) if shards == 1 else (None, OUTER):
                started = time.perf_counter()
                sized = replace(training, batch_size=batch)
                model = fit_sequences(network, sequences, sized, rounds=Rounds(shards, outer=outer))
                loss = min(model.training["validation_curve"])
                alone = alone or loss
                called = "average" if outer is None else "nesterov"
                seconds = time.perf_counter() - started
                row = f"{name:<12}{shards:>8}{batch:>7}  {called:<10}{loss:>9.4f}"
                print(f"{row}{loss / alone:>9.3f}{seconds:>8.1f}", flush=True)
                facts = {"data": name, "shards": shards, "batch_size": batch, "outer": called}
                values.append({**facts, "loss": loss, "of_one": loss / alone})
    if json_file:
        Path(json_file).write_text(json.dumps(values, indent=2) + "\n")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less data, once, in one process")
    parser.add_argument("--shards", help="the folder of ETTh1.csv and jsb-chorales-quarter.json")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--long", help="steps of a sequence, or several: 1000,1000000")
    args = parser.parse_args()
    if args.long and "," in args.long:
        for steps in args.long.split(","):
            command = [sys.executable, "-m", "benchmarks.training", "--long", steps]
            subprocess.run(command, check=True)  # noqa: S603
        return
    if args.long:
        long(int(args.long))
        return
    if args.shards:
        numbers = (1, 8) if args.quick else (1, 2, 4, 8, 16, 32, 64)
        by_shards(Path(args.shards), numbers, args.json)
        return
    rows = [overhead(64, 2, 1) if args.quick else overhead(256, 120, 3)]
    if not args.quick:
        rows.append(workers(1024, (2, 22), 3))
    show(rows, args.json)


if __name__ == "__main__":
    main()
