"""Topics of Apache Kafka that change while a program reads them; there is no service in it."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.admin import AdminClient, NewPartitions

from llmctl.client.callbacks import CallbackStream, open_callbacks
from llmctl.exits import Failed
from llmctl.library import ComparisonClient, PositionLost, TimedOut, TopicUnreadable, connect
from simulator.kafka_address import KafkaAddress
from tests.conftest import APACHE, CreateTopic, choose_creator
from tests.flow.client.callbacks import CallBack, make_callback, open_writer
from tests.waiting import HANG_SECONDS, until

NO_SERVICE = "http://127.0.0.1:1"


@pytest.fixture
def create(request: pytest.FixtureRequest) -> CreateTopic:
    return choose_creator(request, APACHE)


@pytest.fixture
async def name(create: CreateTopic) -> str:
    name = f"changing-{uuid4().hex}"
    await create(name, 1)
    return name


@pytest.fixture
def admin(apache_kafka: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": apache_kafka})


@pytest.fixture
async def call_back(apache_kafka: str) -> AsyncIterator[CallBack]:
    async with open_writer(apache_kafka) as write:
        yield write


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics are looked at ten times a second instead of every five seconds."""
    monkeypatch.setattr("llmctl.client.dispatcher.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("llmctl.client.callbacks.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("llmctl.client.topic_reader.METADATA_AGE_SECONDS", 0.2)


@pytest.fixture
async def program(apache_kafka: str, looking_often: None) -> AsyncIterator[ComparisonClient]:
    async with connect(NO_SERVICE, apache_kafka, timeout_seconds=HANG_SECONDS) as client:
        yield client


async def delete(admin: AdminClient, topic: str) -> None:
    await asyncio.to_thread(lambda: admin.delete_topics([topic])[topic].result(HANG_SECONDS))


async def grow(admin: AdminClient, topic: str, partitions: int) -> None:
    new = admin.create_partitions([NewPartitions(topic, partitions)])[topic]
    await asyncio.to_thread(new.result, HANG_SECONDS)
    # The controller answers before the broker has heard of it.
    await until(lambda: len(admin.list_topics(topic, HANG_SECONDS).topics[topic].partitions) == partitions)


async def test_a_new_partition_is_read_from_its_beginning(
    program: ComparisonClient, admin: AdminClient, name: str, apache_kafka: str
) -> None:
    before = await program.find_position(name)
    pending = await program.expect("q-1", name)
    async with program.callbacks(name) as callbacks:
        await grow(admin, name, 3)
        async with open_writer(apache_kafka) as call_back:
            await call_back(name, "q-1", partition=2)
        assert (await pending).request_id == "q-1"
        async with asyncio.timeout(HANG_SECONDS):
            assert (await anext(callbacks)).partition == 2
            assert (await anext(program.callbacks(name, start=before))).partition == 2


async def read_on(stream: CallbackStream) -> None:
    while True:
        await stream.read(0.1)


@pytest.mark.usefixtures("looking_often")
async def test_commands_read_new_partitions_and_say_when_a_topic_is_deleted(
    admin: AdminClient, name: str, apache_kafka: str
) -> None:
    """All commands and the monitor read by the one stream."""
    async with open_callbacks(KafkaAddress(apache_kafka), [name]) as stream:
        await grow(admin, name, 12)
        async with open_writer(apache_kafka) as call_back:
            for partition in range(12):
                await call_back(name, f"q-{partition}", partition=partition)
        seen: set[int] = set()
        async with asyncio.timeout(HANG_SECONDS):
            while len(seen) < 12:
                seen |= {record.partition for record in await stream.read(0.1)}
        await delete(admin, name)
        with pytest.raises(Failed, match=f"'{name}' at .* was deleted"):
            await asyncio.wait_for(read_on(stream), HANG_SECONDS)


async def test_a_deleted_topic_is_said_to_all_who_wait(
    program: ComparisonClient, admin: AdminClient, name: str
) -> None:
    pending = await program.expect("q-1", name)
    async with program.callbacks(name) as callbacks:
        listening = asyncio.create_task(anext(callbacks))
        await delete(admin, name)
        with pytest.raises(TopicUnreadable, match=f"'{name}' .* was deleted"):
            await pending
        with pytest.raises(TopicUnreadable, match="was deleted"):
            await listening
    with pytest.raises(TopicUnreadable, match="no topic"):
        await program.find_position(name)


async def test_a_topic_that_was_made_anew_is_read_anew(
    apache_kafka: str, admin: AdminClient, name: str, create: CreateTopic, call_back: CallBack
) -> None:
    await call_back(name, *(f"old-{number}" for number in range(5)))
    async with connect(NO_SERVICE, apache_kafka, timeout_seconds=HANG_SECONDS) as client:
        position = await client.find_position(name)
        pending, missing = await client.expect("new-1", name), await client.expect("new-2", name)
        async with client.callbacks(name) as callbacks:
            await delete(admin, name)
            await create(name, 1)
            async with open_writer(apache_kafka) as write:
                await write(name, "new-0", "new-1")
            assert (await pending).request_id == "new-1"
            with pytest.raises(
                PositionLost, match=f"{name}/0 has no offset 5 any more and goes on at 0"
            ) as lost:
                async with asyncio.timeout(HANG_SECONDS):
                    await anext(callbacks)
            with pytest.raises(TimedOut, match=f"Meanwhile {name}/0 has no offset 5"):
                await missing.result(timeout_seconds=0)
            again = client.callbacks(name, start=lost.value.position)
            assert (await anext(again)).queue_id == "new-0"
        with pytest.raises(PositionLost, match="made anew"):
            await anext(client.callbacks(name, start=position))


async def test_what_is_no_record_is_passed(program: ComparisonClient, name: str, apache_kafka: str) -> None:
    before = await program.find_position(name)
    producer = AIOKafkaProducer(bootstrap_servers=apache_kafka, transactional_id=uuid4().hex)
    async with producer, producer.transaction():
        key, value, headers = make_callback("q-1")
        await producer.send_and_wait(name, value, key=key, headers=headers)

    # Behind the marker as far as this client is concerned.
    async def passed() -> bool:
        return (await program.find_position(name)).offsets[name][0] == 2

    await until(passed, "the marker's being passed")
    async with asyncio.timeout(HANG_SECONDS):
        found = await program.expect("q-2", name, start=before)
        with pytest.raises(TimedOut):
            await found.result(timeout_seconds=0)
        async with program.callbacks(name, start=before) as callbacks:
            assert (await anext(callbacks)).queue_id == "q-1"
            assert callbacks.position.offsets[name][0] in {1, 2}
