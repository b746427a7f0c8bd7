"""A publisher and a directory without a broker, for the engine's own tests."""

from collections.abc import Collection, Mapping
from typing import Any

from service.contracts.codec import SealedEnvelope, read_header, seal
from service.contracts.events import EventEnvelope
from service.core.errors import BrokerUnavailable
from service.core.records import Place


class MemoryPublisher:
    """Keeps what was published, in order, and can be read back: `CallbackLog` too."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str | None, SealedEnvelope]] = []
        """Topic, key and event of each record."""

    async def publish_to_topic(
        self, topic: str, envelope: EventEnvelope[Any] | SealedEnvelope, key: str | None = None
    ) -> Place | None:
        """Keeps an event."""
        self.published.append(
            (topic, key, envelope if isinstance(envelope, SealedEnvelope) else seal(envelope))
        )
        return Place(0, len(self._records(topic)) - 1)

    async def find_ends(self, topic: str) -> Mapping[int, int]:
        """The end of the one partition that a topic has here."""
        return {0: len(self._records(topic))}

    async def find_standing(
        self, topic: str, start: Mapping[int, int], event_ids: Collection[str]
    ) -> Collection[str]:
        """Which of these event ids stand on a topic from `start` on."""
        records = self._records(topic)[start.get(0, 0) :]
        return {read_header(record.headers, "event_id") or "" for record in records} & set(event_ids)

    def _records(self, topic: str) -> list[SealedEnvelope]:
        return [sealed for where, _, sealed in self.published if where == topic]


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
