"""Read records from Kafka or Pub/Sub, and write rows to them."""

import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka, default_io_expansion_service
from apache_beam.transforms.external import ExternalTransform, NamedTupleBasedPayloadBuilder

from beam_rnn.errors import ConfigurationError
from beam_rnn.files import json_line, json_record


class Topic(NamedTuple):
    """A topic or subscription of a message broker.

    Attributes:
        broker: "kafka" or "pubsub".
        servers: The addresses of the Kafka brokers; empty for Pub/Sub.
        name: The name of the topic; for Pub/Sub the full name of a topic or subscription.
        settings: Settings of Kafka's consumer or producer.
    """

    broker: str
    servers: str
    name: str
    settings: Mapping[str, str]


def topic(url: str) -> Topic:
    """Return the topic or subscription that a URL names.

        >>> topic("kafka://one:9092,two:9092/readings?auto.offset.reset=earliest").name
        'readings'
        >>> topic("pubsub://projects/p/subscriptions/s").name
        'projects/p/subscriptions/s'

    Raises:
        ConfigurationError: The URL is neither Kafka's nor Pub/Sub's.
    """
    parts = urllib.parse.urlsplit(url)
    path = parts.path.strip("/")
    settings = dict(urllib.parse.parse_qsl(parts.query))
    if parts.scheme == "kafka" and parts.netloc and path and "/" not in path:
        return Topic("kafka", parts.netloc, path, settings)
    name = f"{parts.netloc}/{path}"
    if parts.scheme == "pubsub" and name.startswith("projects/") and name.count("/") == 3:
        return Topic("pubsub", "", name, settings)
    raise ConfigurationError(
        "the URL must be kafka://SERVER:PORT/TOPIC, pubsub://projects/PROJECT/topics/TOPIC or "
        f"pubsub://projects/PROJECT/subscriptions/SUBSCRIPTION, got {url!r}"
    )


class KafkaRead(NamedTuple):
    """The configuration of Beam's Kafka transform.

    It has the fields of `ReadFromKafka` that differ from their defaults, and no others: Flink's job
    server may have an expansion service of an older Beam, which does not know the newer fields.
    """

    consumer_config: Mapping[str, str]
    topics: list[str]
    key_deserializer: str
    value_deserializer: str
    commit_offset_in_finalize: bool
    timestamp_policy: str


class ReadMessages(beam.PTransform):
    """Read the records of a topic as dicts: each message is a JSON object.

    Kafka's messages have timestamps, and the watermark follows them. A message that is not a JSON
    object becomes a record that `Predict` writes to the dead letters.

    Args:
        url: The URL of the topic: see `topic`.
        expansion_service: The address of a service that expands Beam's Kafka transforms; by
            default Beam starts one, from a jar that it downloads.
    """

    def __init__(self, url: str, expansion_service: str | None = None):
        super().__init__()
        self._topic = topic(url)
        self._expansion_service = expansion_service

    def expand(self, pbegin: Any) -> beam.PCollection[dict[str, Any]]:
        """Read and decode the messages."""
        if self._topic.broker == "kafka":
            messages = pbegin | "Kafka" >> self._kafka()
            values = messages | "Value" >> beam.Map(
                lambda message: message[1] or b""  # a message may have no value
            ).with_output_types(bytes)
        else:
            where = "subscription" if "/subscriptions/" in self._topic.name else "topic"
            values = pbegin | "PubSub" >> beam.io.ReadFromPubSub(**{where: self._topic.name})
        return values | "Record" >> beam.Map(json_record).with_output_types(dict[str, Any])

    def _kafka(self) -> beam.PTransform:
        """Return the transform that reads keys and values from Kafka."""
        servers = {"bootstrap.servers": self._topic.servers, "enable.auto.commit": "false"}
        read = KafkaRead(
            consumer_config={**servers, **self._topic.settings},
            topics=[self._topic.name],
            key_deserializer=ReadFromKafka.byte_array_deserializer,
            value_deserializer=ReadFromKafka.byte_array_deserializer,
            commit_offset_in_finalize=False,
            timestamp_policy=ReadFromKafka.create_time_policy,
        )
        return ExternalTransform(
            ReadFromKafka.URN_WITHOUT_METADATA,
            NamedTupleBasedPayloadBuilder(read),
            self._expansion_service or default_io_expansion_service(),
        )


class WriteMessages(beam.PTransform):
    """Write rows to a topic, each as a JSON object; Kafka's messages get the row's key.

    Delivery is at least once: a retried bundle writes its messages again. The order of the messages
    of a key is undefined.

    Args:
        url: The URL of the topic: see `topic`.
        expansion_service: As for `ReadMessages`.
    """

    def __init__(self, url: str, expansion_service: str | None = None):
        super().__init__()
        self._topic = topic(url)
        self._expansion_service = expansion_service
        if "/subscriptions/" in self._topic.name:
            raise ConfigurationError(f"the output must be a topic, got the subscription {url!r}")

    def expand(self, pcoll: beam.PCollection[Mapping[str, Any]]) -> Any:
        """Encode and write the messages."""
        if self._topic.broker == "pubsub":
            values = pcoll | "Encode" >> beam.Map(_value).with_output_types(bytes)
            return values | "PubSub" >> beam.io.WriteToPubSub(self._topic.name)
        messages = pcoll | "Encode" >> beam.Map(
            lambda row: (row["key"].encode(), _value(row))
        ).with_output_types(tuple[bytes, bytes])
        return messages | "Kafka" >> WriteToKafka(
            {"bootstrap.servers": self._topic.servers, **self._topic.settings},
            self._topic.name,
            expansion_service=self._expansion_service,
        )


def _value(row: Mapping[str, Any]) -> bytes:
    return json_line(row).encode()
