"""`llmctl providers` as a process, against the real service."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.flow.test_drain_command import run_llmctl, submit
from tests.waiting import open_client, until


@pytest.fixture
def url(slow_service: httpx.AsyncClient) -> str:
    """Where a service answers whose one provider is openai."""
    return str(slow_service.base_url)


async def read_snapshot(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/admin/v1/snapshot")).json())


async def test_held_provider_is_asked_nothing_until_it_is_released(
    slow_service: httpx.AsyncClient, url: str, body: dict[str, Any]
) -> None:
    """Its requests are accepted and wait, uncalled; after the release each is called back."""
    held_code, held, _ = await run_llmctl("--url", url, "providers", "hold", "openai")
    await submit(slow_service, body, 6)
    listed_code, listed, _ = await run_llmctl("--url", url, "providers", "list")
    waiting = await read_snapshot(slow_service)
    released_code, released, _ = await run_llmctl("--url", url, "providers", "release", "openai")

    async def all_called_back() -> bool:
        return bool((await read_snapshot(slow_service))["totals"]["published"] == 6)

    await until(all_called_back, what="six callbacks")

    assert (held_code, json.loads(held)["held"], json.loads(held)["hold_reason"]) == (0, True, "operator")
    (openai,) = [json.loads(line) for line in listed.splitlines()]
    assert (listed_code, openai["name"], openai["held"], openai["held_until"]) == (0, "openai", True, None)
    assert (openai["calls"], waiting["queue"]["depth"], waiting["in_flight"]) == (0, 6, 0)
    assert (released_code, json.loads(released)["held"]) == (0, False)


async def test_hold_for_a_time_ends_by_itself(
    slow_service: httpx.AsyncClient, url: str, body: dict[str, Any]
) -> None:
    """Nobody has to come back to release it."""
    _, held, _ = await run_llmctl("--url", url, "providers", "hold", "openai", "--for", "1s")
    await submit(slow_service, body, 1)

    async def called_back() -> bool:
        return bool((await read_snapshot(slow_service))["totals"]["published"])

    await until(called_back, what="the callback")

    assert json.loads(held)["held_until"] is not None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("hold", "anthropic"), 1, "No provider 'anthropic' is configured here; there are: openai."),
        (("release", "../../drain"), 1, "There is no such route"),
        (("hold", "openai", "--for", "0s"), 2, "--for 0s holds nothing"),
        (("hold", "openai", "--for", "soon"), 2, "no duration"),
        (("hold", "openai", "--for", "9000h"), 1, "seconds: Input should be less than or equal to 2592000."),
    ],
)
async def test_bad_order_is_one_sentence(url: str, words: tuple[str, ...], code: int, said: str) -> None:
    """It names what is wrong and changes nothing."""
    ended, out, err = await run_llmctl("--url", url, "providers", *words)
    _, listed, _ = await run_llmctl("--url", url, "providers", "list")

    assert (ended, out) == (code, "")
    assert said in err
    assert json.loads(listed)["held"] is False


async def test_hold_is_refused_to_callers(
    launcher: Any, bootstrap_servers: str, tmp_path: Any, read_error: Callable[[httpx.Response], Any]
) -> None:
    """Where operators have a token, nobody else steers a provider; with it the command works."""
    service = launcher.start(
        "service",
        env={
            "LLM_PROVIDER_SERVICE_PORT": "0",
            "LLM_PROVIDER_SERVICE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "LLM_PROVIDER_SERVICE_QUEUE_PATH": str(tmp_path / "queue.db"),
            "LLM_PROVIDER_SERVICE_ALLOW_MOCK_PROVIDER": "true",
            "LLM_PROVIDER_SERVICE_DEFAULT_LLM_PROVIDER": "mock",
            "LLM_PROVIDER_SERVICE_API_TOKENS": "team:caller-1",
            "LLM_PROVIDER_SERVICE_ADMIN_TOKEN": "operator-1",
        },
    )
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


async def test_dead_service_exits_3(unused_tcp_port: int) -> None:
    """Out of reach is said as such."""
    code, out, err = await run_llmctl("--url", f"http://127.0.0.1:{unused_tcp_port}", "providers", "list")

    assert (code, out) == (3, "")
    assert "No service answers at" in err
