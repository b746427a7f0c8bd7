"""One running service with its broker, over real sockets, shared by the tests of this folder."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.closing import transports_end  # noqa: F401 - for every test
from tests.waiting import HANG_SECONDS, open_client

SERVICE = {
    "LLM_PROVIDER_SERVICE_PORT": "0",
    "LLM_PROVIDER_SERVICE_ALLOW_MOCK_PROVIDER": "true",
    "LLM_PROVIDER_SERVICE_DEFAULT_LLM_PROVIDER": "mock",
    "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "sk-unused",
    "LLM_PROVIDER_SERVICE_CALLBACK_TOPIC_ALLOWLIST": "results.*,team-?",
}

Body = dict[str, Any]


@pytest.fixture(scope="session")
def service_url(
    session_launcher: Any, bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The address of a service whose judge is the mock provider."""
    queue_path = tmp_path_factory.mktemp("queue") / "queue.db"
    child = session_launcher.start(
        "service",
        env={
            **SERVICE,
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(queue_path),
        },
    )
    return str(child.ready["url"])


@pytest.fixture
async def slow_service(
    launcher: Any, bootstrap_servers: str, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A service of this test's own whose judge takes 300 ms, four calls at a time."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "300")
    child = launcher.start(
        "service",
        env={
            "LLM_PROVIDER_SERVICE_PORT": "0",
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
            "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
            "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
            "LLM_PROVIDER_SERVICE_CONCURRENCY": "4",
        },
    )
    async with open_client(child.ready["url"]) as client:
        yield client


@pytest.fixture
async def patient_service(
    launcher: Any, bootstrap_servers: str, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose judge takes longer than any test waits, one call at a time."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "30000")
    child = launcher.start(
        "service",
        env={
            "LLM_PROVIDER_SERVICE_PORT": "0",
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
            "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
            "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
            "LLM_PROVIDER_SERVICE_CONCURRENCY": "1",
            "LLM_PROVIDER_SERVICE_DRAIN_TIMEOUT_SECONDS": "1",
        },
    )
    async with open_client(child.ready["url"]) as client:
        yield client


@pytest.fixture
async def client(service_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the service."""
    async with open_client(service_url) as client:
        yield client


@pytest.fixture
async def topic(create_topic: Any) -> str:
    """A topic of this test's own, with three partitions."""
    name = f"results.{uuid4().hex}"
    await create_topic(name, 3)
    return name


@pytest.fixture
def body(topic: str) -> Body:
    """A valid request."""
    return {
        "user_prompt": "Which essay is better?",
        "essay_a": "The first essay.",
        "essay_b": "The second essay.",
        "callback_topic": topic,
    }


Read = Callable[[str, int], list[Any]]


@pytest.fixture
def read_topic(bootstrap_servers: str) -> Iterator[Read]:
    """Reads a topic from its beginning with a foreign client, until it has `count` records."""
    consumers: list[Consumer] = []

    def read(topic: str, count: int, limit_seconds: float = 30.0) -> list[Any]:
        consumer = Consumer(
            {"bootstrap.servers": bootstrap_servers, "group.id": uuid4().hex, "enable.auto.commit": False}
        )
        consumers.append(consumer)
        metadata = consumer.list_topics(timeout=HANG_SECONDS).topics[topic]
        consumer.assign([TopicPartition(topic, partition, 0) for partition in metadata.partitions])
        records: list[Any] = []
        while len(records) < count:
            polled = consumer.consume(count - len(records), timeout=limit_seconds)
            if not polled:
                pytest.fail(f"{topic} has {len(records)} of {count} records after {limit_seconds} s")
            records.extend(polled)
        assert all(record.error() is None for record in records)
        return records

    yield read
    for consumer in consumers:
        consumer.close()


def read_error(response: httpx.Response) -> dict[str, Any]:
    """The error of an answer, after a look at its shape."""
    document = response.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {
        "error_code",
        "message",
        "correlation_id",
        "timestamp",
        "service",
        "operation",
        "details",
    }
    assert "Traceback" not in response.text
    return dict(document["error"])


@pytest.fixture(name="read_error")
def read_error_fixture() -> Callable[[httpx.Response], dict[str, Any]]:
    """Reads the one error body."""
    return read_error


def dump(document: Any) -> bytes:
    """JSON bytes, with whatever Python can write."""
    return json.dumps(document).encode()
