"""Fixtures that only tests of processes share."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from simulator.broker.control import BrokerControl
from tests.closing import transports_end  # noqa: F401 - for every test
from tests.conftest import Child, Launcher
from tests.node.packages import NodeMissing, install_packages
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"
PARTITIONS = 3
QUIET_SECONDS = 0.5


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """The folder of the tools that run on Node.js; a machine without is a skip at home and an error in CI."""
    try:
        return install_packages()
    except NodeMissing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture
async def control(embedded_broker: Child) -> AsyncIterator[BrokerControl]:
    """The control of the shared broker, which is up and quick again afterwards."""
    control = BrokerControl(Path(embedded_broker.ready["control"]))
    yield control
    await control.up()
    await control.slow(0)


@pytest.fixture
async def topic(create_topic: Callable[[str, int], Awaitable[None]]) -> str:
    """A topic of this test only."""
    name = f"results.{uuid4().hex}"
    await create_topic(name, PARTITIONS)
    return name


def configure_service(
    bootstrap_servers: str, queue_folder: Path, provider_url: str, **settings: str
) -> dict[str, str]:
    """The environment of a service that calls a fake OpenAI; its own limits are far away."""
    known = {
        "PORT": "0",
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "QUEUE_PATH": str(queue_folder / "queue.db"),
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_BASE_URL": provider_url,
        "DRAIN_TIMEOUT_SECONDS": f"{HANG_SECONDS:g}",
        "PROVIDER_TIMEOUT_SECONDS": f"{HANG_SECONDS:g}",
        **settings,
    }
    return {f"LLM_PROVIDER_SERVICE_{name}": value for name, value in known.items()}


def start_provider(launcher: Launcher, *arguments: str, latency_ms: int = 10) -> Child:
    """Starts the fake provider."""
    latency = ("--latency-p50-ms", str(latency_ms))
    return launcher.start("simulator.provider", "--port", "0", *latency, *arguments)


def find_openai(provider: Child) -> str:
    """Returns the base URL of the OpenAI API of a fake provider."""
    return str(provider.ready["base_urls"]["openai"])


async def order_provider(url: str, order: str) -> None:
    """Holds or releases the provider of a service: `order` is "hold" or "release"."""
    async with open_client(url) as client:
        (await client.post(f"/admin/v1/providers/openai/{order}", json={})).raise_for_status()


def read_records(bootstrap_servers: str, topic: str, count: int) -> list[Message]:
    """Reads a topic from its beginning until it has so many records and no more come."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": uuid4().hex})
    records: list[Message] = []
    try:
        partitions = consumer.list_topics(topic, HANG_SECONDS).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        while True:
            wait_seconds = HANG_SECONDS if len(records) < count else QUIET_SECONDS
            polled = consumer.consume(max(1, count - len(records)), timeout=wait_seconds)
            if not polled:
                break
            records.extend(polled)
    finally:
        consumer.close()
    assert len(records) >= count, f"{topic} has {len(records)} of {count} records"
    return records


@contextmanager
def stopped(child: Child) -> Iterator[None]:
    """Suspends a process: what is under way in it cannot end."""
    child.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        child.process.send_signal(signal.SIGCONT)


async def submit(url: str, topic: str, count: int) -> list[str]:
    """Submits requests at once; returns the accepted ids."""
    body = {"user_prompt": "Which is better?", "essay_b": "two", "callback_topic": topic}
    async with open_client(url) as client:
        responses = await asyncio.gather(
            *(client.post(PATH, json={**body, "essay_a": f"essay {n}"}) for n in range(count))
        )
    assert {response.status_code for response in responses} == {202}
    return [response.json()["queue_id"] for response in responses]


async def until_work_is(url: str, *, queued: int, in_flight: int, outbox: int) -> None:
    """Waits until the service has exactly so many requests in each stage."""
    wanted = (queued, in_flight, outbox)
    async with open_client(url) as client:

        async def is_so() -> bool:
            now: dict[str, Any] = (await client.get("/admin/v1/snapshot")).json()
            return (now["queue"]["depth"], now["in_flight"], now["outbox"]["depth"]) == wanted

        await until(is_so, what=f"{wanted} requests queued, in flight and in the outbox")


async def until_called_back(url: str, count: int) -> None:
    """Waits until so many callbacks were acknowledged and none is left in the outbox.

    An empty service is no sign of that: a request is between two stages for a moment.
    """
    async with open_client(url) as client:

        async def is_so() -> bool:
            now = (await client.get("/admin/v1/snapshot")).json()
            return now["totals"]["published"] >= count and not now["outbox"]["depth"]

        await until(is_so, what=f"{count} callbacks")


async def until_logged(child: Child, begins: str, times: int = 1) -> dict[str, Any]:
    """Waits for a log line whose event begins with these words; returns the first."""
    found: list[dict[str, Any]] = []

    def is_logged() -> bool:
        found[:] = [line for line in child.read_log() if line["event"].startswith(begins)]
        return len(found) >= times

    await until(is_logged, what=begins)
    return found[0]
