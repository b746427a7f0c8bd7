"""Undelivered callbacks over real HTTP: a broker that refuses for good, the list, sending again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from service.contracts.codec import open_envelope
from simulator.broker.control import BrokerControl, TopicSpec
from tests.flow.conftest import MOCK, make_env
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"
UNDELIVERED = "/admin/v1/undelivered"
ReadError = Callable[[httpx.Response], dict[str, Any]]


class Refusing:
    """A service of this test's own with a broker of its own, which can be told to refuse."""

    def __init__(self, client: httpx.AsyncClient, broker: Any) -> None:
        self.client = client
        self.bootstrap_servers: str = broker.ready["bootstrap_servers"]
        self.control = BrokerControl(Path(broker.ready["control"]))

    async def snapshot(self) -> dict[str, Any]:
        return dict((await self.client.get("/admin/v1/snapshot")).json()["outbox"])

    async def park(self, body: dict[str, Any], reason: str = "MESSAGE_TOO_LARGE") -> str:
        before = (await self.snapshot())["parked"]
        await self.control.error(reason, count=2)  # in its batch, and by itself
        accepted = await self.client.post(PATH, json=body)
        assert accepted.status_code == 202

        async def one_more() -> bool:
            return bool((await self.snapshot())["parked"] == before + 1)

        await until(one_more, what="a parked callback")
        return str(accepted.json()["queue_id"])


@asynccontextmanager
async def start(launcher: Any, path: Path, **settings: str) -> AsyncIterator[Refusing]:
    broker = launcher.start("simulator.broker", "--port", "0")
    env = make_env(broker.ready["bootstrap_servers"], path, **MOCK, **settings)
    service = launcher.start("service", env=env)
    async with open_client(service.ready["url"]) as client:
        yield Refusing(client, broker)


@pytest.fixture
async def refusing(launcher: Any, tmp_path: Path) -> AsyncIterator[Refusing]:
    """A service whose operators' routes are open."""
    async with start(launcher, tmp_path) as running:
        yield running


@pytest.fixture
async def own_body(refusing: Refusing) -> dict[str, Any]:
    """A valid request for a topic of the own broker."""
    topic = f"results.{uuid4().hex}"
    await refusing.control.create_topics([TopicSpec(topic, 1)])
    return make_body(topic)


def make_body(topic: str) -> dict[str, Any]:
    return {
        "user_prompt": "SECRET-PROMPT",
        "essay_a": "SECRET-A",
        "essay_b": "SECRET-B",
        "callback_topic": topic,
    }


async def test_a_refused_callback_is_listed_and_delivered_when_sent_again(
    refusing: Refusing, own_body: dict[str, Any]
) -> None:
    queue_id = await refusing.park(own_body)

    listed = await refusing.client.get(UNDELIVERED)
    (item,) = listed.json()["items"]
    resent = await refusing.client.post(f"{UNDELIVERED}/resend", json={"queue_ids": [queue_id, "unknown"]})

    async def delivered() -> bool:
        return await refusing.snapshot() == {"depth": 0, "parked": 0}

    await until(delivered, what="its delivery")
    assert {"total": 1, "next": None}.items() <= listed.json().items()
    assert set(item) == {
        *("queue_id", "correlation_id", "topic", "reason", "message"),
        *("is_error", "size_bytes", "accepted_at", "parked_at"),
    }
    assert (item["queue_id"], item["topic"]) == (queue_id, own_body["callback_topic"])
    assert (item["reason"], item["is_error"]) == ("MESSAGE_TOO_LARGE", False)
    assert "max.message.bytes" in item["message"]
    assert item["size_bytes"] > 100
    accepted, parked = (datetime.fromisoformat(item[name]) for name in ("accepted_at", "parked_at"))
    assert accepted < parked < datetime.now(UTC)
    assert "SECRET" not in listed.text
    assert (resent.status_code, resent.json()) == (202, {"resent": 1, "not_parked": ["unknown"]})
    assert (await refusing.client.get(UNDELIVERED)).json() == {"total": 0, "items": [], "next": None}


@pytest.fixture
def read_own(refusing: Refusing) -> Callable[[str, int], list[Any]]:
    """Reads a topic of the own broker from its beginning, with a foreign client."""

    def read(topic: str, count: int) -> list[Any]:
        consumer = Consumer({"bootstrap.servers": refusing.bootstrap_servers, "group.id": uuid4().hex})
        try:
            consumer.assign([TopicPartition(topic, 0, 0)])
            records: list[Any] = []
            while len(records) < count:
                polled = consumer.consume(count - len(records), timeout=HANG_SECONDS)
                assert polled, f"{topic} has {len(records)} of {count} records"
                records.extend(polled)
            return records
        finally:
            consumer.close()

    return read


async def test_all_are_sent_again_across_pages_and_topics(
    refusing: Refusing, own_body: dict[str, Any], read_own: Any
) -> None:
    topic = own_body["callback_topic"]
    other = f"{topic}.other"
    await refusing.control.create_topics([TopicSpec(other, 1)])
    ids = [await refusing.park(own_body) for _ in range(2)]
    lone = await refusing.park(make_body(other), "TOPIC_AUTHORIZATION_FAILED")

    first = (await refusing.client.get(UNDELIVERED, params={"limit": 2})).json()
    second = (await refusing.client.get(UNDELIVERED, params={"limit": 2, "after": first["next"]})).json()
    alone = (await refusing.client.get(UNDELIVERED, params={"topic": other})).json()
    resent = await refusing.client.post(f"{UNDELIVERED}/resend", json={"all": True})
    records = await asyncio.to_thread(read_own, topic, 2)

    assert [item["queue_id"] for item in first["items"] + second["items"]] == [*ids, lone]
    assert (first["total"], second["next"]) == (3, None)
    assert ([item["queue_id"] for item in alone["items"]], alone["total"]) == ([lone], 1)
    assert resent.json() == {"resent": 3, "not_parked": []}
    assert sorted(open_envelope(record.value()).data.request_id for record in records) == sorted(ids)


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"all": False},
        {"all": True, "queue_ids": ["x"]},
        {"queue_ids": []},
        {"queue_ids": [1]},
        {"x": 1},
        [],
    ],
)
async def test_a_faulty_resend_order_is_one_sentence(
    client: httpx.AsyncClient, read_error: ReadError, order: Any
) -> None:
    error = read_error(refused := await client.post(f"{UNDELIVERED}/resend", json=order))

    assert (refused.status_code, error["error_code"]) == (422, "LLM_INVALID_REQUEST")
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]


async def test_an_order_of_both_or_neither_says_what_to_say(
    client: httpx.AsyncClient, read_error: ReadError
) -> None:
    for content in (b"", b'{"all": true, "queue_ids": ["x"]}'):
        error = read_error(await client.post(f"{UNDELIVERED}/resend", content=content))
        assert 'either {"queue_ids": […]} or {"all": true}' in error["message"]


async def test_an_order_beyond_its_limit_is_refused(client: httpx.AsyncClient, read_error: ReadError) -> None:
    large = await client.post(f"{UNDELIVERED}/resend", json={"queue_ids": ["x" * 99] * 2000})
    many = await client.post(f"{UNDELIVERED}/resend", json={"queue_ids": ["x"] * 1001})

    assert (large.status_code, read_error(large)["error_code"]) == (413, "LLM_CONTENT_TOO_LONG")
    assert many.status_code == 422
    assert read_error(many)["details"] == {"field": "queue_ids"}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "after=-1", "after=x", "after=1e30", "nope=1"])
async def test_a_faulty_query_is_refused(
    client: httpx.AsyncClient, read_error: ReadError, query: str
) -> None:
    error = read_error(refused := await client.get(f"{UNDELIVERED}?{query}"))

    assert refused.status_code == 422
    assert error["details"]["field"] == query.partition("=")[0]


async def test_the_routes_are_the_operators(launcher: Any, tmp_path: Path, read_error: ReadError) -> None:
    async with start(launcher, tmp_path, ADMIN_TOKEN="operators-secret-token") as running:
        for ask in (
            running.client.get(UNDELIVERED),
            running.client.post(f"{UNDELIVERED}/resend", json={"all": True}),
        ):
            refused = await ask
            assert (refused.status_code, read_error(refused)["error_code"]) == (401, "LLM_UNAUTHORIZED")
        headers = {"Authorization": "Bearer operators-secret-token"}
        assert (await running.client.get(UNDELIVERED, headers=headers)).json()["total"] == 0
