"""What a provider answers to one request never hurts another one."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow.conftest import Body, make_env
from tests.flow.judge import Judge, Reply, completion
from tests.waiting import HANG_SECONDS, open_client, until

PATH = "/api/v1/comparison"
LIMITED = {"error": {"message": "m", "type": "requests", "code": "rate_limit_exceeded"}}
UPSTREAM = {"error": {"message": "Provider returned error", "code": 429, "metadata": {"provider_name": "U"}}}
REFUSALS: dict[str, Reply] = {
    "no wait": (429, {}, json.dumps(LIMITED).encode()),
    "wait of nothing": (429, {"retry-after": "0"}, json.dumps(LIMITED).encode()),
    "wait in the past": (429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, json.dumps(LIMITED).encode()),
    "wait of an hour": (429, {"retry-after": "3600"}, json.dumps(LIMITED).encode()),
    "upstream": (429, {}, json.dumps(UPSTREAM).encode()),
    "undecodable": (429, {"content-encoding": "gzip", "retry-after": "30"}, b""),
    "credit": (402, {}, json.dumps({"error": {"message": "m", "code": 402}}).encode()),
    "too large": (
        429,
        {"x-ratelimit-remaining-tokens": "29999", "x-ratelimit-reset-tokens": "2ms"},
        json.dumps({"error": {"message": "Request too large for m", "code": "rate_limit_exceeded"}}).encode(),
    ),
    "unavailable": (503, {"retry-after": "0"}, b"busy"),
}


def with_usage(tokens: int, cost: float = 0.0) -> Reply:
    """A good answer with this usage."""
    status, headers, content = completion({"winner": "essay_a", "justification": "ok", "confidence": 0.9})
    document = json.loads(content)
    document["usage"] = {"prompt_tokens": tokens, "completion_tokens": tokens, "cost": cost}
    return status, headers, json.dumps(document).encode()


async def count_succeeded(client: httpx.AsyncClient) -> int:
    return int((await client.get("/admin/v1/snapshot")).json()["totals"]["succeeded"])


async def wait_for_successes(client: httpx.AsyncClient, count: int) -> None:
    async def enough() -> bool:
        return await count_succeeded(client) >= count

    await until(enough, what=f"{count} answers")


async def submit(client: httpx.AsyncClient, body: Body, count: int) -> list[str]:
    answers = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(count)))
    assert {answer.status_code for answer in answers} == {202}
    return [answer.json()["queue_id"] for answer in answers]


async def test_absurd_numbers_stop_neither_others_nor_the_next_start(
    launcher: Any,
    judge: Judge,
    bootstrap_servers: str,
    tmp_path: Path,
    body: Body,
    read_topic: Callable[..., Any],
) -> None:
    env = make_env(
        bootstrap_servers,
        tmp_path,
        OPENAI_API_KEY="k",
        OPENAI_BASE_URL=judge.url,
        OPENROUTER_API_KEY="k",
        OPENROUTER_BASE_URL=judge.url,
        MAX_COST_USD_PER_DAY="100",
    )
    absurd = {1: with_usage(2**63 - 1), 2: with_usage(2**64 - 1), 3: with_usage(10, 1.5e308)}
    good = judge.reply
    judge.reply = lambda number: absurd[number] if number in absurd else good(number)
    via_openrouter = {**body, "llm_config_overrides": {"provider_override": "openrouter"}}

    service = launcher.start("service", env=env)
    async with open_client(service.ready["url"]) as client:
        accepted = await submit(client, body, 1)
        await wait_for_successes(client, 1)
        accepted += await submit(client, body, 1)
        await wait_for_successes(client, 2)
        accepted += await submit(client, via_openrouter, 1)
        accepted += await submit(client, body, 20)
        await wait_for_successes(client, 23)
    service.process.kill()
    service.process.wait(HANG_SECONDS)
    async with open_client(launcher.start("service", env=env).ready["url"]) as client:
        accepted += await submit(client, body, 1)
        usage = (await client.get("/admin/v1/usage")).json()

    records = [json.loads(record.value()) for record in read_topic(body["callback_topic"], 24)]
    assert {record["data"]["request_id"] for record in records} == set(accepted)
    assert {record["data"]["winner"] for record in records} == {"essay_a"}
    assert 0 < usage["today_usd"] < 1


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_request_that_alone_is_refused_holds_up_no_other(
    own_service: httpx.AsyncClient, judge: Judge, body: Body, refusal: str
) -> None:
    """The others are answered although the refused one came first and is never answered."""
    judge.marked = REFUSALS[refusal]
    await submit(own_service, {**body, "essay_a": "HUGE"}, 1)
    await until(lambda: judge.marked_calls > 0, what="a refused call")
    for round_ in range(1, 6):
        await submit(own_service, body, 4)
        await wait_for_successes(own_service, 4 * round_)
    held = (await own_service.get("/admin/v1/snapshot")).json()["providers"][0]["held"]
    assert not held


@pytest.mark.long
async def test_200_requests_beside_a_refused_one_take_as_long_as_without(
    start_judged: Callable[..., str],
    judge: Judge,
    body: Body,
    record_figures: Callable[[str], None],
) -> None:
    seconds: dict[str, float] = {}
    url = start_judged()
    async with open_client(url) as client:
        done = 0
        for name, refusal in [("nothing", None), *REFUSALS.items(), ("nothing again", None)]:
            judge.marked = refusal
            begun = time.monotonic()
            if refusal is not None:
                await submit(client, {**body, "essay_a": "HUGE"}, 1)
            await submit(client, body, 200)
            done += 200
            await wait_for_successes(client, done)
            seconds[name] = time.monotonic() - begun
    record_figures("200 beside: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
    slowest = max(seconds["nothing"], seconds["nothing again"])
    assert all(value < 1.5 * slowest for value in seconds.values())


@pytest.mark.long
@pytest.mark.parametrize("refusal", ["no wait", "wait of nothing", "wait in the past"])
async def test_a_provider_that_refuses_everything_is_called_ever_more_rarely(
    own_service: httpx.AsyncClient,
    judge: Judge,
    body: Body,
    refusal: str,
    record_figures: Callable[[str], None],
) -> None:
    judge.reply = lambda _: REFUSALS[refusal]
    await submit(own_service, body, 60)
    await asyncio.sleep(12)
    record_figures(f"60 queued, {refusal}: {judge.calls} calls in 12 s")
    assert judge.calls <= 12
