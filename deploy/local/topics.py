"""Messages into the topics of a Kafka broker, and out of them.

    python -m deploy.local.topics create 127.0.0.1:9092 readings forecasts rejected
    python -m deploy.local.topics send 127.0.0.1:9092 readings --time t --rate 20 < records.jsonl
    python -m deploy.local.topics read 127.0.0.1:9092 forecasts rejected

`send` reads lines, each a message; with --time it puts the time of sending into that field of each,
with --rate it sends so many a second. `read` prints what is there and what comes, until Ctrl-C.
"""

import argparse
import json
import logging
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.processes import EngineError, until_stopped

T = TypeVar("T")


class Message(NamedTuple):
    """What a topic holds.

    Attributes:
        topic: The topic.
        value: What it says; empty if it says nothing.
        arrived: When it was read, in seconds since 1970.
    """

    topic: str
    value: bytes
    arrived: float


def create(address: str, *topics: str, partitions: int = 1) -> list[str]:
    """Make topics at a broker; gives those that were already there, which are left as they are.

    Raises:
        EngineError: The broker refuses a name.
    """
    client = AdminClient({"bootstrap.servers": address})
    made = client.create_topics([NewTopic(topic, partitions, 1) for topic in topics])
    there = []
    for topic, each in made.items():
        try:
            each.result(30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise EngineError(f"{topic}: {error.args[0].str()}") from error
            there.append(topic)
    return there


def check_up(address: str) -> set[str]:
    """That a broker answers; gives the names of its topics.

    Raises:
        EngineError: None does.
    """
    client = AdminClient({"bootstrap.servers": address}, logger=_quiet())
    try:
        return set(client.list_topics(timeout=5).topics)
    except KafkaException as error:
        raise EngineError(f"no broker answers at {address}: start it first") from error


def check_there(address: str, topics: Iterable[str]) -> None:
    """That a broker has topics.

    Raises:
        EngineError: No broker answers, or it has no such topic.
    """
    missing = sorted(set(topics) - check_up(address))
    if missing:
        raise EngineError(
            f"there is no topic {' or '.join(missing)} at {address}: make it with `create`"
        )


def _quiet() -> logging.Logger:
    """The client's own complaints go nowhere: they repeat until somebody answers."""
    logger = logging.getLogger("deploy.local.topics")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


class Sender:
    """Sends messages; what the broker has not confirmed is sent again, once.

    Args:
        address: The broker's.
    """

    def __init__(self, address: str):
        self._producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})

    def send(
        self, topic: str, value: bytes | None, key: str | None = None, at: int | None = None
    ) -> None:
        """Send one message, soon; `at` is its time in milliseconds since 1970, or it is now."""
        self._producer.produce(topic, value, key=key, timestamp=at or 0)
        self._producer.poll(0)

    def flush(self, seconds: float = 60) -> int:
        """Wait until the broker has all; gives how many it has not confirmed in time."""
        return int(self._producer.flush(seconds))


class Reader:
    """Reads topics from their beginning.

    Args:
        address: The broker's.
        topics: Their names.
    """

    def __init__(self, address: str, *topics: str):
        settings = {"bootstrap.servers": address, "group.id": str(uuid.uuid4())}
        policy = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
        self._consumer = Consumer({**settings, **policy})
        self._consumer.subscribe(list(topics))

    def poll(self, seconds: float = 0.1) -> list[Message]:
        """What has come; waits so long for something."""
        first = self._consumer.poll(seconds)
        now = time.time()
        messages = [] if first is None else [first, *self._consumer.consume(999, 0)]
        return [
            Message(each.topic(), each.value() or b"", now)
            for each in messages
            if each.error() is None  # the broker may be away for a while
        ]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def paced(values: Iterable[T], rate: float) -> Iterator[T]:
    """Values, so many a second."""
    begin = time.time()
    for i, value in enumerate(values):
        time.sleep(max(0.0, begin + i / rate - time.time()))
        yield value


def send(address: str, topic: str, values: Iterable[bytes], time_field: str | None) -> int:
    """Send messages; with a time field JSON objects, each at the time of sending.

    Raises:
        EngineError: A value is no JSON object, into which the time could be put; those before it
            were sent.
    """
    sender, sent = Sender(address), 0
    try:
        for value in values:
            said = value if time_field is None else timed(value, time_field, sent + 1)
            sender.send(topic, said)
            sent += 1
    finally:
        waiting = sender.flush()
    return sent - waiting


def timed(value: bytes, field: str, number: int) -> bytes:
    """A JSON object with the time of now in a field.

    Raises:
        EngineError: It is none.
    """
    try:
        return json.dumps({**json.loads(value), field: time.time()}).encode()
    except (ValueError, TypeError) as error:
        shown = value[:60].decode(errors="replace")
        raise EngineError(
            f"message {number} is no JSON object, so --time has no place in it: {shown!r}"
        ) from error


def show(address: str, topics: Iterable[str]) -> None:
    """Print what topics hold, until Ctrl-C."""
    reader = Reader(address, *topics)
    try:
        while True:
            for message in reader.poll(1.0):
                print(f"{message.topic}: {message.value.decode(errors='replace')}", flush=True)
    finally:
        reader.close()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("create", "send", "read"))
    parser.add_argument("address", help="of the broker")
    parser.add_argument("topics", nargs="+")
    parser.add_argument("--rate", type=float, help="messages a second")
    parser.add_argument("--time", help="the field that gets the time of sending")
    return parser


def main() -> None:
    """Do what the command line says."""
    args = parser().parse_args()
    if args.what == "send" and len(args.topics) != 1:
        parser().error(f"send takes one topic, got {' '.join(args.topics)}")
    with until_stopped():
        if args.what == "create":
            check_up(args.address)
            there = create(args.address, *args.topics)
            for topic in args.topics:
                print(topic, "is already there" if topic in there else "made")
            return
        check_there(args.address, args.topics)
        if args.what == "read":
            show(args.address, args.topics)
        else:
            lines = (line.strip() for line in sys.stdin.buffer if line.strip())
            values = lines if args.rate is None else paced(lines, args.rate)
            print(send(args.address, args.topics[0], values, args.time), "messages sent")


if __name__ == "__main__":
    main()
