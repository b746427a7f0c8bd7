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

from simulator.broker.control import BrokerControl
from tests.closing import transports_end  # noqa: F401 - for every test
from tests.conftest import Child
from tests.node.packages import NodeMissing, install_packages
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"
PARTITIONS = 3


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


async def until_logged(child: Child, begins: str, times: int = 1) -> dict[str, Any]:
    """Waits for a log line whose event begins with these words; returns the first."""
    found: list[dict[str, Any]] = []

    def is_logged() -> bool:
        found[:] = [line for line in child.read_log() if line["event"].startswith(begins)]
        return len(found) >= times

    await until(is_logged, what=begins)
    return found[0]
