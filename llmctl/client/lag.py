"""How far topics reach, and how far behind their consumer groups are; reads only, and joins no group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError, IncompatibleBrokerVersion, KafkaError

from llmctl.client.kafka import REQUEST_LIMIT_SECONDS, ask, close, connect, open_admin, refuse_broker
from llmctl.client.topics import read_topics

MAX_GROUPS = 200
"""Of more groups only so many are asked for their offsets, the first by name."""
GROUPS_AT_ONCE = 10


@dataclass(frozen=True)
class PartitionEnds:
    """Where one partition begins and ends, as offsets."""

    partition: int
    begin: int
    end: int


@dataclass(frozen=True)
class TopicEnds:
    """A topic and its partitions."""

    topic: str
    partitions: tuple[PartitionEnds, ...]

    @property
    def records(self) -> int:
        """About how many records stand there: what is between beginnings and ends."""
        return sum(each.end - each.begin for each in self.partitions)

    @property
    def end_total(self) -> int:
        """How many were ever written."""
        return sum(each.end for each in self.partitions)


@dataclass(frozen=True)
class GroupLag:
    """One consumer group on one topic."""

    group: str
    state: str
    """As the broker names it: `Stable`, `Empty`, …"""
    topic: str
    committed: Mapping[int, int]
    """Partition → the next offset that the group will read."""
    lag: int
    """Records that are not read yet; a partition without a commit counts from its beginning."""
    members: int


@dataclass(frozen=True)
class TopicsReport:
    """All of it at one moment."""

    topics: tuple[TopicEnds, ...]
    groups: tuple[GroupLag, ...]
    """Those that have committed on one of the topics, the furthest behind first."""
    groups_problem: str | None
    """Why groups cannot be told, in one sentence; None where they can."""


class TopicsReader:
    """Reads again and again over the same connections; raises as `llmctl.client.kafka.ask` does."""

    def __init__(
        self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, servers: str, topics: Sequence[str]
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._servers = servers
        self._topics = topics

    async def read(self) -> TopicsReport:
        """The topics and groups as they are now; a topic that does not exist is left out."""
        existing = await read_topics(self._servers)
        places = [
            TopicPartition(topic, partition)
            for topic in dict.fromkeys(self._topics)
            if topic in existing
            for partition in range(existing[topic].partitions)
        ]
        if not places:
            return TopicsReport((), (), None)
        ends = await ask(self._consumer.end_offsets(places), self._servers)
        begins = await ask(self._consumer.beginning_offsets(places), self._servers)
        topics = make_topics(begins, ends)
        try:
            groups = await self._read_groups(topics, places)
        except IncompatibleBrokerVersion:
            problem = "This broker does not list its consumer groups; the embedded one cannot."
            return TopicsReport(topics, (), problem)
        except GroupAuthorizationFailedError:
            problem = "Kafka does not let this user see the consumer groups; it takes DESCRIBE on them."
            return TopicsReport(topics, (), problem)
        except (KafkaError, OSError, TimeoutError) as error:
            raise refuse_broker(self._servers) from error
        return TopicsReport(topics, groups, None)

    async def _read_groups(
        self, topics: Sequence[TopicEnds], places: Sequence[TopicPartition]
    ) -> tuple[GroupLag, ...]:
        async with asyncio.timeout(REQUEST_LIMIT_SECONDS):
            named = sorted({str(each[0]) for each in await self._admin.list_consumer_groups()})[:MAX_GROUPS]
            if not named:
                return ()
            free = asyncio.Semaphore(GROUPS_AT_ONCE)

            async def read_committed(group: str) -> dict[TopicPartition, int]:
                async with free:
                    told = await self._admin.list_consumer_group_offsets(group, partitions=list(places))
                return {place: each.offset for place, each in told.items() if each.offset >= 0}

            committed = await asyncio.gather(*(read_committed(group) for group in named))
            found = {group: each for group, each in zip(named, committed, strict=True) if each}
            described = await self._describe(list(found)) if found else {}
        return measure_lag(topics, found, described)

    async def _describe(self, groups: list[str]) -> dict[str, tuple[str, int]]:
        answers: Sequence[Any] = await self._admin.describe_consumer_groups(groups)
        return {str(each[1]): (str(each[2]), len(each[5])) for answer in answers for each in answer.groups}


def make_topics(
    begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> tuple[TopicEnds, ...]:
    """The topics of these partitions, in the order of their names."""
    return tuple(
        TopicEnds(
            topic,
            tuple(
                PartitionEnds(place.partition, begins[place], ends[place])
                for place in sorted(ends)
                if place.topic == topic
            ),
        )
        for topic in sorted({place.topic for place in ends})
    )


def measure_lag(
    topics: Sequence[TopicEnds],
    committed: Mapping[str, Mapping[TopicPartition, int]],
    described: Mapping[str, tuple[str, int]],
) -> tuple[GroupLag, ...]:
    """The lag of each group on each topic on which it has committed; `described` has state and members."""
    lags = []
    for group, places in committed.items():
        state, members = described.get(group, ("", 0))
        for topic in topics:
            known = {
                place.partition: offset for place, offset in places.items() if place.topic == topic.topic
            }
            if not known:
                continue
            lag = sum(max(0, each.end - known.get(each.partition, each.begin)) for each in topic.partitions)
            lags.append(GroupLag(group, state, topic.topic, known, lag, members))
    return tuple(sorted(lags, key=lambda each: (-each.lag, each.group, each.topic)))


@asynccontextmanager
async def open_topics_reader(bootstrap_servers: str, topics: Sequence[str]) -> AsyncIterator[TopicsReader]:
    """A reader of these topics; Unreachable where no broker answers."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=None, enable_auto_commit=False)
    try:
        await connect(consumer.start(), bootstrap_servers)
        async with open_admin(bootstrap_servers) as admin:
            yield TopicsReader(consumer, admin, bootstrap_servers, topics)
    finally:
        await close(consumer.stop())
