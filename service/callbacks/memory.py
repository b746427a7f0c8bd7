"""A publisher and a directory without a broker, for the engine's own tests."""

from typing import Any

from service.contracts.codec import SealedEnvelope, seal
from service.contracts.events import EventEnvelope
from service.core.errors import BrokerUnavailable


class MemoryPublisher:
    """Keeps what was published, in order."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str | None, SealedEnvelope]] = []
        """Topic, key and event of each record."""

    async def publish_to_topic(
        self, topic: str, envelope: EventEnvelope[Any] | SealedEnvelope, key: str | None = None
    ) -> None:
        """Keeps an event."""
        self.published.append(
            (topic, key, envelope if isinstance(envelope, SealedEnvelope) else seal(envelope))
        )


class MemoryTopicDirectory:
    """Knows the topics that it was given."""

    def __init__(self, topics: set[str], *, reachable: bool = True) -> None:
        self.topics = topics
        self.reachable = reachable

    async def exists(self, topic: str) -> bool:
        """Whether the topic is among them."""
        if topic not in self.topics and not self.reachable:
            raise BrokerUnavailable("No Kafka broker can be reached.")
        return topic in self.topics
