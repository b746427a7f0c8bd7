"""What requests have used, told on a topic of its own: with a queue in a file and with one on Kafka."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.contracts.codec import open_usage, read_header
from service.contracts.error_codes import LLMErrorCode
from service.contracts.events import UsageEnvelope
from tests.conftest import Child, Launcher
from tests.flow.conftest import make_env, until_snapshot
from tests.waiting import open_client, until

PATH = "/api/v1/comparison"
TOKENS = {"red": "token-of-red", "blue": "token-of-blue"}
ADMIN = {"Authorization": "Bearer token-of-admin"}
REQUESTS = 4


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.long)])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Launcher]:
    """Starts services with a queue of each kind."""
    launcher = Launcher(tmp_path, request.param)
    yield launcher
    launcher.close()


class Deployment:
    """One service after the other on the same queue and usage topic."""

    def __init__(self, launcher: Launcher, bootstrap_servers: str, folder: Path) -> None:
        self._launcher = launcher
        provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "5")
        self.usage_topic = f"usage.{uuid4().hex}"
        settings = {
            "OPENAI_API_KEY": "fake-key",
            "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
            "API_TOKENS": ",".join(f"{name}:{token}" for name, token in TOKENS.items()),
            "ADMIN_TOKEN": "token-of-admin",
            "USAGE_TOPIC": self.usage_topic,
        }
        self._env = make_env(bootstrap_servers, folder, **settings)

    def start(self) -> tuple[Child, httpx.AsyncClient]:
        child = self._launcher.start("service", env=self._env)
        return child, open_client(child.ready["url"], headers=ADMIN)


@pytest.fixture
def deployment(launcher: Launcher, bootstrap_servers: str, tmp_path: Path) -> Deployment:
    """A deployment of this test's own; its usage topic does not exist yet."""
    return Deployment(launcher, bootstrap_servers, tmp_path)


def failures(service: Child) -> list[dict[str, Any]]:
    return [entry for entry in service.read_log() if entry["event"].startswith("usage events were not")]


async def submit(client: httpx.AsyncClient, topic: str, caller: str, **more: Any) -> httpx.Response:
    body = {"user_prompt": "Which?", "essay_a": "One secret essay.", "essay_b": "Two.", **more}
    return await client.post(
        PATH,
        json={**body, "callback_topic": topic},
        headers={"Authorization": f"Bearer {TOKENS[caller]}", "X-Run-ID": "run-7"},
    )


def open_events(records: list[Any]) -> list[UsageEnvelope]:
    events = [open_usage(record.value()) for record in records]
    for record, event in zip(records, events, strict=True):
        assert record.key().decode() == str(event.correlation_id)
        assert read_header(record.headers(), "event_id") == str(event.event_id)
        assert read_header(record.headers(), "event_type") == event.event_type == "llm_provider.usage"
        assert b"secret" not in record.value()
    return events


async def read_events(read_topic: Any, topic: str, count: int) -> list[UsageEnvelope]:
    records = count
    while True:
        events = open_events(await asyncio.to_thread(read_topic, topic, records))
        first = list({event.event_id: event for event in reversed(events)}.values())[::-1]
        if len(first) == count:
            return first
        records += count - len(first)


async def test_usage_is_told_and_comes_to_the_account(
    deployment: Deployment, create_topic: Any, topic: str, read_topic: Any
) -> None:
    await create_topic(deployment.usage_topic, 2)
    _, client = deployment.start()
    async with client:
        callers = {}
        for number in range(REQUESTS):
            caller = ("red", "blue")[number % 2]
            # Nothing is used by what expires before it is asked.
            expired = {"ttl_seconds": 1e-6} if number == 0 else {}
            accepted = await submit(client, topic, caller, **expired)
            assert accepted.status_code == 202, accepted.text
            callers[accepted.json()["queue_id"]] = caller
        refused = await submit(client, deployment.usage_topic, "red")
        callbacks = await asyncio.to_thread(read_topic, topic, REQUESTS)
        events = await read_events(read_topic, deployment.usage_topic, REQUESTS - 1)
        told_all = {"topic": deployment.usage_topic, "pending": 0}
        await until_snapshot(client, lambda now: now["usage"].items() >= told_all.items(), "the last event")
        rows = (await client.get("/admin/v1/usage")).json()["rows"]
        metrics = (await client.get("/metrics")).text

    assert refused.json()["error"]["error_code"] == LLMErrorCode.INVALID_CALLBACK_TOPIC
    used = {event.data.request_id: event.data for event in events}
    assert len(used) == REQUESTS - 1
    assert {each: callers[each] for each in used} == {each: data.caller for each, data in used.items()}
    assert {data.run_id for data in used.values()} == {"run-7"}
    answered = {read_header(record.headers(), "request_id") for record in callbacks}
    assert used.keys() < answered == callers.keys()
    for caller in TOKENS:
        (row,) = [row for row in rows if row["caller"] == caller]
        mine = [data for data in used.values() if data.caller == caller]
        assert row["calls"] == sum(data.calls for data in mine)
        assert row["prompt_tokens"] == sum(data.token_usage.prompt_tokens for data in mine) > 0
        assert row["completion_tokens"] == sum(data.token_usage.completion_tokens for data in mine) > 0
        assert row["cost_usd"] == pytest.approx(sum(data.cost_estimate for data in mine))
    told = re.search(r"llm_usage_events_published_total (\d+)\.0", metrics)
    assert told is not None
    assert int(told[1]) >= REQUESTS - 1


async def test_usage_waits_for_its_topic_across_a_crash_and_holds_up_no_callback(
    deployment: Deployment, create_topic: Any, topic: str, read_topic: Any
) -> None:
    first, client = deployment.start()
    async with client:
        for _ in range(REQUESTS):
            assert (await submit(client, topic, "red")).status_code == 202
        await asyncio.to_thread(read_topic, topic, REQUESTS)
        await until(lambda: failures(first), "a failure to publish")
        await until_snapshot(client, lambda now: now["usage"]["pending"] == REQUESTS, "usage that waits")
        first.kill()
    assert deployment.usage_topic in failures(first)[0]["reason"]

    await create_topic(deployment.usage_topic, 1)
    second, client = deployment.start()
    async with client:
        events = await read_events(read_topic, deployment.usage_topic, REQUESTS)
        await until_snapshot(client, lambda now: now["usage"]["pending"] == 0, "the last event")
        assert second.stop() == 0

    _, client = deployment.start()
    async with client:
        assert (await submit(client, topic, "blue")).status_code == 202
        events = await read_events(read_topic, deployment.usage_topic, REQUESTS + 1)

    assert len({event.event_id for event in events}) == REQUESTS + 1
    assert [event.data.caller for event in events] == ["red"] * REQUESTS + ["blue"]
