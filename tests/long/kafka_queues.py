"""Queues over Kafka for tests: topics of their own, and members of one group."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from uuid import uuid4

from service.callbacks.log import KafkaCallbackLog
from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.topics import name_journal, name_memory
from service.kafka.connection import KafkaConnection
from service.queues.kafka.queue import KafkaQueue, QueueTopics
from tests.conftest import CreateTopic
from tests.waiting import HANG_SECONDS

LEND_SECONDS = 60.0
SHORTEST_SESSION_SECONDS = 6.0
"""Kafka allows none shorter."""
EMBEDDED_SESSION_SECONDS = 2.0
"""The embedded broker shares out anew a second before a session is over, never sooner."""


async def create_queue_topics(create_topic: CreateTopic, partitions: int) -> QueueTopics:
    """The topics of a new queue."""
    name = f"requests-{uuid4().hex[:12]}"
    topics = QueueTopics(name, name_journal(name), name_memory(name), f"{name}.dead-letters")
    for topic in topics.all():
        await create_topic(topic, 1 if topic == topics.memory else partitions)
    return topics


@asynccontextmanager
async def joined(member: "Member") -> AsyncIterator[KafkaQueue]:
    """A member's queue, from when it has its share of the partitions until it leaves."""
    try:
        await member.start()
        yield member.queue
    finally:
        await member.stop()


class Member:
    """One replica's queue without the rest of the service."""

    def __init__(
        self,
        bootstrap_servers: str,
        topics: QueueTopics,
        replica_name: str | None = None,
        *,
        session_seconds: float = SHORTEST_SESSION_SECONDS,
    ) -> None:
        connection = KafkaConnection(bootstrap_servers)
        self._directory = KafkaTopicDirectory(connection)
        self.queue = KafkaQueue(
            connection,
            topics,
            group=topics.requests,
            replica_name=replica_name,
            find_offsets=KafkaCallbackLog(connection, self._directory).find_offsets_at,
            lend_seconds=LEND_SECONDS,
            session_seconds=session_seconds,
        )
        self._claiming = asyncio.Event()
        self._parting = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Joins, and waits until there is work to be had."""
        await self.queue.open()
        self._claiming.set()
        self._running = asyncio.create_task(self.queue.run(self._wait_until_claiming))
        async with asyncio.timeout(HANG_SECONDS):
            await self.queue.wait_until_sharing()

    async def stop(self) -> None:
        """Hands over and goes."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self.queue.close()
        await self._directory.close()

    def part(self) -> None:
        """As a drain does: nothing is claimed any more."""
        self._claiming.clear()
        self._parting.set()

    def _wait_until_claiming(self, claiming: bool = True) -> Awaitable[object]:
        return (self._claiming if claiming else self._parting).wait()
