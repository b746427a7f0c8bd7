"""One running service with its broker, over real sockets, shared by the tests of this folder."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.closing import transports_end  # noqa: F401 - for every test
from tests.flow.judge import Judge
from tests.waiting import HANG_SECONDS, open_client, until

MOCK = {"ALLOW_MOCK_PROVIDER": "true", "DEFAULT_LLM_PROVIDER": "mock"}

Body = dict[str, Any]
ReadError = Callable[[httpx.Response], dict[str, Any]]


def make_env(bootstrap_servers: str, folder: Path, **settings: str) -> dict[str, str]:
    """Makes the environment of a service; settings come without their prefix."""
    common = {
        "PORT": "0",
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "QUEUE_PATH": str(folder / "queue.db"),
    }
    return {f"LLM_PROVIDER_SERVICE_{name}": value for name, value in {**common, **settings}.items()}


@pytest.fixture(scope="session")
def service_url(
    session_launcher: Any, bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The address of a service that calls the mock provider."""
    settings = MOCK | {"OPENAI_API_KEY": "sk-unused", "CALLBACK_TOPIC_ALLOWLIST": "results.*,team-?"}
    env = make_env(bootstrap_servers, tmp_path_factory.mktemp("queue"), **settings)
    return str(session_launcher.start("service", env=env).ready["url"])


@pytest.fixture
def judge() -> Iterator[Judge]:
    """A provider whose replies the test sets and can hold back."""
    judge = Judge()
    thread = Thread(target=judge.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield judge
    judge.gate.set()
    judge.server.shutdown()
    thread.join()
    judge.server.server_close()


@pytest.fixture
def start_judged(launcher: Any, judge: Judge, bootstrap_servers: str, tmp_path: Path) -> Callable[..., str]:
    """Starts a service that calls `judge`; returns its address."""

    def start(**settings: str) -> str:
        judged = {"OPENAI_API_KEY": "fake-key", "OPENAI_BASE_URL": judge.url}
        judged["PROVIDER_TIMEOUT_SECONDS"] = str(10 * HANG_SECONDS)
        env = make_env(bootstrap_servers, tmp_path, **judged, **settings)
        return str(launcher.start("service", env=env).ready["url"])

    return start


@pytest.fixture
async def own_service(start_judged: Callable[..., str], judge: Judge) -> AsyncIterator[httpx.AsyncClient]:
    """A service of this test's own that calls `judge`, four calls at a time."""
    async with open_client(start_judged(CONCURRENCY="4")) as client:
        yield client
    judge.gate.set()


@pytest.fixture
async def patient_service(start_judged: Callable[..., str], judge: Judge) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose provider replies only when the test opens the gate of `judge`, one call at a time."""
    judge.gate.clear()
    async with open_client(start_judged(CONCURRENCY="1")) as client:
        yield client
    judge.gate.set()


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


def read_records(servers: str, topic: str, count: int) -> list[Any]:
    """Reads a topic from its beginning with a foreign client, until it has `count` records."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid4().hex, "enable.auto.commit": False})
    try:
        metadata = consumer.list_topics(timeout=HANG_SECONDS).topics[topic]
        consumer.assign([TopicPartition(topic, partition, 0) for partition in metadata.partitions])
        records: list[Any] = []
        while len(records) < count:
            polled = consumer.consume(count - len(records), timeout=HANG_SECONDS)
            assert polled, f"{topic} has {len(records)} of {count} records"
            records.extend(polled)
    finally:
        consumer.close()
    assert all(record.error() is None for record in records)
    return records


@pytest.fixture
def read_topic(bootstrap_servers: str) -> Read:
    """Reads a topic of the shared broker: `read_topic(topic, count)`."""
    return partial(read_records, bootstrap_servers)


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Coroutine[Any, Any, Ended]]


@pytest.fixture
def llmctl() -> Run:
    """Runs `llmctl` to its end; everything is a pipe."""

    async def run(*words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "llmctl", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(env or {})},
        )
        try:
            async with asyncio.timeout(HANG_SECONDS):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        assert b"Traceback" not in err
        return Ended(process.returncode, out.decode(), err.decode())

    return run


ERROR_FIELDS = {"error_code", "message", "correlation_id", "timestamp", "service", "operation", "details"}


@pytest.fixture
def read_error() -> ReadError:
    """Reads the error of a response and checks its shape."""

    def read(response: httpx.Response) -> dict[str, Any]:
        document = response.json()
        assert set(document) == {"error"}
        assert set(document["error"]) == ERROR_FIELDS
        assert "Traceback" not in response.text
        return dict(document["error"])

    return read


async def read_snapshot(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/admin/v1/snapshot")).json())


async def until_snapshot(
    client: httpx.AsyncClient, condition: Callable[[dict[str, Any]], object], what: str
) -> None:
    """Waits until a condition on the snapshot holds."""

    async def holds() -> bool:
        return bool(condition(await read_snapshot(client)))

    await until(holds, what)


async def submit_many(client: httpx.AsyncClient, body: Body, count: int) -> list[str]:
    """Submits a request several times at once; returns the accepted ids."""
    responses = await asyncio.gather(*(client.post("/api/v1/comparison", json=body) for _ in range(count)))
    assert {response.status_code for response in responses} == {202}
    return [response.json()["queue_id"] for response in responses]


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port on which nobody listens; it is reserved, but a server that reuses addresses may bind it."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


@pytest.fixture(autouse=True)
def config_file(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file of contexts instead of the developer's own; a test writes into it what it needs."""
    path = tmp_path / "llmctl.toml"
    path.touch(mode=0o600)
    monkeypatch.setenv("LLMCTL_CONFIG", str(path))
    return path
