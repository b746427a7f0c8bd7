"""What reading a topic back promises: the same suite on memory and on a broker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from service.callbacks.kafka import KafkaPublisher
from service.callbacks.log import KafkaCallbackLog
from service.callbacks.memory import MemoryPublisher
from service.callbacks.topics import KafkaTopicDirectory
from service.contracts.codec import SealedEnvelope
from service.core.errors import BrokerUnavailable, TopicUnreadable
from service.core.ports import CallbackLog
from service.kafka.connection import KafkaConnection
from simulator.broker.control import BrokerControl
from tests.waiting import HANG_SECONDS

Publish = Callable[[str], Awaitable[None]]


@pytest.fixture
def log(bootstrap_servers: str, known_topics: KafkaTopicDirectory) -> KafkaCallbackLog:
    return KafkaCallbackLog(KafkaConnection(bootstrap_servers), known_topics)


@pytest.fixture(params=["memory", "kafka"])
def line(request: pytest.FixtureRequest, topic: str) -> tuple[CallbackLog, Publish]:
    publisher: Any
    log: Any
    if request.param == "memory":
        publisher = log = MemoryPublisher()
    else:
        publisher, log = request.getfixturevalue("kafka"), request.getfixturevalue("log")

    async def publish(event_id: str) -> None:
        sealed = SealedEnvelope(b"{}", (("event_id", event_id.encode()),))
        await publisher.publish_to_topic(topic, sealed, key="k")

    return log, publish


@pytest.mark.apache
async def test_ends_of_a_topic_move_with_its_records(line: tuple[CallbackLog, Publish], topic: str) -> None:
    log, publish = line
    assert await log.find_ends(topic) == {0: 0}

    await publish("one")
    await publish("two")

    assert await log.find_ends(topic) == {0: 2}


@pytest.mark.apache
async def test_only_what_stands_behind_the_start_is_found(
    line: tuple[CallbackLog, Publish], topic: str
) -> None:
    log, publish = line
    for event_id in ("before", "at", "foreign", "after"):
        await publish(event_id)
    wanted = ["before", "at", "after", "absent"]

    assert set(await log.find_standing(topic, {0: 1}, wanted)) == {"at", "after"}
    assert set(await log.find_standing(topic, {}, wanted)) == {"before", "at", "after"}
    assert set(await log.find_standing(topic, {0: 4}, wanted)) == set()
    assert set(await log.find_standing(topic, {0: 1}, [])) == set()


@pytest.mark.apache
async def test_many_records_are_read_to_the_end(line: tuple[CallbackLog, Publish], topic: str) -> None:
    log, publish = line
    await asyncio.gather(*(publish(f"event-{number}") for number in range(3000)))
    await publish("last")

    assert set(await log.find_standing(topic, {0: 0}, ["last", "event-0"])) == {"last", "event-0"}


@pytest.mark.apache
async def test_topic_made_anew_is_read_from_its_first_record(
    kafka: KafkaPublisher, log: KafkaCallbackLog, topic: str
) -> None:
    await kafka.publish_to_topic(topic, SealedEnvelope(b"{}", (("event_id", b"one"),)))

    assert set(await log.find_standing(topic, {0: 500}, ["one"])) == {"one"}


@pytest.mark.apache
async def test_records_of_strangers_disturb_nothing(
    kafka: KafkaPublisher, log: KafkaCallbackLog, topic: str
) -> None:
    for headers in ((), (("event_id", b"\xff\xfe"),), (("other", b"x"),), (("event_id", b"one"),)):
        await kafka.publish_to_topic(topic, SealedEnvelope(b"", headers))

    assert set(await log.find_standing(topic, {}, ["one"])) == {"one"}


@pytest.mark.apache
async def test_absent_topic_cannot_be_read_and_is_not_made(log: KafkaCallbackLog) -> None:
    absent = f"absent.{uuid4().hex}"

    for _ in range(2):
        with pytest.raises(TopicUnreadable, match=absent):
            await log.find_standing(absent, {}, ["x"])


async def test_broker_that_is_away_is_told_apart(
    log: KafkaCallbackLog, control: BrokerControl, topic: str
) -> None:
    await control.down()

    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(log.find_standing(topic, {}, ["x"]), HANG_SECONDS)
