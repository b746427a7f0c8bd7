"""What stands on a usage topic: of which requests, how often, and always the same."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import uuid4

from confluent_kafka import Consumer, TopicPartition

from service.contracts.codec import open_usage, read_header

POLL_SECONDS = 1.0


@dataclass
class UsageTally:
    """The usage events of a topic, by request."""

    values: dict[str, bytes] = field(default_factory=dict)
    copies: int = 0
    conflicting: set[str] = field(default_factory=set)
    """Requests of which two events say different things."""

    def take(self, request_id: str, value: bytes) -> None:
        """One more event."""
        known = self.values.setdefault(request_id, value)
        if known is not value:
            self.copies += 1
            if known != value:
                self.conflicting.add(request_id)


def read_usage(
    bootstrap_servers: str, topic: str, wanted: Collection[str], limit_seconds: float
) -> UsageTally:
    """Reads a topic to its end once every wanted request is told, or for so long."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": uuid4().hex})
    tally, deadline = UsageTally(), time.monotonic() + limit_seconds
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        quiet = False
        while time.monotonic() < deadline and not (quiet and tally.values.keys() >= set(wanted)):
            records = consumer.consume(1000, timeout=POLL_SECONDS)
            for record in records:
                assert record.error() is None, record.error()
                event, value = open_usage(record.value()), record.value()
                assert read_header(record.headers(), "event_id") == str(event.event_id)
                tally.take(event.data.request_id, value)
            quiet = not records
    finally:
        consumer.close()
    return tally
