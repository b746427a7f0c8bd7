"""`llmctl usage`: what calls have used, by the service's account and by the callbacks on a topic."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.flow.cli.conftest import Run
from tests.flow.conftest import Body, make_env
from tests.waiting import open_client, until

USAGE_TOPIC = f"usage.{uuid4().hex}"
TOKENS = {"red": "token-of-red", "blue": "token-of-blue"}


@pytest.fixture
async def priced(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "5")
    settings = {
        "OPENAI_API_KEY": "fake-key",
        "OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
        "API_TOKENS": ",".join(f"{name}:{token}" for name, token in TOKENS.items()),
        "ADMIN_TOKEN": "token-of-admin",
        "USAGE_TOPIC": USAGE_TOPIC,
        "MAX_COST_USD_PER_DAY": "2.5",
    }
    child = launcher.start("service", env=make_env(bootstrap_servers, tmp_path, **settings))
    async with open_client(child.ready["url"]) as client:
        yield client


async def test_callers_models_and_budget(
    llmctl: Run, priced: httpx.AsyncClient, create_topic: Any, read_topic: Any, topic: str, body: Body
) -> None:
    await create_topic(USAGE_TOPIC, 1)
    for caller in ("red", "red", "blue"):
        headers = {"Authorization": f"Bearer {TOKENS[caller]}"}
        assert (await priced.post("/api/v1/comparison", json=body, headers=headers)).status_code == 202
    at = ("--url", str(priced.base_url), "--token", "token-of-admin")

    async def are_accounted() -> bool:
        ended = await llmctl("usage", *at)
        return sum(row["calls"] for row in json.loads(ended.out)["rows"]) == 3

    await until(are_accounted, what="three calls")
    by_caller = await llmctl("usage", "--by", "caller", *at)
    for_people = await llmctl("usage", "--by", "caller", "--by", "model", *at, "--output", "table")
    by_topic = await llmctl("usage", topic, "--by", "topic")

    await asyncio.to_thread(read_topic, USAGE_TOPIC, 3)
    told = await llmctl("usage", USAGE_TOPIC, "--by", "caller")
    tailed = await llmctl(*("tail-callbacks", USAGE_TOPIC, "--from-beginning", "--count", "1"))
    nobodys = await llmctl("usage", topic, "--by", "caller")

    document = json.loads(by_caller.out)
    rows = {row["caller"]: row for row in document["rows"]}
    assert {caller: row["calls"] for caller, row in rows.items()} == {"red": 2, "blue": 1}
    assert document["budget"]["day_limit_usd"] == 2.5
    assert document["budget"]["today_usd"] == pytest.approx(sum(row["cost_usd"] for row in rows.values()))
    (on_topic,) = json.loads(by_topic.out)["rows"]
    assert on_topic["topic"] == topic
    assert on_topic["cost_usd"] == pytest.approx(document["budget"]["today_usd"])
    assert on_topic["prompt_tokens"] == sum(row["prompt_tokens"] for row in rows.values()) > 0
    assert json.loads(told.out)["rows"] == [
        row | {"cost_usd": pytest.approx(row["cost_usd"])} for row in document["rows"]
    ]
    assert (nobodys.code, told.code) == (2, 0)
    assert "`llmctl usage` adds such events up" in json.loads(tailed.out)["error"]
    assert "do not say whose they are" in nobodys.err
    assert (for_people.code, by_topic.code) == (0, 0)
    assert "gpt-4o-mini" in for_people.out
    assert "together" in for_people.out
    assert "of $2.50 are spent" in for_people.err
