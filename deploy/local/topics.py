"""Messages into the topics of a Kafka broker, and out of them.

    python -m deploy.local.topics create 127.0.0.1:9092 readings forecasts rejected
    python -m deploy.local.topics send 127.0.0.1:9092 readings --time t --rate 20 < records.jsonl
    python -m deploy.local.topics read 127.0.0.1:9092 forecasts rejected

`send` reads lines, each a message; with --time it puts the time of sending into that field of each,
with --rate it sends so many a second. `read` prints what is there and what comes, until Ctrl-C.
"""

import argparse
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

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


def create(address: str, *topics: str, partitions: int = 1) -> None:
    """Make topics at a broker that has none of these names."""
    client = AdminClient({"bootstrap.servers": address})
    made = client.create_topics([NewTopic(topic, partitions, 1) for topic in topics])
    for each in made.values():
        each.result(30)


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
    """Send JSON objects, each at the time of sending if a field is named for it."""
    sender, sent = Sender(address), 0
    for value in values:
        said = value
        if time_field is not None:
            said = json.dumps({**json.loads(value), time_field: time.time()}).encode()
        sender.send(topic, said)
        sent += 1
    return sent - sender.flush()


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
    if args.what == "create":
        create(args.address, *args.topics)
    elif args.what == "read":
        with contextlib.suppress(KeyboardInterrupt):
            show(args.address, args.topics)
    else:
        lines = (line.strip() for line in sys.stdin.buffer if line.strip())
        values = lines if args.rate is None else paced(lines, args.rate)
        (topic,) = args.topics
        print(send(args.address, topic, values, args.time), "messages sent")


if __name__ == "__main__":
    main()
