"""What reading a topic back promises: the same suite on memory and on a broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
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
async def control(embedded_broker: Any) -> AsyncIterator[BrokerControl]:
    """The control of the shared broker, which is up afterwards."""
    control = BrokerControl(Path(embedded_broker.ready["control"]))
    yield control
    await control.up()


@pytest.fixture
async def topic(create_topic: Any) -> str:
    """A topic of this test's own."""
    name = f"log.{uuid4().hex}"
    await create_topic(name, 1)
    return name


@pytest.fixture
async def kafka(bootstrap_servers: str) -> AsyncIterator[tuple[KafkaPublisher, KafkaCallbackLog]]:
    """A publisher and a log on the embedded broker."""
    connection = KafkaConnection(bootstrap_servers)
    directory = KafkaTopicDirectory(connection)
    publisher = KafkaPublisher(connection, directory)
    running = asyncio.create_task(publisher.run())
    yield publisher, KafkaCallbackLog(connection, directory)
    running.cancel()
    await asyncio.wait([running])
    await publisher.close()
    await directory.close()


@pytest.fixture(params=["memory", "kafka"])
def line(request: pytest.FixtureRequest, topic: str) -> tuple[CallbackLog, Publish]:
    """A log of each kind, and a way to write to its topic."""
    publisher: Any
    if request.param == "memory":
        publisher = log = MemoryPublisher()
    else:
        publisher, log = request.getfixturevalue("kafka")

    async def publish(event_id: str) -> None:
        sealed = SealedEnvelope(b"{}", (("event_id", event_id.encode()),))
        await publisher.publish_to_topic(topic, sealed, key="k")

    return log, publish


async def test_ends_of_a_topic_move_with_its_records(line: tuple[CallbackLog, Publish], topic: str) -> None:
    """The end of a partition is the offset that the next record gets."""
    log, publish = line
    assert await log.find_ends(topic) == {0: 0}

    await publish("one")
    await publish("two")

    assert await log.find_ends(topic) == {0: 2}


async def test_only_what_stands_behind_the_start_is_found(
    line: tuple[CallbackLog, Publish], topic: str
) -> None:
    """Of the event ids asked for, those are found that stand at the start or behind it, and no others."""
    log, publish = line
    for event_id in ("before", "at", "foreign", "after"):
        await publish(event_id)
    wanted = ["before", "at", "after", "absent"]

    assert set(await log.find_standing(topic, {0: 1}, wanted)) == {"at", "after"}
    assert set(await log.find_standing(topic, {}, wanted)) == {"before", "at", "after"}
    assert set(await log.find_standing(topic, {0: 4}, wanted)) == set()
    assert set(await log.find_standing(topic, {0: 1}, [])) == set()


async def test_many_records_are_read_to_the_end(line: tuple[CallbackLog, Publish], topic: str) -> None:
    """What stands last among thousands is found as well."""
    log, publish = line
    await asyncio.gather(*(publish(f"event-{number}") for number in range(5000)))
    await publish("last")

    assert set(await log.find_standing(topic, {0: 0}, ["last", "event-0"])) == {"last", "event-0"}


async def test_topic_made_anew_is_read_from_its_first_record(
    kafka: tuple[KafkaPublisher, KafkaCallbackLog], topic: str
) -> None:
    """A position that a deleted topic once had says nothing of the shorter one that has its name now."""
    publisher, log = kafka
    await publisher.publish_to_topic(topic, SealedEnvelope(b"{}", (("event_id", b"one"),)))

    assert set(await log.find_standing(topic, {0: 500}, ["one"])) == {"one"}


async def test_records_of_strangers_disturb_nothing(
    kafka: tuple[KafkaPublisher, KafkaCallbackLog], topic: str
) -> None:
    """Records without headers, with odd ones, and without an event id are passed over."""
    publisher, log = kafka
    for headers in ((), (("event_id", b"\xff\xfe"),), (("other", b"x"),), (("event_id", b"one"),)):
        await publisher.publish_to_topic(topic, SealedEnvelope(b"", headers))

    assert set(await log.find_standing(topic, {}, ["one"])) == {"one"}


async def test_absent_topic_cannot_be_read_and_is_not_made(
    kafka: tuple[KafkaPublisher, KafkaCallbackLog],
) -> None:
    """Asking for a topic that is gone says so, and does not create it."""
    _, log = kafka
    absent = f"absent.{uuid4().hex}"

    for _ in range(2):
        with pytest.raises(TopicUnreadable, match=absent):
            await log.find_standing(absent, {}, ["x"])


async def test_broker_that_is_away_is_told_apart(
    kafka: tuple[KafkaPublisher, KafkaCallbackLog], control: BrokerControl, topic: str
) -> None:
    """Whoever asks during an outage learns that it has to ask again."""
    _, log = kafka
    await control.down()

    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(log.find_standing(topic, {}, ["x"]), HANG_SECONDS)
