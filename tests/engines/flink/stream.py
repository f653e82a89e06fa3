"""A live stream: records sent while a job runs, and its results."""

import json
import random
import re
import sys
import threading
import time
from collections import Counter, defaultdict
from typing import NamedTuple

from beam_rnn.testing import oracle
from deploy.local import topics
from deploy.local.flink import STREAMING
from deploy.local.processes import EngineError, Process, wait_for
from tests.engines.flink.job import lines

SPREAD = 0.8
"""Seconds by which a record may come behind one with a later time."""


class Planned(NamedTuple):
    """A record to be sent: when its time is, and when it is sent, in seconds from the start."""

    time: float
    sent: float
    record: dict


def plan(count, rate, keys=20, seed=0, spread=SPREAD):
    """Records of several keys, `rate` of them a second, out of order by up to `spread` seconds.

    Their values do not depend on the start: the same plan gives the same hidden states.
    """
    random_of = random.Random(seed)
    planned = []
    for number in range(count):
        at = number / rate
        record = {
            "id": f"key-{number % keys}",
            "x": random_of.gauss(0, 1),
            "y": random_of.gauss(0, 1),
        }
        planned.append(Planned(at, at + spread * random_of.random(), record))
    return planned


class Counts(NamedTuple):
    """Counts of rows compared with the plain loop, by key, step and model."""

    expected: int
    lost: int
    wrong: int
    duplicates: int


def count(rows, expected):
    """How many of the expected rows are missing, or differ in any bit, or are there twice.

    Rows are of the same place if they have the same key, step and model; a row at a place that
    nobody expects is wrong as well.
    """
    said = defaultdict(Counter)
    for row in rows:
        fields = {name: value for name, value in row.items() if name != "seen"}
        said[row["key"], row["step"], row["model"]][json.dumps(fields)] += 1
    wanted = {
        (row.key, row.step, row.model): json.dumps(row._asdict(), default=lambda data: data.hex())
        for row in expected
    }
    return Counts(
        expected=len(wanted),
        lost=len(wanted.keys() - said.keys()),
        wrong=sum(set(found) != {wanted.get(place)} for place, found in said.items()),
        duplicates=sum(sum(found.values()) - 1 for found in said.values()),
    )


class Stream:
    """A topic of its own, and the jobs that read it, one after the other.

    Args:
        flink: The cluster.
        broker: The broker.
        expansion: The service that expands Kafka's read.
        folder: Logs, and what comes out.
        name: Of the topic and the jobs.
        partitions: Of the topic.
    """

    def __init__(self, flink, broker, expansion, folder, name, partitions=2):
        self.flink, self._broker, self._expansion = flink, broker, expansion
        self.folder = folder
        self._topic = re.sub(r"\W+", "-", f"{name}-{time.time_ns()}")
        self.sent = []
        """The records that were sent."""
        self._driver = self.job = None
        topics.create(broker.address, self._topic, partitions=partitions)
        self._output = folder / "output"
        self._output.mkdir()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.job is not None:
            self.flink.jobs.cancel(self.job)
        if self._driver is not None:
            self._driver.stop()

    def submit(self, weights, predict, *flags, savepoint=None, parallelism=2):
        """Start a job, each branch with arguments of `Predict`; wait until it takes records."""
        if savepoint is not None:
            flags = (*flags, f"--savepoint_path={savepoint}")
        command = [
            *(sys.executable, "-m", "tests.engines.flink.job", f"--topic={self._topic}"),
            *(f"--broker={self._broker.address}", f"--output={self._output}"),
            *(f"--expansion_service={self._expansion.address}", f"--weights={weights}"),
            *(f"--predict={json.dumps(predict)}", f"--job_name={self._topic}"),
            *(*self.flink.flags(), *STREAMING, f"--parallelism={parallelism}", *flags),
        ]
        self._driver = Process("the driver", command, self.folder / "driver.log")
        self.job = wait_for("job", lambda: self.flink.jobs.find(self._topic), 90, self._driver)
        self.wait_for("checkpoint", lambda: self.flink.jobs.checkpoints(self.job)["completed"] > 0)

    def wait_for(self, what, condition, seconds=90):
        """Wait for a condition of the running job."""
        try:
            return wait_for(what, condition, seconds, self._driver)
        except EngineError as error:
            reasons = "\n".join(self.flink.jobs.errors(self.job)[:1])
            raise EngineError(f"{error}\n{reasons}") from error

    def save(self):
        """End the job with a savepoint, and give its path."""
        savepoint = self.flink.jobs.save(self.job)
        self._driver.stop()
        self.job = self._driver = None
        return savepoint

    def send(self, planned, sent=None):
        """Send records in a thread of its own, each at its time; join it to wait for the last.

        They are added to `sent`, by default that of this stream, when they are.
        """
        sent = self.sent if sent is None else sent
        thread = threading.Thread(target=self._send, args=(planned, sent, time.time() + 0.2))
        thread.start()
        return thread

    def _send(self, planned, sent, start):
        sender = topics.Sender(self._broker.address)
        for item in sorted(planned, key=lambda item: item.sent):
            time.sleep(max(0, start + item.sent - time.time()))
            millis = round((start + item.time) * 1000)
            record = {**item.record, "t": millis / 1000}
            sender.send(self._topic, json.dumps(record).encode(), record["id"], millis)
            sent.append(record)
        sender.flush()

    def rows(self, branch, output="predictions"):
        """Return the rows of a branch so far."""
        return list(lines(self._output / f"{branch}-{output}"))

    def wait_for_steps(self, branch, steps=None, seconds=90):
        """Wait for a number of predictions of a branch, by default one for each record sent."""

        def found():
            places = {(row["key"], row["step"]) for row in self.rows(branch)}
            return len(places) >= (len(self.sent) if steps is None else steps)

        self.wait_for(f"{steps or len(self.sent)} steps of {branch}", found, seconds)

    def wait_for_rows(self, number, branch, output="predictions", seconds=90):
        """Wait for a number of rows of a branch."""
        what = f"{number} rows of {branch}, {output}"
        self.wait_for(what, lambda: len(self.rows(branch, output)) >= number, seconds)

    def counts(self, branch, model):
        """Compare the predictions of a branch with those of the plain loop."""
        expected = oracle(model, self.sent, with_state=True).predictions
        return count(self.rows(branch), expected)
