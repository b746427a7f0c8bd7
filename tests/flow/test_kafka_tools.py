"""Apache Kafka's own command line tools see what we say: the callbacks, and the lag of a group."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from llmctl.client.lag import open_topics_reader
from service.contracts.codec import open_envelope
from simulator.kafka_address import KafkaAddress
from tests.apache_kafka.artifacts import java, resolve_classes
from tests.flow.conftest import MOCK, make_env
from tests.waiting import HANG_SECONDS, open_client

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


async def run_tool(main_class: str, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *java(resolve_classes(), main_class, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(HANG_SECONDS):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode()


@pytest.fixture
def topic(apache_kafka: str) -> str:
    name = f"results.{uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": apache_kafka})  # it takes its requests with it when it goes
    admin.create_topics([NewTopic(name, 2)])[name].result(HANG_SECONDS)
    return name


async def test_console_consumer_reads_the_callbacks(
    launcher: Any, apache_kafka: str, topic: str, tmp_path: Any
) -> None:
    env = make_env(apache_kafka, tmp_path, **MOCK)
    child = launcher.start("service", env=env)
    body = {"user_prompt": "Which?", "essay_a": "One.", "essay_b": "Two.", "callback_topic": topic}
    async with open_client(child.ready["url"]) as client:
        accepted = [(await client.post("/api/v1/comparison", json=body)).json() for _ in range(3)]

    printed = await run_tool(
        CONSOLE_CONSUMER,
        *("--bootstrap-server", apache_kafka, "--topic", topic, "--from-beginning"),
        *("--max-messages", "3", "--timeout-ms", str(int(HANG_SECONDS * 1000))),
        *("--formatter-property", "print.key=true", "--formatter-property", "print.headers=true"),
        *("--formatter-property", "headers.separator=;"),
    )

    records = [line.split("\t") for line in printed.splitlines()]
    assert {(key, open_envelope(value.encode()).data.request_id) for _, key, value in records} == {
        (each["correlation_id"], each["queue_id"]) for each in accepted
    }
    for headers, _, value in records:
        told = dict(header.split(":", 1) for header in headers.split(";"))
        assert told["event_id"] == json.loads(value)["event_id"]


async def test_groups_tool_tells_the_lag_that_we_tell(apache_kafka: str, topic: str) -> None:
    group = f"g-{uuid4()}"
    async with AIOKafkaProducer(bootstrap_servers=apache_kafka, acks="all") as producer:
        for number in range(9):
            await producer.send_and_wait(topic, b"x", partition=number % 2)
    consumer = AIOKafkaConsumer(bootstrap_servers=apache_kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
    await consumer.commit({TopicPartition(topic, 0): 2, TopicPartition(topic, 1): 4})
    await consumer.stop()

    async with open_topics_reader(KafkaAddress(apache_kafka), [topic]) as reader:
        report = await reader.read()
    printed = await run_tool(GROUPS, "--bootstrap-server", apache_kafka, "--describe", "--group", group)

    (ours,) = [each for each in report.groups if each.group == group]
    (ends,) = report.topics
    rows = [line.split() for line in printed.splitlines() if topic in line]
    theirs = {int(row[2]): (int(row[3]), int(row[4]), int(row[5])) for row in rows}
    assert theirs == {0: (2, 5, 3), 1: (4, 4, 0)}
    assert {
        each.partition: (ours.committed[each.partition], each.end, each.end - ours.committed[each.partition])
        for each in ends.partitions
    } == theirs
    assert ours.lag == sum(lag for _, _, lag in theirs.values())
