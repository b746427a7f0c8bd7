"""Topics and the lag of their groups, read from the embedded broker."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import DescribeGroupsResponse_v3

from llmctl.client.lag import PartitionEnds, open_topics_reader
from llmctl.client.topics import read_topics
from llmctl.exits import Unreachable
from simulator.broker.control import TopicSpec, find_control
from simulator.kafka_address import KafkaAddress
from tests.waiting import until


async def write(bootstrap_servers: str, topic: str, counts: Sequence[int]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all") as producer:
        for partition, count in enumerate(counts):
            for _ in range(count):
                await producer.send_and_wait(topic, b"x", partition=partition)


async def commit(bootstrap_servers: str, group: str, offsets: dict[TopicPartition, int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    finally:
        await consumer.stop()


def pretend_to_list(monkeypatch: pytest.MonkeyPatch, groups: Sequence[str]) -> None:
    """The embedded broker cannot list groups: this answers in its place."""

    async def list_groups(admin: Any, broker_ids: Sequence[int]) -> list[tuple[str, str]]:
        return [(group, "consumer") for group in groups]

    async def describe(admin: Any, names: Sequence[str], broker: int) -> list[DescribeGroupsResponse_v3]:
        return [DescribeGroupsResponse_v3(0, [(0, name, "Empty", "consumer", "", [], 0) for name in names])]

    monkeypatch.setattr(AIOKafkaAdminClient, "list_consumer_groups", list_groups)
    monkeypatch.setattr(AIOKafkaAdminClient, "describe_consumer_groups", describe)


async def test_ends_follow_what_is_written(topic: str, bootstrap_servers: str) -> None:
    async with open_topics_reader(KafkaAddress(bootstrap_servers), [topic, topic]) as reader:
        (empty,) = (await reader.read()).topics
        await write(bootstrap_servers, topic, [3, 0])
        (filled,) = (await reader.read()).topics
        await write(bootstrap_servers, topic, [0, 2])
        (more,) = (await reader.read()).topics
    assert empty.partitions == (PartitionEnds(0, 0, 0), PartitionEnds(1, 0, 0))
    assert filled.partitions == (PartitionEnds(0, 0, 3), PartitionEnds(1, 0, 0))
    assert (more.topic, more.records, more.end_total) == (topic, 5, 5)


async def test_the_embedded_broker_says_that_it_lists_no_groups(
    topic: str, embedded_broker: Any, bootstrap_servers: str
) -> None:
    await write(bootstrap_servers, topic, [2, 0])
    await commit(bootstrap_servers, f"g-{uuid4()}", {TopicPartition(topic, 0): 1})
    async with open_topics_reader(KafkaAddress(bootstrap_servers), [topic]) as reader:
        report = await reader.read()
    assert report.groups == ()
    assert report.groups_problem == "This broker does not list its consumer groups; the embedded one cannot."


async def test_a_missing_topic_is_left_out_until_it_is_there(
    topic: str, bootstrap_servers: str, create_topic: Any
) -> None:
    later = f"cli-{uuid4()}"
    async with open_topics_reader(KafkaAddress(bootstrap_servers), [later]) as reader:
        nothing = await reader.read()
    assert (nothing.topics, nothing.groups, nothing.groups_problem) == ((), (), None)
    async with open_topics_reader(KafkaAddress(bootstrap_servers), [later, topic]) as reader:
        before = await reader.read()
        assert later not in await read_topics(KafkaAddress(bootstrap_servers))
        await create_topic(later, 3)
        after = await reader.read()
    assert [each.topic for each in before.topics] == [topic]
    assert {each.topic: len(each.partitions) for each in after.topics} == {topic: 2, later: 3}


async def test_lag_is_measured_from_what_groups_committed(
    topic: str, broker_kind: str, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, behind, elsewhere = (f"g-{uuid4()}" for _ in range(3))
    if broker_kind == "embedded":
        pretend_to_list(monkeypatch, [ahead, behind, elsewhere])
    await write(bootstrap_servers, topic, [4, 3])
    await commit(bootstrap_servers, ahead, {TopicPartition(topic, 0): 4, TopicPartition(topic, 1): 2})
    await commit(bootstrap_servers, behind, {TopicPartition(topic, 0): 1})
    async with open_topics_reader(KafkaAddress(bootstrap_servers), [topic]) as reader:
        first, second = await reader.read(), await reader.read()
    assert first == second
    assert first.groups_problem is None
    assert [(each.group, each.lag, each.committed) for each in first.groups] == [
        (behind, 6, {0: 1}),
        (ahead, 1, {0: 4, 1: 2}),
    ]
    assert {(each.topic, each.state, each.members) for each in first.groups} == {(topic, "Empty", 0)}


async def test_a_broker_that_comes_back_is_read_again(launcher: Any) -> None:
    servers = launcher.start("simulator.broker", "--port", "0").ready["bootstrap_servers"]
    control = await find_control(servers)
    assert control is not None
    await control.create_topics([TopicSpec("t", 1)])

    async def reads() -> bool:
        try:
            return [each.topic for each in (await reader.read()).topics] == ["t"]
        except Unreachable:
            return False

    async with open_topics_reader(KafkaAddress(servers), ["t"]) as reader:
        assert await reads()
        await control.down()
        with pytest.raises(Unreachable):
            await reader.read()
        await control.up()
        await until(reads, what="the reader reads again")
