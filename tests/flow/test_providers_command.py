"""`llmctl providers` as a process, against the real service."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.flow.conftest import MOCK, make_env, read_snapshot, submit_many, until_snapshot
from tests.flow.test_drain_command import run_llmctl
from tests.waiting import open_client


@pytest.fixture
def url(own_service: httpx.AsyncClient) -> str:
    """Where a service answers whose one provider is openai."""
    return str(own_service.base_url)


async def test_held_provider_is_asked_nothing_until_it_is_released(
    own_service: httpx.AsyncClient, url: str, body: dict[str, Any]
) -> None:
    held_code, held, _ = await run_llmctl("--url", url, "providers", "hold", "openai")
    await submit_many(own_service, body, 6)
    listed_code, listed, _ = await run_llmctl("--url", url, "providers", "list")
    waiting = await read_snapshot(own_service)
    released_code, released, _ = await run_llmctl("--url", url, "providers", "release", "openai")

    await until_snapshot(own_service, lambda now: now["totals"]["published"] == 6, "six callbacks")

    assert (held_code, json.loads(held)["held"], json.loads(held)["hold_reason"]) == (0, True, "operator")
    (openai,) = [json.loads(line) for line in listed.splitlines()]
    assert (listed_code, openai["name"], openai["held"], openai["held_until"]) == (0, "openai", True, None)
    assert (openai["calls"], waiting["queue"]["depth"], waiting["in_flight"]) == (0, 6, 0)
    assert (released_code, json.loads(released)["held"]) == (0, False)


async def test_hold_for_a_time_ends_by_itself(
    own_service: httpx.AsyncClient, url: str, body: dict[str, Any]
) -> None:
    _, held, _ = await run_llmctl("--url", url, "providers", "hold", "openai", "--for", "100ms")
    await submit_many(own_service, body, 1)

    await until_snapshot(own_service, lambda now: now["totals"]["published"], "the callback")

    assert json.loads(held)["held_until"] is not None


BAD_ORDERS = (
    (("hold", "anthropic"), 1, "No provider 'anthropic' is configured here; there are: openai."),
    (("release", "../../drain"), 1, "There is no such route"),
    (("hold", "openai", "--for", "0s"), 2, "--for 0s holds nothing"),
    (("hold", "openai", "--for", "soon"), 2, "no duration"),
    (("hold", "openai", "--for", "9000h"), 1, "seconds: Input should be less than or equal to 2592000."),
)


async def test_bad_order_is_one_sentence_and_changes_nothing(
    own_service: httpx.AsyncClient, url: str
) -> None:
    ended = await asyncio.gather(
        *(run_llmctl("--url", url, "providers", *words) for words, _, _ in BAD_ORDERS)
    )

    for (words, code, said), (ended_code, out, err) in zip(BAD_ORDERS, ended, strict=True):
        assert (ended_code, out) == (code, ""), words
        assert said in err
    assert not (await read_snapshot(own_service))["providers"][0]["held"]


async def test_hold_is_refused_to_callers(
    launcher: Any, bootstrap_servers: str, tmp_path: Any, read_error: Callable[[httpx.Response], Any]
) -> None:
    settings = MOCK | {"API_TOKENS": "team:caller-1", "ADMIN_TOKEN": "operator-1"}
    service = launcher.start("service", env=make_env(bootstrap_servers, tmp_path, **settings))
    url = service.ready["url"]
    async with open_client(url) as client:
        bearer = {"Authorization": "Bearer caller-1"}
        refused = await client.post("/admin/v1/providers/mock/hold", json={}, headers=bearer)
        unknown = await client.post("/admin/v1/providers/mock/release")
    words = ("--url", url, "--token", "operator-1", "providers", "hold", "mock")
    code, out, _ = await run_llmctl(*words)

    assert (refused.status_code, read_error(refused)["error_code"]) == (403, "LLM_FORBIDDEN")
    assert (unknown.status_code, read_error(unknown)["error_code"]) == (401, "LLM_UNAUTHORIZED")
    assert (code, json.loads(out)["held"]) == (0, True)


async def test_dead_service_exits_3() -> None:
    code, out, err = await run_llmctl("--url", "http://127.0.0.1:1", "providers", "list")

    assert (code, out) == (3, "")
    assert "No service answers at" in err
