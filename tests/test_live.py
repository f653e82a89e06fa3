"""From Kafka through `pipelines.live` and back: a real broker, on Prism."""

import itertools
import json
import math
import shutil
import time
from collections import defaultdict

import pytest
from apache_beam.runners.runner import PipelineState

from beam_rnn.testing import oracle
from deploy.local.jars import BROKER, KAFKA_IO
from deploy.local.kafka import Broker, for_others
from deploy.local.processes import wait_for
from pipelines import live
from tests.engines import FLAGS, prism
from tests.models import random_model, saved

topics = pytest.importorskip("deploy.local.topics", exc_type=ImportError)
pytestmark = [
    *prism,
    pytest.mark.skipif(not shutil.which("java"), reason="no Java, which Kafka needs"),
    pytest.mark.skipif(
        not (BROKER.is_dir() and KAFKA_IO.is_dir()),
        reason=f"no {BROKER} and {KAFKA_IO}: make engines fetches them, with Java and mvn",
    ),
]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    return saved(model, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kafka")
    broker, expansion = Broker(folder), for_others(folder)
    try:
        broker.start()
        expansion.start()
        yield broker, expansion
    finally:
        expansion.stop()
        broker.stop()


class Stream:
    """A pipeline from a topic to two others, and what came of it."""

    def __init__(self, kafka, weights, *flags):
        self._broker, expansion = kafka
        address = self._broker.address
        number = next(_numbers)
        self._names = [f"{name}-{number}" for name in ("readings", "forecasts", "rejected")]
        topics.create(address, *self._names)
        source, output, rejected = (f"kafka://{address}/{name}" for name in self._names)
        self._sender = topics.Sender(address)
        self._reader = topics.Reader(address, *self._names[1:])
        self._result = live.main(
            [
                f"--weights={weights}",
                f"--input={source}?auto.offset.reset=earliest",
                f"--output={output}",
                f"--rejected={rejected}",
                f"--expansion_service={expansion.address}",
                *flags,
                *FLAGS["prism"],
            ]
        )
        self.forecasts, self.rejected = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._result.cancel()
        self._reader.close()

    def send(self, *messages):
        for message in messages:
            value = json.dumps(message).encode() if isinstance(message, dict) else message
            self._sender.send(self._names[0], value)

    def until(self, forecasts, rejected=0):
        def come():
            assert self._result.state != PipelineState.FAILED
            for message in self._reader.poll():
                kind = self.forecasts if message.topic == self._names[1] else self.rejected
                kind.append(json.loads(message.value))
            steps = {(row["key"], row["step"]) for row in self.forecasts}
            return len(steps) >= forecasts and len(self.rejected) >= rejected

        wait_for("such messages", come, 90)


def readings(count, start=0):
    """One every 20 ms, of the time when it is taken."""
    for i in range(start, start + count):
        now = time.time()
        yield {"id": "abcde"[i % 5], "t": now, "x": math.sin(i), "y": math.cos(3 * i)}
        time.sleep(0.02)


def steps(forecasts):
    """What was said of each step; the same, if it was said several times."""
    said = defaultdict(set)
    for row in forecasts:
        said[row["key"], row["step"]].add((row["time"], row["outputs"]["x"], row["model"]))
    return {step: value for step, (value,) in said.items()}


def expected(model, records):
    return {
        (p.key, p.step): (p.time, p.outputs[0], p.model) for p in oracle(model, records).predictions
    }


def test_each_message_is_answered_with_the_bits_of_the_oracle(kafka, model, weights):
    with Stream(kafka, weights) as stream:
        records = []
        for record in readings(100):
            stream.send(record)
            records.append(record)
        stream.until(100)
        late = {**records[0], "t": records[0]["t"] - 5}
        stream.send(late, b"no JSON", b"\xff", None, {"id": "a"}, {**records[0], "x": "high"})
        for record in readings(50, start=100):
            stream.send(record)
            records.append(record)
        stream.until(150, rejected=6)

    assert steps(stream.forecasts) == expected(model, records)
    assert len(stream.forecasts) == 150
    by_reason = sorted((row["reason"], row["key"]) for row in stream.rejected)
    assert by_reason[0][1] == "a"
    assert by_reason[0][0].endswith("s behind the key's last step")
    assert by_reason[1:] == [
        ("the record has no field 'id'", ""),
        ("the record has no field 'id'", ""),
        ("the record has no field 'id'", ""),
        ("the record has no field 't'", "a"),
        ("x must be a number", "a"),
    ]


def test_nothing_is_lost_while_the_broker_is_away(kafka, model, weights):
    broker, _ = kafka
    with Stream(kafka, weights, "--shards=2") as stream:
        records = []
        for i, record in enumerate(readings(200)):
            if i == 60:
                stream.until(20)  # it runs
                broker.stop()
            if i == 120:
                broker.start()
            stream.send(record)
            records.append(record)
        stream.until(200)

    assert steps(stream.forecasts) == expected(model, records)
    assert not stream.rejected
