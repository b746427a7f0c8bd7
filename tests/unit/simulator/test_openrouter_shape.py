"""The fake provider speaks OpenRouter's dialect: OpenAI's, with a price, a provider and errors of its own."""

import json
from typing import Any

import httpx
import pytest

from simulator.provider.api import RateState, Trouble
from simulator.provider.openrouter import OpenRouterApi

BASE_URL = "http://provider/api/v1"
HEADERS = {"authorization": "Bearer any"}
USER = {"role": "user", "content": "Which is better?"}


async def post(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    body = {"model": "openai/gpt-4o-mini", "messages": [USER], **changes}
    return await client.post("/chat/completions", json=body)


async def test_a_completion_has_openrouters_shape(client: httpx.AsyncClient) -> None:
    answer = await post(client)
    body = answer.json()
    usage = body["usage"]
    assert body["id"].startswith(f"gen-{body['created']}-")
    assert (body["provider"], body["model"]) == ("OpenAI", "openai/gpt-4o-mini")
    assert body["choices"][0]["finish_reason"] == body["choices"][0]["native_finish_reason"] == "stop"
    assert usage["cost"] == pytest.approx(
        (usage["prompt_tokens"] * 0.15 + usage["completion_tokens"] * 0.6) / 1e6
    )
    assert answer.headers["x-generation-id"].startswith("gen-")


@pytest.mark.parametrize(
    ("model", "native"),
    [
        ("openai/gpt-4o-mini", "length"),
        ("anthropic/claude-haiku-4.5", "max_tokens"),
        ("google/gemini-2.5-flash", "MAX_TOKENS"),
    ],
)
async def test_the_native_ending_is_the_providers(client: httpx.AsyncClient, model: str, native: str) -> None:
    """OpenRouter's own word is OpenAI's for all of them."""
    choice = (await post(client, model=model, max_tokens=2)).json()["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("length", native)


async def test_reasoning_may_hold_the_effort_and_unknown_fields_pass(
    client: httpx.AsyncClient,
) -> None:
    spent = [
        (await post(client, model="openai/gpt-5-mini", **wanted)).json()["usage"]
        for wanted in ({"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"})
    ]
    assert {usage["completion_tokens_details"]["reasoning_tokens"] for usage in spent} == {64}
    unknown = await post(client, provider={"require_parameters": True}, ghost=1)
    assert unknown.status_code == 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gpt-0"}, "gpt-0 is not a valid model ID"),
        ({"model": "gpt-4o-mini"}, "gpt-4o-mini is not a valid model ID"),
        ({"temperature": 3}, "Invalid 'temperature'"),
        ({"messages": []}, "Invalid 'messages': empty array"),
        ({"stream": True}, "'stream' is not offered"),
    ],
)
async def test_bad_requests_are_400(client: httpx.AsyncClient, change: dict[str, Any], message: str) -> None:
    answer = await post(client, **change)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, 400)
    assert error["message"].startswith(message)


async def test_a_schema_that_cannot_be_kept_is_the_providers_error(client: httpx.AsyncClient) -> None:
    schema = {"name": "x", "schema": {"type": "ghost"}}
    answer = await post(client, response_format={"type": "json_schema", "json_schema": schema})
    error = answer.json()["error"]
    assert (answer.status_code, error["message"]) == (400, "Provider returned error")
    assert error["metadata"]["raw"].startswith("Invalid schema for response_format 'x'")


async def test_keys_routes_and_lists(client: httpx.AsyncClient) -> None:
    without = {"authorization": ""}
    answers = [
        await client.post("/chat/completions", json={}, headers=without),
        await client.get("/key", headers=without),
        await client.get("/ghosts"),
        await client.get("/chat/completions"),
        await client.get("/models", headers=without),
        await client.get("/key"),
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 404, 405, 200, 200]
    assert [answer.json()["error"]["code"] for answer in answers[:4]] == [401, 401, 404, 405]
    prices = {model["id"]: model["pricing"] for model in answers[4].json()["data"]}
    assert prices["openai/gpt-4o-mini"]["prompt"] == "0.00000015"


def test_trouble_behind_it_names_the_provider() -> None:
    """A 429 and a 502 carry the provider's error; used-up credits are 402."""
    for trouble, status in ((Trouble.RATE_LIMITED, 429), (Trouble.BAD_GATEWAY, 502)):
        wire = OpenRouterApi().refuse(trouble, retry_after_seconds=1.5, request_id="0" * 32)
        assert (wire.status, wire.headers["retry-after"]) == (status, "2")
        assert json.loads(wire.body)["error"]["metadata"]["provider_name"] == "OpenAI"
    assert OpenRouterApi().refuse(Trouble.QUOTA_EXHAUSTED, request_id="0" * 32).status == 402


def test_the_rate_is_told_when_it_is_used_up() -> None:
    spent = RateState(now=10.0, requests_limit=20, requests_remaining=0, requests_reset_seconds=1.5)
    assert OpenRouterApi().rate_headers(spent) == {
        "x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "11500",
    }  # fmt: skip
    assert OpenRouterApi().rate_headers(RateState(now=10.0, requests_limit=20, requests_remaining=1)) == {}
