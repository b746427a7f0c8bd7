"""`llmctl usage`: what calls have used, by the service's account and by the callbacks on a topic."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.flow.cli.conftest import RunHere
from tests.waiting import open_client, until

Run = Callable[..., Coroutine[Any, Any, Any]]
USAGE_TOPIC = f"usage.{uuid4().hex}"
TOKENS = {"red": "token-of-red", "blue": "token-of-blue"}


@pytest.fixture
async def priced(launcher: Any, bootstrap_servers: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A service with two callers and a day's budget, whose provider has prices."""
    provider = launcher.start("simulator.provider", "--port", "0", "--latency-p50-ms", "5")
    child = launcher.start(
        "service",
        env={
            "LLM_PROVIDER_SERVICE_PORT": "0",
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
            "LLM_PROVIDER_SERVICE_OPENAI_API_KEY": "fake-key",
            "LLM_PROVIDER_SERVICE_OPENAI_BASE_URL": provider.ready["base_urls"]["openai"],
            "LLM_PROVIDER_SERVICE_API_TOKENS": ",".join(f"{name}:{token}" for name, token in TOKENS.items()),
            "LLM_PROVIDER_SERVICE_ADMIN_TOKEN": "token-of-admin",
            "LLM_PROVIDER_SERVICE_USAGE_TOPIC": USAGE_TOPIC,
            "LLM_PROVIDER_SERVICE_MAX_COST_USD_PER_DAY": "2.5",
        },
    )
    async with open_client(child.ready["url"]) as client:
        yield client


async def test_callers_models_and_budget(
    llmctl: Run,
    priced: httpx.AsyncClient,
    create_topic: Any,
    read_topic: Any,
    bootstrap_servers: str,
) -> None:
    """Who has used what, the same by account, callbacks and usage events, and how much of the day is left."""
    topic = f"results.{uuid4().hex}"
    await create_topic(topic, 1)
    await create_topic(USAGE_TOPIC, 1)
    body = {"user_prompt": "Which?", "essay_a": "One.", "essay_b": "Two.", "callback_topic": topic}
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
    by_topic = await llmctl("usage", topic, "--by", "topic", "--bootstrap-servers", bootstrap_servers)

    await asyncio.to_thread(read_topic, USAGE_TOPIC, 3)
    told = await llmctl("usage", USAGE_TOPIC, "--by", "caller", "--bootstrap-servers", bootstrap_servers)
    tailed = await llmctl(
        *("tail-callbacks", USAGE_TOPIC, "--from-beginning", "--count", "1"),
        *("--bootstrap-servers", bootstrap_servers),
    )
    nobodys = await llmctl("usage", topic, "--by", "caller", "--bootstrap-servers", bootstrap_servers)

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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("results", "--days", "3"), "--since DURATION"),
        (("--since", "1h"), "--days N"),
        (("--by", "topic"), "name topics"),
        (("--days", "0"), "--days"),
    ],
)
def test_wrong_usage_says_what_is_wrong(llmctl_here: RunHere, words: tuple[str, ...], said: str) -> None:
    """Exit code 2 and one sentence."""
    ended = llmctl_here("usage", *words)

    assert ended.code == 2
    assert said in ended.err
