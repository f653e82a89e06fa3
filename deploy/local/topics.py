"""Create the topics of a Kafka broker, send messages to them and read from them.

    python -m deploy.local.topics create 127.0.0.1:9092 readings forecasts rejected
    python -m deploy.local.topics send 127.0.0.1:9092 readings --time t --rate 20 < records.jsonl
    python -m deploy.local.topics read 127.0.0.1:9092 forecasts rejected

`send` reads messages from standard input, one per line. With --time it writes the time of sending
into that field, with --rate it sends that number per second. `read` prints old and new messages
until Ctrl-C.
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
    """A message.

    Attributes:
        topic: The topic.
        value: The value; empty if there is none.
        arrived: The time of reading, in seconds since 1970.
    """

    topic: str
    value: bytes
    arrived: float


def create(address: str, *topics: str, partitions: int = 1) -> list[str]:
    """Create topics; return those that existed already, which stay unchanged.

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
    """Check that a broker answers; return the names of its topics.

    Raises:
        EngineError: No broker answers.
    """
    client = AdminClient({"bootstrap.servers": address}, logger=_quiet())
    try:
        return set(client.list_topics(timeout=5).topics)
    except KafkaException as error:
        raise EngineError(f"no broker answers at {address}: start it first") from error


def check_there(address: str, topics: Iterable[str]) -> None:
    """Check that topics exist.

    Raises:
        EngineError: No broker answers, or a topic does not exist.
    """
    missing = sorted(set(topics) - check_up(address))
    if missing:
        raise EngineError(
            f"there is no topic {' or '.join(missing)} at {address}: create it with `create`"
        )


def _quiet() -> logging.Logger:
    """Return a logger that drops the messages of the client, which repeats them."""
    logger = logging.getLogger("deploy.local.topics")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


class Sender:
    """Sends messages; unconfirmed ones are sent again, without duplicates.

    Args:
        address: The address of the broker.
    """

    def __init__(self, address: str):
        self._producer = Producer({"bootstrap.servers": address, "enable.idempotence": True})

    def send(
        self, topic: str, value: bytes | None, key: str | None = None, at: int | None = None
    ) -> None:
        """Queue a message; `at` is its timestamp in milliseconds, by default now."""
        self._producer.produce(topic, value, key=key, timestamp=at or 0)
        self._producer.poll(0)

    def flush(self, seconds: float = 60) -> int:
        """Wait until all are confirmed; return the number of those that are not in time."""
        return int(self._producer.flush(seconds))


class Reader:
    """Reads topics from their beginning.

    Args:
        address: The address of the broker.
        topics: The names of the topics.
    """

    def __init__(self, address: str, *topics: str):
        settings = {"bootstrap.servers": address, "group.id": str(uuid.uuid4())}
        policy = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
        self._consumer = Consumer({**settings, **policy})
        self._consumer.subscribe(list(topics))

    def poll(self, seconds: float = 0.1) -> list[Message]:
        """Return new messages; wait some seconds for the first one."""
        first = self._consumer.poll(seconds)
        now = time.time()
        messages = [] if first is None else [first, *self._consumer.consume(999, 0)]
        return [
            Message(each.topic(), each.value() or b"", now)
            for each in messages
            if each.error() is None  # the broker may be down for a while
        ]

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def paced(values: Iterable[T], rate: float) -> Iterator[T]:
    """Yield values at a rate per second."""
    begin = time.time()
    for i, value in enumerate(values):
        time.sleep(max(0.0, begin + i / rate - time.time()))
        yield value


def send(address: str, topic: str, values: Iterable[bytes], time_field: str | None) -> int:
    """Send messages; with a time field they are JSON objects that get the time of sending.

    Raises:
        EngineError: A value is not a JSON object, so it cannot have a time; the values before it
            were sent.
    """
    sender, sent = Sender(address), 0
    try:
        for value in values:
            sender.send(topic, value if time_field is None else timed(value, time_field, sent + 1))
            sent += 1
    finally:
        waiting = sender.flush()
    return sent - waiting


def timed(value: bytes, field: str, number: int) -> bytes:
    """Return a JSON object with the current time in a field.

    Raises:
        EngineError: The value is not a JSON object.
    """
    try:
        return json.dumps({**json.loads(value), field: time.time()}).encode()
    except (ValueError, TypeError) as error:
        shown = value[:60].decode(errors="replace")
        raise EngineError(
            f"message {number} is not a JSON object, so --time cannot be set: {shown!r}"
        ) from error


def show(address: str, topics: Iterable[str]) -> None:
    """Print the messages of topics until Ctrl-C."""
    reader = Reader(address, *topics)
    try:
        while True:
            for message in reader.poll(1.0):
                print(f"{message.topic}: {message.value.decode(errors='replace')}", flush=True)
    finally:
        reader.close()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("create", "send", "read"))
    parser.add_argument("address", help="address of the broker")
    parser.add_argument("topics", nargs="+")
    parser.add_argument("--rate", type=float, help="messages per second")
    parser.add_argument("--time", help="the field for the time of sending")
    return parser


def main() -> None:
    """Create topics, send messages or read them."""
    args = parser().parse_args()
    if args.what == "send" and len(args.topics) != 1:
        parser().error(f"send takes one topic, got {' '.join(args.topics)}")
    with until_stopped():
        if args.what == "create":
            check_up(args.address)
            there = create(args.address, *args.topics)
            for topic in args.topics:
                print(topic, "already exists" if topic in there else "created")
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
