"""What tests of ports share: product limits that never decide, topics, a publisher at work."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service.callbacks import topics
from service.callbacks.kafka import KafkaPublisher
from service.callbacks.topics import KafkaTopicDirectory
from service.kafka.connection import KafkaConnection
from simulator.broker.control import BrokerControl
from tests.closing import transports_end  # noqa: F401 - for every test
from tests.waiting import HANG_SECONDS

Publishing = tuple[KafkaPublisher, KafkaTopicDirectory]


@pytest.fixture(autouse=True)
def patient_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is not taken for a broker that is away."""
    monkeypatch.setattr(topics, "LOOKUP_LIMIT_SECONDS", HANG_SECONDS)


@asynccontextmanager
async def publishing(connection: KafkaConnection) -> AsyncIterator[Publishing]:
    directory = KafkaTopicDirectory(connection)
    publisher = KafkaPublisher(connection, directory)
    running = asyncio.create_task(publisher.run())
    try:
        yield publisher, directory
    finally:
        running.cancel()
        await asyncio.wait([running])
        await publisher.close()
        await directory.close()


@pytest.fixture
async def control(embedded_broker: Any) -> AsyncIterator[BrokerControl]:
    control = BrokerControl(Path(embedded_broker.ready["control"]))
    yield control
    await control.up()
    await control.slow(0)


@pytest.fixture
async def topic(create_topic: Any) -> str:
    name = f"results.{uuid4().hex}"
    await create_topic(name, 1)
    return name


@pytest.fixture
async def kafka_publishing(bootstrap_servers: str) -> AsyncIterator[Publishing]:
    async with publishing(KafkaConnection(bootstrap_servers)) as both:
        yield both


@pytest.fixture
def kafka(kafka_publishing: Publishing) -> KafkaPublisher:
    return kafka_publishing[0]


@pytest.fixture
def known_topics(kafka_publishing: Publishing) -> KafkaTopicDirectory:
    return kafka_publishing[1]
