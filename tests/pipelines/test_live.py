"""From Kafka through `pipelines.live` and back: a real broker, on Prism."""

import io
import itertools
import json
import math
import re
import shutil
import socket
import sys
import time
from collections import defaultdict
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_expansion_api_pb2 as api
from apache_beam.portability.api import beam_expansion_api_pb2_grpc as services
from apache_beam.portability.api import beam_runner_api_pb2 as runner
from apache_beam.portability.api import external_transforms_pb2 as payloads
from apache_beam.runners.runner import PipelineState

from beam_rnn.testing import oracle
from deploy.local import ROOT
from deploy.local.jars import BROKER, KAFKA_IO
from deploy.local.kafka import Broker, for_others
from deploy.local.processes import EngineError, Process, wait_for
from pipelines import live
from tests.helpers.engines import FLAGS, prism
from tests.helpers.feed import cancelled
from tests.helpers.models import random_model, saved

pytest.importorskip("confluent_kafka")
from benchmarks import messages as latency
from benchmarks.sources import write_model
from deploy.local import topics

pytestmark = [
    *prism,
    cancelled,
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
    with Broker(folder) as broker, for_others(folder) as expansion:
        yield broker, expansion


def expanded(address, urn, payload=b""):
    """What an expansion service answers, who asked being nobody."""
    spec = runner.FunctionSpec(urn=urn, payload=payload)
    request = api.ExpansionRequest(transform=runner.PTransform(unique_name="any", spec=spec))
    with grpc.insecure_channel(address) as channel:
        return services.ExpansionServiceStub(channel).Expand(request)


@pytest.mark.parametrize(
    ("urn", "payload"),
    [
        (
            "beam:expansion:payload:java_class_lookup:v1",
            payloads.JavaClassLookupPayload(class_name="java.io.File").SerializeToString(),
        ),
        (
            "beam:expansion:payload:schematransform:v1",  # one that compiles Java source
            payloads.SchemaTransformPayload(
                identifier="beam:schematransform:org.apache.beam:yaml:map_to_fields-java:v1"
            ).SerializeToString(),
        ),
        ("beam:transform:managed:v1", b""),
        ("beam:transform:write_files:v1", b""),
    ],
)
def test_nothing_but_kafka_s_transforms_is_expanded(urn, payload, kafka):
    error = expanded(kafka[1].address, urn, payload).error
    assert re.search("does not enable expanding|Did not find a SchemaTr|Unknown urn", error), error


def test_the_schema_transforms_that_are_offered_are_kafka_s(kafka):
    with grpc.insecure_channel(kafka[1].address) as channel:
        asked = api.DiscoverSchemaTransformRequest()
        found = services.ExpansionServiceStub(channel).DiscoverSchemaTransform(asked)
    assert set(found.schema_transform_configs) == {
        f"beam:schematransform:org.apache.beam:kafka_{what}:v1" for what in ("read", "write")
    }


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is no loopback address")
def test_other_interfaces_are_not_listened_at(kafka):
    """A program that listens at all of them answers at 127.0.0.2 too."""
    for server in kafka:
        port = int(server.address.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=5)


class Stream:
    """A pipeline from a topic to two others, and its results."""

    def __init__(self, kafka, weights, *flags, names=None):
        broker, expansion = kafka
        address = broker.address
        if names is None:
            number = next(_numbers)
            names = [f"{name}-{number}" for name in ("readings", "forecasts", "rejected")]
            topics.create(address, *names)
        self.names = names
        source, output, rejected = (f"kafka://{address}/{name}" for name in names)
        self._sender = topics.Sender(address)
        self._reader = topics.Reader(address, *names[1:])
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
            self._sender.send(self.names[0], value)

    def until(self, forecasts, rejected=0, messages=0):
        def come():
            assert self._result.state != PipelineState.FAILED
            for message in self._reader.poll():
                kind = self.forecasts if message.topic == self.names[1] else self.rejected
                kind.append(json.loads(message.value))
            steps = {(row["key"], row["prediction_step"]) for row in self.forecasts}
            enough = len(steps) >= forecasts and len(self.forecasts) >= messages
            return enough and len(self.rejected) >= rejected

        wait_for("such messages", come, 90)


def readings(count, start=0):
    """Yield a record every 20 ms, with the current time."""
    for i in range(start, start + count):
        now = time.time()
        yield {"id": "abcde"[i % 5], "t": now, "x": math.sin(i), "y": math.cos(3 * i)}
        time.sleep(0.02)


def steps(forecasts):
    """Return the prediction of each step; check that duplicates are equal."""
    said = defaultdict(set)
    for row in forecasts:
        fields = row["time"], row["x_prediction"], row["prediction_model"]
        said[row["key"], row["prediction_step"]].add(fields)
    return {step: value for step, (value,) in said.items()}


def expected(model, records):
    return {
        (p.key, p.step): (p.time, p.outputs[0], p.model) for p in oracle(model, records).predictions
    }


def schemas():
    """Of what comes out, as docs/kafka.md has them."""
    page = (Path(__file__).parents[2] / "docs" / "kafka.md").read_text()
    return [
        json.loads(text)
        for text in re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]


KINDS = {"string": str, "integer": int, "number": float, "object": dict, "array": list}


def check(row, schema):
    assert set(schema["required"]) <= set(row) <= set(schema["properties"])
    for name, value in row.items():
        assert isinstance(value, KINDS[schema["properties"][name]["type"]]), name


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
    for schema, rows in zip(schemas(), (stream.forecasts, stream.rejected), strict=True):
        for row in rows:
            check(row, schema)
    by_reason = sorted((row["reason"], row["key"]) for row in stream.rejected)
    assert by_reason[0][1] == "a"
    assert by_reason[0][0].endswith("s behind the key's last step")
    assert by_reason[1:] == [
        ("it is no JSON object", ""),
        ("it is no JSON object", ""),
        ("it is no JSON object", ""),
        ("the record has no field 't'", "a"),
        ("x must be a number", "a"),
    ]


def test_no_record_is_lost_while_the_broker_is_down_or_when_the_job_restarts(kafka, model, weights):
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

    with Stream(kafka, weights, "--shards=2", names=stream.names) as again:
        again.until(200, messages=400)

    assert len(again.forecasts) == 400
    assert steps(again.forecasts) == expected(model, records)
    assert not again.rejected


def command(kafka, weights, names, folder):
    """`pipelines.live` as a program of its own."""
    broker, expansion = kafka
    source, output, rejected = (f"kafka://{broker.address}/{name}" for name in names)
    words = [
        *(sys.executable, "-m", "pipelines.live", f"--weights={weights}", f"--input={source}"),
        *(f"--output={output}", f"--rejected={rejected}"),
        f"--expansion_service={expansion.address}",
        *FLAGS["prism"],
    ]
    return Process("pipelines.live", words, folder / "said", folder=ROOT)


def test_ctrl_c_stops_it(kafka, weights, tmp_path):
    names = ("stopped-readings", "stopped-forecasts", "stopped-rejected")
    topics.create(kafka[0].address, *names)
    live_stream = command(kafka, weights, names, tmp_path)
    try:
        wait_for(
            "the start", lambda: "Ctrl-C stops it" in live_stream.last_lines(), 90, live_stream
        )
        live_stream.interrupt()
        assert live_stream.wait(60) == 130
    finally:
        live_stream.stop()

    said = live_stream.last_lines(lines=1000)
    address = kafka[0].address
    assert f"reading kafka://{address}/stopped-readings, writing kafka://{address}/" in said
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in said


def test_a_missing_topic_is_an_error(kafka, weights, tmp_path):
    live_stream = command(kafka, weights, ("misspelled", "any", "other"), tmp_path)
    try:
        assert live_stream.wait(120) == 1
    finally:
        live_stream.stop()

    error = "error: Kafka does not have the topic of --input: create it"
    assert error in live_stream.last_lines()


def test_existing_topics_are_left_unchanged(kafka, monkeypatch, capsys):
    address = kafka[0].address

    def main(*words, lines=b""):
        monkeypatch.setattr(sys, "argv", ["topics", words[0], address, *words[1:]])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
        topics.main()
        return capsys.readouterr().out

    assert main("create", "first") == "first created\n"
    assert main("create", "first", "second") == "first already exists\nsecond created\n"
    assert main("send", "first", lines=b"one\n\ntwo\n") == "2 messages sent\n"
    with pytest.raises(SystemExit, match=r"message 2 is not a JSON object, .*: 'nonsense'"):
        main("send", "first", "--time", "t", lines=b'{"x": 1}\nnonsense\n')
    with pytest.raises(SystemExit, match="there is no topic third at"):
        main("send", "third", lines=b"one\n")
    with pytest.raises(SystemExit, match="there is no topic third at"):
        main("read", "first", "third")


def test_a_broker_that_does_not_answer_is_an_error():
    with pytest.raises(EngineError, match=r"no broker answers at 127.0.0.1:1: start it first"):
        topics.check_up("127.0.0.1:1")


def test_messages_are_sent_at_their_time(kafka):
    broker, _ = kafka
    topics.create(broker.address, "sent")
    begin = time.time()
    lines = [json.dumps({"id": "a", "t": 0, "x": i}).encode() for i in range(3)]

    assert topics.send(broker.address, "sent", topics.paced(lines, rate=100), "t") == 3

    reader, read = topics.Reader(broker.address, "sent"), []
    wait_for("three", lambda: read.extend(reader.poll()) or len(read) == 3)
    reader.close()
    said = [json.loads(message.value) for message in read]
    assert [record["x"] for record in said] == [0, 1, 2]
    assert begin <= said[0]["t"] <= said[1]["t"] <= said[2]["t"] <= time.time()


def test_how_long_it_takes_is_measured(kafka, tmp_path):
    broker, expansion = kafka
    write_model(tmp_path / "weights.arrow")
    engine = latency.Engine(expansion.address, FLAGS["prism"], lambda result: result.cancel())
    load = latency.Load(rate=50, warm=0.5, seconds=1)

    row = latency.measured("arrival", 99, broker, engine, tmp_path / "weights.arrow", load)

    assert (row["records"], row["missing"], row["duplicates"]) == (50, 0, 0)
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["most_ms"]
