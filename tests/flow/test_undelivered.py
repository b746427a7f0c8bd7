"""Undelivered callbacks over real HTTP: a broker that refuses for good, the list, sending again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.contracts.codec import open_envelope
from simulator.broker.control import BrokerControl, TopicSpec
from tests.flow.conftest import MOCK, Body, ReadError, make_env, read_records, read_snapshot, until_snapshot
from tests.waiting import open_client

PATH = "/api/v1/comparison"
UNDELIVERED = "/admin/v1/undelivered"


class Refusing:
    """A service of this test's own with a broker of its own, which can be told to refuse."""

    def __init__(self, client: httpx.AsyncClient, broker: Any) -> None:
        self.client = client
        self.bootstrap_servers: str = broker.ready["bootstrap_servers"]
        self.control = BrokerControl(Path(broker.ready["control"]))

    async def park(self, body: Body, reason: str = "MESSAGE_TOO_LARGE") -> str:
        before = (await read_snapshot(self.client))["outbox"]["parked"]
        await self.control.error(reason, count=2)  # in its batch, and by itself
        accepted = await self.client.post(PATH, json=body)
        assert accepted.status_code == 202
        await until_snapshot(
            self.client, lambda now: now["outbox"]["parked"] == before + 1, "an undelivered callback"
        )
        return str(accepted.json()["queue_id"])


@pytest.fixture
async def refusing(launcher: Any, tmp_path: Path) -> AsyncIterator[Refusing]:
    broker = launcher.start("simulator.broker", "--port", "0")
    service = launcher.start("service", env=make_env(broker.ready["bootstrap_servers"], tmp_path, **MOCK))
    async with open_client(service.ready["url"]) as client:
        yield Refusing(client, broker)


@pytest.fixture
async def own_body(refusing: Refusing) -> dict[str, Any]:
    topic = f"results.{uuid4().hex}"
    await refusing.control.create_topics([TopicSpec(topic, 1)])
    return make_body(topic)


def make_body(topic: str) -> dict[str, Any]:
    texts = {"user_prompt": "SECRET-PROMPT", "essay_a": "SECRET-A", "essay_b": "SECRET-B"}
    return {**texts, "callback_topic": topic}


async def test_a_refused_callback_is_listed_and_delivered_when_sent_again(
    refusing: Refusing, own_body: Body
) -> None:
    queue_id = await refusing.park(own_body)

    listed = await refusing.client.get(UNDELIVERED)
    (item,) = listed.json()["items"]
    resent = await refusing.client.post(f"{UNDELIVERED}/resend", json={"queue_ids": [queue_id, "unknown"]})
    delivered = {"depth": 0, "parked": 0}
    await until_snapshot(refusing.client, lambda now: now["outbox"] == delivered, "its delivery")

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


async def test_all_are_sent_again_across_pages_and_topics(refusing: Refusing, own_body: Body) -> None:
    topic = own_body["callback_topic"]
    other = f"{topic}.other"
    await refusing.control.create_topics([TopicSpec(other, 1)])
    ids = [await refusing.park(own_body) for _ in range(2)]
    lone = await refusing.park(make_body(other), "TOPIC_AUTHORIZATION_FAILED")

    first = (await refusing.client.get(UNDELIVERED, params={"limit": 2})).json()
    second = (await refusing.client.get(UNDELIVERED, params={"limit": 2, "after": first["next"]})).json()
    alone = (await refusing.client.get(UNDELIVERED, params={"topic": other})).json()
    resent = await refusing.client.post(f"{UNDELIVERED}/resend", json={"all": True})
    records = await asyncio.to_thread(read_records, refusing.bootstrap_servers, topic, 2)

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


@pytest.mark.parametrize("content", [b"", b'{"all": true, "queue_ids": ["x"]}'])
async def test_an_order_of_both_or_neither_says_what_to_say(
    client: httpx.AsyncClient, read_error: ReadError, content: bytes
) -> None:
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
