"""Which topics there are on the cluster, known without asking for any one of them.

Asking a broker for a single topic's metadata may create it (auto-creation cannot be switched off in
aiokafka's request), so a caller could create topics by naming them. The list of all has no such effect.
"""

import asyncio
from collections.abc import Collection, Mapping

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from service.core.errors import BrokerUnavailable
from service.kafka.connection import KafkaConnection, bootstrap

REFRESH_EVERY_SECONDS = 10.0
LOOKUP_LIMIT_SECONDS = 5.0

_log = structlog.get_logger("service.topics")


class KafkaTopicDirectory:
    """The topics of a cluster, refreshed every ten seconds and whenever an unknown one is asked for."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._options = connection.client_options()
        self._client: AIOKafkaClient | None = None
        self._topics: Mapping[str, frozenset[int]] = {}
        self._reachable = False
        self._lookup = asyncio.Lock()
        self._lookups_begun = 0

    @property
    def reachable(self) -> bool:
        """Whether the broker answered the last time it was asked."""
        return self._reachable

    async def run(self) -> None:
        """Keeps the list fresh. Runs until cancelled."""
        while True:
            try:
                await self._refresh()
            except BrokerUnavailable as error:
                _log.debug("topics cannot be listed", error=str(error))
            await asyncio.sleep(REFRESH_EVERY_SECONDS)

    async def exists(self, topic: str) -> bool:
        """Whether a topic exists. Raises `BrokerUnavailable` where an unknown one cannot be looked for."""
        if topic not in self._topics:
            await self._refresh()
        return topic in self._topics

    async def find_partitions(self, topic: str) -> Collection[int]:
        """The numbers of a topic's partitions as they are now, none where it does not exist.

        Raises `BrokerUnavailable`.
        """
        await self._refresh()
        return self._topics.get(topic, frozenset())

    async def close(self) -> None:
        """Closes the connection to the broker."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _refresh(self) -> None:
        """Asks once for all who wait: whoever came while one look-up ran shares the next."""
        ticket = self._lookups_begun
        async with self._lookup:
            if self._lookups_begun > ticket:
                if not self._reachable:
                    raise BrokerUnavailable("No Kafka broker can be reached.")
                return
            self._lookups_begun += 1
            try:
                async with asyncio.timeout(LOOKUP_LIMIT_SECONDS):
                    self._topics = await self._list()
            except (KafkaError, OSError, TimeoutError) as error:
                self._reachable = False
                raise BrokerUnavailable("No Kafka broker can be reached.") from error
            self._reachable = True

    async def _list(self) -> dict[str, frozenset[int]]:
        if self._client is None:
            client = AIOKafkaClient(**self._options)
            try:
                await bootstrap(client.bootstrap())
            except BaseException:
                await client.close()
                raise
            self._client = client
        metadata = await self._client.fetch_all_metadata()
        return {
            topic: frozenset(metadata.partitions_for_topic(topic) or ())
            for topic in metadata.topics(exclude_internal_topics=True)
        }
