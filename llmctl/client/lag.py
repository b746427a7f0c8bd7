"""How far topics reach, and how far behind their consumer groups are; reads only, and joins no group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import (
    BrokerResponseError,
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    RequestTimedOutError,
)
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3

from llmctl.client.kafka import ask, client_options, close, connect, open_admin
from simulator.kafka_address import KafkaAddress

MAX_GROUPS = 200
"""Of more groups only so many are asked for their offsets, the first by name."""
GROUPS_AT_ONCE = 10

_GROUPS_OF_CONSUMERS = frozenset({"consumer", ""})  # "" commits without having members; others do not commit
# aiokafka 0.14 takes the answer of version 3 for one of version 2, and then cannot read it.
DescribeGroupsRequest_v3.RESPONSE_TYPE = DescribeGroupsResponse_v3
_NOT_TOLD = "Dead"  # also the answer about groups of a newer protocol, which this request cannot describe


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
    """As the broker names it: `Stable`, `Empty`, …; empty where it does not tell."""
    topic: str
    committed: Mapping[int, int]
    """Partition → the next offset that the group will read."""
    lag: int | None
    """Records that are not read yet; a partition without a commit counts from its beginning.
    None where nothing is committed."""
    members: int | None
    """How many belong to the group, on whatever topic; None where the broker does not tell."""


@dataclass(frozen=True)
class TopicsReport:
    """All of it at one moment."""

    topics: tuple[TopicEnds, ...]
    """In the order of their names; one that does not exist is left out."""
    groups: tuple[GroupLag, ...]
    """Those that have committed or have members on one of the topics, the furthest behind first."""
    groups_problem: str | None
    """Why groups, or some of them, cannot be told, in one sentence; None where all are."""


@dataclass(frozen=True)
class GroupFacts:
    """What a broker tells about a group apart from its offsets."""

    state: str = ""
    members: int | None = None
    assigned: frozenset[str] = frozenset()
    """The topics of which a member has partitions."""


class TopicsReader:
    """Reads again and again over the same connections; raises as `llmctl.client.kafka.ask` does."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        admin: AIOKafkaAdminClient,
        kafka: KafkaAddress,
        topics: Sequence[str],
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._kafka = kafka
        self._topics = frozenset(topics)

    async def read(self) -> TopicsReport:
        """The topics and groups as they are now."""
        places = await self._find_places()
        if not places:
            return TopicsReport((), (), None)
        self._learn(places)
        begins = await ask(self._consumer.beginning_offsets(places), self._kafka)
        ends = await ask(self._consumer.end_offsets(places), self._kafka)
        topics = make_topics(begins, ends)
        groups, problem = await ask(self._try_groups(topics, places), self._kafka)
        return TopicsReport(topics, groups, problem)

    async def _find_places(self) -> list[TopicPartition]:
        """The partitions of the topics that exist. Asks for all topics: asking for one would create it."""
        described = await ask(self._admin.describe_topics(), self._kafka)
        return sorted(
            TopicPartition(topic["topic"], partition["partition"])
            for topic in described
            if topic["topic"] in self._topics
            for partition in topic["partitions"]
        )

    def _learn(self, places: Sequence[TopicPartition]) -> None:
        """Has the consumer learn of new partitions by asking for all topics.

        Left alone it would ask for them by name, again and again, and so create a topic that was deleted.
        """
        for place in places:
            if place.partition not in (self._consumer.partitions_for_topic(place.topic) or ()):
                self._consumer.unsubscribe()  # of nothing; what it does is to renew all metadata
                return

    async def _try_groups(
        self, topics: Sequence[TopicEnds], places: Sequence[TopicPartition]
    ) -> tuple[tuple[GroupLag, ...], str | None]:
        """The groups, and why they are not all; a broker that does not answer at all raises as it does."""
        try:
            return await self._read_groups(topics, places)
        except RequestTimedOutError:
            raise
        except IncompatibleBrokerVersion:
            return (), "This broker does not list its consumer groups; the embedded one cannot."
        except GroupAuthorizationFailedError:
            return (), "Kafka does not let this user see the consumer groups; it takes DESCRIBE on them."
        except BrokerResponseError as problem:
            return (), f"Kafka does not tell its consumer groups now: {problem}."

    async def _read_groups(
        self, topics: Sequence[TopicEnds], places: Sequence[TopicPartition]
    ) -> tuple[tuple[GroupLag, ...], str | None]:
        homes = await self._list_groups()
        asked = sorted(homes)[:MAX_GROUPS]
        free = asyncio.Semaphore(GROUPS_AT_ONCE)

        async def read_group(group: str) -> dict[TopicPartition, int] | str:
            async with free:
                return await self._read_committed(group, homes[group], places)

        answers = dict(zip(asked, await asyncio.gather(*map(read_group, asked)), strict=True))
        committed = {group: each for group, each in answers.items() if not isinstance(each, str)}
        refusals = {group: each for group, each in answers.items() if isinstance(each, str)}
        facts = await self._describe({group: homes[group] for group in committed})
        return measure_lag(topics, committed, facts), explain_gaps(len(homes), len(asked), refusals)

    async def _list_groups(self) -> dict[str, int]:
        """The groups of consumers, each with the broker that coordinates it: only that one lists it."""
        cluster = await self._admin.describe_cluster()
        brokers: list[int] = [each["node_id"] for each in cluster["brokers"]]
        listed = await asyncio.gather(*(self._admin.list_consumer_groups([each]) for each in brokers))
        return {
            str(group): broker
            for broker, groups in zip(brokers, listed, strict=True)
            for group, protocol, *_ in groups
            if protocol in _GROUPS_OF_CONSUMERS
        }

    async def _read_committed(
        self, group: str, broker: int, places: Sequence[TopicPartition]
    ) -> dict[TopicPartition, int] | str:
        """What the group has committed, or why the broker does not tell."""
        try:
            told = await self._admin.list_consumer_group_offsets(group, broker, list(places))
        except RequestTimedOutError:
            raise
        except BrokerResponseError as problem:
            return str(problem)
        if len(told) < len(places):  # all that the client leaves of an error about the group as a whole
            return "its coordinator gave no offsets"
        return {place: each.offset for place, each in told.items() if each.offset >= 0}

    async def _describe(self, homes: Mapping[str, int]) -> dict[str, GroupFacts]:
        """State and members of these groups, with one request to each of their brokers."""
        shares: dict[int, list[str]] = {}
        for group, broker in homes.items():
            shares.setdefault(broker, []).append(group)
        answers: list[list[Any]] = await asyncio.gather(
            *(self._admin.describe_consumer_groups(groups, broker) for broker, groups in shares.items())
        )
        return {
            group["group"]: read_facts(group)
            for answer in answers
            for each in answer
            for group in each.to_object()["groups"]
        }


def make_topics(
    begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> tuple[TopicEnds, ...]:
    """The topics of these partitions, in the order of their names."""
    found: dict[str, list[PartitionEnds]] = {}
    for place in sorted(ends):
        found.setdefault(place.topic, []).append(PartitionEnds(place.partition, begins[place], ends[place]))
    return tuple(TopicEnds(topic, tuple(partitions)) for topic, partitions in found.items())


def measure_lag(
    topics: Sequence[TopicEnds],
    committed: Mapping[str, Mapping[TopicPartition, int]],
    facts: Mapping[str, GroupFacts],
) -> tuple[GroupLag, ...]:
    """The lag of each group on each topic on which it has committed or has members, the highest first.

    Groups that have members there but have committed nothing come last.
    """
    lags = []
    for group, places in committed.items():
        told = facts.get(group, GroupFacts())
        for topic in topics:
            known = {
                place.partition: offset for place, offset in places.items() if place.topic == topic.topic
            }
            if known or topic.topic in told.assigned:
                lag = _sum_lag(topic, known) if known else None
                lags.append(GroupLag(group, told.state, topic.topic, known, lag, told.members))
    return tuple(sorted(lags, key=lambda each: (each.lag is None, -(each.lag or 0), each.group, each.topic)))


def read_facts(group: Mapping[str, Any]) -> GroupFacts:
    """State, members and their topics out of one group of a DescribeGroups answer."""
    if group["error_code"] or group["state"] == _NOT_TOLD:
        return GroupFacts()
    members = group["members"]
    assigned = frozenset(topic for each in members for topic in _read_assigned(each["member_assignment"]))
    return GroupFacts(group["state"], len(members), assigned)


def explain_gaps(existing: int, asked: int, refusals: Mapping[str, str]) -> str | None:
    """One sentence about the groups that are missing, with the first reason; None where none is."""
    said = []
    if refusals:
        group, reason = min(refusals.items())
        said.append(f"{len(refusals)} of {asked} consumer groups cannot be read, such as {group!r}: {reason}")
    if asked < existing:
        said.append(f"only the first {asked} of {existing} consumer groups by name are asked")
    sentence = "; ".join(said)
    return f"{sentence[0].upper()}{sentence[1:]}." if said else None


def _read_assigned(assignment: bytes) -> tuple[str, ...]:
    """The topics of a member; none while its group shares out the partitions."""
    try:
        shared = ConsumerProtocolMemberAssignment.decode(assignment).assignment
    except ValueError:  # it is empty, or a client wrote what it liked: the broker does not look into it
        return ()
    return tuple(topic for topic, _ in shared or ())


def _sum_lag(topic: TopicEnds, committed: Mapping[int, int]) -> int:
    return sum(max(0, each.end - committed.get(each.partition, each.begin)) for each in topic.partitions)


@asynccontextmanager
async def open_topics_reader(kafka: KafkaAddress, topics: Sequence[str]) -> AsyncIterator[TopicsReader]:
    """A reader of these topics; Unreachable where no broker answers."""
    consumer = AIOKafkaConsumer(**client_options(kafka), group_id=None, enable_auto_commit=False)
    try:
        await connect(consumer.start(), kafka)
        async with open_admin(kafka) as admin:
            yield TopicsReader(consumer, admin, kafka, topics)
    finally:
        await close(consumer.stop())
