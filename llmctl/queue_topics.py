"""The topics of the Kafka queue, as `topics bootstrap --queue` and `up` make them."""

from __future__ import annotations

from llmctl.client.topics import TopicWish
from service.contracts.topics import name_journal, name_memory

QUEUE_PARTITIONS = 12
"""Can be shared by 1, 2, 3, 4, 6 or 12 replicas without one having more than another."""
MAX_RECORD_BYTES = 4 * 1024 * 1024
_DAY_MILLISECONDS = 86_400_000


def wish_queue_topics(
    request_topic: str, dead_letter_topic: str, partitions: int | None, replication_factor: int | None
) -> list[TopicWish]:
    """What the service's Kafka queue needs.

    Requests and their journal are kept for a week, longer than any deadline; the memory of keys as long; dead
    letters until somebody takes them up.
    """
    count = partitions or QUEUE_PARTITIONS
    week = {"retention.ms": str(7 * _DAY_MILLISECONDS)}
    large = {"max.message.bytes": str(MAX_RECORD_BYTES)}
    kept = {"cleanup.policy": "compact"}
    return [
        TopicWish(request_topic, count, replication_factor, week | large, of_queue=True),
        TopicWish(name_journal(request_topic), count, replication_factor, week | large, of_queue=True),
        TopicWish(name_memory(request_topic), 1, replication_factor, week, of_queue=True),
        TopicWish(dead_letter_topic, count, replication_factor, kept | large, of_queue=True),
    ]
