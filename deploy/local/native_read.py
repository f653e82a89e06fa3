"""Kafka as a native source of Flink, for the Java SDK that the job server has."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka
from apache_beam.transforms.external import ExternalTransform, NamedTupleBasedPayloadBuilder

FLAG = "--experiments=use_deprecated_read"
"""What a pipeline needs beside it."""


class _Arguments(NamedTuple):
    """Those that every version knows; Beam's `ReadFromKafka` sends newer ones as well."""

    consumer_config: Mapping[str, str]
    topics: list[str]
    key_deserializer: str
    value_deserializer: str
    commit_offset_in_finalize: bool
    timestamp_policy: str


def read(servers: str, topic: str, expansion_service: str) -> beam.PTransform:
    """A topic's messages from their beginning, as (key, value), at the times that they carry."""
    bytes_of = ReadFromKafka.byte_array_deserializer
    consumer = {
        "bootstrap.servers": servers,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "false",
        "group.id": f"group-{time.time_ns()}",
    }
    policy = ReadFromKafka.create_time_policy
    arguments = _Arguments(consumer, [topic], bytes_of, bytes_of, False, policy)
    return ExternalTransform(
        ReadFromKafka.URN_WITHOUT_METADATA,
        NamedTupleBasedPayloadBuilder(arguments),
        expansion_service,
    )
